"""Hard negatives among the candidates, with what looks like an unlabelled answer left out."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fieldtune.config import Negatives
from fieldtune.console import Progress
from fieldtune.corpus.sketches import Sketches, equal
from fieldtune.dataset.candidates import Candidates
from fieldtune.dataset.known import Known
from fieldtune.dataset.walk import ENOUGH, HELD, Walk, go
from fieldtune.errors import InputError


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
    positive, 1.8 when counted from the lowest. Raises InputError for a query without a positive.
    """
    if alone := [name for name, own in zip(known.query_ids, known.positives, strict=True) if not own]:
        raise InputError(
            f"{len(alone):,} queries have no positive to mine around, the first is {alone[0]!r}", "leave them out"
        )
    out = Mined([], [], [], [], [], [])
    skipped: Counter[str] = Counter()
    near = (
        Sketches(known.texts, config.near_duplicate).near if config.near_duplicate < 1 else partial(equal, known.texts)
    )
    count = len(known.positives)
    # The mean cosine of all queries with all passages. Some models (E5) score unrelated texts at 0.75: there, 95% of
    # the positive's bare score would rule out nearly everything.
    chance = float(_mean(query_vectors) @ _mean(passage_vectors)) if count else 0.0
    # The next block is searched while the texts of this one are looked at.
    with (
        Progress("mining hard negatives", count, unit="queries") as progress,
        ThreadPoolExecutor(1) as ahead,
        _without_cycles(),
    ):
        blocks = [(begin, min(begin + block, count)) for begin in range(0, count, block)]
        coming = ahead.submit(candidates, *blocks[0]) if blocks else None
        for number, (begin, end) in enumerate(blocks):
            assert coming is not None  # there is a block
            ranked = coming.result()
            if number + 1 < len(blocks):
                coming = ahead.submit(candidates, *blocks[number + 1])
            asked = np.asarray(query_vectors[begin:end], np.float32)
            own_scores = _each_cosines(asked, passage_vectors, known.positives[begin:end])
            walks = []
            for query in range(begin, end):
                wanted = _wanted(known.styles[query], config)
                limit = chance + config.max_share_of_positive * (max(own_scores[query - begin]) - chance)
                walk = Walk(known, query, config, limit, wanted + (spare if wanted else 0))
                walk.found = _labelled(known, query, wanted, passage_vectors, asked[query - begin], skipped)
                out.labelled.append(len(walk.found))
                walks.append(walk)
            go(walks, ranked.rows[:, : config.depth], ranked.cosines[:, : config.depth], near, skipped)
            for walk, scores in zip(walks, own_scores, strict=True):
                out.negatives.append([row for row, _ in walk.found])
                out.scores.append([round(score, 5) for _, score in walk.found])
                out.positive_scores.append([round(score, 5) for score in scores])
                out.alike.append(list(walk.alike))
                out.close.append(walk.close)
            progress.advance(end - begin)
    out.skipped.update(sorted((reason, count) for reason, count in skipped.items() if count))
    return out


def nothing_mined(known: Known) -> Mined:
    """What training on in-batch negatives alone starts from."""
    count = len(known.positives)

    def empty() -> list[list[int]]:
        return [[] for _ in range(count)]

    return Mined(empty(), [[] for _ in range(count)], [[] for _ in range(count)], [0] * count, empty(), empty())


@contextmanager
def _without_cycles() -> Iterator[None]:
    """No search for cycles of objects, of which none are made here.

    It goes through all objects of the process whenever enough new ones live, as those of the queries do: a seventh of
    the time of mining 8,000 queries.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


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
    if not known.irrelevant[query]:
        return []
    labelled = [row for row in known.irrelevant[query] if row not in known.positives[query]]
    wrong = [row for row in labelled if row not in known.held]
    skipped[HELD] += len(labelled) - len(wrong)
    skipped[ENOUGH] += max(0, len(wrong) - wanted)
    scored = zip(wrong, _cosines(passage_vectors, wrong, vector), strict=True)
    return sorted(scored, key=lambda pair: -pair[1])[:wanted]


def _cosines(vectors: NDArray[np.float32], rows: Sequence[int], vector: NDArray[np.float32]) -> list[float]:
    found: list[float] = (np.asarray(vectors[list(rows)], np.float32) @ vector).tolist() if len(rows) else []
    return found


def _each_cosines(
    queries: NDArray[np.float32], passages: NDArray[np.float32], rows: Sequence[Sequence[int]], block: int = 4_096
) -> list[list[float]]:
    """Those of each query with rows of its own, all at once."""
    counts = np.array([len(own) for own in rows])
    flat, query = np.array([row for own in rows for row in own], np.int64), np.repeat(np.arange(len(rows)), counts)
    scores = [
        np.einsum("rd,rd->r", queries[query[at : at + block]], np.asarray(passages[flat[at : at + block]], np.float32))
        for at in range(0, len(flat), block)
    ]
    return [part.tolist() for part in np.split(np.concatenate(scores), np.cumsum(counts)[:-1])]


def _mean(vectors: NDArray[np.float32], block: int = 16_384) -> NDArray[np.float64]:
    """The mean vector, in blocks: a memory map is not read into memory as a whole."""
    total = np.zeros(vectors.shape[1])
    for begin in range(0, len(vectors), block):
        total += np.asarray(vectors[begin : begin + block], np.float64).sum(axis=0)
    return total / max(1, len(vectors))
