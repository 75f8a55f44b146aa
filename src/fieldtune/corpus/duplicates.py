"""Which passages say the same, and which only look alike: one of each kind is kept, the others remembered."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fieldtune.corpus.near import near_duplicate_pairs
from fieldtune.corpus.shingling import Shingles, shingle_arrays, words
from fieldtune.errors import InputError
from fieldtune.types import Passage
from fieldtune.workspace import read_jsonl, write_jsonl

_SELF_CONTAINED = (
    12  # words or Chinese characters; a shorter text ("Not applicable.") means what its title makes it mean
)
_COPY = 0.9  # share of a document's characters that another document has too, from which it is a copy
_DIGEST = 16
_SELF, _TRAVELS, _READY = 1, 2, 4
_TOGETHER, _REREAD = 512, 4_096
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


class Seen:
    """The passages of a corpus, taken one by one in reading order; then which of them repeat an earlier one.

    Kept of each are numbers that stand for its text, titles and figures, some 80 bytes; no text.
    """

    def __init__(self) -> None:
        self._texts = bytearray()
        self._documents, self._lengths = array("L"), array("L")
        self._titles, self._below, self._numbers, self._in, self._years, self._figures = (array("q") for _ in range(6))
        self._flags = array("B")
        self._last: tuple[str, _Shelf] = ("", _Shelf.of(""))

    def __len__(self) -> int:
        return len(self._flags)

    def add(self, passage: Passage, origin: Origin) -> None:
        if self._last[0] != origin.document_title:
            self._last = (origin.document_title, _Shelf.of(origin.document_title))
        shelf = self._last[1]
        text = compared(passage.title, passage.text, origin.ready)
        title = _folded(passage.title)
        below = title.replace(shelf.title, "", 1) if shelf.title else title
        self._texts += hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST).digest()
        self._documents.append(origin.document)
        self._lengths.append(len(text))
        self._figures.append(hash(decisive(text)))
        self._titles.append(hash(title))
        self._below.append(hash(below))
        self._numbers.append(hash(decisive(below)))
        self._in.append(shelf.name)
        self._years.append(shelf.years)
        self_contained = len(words(text)) >= _SELF_CONTAINED
        may_travel = self_contained and passage.metadata.get("kind") != "article"
        self._flags.append(self_contained * _SELF + may_travel * _TRAVELS + origin.ready * _READY)

    def duplicates(self, text_of: Callable[[int], str], threshold: float) -> list[Duplicate]:
        """Pair each later passage with the first kept one it repeats; `text_of` gives a passage's `compared` text.

        Exact: the texts are equal but for white space, case and width, and
          - the titles are equal too, or
          - neither is a statute article or clause, the text is long enough to stand alone, and the documents' titles
            name the same years; or
          - one document is a copy of the other (nine tenths of its characters) and the headings are equal.
        Near: the Jaccard similarity of word 3-shingles reaches the threshold, all numbers, dates, negations and
        comparing words are the same in the same order, the text can stand alone, and
          - both are in the same document or under the same document title, with the same numbers in their headings, or
          - neither is an article, the titles name the same years, and the similarity reaches half of the way from the
            threshold to 1.
        So a national law and a local rule worded alike, the same table of another year, and "$5,363" beside "$4,869"
        all stay; the same prose pasted into two documents does not. A passage is compared with kept ones only:
        duplicates do not chain.
        """
        if not len(self):
            return []
        digests = np.frombuffer(bytes(self._texts), np.dtype((np.void, _DIGEST)))
        _, firsts, same, counts = np.unique(digests, return_index=True, return_inverse=True, return_counts=True)
        of = firsts[same]  # a text goes by the first passage that has it
        alike = self._alike(np.sort(firsts), text_of, threshold)
        copies = self._copies(of, np.flatnonzero(counts[same] > 1))
        # A text that is the only one of its kind is nobody's duplicate.
        has_like = np.zeros(len(self), np.bool_)
        has_like[list(alike)] = True
        first: dict[tuple[object, ...], int] = {}
        out: list[Duplicate] = []
        for index in np.flatnonzero((counts[same] > 1) | has_like[of]).tolist():
            text = int(of[index])
            known = next((first[key] for key in self._exact(index, text, copies) if key in first), None)
            if known is not None:
                out.append(Duplicate(known, index, "exact"))
                continue
            candidates = (
                key for other, strict in alike.get(text, ()) for key in self._near(index, other, copies, strict)
            )
            known = min((first[key] for key in candidates if key in first), default=None)
            if known is not None:
                out.append(Duplicate(known, index, "near"))
                if not self._flags[index] & _READY:
                    continue
            for key in (*self._exact(index, text, copies), *self._near(index, text, copies, True)):
                first.setdefault(key, index)
        return out

    def _exact(self, index: int, text: int, copies: Mapping[int, int]) -> Iterator[tuple[object, ...]]:
        """The circumstances under which two equal texts count as one, as keys to look up."""
        document = self._documents[index]
        yield "title", text, self._titles[index]
        yield "copy", text, copies.get(document, document), self._below[index]
        if self._flags[index] & _TRAVELS:
            yield "prose", text, self._years[index]

    def _near(self, index: int, text: int, copies: Mapping[int, int], strict: bool) -> Iterator[tuple[object, ...]]:
        """The same of two like texts."""
        if self._flags[index] & _SELF:
            document = self._documents[index]
            yield "same document", text, copies.get(document, document), self._numbers[index]
            if self._in[index]:
                yield "same title", text, self._in[index], self._numbers[index]
            if strict and self._flags[index] & _TRAVELS:
                yield "near prose", text, self._years[index]

    def _alike(
        self, texts: NDArray[np.int64], text_of: Callable[[int], str], threshold: float
    ) -> dict[int, list[tuple[int, bool]]]:
        """Text -> the texts near it, and whether near by the stricter rule."""
        figures = np.frombuffer(self._figures, np.int64)
        _, kind, counts = np.unique(figures[texts], return_inverse=True, return_counts=True)
        # Only texts with the same figures can match; the others need no shingles.
        chosen = texts[counts[kind] > 1].tolist()
        strict = 1 - (1 - threshold) / 2
        out: defaultdict[int, list[tuple[int, bool]]] = defaultdict(list)
        for a, b, similarity in near_duplicate_pairs(_Reread(chosen, text_of), threshold, 0):
            one, other = chosen[a], chosen[b]
            if figures[one] == figures[other]:
                out[one].append((other, similarity >= strict))
                out[other].append((one, similarity >= strict))
        return out

    def _copies(self, of: NDArray[np.int64], repeated: NDArray[np.int64]) -> dict[int, int]:
        """Document -> the earlier document it is a copy of, years in the titles not contradicting.

        `repeated` are the passages whose text others have too; the rest makes no document a copy.
        """
        documents = np.frombuffer(self._documents, np.dtype("L"))
        sizes = np.bincount(documents.astype(np.int64), np.frombuffer(self._lengths, np.dtype("L")))
        members: defaultdict[int, list[int]] = defaultdict(list)
        for index in repeated.tolist():
            members[self._documents[index]].append(index)
        shelves: defaultdict[int, list[int]] = defaultdict(list)
        years = {document: self._years[parts[0]] for document, parts in members.items()}
        out: dict[int, int] = {}
        for document, parts in members.items():
            shared: Counter[int] = Counter()
            for index in parts:
                for earlier in shelves[int(of[index])][:50]:
                    shared[earlier] += self._lengths[index]
            # A collection of ready passages is many documents; each is judged by its own text alone.
            for earlier, size in sorted(shared.items()):
                agree = not years[document] or not years[earlier] or years[document] == years[earlier]
                if agree and size >= _COPY * max(sizes[document], sizes[earlier]):
                    out[document] = out.get(earlier, earlier)
                    break
            else:
                for text in dict.fromkeys(int(of[index]) for index in parts):
                    shelves[text].append(document)
        return out


@dataclass(frozen=True, slots=True)
class _Shelf:
    """What a document's title says, folded, and numbers that stand for it; 0 for nothing."""

    title: str
    name: int
    years: int

    @classmethod
    def of(cls, document_title: str) -> _Shelf:
        title = _folded(document_title)
        years = tuple(sorted(set(_YEAR.findall(title))))
        return cls(title, hash(title) if title else 0, hash(years) if years else 0)


class _Reread(Sequence[Shingles]):
    """Shingles of passages, made from their texts each time they are asked for, the latest kept."""

    def __init__(self, chosen: Sequence[int], text_of: Callable[[int], str]) -> None:
        self._chosen, self._text_of = chosen, text_of
        self._again = lru_cache(_REREAD)(lambda place: next(shingle_arrays([text_of(chosen[place])])))

    def __len__(self) -> int:
        return len(self._chosen)

    def __iter__(self) -> Iterator[Shingles]:
        for begin in range(0, len(self), _TOGETHER):
            yield from shingle_arrays([self._text_of(index) for index in self._chosen[begin : begin + _TOGETHER]])

    def __getitem__(self, place: Any) -> Any:
        return self._again(place)


def compared(title: str, text: str, ready: bool) -> str:
    """What is compared of a passage; one given by the user may say half of it in its title (a code and its name)."""
    return _folded(f"{title}\n{text}" if ready and title else text)


def decisive(text: str) -> tuple[str, ...]:
    """The marks of a folded text that turn it into another rule or figure, in order: numbers, negations, dates."""
    return tuple(mark.replace(",", "").rstrip(".") for mark in _DECISIVE.findall(text))


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def write_duplicates(path: Path, ids: Sequence[str], found: Iterable[Duplicate]) -> None:
    """One line per kept passage and kind: {"kept": id, "duplicates": [ids], "kind": "exact" | "near"}."""
    groups: dict[tuple[int, str], list[str]] = {}
    for one in found:
        groups.setdefault((one.kept, one.kind), []).append(ids[one.other])
    write_jsonl(
        path,
        ({"kept": ids[kept], "duplicates": names, "kind": kind} for (kept, kind), names in sorted(groups.items())),
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
