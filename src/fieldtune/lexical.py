"""BM25 with a tokenizer for professional text: numbers, section signs and Chinese survive it."""

from __future__ import annotations

import json
import re
import unicodedata
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import regex
from numpy.typing import NDArray

# A clause number with what hangs on it, such as 12.3(b)(ii), or an amount, 5,363.50; and a code, such as E11.9.
_NUMBER = (
    r"\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d|,\d)"
    r"|\d+(?:\.\d+)*(?:\((?:[a-z]{1,5}|\d{1,3})\))*(?![a-z\d])"
)
_CODE = r"[a-z]{1,2}\d[a-z\d]*\.\d[a-z\d]*"
# Scripts written without spaces between words; they become pairs of characters.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}〇々ー"
_ASCII = re.compile(rf"{_NUMBER}|{_CODE}|[a-z\d]+(?:'s\b)?")
_UNICODE = regex.compile(
    rf"[{_UNSPACED}]+|{_NUMBER}|{_CODE}|§|[[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}]]+(?:['’]s\b)?", regex.VERSION1
)
_IS_UNSPACED = regex.compile(rf"[{_UNSPACED}]")
_PART = re.compile(r"\([^)]*\)")

_STOP = """
a about an and any are as at be been but by can could did do does for from had has have he her him his how i if in into
is it its me my of on or our she should so such than that the their them then there these they this those to was we
were what when where which who whom whose why will with would you your
"""
STOP_WORDS = frozenset(_STOP.split())
"""English words without a subject of their own; BM25 leaves them out of passages and queries."""


def tokenize(text: str) -> list[str]:
    """The words BM25 counts.

    Lower-cased words without a possessive or plural s, numbers without thousands commas ("5,363" is "5363"), numbered
    clauses with those above them ("12(b)" is "12" and "12(b)"; "E11.9" is "e11" and "e11.9"), "§" as a word of its
    own, and overlapping character pairs for Chinese and other scripts without spaces. Unicode is folded by NFKC.
    """
    pieces: Iterable[str]
    if text.isascii():
        pieces = _ASCII.findall(text.lower())
    else:
        pieces = _UNICODE.findall(unicodedata.normalize("NFKC", text).lower())
    return [token for piece in pieces for token in _tokens(piece)]


@lru_cache(maxsize=1 << 17)
def _tokens(piece: str) -> tuple[str, ...]:
    first = piece[0]
    if first.isdecimal() and (piece.isdecimal() or not piece.isalnum()):
        number, *parts = _PART.sub(lambda match: "\n" + match[0], piece).split("\n")
        path = [number.replace(",", "")]
        for part in parts:
            path.append(path[-1] + part)
        return tuple(path)
    if _IS_UNSPACED.match(first):
        return tuple(map("".join, pairwise(piece))) or (piece,)
    if "." in piece:
        return piece.partition(".")[0], piece
    return (_singular(piece.removesuffix("'s").removesuffix("’s")),)


def _singular(word: str) -> str:
    """Strip a plural ending (the S stemmer of Harman, "How effective is suffixing?", 1991)."""
    if len(word) < 4 or not word.endswith("s") or word[-2] in "su":
        return word
    if word.endswith("ies"):
        return word if word[-4] in "ae" else word[:-3] + "y"
    if word.endswith("es"):
        return word if word[-3] in "aeo" else word[:-1]
    return word[:-1]


_PARTS = ("values", "passages", "ends")
_TOGETHER = 4_096  # passages whose words are counted at once; as numbers of 16 bits they can be named
Postings = tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class _Block:
    """The words of some passages, in as few bytes as they take: all blocks are in memory beside the postings."""

    lengths: NDArray[np.int32]
    words: NDArray[np.int32]
    of_word: NDArray[np.int32]
    """In how many of these passages each of the words stands."""
    passages: NDArray[np.uint16]
    """Word by word, from the first passage of the block on."""
    counts: NDArray[np.unsignedinteger[Any]]
    """How often the word stands there."""


def _counted(texts: Iterable[str], words: dict[str, int]) -> Iterator[_Block]:
    """How often each word stands in which passages; `words` is filled with the number of each."""
    rest = iter(texts)
    while block := list(islice(rest, _TOGETHER)):
        places, ends = array("i"), [0]
        for text in block:
            places.extend(words.setdefault(token, len(words)) for token in tokenize(text) if token not in STOP_WORDS)
            ends.append(len(places))
        lengths = np.diff(ends)
        pairs = np.frombuffer(places, np.int32) * np.int64(_TOGETHER) + np.repeat(np.arange(len(block)), lengths)
        pairs, counts = np.unique(pairs, return_counts=True)
        own, of_word = np.unique(pairs // _TOGETHER, return_counts=True)
        yield _Block(
            lengths.astype(np.int32),
            own.astype(np.int32),
            of_word.astype(np.int32),
            (pairs % _TOGETHER).astype(np.uint16),
            counts.astype(np.min_scalar_type(int(counts.max(initial=0)))),
        )


def _weighed(blocks: list[_Block], words: int, k1: float, b: float) -> Postings:
    """Of each word what it gives to which passages, and where the next word's begin; takes the blocks away."""
    of_word = np.zeros(words, np.int64)
    for block in blocks:
        of_word[block.words] += block.of_word
    lengths = np.concatenate([np.zeros(0), *(block.lengths for block in blocks)])
    mean = max(float(lengths.mean()), 1.0) if len(lengths) else 1.0
    rare = np.log1p((len(lengths) - of_word + 0.5) / (of_word + 0.5)).astype(np.float32)
    crowd = k1 * (1 - b + b * lengths / mean)
    ends = np.concatenate([[0], np.cumsum(of_word)])
    values, passages = np.empty(ends[-1], np.float32), np.empty(ends[-1], np.int32)
    free = ends[:-1].copy()  # where each word's next passage goes
    first = 0
    blocks.reverse()
    while blocks:
        block = blocks.pop()
        before = np.cumsum(block.of_word) - block.of_word
        places = np.repeat(free[block.words] - before, block.of_word) + np.arange(len(block.passages))
        free[block.words] += block.of_word
        rows = block.passages.astype(np.int32) + np.int32(first)
        gained = block.counts.astype(np.float32)
        gained /= gained + crowd[rows]
        gained *= np.repeat(rare[block.words], block.of_word)
        values[places], passages[places] = gained, rows
        first += len(block.lengths)
    return values, passages, ends


class BM25:
    """A BM25 index in memory (Lucene's variant and its constants; Robertson and Zaragoza, 2009).

    Of stop words, plural stripping and k1, b, those were kept that found most on the dev queries of four sets of
    medical, financial and legal passages. A word of a passage takes 8 bytes, and 4 more while the index is made.
    """

    def __init__(self, texts: Iterable[str], *, k1: float = 1.2, b: float = 0.75) -> None:
        self._words: dict[str, int] = {}
        blocks = list(_counted(texts, self._words))
        self.size = sum(len(block.lengths) for block in blocks)
        self._postings = _weighed(blocks, len(self._words), k1, b)

    def save(self, folder: Path) -> None:
        """Write the words and what each gives to which passage into an existing folder."""
        for name, part in zip(_PARTS, self._postings, strict=True):
            np.save(folder / f"{name}.npy", np.asarray(part))
        (folder / "words.json").write_text(json.dumps([self.size, *self._words], ensure_ascii=False), "utf-8")

    @classmethod
    def load(cls, folder: Path) -> BM25:
        """What `save` wrote, mapped into memory. Raises OSError or ValueError where it is damaged."""
        loaded = cls.__new__(cls)
        loaded.size, *words = json.loads((folder / "words.json").read_text("utf-8"))
        loaded._words = {word: place for place, word in enumerate(words)}
        values, passages, ends = (np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in _PARTS)
        loaded._postings = (values, passages, ends)
        return loaded

    def scores(self, query: str) -> NDArray[np.float32]:
        """The score of each passage, 0 where no word is shared: `(passages,)`."""
        values, passages, ends = self._postings
        scores = np.zeros(self.size, np.float32)
        for token in tokenize(query):
            place = self._words.get(token)
            if place is not None:
                part = slice(ends[place], ends[place + 1])
                scores[passages[part]] += values[part]  # no passage stands twice among those of one word
        return scores

    def top_k(self, queries: Sequence[str], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The best passages of each query: scores and indices, `(queries, k)`, best first, ties by lower index.

        A passage that shares no word with the query is not a result; short rows end in score 0 and index -1.
        """
        top = np.zeros((len(queries), k), np.float32)
        indices = np.full((len(queries), k), -1, np.int64)
        for row, query in enumerate(queries):
            scores = self.scores(query)
            best = best_of(scores, k)
            top[row, : len(best)], indices[row, : len(best)] = scores[best], best
        return top, indices


def best_of(scores: NDArray[np.floating[Any]], k: int) -> NDArray[np.int64]:
    """The passages with the k highest scores above 0, best first, ties by lower index."""
    found = np.flatnonzero(scores > 0)
    if len(found) > k:
        least = np.partition(scores[found], len(found) - k)[len(found) - k]
        found = found[scores[found] >= least]
    return found[np.argsort(-scores[found], kind="stable")][:k]
