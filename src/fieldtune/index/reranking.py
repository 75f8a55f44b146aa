"""The first results put in the order of a cross-encoder, which reads query and passage together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fieldtune.types import Hit


def reranked(reranker: Any, texts: Sequence[str], found: Sequence[Sequence[Hit]]) -> list[list[Hit]]:
    """Each query's hits by the reranker's score, all pairs read in one go; equal scores keep their order.

    `reranker` is an `evaluation.rerank.Reranker`; its score takes the place of the old one, which `parts` keep.
    """
    pairs = [(text, hit.passage.content) for text, hits in zip(texts, found, strict=True) for hit in hits]
    scores = iter(reranker.scores(pairs).tolist())
    out = []
    for hits in found:
        new = [next(scores) for _ in hits]
        order = np.argsort(-np.array(new), kind="stable").tolist()
        out.append(
            [
                replace(hits[place], score=new[place], rank=rank, parts={**hits[place].parts, "rerank": new[place]})
                for rank, place in enumerate(order, 1)
            ]
        )
    return out
