"""Blocks out of the lines of PDF pages: headings, paragraphs, list items, tables, footnotes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from fieldtune.documents.clean import is_cjk, join_lines, markdown_table, tidy
from fieldtune.documents.headings import heading_level, looks_like_title, numbered_by
from fieldtune.documents.lines import Line
from fieldtune.documents.tables import find_tables, is_row, table_rows
from fieldtune.types import Block

_BULLET = re.compile("[•●▪◦■□○◆‣·∙\u2043\uf0b7\uf0a7]\\s*|[-\u2013\u2014*o]\\s+(?=\\S)")
_LISTED = re.compile(r"(?:\((?:[a-z]{1,2}|[ivx]{1,5}|\d{1,2})\)|(?:\d{1,2}|[a-z])\))\s+(?=\S)")
_FOOTNOTE = re.compile(r"(?:\(?(?:\d{1,2}|[a-z]|\*{1,3})\)?|[*†‡§①-⑳]{1,3})\s+\S|[*†‡①-⑳]\S")
_END = re.compile("[.!?:;。！？：；][\"'”’)）」』]*$")
Style = tuple[float, bool, bool, bool]
"""Font height, bold, all capitals, italic: what a heading looks like."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is usual in a document: its body text, and the styles that stand out as headings, largest first."""

    height: float
    gap: float
    """Usual white space between two lines of a paragraph."""
    styles: tuple[Style, ...]
    bold_body: bool


def document_look(pages: Sequence[Sequence[Line]]) -> Look:
    sizes: Counter[float] = Counter()
    bold = total = 0
    gaps: list[float] = []
    for lines in pages:
        for before, line in zip([None, *lines], lines, strict=False):
            letters = len(line.text)
            sizes[_round(line.height)] += letters
            bold, total = bold + letters * line.bold, total + letters
            if before is not None and len(line.text) > 40 and -2 < line.top - before.bottom < line.height:
                gaps.append(line.top - before.bottom)
    height = sizes.most_common(1)[0][0] if sizes else 10.0
    look = Look(height, median(gaps) if gaps else 2.0, (), total > 0 and bold > 0.5 * total)
    found: Counter[Style] = Counter()
    for lines in pages:
        found.update(_style(line) for line in lines if _stands_out(line, look) and not is_row(line))
    ranked = sorted(found, key=lambda s: (-s[0], not s[1], not s[2], s[3]))
    return Look(look.height, look.gap, tuple(ranked), look.bold_body)


def page_blocks(lines: Sequence[Line], look: Look, page: int, known: frozenset[str]) -> list[Block]:
    """The blocks of one page in reading order; `known` are the document's words, for hyphens at line ends."""
    if not lines:
        return []
    width = max(line.x1 for line in lines) - min(line.x0 for line in lines)
    out: list[Block] = []
    position = 0
    for start, end in [*find_tables(lines, width), (len(lines), len(lines))]:
        out += _prose(lines[position:start], look, page, known)
        text = markdown_table(table_rows(lines[start:end])) if end > start else ""
        if text:
            out.append(Block("table", text, None, page))
        position = end
    return out


def _prose(lines: Sequence[Line], look: Look, page: int, known: frozenset[str]) -> list[Block]:
    out: list[Block] = []
    held: list[Line] = []
    right = max((line.x1 for line in lines), default=0.0)
    for line in lines:
        if held and _breaks(held, line, look, right):
            out.append(_block(held, look, page, known))
            held = []
        held.append(line)
    if held:
        out.append(_block(held, look, page, known))
    return [block for block in out if block.text]


def _breaks(held: list[Line], line: Line, look: Look, right: float) -> bool:
    """Whether a new block begins with this line."""
    before = held[-1]
    gap = line.top - before.bottom
    text = line.text
    bullet_alone = len(held) == 1 and len(before.text) <= 3 and abs(line.top - before.top) < before.height
    if bullet_alone:
        return False
    if gap > look.gap + 0.3 * line.height or gap < -1.5 * line.height:
        return True
    if _BULLET.match(text) or _LISTED.match(text):
        return True
    if abs(line.height - before.height) > 0.12 * before.height or line.bold != before.bold:
        return True
    outstanding = _stands_out(line, look)
    numbered = len(held) == 1 and heading_level(before.text) is not None
    if heading_level(text) is not None or (numbered and not (outstanding and _style(before) == _style(line))):
        return True
    if _stands_out(before, look) != outstanding or (outstanding and _style(before)[1:] != _style(line)[1:]):
        return True
    short = before.x1 < right - 6 * line.height
    ended = _END.search(before.text) is not None
    if ended and short:
        return True
    indented = line.x0 > min(other.x0 for other in held[-3:]) + 1.2 * line.height
    return indented and ended and not _listed(held)


def _listed(held: list[Line]) -> bool:
    return bool(_BULLET.match(held[0].text) or _LISTED.match(held[0].text))


def _block(held: list[Line], look: Look, page: int, known: frozenset[str]) -> Block:
    texts = [line.text for line in held]
    bullet = _BULLET.match(texts[0])
    text = join_lines(texts, known)
    if bullet and len(text) > bullet.end():
        return Block("list_item", tidy(_BULLET.sub("", text, count=1)), None, page)
    level = _heading(held, text, look)
    if level is not None:
        return Block("heading", text, level, page)
    if held[0].height < 0.93 * look.height and _FOOTNOTE.match(text):
        return Block("footnote", text, None, page)
    return Block("list_item" if _LISTED.match(text) else "paragraph", text, None, page)


def _heading(held: list[Line], text: str, look: Look) -> int | None:
    """Level 1 and 2 by numbering (PART, Item, 第…章); below them the document's heading styles in order of rank."""
    if len(held) > 4 or len(text) > 200 or not any(character.isalpha() for character in text):
        return None
    level = heading_level(text)
    stands_out = all(_stands_out(line, look) for line in held)
    if level is not None and (stands_out or (len(held) == 1 and numbered_by(text))):
        if level <= 2 or not stands_out:
            return level
    elif not stands_out or re.search(r"[,;:]$", text):
        return None
    style = _style(held[0])
    if style not in look.styles:
        return level
    # Fewer levels than styles: what is near in rank is near in level.
    rank = look.styles.index(style)
    numbered = 3 + min(3, rank * 4 // max(4, len(look.styles)))
    return numbered if style[0] <= look.height * 1.35 else min(numbered, 2)


def _stands_out(line: Line, look: Look) -> bool:
    text = line.text
    words = text.split()
    if text[0] == "(" and text[-1] == ")":
        return False  # "(in millions)"
    if len(line.segments) > 2 or len(words) > 22 or not any(c.isalpha() for c in text) or text[-1] in ",;":
        return False
    if line.height > 1.12 * look.height:
        return len(text) > 1
    emphasised = (line.bold and not look.bold_body) or (line.italic and line.height >= 0.95 * look.height)
    if emphasised:
        sentence = text.endswith(".") and len(words) > 6
        chinese = is_cjk(text[0])
        return not sentence and (chinese or line.bold or looks_like_title(text))
    letters = [c for c in text if c.isalpha()]
    capitals = len(letters) > 5 and all(c.isupper() for c in letters) and not any(is_cjk(c) for c in letters)
    return capitals and line.height >= 0.95 * look.height and looks_like_title(text)


def _style(line: Line) -> Style:
    letters = [c for c in line.text if c.isalpha()]
    return _round(line.height), line.bold, bool(letters) and all(c.isupper() for c in letters), line.italic


def _round(height: float) -> float:
    return round(2 * height) / 2
