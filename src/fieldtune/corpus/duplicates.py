"""Which passages say the same, and which only look alike: one of each kind is kept, the others remembered."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fieldtune.corpus.near import near_duplicate_pairs
from fieldtune.corpus.shingling import Shingles, shingle_arrays, words
from fieldtune.errors import InputError
from fieldtune.types import Passage
from fieldtune.workspace import read_jsonl, write_jsonl

_SELF_CONTAINED = (
    12  # words or Chinese characters; a shorter text ("Not applicable.") means what its title makes it mean
)
_COPY = 0.9  # share of a document's characters that another document has too, from which it is a copy
_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")
# Words that turn a rule or a figure into another one, however much else is alike.
_DECISIVE = re.compile(
    r"\d+(?:[.,]\d+)*(?:[a-z]\b)?|\([a-z]{1,5}\)|\b[b-hj-rt-z]\b|\b[ivx]{2,5}\b|[〇零一二三四五六七八九十百千万亿两]+|[不非未无禁]|应当|可以|必须|但|除外|以上|以下|上|下|"
    r"\b(?:not|no|nor|never|none|without|except|unless|cannot|shall|must|may|should|will|un\w+|non\w*|"
    r"one|two|three|four|five|six|seven|eight|nine|ten|first|second|third|fourth|more|less|least|most|above|below|"
    r"before|after|increased?|decreased?|higher|lower|gains?|loss(?:es)?|"
    r"january|february|march|april|june|july|august|september|october|november|december|"
    r"monday|tuesday|wednesday|thursday|friday|saturday|sunday)\b|\w+n['’]t\b|[$€£¥%‰§]"
)


@dataclass(frozen=True, slots=True)
class Origin:
    """What the duplicate rules need to know of a passage besides its text."""

    document: int
    """Number of the document in reading order."""
    document_title: str
    ready: bool
    """Given by the user as a passage: recorded when duplicate, never removed."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    kept: int
    other: int
    kind: Literal["exact", "near"]


def find_duplicates(passages: Sequence[Passage], origins: Sequence[Origin], threshold: float) -> list[Duplicate]:
    """Pair each later passage with the first kept one it repeats.

    Exact: the texts are equal but for white space, case and width, and
      - the titles are equal too, or
      - neither is a statute article or clause, the text is long enough to stand alone, and the documents' titles name
        the same years; or
      - one document is a copy of the other (nine tenths of its characters) and the headings are equal.
    Near: the Jaccard similarity of word 3-shingles reaches the threshold, all numbers, dates, negations and comparing
    words are the same in the same order, the text can stand alone, and
      - both are in the same document or under the same document title, with the same numbers in their headings, or
      - neither is an article, the titles name the same years, and the similarity reaches half of the way from the
        threshold to 1.
    So a national law and a local rule worded alike, the same table of another year, and "$5,363" beside "$4,869" all
    stay; the same prose pasted into two documents does not. A passage is compared with kept ones only: duplicates do
    not chain.
    """
    # A passage given by the user may say half of what it says in its title (a code and its name).
    texts = [
        _folded(passage.content if origin.ready else passage.text)
        for passage, origin in zip(passages, origins, strict=True)
    ]
    kinds: dict[str, int] = {}
    classes = [kinds.setdefault(text, len(kinds)) for text in texts]
    unique = list(kinds)
    copies = _copies(texts, origins)
    alike = _alike(unique, threshold)
    first: dict[tuple[object, ...], int] = {}
    out: list[Duplicate] = []
    for index, (passage, origin) in enumerate(zip(passages, origins, strict=True)):
        keys = _Keys(passage, origin, copies, len(words(texts[index])) >= _SELF_CONTAINED)
        known = next((first[key] for key in keys.exact(classes[index]) if key in first), None)
        if known is not None:
            out.append(Duplicate(known, index, "exact"))
            continue
        candidates = (key for other, strict in alike.get(classes[index], ()) for key in keys.near(other, strict))
        known = min((first[key] for key in candidates if key in first), default=None)
        if known is not None:
            out.append(Duplicate(known, index, "near"))
            if not origin.ready:
                continue
        for key in (*keys.exact(classes[index]), *keys.near(classes[index], True)):
            first.setdefault(key, index)
    return out


class _Keys:
    """The circumstances under which two equal or like texts count as one, as keys to look up."""

    def __init__(self, passage: Passage, origin: Origin, copies: Mapping[int, int], self_contained: bool) -> None:
        document = _folded(origin.document_title)
        title = _folded(passage.title)
        self.title = title
        self.document = document
        self.root = copies.get(origin.document, origin.document)
        self.below = title.replace(document, "", 1) if document else title
        self.years = tuple(sorted(set(_YEAR.findall(document))))
        self.may_travel = self_contained and passage.metadata.get("kind") != "article"
        self.self_contained = self_contained

    def exact(self, text: int) -> Iterator[tuple[object, ...]]:
        yield "title", text, self.title
        yield "copy", text, self.root, self.below
        if self.may_travel:
            yield "prose", text, self.years

    def near(self, text: int, strict: bool) -> Iterator[tuple[object, ...]]:
        if self.self_contained:
            numbers = decisive(self.below)
            yield "same document", text, self.root, numbers
            if self.document:
                yield "same title", text, self.document, numbers
            if strict and self.may_travel:
                yield "near prose", text, self.years


def _alike(texts: Sequence[str], threshold: float) -> dict[int, list[tuple[int, bool]]]:
    """Text -> the texts near it, and whether near by the stricter rule."""
    by_figures: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, text in enumerate(texts):
        by_figures[decisive(text)].append(index)
    # Only texts with the same figures can match; the others need no shingles.
    chosen = sorted(index for members in by_figures.values() if len(members) > 1 for index in members)
    figures = {index: number for number, members in enumerate(by_figures.values()) for index in members}
    sets: list[Shingles] = list(shingle_arrays([texts[index] for index in chosen]))
    strict = 1 - (1 - threshold) / 2
    out: defaultdict[int, list[tuple[int, bool]]] = defaultdict(list)
    for a, b, similarity in near_duplicate_pairs(sets, threshold, 0):
        one, other = chosen[a], chosen[b]
        if figures[one] == figures[other]:
            out[one].append((other, similarity >= strict))
            out[other].append((one, similarity >= strict))
    return out


def _copies(texts: Sequence[str], origins: Sequence[Origin]) -> dict[int, int]:
    """Document -> the earlier document it is a copy of, years in the titles not contradicting."""
    shelves: defaultdict[str, list[int]] = defaultdict(list)
    sizes: Counter[int] = Counter()
    years: dict[int, set[str]] = {}
    members: defaultdict[int, list[str]] = defaultdict(list)
    for text, origin in zip(texts, origins, strict=True):
        sizes[origin.document] += len(text)
        years.setdefault(origin.document, set(_YEAR.findall(origin.document_title)))
        members[origin.document].append(text)
    out: dict[int, int] = {}
    for document, parts in members.items():
        shared: Counter[int] = Counter()
        for text in parts:
            for earlier in shelves[text][:50]:
                shared[earlier] += len(text)
        # A collection of ready passages is many documents; each is judged by its own text alone.
        for earlier, size in sorted(shared.items()):
            agree = not years[document] or not years[earlier] or years[document] == years[earlier]
            if agree and size >= _COPY * max(sizes[document], sizes[earlier]):
                out[document] = out.get(earlier, earlier)
                break
        else:
            for text in dict.fromkeys(parts):
                shelves[text].append(document)
    return out


def decisive(text: str) -> tuple[str, ...]:
    """The marks of a folded text that turn it into another rule or figure, in order: numbers, negations, dates."""
    return tuple(mark.replace(",", "").rstrip(".") for mark in _DECISIVE.findall(text))


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def write_duplicates(path: Path, passages: Sequence[Passage], found: Iterable[Duplicate]) -> None:
    """One line per kept passage and kind: {"kept": id, "duplicates": [ids], "kind": "exact" | "near"}."""
    groups: dict[tuple[int, str], list[str]] = {}
    for one in found:
        groups.setdefault((one.kept, one.kind), []).append(passages[one.other].id)
    write_jsonl(
        path,
        ({"kept": passages[kept].id, "duplicates": ids, "kind": kind} for (kept, kind), ids in sorted(groups.items())),
    )


def load_duplicates(path: Path) -> dict[str, list[str]]:
    """Kept id -> ids of the passages it stands for, exact ones first.

    Raises InputError with file and line for a line of another form.
    """
    out: dict[str, list[str]] = {}
    for line, row in read_jsonl(path):
        kept, others = row.get("kept"), row.get("duplicates")
        if not isinstance(kept, str) or not isinstance(others, list) or not all(isinstance(x, str) for x in others):
            raise InputError(
                'expected {"kept": id, "duplicates": [ids]}', "run the corpus stage again", path=path, line=line
            )
        out.setdefault(kept, []).extend(others)
    return out
