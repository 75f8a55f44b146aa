"""A teacher's scores for training rows, and the record of what they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fieldtune.dataset.fused_teacher import NAME as FUSED
from fieldtune.dataset.scorers import Pair, Scorer
from fieldtune.dataset.scoring import score_pairs
from fieldtune.types import Example

BASE = "cosine of the base model"
GIVEN = "given with the labels"
NONE = "none"
GRADED = ("cosine", "cosent")
"""Losses that learn how similar two texts are: for them the scores of labels are targets, not only yes or no."""


@dataclass(frozen=True, slots=True)
class Taught:
    examples: list[Example]
    record: dict[str, Any]
    """What teacher.json says."""
    dropped: dict[str, int]
    notes: list[str]


def teach(examples: Sequence[Example], scorer: Scorer, passage_limit: int, folder: Path) -> Taught:
    """Put the scorer's scores in the place of all others; scores are kept in `folder` while they come.

    A negative without a score is left out, a row whose positive has none keeps its texts and loses its scores.
    `passage_limit` is the most tokens of a passage that the tuned model reads; a teacher that reads less is named.
    """
    pairs: list[Pair] = []
    for example in examples:
        pairs += [(example.query, text) for text in (*example.pos, *example.neg)]
    scored = score_pairs(scorer, pairs, folder, f"scoring with {scorer.name}")
    values = iter(scored.values)
    out, unscored, headless = [], 0, 0
    for example in examples:
        pos = [next(values) for _ in example.pos]
        neg = [(text, next(values)) for text in example.neg]
        kept = [(text, score) for text, score in neg if not math.isnan(score)]
        if any(map(math.isnan, pos)):
            headless += 1
            out.append(replace(example, pos_scores=(), neg_scores=()))
            continue
        unscored += len(neg) - len(kept)
        texts, scores = tuple(text for text, _ in kept), tuple(score for _, score in kept)
        out.append(replace(example, pos_scores=tuple(pos), neg=texts, neg_scores=scores))
    dropped = {"negative the teacher gave no score": unscored, "row whose positive the teacher gave no score": headless}
    notes = [_agreement(out, scorer)]
    if scorer.max_tokens and scorer.max_tokens < passage_limit:
        notes.append(
            f"The teacher reads {scorer.max_tokens} tokens of query and passage together, fewer than the "
            f"{passage_limit} of a passage that the tuned model reads."
        )
    notes += scored.notes
    record = {
        "kind": scorer.kind,
        "model": scorer.name,
        "fingerprint": scorer.fingerprint,
        "scale": scorer.scale,
        "max_tokens": scorer.max_tokens or None,
        "max_characters": scorer.max_characters or None,
        "precision": scorer.precision or None,
        "pairs": scored.distinct,
        "pairs cut": scored.cut,
        **score_ranges(out),
    }
    return Taught(out, record, {reason: count for reason, count in dropped.items() if count}, notes)


def without_teacher(kind: str, examples: Sequence[Example], model: str) -> dict[str, Any]:
    """The record where the scores are none of a teacher's: what they are, and of which model."""
    scale = {BASE: "-1 to 1", GIVEN: "unknown", NONE: None, FUSED: "0 to 1 among the best of both"}[kind]
    return {"kind": kind, "model": model if kind in (BASE, FUSED) else None, "scale": scale, **score_ranges(examples)}


def score_ranges(examples: Sequence[Example]) -> dict[str, Any]:
    """Lowest, middle and highest score on either side."""

    def spread(values: Sequence[float]) -> list[float] | None:
        ranked = sorted(values)
        return [ranked[0], ranked[len(ranked) // 2], ranked[-1]] if ranked else None

    return {
        "positives (lowest, median, highest)": spread([s for example in examples for s in example.pos_scores]),
        "negatives (lowest, median, highest)": spread([s for example in examples for s in example.neg_scores]),
    }


def given_scores(scores: Any, positives: Sequence[str], negatives: Sequence[str]) -> list[float] | None:
    """The scores that came with a query's labels, positives first; None unless every passage has one."""
    if not isinstance(scores, Mapping):
        return None
    wanted = [*positives, *negatives]
    found = [float(scores[passage]) for passage in wanted if isinstance(scores.get(passage), int | float)]
    return found if len(found) == len(wanted) else None


def _agreement(examples: Sequence[Example], scorer: Scorer) -> str:
    """How often the teacher puts a positive above all other passages: a first sign of what it is worth here."""
    ranked = [example for example in examples if example.pos_scores and example.neg_scores]
    right = sum(max(example.pos_scores) > max(example.neg_scores) for example in ranked)
    share = right / len(ranked) if ranked else 0.0
    said = f"{scorer.name} scores a positive above all other scored passages for {share:.0%} of {len(ranked):,} rows."
    return said if share >= 0.5 or not ranked else f"{said} It is no stronger teacher for these data."
