"""The base model's vectors of the passages, computed once and shared with the stages that follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from fieldtune.config import Config
from fieldtune.queries.clusters import Vectors
from fieldtune.types import Passage


def passage_vectors(
    config: Config, passages: Mapping[str, Passage], folder: Path | None
) -> Callable[[], Vectors] | None:
    """What gives unit vectors (passages, dimension) when first called; None without a folder to keep them in."""
    if folder is None:
        return None

    @cache
    def vectors() -> Vectors:
        from fieldtune.encoding import Encoder, corpus_vectors, settings_for

        encoder = Encoder.load(config.model.base, settings=config.model)
        texts = [passage.content for passage in passages.values()]
        settings = settings_for(config, checked=False)
        return corpus_vectors(encoder, texts, folder, settings, label="encoding passages (base model)").vectors

    return vectors
