"""Many texts' dense, sparse and token vectors in arrays, in small number formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

TokenFormat = Literal["float32", "float16", "int8"]


@dataclass(frozen=True, slots=True)
class TokenVectors:
    """Unit vectors of the tokens of n texts, end to end."""

    values: NDArray[Any]
    """(t, size) float32, float16 or int8."""
    scales: NDArray[np.float32]
    """(t,) what int8 values are multiplied by; empty for the other formats."""
    starts: NDArray[np.int64]
    """(n + 1,): text i has values[starts[i]:starts[i + 1]]."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def nbytes(self) -> int:
        return int(self.values.nbytes + self.scales.nbytes + self.starts.nbytes)

    def places(self, rows: NDArray[np.integer[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of `values` of these texts one after the other, and (len(rows),) how many each has."""
        counts = np.diff(self.starts)[rows]
        ends = np.cumsum(counts)
        inside = np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - counts, counts)
        return np.asarray(np.repeat(self.starts[:-1][rows], counts) + inside, np.int64), counts

    def of(self, places: NDArray[np.int64] | slice) -> NDArray[np.float32]:
        """Float32 vectors of these rows of `values`."""
        values = self.values[places].astype(np.float32)
        return values * self.scales[places][:, None] if len(self.scales) else values

    def take(self, rows: NDArray[np.int64]) -> TokenVectors:
        places, counts = self.places(rows)
        scales = self.scales[places] if len(self.scales) else self.scales
        return TokenVectors(self.values[places], scales, np.concatenate([[0], np.cumsum(counts)]))


@dataclass(frozen=True, slots=True)
class M3Vectors:
    """What one pass gives of n texts."""

    dense: NDArray[np.float32]
    """(n, dim) unit length."""
    sparse: Any
    """(n, vocabulary) scipy CSR, float32, the weights of the words that a text has."""
    tokens: TokenVectors

    def __len__(self) -> int:
        return len(self.dense)

    def take(self, rows: NDArray[np.int64]) -> M3Vectors:
        return M3Vectors(self.dense[rows], self.sparse[rows], self.tokens.take(rows))

    def bytes_per_text(self) -> dict[str, float]:
        """Of each of the three kept in memory or uncompressed files."""
        n = max(1, len(self))
        matrix = self.sparse
        sparse = matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes
        return {"dense": self.dense.nbytes / n, "sparse": sparse / n, "multi": self.tokens.nbytes / n}


def in_format(vectors: NDArray[np.float32], starts: NDArray[np.int64], form: TokenFormat) -> TokenVectors:
    """Token vectors in a number format; int8 has one scale per token, its largest number becoming 127."""
    if form != "int8":
        return TokenVectors(vectors.astype(form), np.zeros(0, np.float32), starts)
    largest = np.abs(vectors).max(axis=1, initial=0)
    scales = (np.maximum(largest, 1e-12) / 127).astype(np.float32)
    return TokenVectors(np.rint(vectors / scales[:, None]).astype(np.int8), scales, starts)


def pooled(
    vectors: NDArray[np.float32], starts: NDArray[np.int64], factor: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Each text's token vectors reduced to a `factor`-th: like ones become their mean, at unit length.

    They are grouped by Ward's hierarchical clustering, as found best for late interaction (arXiv:2409.14683). A text
    keeps at least one vector.
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    parts, counts = [np.zeros((0, vectors.shape[1]), np.float32)], []
    for begin, end in pairwise(starts):
        own = vectors[begin:end]
        wanted = -(-len(own) // factor)
        if 1 <= wanted < len(own):
            groups = fcluster(linkage(own, "ward"), wanted, "maxclust") if wanted > 1 else np.ones(len(own), np.int64)
            sums = np.stack([own[groups == group].sum(axis=0) for group in np.unique(groups)])
            own = (sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)).astype(np.float32)
        parts.append(own)
        counts.append(len(own))
    return np.concatenate(parts), np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def together(parts: Sequence[M3Vectors]) -> M3Vectors:
    """The texts of several, one after the other; all in one number format."""
    from scipy.sparse import vstack

    starts, ends = [np.zeros(1, np.int64)], 0
    for part in parts:
        starts.append(part.tokens.starts[1:] + ends)
        ends += int(part.tokens.starts[-1])
    tokens = TokenVectors(
        np.concatenate([part.tokens.values for part in parts]),
        np.concatenate([part.tokens.scales for part in parts]),
        np.concatenate(starts),
    )
    sparse = vstack([part.sparse for part in parts], format="csr")
    return M3Vectors(np.concatenate([part.dense for part in parts]), sparse, tokens)
