"""Two halves of each probe: by the one a model may be chosen, on the other the verdict on it is measured.

What is chosen on a set looks better on it than it is. The items of a probe that belong together (the queries of a
passage or its group, the pairs of a first sentence) are put in the order of the SHA-256 of their text or name and go by
turns to the one and the other half; of a classification probe, the texts of each class. The halves are thus the same in
every run and process, of equal size, and share no item. The passages that are ranked are all there in both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from fieldtune.beir import RetrievalData
from fieldtune.probes.measuring import SHOTS
from fieldtune.probes.sets import ClassificationProbe, Probe, RetrievalProbe, SimilarityProbe
from fieldtune.workspace import write_json

Half = Literal["choosing", "verdict"]
_MARK = "fieldtune.json"


def halves(probes: Sequence[Probe], half: Half) -> tuple[Probe, ...]:
    """One half of each probe; of a set too small to be divided the verdict has all and the choice nothing."""
    cut = [(one, _half(one, "choosing"), _half(one, "verdict")) for one in probes]
    if half == "verdict":
        return tuple(rest if chosen and rest else one for one, chosen, rest in cut)
    return tuple(chosen for _, chosen, rest in cut if chosen and rest)


def mark_chosen(model: Path, share: float) -> None:
    """Leave word in a model's folder that half of the probes had a part in choosing it."""
    write_json(model / _MARK, {"base_share": share, "chosen_on": "choosing half of the general-ability probes"})


def for_verdict(probes: Sequence[Probe], model: Path) -> tuple[Probe, ...]:
    """The probes that had no part in choosing the model in this folder: all of them, or their other halves."""
    return halves(probes, "verdict") if (model / _MARK).exists() else tuple(probes)


def in_half(keys: Sequence[str], half: Half) -> list[bool]:
    """Whether each item belongs to the half; items with equal keys stay together."""
    ordered = sorted(set(keys), key=lambda key: (hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest(), key))
    inside = set(ordered[0 if half == "choosing" else 1 :: 2])
    return [key in inside for key in keys]


def _half(one: Probe, half: Half) -> Probe | None:
    """The half of one probe; None if nothing could be measured on it."""
    if isinstance(one, RetrievalProbe):
        return _queries(one, half)
    if isinstance(one, SimilarityProbe):
        rows = np.flatnonzero(in_half(one.first, half))
        if len({one.grades[row] for row in rows}) < 2:
            return None
        first, second = (tuple(texts[row] for row in rows) for texts in (one.first, one.second))
        return replace(one, first=first, second=second, grades=tuple(one.grades[row] for row in rows))
    return _texts(one, half)


def _queries(one: RetrievalProbe, half: Half) -> RetrievalProbe | None:
    data = one.data
    positives = data.positives(one.split)
    # A query goes with its first relevant passage's group, else with that passage.
    keys = [data.passages[names[0]].group or names[0] for names in positives.values()]
    chosen = [query for query, inside in zip(positives, in_half(keys, half), strict=True) if inside]
    if not chosen:
        return None
    qrels = {one.split: {query: data.qrels[one.split][query] for query in chosen}}
    queries = {query: data.queries[query] for query in chosen}
    divided = RetrievalData(data.passages, queries, qrels, data.relevance_threshold, data.evaluation)
    return replace(one, data=divided)


def _texts(one: ClassificationProbe, half: Half) -> ClassificationProbe | None:
    inside = np.zeros(len(one.texts), np.bool_)
    for name in sorted(set(one.classes)):
        rows = [row for row, label in enumerate(one.classes) if label == name]
        inside[rows] = in_half([one.texts[row] for row in rows], half)
        if inside[rows].sum() <= SHOTS:  # none would be left to be classified
            return None
    rows = np.flatnonzero(inside).tolist()
    return replace(one, texts=tuple(one.texts[n] for n in rows), classes=tuple(one.classes[n] for n in rows))
