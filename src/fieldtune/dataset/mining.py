"""Hard negatives among the candidates, with what looks like an unlabelled answer left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fieldtune.config import Negatives
from fieldtune.console import Progress
from fieldtune.corpus.near import jaccard, shingles
from fieldtune.dataset.candidates import Candidates
from fieldtune.dataset.known import Known

KNOWN = "known positive"
NEAR = "near-duplicate of a positive"
HELD = "positive of a dev or test query"
JUDGED = "judged, but not as irrelevant"
ENOUGH = "labelled as irrelevant, beyond negatives.per_query"
CLOSE = "scores too near the positive"
FIRST = "among the first, left out as asked"
SAME = "of a positive's own document"

_SHINGLED = 10_000
"""Texts whose shingles are kept: neighbouring queries meet the same candidates. A text of 200 words takes 20 kB."""


@dataclass(frozen=True, slots=True)
class Mined:
    """What mining found for each query, as rows of the corpus."""

    negatives: list[list[int]]
    """Best first; labelled negatives (grade 0) lead, the hardest of them first."""
    scores: list[list[float]]
    """Cosine of each negative with the query, by the model that mined."""
    positive_scores: list[list[float]]
    labelled: list[int]
    """How many of the negatives are labelled ones."""
    alike: list[list[int]]
    """Near-duplicates of the query's positives among the candidates: never to be used against it."""
    close: list[list[int]]
    """The first of the candidates that score too near the positive, as many as negatives were wanted."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Reason -> candidates skipped."""


def mine(
    known: Known,
    candidates: Candidates,
    query_vectors: NDArray[np.float32],
    passage_vectors: NDArray[np.float32],
    config: Negatives,
    *,
    spare: int = 0,
    block: int = 1_024,
) -> Mined:
    """Up to `config.per_query` negatives for each query (`spare` more, for a check that drops some), the hardest first.

    `query_vectors` (n, dim) and `passage_vectors` (m, dim) are unit vectors of one model, whatever the source of the
    candidates; both may be memory-mapped, and one block of queries is looked at at a time. A candidate is skipped whose
    cosine lies more than `max_share_of_positive` of the way from that of unrelated texts to that of the query's
    positive (after TopK-PercPos of NV-Retriever, arXiv:2407.15831, which counts from zero). Of several positives the
    best counts: a positive that the model ranks low shows its weakness, not where answers begin. Measured by hiding one
    of several positives: limits that took as few hidden ones left 3.0 negatives a query when counted from the best
    positive, 1.8 when counted from the lowest.
    """
    out = Mined([], [], [], [], [], [])
    skipped: Counter[str] = Counter()
    shingled = _Shingled(known.texts)
    # The mean cosine of all queries with all passages. Some models (E5) score unrelated texts at 0.75: there, 95% of
    # the positive's bare score would rule out nearly everything.
    chance = float(_mean(query_vectors) @ _mean(passage_vectors)) if len(known.positives) else 0.0
    with Progress("mining hard negatives", len(known.positives), unit="queries") as progress:
        for begin in range(0, len(known.positives), block):
            end = min(begin + block, len(known.positives))
            for query, ranked in enumerate(candidates(begin, end)[:, : config.depth].tolist(), begin):
                vector = np.asarray(query_vectors[query], np.float32)
                own_scores = _cosines(passage_vectors, known.positives[query], vector)
                wanted = _wanted(known.styles[query], config)
                found = _labelled(known, query, wanted, passage_vectors, vector, skipped)
                out.labelled.append(len(found))
                limit = chance + config.max_share_of_positive * (max(own_scores) - chance)
                sieve = _Sieve(known, query, config, shingled, limit, wanted + (spare if wanted else 0))
                rows = [row for row in ranked if row >= 0]
                for row, score in zip(rows, _cosines(passage_vectors, rows, vector), strict=True):
                    if len(found) >= sieve.wanted:
                        break
                    reason = sieve.reason(row, score)
                    if reason:
                        skipped[reason] += 1
                    elif row not in sieve.labelled:  # those were taken, or counted, before
                        found.append((row, score))
                out.negatives.append([row for row, _ in found])
                out.scores.append([round(score, 5) for _, score in found])
                out.positive_scores.append([round(score, 5) for score in own_scores])
                out.alike.append(list(sieve.alike))
                out.close.append(sieve.close)
            progress.advance(end - begin)
    out.skipped.update(sorted((reason, count) for reason, count in skipped.items() if count))
    return out


class _Sieve:
    """Why a candidate is no negative of one query, the reasons in their order."""

    def __init__(
        self, known: Known, query: int, config: Negatives, shingled: _Shingled, limit: float, wanted: int
    ) -> None:
        self.wanted = wanted
        self.labelled = frozenset(known.irrelevant[query])
        self.close: list[int] = []
        self._known, self._config, self._shingled, self._limit = known, config, shingled, limit
        self._own, self._partly = frozenset(known.positives[query]), frozenset(known.partly[query])
        twins = frozenset().union(*(known.twins.get(row, frozenset()) for row in self._own)) - self._own
        self.alike = dict.fromkeys(sorted(twins))
        """Rows in the order in which they were found."""
        self._documents = set() if config.same_document else {known.groups[row] for row in self._own} - {""}
        self._passed = 0

    def reason(self, row: int, score: float) -> str:
        """ "" for a negative."""
        if row in self._own:
            return KNOWN
        if row in self.labelled:
            return ""
        if row in self.alike or self._shingled.near(row, self._own, self._config.near_duplicate):
            self.alike[row] = None
            return NEAR
        if row in self._partly:
            return JUDGED
        if row in self._known.held:
            return HELD
        if self._known.groups[row] in self._documents:
            return SAME
        if self._passed < self._config.skip_first:
            self._passed += 1
            return FIRST
        if score > self._limit:
            if len(self.close) < self.wanted:
                self.close.append(row)
            return CLOSE
        return ""


def nothing_mined(known: Known) -> Mined:
    """What training on in-batch negatives alone starts from."""
    count = len(known.positives)

    def empty() -> list[list[int]]:
        return [[] for _ in range(count)]

    return Mined(empty(), [[] for _ in range(count)], [[] for _ in range(count)], [0] * count, empty(), empty())


def _wanted(style: str, config: Negatives) -> int:
    return min(config.per_query, config.style_limits.get(style, config.per_query))


def _labelled(
    known: Known,
    query: int,
    wanted: int,
    passage_vectors: NDArray[np.float32],
    vector: NDArray[np.float32],
    skipped: Counter[str],
) -> list[tuple[int, float]]:
    """The hardest passages that were judged irrelevant, with their cosines."""
    labelled = [row for row in known.irrelevant[query] if row not in known.positives[query]]
    wrong = [row for row in labelled if row not in known.held]
    skipped[HELD] += len(labelled) - len(wrong)
    skipped[ENOUGH] += max(0, len(wrong) - wanted)
    scored = zip(wrong, _cosines(passage_vectors, wrong, vector), strict=True)
    return sorted(scored, key=lambda pair: -pair[1])[:wanted]


def _cosines(vectors: NDArray[np.float32], rows: Sequence[int], vector: NDArray[np.float32]) -> list[float]:
    cosines: list[float] = (np.asarray(vectors[list(rows)], np.float32) @ vector).tolist() if len(rows) else []
    return cosines


def _mean(vectors: NDArray[np.float32], block: int = 16_384) -> NDArray[np.float64]:
    """The mean vector, in blocks: a memory map is not read into memory as a whole."""
    total = np.zeros(vectors.shape[1])
    for begin in range(0, len(vectors), block):
        total += np.asarray(vectors[begin : begin + block], np.float64).sum(axis=0)
    return total / max(1, len(vectors))


class _Shingled:
    """Shingles of texts, kept as long as there is room."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._seen: dict[int, frozenset[int]] = {}

    def near(self, row: int, others: Iterable[int], threshold: float) -> bool:
        return any(jaccard(self._of(row), self._of(other)) >= threshold for other in others)

    def _of(self, row: int) -> frozenset[int]:
        if row not in self._seen:
            if len(self._seen) >= _SHINGLED:
                self._seen.clear()
            self._seen[row] = shingles(self._texts[row])
        return self._seen[row]
