"""A finished run as its files tell it, and what makes two runs' test sets different."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.beir import RetrievalData, corpus_file, load_beir
from fieldtune.errors import InputError
from fieldtune.evaluation.test_set import digests
from fieldtune.installing import RUN
from fieldtune.workspace import read_json

_NAMED = 5  # ids named in a sentence


@dataclass(frozen=True, slots=True)
class PastRun:
    """What metrics.json and per_query.csv hold."""

    folder: Path
    metrics: Mapping[str, Any]
    texts: Mapping[str, str]
    """Query id -> text, in file order."""
    clusters: NDArray[np.int64]
    """Cluster of each query, in the order of `texts`."""
    values: Mapping[str, Mapping[str, NDArray[np.float64]]]
    """System -> measure -> value of each query, in the order of `texts`."""


def read_run(folder: Path) -> PastRun:
    """Read a run's folder, that of `fieldtune train --out`, one with the two files that `fieldtune evaluate` writes, or
    the file of its --json.

    Raises InputError naming file and line for a missing file, a missing row or a value that is not a number.
    """
    figures, path = _files(folder)
    metrics = read_json(figures)
    if not isinstance(metrics, dict) or "systems" not in metrics:
        raise InputError("holds no figures of systems", "give what fieldtune evaluate --json wrote", path=figures)
    folder = figures.parent
    texts: dict[str, str] = {}
    clusters: dict[str, int] = {}
    found: dict[str, dict[str, list[float]]] = {}
    order: dict[str, list[str]] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        for row in reader:
            try:
                query, system = row["query"], row["system"]
                names = [name for name in metrics["systems"][system] if name in row]
                numbers = {name: float(row[name]) for name in names}
                clusters[query] = int(row["cluster"])
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(
                    f"not a row of this run ({type(error).__name__}: {error})",
                    "evaluate the run again",
                    path=path,
                    line=reader.line_num,
                ) from None
            texts[query] = row["text"]
            order.setdefault(system, []).append(query)
            for name, number in numbers.items():
                found.setdefault(system, {}).setdefault(name, []).append(number)
    for system, queries in order.items():
        if queries != list(texts):
            raise InputError(f"{system} lacks queries or has some twice", "evaluate the run again", path=path)
    values = {system: {name: np.array(column) for name, column in rows.items()} for system, rows in found.items()}
    return PastRun(folder, metrics, texts, np.array(list(clusters.values()), np.int64), values)


def _files(given: Path) -> tuple[Path, Path]:
    """The figures of a run and those of its single queries. Raises InputError saying what is missing, and why."""
    if not given.exists():
        raise InputError("no such file or folder", "give the folder of a run that was evaluated", path=given)
    if given.is_file():
        figures = given
    else:
        places = [folder / "metrics.json" for folder in (given, given / RUN)]
        figures = next((place for place in places if place.exists()), places[0])
        if not figures.exists():
            trained = (given / RUN / "run.json").exists()
            measure = f"fieldtune evaluate --data DATA --model BASE --model {given} --card"
            raise InputError(
                "this model was trained, but not measured" if trained else "no figures in it: no metrics.json",
                measure if trained else "give the folder of a run that was evaluated, or the file of evaluate --json",
                path=given,
            )
    metrics = read_json(figures)
    named = metrics.get("per_query") if isinstance(metrics, dict) else None
    path = figures.parent / (named or "per_query.csv")
    if not path.exists():
        raise InputError(
            "no such file: without the figures of single queries nothing can be compared",
            f"measure again: fieldtune evaluate ... --json {figures} --per-query {path}",
            path=path,
        )
    return figures, path


def set_changes(a: PastRun, b: PastRun) -> list[str]:
    """In what the test sets differ, a sentence each; empty when they are the same."""
    found = [
        *_listed("queries only in A", (query for query in a.texts if query not in b.texts)),
        *_listed("queries only in B", (query for query in b.texts if query not in a.texts)),
        *_listed(
            "queries reworded", (query for query in a.texts if b.texts.get(query, a.texts[query]) != a.texts[query])
        ),
    ]
    prints = [_digests(run) for run in (a, b)]
    data = [_data(run) if prints[0] != prints[1] else None for run in (a, b)]
    split = str(a.metrics["split"])
    for part in ("rules", "qrels", "corpus"):
        if prints[0].get(part) == prints[1].get(part):
            continue
        if part == "rules":
            found.append(f"measured by other rules: {_rules(a)} in A, {_rules(b)} in B")
        elif data[0] is None or data[1] is None:
            found.append(f"the {part} changed (the data of {'A' if data[0] is None else 'B'} are gone: no details)")
        else:
            found += _qrels(data[0], data[1], split) if part == "qrels" else _corpus(data[0], data[1])
    return found


def _digests(run: PastRun) -> Mapping[str, str]:
    """As recorded, or, for a run of before they were, from its data."""
    recorded = run.metrics.get("test_set")
    if recorded:
        return dict(recorded)
    data = _data(run)
    if data is None:
        raise InputError(
            "does not say what its test set was, and its data are not there",
            "evaluate it again: the record is made then",
            path=run.folder / "metrics.json",
        )
    return digests(data, str(run.metrics["split"]))


def _data(run: PastRun) -> RetrievalData | None:
    """Of the run itself, or those that `fieldtune evaluate` measured on, if they are there and still what they were."""
    if corpus_file(run.folder / "data").exists():
        return load_beir(run.folder / "data")
    folder = run.metrics.get("data")
    if not folder or not corpus_file(Path(folder)).exists():
        return None
    data = load_beir(Path(folder))
    split = str(run.metrics["split"])
    return data if split in data.qrels and digests(data, split) == run.metrics.get("test_set") else None


def _rules(run: PastRun) -> str:
    split, judged = run.metrics["split"], run.metrics.get("judged_only")
    return f"{split} split{', judged passages only' if judged else ''}"


def _qrels(a: RetrievalData, b: RetrievalData, split: str) -> list[str]:
    one, other = a.qrels.get(split, {}), b.qrels.get(split, {})
    changed = (query for query in one if query in other and one[query] != other[query])
    return _listed("queries with other judgements", changed) or ["judgements of queries that are in one run only"]


def _corpus(a: RetrievalData, b: RetrievalData) -> list[str]:
    one, other = a.passages, b.passages
    return [
        *_listed("passages only in A", (name for name in one if name not in other)),
        *_listed("passages only in B", (name for name in other if name not in one)),
        *_listed(
            "passages with another text",
            (name for name in one if name in other and one[name].content != other[name].content),
        ),
    ] or ["the corpus changed"]


def _listed(what: str, names: Iterable[str]) -> list[str]:
    every: Sequence[str] = list(names)
    if not every:
        return []
    shown = ", ".join(every[:_NAMED]) + (" …" if len(every) > _NAMED else "")
    return [f"{what}: {len(every):,} ({shown})"]
