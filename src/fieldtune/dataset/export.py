"""Training data in the formats that others read: BEIR, FlagEmbedding, Hugging Face datasets, CSV."""

from __future__ import annotations

import csv
import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from fieldtune.beir import RetrievalData, load_beir, write_beir
from fieldtune.dataset.examples import read_examples, write_examples
from fieldtune.errors import ConfigError, InputError
from fieldtune.types import Example, Result
from fieldtune.workspace import atomic_file, atomic_folder, read_json

Format = Literal["beir", "flagembedding", "pairs", "scored-pairs", "triplets", "tuples", "csv"]
FORMATS: tuple[str, ...] = get_args(Format)
Row = dict[str, Any]

_COLUMNS = {
    "pairs": "`anchor`, `positive`",
    "scored-pairs": "`sentence1`, `sentence2`, `score`",
    "triplets": "`anchor`, `positive`, `negative`, and where the rows are scored `score`: the two texts' scores",
    "tuples": "`anchor`, `positive`, `negative_1` and on, and where the rows are scored `score`: each text's, in order",
}
_TEACHERS = ("cross-encoder", "llm", "embedder", "given with the labels")


def export_dataset(folder: Path, to: str, out: Path, *, negatives: int = 0) -> Result:
    """Write a run's training data (`folder` is the run or its data/) to `out` in the format `to`.

    `beir` and the four kinds of columns make a folder (Parquet with a card, which `datasets.load_dataset(folder)`
    reads), `flagembedding` and `csv` a file. Tuples have `negatives` negatives each, by default the median; rows with
    fewer are left out and counted. Raises InputError where there is nothing to export or `out` is in use, ConfigError
    for an unknown format.
    """
    if to not in FORMATS:
        raise ConfigError(f"there is no format {to!r}", f"one of: {', '.join(FORMATS)}")
    source = folder if (folder / "train.jsonl").exists() else folder / "data"
    if not (source / "train.jsonl").exists():
        raise InputError(
            "no training data in it", "give the folder of a run that got past its dataset stage", path=folder
        )
    if out.is_dir() and any(out.iterdir()):
        raise InputError("is a folder with something in it", "give another --out, or empty it", path=out)
    examples = read_examples(source / "train.jsonl")
    if to == "beir":
        data = load_beir(source)
        with atomic_folder(out) as temporary:
            write_beir(temporary, data)
        counts = {"passages": len(data.passages), "queries": len(data.queries)}
        return Result("export", counts | {f"{side} queries": len(rows) for side, rows in data.qrels.items()})
    if to == "flagembedding":
        return Result("export", {"rows": write_examples(out, examples)})
    scores = read_json(source / "teacher.json") if (source / "teacher.json").exists() else {"kind": "none"}
    if to == "csv":
        return Result("export", {"rows": _write_csv(out, examples)})
    scored = scores["kind"] in _TEACHERS  # a model learns nothing from its own base's scores
    width = negatives or _usual(examples)
    made: dict[str, Callable[[], Iterator[Row]]] = {
        "pairs": lambda: _pairs(examples),
        "scored-pairs": lambda: _scored_pairs(examples, scored),
        "triplets": lambda: _triplets(examples, scored),
        "tuples": lambda: _tuples(examples, width, scored),
    }
    splits = {"train": list(made[to]())}
    if not splits["train"]:
        raise InputError(f"no row can be written as {to}", "the rows have no negatives; export pairs", path=source)
    if to == "pairs":
        splits |= _measured(load_beir(source))
    with atomic_folder(out) as temporary:
        for name, rows in splits.items():
            _write_parquet(temporary / f"{name}.parquet", rows)
        with atomic_file(temporary / "README.md") as stream:
            stream.write(_card(source, to, list(splits), scores["kind"] if scored else ""))
    left_out = sum(len(hard_negatives(example)) < width for example in examples) if to == "tuples" else 0
    dropped = {f"training rows with fewer than {width} negatives": left_out} if left_out else {}
    return Result("export", {f"{name} rows": len(rows) for name, rows in splits.items()}, dropped)


def hard_negatives(example: Example) -> list[tuple[str, float | None]]:
    """The negatives that may count as wrong, best first, each with its score if there is one."""
    aside = set(example.known)
    scores: Sequence[float | None] = example.neg_scores or (None,) * len(example.neg)
    return [(text, score) for text, score in zip(example.neg, scores, strict=True) if text not in aside]


def _usual(examples: Sequence[Example]) -> int:
    counts = [len(hard_negatives(example)) for example in examples]
    return max(1, int(statistics.median(counts)))


def _positives(example: Example) -> list[tuple[str, float | None]]:
    scores: Sequence[float | None] = example.pos_scores or (None,) * len(example.pos)
    return list(zip(example.pos, scores, strict=True))


def _pairs(examples: Sequence[Example]) -> Iterator[Row]:
    for example in examples:
        for text in example.pos:
            yield {"anchor": example.query, "positive": text}


def _scored_pairs(examples: Sequence[Example], scored: bool) -> Iterator[Row]:
    """Each judged or scored pair once; without a teacher the score is 1 for a positive and 0 for a negative."""
    for example in examples:
        if scored and example.pos_scores:
            scores = (*example.pos_scores, *example.neg_scores)
            both = list(zip((*example.pos, *example.neg), scores, strict=True))
        elif scored:
            continue  # on another scale than the others
        else:
            both = [(text, 1.0) for text in example.pos] + [(text, 0.0) for text, _ in hard_negatives(example)]
        for text, score in both:
            yield {"sentence1": example.query, "sentence2": text, "score": float(score)}


def _triplets(examples: Sequence[Example], scored: bool) -> Iterator[Row]:
    for example in examples:
        for positive, high in _positives(example):
            for negative, low in hard_negatives(example):
                row: Row = {"anchor": example.query, "positive": positive, "negative": negative}
                if not scored:
                    yield row
                elif high is not None and low is not None:
                    yield row | {"score": [high, low]}


def _tuples(examples: Sequence[Example], width: int, scored: bool) -> Iterator[Row]:
    for example in examples:
        hard = hard_negatives(example)[:width]
        if len(hard) < width:
            continue
        for positive, high in _positives(example):
            row: Row = {"anchor": example.query, "positive": positive}
            row |= {f"negative_{number}": text for number, (text, _) in enumerate(hard, 1)}
            scores = [high, *(score for _, score in hard)]
            if not scored:
                yield row
            elif None not in scores:
                yield row | {"score": scores}


def _measured(data: RetrievalData) -> dict[str, list[Row]]:
    """Dev and test as pairs, under the names that `datasets` gives them."""
    out = {}
    for side, name in (("dev", "validation"), ("test", "test")):
        found = data.positives(side)
        rows = [
            {"anchor": data.queries[query].text, "positive": data.passages[passage].content}
            for query, passages in found.items()
            for passage in passages
        ]
        if rows:
            out[name] = rows
    return out


def _write_parquet(path: Path, rows: list[Row]) -> None:
    import pyarrow
    import pyarrow.parquet

    with atomic_file(path, "wb") as stream:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), stream)


def _write_csv(path: Path, examples: Sequence[Example]) -> int:
    """One labelled pair a line; score is 1 or 0, what a teacher gave stands beside it."""
    count = 0
    with atomic_file(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("query", "passage", "score", "teacher_score"))
        for example in examples:
            judged = [(text, 1, score) for text, score in _positives(example)]
            judged += [(text, 0, score) for text, score in hard_negatives(example)]
            for text, label, score in judged:
                writer.writerow((example.query, text, label, "" if score is None else score))
                count += 1
    return count


def _card(source: Path, to: str, splits: Sequence[str], scored_by: str) -> str:
    """The dataset's own card under a front matter that fits these files."""
    path = source / "README.md"
    original = path.read_text("utf-8") if path.exists() else ""
    licence = re.search(r"^license: .*$", original, re.M)
    title = re.search(r"^# .*$", original, re.M)
    made = original.find("## From documents to training rows")
    files = [line for name in splits for line in (f"  - split: {name}", f"    path: {name}.parquet")]
    lines = ["---", *([licence[0]] if licence else []), "configs:", "- config_name: default", "  data_files:", *files]
    lines += ["---", title[0] if title else "# Training data", "", f"Columns: {_COLUMNS[to]}.", ""]
    if scored_by:
        lines += [f"Scores: {scored_by}.", ""]
    return "\n".join(lines) + (original[made:] if made >= 0 else "")
