"""How close the nearest training query or passage comes to one of the test set."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.corpus.near import Shingles, near_duplicate_pairs, shingle_array
from fieldtune.lexical import tokenize

Terms = frozenset[str]

_CANDIDATES = 16  # neighbours by shared rare words of which the nearest is then found exactly
_COMMON = 1_000  # a word in more queries than this, and in more than a tenth of them, proposes no candidates
_ROWS = 256
_COPIES = 64
"""Near-duplicates looked at for one passage: enough to get past those that fill the same template."""
_LEAST = math.log(2)
_SAMPLE = 20_000  # passages whose words suffice to tell rare words from common ones


@dataclass(frozen=True, slots=True)
class Nearest:
    """The nearest of the other side for each item of this side."""

    index: NDArray[np.int64]
    """Position on the other side, -1 where nothing is shared: `(n,)`."""
    similarity: NDArray[np.float64]
    """0 to 1: `(n,)`."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """How many passages hold each word; counted once, for it takes longer than the comparisons."""

    held: Counter[str]
    passages: int
    whole: bool
    """Whether all passages were counted, or an even sample of a large corpus."""


def vocabulary(texts: Sequence[str]) -> Vocabulary:
    """Count the words of a corpus."""
    sample = texts[:: max(1, len(texts) // _SAMPLE)]
    held = Counter(term for text in sample for term in set(tokenize(text)))
    return Vocabulary(held, len(sample), len(sample) == len(texts))


def rarity(terms: Iterable[str], corpus: Vocabulary) -> dict[str, float]:
    """Weight of each term: the logarithm of how many passages there are for one that holds it; always above zero."""
    return {term: math.log((corpus.passages + 1) / (corpus.held[term] or 0.5)) for term in terms}


def query_rarity(queries: Sequence[Terms], corpus: Vocabulary) -> dict[str, float]:
    """Weight of each word of the queries: as common as among the queries or among the passages, whichever is more.

    "Symptoms" is a template's word in the queries, "between" a common word of passages, a disease's name rare in both.
    A word that no passage holds, such as "please" or a slip of the pen, tells no passage from another: it weighs
    little.
    """
    asked = Counter(term for query in queries for term in query)
    weights = rarity(asked, corpus)
    for term, count in asked.items():
        # In a sample, a word that is not there may still be in the corpus.
        nowhere = corpus.whole and corpus.held[term] == 0
        weights[term] = _LEAST if nowhere else min(weights[term], math.log((len(queries) + 1) / count))
    return weights


def likeness(a: Terms, b: Terms, weights: Mapping[str, float]) -> float:
    """The lower of two Jaccard similarities of words: plain, and weighed by rarity.

    "What are the symptoms of gout?" and "... of lupus?" share most words, but not the rare one; "What causes gout?" and
    "Who treats gout?" share the rare one, but few words. Neither pair is a copy, and this calls neither one.
    """
    shared = a & b
    if not shared:
        return 0.0
    plain = len(shared) / (len(a) + len(b) - len(shared))
    # Sums in sorted order: the order of a set differs between processes, and with it the last bits.
    common = math.fsum(weights[term] for term in shared)
    every = math.fsum(weights[term] for term in a | b)
    return min(plain, common / every)


def is_copy(a: Terms, b: Terms, weights: Mapping[str, float], threshold: float) -> bool:
    """Whether one query is the other with a little added: `likeness` from the threshold on.

    Where both have words of their own, as "total sales" and "net sales", something was put in another's place, and
    only half the distance to sameness is allowed.
    """
    return likeness(a, b, weights) >= (threshold if a <= b or b <= a else (1 + threshold) / 2)


def is_filled_in(a: Terms, b: Terms, weights: Mapping[str, float]) -> bool:
    """Whether two texts are one template about two things: the rarest word of each is not in the other.

    "Gout is inherited in an autosomal dominant pattern, which means ..." stands in many passages, and knowing one is no
    help with another.
    """
    shared = max((weights[term] for term in a & b), default=0.0)
    return all(max((weights[term] for term in own), default=0.0) > shared for own in (a - b, b - a))


def nearest_words(a: Sequence[Terms], b: Sequence[Terms], weights: Mapping[str, float]) -> Nearest:
    """For each set of `a` the most alike (`likeness`) of `b`; of equals the first.

    Candidates are those that share the most weight in words that are not common, by an inverted index.
    """
    index, similarity = np.full(len(a), -1, np.int64), np.zeros(len(a))
    for row, candidates in _candidates(a, b, weights):
        scored = [(likeness(a[row], b[column], weights), -column) for column in candidates]
        best, column = max(scored, default=(0.0, 1))
        if best > 0:
            index[row], similarity[row] = -column, best
    return Nearest(index, similarity)


def _candidates(a: Sequence[Terms], b: Sequence[Terms], weights: Mapping[str, float]) -> Iterable[tuple[int, Any]]:
    from scipy.sparse import csr_matrix

    counts = Counter(term for terms in b for term in terms)
    limit = max(_COMMON, len(b) // 10)
    columns = {term: n for n, term in enumerate(sorted(term for term, count in counts.items() if count <= limit))}
    if not columns:
        return

    def matrix(sets: Sequence[Terms], *, weighed: bool) -> Any:
        rows = [sorted(columns[term] for term in terms if term in columns) for terms in sets]
        names = list(columns)
        flat = [column for row in rows for column in row]
        values = [weights[names[column]] for column in flat] if weighed else np.ones(len(flat))
        ends = np.cumsum([0, *map(len, rows)])
        return csr_matrix((np.asarray(values, np.float64), flat, ends), shape=(len(sets), len(columns)))

    total_a = np.array([math.fsum(weights[term] for term in terms) for terms in a])
    total_b = np.array([math.fsum(weights[term] for term in terms) for terms in b])
    there = matrix(b, weighed=False).T.tocsr()
    here = matrix(a, weighed=True)
    for start in range(0, len(a), _ROWS):
        block = here[start : start + _ROWS] @ there
        for offset in range(block.shape[0]):
            begin, end = block.indptr[offset], block.indptr[offset + 1]
            found, shared = block.indices[begin:end], block.data[begin:end]
            score = shared / (total_a[start + offset] + total_b[found] - shared)
            order = np.lexsort((found, -np.round(score, 9)))[:_CANDIDATES]
            yield start + offset, found[order].tolist()


def nearest_vectors(a: NDArray[np.float32], b: NDArray[np.float32]) -> Nearest:
    """For each row of `a` `(n, dim)` the row of `b` `(m, dim)` with the largest inner product; unit vectors."""
    index, similarity = np.full(len(a), -1, np.int64), np.zeros(len(a))
    if len(b) == 0:
        return Nearest(index, similarity)
    for start in range(0, len(a), _ROWS):
        scores = a[start : start + _ROWS] @ b.T
        index[start : start + _ROWS] = scores.argmax(axis=1)
        similarity[start : start + _ROWS] = scores.max(axis=1)
    return Nearest(index, similarity)


def copies(a: Sequence[str], b: Sequence[str], threshold: float, seed: int) -> dict[int, list[tuple[float, int]]]:
    """Near-duplicates in `b` of the texts of `a`: position -> (similarity, position), the most alike first.

    Similarity is the Jaccard of word 3-shingles, from the threshold on. Of texts that repeat, the first few are given.
    """
    place: dict[bytes, int] = {}
    sets: list[Shingles] = []

    def number(text: str) -> int:
        found = shingle_array(text)
        if found.tobytes() not in place:
            place[found.tobytes()] = len(sets)
            sets.append(found)
        return place[found.tobytes()]

    mine: dict[int, list[int]] = {}
    theirs: dict[int, list[int]] = {}
    for texts, held in ((a, mine), (b, theirs)):
        for position, text in enumerate(texts):
            held.setdefault(number(text), []).append(position)
    near: dict[int, list[tuple[float, int]]] = {}
    for one in mine:
        if one in theirs and len(sets[one]):
            near.setdefault(one, []).append((1.0, one))
    for one, other, similarity in near_duplicate_pairs(sets, threshold, seed):
        for own, foreign in ((one, other), (other, one)):
            if own in mine and foreign in theirs:
                near.setdefault(own, []).append((similarity, foreign))
    found: dict[int, list[tuple[float, int]]] = {}
    for own, links in near.items():
        links.sort(key=lambda link: (-link[0], theirs[link[1]][0]))
        listed = [(similarity, position) for similarity, other in links for position in theirs[other][:_CANDIDATES]]
        found |= dict.fromkeys(mine[own], listed[:_COPIES])
    return found
