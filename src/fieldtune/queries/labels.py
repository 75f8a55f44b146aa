"""Labelled queries from the user's files, their passages found in our corpus."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fieldtune.console import Progress
from fieldtune.errors import InputError
from fieldtune.queries.columns import Judged, LabelRow, is_relevant, parse_row, scale_of
from fieldtune.queries.labelled_beir import read_beir_labels
from fieldtune.queries.made import Made, query_id
from fieldtune.queries.match import PassageFinder
from fieldtune.queries.rows import FORMATS, label_files, read_rows
from fieldtune.types import Passage, Qrels, Query

_LISTED = 1_000
"""Broken rows and labels not found named in the result; not_found.jsonl holds all of the latter."""


def read_labels(path: Path, passages: Mapping[str, Passage], threshold: float) -> Made:
    """Read a BEIR folder, a labels file, or a folder of labels files.

    Raises InputError when there is nothing to read, no row is usable, or no labelled passage is in the corpus.
    """
    if path.is_dir() and (path / "queries.jsonl").exists():
        return read_beir_labels(path, passages, threshold)
    files = [path]
    if path.is_dir():
        files = label_files(path)
        if not files:
            raise InputError(
                "no labels in it", f"give a BEIR folder (queries.jsonl, qrels/) or {', '.join(FORMATS)}", path=path
            )
    gathered = _Gathered()
    finder = PassageFinder(passages, threshold)
    for file in files:
        _read_file(file, passages, finder, gathered)
    return _made(gathered, path)


@dataclass(slots=True)
class _Gathered:
    queries: dict[str, Query] = field(default_factory=dict)
    qrels: Qrels = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    how: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    not_found: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    """A teacher's scores: query -> passage -> score."""
    grades: dict[str, dict[str, float]] = field(default_factory=dict)
    """Scores of the labels themselves, where they say more than yes and no."""
    prompts: dict[str, str] = field(default_factory=dict)
    rows: int = 0


def _read_file(path: Path, passages: Mapping[str, Passage], finder: PassageFinder, gathered: _Gathered) -> None:
    rows: list[tuple[int, LabelRow]] = []
    for line, row in read_rows(path):
        gathered.rows += 1
        try:
            if isinstance(row, str):
                raise ValueError(row)
            rows.append((line, parse_row(row)))
        except ValueError as error:
            gathered.dropped["broken row"] += 1
            gathered.broken.append(f"{path.name}:{line}: {error}")
    scores = [judged.score for _, row in rows for judged in row.judged if judged.score is not None]
    written = [score for score in scores if score != float("-inf")]
    scale = scale_of(written)
    graded = len(set(written)) > 2  # more than yes and no
    if written:
        gathered.notes.append(
            f"{path.name}: scores are read on a scale of {scale:g}; a passage is relevant from {scale / 2:g} on."
        )
    with Progress(f"finding labelled passages of {path.name}", len(rows)) as progress:
        for line, label in rows:
            key = label.query_id or query_id(label.query)
            if (
                any(mark in key for mark in "\t\n\r")
                or gathered.queries.get(key, Query(key, label.query)).text != label.query
            ):
                gathered.dropped["broken row"] += 1
                gathered.broken.append(f"{path.name}:{line}: query id {key!r} holds a tab or belongs to another text")
                continue
            gathered.queries[key] = Query(key, label.query)
            for judged in label.judged:
                grade = int(is_relevant(judged.score, scale))
                found = _find(judged, passages, finder, gathered, f"{path.name}:{line}", grade)
                for passage in found:
                    _grade(gathered, key, passage, grade)
                    if judged.teacher is not None:
                        gathered.scores.setdefault(key, {})[passage] = judged.teacher
                    if graded and judged.score is not None and math.isfinite(judged.score):
                        gathered.grades.setdefault(key, {})[passage] = judged.score
            if label.prompt:
                gathered.prompts[key] = label.prompt
            progress.advance()


def _find(
    judged: Judged, passages: Mapping[str, Passage], finder: PassageFinder, gathered: _Gathered, where: str, grade: int
) -> tuple[str, ...]:
    kind = "passage" if grade else "negative"
    if judged.id:
        if judged.id in passages:
            gathered.how["by id"] += 1
            return (judged.id,)
        gathered.dropped[f"labelled {kind} id not in the corpus"] += 1
        gathered.not_found.append({"where": where, "id": judged.id, "relevant": bool(grade)})
        return ()
    match = finder.find(judged.text, judged.title)
    if match.passages:
        gathered.how[match.how] += 1
        return match.passages
    reason = "fits too many passages" if match.how == "ambiguous" else "not found in the corpus"
    gathered.dropped[f"labelled {kind} {reason}"] += 1
    entry = {"where": where, "text": judged.text[:120], "relevant": bool(grade), "reason": reason}
    gathered.not_found.append(entry | {"best": match.best, "similarity": round(match.similarity, 3)})
    return ()


def _grade(gathered: _Gathered, query: str, passage: str, grade: int) -> None:
    row = gathered.qrels.setdefault(query, {})
    if row.get(passage, grade) != grade:
        gathered.dropped["negative label that another row calls positive"] += 1
    row[passage] = max(row.get(passage, 0), grade)


def _made(gathered: _Gathered, path: Path) -> Made:
    if gathered.rows == gathered.dropped["broken row"]:
        first = f"; the first: {gathered.broken[0]}" if gathered.broken else ""
        raise InputError(
            f"none of its {gathered.rows} rows can be used{first}",
            "columns: (query, passage), (anchor, positive, negative), (sentence1, sentence2, score), or query/pos/neg",
            path=path,
        )
    kept = {query for query, row in gathered.qrels.items() if any(row.values())}
    if not kept:
        raise InputError(
            f"no labelled passage of its {gathered.rows} rows is in the corpus" + _example(gathered.not_found),
            "check that documents.paths holds the labelled documents, or lower queries.fuzzy_match",
            path=path,
        )
    without = len(gathered.queries) - len(kept)
    if without:
        gathered.dropped["query without a passage in the corpus"] += without
    queries = {key: _with_metadata(query, gathered) for key, query in gathered.queries.items() if key in kept}
    qrels = {key: row for key, row in gathered.qrels.items() if key in kept}
    grades = [grade for row in qrels.values() for grade in row.values()]
    counts: dict[str, int | float] = {
        "rows": gathered.rows,
        "queries": len(queries),
        "relevant pairs": sum(grades),
        "labelled negatives": len(grades) - sum(grades),
    }
    missing = sum(entry["relevant"] for entry in gathered.not_found)
    if missing:
        gathered.notes.append(f"{missing:,} labelled passages are not in the corpus; not_found.jsonl lists them.")
    return Made(
        "labels",
        queries,
        {"all": qrels},
        counts | {f"found: {how}": count for how, count in sorted(gathered.how.items())},
        {reason: count for reason, count in sorted(gathered.dropped.items()) if count},
        tuple(gathered.notes),
        {"broken_rows": gathered.broken[:_LISTED], "not_found": gathered.not_found[:_LISTED]},
        tuple(gathered.not_found),
    )


def _with_metadata(query: Query, gathered: _Gathered) -> Query:
    """The query with the scores, grades and prompt that came with its labels; the dataset stage passes them on."""
    found = {
        "scores": gathered.scores.get(query.id),
        "grades": gathered.grades.get(query.id),
        "prompt": gathered.prompts.get(query.id),
    }
    extra = {name: value for name, value in found.items() if value}
    return replace(query, metadata={**query.metadata, **extra}) if extra else query


def _example(not_found: list[dict[str, Any]]) -> str:
    if not not_found:
        return ""
    entry = not_found[0]
    return f" (e.g. {entry['where']}: {entry.get('id') or entry['text'][:60]!r})"
