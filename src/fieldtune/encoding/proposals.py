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

_GROUP = 16  # passages of which first only the best score is looked at, and groups of which the same is done
_SLAB = 2_048  # passages of one product
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
    rooms: list[_Room] = []

    def slab(first: int) -> torch.Tensor:
        if first in slabs:
            return slabs[first]
        made = _widened(np.asarray(passages[first : first + _SLAB], np.float32))
        if keeps:
            slabs[first] = made
        return made

    def search(queries: Floats) -> tuple[NDArray[np.float32], Rows]:
        scores, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        room = rooms.pop() if rooms else _Room(len(passages))
        with single_threaded(processors()) as pool:
            for begin in range(0, len(queries), _QUERIES):
                block = np.ascontiguousarray(queries[begin : begin + _QUERIES], np.float32)
                found = _proposed(block, sample, slab, len(passages), k, pool, room)
                pieces = [slice(at, at + _RESCORED) for at in range(0, len(block), _RESCORED)]
                exact = list(pool.map(partial(_rescored, block, passages, found), pieces))
                best, order = in_order(np.concatenate(exact), found, k)
                scores[begin : begin + len(block)], rows[begin : begin + len(block)] = best, order
        rooms.append(room)
        return scores, rows

    return search


class _Room:
    """Memory for scores that is kept from block to block: to get it anew takes half as long as to fill it."""

    def __init__(self, passages: int) -> None:
        import torch

        groups = -(-min(_PART, passages) // _GROUP)
        self._scores = torch.empty(groups * _GROUP * _QUERIES, dtype=torch.bfloat16)
        self._highest = torch.empty(groups * _QUERIES, dtype=torch.bfloat16)

    def of(self, passages: int, queries: int) -> tuple[torch.Tensor, torch.Tensor]:
        """For scores (passages up to a whole number of groups, queries) and the best of each group."""
        groups = -(-passages // _GROUP)
        scores = self._scores[: groups * _GROUP * queries].view(-1, queries)
        return scores, self._highest[: groups * queries].view(-1, queries)


def cosines(queries: Floats, passages: Blocks, rows: Rows) -> Floats:
    """Inner products in float32 of each query (n, dim) with its own rows (n, c), rounded as `top_k` rounds them."""
    out = np.empty(rows.shape, np.float32)
    for begin in range(0, len(queries), _RESCORED):
        out[begin : begin + _RESCORED] = _rescored(queries, passages, rows, slice(begin, begin + _RESCORED))
    return out


def _rescored(queries: Floats, passages: Blocks, rows: Rows, part: slice) -> NDArray[np.float64]:
    wanted = rows[part]
    vectors = np.asarray(passages[np.maximum(wanted.ravel(), 0)], np.float32).reshape(*wanted.shape, -1)
    scores = np.asarray((vectors @ queries[part][:, :, None])[:, :, 0], np.float64)
    scores[wanted < 0] = -np.inf
    return np.asarray(np.round(scores, 6), np.float64)


def _proposed(
    queries: Floats,
    sample: Floats,
    slab: Callable[[int], torch.Tensor],
    count: int,
    k: int,
    pool: ThreadPoolExecutor,
    room: _Room,
) -> Rows:
    """Rows of the passages that score highest, somewhat more than k of them, in no order; -1 for none."""
    import torch

    wanted = k + max(16, k // 4)
    asked = _shifted(queries, _threshold(queries, sample, count, wanted)).T
    width = -(-len(queries) // processors())
    least = torch.full((len(queries),), -torch.inf)
    best, found = torch.empty((len(queries), 0)), torch.empty((len(queries), 0), dtype=torch.int64)
    for begin in range(0, count, _PART):
        size = min(_PART, count - begin)
        scores, highest = room.of(size, len(queries))
        scores[size:] = -torch.inf  # what fills the last group
        multiply = partial(_multiply, slab, begin, asked, scores, highest)
        list(pool.map(multiply, range(0, size, _SLAB)))
        choose = partial(_choose, scores, highest, wanted, least)
        chosen = list(pool.map(choose, [slice(at, at + width) for at in range(0, len(queries), width)]))
        values, rows = (_beside([one[side] for one in chosen]) for side in (0, 1))
        best = torch.cat([best, values], dim=1)
        found = torch.cat([found, torch.where(rows < 0, rows, rows + begin)], dim=1)
        if size < count:
            best, kept = best.topk(min(wanted, best.shape[1]), dim=1)
            found, least = found.gather(1, kept), best[:, -1]
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
    scores: torch.Tensor, highest: torch.Tensor, wanted: int, least: torch.Tensor, columns: slice
) -> tuple[torch.Tensor, torch.Tensor]:
    """The `wanted` highest scores of some queries and a few more, those over `least`: padded, with their rows.

    The `wanted`-th best of the groups' best scores, or of the best of several groups, is a score that so many passages
    reach. Whatever reaches it is then looked up, without putting anything in order.
    """
    import torch

    best = highest[:, columns]
    several = len(best) // _GROUP
    coarse = best[: several * _GROUP].view(several, _GROUP, -1).amax(dim=1) if several >= 2 * wanted else best
    enough = least[columns]
    if len(coarse) >= wanted:  # of fewer, what is left over at the end, any may be among the best
        enough = enough.maximum(coarse.T.float().topk(wanted, dim=1, sorted=False).values.amin(dim=1))
    query, group = (best >= enough.bfloat16()).T.contiguous().nonzero().unbind(1)
    grouped = scores.view(-1, _GROUP, scores.shape[1])
    values = grouped[group, :, query + (columns.start or 0)].float()
    place, member = ((values >= enough[query, None]) & values.isfinite()).nonzero().unbind(1)
    query, values, rows = query[place], values[place, member], group[place] * _GROUP + member
    counts = torch.bincount(query, minlength=len(enough))
    column = torch.arange(len(query)) - (counts.cumsum(0) - counts)[query]
    shape = (len(enough), int(counts.max()))
    out = torch.full(shape, -torch.inf), torch.full(shape, -1)
    out[0][query, column], out[1][query, column] = values, rows
    return out


def _beside(parts: list[torch.Tensor]) -> torch.Tensor:
    """Tables of several widths one below the other, the narrow ones filled with nothing."""
    import torch

    width = max(part.shape[1] for part in parts)
    none = -torch.inf if parts[0].is_floating_point() else -1
    return torch.cat([torch.nn.functional.pad(part, (0, width - part.shape[1]), value=none) for part in parts])


def _threshold(queries: Floats, sample: Floats, count: int, wanted: int) -> Floats:
    """About the score of each query's `wanted`-th passage, from a sample: (n,)."""
    import torch

    rank = max(1, round(wanted * len(sample) / count))
    asked, seen = (torch.from_numpy(vectors).to(torch.bfloat16) for vectors in (queries, sample))
    scores = seen[: len(seen) // _GROUP * _GROUP] @ asked.T
    # The best of each few: two of the highest seldom stand side by side, and it need only be about right.
    best = scores.view(-1, _GROUP // 2, len(queries)).amax(dim=1)
    return np.asarray(best.T.float().topk(min(rank, len(best)), dim=1, sorted=False).values.amin(dim=1).numpy())


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
