"""What a dataset is too small for, said before anybody trusts a figure on it."""

from __future__ import annotations

from collections.abc import Iterator

from fieldtune.beir import RetrievalData
from fieldtune.config import Config
from fieldtune.dataset.rows import TrainingRows

_FEW_QUERIES = 30
"""Test queries below which chance decides: the interval of a mean over so few is wider than any gain of training."""
_FEW_PASSAGES = 50
"""Passages among which any model finds the right one."""


def doubts(config: Config, data: RetrievalData, rows: TrainingRows) -> Iterator[str]:
    """Sentences on what cannot be learned from these data, or proved with them."""
    asked, passages = len(data.positives("test")), len(data.passages)
    if "test" in data.qrels and asked < _FEW_QUERIES:
        yield (
            f"The test set has {asked:,} {'query' if asked == 1 else 'queries'}: figures on it prove nothing, whichever"
            " way they go; give more documents or labels."
        )
    if passages < _FEW_PASSAGES:
        yield (
            f"The corpus has {passages:,} passages: the right one is among the first ten by chance alone"
            f"{'' if passages <= 10 else ' or nearly so'}, and training has little to tell apart."
        )
    if config.negatives.per_query and rows.examples and not rows.counts["hard negatives"]:
        yield (
            "No passage is left to be a hard negative: each is an answer, near one, or held back for dev and test."
            " Training tells the passages of a batch apart and nothing harder."
        )
