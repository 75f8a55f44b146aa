"""A teacher's scores for training rows, and the record of what they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fieldtune.dataset.embedder import KIND as EMBEDDER
from fieldtune.dataset.embedder import SPREAD, cosines
from fieldtune.dataset.fused_teacher import NAME as FUSED
from fieldtune.dataset.scorers import Pair, Scorer
from fieldtune.dataset.scoring import score_pairs
from fieldtune.encoding import Encoder
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
    scored = score_pairs(scorer, _pairs(examples), folder, f"scoring with {scorer.name}")
    out, dropped = _with_scores(examples, scored.values)
    notes = [_agreement(out, scorer.name)]
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
    return Taught(out, record, dropped, notes)


def teach_cosines(examples: Sequence[Example], encoder: Encoder, passage_limit: int, folder: Path, seed: int) -> Taught:
    """As `teach`, with the cosines of an embedding model, whose vectors are kept in `folder`."""
    found = cosines(encoder, _pairs(examples), folder, seed)
    out, dropped = _with_scores(examples, found.values)
    notes = [_agreement(out, encoder.name)]
    limit = encoder.tokens.limit if encoder.tokens else 0
    if limit and limit < passage_limit:
        notes.append(
            f"The teacher reads {limit} tokens of a passage, fewer than the {passage_limit} that the tuned model reads."
        )
    if found.cut:
        notes.append(
            f"{found.cut:,} of {found.texts:,} texts are longer than the {limit} tokens that {encoder.name} reads."
        )
    record = {
        "kind": EMBEDDER,
        "model": encoder.name,
        "fingerprint": encoder.fingerprint,
        "scale": "-1 to 1",
        "max_tokens": limit or None,
        "precision": encoder.precision,
        "pairs": found.distinct,
        "texts": found.texts,
        "texts cut": found.cut,
        SPREAD: round(found.spread, 5),
        **score_ranges(out),
    }
    return Taught(out, record, dropped, notes)


def _pairs(examples: Sequence[Example]) -> list[Pair]:
    return [(example.query, text) for example in examples for text in (*example.pos, *example.neg)]


def _with_scores(examples: Sequence[Example], scores: Sequence[float]) -> tuple[list[Example], dict[str, int]]:
    """The rows with the scores of `_pairs`, and what was left out for lack of one."""
    values = iter(scores)
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
        texts, found = tuple(text for text, _ in kept), tuple(score for _, score in kept)
        out.append(replace(example, pos_scores=tuple(pos), neg=texts, neg_scores=found))
    dropped = {"negative the teacher gave no score": unscored, "row whose positive the teacher gave no score": headless}
    return out, {reason: count for reason, count in dropped.items() if count}


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


def _agreement(examples: Sequence[Example], name: str) -> str:
    """How often the teacher puts a positive above all other passages: a first sign of what it is worth here."""
    ranked = [example for example in examples if example.pos_scores and example.neg_scores]
    right = sum(max(example.pos_scores) > max(example.neg_scores) for example in ranked)
    share = right / len(ranked) if ranked else 0.0
    said = f"{name} scores a positive above all other scored passages for {share:.0%} of {len(ranked):,} rows."
    return said if share >= 0.5 or not ranked else f"{said} It is no stronger teacher for these data."
