"""Tables out of lines: rows whose numbers stand under each other."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fieldtune.documents.lines import NUMBER, Line, Segment

_YEAR = re.compile(
    r"(?:FY\s?)?(?:19|20)\d\d(?:\s*\([a-z\d]\))?|(?:[A-Z][a-z]{2,8}\.?\s+\d{1,2},?\s*)(?:(?:19|20)\d\d)?|[1-4]Q\s?(?:\d\d)+|Q[1-4].*"
)
_BULLET = re.compile(r"[•●▪◦■·\u2022\uf0b7*\u2013\u2014-]|\(?[a-z\divx]{1,4}[).]")


def is_row(line: Line) -> bool:
    """Whether a line holds a cell with a number to the right of something."""
    segments = line.segments
    if len(segments) < 2 or (_BULLET.fullmatch(segments[0].text) and not segments[0].numeric):
        return False
    if len(segments) == 2 and _BULLET.fullmatch(segments[0].text) and not segments[1].numeric:
        return False
    if len(segments) > 2 and all(len(segment.text) <= 60 for segment in segments):
        return True  # a table of words
    return any(segment.numeric or _YEAR.fullmatch(segment.text) for segment in segments[1:])


def find_tables(lines: Sequence[Line], width: float) -> list[tuple[int, int]]:
    """Index ranges [start, end) of tables among the lines of a page; `width` is that of its text."""
    out: list[tuple[int, int]] = []
    rows_at = _rows(lines)
    position = 0
    while position < len(lines):
        if position not in rows_at:
            position += 1
            continue
        end, rows = position + 1, 1
        while end < len(lines):
            ahead = _next_row(lines, rows_at, end, width)
            if ahead is None:
                break
            end, rows = ahead + 1, rows + 1
        start = _header_start(lines, position, out[-1][1] if out else 0, width)
        cells = max(len(line.segments) for line in lines[position:end])
        if rows >= 2 or (start < position and cells >= 3):
            out.append((start, end))
        position = end
    return out


def _rows(lines: Sequence[Line]) -> set[int]:
    """Indices of rows: lines with numbers or many cells, and runs of three lines or more in two aligned columns."""
    out = {index for index, line in enumerate(lines) if is_row(line)}
    run: list[int] = []
    for index, line in enumerate(lines):
        pair = (
            len(line.segments) == 2
            and len(line.segments[0].text) <= 60
            and not _BULLET.fullmatch(line.segments[0].text)
        )
        aligned = pair and (not run or abs(line.segments[1].x0 - lines[run[-1]].segments[1].x0) < 3)
        run = [*run, index] if aligned else [index] if pair else []
        if len(run) >= 3:
            out.update(run)
    return out


def _next_row(lines: Sequence[Line], rows_at: set[int], start: int, width: float) -> int | None:
    """The next row of the same table: label lines and cells of text may come between, prose may not."""
    for ahead in range(start, min(start + 6, len(lines))):
        line, before = lines[ahead], lines[ahead - 1]
        gap = line.top - before.bottom
        if gap > 3.2 * line.height or gap < -3 * line.height:
            return None
        if ((not _has_number(line) and len(line.segments) > 1) or _is_years(line)) and gap > 0.9 * line.height:
            return None  # the heads of another table
        if ahead in rows_at:
            return ahead
        if len(line.segments) == 1 and _is_prose(line, width, gap) and not _is_label(lines, ahead, gap):
            return None
    return None


def _has_number(line: Line) -> bool:
    return any(segment.numeric for segment in line.segments)


def _is_years(line: Line) -> bool:
    filled = [s for s in line.segments if s.numeric or _YEAR.fullmatch(s.text)]
    return bool(filled) and all(_YEAR.fullmatch(s.text) for s in filled)


def _is_prose(line: Line, width: float, gap: float) -> bool:
    text = line.text
    introduces = text.endswith(":") and gap > 0.9 * line.height
    sentence = len(text.split()) > 6 and (text.endswith(".") or introduces)
    return line.x1 - line.x0 > 0.62 * width or sentence or text[:1] == "•"


def _is_label(lines: Sequence[Line], position: int, gap: float) -> bool:
    """Whether a wide line is the first half of a row's label: its numbers follow closely."""
    line = lines[position]
    following = lines[position + 1 : position + 3]
    steps = [a.top - b.bottom for a, b in zip(following, lines[position:], strict=False)]
    rows = [is_row(other) for other in following]
    tight = all(step < 0.5 * line.height for step in steps[: rows.index(True) + 1]) if any(rows) else False
    return tight and gap < 0.8 * line.height and not line.text.endswith((".", ":", ";"))


def _header_start(lines: Sequence[Line], first: int, floor: int, width: float) -> int:
    """How far up the heads of the columns reach: lines that stand over the columns, not over the labels alone."""
    edge = min(segment.x0 for segment in lines[first].segments[1:])
    start = first
    for position in range(first - 1, max(floor, first - 6) - 1, -1):
        line = lines[position]
        below = lines[position + 1]
        if below.top - line.bottom > 1.6 * line.height or (
            line.x1 - line.x0 > 0.97 * width and len(line.segments) == 1
        ):
            break
        over = [segment for segment in line.segments if segment.x1 > edge - 20]
        if not over or (len(line.segments) == 1 and line.x0 < edge - 60):
            break
        start = position
    return start


def table_rows(lines: Sequence[Line]) -> list[list[str]]:
    """The cells of a table's lines, the head's lines folded into one row; every row has the same width."""
    columns = _column_spans(lines)
    left = min(line.x0 for line in lines)
    grid = [_cells(line, columns, left) for line in lines]
    rows = _join_labels(grid, lines)
    head = _head_rows(rows)
    merged = [" ".join(filter(None, (row[column] for row in rows[:head]))) for column in range(len(columns) + 1)]
    return [merged, *rows[head:]]


def _head_rows(rows: list[list[str]]) -> int:
    """How many rows at the top head the columns: years, or words over the columns, with a label in the last at most."""
    for count, row in enumerate(rows[:6]):
        filled = [cell for cell in row[1:] if cell]
        years = bool(filled) and all(_YEAR.fullmatch(cell) for cell in filled)
        words = bool(filled) and all(_YEAR.fullmatch(cell) or not NUMBER.fullmatch(cell) for cell in filled)
        if not words:
            return count
        if row[0] and not years:
            return count + 1 if count + 1 < len(rows) else count
    return 0 if len(rows) <= 6 else 1


def _column_spans(lines: Sequence[Line]) -> list[tuple[float, float]]:
    """Where the columns beside the labels lie, from the cells that hold numbers, then those that hold text."""
    # Years head columns; being centred, they would open columns of their own.
    amounts = [line for line in lines if is_row(line) and not _is_years(line)] or [
        line for line in lines if is_row(line)
    ]
    numbers = [s for line in amounts for s in line.segments[1:] if s.numeric]
    numbers += [
        line.segments[0]
        for line in amounts
        if all(s.numeric for s in line.segments) and line.x0 > min(other.x0 for other in lines) + 60
    ]
    spans = _union([(_core(segment), segment.x1) for segment in numbers])
    texts = [s for line in lines for s in line.segments[1:] if not s.numeric]
    for segment in sorted(texts, key=lambda s: s.x1 - s.x0):
        if not any(min(segment.x1, b) - max(segment.x0, a) > -2 for a, b in spans):
            spans.append((segment.x0, segment.x1))
    return sorted(spans)


def _core(segment: Segment) -> float:
    """The left edge of the number itself: a currency sign may stand far from it, over the column before."""
    digits = re.sub(r"^[(\s]*[$€£¥]\s*", "", segment.text)
    share = len(digits) / max(1, len(segment.text))
    return max(segment.x0, segment.x1 - 7.0 * len(digits)) if share < 1 else segment.x0


def _union(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    out: list[tuple[float, float]] = []
    for a, b in sorted(spans):
        if out and a < out[-1][1] + 1:
            out[-1] = (out[-1][0], max(out[-1][1], b))
        else:
            out.append((a, b))
    return out


def _cells(line: Line, columns: list[tuple[float, float]], left: float) -> list[str]:
    cells = [""] * (len(columns) + 1)
    first = columns[0][0] if columns else 0.0
    edge = left + 0.6 * (first - left)  # what begins further to the right heads a column, though it may overhang it
    for position, segment in enumerate(line.segments):
        label = segment.x0 < min(first - 4, edge) and position == 0 and (not segment.numeric or segment.x1 < first)
        column = 0 if label else 1 + _nearest(segment, columns)
        cells[column] = f"{cells[column]} {segment.text}".strip()
    return cells


def _nearest(segment: Segment, columns: list[tuple[float, float]]) -> int:
    middle = (segment.x0 + segment.x1) / 2

    def distance(column: int) -> tuple[float, float]:
        a, b = columns[column]
        shared = min(segment.x1, b) - max(_core(segment) if segment.numeric else segment.x0, a)
        return (-shared if segment.numeric or shared <= 0 else -1.0, abs((a + b) / 2 - middle))

    return min(range(len(columns)), key=distance)


def _join_labels(grid: list[list[str]], lines: Sequence[Line]) -> list[list[str]]:
    """A label of two lines becomes one where the second begins in lower case or the first ends in mid-phrase."""
    out: list[list[str]] = []
    for position, row in enumerate(grid):
        if out and row[0] and position:
            before = out[-1]
            close = lines[position].top - lines[position - 1].bottom < 0.6 * lines[position].height
            continues = row[0][0].islower() or before[0].endswith(
                (",", "-", " and", " of", " to", " in", " for", " the")
            )
            if close and continues and not any(before[1:]) and before[0] and not before[0].endswith(":"):
                out[-1] = [f"{before[0]} {row[0]}", *row[1:]]
                continue
            if close and row[0][0].islower() and not any(row[1:]) and before[0] and not before[0].endswith(":"):
                out[-1] = [f"{before[0]} {row[0]}", *before[1:]]
                continue
        out.append(row)
    return out
