"""Labelled pairs, triplets and tuples of others to a BEIR folder: the rows' own passages become the corpus."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

from fieldtune.beir import RetrievalData, write_beir, write_qrels
from fieldtune.errors import InputError
from fieldtune.queries.columns import Judged, LabelRow, is_relevant, parse_row, scale_of
from fieldtune.queries.made import query_id
from fieldtune.queries.rows import label_files, read_rows
from fieldtune.types import Passage, Qrels, Query, Result
from fieldtune.workspace import digest

_SPLITS = {"train": "train", "dev": "dev", "valid": "dev", "validation": "dev", "val": "dev", "test": "test"}
_LISTED = 200


def import_dataset(source: Path, out: Path) -> Result:
    """Read a labels file, or a folder of them (also one of `datasets`), and write the BEIR folder `out`.

    Every distinct passage becomes one of the corpus; labelled negatives get grade 0; a teacher's scores and prompts are
    kept in the queries' metadata, where the dataset stage finds them. Files or folders named train, dev, validation or
    test become that split; without such names the labels stay undivided. A broken row is counted and listed. Raises
    InputError when no row is usable or `out` is in use.
    """
    files = label_files(source) if source.is_dir() else [source]
    if not files:
        raise InputError(
            "no labels in it", "CSV, JSON lines, Parquet or what datasets' save_to_disk wrote", path=source
        )
    if out.is_dir() and any(out.iterdir()):
        raise InputError("is a folder with something in it", "give another --out, or empty it", path=out)
    passages: dict[str, Passage] = {}
    queries: dict[str, Query] = {}
    qrels: dict[str, Qrels] = {}
    dropped: Counter[str] = Counter()
    broken: list[str] = []
    count = 0
    for file in files:
        rows: list[LabelRow] = []
        for line, row in read_rows(file):
            count += 1
            try:
                if isinstance(row, str):
                    raise ValueError(row)
                rows.append(_with_texts(parse_row(row)))
            except ValueError as error:
                dropped["broken row"] += 1
                broken.append(f"{file.name}:{line}: {error}")
        scores = [judged.score for row in rows for judged in row.judged if judged.score is not None]
        scale = scale_of(scores)
        graded = len({score for score in scores if math.isfinite(score)}) > 2  # more than yes and no
        side = qrels.setdefault(_split_of(file, source), {})
        for label in rows:
            key = query_id(label.query)
            queries[key] = _query(queries.get(key, Query(key, label.query)), label, graded)
            grades = side.setdefault(key, {})
            for judged in label.judged:
                passage = _passage(judged)
                passages[passage.id] = passage
                grade = int(is_relevant(judged.score, scale))
                if grades.get(passage.id, grade) != grade:
                    dropped["negative label that another row calls positive"] += 1
                grades[passage.id] = max(grade, grades.get(passage.id, 0))
    for rows_of in qrels.values():
        for key in [key for key, grades in rows_of.items() if not any(grades.values())]:
            del rows_of[key]
            dropped["query without a relevant passage"] += 1
    qrels = {side: rows_of for side, rows_of in qrels.items() if rows_of}
    if not qrels:
        first = f"; the first: {broken[0]}" if broken else ""
        raise InputError(
            f"none of its {count} rows can be used{first}",
            "columns: (query, passage), (anchor, positive, negative), (sentence1, sentence2, score), or query/pos/neg",
            path=source,
        )
    if len(qrels) > 1 and "all" in qrels:
        qrels.setdefault("train", {}).update(qrels.pop("all"))  # beside a test file, what is not named is to train on
    used = {key for rows_of in qrels.values() for key in rows_of}
    write_beir(out, RetrievalData(passages, {key: query for key, query in queries.items() if key in used}, qrels))
    if "all" in qrels:  # not one of the sides: whoever reads it divides it
        write_qrels(out / "qrels" / "all.tsv", qrels["all"])
    counts: dict[str, int | float] = {"rows": count, "passages": len(passages), "queries": len(used)}
    counts |= {f"{side} queries": len(rows_of) for side, rows_of in qrels.items()}
    return Result("import", counts, dict(dropped), (), {"broken_rows": broken[:_LISTED]})


def _with_texts(row: LabelRow) -> LabelRow:
    if any(not judged.text for judged in row.judged):
        raise ValueError("names a passage by its id; ids need a corpus: give a BEIR folder, or set queries.from")
    return row


def _passage(judged: Judged) -> Passage:
    return Passage(f"p-{digest([judged.title, judged.text])[:12]}", judged.title, judged.text)


def _query(query: Query, label: LabelRow, graded: bool) -> Query:
    found = {name: dict(query.metadata.get(name) or {}) for name in ("scores", "grades")}
    for judged in label.judged:
        if judged.teacher is not None:
            found["scores"][_passage(judged).id] = judged.teacher
        if graded and judged.score is not None and math.isfinite(judged.score):
            found["grades"][_passage(judged).id] = judged.score
    prompt = label.prompt or query.metadata.get("prompt")
    metadata = {name: scores for name, scores in found.items() if scores} | ({"prompt": prompt} if prompt else {})
    return Query(query.id, query.text, query.style, metadata)


def _split_of(file: Path, source: Path) -> str:
    """By the name of the file ("train-00000-of-00002.parquet") or of a folder above it."""
    inside = file.relative_to(source) if file != source else Path(file.name)
    for part in reversed(inside.parts):
        word = re.split(r"[^a-z]", part.lower(), maxsplit=1)[0]
        if word in _SPLITS:
            return _SPLITS[word]
    return "all"
