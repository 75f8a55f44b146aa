"""Missing labels: how much of what the systems found is judged, and a file in which people judge the rest."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fieldtune.beir import RetrievalData
from fieldtune.errors import InputError
from fieldtune.evaluation.results import System
from fieldtune.types import Qrels
from fieldtune.workspace import atomic_file, digest

COLUMNS = ("query-id", "query", "corpus-id", "title", "text", "grade", "note")
_DEPTH = 10
_LONGEST = 32_000  # characters: a spreadsheet's cell holds 32,767
_NAMED = 20  # faulty lines named in one message
_FORMULA = re.compile(r"[=+\-@\t\r\n'|%＝＋－＠]")
# What a spreadsheet would take for a number or a date and write back in another form.
_CHANGED = re.compile(r"[\W\d_]|true$|false$|(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[ ./-]?\d", re.I)


@dataclass(frozen=True, slots=True)
class FilledIn:
    """What a filled-in file says."""

    grades: Qrels
    """Query id -> passage id -> grade."""
    empty: int
    """Rows without a grade."""
    repeated: int
    """Rows that say again what an earlier one says."""
    notes: tuple[str, ...]
    """What was taken and what was not, for the user."""


def judged_share(data: RetrievalData, split: str, systems: Sequence[System], depth: int = _DEPTH) -> dict[str, float]:
    """judged@10 of each system: the share of its first ten passages that have a judgement for their query."""
    qrels = data.qrels[split]
    out = {}
    for system in systems:
        shown = [(query, key) for query, found in _runs(system) for key in found[:depth]]
        out[system.name] = sum(key in qrels.get(query, {}) for query, key in shown) / max(1, len(shown))
    return out


def unjudged(
    data: RetrievalData, split: str, systems: Sequence[System], limit: int, seed: int, depth: int = _DEPTH
) -> list[tuple[str, str]]:
    """(query id, passage id) of the unjudged passages that stand highest with any system, at most `limit`.

    They come by query, and within a query in an order that does not tell which system found them, or where.
    """
    qrels, best = data.qrels[split], dict[tuple[str, str], int]()
    for system in systems:
        for query, found in _runs(system):
            for rank, key in enumerate(found[:depth], 1):
                if key not in qrels.get(query, {}):
                    best[query, key] = min(rank, best.get((query, key), rank))
    mixed = {pair: digest([seed, *pair]) for pair in best}
    chosen = sorted(best, key=lambda pair: (best[pair], mixed[pair]))[:limit]
    place = {query: n for n, query in enumerate(qrels)}
    return sorted(chosen, key=lambda pair: (place[pair[0]], mixed[pair]))


def _runs(system: System) -> Iterator[tuple[str, Sequence[str]]]:
    return zip(system.run.queries, system.run.passages, strict=True)


def write_unjudged(
    path: Path,
    data: RetrievalData,
    pairs: Sequence[tuple[str, str]],
    suggested: Mapping[tuple[str, str], tuple[int, str]] | None = None,
) -> None:
    """Write the pairs as CSV with the columns grade and note to fill in.

    `suggested` fills in a grade and a note for some pairs. Cells that a spreadsheet would run as a formula, or ids that
    it would take for numbers or dates, begin with an apostrophe, which reading takes off. Raises InputError when the
    file is there and holds grades.
    """
    if path.exists() and _holds_grades(path):
        raise InputError(
            "holds grades that someone filled in",
            "use it as --judgements (or evaluation.judgements), or give another name",
            path=path,
        )
    _write(path, data, pairs, suggested or {})


def write_judged(path: Path, data: RetrievalData, grades: Qrels) -> None:
    """Write grades that people gave elsewhere in the same form, which `read_judgements` reads."""
    given = {(query, key): (grade, "") for query, row in grades.items() for key, grade in row.items()}
    _write(path, data, list(given), given)


def _write(
    path: Path,
    data: RetrievalData,
    pairs: Sequence[tuple[str, str]],
    filled: Mapping[tuple[str, str], tuple[int, str]],
) -> None:
    with atomic_file(path) as stream:
        stream.write("\ufeff")  # spreadsheets need it to see UTF-8
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for query, key in pairs:
            passage = data.passages[key]
            grade, note = filled.get((query, key), ("", ""))
            texts = [_cell(text) for text in (data.queries[query].text, passage.title, passage.text, note)]
            writer.writerow([_id_cell(query), texts[0], _id_cell(key), texts[1], texts[2], grade, texts[3]])


def read_judgements(path: Path, data: RetrievalData, split: str) -> FilledIn:
    """Read grades that people filled in.

    Semicolons or tabs between the columns, and UTF-16, as spreadsheets write them, are read too. Rows without a grade
    are counted. Raises InputError naming every line whose grade is not a whole number from 0 on, or whose query or
    passage does not exist, or that contradicts an earlier line.
    """
    qrels = data.qrels.get(split, {})
    highest = max((grade for row in qrels.values() for grade in row.values()), default=1)
    highest = max(3, highest, data.relevance_threshold)
    grades: Qrels = {}
    faults: list[tuple[int, str]] = []
    empty = repeated = 0
    against: list[int] = []
    for line, row in _rows(path):
        query, key = _known(row["query-id"], data.queries), _known(row["corpus-id"], data.passages)
        text = row["grade"].strip()
        if not text:
            empty += 1
        elif query is None:
            faults.append((line, f"query {row['query-id']!r} does not exist"))
        elif key is None:
            faults.append((line, f"passage {row['corpus-id']!r} does not exist"))
        elif not re.fullmatch(r"\d{1,3}([.,]0+)?", text) or (grade := int(re.split("[.,]", text)[0])) > highest:
            faults.append((line, f"grade {text[:40]!r} is not a whole number from 0 to {highest}"))
        elif key in grades.get(query, {}):
            repeated += 1
            if grades[query][key] != grade:
                faults.append((line, f"grade {grade} contradicts the {grades[query][key]} of an earlier line"))
        else:
            grades.setdefault(query, {})[key] = grade
            if qrels.get(query, {}).get(key, grade) != grade:
                against.append(line)
    if faults:
        told = "; ".join(f"line {line}: {what}" for line, what in faults[:_NAMED])
        more = f"; and {len(faults) - _NAMED:,} more" if len(faults) > _NAMED else ""
        raise InputError(f"{told}{more}", "mend these lines, or empty their grade", path=path, line=faults[0][0])
    count = sum(map(len, grades.values()))
    notes = [f"{path.name}: {count:,} judgements added, {empty:,} rows without a grade."]
    if repeated:
        notes.append(f"{path.name}: {repeated:,} rows say again what an earlier one says.")
    if against:
        named = ", ".join(map(str, against[:_NAMED]))
        notes.append(
            f"{path.name}: {len(against):,} rows grade otherwise than the qrels, which were kept (line {named})."
        )
    return FilledIn(grades, empty, repeated, tuple(notes))


def add_judgements(data: RetrievalData, split: str, judgements: FilledIn) -> RetrievalData:
    """The data with these grades for a split; a pair that was judged before keeps its grade."""
    rows = {query: dict(grades) for query, grades in data.qrels.get(split, {}).items()}
    for query, grades in judgements.grades.items():
        rows[query] = grades | rows.get(query, {})
    return replace(data, qrels={**data.qrels, split: rows})


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line where the row begins, its cells by column)."""
    text = _decoded(path)
    head = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        columns = [name.strip().lower() for name in next(reader, [])]
        if missing := [name for name in ("query-id", "corpus-id", "grade") if name not in columns]:
            raise InputError(
                f"no column {', '.join(missing)}", f"the columns are {', '.join(COLUMNS)}", path=path, line=1
            )
        begin = reader.line_num + 1
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield begin, dict.fromkeys(columns, "") | dict(zip(columns, cells, strict=False))
            begin = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"not CSV ({error})", "save it as CSV in UTF-8", path=path, line=reader.line_num) from None


def _decoded(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise InputError("no such file", "evaluate --unjudged FILE writes one to fill in", path=path) from None
    try:
        return raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 ({error})", "save it as CSV in UTF-8", path=path) from None


def _holds_grades(path: Path) -> bool:
    try:
        return any(row["grade"].strip() for _, row in _rows(path))
    except InputError:
        return True  # not a file of ours: leave it alone


def _cell(text: str) -> str:
    text = text.replace("\x00", "")
    text = text if len(text) <= _LONGEST else text[:_LONGEST] + " …"
    return f"'{text}" if _FORMULA.match(text.lstrip(" ") or " ") else text


def _id_cell(name: str) -> str:
    return f"'{name}" if _CHANGED.match(name) else name


def _known(cell: str, names: Mapping[str, object]) -> str | None:
    """The id in a cell, with or without the apostrophe, which some spreadsheets take off by themselves."""
    tried = [cell.removeprefix("'"), cell] if cell.startswith("'") else [cell]
    return next((name for text in tried for name in (text, text.strip()) if name in names), None)
