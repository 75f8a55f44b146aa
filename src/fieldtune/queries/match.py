"""Find a labelled passage that is given as text in the corpus: exactly, or by the grams of characters it shares."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import regex
from numpy.typing import NDArray

from fieldtune.types import Passage

Grams = NDArray[np.uint64]
"""Sorted, without repeats."""

_SIGNS = regex.compile(r"[^\p{L}\p{N}]+")
_MANY_CHARACTERS = 8_000_000
"""A larger corpus is indexed by every fourth gram, which keeps building the index small."""
_ASKED = 160
"""Grams of the labelled text that are looked up to find candidates, the rarest in the corpus first."""
_CANDIDATES = 16
_MOST = 6
"""A text that fits more passages than this says too little, or too much, to label them."""
_SMALLEST_SHARE = 0.12
"""Of the labelled text: what a further passage must add to count as one of those that it spans."""


@dataclass(frozen=True, slots=True)
class Match:
    """Where a text was found; `passages` is empty when it was not, `best` then is what came closest."""

    passages: tuple[str, ...]
    similarity: float
    """Share of the grams of the shorter one that lie in the other, 0 to 1."""
    how: Literal["exact", "part", "contains", "spans", "ambiguous", "missing"]
    best: str = ""


class PassageFinder:
    """Looks up labelled texts in a corpus; `threshold` is the similarity that counts as found.

    Signs, spacing, case and width do not count. Building is linear in the corpus, a look-up takes some milliseconds.
    """

    def __init__(self, passages: Mapping[str, Passage], threshold: float) -> None:
        self._ids = list(passages)
        self._threshold = threshold
        self._exact: dict[str, list[str]] = {}
        self._contents: dict[str, list[str]] = {}
        self._folded: list[str] = []
        for key, passage in passages.items():
            text = fold(passage.text)
            self._folded.append(text)
            self._exact.setdefault(text, []).append(key)
            if passage.title:
                self._contents.setdefault(fold(passage.title) + text, []).append(key)
        self._step = 4 if sum(map(len, self._folded)) > _MANY_CHARACTERS else 1
        self._index: tuple[Grams, NDArray[np.int64], NDArray[np.int32]] | None = None
        self._seen: dict[str, Match] = {}

    def find(self, text: str, title: str = "") -> Match:
        """Where `text` lies in the corpus; the title decides between passages of the same wording."""
        folded = fold(text)
        whole = fold(title) + folded
        if whole not in self._seen:
            self._seen[whole] = self._find(folded, whole)
        return self._seen[whole]

    def _find(self, folded: str, whole: str) -> Match:
        if not folded:
            return Match((), 0.0, "missing")
        found = self._contents.get(whole) or self._exact.get(folded)
        if found:
            return Match(tuple(found), 1.0, "exact") if len(found) <= _MOST else Match((), 1.0, "ambiguous", found[0])
        return self._fuzzy(grams(folded))

    def _fuzzy(self, wanted: Grams) -> Match:
        candidates = self._candidates(wanted)
        shared: dict[int, Grams] = {}
        size: dict[int, int] = {}
        for candidate in candidates:
            its = grams(self._folded[candidate])
            shared[candidate], size[candidate] = np.intersect1d(wanted, its, assume_unique=True), len(its)
        if not shared:
            return Match((), 0.0, "missing")
        inside = {c: len(both) / len(wanted) for c, both in shared.items()}
        best = max(inside, key=lambda c: (inside[c], -size[c], self._ids[c]))
        if inside[best] >= self._threshold:
            # Equal ones are passages that overlap, or repeat a clause: each of them holds the text.
            equal = sorted(c for c in inside if inside[c] >= inside[best] - 0.01)
            if len(equal) > _MOST:
                return Match((), inside[best], "ambiguous", self._ids[best])
            return Match(tuple(self._ids[c] for c in equal), inside[best], "part")
        spanned, share = self._span(wanted, shared)
        if share >= self._threshold:
            if len(spanned) > _MOST:
                return Match((), share, "ambiguous", self._ids[best])
            return Match(tuple(self._ids[c] for c in sorted(spanned)), share, "spans")
        covered = {c: len(shared[c]) / size[c] for c in shared if size[c] >= 20}
        held = sorted(c for c, part in covered.items() if part >= self._threshold)
        # A label that is mostly other text was not made for the one passage that it happens to quote.
        if held and share >= 0.5 and len(held) <= _MOST:
            return Match(tuple(self._ids[c] for c in held), min(covered[c] for c in held), "contains")
        return Match((), inside[best], "missing", self._ids[best])

    def _span(self, wanted: Grams, shared: Mapping[int, Grams]) -> tuple[list[int], float]:
        """The passages that together cover most of the text, greedily, and the share they cover."""
        left, chosen = wanted, list[int]()
        rest = dict(shared)
        while rest:
            best = max(rest, key=lambda c: (len(rest[c]), self._ids[c]))
            if len(rest[best]) < max(8, _SMALLEST_SHARE * len(wanted)):
                break
            chosen.append(best)
            taken = rest.pop(best)
            left = np.setdiff1d(left, taken, assume_unique=True)
            rest = {c: np.intersect1d(left, its, assume_unique=True) for c, its in rest.items()}
        return chosen, 1 - len(left) / len(wanted)

    def _candidates(self, wanted: Grams) -> list[int]:
        """Passages that share most of the text's rare grams."""
        if self._index is None:
            self._index = self._build()
        known, starts, postings = self._index
        if len(known) == 0:
            return []
        asked = wanted[wanted % self._step == 0] if self._step > 1 else wanted
        at = np.minimum(np.searchsorted(known, asked), len(known) - 1)
        at = at[known[at] == asked]
        at = at[np.argsort(starts[at + 1] - starts[at], kind="stable")][:_ASKED]
        if len(at) == 0:
            return []
        found = np.concatenate([postings[starts[i] : starts[i + 1]] for i in at])
        counts = np.bincount(found, minlength=len(self._ids))
        best = np.argsort(-counts, kind="stable")[:_CANDIDATES]
        return [int(index) for index in best if counts[index] > 0]

    def _build(self) -> tuple[Grams, NDArray[np.int64], NDArray[np.int32]]:
        """All grams of the corpus, where the passages of each begin, and the passages."""
        parts = [grams(text) for text in self._folded]
        if self._step > 1:
            parts = [part[part % self._step == 0] for part in parts]
        every = np.concatenate(parts) if parts else np.empty(0, np.uint64)
        owner = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part) for part in parts])
        order = np.argsort(every, kind="stable")
        every = every[order]
        known, first = np.unique(every, return_index=True)
        return known, np.append(first, len(every)), owner[order]


def fold(text: str) -> str:
    """Letters and digits alone, without case and width."""
    folded: str = _SIGNS.sub("", unicodedata.normalize("NFKC", text).casefold())
    return folded


def grams(folded: str) -> Grams:
    """Hashes of the runs of five characters, or of three that end in a Chinese one; a short text is one gram.

    A Chinese character says about as much as a syllable or two, so that runs of both kinds are about equally rare.
    """
    points = np.frombuffer(folded.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    unspaced = (points >= 0x3040) & (points <= 0x9FFF)
    if len(points) < 3 or (len(points) < 5 and not unspaced[2:].any()):
        points = np.pad(points, (0, 5 - min(5, len(points))))
        unspaced = np.pad(unspaced, (0, len(points) - len(unspaced)))
    three = _mix(points, 3)
    chosen = [three[unspaced[2:]]]
    if len(points) >= 5:
        chosen.append(_mix(points, 5)[~unspaced[4:]])
    return np.unique(np.concatenate(chosen))


def _mix(points: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    count = len(points) - length + 1
    mixed = np.full(count, length, np.uint64)
    for offset in range(length):
        mixed = (mixed ^ points[offset : offset + count]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed
