"""Nearest neighbours for mining: proposed by products in bf16, ordered by exact scores."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding.engine import processors
from fieldtune.encoding.precision import processor_has_bf16
from fieldtune.encoding.search import Blocks, in_order, top_k
from fieldtune.encoding.threads import single_threaded

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

_GROUP = 16  # passages of which first only the best score is looked at
_SLAB = 4_096  # passages of one product
_PART = 65_536  # passages whose scores are in memory together
_SAMPLED = 4_096
_QUERIES = 1_024
_RESCORED = 64  # queries whose candidates' vectors are brought together at once
_KEPT = 150_000_000  # numbers of passages that are kept in bf16 from one call to the next (300 MB)


def nearest(passages: Blocks, k: int) -> Callable[[Floats], tuple[NDArray[np.float32], Rows]]:
    """A function from queries (n, dim) to scores and rows (n, min(k, m)) of their nearest passages, best first.

    As `top_k`, which also says what a score is, but a passage whose score is within about 0.0003 of the k-th may be
    missing; several times as fast where the processor multiplies bf16, and `top_k` itself elsewhere. Both sides may be
    memory-mapped; the scores of 1,024 queries with 65,536 passages are in memory at once.
    """
    if not processor_has_bf16() or len(passages) < 2 * _SAMPLED or k > len(passages) // 64:
        return lambda queries: top_k(queries, passages, k)
    slabs: dict[int, torch.Tensor] = {}
    step = max(1, len(passages) // _SAMPLED)
    sample = np.asarray(passages[np.arange(0, len(passages), step)], np.float32)
    keeps = len(passages) * sample.shape[1] <= _KEPT

    def slab(first: int) -> torch.Tensor:
        if first in slabs:
            return slabs[first]
        made = _widened(np.asarray(passages[first : first + _SLAB], np.float32))
        if keeps:
            slabs[first] = made
        return made

    def search(queries: Floats) -> tuple[NDArray[np.float32], Rows]:
        scores, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        with single_threaded(processors()) as pool:
            for begin in range(0, len(queries), _QUERIES):
                block = np.ascontiguousarray(queries[begin : begin + _QUERIES], np.float32)
                found = _proposed(block, sample, slab, len(passages), k, pool)
                pieces = [slice(at, at + _RESCORED) for at in range(0, len(block), _RESCORED)]
                exact = list(pool.map(partial(_rescored, block, passages, found), pieces))
                best, order = in_order(np.concatenate(exact), found, k)
                scores[begin : begin + len(block)], rows[begin : begin + len(block)] = best, order
        return scores, rows

    return search


def _rescored(queries: Floats, passages: Blocks, rows: Rows, part: slice) -> NDArray[np.float64]:
    """Inner products in float32 of some queries with their candidates, rounded as `top_k` rounds them."""
    wanted = rows[part]
    vectors = np.asarray(passages[wanted.ravel()], np.float32).reshape(*wanted.shape, -1)
    scores = np.asarray((vectors @ queries[part][:, :, None])[:, :, 0], np.float64)
    return np.asarray(np.round(scores, 6), np.float64)


def _proposed(
    queries: Floats,
    sample: Floats,
    slab: Callable[[int], torch.Tensor],
    count: int,
    k: int,
    pool: ThreadPoolExecutor,
) -> Rows:
    """Rows of the passages that score highest, somewhat more than k of them, in no order."""
    import torch

    wanted = k + max(16, k // 4)
    asked = _shifted(queries, _threshold(queries, sample, count, wanted)).T
    width = -(-len(queries) // processors())
    best = found = None
    for begin in range(0, count, _PART):
        size = min(_PART, count - begin)
        groups = -(-size // _GROUP)
        scores = torch.empty((groups * _GROUP, len(queries)), dtype=torch.bfloat16)
        scores[size:] = -torch.inf  # what fills the last group
        highest = torch.empty((groups, len(queries)), dtype=torch.bfloat16)
        multiply = partial(_multiply, slab, begin, asked, scores, highest)
        list(pool.map(multiply, range(0, size, _SLAB)))
        choose = partial(_choose, scores, highest, begin, wanted)
        chosen = list(pool.map(choose, [slice(at, at + width) for at in range(0, len(queries), width)]))
        values, rows = torch.cat([one[0] for one in chosen]), torch.cat([one[1] for one in chosen])
        if best is None or found is None:
            best, found = values, rows
            continue
        both = torch.cat([best, values], dim=1).topk(min(wanted, best.shape[1] + values.shape[1]), dim=1, sorted=False)
        best, found = both.values, torch.cat([found, rows], dim=1).gather(1, both.indices)
    assert found is not None  # there are passages
    return np.asarray(found.numpy(), np.int64)


def _multiply(
    slab: Callable[[int], torch.Tensor],
    begin: int,
    asked: torch.Tensor,
    scores: torch.Tensor,
    highest: torch.Tensor,
    first: int,
) -> None:
    """Fill in the scores (passages, queries) of one slab, and the best of each group of them."""
    import torch

    part = slab(begin + first)
    end = min(len(scores), first + _SLAB)
    torch.mm(part, asked, out=scores[first : first + len(part)])
    torch.amax(scores[first:end].view(-1, _GROUP, scores.shape[1]), dim=1, out=highest[first // _GROUP : end // _GROUP])


def _choose(
    scores: torch.Tensor, highest: torch.Tensor, begin: int, wanted: int, columns: slice
) -> tuple[torch.Tensor, torch.Tensor]:
    """The highest scores of some queries with their rows: whatever is among them is in one of the best groups."""
    import torch

    top = highest[:, columns].T.contiguous().float().topk(min(wanted, len(highest)), dim=1, sorted=False).indices
    rows = (top[:, :, None] * _GROUP + torch.arange(_GROUP)).view(len(top), -1)
    values = scores[rows, torch.arange(scores.shape[1])[columns, None]].float()
    kept = values.topk(min(wanted, values.shape[1]), dim=1, sorted=False)
    return kept.values, rows.gather(1, kept.indices) + begin


def _threshold(queries: Floats, sample: Floats, count: int, wanted: int) -> Floats:
    """About the score of each query's `wanted`-th passage, from a sample: (n,)."""
    import torch

    rank = max(1, round(wanted * len(sample) / count))
    asked, seen = (torch.from_numpy(vectors).to(torch.bfloat16) for vectors in (queries, sample))
    return np.asarray((asked @ seen.T).float().topk(rank, dim=1, sorted=False).values.amin(dim=1).numpy(), np.float32)


def _shifted(queries: Floats, threshold: Floats) -> torch.Tensor:
    """The queries in bf16 with columns whose product with `_widened` takes the threshold off each score.

    A product ends in bf16, which has 3 digits: of 0.71 that leaves 0.004, of its distance from the threshold, where
    it matters, a thousandth of the distance. Three columns hold the threshold to 24 bits.
    """
    import torch

    left, columns = torch.from_numpy(-threshold), []
    for _ in range(3):
        columns.append(left.to(torch.bfloat16))
        left = left - columns[-1].float()
    return _filled([torch.from_numpy(queries).to(torch.bfloat16), torch.stack(columns, dim=1)])


def _widened(passages: Floats) -> torch.Tensor:
    import torch

    ones = torch.ones((len(passages), 3), dtype=torch.bfloat16)
    return _filled([torch.from_numpy(np.require(passages, requirements=["C", "W"])).to(torch.bfloat16), ones])


def _filled(parts: list[torch.Tensor]) -> torch.Tensor:
    """Side by side, with zeros up to a width that the processor likes."""
    import torch

    width = sum(part.shape[1] for part in parts)
    out = torch.zeros((len(parts[0]), -(-width // 32) * 32), dtype=torch.bfloat16)
    out[:, :width] = torch.cat(parts, dim=1)
    return out
