"""What made queries are worth: train on them alone and measure on the queries of people.

    python benchmarks/generated.py --data BEIR_DIR [--generated FILE [--corpus BEIR_DIR]] [--structure] [--llm]
        [--model M] [--share 0.25 0.5 1.0] [--by-style] [--human] [--together] [--split test] [--passages N]
        [--queries N] [--train N] [--base-share 0.3 0.5] [--set section.key=value ...]

--structure trains on queries made from the corpus without an LLM, --llm on those that the LLM of the settings writes
(--set llm.local=builtin:smollm2, or llm.base_url=...), --generated on those of a generator file (its passages are added
from --corpus where --data lacks them), --human on the train labels as the reference; --together also on all made
queries of each kind and the train labels at once, with the checkpoint chosen on the set's own dev. --base-share also
measures each tuned model with these shares of the base model's weights, as training.base_share mixes them.

Made queries that have the very words of a query of the measured split are left out and counted. The best checkpoint is
chosen on made queries that are held back, unless --choose-on human-dev is given. --passages keeps that many of the
corpus, those with a label or a generated query among them, --queries that many of dev and of test, --train that many of
the train labels, each drawn by its name. Prints a table and appends it to benchmarks/RESULTS.md; a model that an
earlier call with the same settings left in --work is not trained again.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

from methods import smaller, some_queries
from results import RESULTS, append, markdown

from fieldtune.beir import RetrievalData, corpus_file, load_beir, read_corpus, read_qrels, read_queries
from fieldtune.config import Config, make_config, merge, parse_overrides
from fieldtune.dataset import build_dataset
from fieldtune.encoding import Encoder
from fieldtune.errors import FieldtuneError
from fieldtune.evaluation import Evaluation, System, bm25_ranking, evaluate, model_ranking
from fieldtune.lexical import STOP_WORDS, tokenize
from fieldtune.queries import gather_queries
from fieldtune.queries.sampling import stable_order
from fieldtune.training import tune
from fieldtune.training.blend import blend, kept_weights
from fieldtune.types import Qrels
from fieldtune.workspace import atomic_folder, digest, file_digest, read_json, read_jsonl, write_json


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="BEIR folder with the queries of people")
    parser.add_argument("--generated", type=Path, help="JSON lines with corpus-id, style, query")
    parser.add_argument("--corpus", type=Path, help="BEIR folder that holds the passages the file names")
    parser.add_argument("--structure", action="store_true", help="also queries made without an LLM")
    parser.add_argument("--llm", action="store_true", help="also queries that the LLM of the settings writes")
    parser.add_argument("--human", action="store_true", help="also the train labels, where the set has some")
    parser.add_argument("--together", action="store_true", help="also the made queries and the train labels at once")
    parser.add_argument("--by-style", action="store_true", help="also each style of --generated and --llm alone")
    parser.add_argument("--share", type=float, nargs="+", default=[1.0], help="shares of the generated queries")
    parser.add_argument("--base-share", type=float, nargs="+", default=[], help="shares of the base model's weights")
    parser.add_argument("--split", choices=("test", "dev"), default="test")
    parser.add_argument("--choose-on", choices=("made", "human-dev"), default="made")
    parser.add_argument("--passages", type=int, default=0, help="passages searched in; 0: all")
    parser.add_argument("--queries", type=int, default=0, help="queries of dev and of test; 0: all")
    parser.add_argument("--train", type=int, default=0, help="queries of --human; 0: all")
    parser.add_argument("--model", default="builtin:all-MiniLM-L6-v2")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    parser.add_argument("--work", type=Path, default=Path("generated-runs"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args(words)
    if not (given.generated or given.structure or given.llm or given.human):
        parser.error("nothing to train on: give --structure, --llm, --generated FILE or --human")
    if not all(0 < share <= 1 for share in given.share):
        parser.error("--share takes numbers above 0, up to 1")
    if given.choose_on == "human-dev" and given.split == "dev":
        parser.error("--choose-on human-dev cannot be measured on --split dev")
    return given


def named(generated: Path | None) -> frozenset[str]:
    """The passages that the generator file has queries for."""
    if generated is None:
        return frozenset()
    return frozenset(str(row.get("corpus-id")) for _, row in read_jsonl(generated))


def with_passages(data: RetrievalData, generated: Path, corpus: Path | None) -> RetrievalData:
    """The data with the passages that the generator file names and the set lacks."""
    if corpus is None:
        return data
    more, missing = read_corpus(corpus_file(corpus)), named(generated) - set(data.passages)
    return replace(data, passages=data.passages | {key: more[key] for key in more if key in missing})


def made_queries(config: Config, data: RetrievalData, split: str, work: Path) -> tuple[RetrievalData, list[str]]:
    """The queries of `config.queries`, filtered, without those in the very words of a measured query."""
    texts = digest(sorted(data.passages))
    how = [config.queries.model_dump(), config.llm.model_dump(), config.seed, config.model.base, texts]
    out = work / "queries" / digest(how)
    result = gather_queries(config, data.passages, out, out / "cache", work / "vectors")
    queries = read_queries(out / "queries.jsonl")
    rows, _ = read_qrels(out / "qrels" / "all.tsv", data.passages, queries)
    asked = {_words(data.queries[key].text) for key in data.qrels.get(split, {})}
    rows = {key: row for key, row in rows.items() if _words(queries[key].text) not in asked}
    said = [f"{name}: {count:,}" for name, count in (*result.counts.items(), *result.dropped.items())]
    said.append(f"in the words of a {split} query, left out: {len(queries) - len(rows):,}")
    return RetrievalData(data.passages, queries, {"all": rows}), said


def _words(text: str) -> frozenset[str]:
    return frozenset(tokenize(text)) - STOP_WORDS or frozenset(tokenize(text))


def systems(
    given: argparse.Namespace, config: Config, data: RetrievalData
) -> tuple[dict[str, RetrievalData], list[str]]:
    """Name -> what to train on, and lines on how each came about."""
    sets: dict[str, RetrievalData] = {}
    said: list[str] = []
    if given.structure:
        made, lines = made_queries(config, data, given.split, given.work)
        said += ["structure", *lines]
        sets |= variants("structure", made, [1.0], False, config.seed)
    if given.llm:
        made, lines = made_queries(_asking(config, "llm"), data, given.split, given.work)
        said += ["llm", *lines]
        sets |= variants("llm", made, given.share, given.by_style, config.seed)
    if given.generated:
        whole = with_passages(data, given.generated, given.corpus)
        made, lines = made_queries(_asking(config, str(given.generated)), whole, given.split, given.work)
        said += ["generated", *lines]
        sets |= variants("generated", made, given.share, given.by_style, config.seed)
    both = {f"{name} + human labels": together(made, data) for name, made in sets.items() if name.endswith(" 100%")}
    if given.choose_on == "human-dev":
        sets = {name: on_human_dev(made, data) for name, made in sets.items()}
    if given.human and data.qrels.get("train"):
        rows = {side: data.qrels[side] for side in ("train", "dev") if side in data.qrels and side != given.split}
        sets["human labels"] = replace(data, qrels=rows)
    if given.together and data.qrels.get("train") and data.qrels.get("dev"):
        sets |= both
    return sets, said


def _asking(config: Config, source: str) -> Config:
    return config.model_copy(update={"queries": config.queries.model_copy(update={"source": source})})


def variants(
    name: str, made: RetrievalData, shares: list[float], by_style: bool, seed: int
) -> dict[str, RetrievalData]:
    """The whole, its shares, and each style alone."""
    rows = made.qrels["all"]
    order = sorted(rows, key=lambda key: stable_order(seed, key))
    chosen = {f"{name} {share:.0%}": order[: max(1, round(share * len(order)))] for share in sorted(shares)}
    if by_style:
        for style in sorted({made.queries[key].style for key in rows}):
            chosen[f"{name}: {style}"] = [key for key in order if made.queries[key].style == style]
    return {label: replace(made, qrels={"all": _rows(rows, keys)}) for label, keys in chosen.items()}


def _rows(rows: Qrels, keys: list[str]) -> Qrels:
    wanted = set(keys)
    return {key: row for key, row in rows.items() if key in wanted}


def on_human_dev(made: RetrievalData, data: RetrievalData) -> RetrievalData:
    """All made queries in train, the set's own dev split to choose the checkpoint by."""
    qrels = {"train": made.qrels["all"], "dev": data.qrels["dev"]}
    return RetrievalData(made.passages, dict(made.queries) | data.queries, qrels, data.relevance_threshold)


def together(made: RetrievalData, data: RetrievalData) -> RetrievalData:
    """The made queries and the train labels in train, the set's own dev split to choose the checkpoint by."""
    both = on_human_dev(made, data) if data.qrels.get("dev") else made
    return replace(both, qrels=dict(both.qrels) | {"train": made.qrels["all"] | data.qrels.get("train", {})})


def trained(name: str, config: Config, data: RetrievalData, work: Path) -> tuple[Path, float]:
    """The tuned model's folder and the seconds it took; one of an earlier call is taken as it is."""
    rows = {side: sorted((key, sorted(row.items())) for key, row in part.items()) for side, part in data.qrels.items()}
    key = digest([config.model_dump(exclude={"out"}), rows, len(data.passages)])
    folder = work / "models" / f"{''.join(c if c.isalnum() else '-' for c in name)}-{key}"
    if (folder / "seconds.json").exists():
        return folder / "model", float(read_json(folder / "seconds.json"))
    began = time.monotonic()
    encoder = Encoder.load(config.model.base, settings=config.model)
    build_dataset(config, data, {}, encoder, folder / "data", work / "vectors")
    split = load_beir(folder / "data")
    encoder = Encoder.load(config.model.base, settings=config.model, precision=config.training.precision)
    tune(config, split, folder / "data" / "train.jsonl", encoder, folder, work / "vectors")
    write_json(folder / "seconds.json", round(time.monotonic() - began))
    return folder / "model", time.monotonic() - began


def mixture(model: Path, config: Config, share: float) -> Path:
    """The tuned model with that share of the base model's weights, beside it; made once."""
    folder = model.parent / f"base-{share:g}"
    if not folder.exists():
        base = kept_weights(Encoder.load(config.model.base, settings=config.model).model)
        encoder = Encoder.load(str(model))
        blend(encoder.model, base, share)
        with atomic_folder(folder) as place:
            encoder.model.save(str(place))
    return folder


def table(found: Evaluation, sizes: dict[str, tuple[int, float]]) -> list[str]:
    """Markdown rows: queries, nDCG@10, the gain over the base with its interval, the share of the supervised gain."""
    measure = "ndcg@10"
    base = found.system("base").mean[measure]
    human = [one.mean[measure] - base for one in found.systems if one.name == "human labels"]
    rows: list[tuple[object, ...]] = []
    for one in found.systems:
        row = found.compared(one.name, "base", measure)
        gain = share = ""
        if row is not None and one.kind == "model":
            gain = f"{row.difference:+.3f} [{row.interval[0]:+.3f}, {row.interval[1]:+.3f}]"
            share = f"{row.difference / human[0]:.0%}" if human and human[0] > 0 else ""
        count, seconds = sizes.get(one.name, (0, 0.0))
        minutes = f"{seconds / 60:.0f}" if count else ""
        rows.append((one.name, count or "", f"{one.mean[measure]:.3f}", gain, share, minutes))
    columns = ("trained on", "queries", "nDCG@10", "gain over base [95%]", "share of the supervised gain", "minutes")
    return markdown(columns, rows)


def _model(name: str) -> str:
    """A folder goes by its own name: where it lies is nobody's concern."""
    return Path(name).name if Path(name).exists() else name


def main(words: list[str] | None = None) -> None:
    given = arguments(words)
    settings = merge({"model": {"base": given.model}, "split": {"test": 0.0}}, parse_overrides(given.set))
    config = make_config(settings)
    data = some_queries(load_beir(given.data), given.train)
    data = smaller(data, given.passages, given.queries, named(given.generated))
    sets, said = systems(given, config, data)
    ranked, sizes = [], {}
    vectors = given.work / "vectors"
    ranked.append(
        System(
            "base",
            model_ranking(
                Encoder.load(given.model, settings=config.model),
                data,
                given.split,
                vectors,
                label="base",
            ),
        )
    )
    for name, part in sets.items():
        model, seconds = trained(name, config, part, given.work)
        sizes[name] = (sum(map(len, part.qrels.values())), seconds)
        ranked.append(System(name, model_ranking(Encoder.load(str(model)), data, given.split, vectors, label=name)))
        for share in given.base_share:
            label, mixed = f"{name}, {share:.0%} base", Encoder.load(str(mixture(model, config, share)))
            sizes[label] = sizes[name]
            ranked.append(System(label, model_ranking(mixed, data, given.split, vectors, label=label)))
    ranked.append(System("BM25", bm25_ranking(data, given.split)))
    found = evaluate(data, given.split, ranked, config.evaluation, config.seed)
    source = f", generated: {given.generated.name} ({file_digest(given.generated)[:12]})" if given.generated else ""
    sizes_given = {"passages": given.passages, "queries": given.queries, "train queries": given.train}
    kept = ", ".join(f"{count:,} {name}" for name, count in sizes_given.items() if count)
    cut = f", cut to {kept}" if kept else ""
    about = (
        f"{len(found.queries):,} {given.split} queries of people, {len(data.passages):,} passages, model "
        f"{_model(given.model)}{source}{cut}. Checkpoints chosen on {given.choose_on}."
        f" Settings: {' '.join(given.set) or 'defaults'}; seed {config.seed}."
    )
    lines = [*table(found, sizes), *(["\nHow the queries were made: " + "; ".join(said) + "."] if said else [])]
    print(append(f"Made queries on {given.data.resolve().name}", about, lines, given.results))


if __name__ == "__main__":
    try:
        main()
    except FieldtuneError as error:
        sys.exit(f"error: {error.message}\n  {error.hint}")
