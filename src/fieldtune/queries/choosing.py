"""Which passages an LLM is asked about: spread over documents and topics, worth a question, none of them twice."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fieldtune.corpus.near import near_duplicate_pairs
from fieldtune.corpus.shingling import shingle_arrays
from fieldtune.queries.boilerplate import boilerplate
from fieldtune.queries.clusters import Vectors, cluster, topic_count
from fieldtune.queries.sampling import document_of, draw_passages, stable_order
from fieldtune.types import Passage

_NEAR = 0.8
"""Jaccard similarity of word 3-shingles from which of two passages only the first is asked about."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen passages, best spread first: any number from the front on is a good choice as well."""

    keys: tuple[str, ...]
    eligible: tuple[str, ...]
    """All that could have been chosen."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    topics: tuple[Mapping[str, Any], ...] = ()
    """Size, number chosen and the titles nearest to the centre of each topic; empty where none were needed."""


def choose_passages(
    passages: Mapping[str, Passage], most: int, seed: int, vectors: Callable[[], Vectors] | None = None
) -> Choice:
    """Up to `most` passages; `vectors` gives the unit vectors of all passages in their order, if it must be known.

    A topic's share grows with the square root of its size, so that large ones get more without drowning the small.
    """
    reasons = boilerplate(passages)
    left = {key: passage for key, passage in passages.items() if key not in reasons}
    reasons |= dict.fromkeys(_copies(left, seed), "near-duplicate of another passage")
    eligible = {key: passage for key, passage in passages.items() if key not in reasons}
    dropped = {f"passage not asked about: {reason}": n for reason, n in sorted(Counter(reasons.values()).items())}
    documents = len({document_of(passage) for passage in eligible.values()})
    if len(eligible) <= most or vectors is None:
        drawn = draw_passages(eligible, most, seed)
        how = "all that are worth a question" if len(eligible) <= most else "drawn evenly over the documents"
        said = f"The LLM was asked about {len(drawn):,} of {len(passages):,} passages ({how}), "
        return Choice(tuple(drawn), tuple(eligible), dropped, (f"{said}from {documents:,} documents.",))
    keys = list(eligible)
    row = {key: place for place, key in enumerate(passages)}
    own = np.asarray(vectors())[[row[key] for key in keys]]
    labels, centres = cluster(own, topic_count(len(keys)), seed)
    order = _order(eligible, keys, labels.tolist(), seed)
    chosen = order[:most]
    taken = {document_of(passages[key]) for key in chosen}
    note = (
        f"The LLM was asked about {len(chosen):,} of {len(passages):,} passages, spread over {len(centres)} topics"
        f" (clusters of the base model's vectors) and {len(taken):,} of {documents:,} documents; a topic's share grows"
        " with the square root of its size."
    )
    topics = _topics(eligible, keys, own, labels.tolist(), centres, set(chosen))
    return Choice(tuple(chosen), tuple(keys), dropped, (note,), topics)


def _order(passages: Mapping[str, Passage], keys: list[str], labels: list[int], seed: int) -> list[str]:
    """All passages, the topics taking turns by weight, each topic's documents taking turns within it."""
    members: dict[int, dict[str, Passage]] = {}
    for key, label in zip(keys, labels, strict=True):
        members.setdefault(label, {})[key] = passages[key]
    turns = []
    for label, own in members.items():
        for place, key in enumerate(draw_passages(own, len(own), seed)):
            turns.append(((place + 0.5) / math.sqrt(len(own)), stable_order(seed, str(label)), key))
    return [key for *_, key in sorted(turns)]


def _copies(passages: Mapping[str, Passage], seed: int) -> list[str]:
    """Those that are near to an earlier one which stays."""
    keys = list(passages)
    sets = list(shingle_arrays([passages[key].text for key in keys]))
    gone: set[int] = set()
    for one, other, _ in near_duplicate_pairs(sets, _NEAR, seed):
        if one not in gone:
            gone.add(other)
    return [keys[place] for place in sorted(gone)]


def _topics(
    passages: Mapping[str, Passage], keys: list[str], vectors: Vectors, labels: list[int], centres: Vectors,
    chosen: set[str],
) -> tuple[Mapping[str, Any], ...]:  # fmt: skip
    rows: dict[int, list[int]] = {}
    for place, label in enumerate(labels):
        rows.setdefault(label, []).append(place)
    described = []
    for label, own in sorted(rows.items(), key=lambda item: (-len(item[1]), item[0])):
        near = sorted(own, key=lambda place: -float(vectors[place] @ centres[label]))[:3]
        about = [passages[keys[place]].title or passages[keys[place]].text[:60] for place in near]
        described.append({"passages": len(own), "asked": sum(keys[place] in chosen for place in own), "about": about})
    return tuple(described)
