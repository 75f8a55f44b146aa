"""Running headers, footers and page numbers: lines that come back on page after page."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from fieldtune.documents.lines import Line

_TOP, _BOTTOM = 4, 3
"""How many lines at a page's head and foot may be running lines."""
_LINK = re.compile(r"(?i)(?:back to )?table of contents|index to (?:consolidated )?financial statements|目\s*录")
_BARE = re.compile(
    r"(?i)(?:[-\u2013\u2014|~·]\s*)?(?:page\s+)?([A-Z]{1,2}-)?(\d{1,4}|[ivxlc]{1,7})(?:\s*(?:of|/)\s*\d{1,4})?(?:\s*[-\u2013\u2014|~·])?"
)
_BARE_ZH = re.compile(r"第\s*(\d{1,4})\s*页(?:\s*[,，/]?\s*共\s*\d{1,4}\s*页)?|(\d{1,4})\s*/\s*\d{1,4}")
_CERTAIN = re.compile(
    r"(?i)page\s+\d{1,4}(?:\s*(?:of|/)\s*\d{1,4})?|第\s*\d{1,4}\s*页(?:\s*[,，/]?\s*共\s*\d{1,4}\s*页)?"
)
_ROMAN = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}


def running_lines(pages: Sequence[Sequence[Line]]) -> list[set[int]]:
    """For each page the indices of its running lines.

    A line is one when its exact text, or its text with a number that grows with the pages, stands at the head or foot
    of three pages or more. The first of a repeated header that reads as a title is kept, for it may be the heading.
    """
    least = max(3, round(0.02 * len(pages)))
    edges = [_edges(lines) for lines in pages]
    where: dict[str, list[tuple[int, int]]] = defaultdict(list)
    numbered: Counter[tuple[str, int]] = Counter()
    for page, found in enumerate(edges):
        for index in found:
            text = _key(pages[page][index])
            if not _is_data(pages[page][index]):
                where[text].append((page, index))
            numbered.update(set(_with_number(text, page)))
    out: list[set[int]] = [set() for _ in pages]
    for text, places in where.items():
        places = _same_height(places, pages, 2 if _LINK.fullmatch(text) else least)
        if places:
            # Kept where it first stands, were it not for links and for what stands at the foot.
            at_top = sum(index < _TOP for _, index in places) > 0.5 * len(places)
            keep_first = at_top and not _LINK.fullmatch(text) and places[0][0] > 0
            for page, index in places[1:] if keep_first else places:
                out[page].add(index)
    pairs = max(2, least - 1) if len(pages) < 8 else least
    for page, found in enumerate(edges):
        for index in found:
            certain = _CERTAIN.fullmatch(_key(pages[page][index]))
            if certain or any(numbered[key] >= pairs for key in _with_number(_key(pages[page][index]), page)):
                out[page].add(index)
    return [_from_the_edges(chosen, lines) for chosen, lines in zip(out, pages, strict=True)]


def _from_the_edges(chosen: set[int], lines: Sequence[Line]) -> set[int]:
    """Only what lies outside of everything else: a sentence that begins many pages stands under their headings."""
    order = sorted(range(len(lines)), key=lambda i: lines[i].top)
    kept: set[int] = set()
    for way in (order, order[::-1]):
        for index in way:
            if index not in chosen:
                break
            kept.add(index)
    return kept


def _same_height(places: list[tuple[int, int]], pages: Sequence[Sequence[Line]], least: int) -> list[tuple[int, int]]:
    """Those of the places that lie at one height on `least` pages or more; a sentence of the text wanders."""
    heights = Counter(round(pages[page][index].top / 3) for page, index in places)
    near = {height: heights[height - 1] + heights[height] + heights[height + 1] for height in heights}
    return [place for place in places if near[round(pages[place[0]][place[1]].top / 3)] >= least]


def _edges(lines: Sequence[Line]) -> list[int]:
    order = sorted(range(len(lines)), key=lambda i: lines[i].top)
    return sorted({*order[:_TOP], *order[-_BOTTOM:]})


def _key(line: Line) -> str:
    return re.sub(r"\s+", " ", line.text).strip()


def _is_data(line: Line) -> bool:
    """A row of years or amounts may head many pages and is no running line."""
    return all(segment.numeric for segment in line.segments) or sum(s.numeric for s in line.segments) > 1


def _with_number(text: str, page: int) -> list[tuple[str, int]]:
    """(text with its page number left out, number minus page index) for each number that may be the page's."""
    bare = _BARE.fullmatch(text) or _BARE_ZH.fullmatch(text)
    if bare:
        value = next(group for group in reversed(bare.groups()) if group)
        number = int(value) if value.isdigit() else _roman(value.lower())
        return [("bare", number - page)]
    if len(text) > 150:
        return []
    out = []
    for match in re.finditer(r"(?<![\d.,$])\d{1,4}(?![\d.,%])", text):
        if match.start() < 4 or match.end() > len(text) - 4 or re.search(r"(?i)(page|第)\s*$", text[: match.start()]):
            rest = re.sub(r"\d+", "0", text[: match.start()] + "#" + text[match.end() :])
            if any(character.isalpha() for character in rest):
                out.append((rest, int(match.group()) - page))
    return out


def _roman(text: str) -> int:
    values = [_ROMAN[character] for character in text]
    return sum(-v if any(v < later for later in values[i + 1 : i + 2]) else v for i, v in enumerate(values))
