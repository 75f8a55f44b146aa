"""Whether a fast encoder gives what the model itself gives: cosines of vectors, and nDCG@10 on a field's queries."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fieldtune.beir import RetrievalData
from fieldtune.encoding.engine import Format
from fieldtune.encoding.fast import Encodes
from fieldtune.encoding.search import top_k
from fieldtune.errors import ModelError
from fieldtune.measures import MAIN, judgements, measure

if TYPE_CHECKING:
    from fieldtune.encoding.encoder import Encoder

log = logging.getLogger(__name__)

_LEAST: dict[Format, tuple[float, float]] = {"fp32": (0.9999, 0.9999), "bf16": (0.995, 0.999), "int8": (0.8, 0.97)}
"""Lowest and mean cosine with the model's own fp32 vectors; far below what a sound export has."""
_TEXTS = 128
LEAST_COSINE = 0.999
"""Of an engine's vectors with the model's own, for each text of a sample: queries are encoded by the model itself."""
_CHECKED = 32
_PROBES = ("a", "What is it, and when does it end? (§ 12.3)", "合同什么时候解除?", "word " * 600)


@dataclass(frozen=True, slots=True)
class Check:
    """What a comparison with the model's own vectors in fp32 found."""

    lowest_cosine: float
    mean_cosine: float
    queries: int = 0
    passages: int = 0
    """That were ranked: the queries' relevant ones and others drawn at random."""
    ndcg_before: float = 0.0
    ndcg_after: float = 0.0

    @property
    def lost(self) -> float:
        """Points (hundredths) of nDCG@10."""
        return 100 * (self.ndcg_before - self.ndcg_after)

    def said(self) -> list[str]:
        lines = [f"cosine with the model's own fp32 vectors: {self.mean_cosine:.5f}, lowest {self.lowest_cosine:.5f}"]
        if self.queries:
            lines.append(
                f"nDCG@10 on {self.queries:,} queries over {self.passages:,} passages: {self.ndcg_before:.4f} -> "
                f"{self.ndcg_after:.4f}, {self.lost:+.2f} points lost"
            )
        return lines

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def check_vectors(exact: Encodes, fast: Encodes, texts: Sequence[str]) -> Check:
    """Compare both on up to 128 of the texts and some probes: short, long, in two scripts."""
    stride = max(1, len(texts) // _TEXTS)
    chosen = [*_PROBES, *texts[::stride][:_TEXTS]]
    cosines = (exact.encode(chosen, "passage") * fast.encode(chosen, "passage")).sum(axis=1)
    return Check(float(cosines.min()), float(cosines.mean()))


def check_retrieval(
    exact: Encodes, fast: Encodes, data: RetrievalData, split: str, *, queries: int, passages: int, seed: int = 13
) -> Check:
    """Compare both on up to so many queries of a split, over their relevant passages and others, `passages` in all."""
    positives = data.positives(split)
    draw = random.Random(seed)
    names = draw.sample(sorted(positives), min(queries, len(positives)))
    wanted = {passage for name in names for passage in data.qrels[split][name]}
    others = [name for name in data.passages if name not in wanted]
    wanted.update(draw.sample(others, min(len(others), max(0, passages - len(wanted)))))
    kept = [name for name in data.passages if name in wanted]
    place = {name: row for row, name in enumerate(kept)}
    table = judgements([data.qrels[split][name] for name in names], place, data.relevance_threshold)
    asked, texts = [data.queries[name].text for name in names], [data.passages[name].content for name in kept]
    means, vectors = [], []
    for encoder in (exact, fast):
        vectors.append(encoder.encode(texts, "passage"))
        rows = top_k(encoder.encode(asked, "query"), vectors[-1], 10)[1]
        means.append(float(measure([MAIN], rows, table)[MAIN].mean()))
    cosines = (vectors[0] * vectors[1]).sum(axis=1)
    return Check(float(cosines.min()), float(cosines.mean()), len(names), len(kept), *means)


def require_close(check: Check, precision: Format, max_loss: float, name: str) -> None:
    """Raise ModelError where a check shows that vectors are wrong, or more than `max_loss` points are lost."""
    lowest, mean = _LEAST[precision]
    if not (check.lowest_cosine >= lowest and check.mean_cosine >= mean):
        raise ModelError(
            f"{name}: its vectors are not the model's (mean cosine {check.mean_cosine:.4f}, lowest "
            f"{check.lowest_cosine:.4f}; {precision} must have {mean} and {lowest})",
            "take a higher precision or the torch backend",
        )
    if check.queries and check.lost > max_loss:
        raise ModelError(
            f"{name} loses {check.lost:.2f} points of nDCG@10 on {check.queries:,} queries ({check.ndcg_before:.4f} -> "
            f"{check.ndcg_after:.4f}), allowed are {max_loss:g}",
            "take a higher precision, or allow more with encoding.max_loss (--max-loss)",
        )


def require_same(encoder: Encoder, fast: Encodes, texts: Sequence[str], name: str, cure: str) -> None:
    """Raise ModelError where another way gives other vectors than the model itself, on up to 32 of the texts."""
    sample = texts[:: max(1, len(texts) // _CHECKED)][:_CHECKED]
    check = check_vectors(encoder, fast, sample)
    log.info("%s of %s: lowest cosine with its own vectors %.5f", name, encoder.name, check.lowest_cosine)
    if not check.lowest_cosine >= LEAST_COSINE:
        raise ModelError(
            f"{name}: its vectors are not those of {encoder.name} (lowest cosine {check.lowest_cosine:.4f}, at least "
            f"{LEAST_COSINE} is needed)",
            cure,
        )
