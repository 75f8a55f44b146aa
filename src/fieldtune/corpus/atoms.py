"""Sections to atoms: the sentences and table rows that passages are packed from, by character offset."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fieldtune.corpus.outline import starts_item
from fieldtune.corpus.sections import Section
from fieldtune.corpus.segments import Segment

_CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff]")
_INTRODUCES = re.compile("[:：]\\s*$")
_TABLE_CAPTION = re.compile(
    r"[:：]\s*$|\b(?:table|tables|schedule|exhibit|as follows)\b|^表\s*\d|下表|如下|单位[:：]", re.IGNORECASE
)
_SEPARATOR_ROW = re.compile(r"\s*\|?(?:\s*:?-+:?\s*\|)+(?:\s*:?-+:?\s*)?$")
# Best places to cut a sentence that is too long, in order: between clauses, between phrases, between words.
_CUTS = (re.compile("[;；]\\s*"), re.compile("[,，、](?!\\d)\\s*"), re.compile("\\s+\\|?\\s*"))


@dataclass(slots=True)
class Atom:
    """A sentence, table row or piece of one: `cleaned[start:end]`, not divided further."""

    start: int
    end: int
    page: int | None
    tokens: int = 0
    joined: bool = False
    """Belongs to what follows (a deep heading, the sentence before a list): no passage ends with it by choice."""
    groups: tuple[int, ...] = ()
    """Numbers, within its run, of the lists, list items and paragraphs that are kept together where they fit."""
    broken: bool = False
    """Begins in the middle of a sentence or row."""


@dataclass(slots=True)
class Run:
    """Consecutive atoms of one section that are packed together: running text, or one table."""

    atoms: list[Atom]
    is_table: bool = False
    overlaps: bool = False
    header: tuple[int, int] | None = None
    """Of a table: the span of its header rows, repeated where it is split."""
    rows: list[Atom] = field(default_factory=list)
    """Of a table: its atoms in case it does not fit whole."""


def runs(cleaned: str, section: Section) -> list[Run]:
    """Divide a section at its tables."""
    out: list[Run] = []
    text: list[Segment] = []
    for item in [*section.items, None]:
        if item is not None and item.kind != "table":
            text.append(item)
            continue
        if text:
            out.append(Run(list(_text_atoms(cleaned, text, section.is_article)), overlaps=not section.is_article))
            text = []
        if item is not None:
            out.append(_table(cleaned, item))
    return out


def announces_table(sentence: str) -> bool:
    """Whether a sentence reads as the caption of the table below it."""
    return len(sentence) <= 400 and _TABLE_CAPTION.search(sentence) is not None


def _text_atoms(cleaned: str, items: Sequence[Segment], is_article: bool) -> Iterator[Atom]:
    number = 0
    listing: int | None = None  # the group of the list being read, with the sentence that introduces it
    for position, item in enumerate(items):
        following = items[position + 1] if position + 1 < len(items) else None
        spans = (
            list(sentence_spans(cleaned, item.start, item.end)) if item.kind != "heading" else [(item.start, item.end)]
        )
        in_list = _is_item(cleaned, item)
        before_list = following is not None and _is_item(cleaned, following)
        introduces = before_list and not in_list and _INTRODUCES.search(cleaned[item.start : item.end]) is not None
        if introduces or (in_list and listing is None):
            number += 1
            opened: int | None = number
        else:
            opened = listing if in_list else None
        number += 1
        own = number if in_list or is_article else None
        for index, (start, end) in enumerate(spans):
            last = index == len(spans) - 1
            in_group = opened is not None and (in_list or last)
            groups = tuple(g for g in (opened if in_group else None, own) if g is not None)
            # A page or a PDF's line break can part a sentence; its halves are kept together where they fit.
            parted = last and following is not None and _goes_on(cleaned, item, following)
            joined = item.kind == "heading" or (introduces and last) or parted
            yield Atom(start, end, item.page, joined=joined and following is not None, groups=groups)
        listing = opened


def _goes_on(cleaned: str, item: Segment, following: Segment) -> bool:
    return cleaned[item.end - 1].isalnum() and cleaned[following.start].islower() and following.kind == item.kind


def _is_item(cleaned: str, item: Segment) -> bool:
    return item.kind == "list_item" or (item.kind == "paragraph" and starts_item(cleaned[item.start : item.start + 12]))


def sentence_spans(cleaned: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Spans of the sentences, without the white space between them."""
    import sentencex

    text = cleaned[start:end]
    chinese = len(_CJK.findall(text)) > 0.2 * len(text)
    position = start
    for sentence in sentencex.segment("zh" if chinese else "en", text):
        found = cleaned.find(sentence, position, end)
        if found < 0:
            continue  # changed by the segmenter: the characters stay with the next sentence
        stop = found + len(sentence)
        yield from _trimmed(cleaned, position, stop)
        position = stop
    yield from _trimmed(cleaned, position, end)


def cut(cleaned: str, atom: Atom, budget: int) -> list[Atom]:
    """Pieces of an atom that is too long, near `budget` tokens each by its own density, at the best borders around.

    Their token counts are still to be taken; an atom of one character is returned as it is.
    """
    length = atom.end - atom.start
    if length < 2:
        return [atom]
    step = max(1, min(length // 2, int(0.9 * length * budget / max(atom.tokens, 1))))
    out: list[Atom] = []
    begin = atom.start
    while begin < atom.end:
        stop = _border(cleaned, begin, min(begin + step, atom.end), atom.end)
        for first, last in _trimmed(cleaned, begin, stop):
            out.append(Atom(first, last, atom.page, 0, False, atom.groups, atom.broken or bool(out)))
        begin = stop
    if out:
        out[-1].joined = atom.joined
    return out


def _border(cleaned: str, begin: int, stop: int, end: int) -> int:
    if end - stop < (stop - begin) // 4:
        return end if end - begin <= stop - begin else (begin + end + 1) // 2
    if stop >= end:
        return end
    earliest = begin + (stop - begin) // 2
    for pattern in _CUTS:
        places = [match.end() for match in pattern.finditer(cleaned, earliest, stop)]
        if places:
            return places[-1]
    while stop > begin + 1 and unicodedata.combining(cleaned[stop]):
        stop -= 1
    return stop


def _trimmed(cleaned: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while start < end and cleaned[start].isspace():
        start += 1
    while end > start and cleaned[end - 1].isspace():
        end -= 1
    if start < end:
        yield start, end


def _table(cleaned: str, item: Segment) -> Run:
    whole = Atom(item.start, item.end, item.page)
    spans = []
    begin = item.start
    for line in cleaned[item.start : item.end].splitlines(keepends=True):
        spans.append((begin, begin + len(line.rstrip("\r\n"))))
        begin += len(line)
    rule = next((i for i, (a, b) in enumerate(spans[:6]) if _SEPARATOR_ROW.match(cleaned[a:b])), None)
    headers = 1 if rule is None else rule + 1
    # Many readers leave Markdown's header row empty and put the real one below it.
    if rule is not None and not any(re.search(r"\w", cleaned[a:b]) for a, b in spans[:headers]):
        headers += 1
    rows = [Atom(first, last, item.page) for a, b in spans for first, last in _trimmed(cleaned, a, b)]
    header = None
    if headers < len(rows):
        header = (rows[0].start, rows[headers - 1].end)
        rows = [Atom(*header, item.page, joined=True), *rows[headers:]]
    return Run([whole], is_table=True, header=header, rows=rows)
