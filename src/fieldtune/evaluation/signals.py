"""One model's dense, sparse and multi-vector search, each alone, in pairs and all together, weights chosen on dev."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fieldtune import config as settings
from fieldtune.beir import RetrievalData
from fieldtune.encoding import Encoder
from fieldtune.encoding.m3 import (
    WEIGHTS,
    M3Vectors,
    by_sum,
    cached_m3,
    find,
    has_heads,
    hidden_size,
    m3_heads,
    new_heads,
    three_scores,
)
from fieldtune.evaluation.rankings import Ranking, asked, judged
from fieldtune.evaluation.results import MAIN, About, System
from fieldtune.measures import Judgements, measure
from fieldtune.models import resolve_model

if TYPE_CHECKING:
    from torch.nn import ModuleDict

KINDS = ("dense", "sparse", "multi-vector")
_STEPS = 10  # weights that are tried on dev are tenths
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scored:
    """Candidates of each query of a split with their three scores."""

    queries: tuple[str, ...]
    ids: tuple[str, ...]
    rows: NDArray[np.int64]
    """(n, c) ascending, -1 behind the last."""
    scores: NDArray[np.float32]
    """(3, n, c)"""

    def spread(self) -> Floats:
        """(3,) the standard deviation of each score over all candidates: scores divided by it are of one size."""
        inside = self.scores[:, self.rows >= 0].astype(np.float64)
        spread = inside.std(axis=1) if inside.shape[1] else np.ones(3)
        return np.where(spread > 1e-9, spread, 1.0)

    def ranking(self, weights: Sequence[float] | Floats, depth: int) -> Ranking:
        """By the weighted sum; equal sums go by the order of the corpus. Sparse search alone ranks what it found."""
        rows, values = by_sum(self.rows, self.scores, weights, depth)
        short = ((0, 0), (0, max(0, min(depth, len(self.ids)) - rows.shape[1])))
        rows, values = np.pad(rows, short, constant_values=-1), np.pad(values, short)
        return Ranking(self.queries, self.ids, rows, values.astype(np.float32), "derived")


def m3_systems(
    data: RetrievalData,
    split: str,
    encoder: Encoder,
    name: str,
    vectors: Path,
    config: settings.Evaluation,
    depth: int,
    *,
    dev: bool,
) -> tuple[list[System], list[str]]:
    """Sparse, multi-vector, each pair and all three of a model; dense alone is the model itself, in another place.

    Candidates are what dense or sparse search ranks among the first `depth` or `config.m3_depth`; data that are
    judged-only give theirs. Weights of sums are chosen on dev by nDCG@10 (`dev`: there is one to choose by), else they
    are those that BGE-M3 is trained with. A model without the layers gets new ones, as training would begin.
    """
    heads, origin = _heads(encoder, config.m3_size)
    notes = []
    passages = passages_of(data, encoder, name, vectors, config)

    def of(part: str) -> Scored:
        names = asked(data, part)
        texts = [data.queries[query].text for query in names]
        label = f"encoding {part} queries three ways ({name})"
        queries = cached_m3(encoder, heads, texts, "query", vectors, form="float32", label=label).whole()
        if data.evaluation == "judged-only":
            rows = _judged(data, part, names)
        else:
            rows = find(queries, passages, max(depth, config.m3_depth))
        return Scored(names, tuple(data.passages), rows, three_scores(queries, passages, rows))

    measured = of(split)
    chosen_on = of("dev") if dev else None
    if chosen_on is None:
        why = "the dev split is what is measured" if split == "dev" else "there are no dev queries"
        notes.append(
            f"{name}: scores were added with the weights {WEIGHTS} of BGE-M3; they would be chosen on dev, and {why}."
        )
    sizes = passages.bytes_per_text()
    systems = []
    for members in [m for count in (1, 2, 3) for m in combinations(range(3), count)][1:]:
        weights, detail = np.zeros(3), ""
        weights[list(members)] = [WEIGHTS[member] for member in members]
        if len(members) > 1 and chosen_on is not None:
            weights, detail = chosen_weights(chosen_on, members, judged(data, "dev"))
        kept = sum(sizes[("dense", "sparse", "multi")[member]] for member in members)
        said = " ".join(part for part in (detail, origin) if part)
        kinds = "all three" if len(members) == 3 else " + ".join(KINDS[member] for member in members)
        about = About("signals", name, encoder.dimension, "float32", "", round(kept), (name,), said)
        systems.append(System(f"{name} {kinds}", measured.ranking(weights, depth), about))
    return systems, notes


def passages_of(
    data: RetrievalData, encoder: Encoder, name: str, vectors: Path, config: settings.Evaluation
) -> M3Vectors:
    """All passages in all three kinds, from one pass."""
    texts = [passage.content for passage in data.passages.values()]
    label = f"encoding passages three ways ({name})"
    heads, _ = _heads(encoder, config.m3_size)
    made = cached_m3(encoder, heads, texts, "passage", vectors, form=config.m3_tokens, pool=config.m3_pool, label=label)
    return made.whole()


def _heads(encoder: Encoder, size: int) -> tuple[ModuleDict, str]:
    """The model's layers, or new ones of this size as far as it goes, and what to say of those."""
    folder = resolve_model(encoder.name).folder
    if has_heads(folder):
        return m3_heads(encoder, folder), ""
    hidden = hidden_size(encoder)
    new = new_heads(hidden, min(size, hidden)).to(encoder.model.device).eval()
    return new, "The layers for sparse and multi-vectors are new, without any training."


def chosen_weights(scored: Scored, members: Sequence[int], relevant: Judgements) -> tuple[Floats, str]:
    """The weights of the members with the highest nDCG@10, of equals the most even ones, and a sentence on them."""
    spread = scored.spread()
    means = {}
    for parts in product(range(1, _STEPS), repeat=len(members)):
        if sum(parts) == _STEPS:
            weights = np.zeros(3)
            weights[list(members)] = np.array(parts) / _STEPS / spread[list(members)]
            values = measure([MAIN], scored.ranking(weights, 10).rows, relevant)[MAIN]
            means[parts] = round(float(np.nanmean(values)), 9)
    best = max(means, key=lambda parts: (means[parts], -max(parts) + min(parts), parts))
    weights = np.zeros(3)
    weights[list(members)] = np.array(best) / _STEPS / spread[list(members)]
    shares = ", ".join(
        f"{part / _STEPS:.1f} of {KINDS[member]} (spread {spread[member]:.3g})"
        for part, member in zip(best, members, strict=True)
    )
    return weights, (
        f"Scores divided by their spread, {shares}; chosen on {len(scored.queries):,} dev queries "
        f"(nDCG@10 {means[best]:.3f} there)."
    )


def _judged(data: RetrievalData, split: str, names: Sequence[str]) -> NDArray[np.int64]:
    place = {key: row for row, key in enumerate(data.passages)}
    found = [sorted(place[key] for key in data.qrels[split][name]) for name in names]
    out = np.full((len(found), max(map(len, found), default=0)), -1, np.int64)
    for row, own in enumerate(found):
        out[row, : len(own)] = own
    return out
