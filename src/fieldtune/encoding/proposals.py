"""Nearest neighbours for mining: proposed by products of bytes, ordered by exact scores."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding.engine import processors
from fieldtune.encoding.search import Blocks, in_order, require_finite, top_k
from fieldtune.encoding.threads import single_threaded

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

_GROUP = 16  # passages of which first only the best score is looked at, and groups of which the same is done
_SLAB = 4_096  # passages of one product
_PART = 65_536  # passages whose scores are in memory together
_SAMPLED = 4_096
_QUERIES = 512
_RESCORED, _NUMBERS = 64, 4_000_000  # queries whose candidates' vectors are brought together, and numbers of these
_LOOKED_UP = 1 << 19  # scores that are looked through at once for the highest ones
_PLACES = 20  # bits that count those that are looked through: they are no more than these and the first query's
_KEPT = 600_000_000  # numbers of passages that are kept as bytes from one call to the next
_NONE = -(2**31)


def nearest(passages: Blocks, k: int) -> Callable[[Floats], tuple[NDArray[np.float32], Rows]]:
    """A function from queries (n, dim) to scores and rows (n, min(k, m)) of their nearest passages, best first.

    As `top_k`, which also says what a score is, but a passage whose score is within about 0.003 of the k-th may be
    missing; several times as fast where the processor multiplies bytes, and `top_k` itself elsewhere. Both sides may be
    memory-mapped; the scores of 512 queries with 65,536 passages are in memory at once (134 MB), of the passages a byte
    for each number, and beside these some tens of MB, also where most passages are the same. Of passages with equal
    scores the first are taken. Both raise ModelError as `top_k` does.
    """
    if len(passages) < 2 * _SAMPLED or k > len(passages) // 64 or not _multiplies_bytes():
        return lambda queries: top_k(queries, passages, k)
    codes = _Codes(passages)
    rooms: list[_Room] = []

    def search(queries: Floats) -> tuple[NDArray[np.float32], Rows]:
        scores, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        room = rooms.pop() if rooms else _Room(len(passages))
        with single_threaded(processors()) as pool:
            for begin in range(0, len(queries), _QUERIES):
                block = np.ascontiguousarray(queries[begin : begin + _QUERIES], np.float32)
                require_finite(block, begin, "query")
                found = _proposed(_coded(block, np.abs(block).max(axis=1, keepdims=True)), codes, k, pool, room)
                exact = list(pool.map(partial(_rescored, block, passages, found), _pieces(block, found)))
                best, order = in_order(np.concatenate(exact), found, k)
                scores[begin : begin + len(block)], rows[begin : begin + len(block)] = best, order
        rooms.append(room)
        return scores, rows

    return search


def cosines(queries: Floats, passages: Blocks, rows: Rows) -> Floats:
    """Inner products in float32 of each query (n, dim) with its own rows (n, c), rounded as `top_k` rounds them.

    -inf for rows below 0.
    """
    out = np.empty(rows.shape, np.float32)
    for piece in _pieces(queries, rows):
        out[piece] = _rescored(queries, passages, rows, piece)
    return out


class _Codes:
    """Passages as bytes, less their mean: what all have in common changes no order, and would waste the few digits."""

    def __init__(self, passages: Blocks) -> None:
        self._passages = passages
        step = max(1, len(passages) // _SAMPLED)
        sample = np.asarray(passages[np.arange(0, len(passages), step)], np.float32)
        require_finite(sample, 0, "passage", step)
        self._mean = sample.mean(axis=0)
        self._largest = np.abs(sample - self._mean).max()
        """One for all, so that scores of several passages can be compared. What lies beyond it is cut off."""
        self._kept: dict[int, torch.Tensor] = {}
        self._finite: set[int] = set()
        self._keeps = len(passages) * sample.shape[1] <= _KEPT

    def __len__(self) -> int:
        return len(self._passages)

    def slab(self, first: int) -> torch.Tensor:
        if first in self._kept:
            return self._kept[first]
        vectors = np.asarray(self._passages[first : first + _SLAB], np.float32)
        if first not in self._finite:  # what is not kept is read for every block of queries
            require_finite(vectors, first, "passage")
            self._finite.add(first)
        made = _coded(vectors - self._mean, self._largest)
        if self._keeps:
            self._kept[first] = made
        return made


class _Room:
    """Memory for scores that is kept from block to block: to get it anew takes as long as to fill it."""

    def __init__(self, passages: int) -> None:
        import torch

        groups = -(-min(_PART, passages) // _GROUP)
        self._scores = torch.empty(groups * _GROUP * _QUERIES, dtype=torch.int32)
        self._highest = torch.empty(groups * _QUERIES, dtype=torch.int32)

    def of(self, passages: int, queries: int) -> tuple[torch.Tensor, torch.Tensor]:
        """For scores (passages up to a whole number of groups, queries) and the best of each group."""
        groups = -(-passages // _GROUP)
        scores = self._scores[: groups * _GROUP * queries].view(-1, queries)
        return scores, self._highest[: groups * queries].view(-1, queries)


def _coded(vectors: Floats, largest: Any) -> torch.Tensor:
    import torch

    scaled = vectors * (np.float32(127) / np.maximum(largest, np.float32(1e-12)))
    return torch.from_numpy(np.clip(np.rint(scaled), -127, 127).astype(np.int8))


def _pieces(queries: Floats, rows: Rows) -> list[slice]:
    """Queries whose candidates' vectors are few enough to be in memory together, or single ones."""
    step = min(_RESCORED, max(1, _NUMBERS // max(1, rows.shape[1] * queries.shape[1])))
    return [slice(at, at + step) for at in range(0, len(queries), step)]


def _rescored(queries: Floats, passages: Blocks, rows: Rows, part: slice) -> NDArray[np.float64]:
    wanted = rows[part]
    vectors = np.asarray(passages[np.maximum(wanted.ravel(), 0)], np.float32).reshape(*wanted.shape, -1)
    scores = np.asarray((vectors @ queries[part][:, :, None])[:, :, 0], np.float64)
    scores[wanted < 0] = -np.inf
    return np.asarray(np.round(scores, 6), np.float64)


def _proposed(asked: torch.Tensor, codes: _Codes, k: int, pool: ThreadPoolExecutor, room: _Room) -> Rows:
    """Rows of the passages that score highest, somewhat more than k of them, the first of equals; -1 for none."""
    import torch

    wanted, count = k + max(16, k // 4), len(codes)
    width = -(-len(asked) // processors())
    least = torch.full((len(asked),), _NONE, dtype=torch.int32)
    best, found = (torch.empty((len(asked), 0), dtype=kind) for kind in (torch.int32, torch.int64))
    for begin in range(0, count, _PART):
        size = min(_PART, count - begin)
        scores, highest = room.of(size, len(asked))
        scores[size:] = _NONE  # what fills the last group
        list(pool.map(partial(_multiply, codes, begin, asked.T, scores, highest), range(0, size, _SLAB)))
        choose = partial(_choose, scores, highest, wanted, least)
        chosen = list(pool.map(choose, [slice(at, at + width) for at in range(0, len(asked), width)]))
        values, rows = (_beside([one[side] for one in chosen], none) for side, none in ((0, _NONE), (1, -1)))
        best = torch.cat([best, values], dim=1)
        found = torch.cat([found, torch.where(rows < 0, rows, rows + begin)], dim=1)
        if best.shape[1] > wanted:
            best, order = best.sort(dim=1, descending=True, stable=True)  # of equal scores the earlier part's first
            best, found = best[:, :wanted], found.gather(1, order[:, :wanted])
        if best.shape[1] == wanted:
            least = best[:, -1]
    return np.asarray(found.numpy(), np.int64)


def _multiply(
    codes: _Codes, begin: int, asked: torch.Tensor, scores: torch.Tensor, highest: torch.Tensor, first: int
) -> None:
    """Fill in the scores (passages, queries) of one slab, and the best of each group of them."""
    import torch

    part = codes.slab(begin + first)
    end = min(len(scores), first + _SLAB)
    _product()(part, asked, out=scores[first : first + len(part)])
    torch.amax(scores[first:end].view(-1, _GROUP, scores.shape[1]), dim=1, out=highest[first // _GROUP : end // _GROUP])


def _choose(
    scores: torch.Tensor, highest: torch.Tensor, wanted: int, least: torch.Tensor, columns: slice
) -> tuple[torch.Tensor, torch.Tensor]:
    """The `wanted` highest scores of some queries, those of at least `least`: best first, padded, with their rows.

    The `wanted`-th best of the groups' best scores, or of the best of several groups, is a score that so many passages
    reach. Whatever reaches it is then looked up, and of that the best is taken, of equal scores the first rows.
    """
    import torch

    best = highest[:, columns]
    several = len(best) // _GROUP
    coarse = best[: several * _GROUP].view(several, _GROUP, -1).amax(dim=1) if several >= 2 * wanted else best
    enough = least[columns]
    if len(coarse) >= wanted:  # of fewer, what is left over at the end, any may be among the best
        ordered = np.partition(np.ascontiguousarray(coarse.numpy().T), len(coarse) - wanted, axis=1)
        enough = enough.maximum(torch.from_numpy(ordered[:, len(coarse) - wanted].copy()))
    group, query = (best >= enough).nonzero().unbind(1)
    group, query = _first_tied(group, query, best[group, query] == enough[query], wanted)
    reach = torch.bincount(query, minlength=len(enough)).cumsum(0) * _GROUP
    parts, begin = [], 0
    while begin < len(enough):
        before = int(reach[begin - 1]) if begin else 0
        end = max(begin + 1, int(torch.searchsorted(reach, before + _LOOKED_UP, right=True)))
        some = (query >= begin) & (query < end)
        first = (columns.start or 0) + begin
        parts.append(_reaching(scores, group[some], query[some] - begin, enough[begin:end], wanted, first))
        begin = end
    return _beside([values for values, _ in parts], _NONE), _beside([rows for _, rows in parts], -1)


def _first_tied(
    group: torch.Tensor, query: torch.Tensor, tied: torch.Tensor, wanted: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Groups and queries without those ties of a query that come after its first `wanted`; groups rise.

    Where many passages score the same, the first of their groups are enough.
    """
    import torch

    which = query[tied]
    if not len(which) or int(torch.bincount(which).max()) <= wanted:
        return group, query
    order = which.argsort(stable=True)
    place = torch.empty_like(which)
    place[order] = _columns(which[order])
    kept = ~tied
    kept[tied] = place < wanted
    return group[kept], query[kept]


def _columns(query: torch.Tensor) -> torch.Tensor:
    """Of queries in order, each as often as it has something: which of its own each is, from 0."""
    import torch

    counts = torch.bincount(query)
    return torch.arange(len(query)) - (counts.cumsum(0) - counts)[query]


def _reaching(
    scores: torch.Tensor, group: torch.Tensor, query: torch.Tensor, enough: torch.Tensor, wanted: int, first: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Up to `wanted` scores of at least `enough`, and their rows, for the queries from column `first` on.

    `group` and `query`, each (n,), say in which groups they are; groups rise.
    """
    import torch

    values = scores.view(-1, _GROUP, scores.shape[1])[group, :, query + first]
    least = enough.clamp(min=_NONE + 1)  # what fills the last group is not taken
    place, member = (values >= least[query, None]).nonzero().unbind(1)
    query, values, rows = query[place], values[place, member], group[place] * _GROUP + member
    # By query, then the best first, then by rows, which rise already: one number each, for a sort of such is fast.
    keys = ((query << 32) - values) * (1 << _PLACES) + torch.arange(len(query))
    order = torch.from_numpy(np.argsort(keys.numpy()))
    query, values, rows = query[order], values[order], rows[order]
    column = _columns(query)
    kept = column < wanted
    query, column = query[kept], column[kept]
    shape = (len(enough), min(wanted, int(column.max()) + 1 if len(column) else 0))
    out = torch.full(shape, _NONE, dtype=torch.int32), torch.full(shape, -1)
    out[0][query, column], out[1][query, column] = values[kept], rows[kept]
    return out


def _beside(parts: list[torch.Tensor], none: int) -> torch.Tensor:
    """Tables of several widths one below the other, the narrow ones filled with nothing."""
    import torch

    width = max(part.shape[1] for part in parts)
    return torch.cat([torch.nn.functional.pad(part, (0, width - part.shape[1]), value=none) for part in parts])


def _product() -> Any:
    """Bytes (n, d) times bytes (d, m), added up in 32 bits; has no public name yet."""
    import torch

    return torch._int_mm


@cache
def _multiplies_bytes() -> bool:
    """Whether the processor has instructions for it, and this torch a product that uses them and is right."""
    import torch

    has = torch.cpu.get_capabilities()
    if not (has.get("avx512_vnni") or has.get("avx_vnni") or has.get("amx_int8")):
        return False
    one, other = (_coded(np.random.default_rng(at).normal(size=(64, 96)).astype(np.float32), 4) for at in (0, 1))
    try:
        return bool(torch.equal(_product()(one, other.T).float(), one.float() @ other.float().T))
    except (AttributeError, RuntimeError):  # a torch without it
        return False
