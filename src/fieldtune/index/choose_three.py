"""The weights of an encoder's three scores in the sums that search ranks by, as evaluation chooses them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.index.dev import Dev
from fieldtune.index.signals import Given
from fieldtune.index.three import MEMBERS, Three, weights_of
from fieldtune.measures import MAIN, measure

if TYPE_CHECKING:
    from fieldtune.evaluation.rankings import Ranking

_SUMS = ("dense-sparse", "m3")


def as_trained(given: Given) -> dict[str, Any]:
    """What meta.json says of the sums where there are no dev queries."""
    weights = {mode: [w * (n in MEMBERS[mode]) for n, w in enumerate(given.weights)] for mode in _SUMS}
    origin = "those that the model was trained with; there were no dev queries"
    return {"weights": weights, "weights_from": origin, "words_weight": 0.5, "plain": "dense"}


def choose_three(
    three: Three, given: Given, dev: Dev, vectors: NDArray[np.float32], lexical: Ranking, ids: tuple[str, ...]
) -> tuple[dict[str, float], dict[str, Any], str]:
    """nDCG@10 on dev of each mode, the weights for meta.json, and what to say of them."""
    from fieldtune.evaluation.fusion import best_weight
    from fieldtune.evaluation.signals import Scored, chosen_weights

    if dev.three is None:
        raise ValueError("dev queries without sparse and token vectors cannot choose their weights")
    depth = min(given.depth, len(ids))
    near = three.dense.best(vectors, depth)[1]
    found = []
    for query in range(len(dev.texts)):
        one = three.candidates(dev.three, query, vectors[query], near[query], depth, None, mode="m3")
        found.append((one.rows, one.scores))  # and not the scores of all passages
    rows = np.full((len(found), max(len(own) for own, _ in found)), -1, np.int64)
    scores = np.zeros((3, *rows.shape), np.float32)
    for query, (own, each) in enumerate(found):
        rows[query, : len(own)], scores[:, query, : len(own)] = own, each
    scored = Scored(dev.texts, ids, rows, scores)
    chosen, said = {}, []
    for mode in _SUMS:
        weights, detail = chosen_weights(scored, MEMBERS[mode], dev.judged)
        chosen[mode] = [float(f"{weight:.6g}") for weight in weights]
        said.append(f"{mode}: {detail}")
    meta: dict[str, Any] = {"m3": {"weights": chosen}}
    rankings = {
        mode: scored.ranking(weights_of(meta, mode), depth) for mode in ("sparse", "dense-sparse", "multi", "m3")
    }
    means = {
        mode: round(float(np.nanmean(measure([MAIN], one.rows, dev.judged)[MAIN])), 4) for mode, one in rankings.items()
    }
    words_weight, mean = best_weight(rankings["m3"], lexical, dev.judged, MAIN)
    means["m3-words"] = round(mean, 4)
    origin = f"nDCG@10 on {len(dev.texts):,} dev queries"
    record = {"weights": chosen, "weights_from": origin, "words_weight": words_weight, "detail": said}
    text = f"; m3-words: {words_weight:.2f} of the three scores' sum and {1 - words_weight:.2f} of BM25's. "
    return means, record, text + " ".join(said)
