"""Every system of one call: models, BM25, and what is derived from their vectors and rankings."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fieldtune import config as settings
from fieldtune.beir import RetrievalData
from fieldtune.encoding import Encoded, Encoder, cached_vectors, corpus_vectors, is_cached, keep_vectors
from fieldtune.evaluation.before_after import with_before
from fieldtune.evaluation.compare import measures
from fieldtune.evaluation.fusion import best_weight, rank_fusion, weighted_fusion
from fieldtune.evaluation.rankings import Ranking, asked, bm25_ranking, dense_ranking, depth_for, judged, reordered
from fieldtune.evaluation.rerank import Reranker
from fieldtune.evaluation.results import BM25_NAME, MAIN, About, System, Variant
from fieldtune.evaluation.signals import m3_systems, passages_of
from fieldtune.evaluation.stored import Floats32, Stored, VectorPrecision, rescored, stored
from fieldtune.lexical import BM25
from fieldtune.metering import meter
from fieldtune.types import Result
from fieldtune.workspace import Cost

SMALLEST = 64
"""Where halving stops when dimensions are chosen automatically."""


@dataclass(frozen=True, slots=True)
class Lineup:
    """Systems in the order to show them, and what could not be set up, as sentences."""

    systems: tuple[System, ...]
    notes: tuple[str, ...]
    costs: tuple[Cost, ...] = ()
    """What each model took with all that is made of it, and BM25 and the reranker."""
    encoded_by: Mapping[str, str] = field(default_factory=dict)
    """Name of a model -> what made the vectors of its passages."""


def with_trained_sizes(config: settings.Evaluation, stages: Sequence[Result]) -> settings.Evaluation:
    """Measure what training made usable: the dimensions, unless others are asked for, and three kinds of vectors."""
    details = next((one.details for one in stages if one.stage == "training"), {})
    if "m3" in details:
        config = config.model_copy(update={"m3": True, "m3_size": config.m3_size or int(details["m3"]["size"])})
    if config.dimensions not in ((), "auto"):
        return config
    trained = details.get("dimensions", ())
    # The largest is the full size, which is measured anyway.
    sizes = tuple(sorted(map(int, trained), reverse=True)[1:])
    return config.model_copy(update={"dimensions": sizes or config.dimensions})


@dataclass(frozen=True, slots=True)
class _Task:
    """What all systems of a call share."""

    data: RetrievalData
    split: str
    depth: int
    vectors: Path
    config: settings.Evaluation
    lexical: BM25 | None
    encoding: settings.Encoding | None
    dev: bool
    """Whether there are dev queries to choose a weight by, apart from those that are measured."""

    def texts(self, split: str) -> list[str]:
        return [self.data.queries[query].text for query in asked(self.data, split)]


def line_up(
    data: RetrievalData,
    split: str,
    models: Sequence[tuple[str, Callable[[], Encoder]]],
    vectors: Path,
    config: settings.Evaluation,
    *,
    bm25: bool,
    encoding: settings.Encoding | None = None,
) -> Lineup:
    """Rank the queries of a split by named models, BM25, and what the settings ask for beside them.

    Each model is loaded by its function, one at a time, and encodes the corpus once; shorter and smaller vectors are
    derived from those; `encoding` says how, None: by the model as it is. `vectors` is the folder of encoded texts. A
    hybrid brings BM25 along. Raises InputError or ModelError naming the model whose vectors or scores are not finite.
    """
    took = meter(BM25_NAME)
    task = _Task(
        data,
        split,
        max(depth_for(data, split, measures(config)), config.rerank_depth if config.rerank else 0),
        vectors,
        config,
        BM25(passage.content for passage in data.passages.values()) if bm25 or config.hybrid else None,
        None if config.m3 else encoding,
        config.hybrid and split != "dev" and bool(data.positives("dev")),
    )
    plain, derived, notes = [], [], []
    encoded_by: dict[str, str] = {}
    lexical = []
    dev_lexical = None
    costs = []
    if task.lexical is not None:
        lexical.append(System(BM25_NAME, bm25_ranking(data, split, task.depth, task.lexical)))
        dev_lexical = bm25_ranking(data, "dev", task.depth, task.lexical) if task.dev else None
        costs.append(took())
    for name, load in models:
        took = meter(name)
        encoder = load()
        made, said, by = _of_model(task, name, encoder, lexical[0].run if lexical else None, dev_lexical)
        encoded_by[name] = by
        engine = "" if by.startswith("model") else f", passages by {by}"
        costs.append(replace(took(), stage=f"{name}, {encoder.precision} on {encoder.device}{engine}"))
        del encoder  # not two in memory while the next is loaded
        plain.append(made[0])
        derived += made[1:]
        notes += said
    if len(set(encoded_by.values())) > 1:
        each = ", ".join(f"{name} by {by}" for name, by in encoded_by.items())
        notes.append(f"Not all models' passages were encoded in one way: {each}.")
    if config.hybrid and not task.dev:
        why = "the dev split is what is measured" if split == "dev" else "there are no dev queries"
        notes.append(f"No weighted hybrid: its weight is chosen on dev, and {why}. Reciprocal rank fusion needs none.")
    if config.rerank:
        took = meter(f"reranking by {config.rerank}")
        derived += _reranked(task, [*plain, *lexical, *(one for one in derived if one.about.variant == "hybrid")])
        costs.append(took())
    return Lineup((*plain, *lexical, *with_before(plain, derived)), tuple(notes), tuple(costs), encoded_by)


def _of_model(
    task: _Task, name: str, encoder: Encoder, lexical: Ranking | None, dev_lexical: Ranking | None
) -> tuple[list[System], list[str], str]:
    """The model itself, first, and all that is made of its vectors; notes; what made those of passages."""
    data, config = task.data, task.config
    contents = [passage.content for passage in data.passages.values()]
    queries = _queries(task, encoder, task.split, name)
    if config.m3 and not is_cached(encoder, contents, "passage", task.vectors):  # one pass for all three kinds
        dense = passages_of(data, encoder, name, task.vectors, config).dense
        keep_vectors(encoder, contents, "passage", task.vectors, dense)
    encoded = _passages(task, encoder, contents, name)
    passages = encoded.vectors
    full = encoder.dimension
    run = dense_ranking(data, task.split, queries, passages, task.depth, label=name)
    systems = [System(name, run, About("plain", name, full, "float32", "", 4 * full))]
    sizes, notes = _sizes(config, full, name)
    notes += encoded.notes
    systems += [_searched(task, name, queries, stored(passages, size, "float32")) for size in sizes]
    for size in (full, *sizes) if config.crossed else (full,):
        for precision in config.precisions:
            systems += _small(task, name, queries, passages, size, precision)
    if config.without_prompts:
        if any(encoder.prompts.values()):
            systems.append(_bare(task, name, encoder, contents, passages))
        else:
            notes.append(f"{name} has no prompts that could be forgotten.")
    if config.m3:
        apart = task.split != "dev" and bool(data.positives("dev"))
        made, said = m3_systems(data, task.split, encoder, name, task.vectors, config, task.depth, dev=apart)
        systems += made
        notes += said
    if config.hybrid and lexical is not None:
        systems.append(_hybrid(name, rank_fusion(run, lexical, config.rrf_k), "RRF", f"k = {config.rrf_k}.", full))
        if dev_lexical is not None:
            dev = dense_ranking(data, "dev", _queries(task, encoder, "dev", name), passages, task.depth, label=name)
            weight, mean = best_weight(dev, dev_lexical, judged(data, "dev"), MAIN)
            detail = (
                f"{weight:.2f} of the model's score and {1 - weight:.2f} of BM25's, chosen on "
                f"{len(dev.queries):,} dev queries (nDCG@10 {mean:.3f} there)."
            )
            systems.append(_hybrid(name, weighted_fusion(run, lexical, weight), "weighted", detail, full))
    return systems, notes, encoded.made_by


def _passages(task: _Task, encoder: Encoder, contents: list[str], name: str) -> Encoded:
    label = f"encoding passages ({name})"
    return corpus_vectors(encoder, contents, task.vectors, task.encoding, label=label, dev=task.data)


def _queries(task: _Task, encoder: Encoder, split: str, name: str) -> Floats32:
    return cached_vectors(encoder, task.texts(split), "query", task.vectors, label=f"encoding {split} queries ({name})")


def _sizes(config: settings.Evaluation, full: int, name: str) -> tuple[tuple[int, ...], list[str]]:
    if config.dimensions != "auto":
        asked_for = sorted(set(config.dimensions), reverse=True)
        missing = [size for size in asked_for if size > full]
        text = f"{name} has {full} dimensions; {', '.join(map(str, missing))} cannot be measured."
        return tuple(size for size in asked_for if size < full), [text] if missing else []
    sizes = []
    size = full
    while size % 2 == 0 and size // 2 >= SMALLEST:
        size //= 2
        sizes.append(size)
    return tuple(sizes), []


def _searched(task: _Task, name: str, queries: Floats32, passages: Stored) -> System:
    """A search over stored vectors, the query brought to the same form."""
    run = dense_ranking(task.data, task.split, passages.decoded(queries), passages, task.depth, label=name)
    size = passages.dimension
    short = f" @{size}" if size < passages.vectors.shape[1] else ""
    word = "" if passages.precision == "float32" else f" {passages.precision}"
    variant: Variant = "precision" if word else "dimension"
    about = About(variant, name, size, passages.precision, "", passages.bytes_per_vector, (name,))
    return System(f"{name}{short}{word}", replace(run, kind="derived"), about)


def _small(
    task: _Task, name: str, queries: Floats32, vectors: Floats32, size: int, precision: VectorPrecision
) -> list[System]:
    """Vectors of a small format, alone and with the first candidates rescored by float32 queries."""
    passages = stored(vectors, size, precision)
    deep = replace(task, depth=max(task.depth, task.config.rescore_depth))
    first = _searched(deep, name, queries, passages)

    def again(by: Stored, suffix: str, size_in_bytes: int) -> System:
        rows = first.run.rows[:, : task.config.rescore_depth]
        run = _cut(reordered(first.run, rescored(queries, by, rows)), task.depth)
        detail = f"The first {task.config.rescore_depth} candidates are scored again with the query in float32."
        about = replace(first.about, rescored=by.precision, bytes_per_vector=size_in_bytes, detail=detail)
        return System(f"{first.name}, {suffix}", run, about)

    plain = passages.bytes_per_vector
    out = [replace(first, run=_cut(first.run, task.depth)), again(passages, "rescored", plain)]
    if precision == "binary":
        exact = stored(vectors, size, "int8")
        out.append(again(exact, "rescored by int8", plain + exact.bytes_per_vector))
    return out


def _bare(task: _Task, name: str, encoder: Encoder, contents: list[str], passages: Floats32) -> System:
    """The classic mistake: a model that was trained with prompts, used without them."""
    model = copy.copy(encoder.model)  # the weights are shared, the prompts are not
    model.prompts, model.default_prompt_name = {"query": "", "document": ""}, None
    bare = Encoder(model, name=encoder.name, fingerprint=encoder.fingerprint, precision=encoder.precision)
    label = f"{name} without prompts"
    queries = _queries(task, bare, task.split, label)
    if encoder.prompts["passage"]:
        passages = _passages(task, bare, contents, label).vectors
    run = dense_ranking(task.data, task.split, queries, passages, task.depth, label=label)
    prompts = " and ".join(f"{text!r} before each {side}" for side, text in encoder.prompts.items() if text)
    detail = f"A mistake shown as such: the model expects {prompts}."
    size = encoder.dimension
    about = About("prompts", name, size, "float32", "", 4 * size, (name,), detail)
    return System(label, replace(run, kind="derived"), about)


def _hybrid(name: str, run: Ranking, how: str, detail: str, size: int) -> System:
    about = About("hybrid", name, size, "float32", "", 4 * size, (name, BM25_NAME), detail)
    return System(f"{name} + {BM25_NAME} ({how})", run, about)


def _reranked(task: _Task, first: Sequence[System]) -> list[System]:
    config = task.config
    reranker = Reranker.load(config.rerank)
    detail = f"{config.rerank} reads the first {config.rerank_depth} ranks."
    return [
        System(
            f"{one.name}, reranked",
            run,
            replace(
                one.about, variant="reranked", parents=(one.name,), detail=" ".join([one.about.detail, detail]).strip()
            ),
        )
        for one, run in zip(
            first, reranker.rerank(task.data, [one.run for one in first], config.rerank_depth), strict=True
        )
    ]


def _cut(run: Ranking, depth: int) -> Ranking:
    return replace(run, rows=run.rows[:, :depth], values=run.values[:, :depth])
