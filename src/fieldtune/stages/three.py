"""Sparse and token vectors of an index's passages and dev queries, where the run's model makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldtune.errors import ConfigError
from fieldtune.stages.run import Run

if TYPE_CHECKING:
    from torch.nn import ModuleDict

    from fieldtune.encoding import Encoder
    from fieldtune.encoding.m3 import CachedM3, M3Vectors
    from fieldtune.index import Given, Index


@dataclass(frozen=True, slots=True)
class ThreeWays:
    """A run's model with its two layers, and what its settings say of what is kept."""

    run: Run
    encoder: Encoder
    heads: ModuleDict
    single: bool
    """Queries get the same without the library."""

    @classmethod
    def of(cls, run: Run, model: Path, encoder: Encoder) -> ThreeWays | None:
        """None where they are not wanted, or there are no layers and auto leaves it at that. Raises ConfigError where
        they are wanted and not there, ModelError for layers that do not fit."""
        from fieldtune.encoding.m3 import agrees_three, has_heads, m3_heads

        wanted, carried = run.config.index.m3, has_heads(model)
        if wanted is False or (wanted == "auto" and not carried):
            return None
        if not carried:
            raise ConfigError(
                "index.m3=true, and the run's model has no layers for sparse and token vectors",
                "train them with training.m3.train=both, or take index.m3=auto",
            )
        heads = m3_heads(encoder, model)
        return cls(run, encoder, heads, agrees_three(model, encoder, heads))

    def passages(self, texts: Sequence[str], label: str = "encoding passages three ways (tuned)") -> CachedM3:
        from fieldtune.encoding.m3 import cached_m3

        settings = self.run.config.index
        return cached_m3(
            self.encoder, self.heads, texts, "passage", self.run.path("vectors"), form=settings.m3_tokens,
            pool=settings.m3_pool, label=label,
        )  # fmt: skip

    def queries(self, texts: Sequence[str]) -> M3Vectors:
        from fieldtune.encoding.m3 import cached_m3

        label = "encoding dev queries three ways (tuned)"
        folder = self.run.path("vectors")
        return cached_m3(self.encoder, self.heads, texts, "query", folder, form="float32", label=label).whole()

    def given(self, made: CachedM3) -> Given:
        """For an index of the texts asked for."""
        return self._given(made.vectors.sparse, (made.vectors.tokens,), made.rows)

    def taken_over(self, old: Index, rows: Sequence[int], fresh: CachedM3) -> Given:
        """For an index whose passages have what an older one keeps of its passage `row` or, behind the last of those,
        what was made of the fresh texts asked for."""
        from scipy.sparse import vstack

        sparse, tokens = old.stored_signals()
        made = fresh.vectors
        wide = max(sparse.shape[1], made.sparse.shape[1])
        for part in (sparse, made.sparse):
            part.resize(part.shape[0], wide)
        behind = np.array(rows, np.int64)
        new = behind >= len(tokens)
        behind[new] = len(tokens) + fresh.rows[behind[new] - len(tokens)]
        return self._given(vstack([sparse, made.sparse], format="csr"), (tokens, made.tokens), behind)

    def fits(self, meta: dict[str, Any]) -> bool:
        """Whether what an index keeps was made by these layers and settings."""
        from fieldtune.encoding.m3 import heads_digest

        settings, about = self.run.config.index, meta.get("m3") or {}
        wanted = {"tokens": settings.m3_tokens, "pool": settings.m3_pool, "heads": heads_digest(self.heads)}
        return {name: about.get(name) for name in wanted} == wanted

    def _given(self, sparse: Any, tokens: Any, rows: Any) -> Given:
        from fieldtune.encoding.m3 import heads_digest
        from fieldtune.index import Given

        config = self.run.config
        return Given(
            sparse, tokens, rows, config.index.m3_tokens, config.index.m3_pool, heads_digest(self.heads),
            config.training.m3.weights, config.index.m3_depth, self.single,
        )  # fmt: skip
