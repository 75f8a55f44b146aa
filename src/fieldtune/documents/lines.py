"""From the words of a PDF page to its lines in reading order: segments, columns, fonts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from fieldtune.documents.clean import is_cjk

_BOLD = re.compile(r"(?i)bold|black|heavy|demi(?!ctor)|-bd\b|,bd\b|simhei|heiti")
_ITALIC = re.compile(r"(?i)italic|oblique")
# What stands in a number cell; a currency sign, bracket or percent sign joins the number beside it.
NUMBER = re.compile(
    r"(?:[(\[]?\s*(?:[$€£¥₹]|US\$|C\$|A\$|HK\$|RMB|USD|EUR|GBP|CHF)?\s*[(\[]?\s*[+\-\u2212\u2013~<>]?\s*(?:[$€£¥])?\s*"
    r"(?:\d[\d,.\u00a0']*|\.\d+)\s*(?:%|x|bps|pts?\.?|pp|bn|m|nm)?\s*[)\]]?\s*%?(?:\s*\(?[a-z*†‡]\)?)?"
    r"|[-\u2013\u2014\u2212]+\s*%?|N/?A|N/?M|n/?[am]|nil|\*+)\s*"
)
_OPENS = re.compile(r"[(\[]?\s*(?:[$€£¥₹]|US\$|HK\$|RMB|USD|EUR|GBP|CHF)\s*[(\[]?|[(\[]")
_CLOSES = re.compile(r"[)\]]\s*%?|%\s*[)\]]?|pts?\.?|bps|\)%")


@dataclass(frozen=True, slots=True)
class Word:
    """A word's box, in points from the page's top left."""

    text: str
    x0: float
    x1: float
    top: float
    bottom: float
    font: str = ""

    @property
    def height(self) -> float:
        return self.bottom - self.top


@dataclass(frozen=True, slots=True)
class Segment:
    """Words of one line without a wide gap between: the whole line of a paragraph, or one cell of a table."""

    text: str
    x0: float
    x1: float

    @property
    def numeric(self) -> bool:
        return NUMBER.fullmatch(self.text) is not None


@dataclass(frozen=True, slots=True)
class Line:
    segments: tuple[Segment, ...]
    top: float
    bottom: float
    height: float
    """Height of its largest words, which stands for the font size."""
    bold: bool = False
    italic: bool = False

    @property
    def x0(self) -> float:
        return self.segments[0].x0

    @property
    def x1(self) -> float:
        return max(segment.x1 for segment in self.segments)

    @property
    def text(self) -> str:
        return " ".join(segment.text for segment in self.segments)


def page_lines(words: Iterable[Word]) -> list[Line]:
    """The lines of a page in reading order, two columns read one after the other."""
    rows = _rows(sorted(words, key=lambda word: (word.top + word.bottom, word.x0)))
    lines = [line_of(row) for row in rows]
    gutter = _gutter(lines)
    return lines if gutter is None else _columns(rows, gutter)


def line_of(words: list[Word]) -> Line:
    """One line out of words that stand beside each other, sorted from left to right."""
    heights = sorted(word.height for word in words)
    height = heights[len(heights) // 2] if len(heights) > 2 else heights[-1]
    letters = sum(len(word.text) for word in words)
    bold = sum(len(word.text) for word in words if _BOLD.search(word.font)) > 0.8 * letters
    italic = sum(len(word.text) for word in words if _ITALIC.search(word.font)) > 0.8 * letters
    segments = _merge_signs(_segments(words, height))
    return Line(tuple(segments), min(w.top for w in words), max(w.bottom for w in words), height, bold, italic)


def _rows(words: list[Word]) -> list[list[Word]]:
    """Words whose boxes overlap in height by half of the smaller one stand on one line, superscripts too."""
    rows: list[list[Word]] = []
    spans: list[tuple[float, float]] = []
    for word in words:
        for back in range(1, min(6, len(rows)) + 1):
            top, bottom = spans[-back]
            shared = min(bottom, word.bottom) - max(top, word.top)
            if shared > 0.5 * min(word.height, bottom - top) and not _collides(word, rows[-back]):
                rows[-back].append(word)
                if word.height > bottom - top:
                    spans[-back] = (word.top, word.bottom)
                break
        else:
            rows.append([word])
            spans.append((word.top, word.bottom))
    for row in rows:
        row.sort(key=lambda word: word.x0)
    order = sorted(range(len(rows)), key=lambda i: (spans[i][0] + spans[i][1], rows[i][0].x0))
    return [rows[i] for i in order]


def _collides(word: Word, row: list[Word]) -> bool:
    """Whether the word would print over a word of the row: then it belongs to another line."""
    for other in row:
        shared = min(word.x1, other.x1) - max(word.x0, other.x0)
        if (
            shared > 0.5 * min(word.x1 - word.x0, other.x1 - other.x0)
            and abs(word.top - other.top) > 0.25 * other.height
        ):
            return True
    return False


def _segments(words: list[Word], height: float) -> list[Segment]:
    groups: list[list[Word]] = []
    for word in words:
        if groups:
            before = groups[-1][-1]
            gap = word.x0 - before.x1
            number = NUMBER.fullmatch(before.text) is not None or _CLOSES.fullmatch(before.text) is not None
            both_numbers = number and (NUMBER.fullmatch(word.text) or _OPENS.fullmatch(word.text))
            # Two numbers beside each other are two cells; Chinese sets titles with spaces of a full character.
            chinese = is_cjk(word.text[0]) and is_cjk(before.text[-1])
            if gap <= height * (0.45 if both_numbers else 2.2 if chinese else 1.1):
                groups[-1].append(word)
                continue
        groups.append([word])
    return [Segment(_spaced(group), group[0].x0, group[-1].x1) for group in groups]


def _spaced(words: list[Word]) -> str:
    out = words[0].text
    for before, word in itertools.pairwise(words):
        gap = word.x0 - before.x1
        tight = gap < 0.08 * min(word.height, before.height)
        raised = word.height < 0.8 * before.height or before.height < 0.8 * word.height
        ends = before.text[-1], word.text[0]
        chinese = all(map(is_cjk, ends)) and gap < 0.5 * word.height
        # Chinese quotation marks and dashes are as wide as a character, their ink is not.
        chinese |= any(map(is_cjk, ends)) and any(end in "“”‘’—…" for end in ends)
        # A word that touches the one before it is its ordinal ending or its other half: "53" "rd".
        bracket = word.text[0] in ")]" or before.text[-1] in "(["
        glued = bracket or (tight and raised and before.text[-1].isdigit() and word.text.isalpha())
        # "67" ".5": digits of one number, set apart by kerning.
        decimal = (
            before.text[-1].isdigit() and word.text[0] in ".," and word.text[1:2].isdigit() and gap < 0.4 * word.height
        )
        out += word.text if glued or chinese or decimal else f" {word.text}"
    return out


def _merge_signs(segments: list[Segment]) -> list[Segment]:
    """Join "$", "(" with the number after them and ")", "%" with the number before them."""
    out: list[Segment] = []
    waiting: Segment | None = None
    for segment in segments:
        if waiting is not None:
            if segment.numeric:
                space = "" if waiting.text.endswith("(") else " "
                segment = Segment(f"{waiting.text}{space}{segment.text}", waiting.x0, segment.x1)
            else:
                out.append(waiting)
            waiting = None
        if _OPENS.fullmatch(segment.text):
            waiting = segment
        elif out and _CLOSES.fullmatch(segment.text) and out[-1].numeric and segment.x0 - out[-1].x1 < 30:
            last = out[-1]
            space = "" if segment.text[0] in ")]" else " "
            out[-1] = Segment(f"{last.text}{space}{segment.text}", last.x0, segment.x1)
        else:
            out.append(segment)
    return [*out, waiting] if waiting is not None else out


def _gutter(lines: list[Line]) -> float | None:
    """The middle of the gap between two columns of running text, or None for a page in one column."""
    gaps = []
    for line in lines:
        # Two columns' lines stand side by side at one height, or nearly: both sides are prose.
        prose = [s for s in line.segments if len(s.text) >= 20 and not s.numeric]
        if len(line.segments) == 2 and len(prose) == 2:
            gaps.append((line.segments[0].x1, line.segments[1].x0))
    if len(gaps) < 8 or len(gaps) < 0.3 * len(lines):
        return None
    left, right = median(a for a, _ in gaps), median(b for _, b in gaps)
    # Justified columns end at one edge; the right column always begins at one.
    starts = sum(abs(b - right) < 12 for _, b in gaps)
    middle = (max(a for a, b in gaps if abs(b - right) < 12) + right) / 2 if starts else 0.0
    return middle if starts > 0.75 * len(gaps) and right > left and middle < right else None


def _columns(rows: list[list[Word]], gutter: float) -> list[Line]:
    """Bands between lines that cross the gutter: the left column's lines first, then the right one's."""
    out: list[Line] = []
    left: list[Line] = []
    right: list[Line] = []
    for row in rows:
        if any(word.x0 < gutter < word.x1 for word in row) or _spans(row, gutter):
            out += left + right + [line_of(row)]
            left, right = [], []
            continue
        sides = [word for word in row if word.x1 <= gutter], [word for word in row if word.x0 >= gutter]
        left += [line_of(sides[0])] if sides[0] else []
        right += [line_of(sides[1])] if sides[1] else []
    return out + left + right


def _spans(row: list[Word], gutter: float) -> bool:
    """Whether a line runs over the gutter with a mere word space there."""
    before = [word for word in row if word.x1 <= gutter]
    after = [word for word in row if word.x0 >= gutter]
    return bool(before and after) and after[0].x0 - before[-1].x1 < 0.6 * after[0].height
