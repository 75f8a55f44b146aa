"""From documents to a searchable index: one table of stages, run in order, finished work never repeated."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.metadata
import platform
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldtune import __version__
from fieldtune.beir import RetrievalData, corpus_file, load_beir, read_corpus, read_qrels, read_queries, write_corpus
from fieldtune.config import Config
from fieldtune.config import Corpus as CorpusSettings
from fieldtune.console import duration, note
from fieldtune.errors import ConfigError, InputError
from fieldtune.labelling import labelled, write_labelling
from fieldtune.models import resolve_model, token_counter
from fieldtune.types import Result
from fieldtune.workspace import Workspace, digest, file_digest, read_json, read_jsonl, write_json

if TYPE_CHECKING:
    from fieldtune.evaluation import System

PACKAGES = ("torch", "sentence-transformers", "transformers", "tokenizers", "numpy", "scipy", "lancedb", "liteparse")


@dataclass(frozen=True, slots=True)
class Run:
    """What every stage is given: the settings and the run's folder."""

    config: Config
    workspace: Workspace

    def path(self, *parts: str) -> Path:
        return self.workspace.path(*parts)


@dataclass(frozen=True, slots=True)
class Stage:
    """One step; `outputs` are the files (below the run's folder) without which it has to run again."""

    name: str
    run: Callable[[Run], Result]
    depends: Callable[[Config], Any]
    """The settings and outside files that decide the result, apart from those of the stages before."""
    outputs: tuple[str, ...]


def _documents(run: Run) -> Result:
    from fieldtune.documents import read_documents

    if not run.config.documents.paths:
        given = _given_corpus(run.config)
        if given is None:
            raise ConfigError("documents.paths is empty", "give the folder that holds your documents")
        note = f"No documents were given; the passages of {given} are used as they are."
        return Result("documents", {"documents": 0}, notes=(note,))
    return read_documents(
        run.config.documents, run.path("documents", "documents.jsonl"), run.path("documents", "cache")
    )


def _corpus(run: Run) -> Result:
    from fieldtune.corpus import build_corpus
    from fieldtune.documents import load_documents

    given = _given_corpus(run.config)
    if not run.config.documents.paths and given is not None:
        passages = read_corpus(given)
        write_corpus(run.path("corpus", "corpus.jsonl"), passages.values())
        run.path("corpus", "duplicates.jsonl").write_text("")
        return Result("corpus", {"passages": len(passages)})
    documents = load_documents(run.path("documents", "documents.jsonl"))
    settings, notes = _readable(run.config)
    result = build_corpus(settings, documents, token_counter(run.config.model.base), run.path("corpus"))
    return replace(result, notes=(*notes, *result.notes))


def _queries(run: Run) -> Result:
    from fieldtune.queries import gather_queries

    passages = read_corpus(run.path("corpus", "corpus.jsonl"))
    return gather_queries(run.config, passages, run.path("queries"), run.path("queries", "cache"), run.path("vectors"))


def _dataset(run: Run) -> Result:
    from fieldtune.corpus import load_duplicates
    from fieldtune.dataset import build_dataset
    from fieldtune.encoding import Encoder

    config = run.config
    passages = read_corpus(run.path("corpus", "corpus.jsonl"))
    queries = read_queries(run.path("queries", "queries.jsonl"))
    files = sorted(run.path("queries", "qrels").glob("*.tsv"))
    qrels = {path.stem: read_qrels(path, passages, queries)[0] for path in files}
    meta = read_json(run.path("queries", "meta.json"))
    data = RetrievalData(passages, queries, qrels, meta["relevance_threshold"], meta["evaluation"])
    return build_dataset(
        config,
        data,
        load_duplicates(run.path("corpus", "duplicates.jsonl")),
        Encoder.load(config.model.base, settings=config.model),
        run.path("data"),
        run.path("vectors"),
        [result for result, _ in stage_results(run.workspace.root, NAMES[: NAMES.index("dataset")])],
    )


def _training(run: Run) -> Result:
    from fieldtune.corpus import load_duplicates
    from fieldtune.encoding import Encoder
    from fieldtune.training import tune

    config = run.config
    encoder = Encoder.load(config.model.base, settings=config.model, precision=config.training.precision)
    data = load_beir(run.path("data"))
    duplicates = load_duplicates(run.path("corpus", "duplicates.jsonl"))
    examples, vectors = run.path("data", "train.jsonl"), run.path("vectors")
    return tune(config, data, examples, encoder, run.workspace.root, vectors, duplicates)


def _evaluation(run: Run) -> Result:
    from fieldtune.encoding import Encoder, cached_vectors
    from fieldtune.evaluation import (
        ModelFacts,
        added_leaks,
        audit,
        digests,
        evaluate,
        general_ability,
        languages_of,
        line_up,
        probe,
        probes_of,
        prove,
        with_trained_sizes,
        write_card,
        write_metrics,
        write_per_query,
        write_report,
    )

    config = run.config
    data = load_beir(run.path("data"))
    split = "test" if data.positives("test") else "dev"
    if not data.positives(split):
        raise InputError(
            "no labelled query is left to measure on: the split put none into test or dev",
            "raise split.test, or give labels for more documents",
            path=run.path("data"),
        )
    given = data
    data, notes = labelled(data, split, [Path(path) for path in config.evaluation.judgements])
    notes += added_leaks(given, data, split, config.evaluation, run.path("data", "train.jsonl"))
    base = Encoder.load(config.model.base, settings=config.model)
    leakage = audit(
        given,
        split,
        config.evaluation,
        training=run.path("data", "train.jsonl"),
        vectors=lambda texts: cached_vectors(
            base, texts, "query", run.path("vectors"), label="encoding queries (base)"
        ),
    )
    load_tuned = partial(Encoder.load, str(run.path("model")))
    models: list[tuple[str, Callable[[], Encoder]]] = [("base", lambda: base), ("tuned", load_tuned)]
    funnel = stage_results(run.workspace.root, NAMES[: NAMES.index("evaluation")])
    measured = with_trained_sizes(config.evaluation, [result for result, _ in funnel])
    lineup = line_up(data, split, models, run.path("vectors"), measured, bm25=config.evaluation.bm25)
    evaluation = evaluate(data, split, lineup.systems, config.evaluation, config.seed, lineup.notes)
    general = None
    if probes := probes_of(config.evaluation):
        before, after = (probe(load(), probes, run.path("vectors"), label=name) for name, load in models)
        general = general_ability(probes, before, after, config.evaluation, config.seed)
    proof = prove(
        data, evaluation, lineup.systems, leakage, config.evaluation, general=general, chosen_on=split == "dev"
    )
    notes += _labelling_file(run, data, split, lineup.systems)
    extra = {"general": general.as_json() if general else None, "test_set": digests(data, split)}
    write_metrics(run.path("metrics.json"), evaluation, proof.record() | extra)
    write_per_query(run.path("per_query.csv"), evaluation, data)
    write_report(
        run.path("report.html"),
        evaluation,
        data,
        [result for result, _ in funnel],
        config.model_dump(by_alias=True),
        title=run.workspace.root.resolve().name,
        examples=config.evaluation.examples,
        reproduce=("fieldtune run CONFIG, with the settings below as CONFIG",),
        training_log=learning_curve(run.workspace.root),
        package_versions=versions(),
        proof=proof,
    )
    title = config.card.title or run.workspace.root.resolve().name
    texts = (query.text for query in data.queries.values())
    languages = config.card.languages or languages_of(chain(texts, (one.content for one in data.passages.values())))
    about = ModelFacts(title, config, [result for result, _ in funnel], languages, versions())
    write_card(run.path("model"), read_json(run.path("metrics.json")), about)
    notes = [
        proof.verdict.line,
        leakage.sentence,
        *((general.sentence, *general.notes) if general else ()),
        *evaluation.notes,
        *notes,
    ]
    if split == "dev":
        notes.append("There is no test split: these are dev queries, which the best checkpoint was chosen by.")
    counts: dict[str, int | float] = {"queries": len(data.positives(split)), "systems": len(lineup.systems)}
    return Result("evaluation", counts, {}, tuple(notes))


def _labelling_file(run: Run, data: RetrievalData, split: str, systems: Sequence[System]) -> list[str]:
    """Write unjudged.csv; one that someone has filled in is left as it is."""
    if not run.config.evaluation.unjudged:
        return []
    try:
        return write_labelling(run.path("unjudged.csv"), run.config, data, split, systems)
    except InputError as error:
        return [f"{error.message}: left as it is. {error.hint}"]


def _index(run: Run) -> Result:
    from fieldtune.encoding import Encoder, cached_vectors
    from fieldtune.index import build_index

    passages = list(read_corpus(run.path("data", "corpus.jsonl")).values())
    model = run.path("model")
    encoder = Encoder.load(str(model))
    texts = [passage.content for passage in passages]
    # Real queries, where an approximate index has to be measured; never the test's, for the index is chosen by them.
    asked = _dev_texts(run.path("data")) if len(passages) >= run.config.index.ann_above else []
    return build_index(
        run.config.index,
        passages,
        cached_vectors(encoder, texts, "passage", run.path("vectors"), label="encoding passages (tuned)"),
        run.path("index"),
        model_fingerprint=resolve_model(str(model)).fingerprint,
        model=model,
        seed=run.config.seed,
        query_vectors=encoder.encode(asked, "query") if asked else None,
    )


def _dev_texts(data: Path, most: int = 500) -> list[str]:
    loaded = load_beir(data)
    return [loaded.queries[query].text for query in list(loaded.positives("dev"))[:most]]


def _settings(*sections: str, without: tuple[str, ...] = ()) -> Callable[[Config], Any]:
    """The named sections without settings that change how fast a stage is and not what comes out."""

    def depends(config: Config) -> Any:
        return [config.seed, *(getattr(config, name).model_dump(exclude=set(without)) for name in sections)]

    return depends


def _corpus_settings(config: Config) -> Any:
    return [config.seed, _readable(config)[0].model_dump()]


def _document_files(config: Config) -> Any:
    """The settings, and name and content of every file that would be read."""
    from fieldtune.documents.find import find_files

    if not config.documents.paths:
        given = _given_corpus(config)
        return None if given is None or not given.exists() else _digest_or_cause(given)
    found = find_files(config.documents.paths, (Path(config.out),))
    content = [(source, _digest_or_cause(path)) for path, source in found.files]
    return [config.documents.model_dump(exclude={"workers"}), content]


def _label_files(config: Config) -> Any:
    """What decides the queries: settings, labels, and the models that write or filter them."""
    from fieldtune.queries import is_generated

    settings, content = config.queries, [_content(config.queries.source)]
    if settings.test:
        content.append(_content(settings.test))
    decisive: list[Any] = [config.seed, settings.model_dump(), content]
    made = settings.source in ("structure", "llm") or is_generated(Path(settings.source))
    if made and settings.round_trip_k:  # made queries go through the base model and back
        decisive.append(config.model.model_dump())
    if settings.source == "llm" or (made and settings.judge):
        unimportant = {"concurrency", "timeout_seconds", "max_retries"}
        if not config.llm.max_cost:
            unimportant |= {"price_prompt", "price_completion"}
        decisive.append(config.llm.model_dump(exclude=unimportant))
    if settings.source == "llm" and settings.examples:
        decisive.append(_digest_or_cause(Path(settings.examples)))
    return decisive


def _content(labels: str) -> list[Any]:
    """Name and content of a labels file or of each file that is read in a folder of them."""
    source = Path(labels)
    files = [source] if source.is_file() else []
    if source.is_dir():  # what is read of it, and nothing that a run or an editor may leave beside that
        inside = [*source.glob("*"), *source.glob("qrels/*.tsv")]
        files = sorted(path for path in inside if path.is_file() and not path.name.startswith("."))
    return [(path.relative_to(source.parent).as_posix(), _digest_or_cause(path)) for path in files]


def _evaluation_settings(config: Config) -> Any:
    """The settings, and the content of added judgements and of the user's own sets for general ability."""
    places = [Path(place) for place in (*config.evaluation.judgements, *config.evaluation.general_data)]
    files = [path for place in places for path in (sorted(place.rglob("*")) if place.is_dir() else [place])]
    content = [(path.name, _digest_or_cause(path)) for path in files if not path.is_dir()]
    return [config.seed, config.evaluation.model_dump(), config.card.model_dump(), content]


def _with_model(inner: Callable[[Config], Any]) -> Callable[[Config], Any]:
    return lambda config: [inner(config), resolve_model(config.model.base).fingerprint]


def _dataset_settings(config: Config) -> Any:
    """The settings, with the content of the models that check and score."""
    from fieldtune.dataset.scorers import scorer_fingerprint

    card = [config.card.title, config.card.data_license]
    settings = [*_settings("split", "negatives", "teacher", "model")(config), card]
    names = [config.negatives.check if config.negatives.per_query else "", config.teacher.model]
    return [*settings, *(scorer_fingerprint(name, config.llm) for name in names if name)]


STAGES: tuple[Stage, ...] = (
    Stage("documents", _documents, _document_files, ()),
    Stage("corpus", _corpus, _with_model(_corpus_settings), ("corpus/corpus.jsonl", "corpus/duplicates.jsonl")),
    Stage("queries", _queries, _label_files, ("queries/queries.jsonl", "queries/meta.json")),
    Stage("dataset", _dataset, _dataset_settings, ("data/corpus.jsonl", "data/train.jsonl", "data/README.md")),
    Stage("training", _training, _settings("training", without=("checkpoint_seconds",)), ("model/modules.json",)),
    Stage("evaluation", _evaluation, _evaluation_settings, ("metrics.json", "per_query.csv", "report.html")),
    Stage("index", _index, _settings("index"), ("index/meta.json",)),
)
NAMES = tuple(stage.name for stage in STAGES)


def run_pipeline(config: Config, *, first: str = "", last: str = "") -> list[Result]:
    """Run the stages up to `last` that are not finished with these very settings and inputs.

    With `first`, that stage and all to its right run in any case. Returns the results of all stages up to `last`.
    Raises BusyError when another process works in the folder, ConfigError for an unknown stage.
    """
    begin, end = _position(first, 0), _position(last, len(STAGES) - 1)
    if begin > end:
        raise ConfigError(f"--from {first} lies behind --until {last}", f"the order is {', '.join(NAMES)}")
    _require_fit(config)
    if config.evaluation.general_data and end >= NAMES.index("evaluation"):
        from fieldtune.evaluation import probes_of

        probes_of(config.evaluation)  # a set that cannot be used is told before hours of training
    results = []
    with Workspace(Path(config.out)) as workspace:
        run = Run(config, workspace)
        _write_run(run)
        fingerprint = digest([__version__])
        for position, stage in enumerate(STAGES[: end + 1]):
            fingerprint = digest([fingerprint, stage.name, stage.depends(config)])
            result = workspace.finished(stage.name, fingerprint)
            forced = bool(first) and position >= begin
            if result is None or forced or not all(run.path(output).exists() for output in stage.outputs):
                result = _run_stage(stage, run, fingerprint)
            else:
                note(f"{stage.name}: already done")
            results.append(result)
    return results


def _run_stage(stage: Stage, run: Run, fingerprint: str) -> Result:
    note(f"{stage.name} …", style="bold")
    run.workspace.forget(stage.name)
    run.workspace.event("start", stage=stage.name, fingerprint=fingerprint)
    began = time.monotonic()
    result = stage.run(run)
    seconds = time.monotonic() - began
    run.workspace.record(fingerprint, result, seconds)
    run.workspace.event(
        "end", stage=stage.name, seconds=round(seconds, 3), peak_gb=_peak_memory(), counts=dict(result.counts)
    )
    shutil.rmtree(run.path(stage.name, "state"), ignore_errors=True)  # what was kept only to resume
    _release_memory()
    counts = ", ".join(f"{name} {value:,}" for name, value in list(result.counts.items())[:6])
    note(f"{stage.name}: {counts} ({duration(seconds)})")
    for reason, count in result.dropped.items():
        note(f"  left out, {reason}: {count:,}", style="dim")
    for sentence in result.notes:
        note(f"  {sentence}")
    return result


def _release_memory() -> None:
    """Give back what the last stage no longer needs; the allocator would keep it beside what the next one takes."""
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def _peak_memory() -> float | None:
    """Largest resident size of this process so far, in GB; None where the system does not say."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e9, 2)  # kilobytes, but bytes on macOS


def _require_fit(config: Config) -> None:
    """Say before any work that settings ask for more than the base model has."""
    model, sizes = resolve_model(config.model.base), config.training.matryoshka
    if sizes != "auto" and sizes and model.dimension is not None and max(sizes) > model.dimension:
        raise ConfigError(
            f"training.matryoshka asks for {max(sizes)} dimensions, {model.name} has {model.dimension}",
            f"use sizes up to {model.dimension}",
        )


def _readable(config: Config) -> tuple[CorpusSettings, tuple[str, ...]]:
    """The corpus settings with passages no longer than the base model reads: what it cuts off is never found."""
    corpus, model = config.corpus, resolve_model(config.model.base)
    limit = config.model.max_tokens or model.max_tokens
    if limit is None or corpus.max_tokens <= limit:
        return corpus, ()
    shorter = {
        "max_tokens": limit,
        "overlap_tokens": min(corpus.overlap_tokens, limit // 4),
        "min_tokens": min(corpus.min_tokens, limit // 4),
    }
    sentence = (
        f"Passages end at {limit} tokens, the most that {model.name} reads (corpus.max_tokens is {corpus.max_tokens}); "
        "model.max_tokens or another base model allows longer ones."
    )
    return corpus.model_copy(update=shorter), (sentence,)


def _position(name: str, default: int) -> int:
    if not name:
        return default
    if name not in NAMES:
        raise ConfigError(f"there is no stage {name!r}", f"stages: {', '.join(NAMES)}")
    return NAMES.index(name)


def _write_run(run: Run) -> None:
    """The resolved config with versions and seeds, beside the results they lead to."""
    record = {
        "fieldtune": __version__,
        "seed": run.config.seed,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions(),
        "config": run.config.model_dump(by_alias=True),
    }
    write_json(run.path("run.json"), record)


def versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def _given_corpus(config: Config) -> Path | None:
    """The file of passages that stands in for documents: queries.corpus, or the corpus of the labels' BEIR folder."""
    if config.queries.corpus:
        corpus = Path(config.queries.corpus)
        return corpus_file(corpus) if corpus.is_dir() else corpus
    source = Path(config.queries.source)
    return corpus_file(source) if source.is_dir() and (source / "queries.jsonl").exists() else None


def _digest_or_cause(path: Path) -> str:
    """A file that cannot be read is reported by the documents stage; here it only must not look like another."""
    try:
        return file_digest(path)
    except OSError as error:
        return f"unreadable: {error.strerror}"


def outlook(config: Config) -> list[tuple[str, str, str]]:
    """What `run` would do, a row per stage: its name, whether it is finished, and why not or what it said.

    Reads the inputs' contents and changes nothing.
    """
    workspace = Workspace(Path(config.out))
    fingerprint, rows, waiting = digest([__version__]), [], False
    for stage in STAGES:
        fingerprint = digest([fingerprint, stage.name, stage.depends(config)])
        result = None if waiting else workspace.finished(stage.name, fingerprint)
        if result is not None and all(workspace.path(output).exists() for output in stage.outputs):
            counts = ", ".join(f"{name} {value:,}" for name, value in list(result.counts.items())[:3])
            rows.append((stage.name, "done", counts))
            continue
        if waiting:
            why = "follows a stage that runs"
        elif workspace.path("stages", f"{stage.name}.json").exists():
            why = "settings, inputs or version changed"
        else:
            why = "not run yet"
        waiting = True
        rows.append((stage.name, "would run", why))
    return rows


def query_price(config: Config, *, ask: bool = False) -> list[str]:
    """What the LLM of a run would take, in sentences; none where no LLM is asked, or its queries are there.

    Reads documents and cuts passages first if that is not done: it costs nothing, and the run goes on from there. With
    `ask`, 20 requests are really made (see `price_queries`). Raises what those stages and asking raise.
    """
    from fieldtune.queries.pricing import price_queries

    if config.queries.source != "llm":
        return []
    if next(state for name, state, _ in outlook(config) if name == "queries") == "done":
        return ["The LLM's queries are there; nothing is left to pay for."]
    run_pipeline(config, last="corpus")
    with Workspace(Path(config.out)) as workspace:
        passages = read_corpus(workspace.path("corpus", "corpus.jsonl"))
        return price_queries(config, passages, workspace.root, ask=ask).sentences(config)


def recorded_config(folder: Path) -> dict[str, Any]:
    """The resolved settings of an earlier run. Raises InputError if there is none."""
    if not (folder / "run.json").exists():
        raise InputError("no run in it", "fieldtune run CONFIG makes one", path=folder)
    settings: dict[str, Any] = read_json(folder / "run.json")["config"]
    return settings | {"out": str(folder)}


def learning_curve(folder: Path) -> list[dict[str, Any]]:
    """The rows of the training log, oldest first; empty if there is none."""
    path = folder / "training" / "log.jsonl"
    return [row for _, row in read_jsonl(path)] if path.exists() else []


def stage_results(folder: Path, names: Sequence[str] = NAMES) -> list[tuple[Result, float]]:
    """What the finished stages of a run said, with their seconds."""
    return Workspace(folder).results(names)
