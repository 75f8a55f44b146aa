"""The hits of queries in one version of an index."""

from __future__ import annotations

from collections.abc import Sequence

from fieldtune.encoding import shortened
from fieldtune.encoding.m3 import M3Vectors
from fieldtune.errors import ModelError
from fieldtune.index.asking import Asked
from fieldtune.index.meta import REBUILD
from fieldtune.index.snapshot import Snapshot
from fieldtune.index.three import MODES
from fieldtune.index.where import Where
from fieldtune.types import Hit


def found(
    snapshot: Snapshot,
    asked: Asked | None,
    texts: Sequence[str] | None,
    k: int,
    mode: str,
    where: Where | None,
    *,
    base: bool = False,
) -> list[list[Hit]]:
    """The k best passages of each query by a mode, best first; `base`: with the base model's vectors.

    Raises ModelError for vectors that are of another size than the index's model makes.
    """
    vectors = asked.dense if isinstance(asked, M3Vectors) else asked
    if vectors is not None:
        full, kept = int(snapshot.meta["model_dimension"]), int(snapshot.meta["dimension"])
        if base and snapshot.base is not None:
            full = int(snapshot.meta["base"]["dimension"])
            kept = snapshot.base.dimension
        if vectors.ndim != 2 or vectors.shape[1] not in (full, kept):
            raise ModelError(
                f"query vectors of shape {vectors.shape} do not fit an index of {full} dimensions", REBUILD
            )
        vectors = shortened(vectors, kept)
    mask = snapshot.columns.mask(where) if where else None
    k = min(k, len(snapshot.store))
    if isinstance(asked, M3Vectors) and vectors is not None and mode in MODES:
        ranked = snapshot.find_three(asked, vectors, texts or (), k, mode, mask)
    else:
        ranked = snapshot.find(vectors, texts, k, mode, mask, base=base)
    return [
        [Hit(snapshot.store[row], score, rank, parts) for rank, (row, score, parts) in enumerate(rows, 1)]
        for rows in ranked
    ]
