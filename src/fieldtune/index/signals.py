"""Learned word weights as inverted lists and token vectors in a small format, in files that are mapped into memory.

Weights of a word lie together: a query adds up those of its own words alone. scipy's product with the same arrays takes
as long (1.0 and 0.8 ms of one core for 100,000 passages), a product with passages by row 7 ms; LanceDB has no type for
them. Token vectors lie by passage: only candidates are read. LanceDB's column of multivectors takes as many bytes in
float32 and float16, has no int8, and is slower: 200 candidates among 5,000 passages of 120 tokens took 50 ms of the
processor there in float32 and 233 in float16, in these files 19, 24 and, in int8 of half the bytes, 15
(benchmarks/m3_storage.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.disk import mapped_array
from fieldtune.encoding.m3 import M3Vectors, TokenFormat, TokenVectors, multi_of

_BLOCK = 512
"""Passages whose token vectors are copied at once."""


@dataclass(frozen=True, slots=True)
class Given:
    """Sparse and token vectors of an index's passages, wherever they lie."""

    sparse: Any
    """(texts, vocabulary) CSR."""
    tokens: tuple[TokenVectors, ...]
    """Of these texts one after the other, all in one format."""
    rows: NDArray[np.int64]
    """(passages,) the text that each passage has."""
    form: TokenFormat
    pool: int
    heads: str
    """Names the layers that made them."""
    weights: tuple[float, float, float]
    """Of the dense, sparse and multi-vector score in sums that no dev query could choose."""
    depth: int = 100
    """Ranks of dense and of sparse search whose passages are scored by token vectors and by sums."""
    single: bool = False
    """`encoding.m3.ask_single` was found to give the model's very vectors of queries."""


def write_signals(folder: Path, given: Given) -> dict[str, int]:
    """Write both as arrays; returns the bytes per passage of each, rounded."""
    inverted = given.sparse[given.rows].T.tocsr()
    inverted.sort_indices()
    lists = {
        "sparse-starts": inverted.indptr.astype(np.int64),
        "sparse-rows": inverted.indices.astype(np.int32),
        "sparse-weights": inverted.data.astype(np.float32),
    }
    for name, values in lists.items():
        np.save(folder / f"{name}.npy", values)
    tokens = _write_tokens(folder, given)
    count = max(1, len(given.rows))
    return {
        "sparse": round(sum(values.nbytes for values in lists.values()) / count),
        "multi-vector": round(tokens / count),
    }


def _write_tokens(folder: Path, given: Given) -> int:
    """Bytes written."""
    firsts = np.cumsum([0, *(len(part) for part in given.tokens)])
    counts = np.concatenate([np.diff(part.starts) for part in given.tokens])[given.rows]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    first = given.tokens[0]
    shape = (int(starts[-1]), first.values.shape[1])
    out = mapped_array(folder / "tokens.npy", first.values.dtype, shape)
    scales = np.zeros(shape[0] if len(first.scales) or given.form == "int8" else 0, np.float32)
    for begin in range(0, len(given.rows), _BLOCK):
        block = given.rows[begin : begin + _BLOCK]
        for number, part in enumerate(given.tokens):
            inside = np.flatnonzero((block >= firsts[number]) & (block < firsts[number + 1]))
            source, _ = part.places(block[inside] - firsts[number])
            places = np.concatenate(
                [np.zeros(0, np.int64), *(np.arange(starts[at], starts[at + 1]) for at in begin + inside)]
            )
            out[places] = part.values[source]
            if len(scales):
                scales[places] = part.scales[source]
    out.flush()
    np.save(folder / "token-scales.npy", scales)
    np.save(folder / "token-starts.npy", starts)
    return int(out.nbytes + scales.nbytes + starts.nbytes)


class Signals:
    """What `write_signals` wrote, mapped into memory. Raises OSError or ValueError for files that are gone, cut short
    or of different versions."""

    def __init__(self, folder: Path) -> None:
        self._starts, self._rows, self._weights = (
            _mapped(folder / f"sparse-{name}.npy") for name in ("starts", "rows", "weights")
        )
        self.tokens = TokenVectors(
            *(_mapped(folder / f"{name}.npy") for name in ("tokens", "token-scales", "token-starts"))
        )
        values, scales, starts = self.tokens.values, self.tokens.scales, self.tokens.starts
        if values.ndim != 2 or starts[-1] != len(values) or len(scales) not in (0, len(values)):
            raise ValueError("tokens.npy does not go with token-starts.npy and token-scales.npy")
        if not self._starts[-1] == len(self._rows) == len(self._weights):
            raise ValueError("sparse-starts.npy, sparse-rows.npy and sparse-weights.npy do not go together")

    def __len__(self) -> int:
        return len(self.tokens)

    def sparse(self, queries: M3Vectors, query: int) -> NDArray[np.float64]:
        """The sum over shared words of both weights' product, rounded so that equal passages tie: (passages,)."""
        out = np.zeros(len(self))
        own = slice(*queries.sparse.indptr[query : query + 2])
        for word, weight in zip(queries.sparse.indices[own], queries.sparse.data[own], strict=True):
            begin, end = int(self._starts[word]), int(self._starts[word + 1])
            out[self._rows[begin:end]] += float(weight) * self._weights[begin:end]
        return np.round(out, 6)

    def multi(self, queries: M3Vectors, query: int, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """The mean over the query's tokens of the best product with a passage's: (len(rows),)."""
        scores = multi_of(queries.tokens, query, self.tokens, rows)
        return np.asarray(np.round(scores.astype(np.float64), 6), np.float64)

    def by_passage(self) -> Any:
        """The word weights as (passages, vocabulary) CSR."""
        from scipy.sparse import csr_matrix

        shape = (len(self._starts) - 1, len(self))
        return csr_matrix((self._weights, self._rows, self._starts), shape=shape).T.tocsr()


def _mapped(path: Path) -> NDArray[Any]:
    try:
        return np.asarray(np.load(path, mmap_mode="r"))
    except ValueError:  # nothing in it: an empty file cannot be mapped
        try:
            return np.asarray(np.load(path, allow_pickle=False))
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path.name}: {error}") from None
