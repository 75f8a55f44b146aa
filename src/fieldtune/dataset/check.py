"""A second look at mined negatives: what a stronger scorer finds better than a positive is none."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fieldtune.config import Negatives
from fieldtune.dataset.known import Known
from fieldtune.dataset.mining import Mined
from fieldtune.dataset.scorers import Pair

ABOVE = "the check scores it above a positive"
_SHOWN = 20
"""Found answers quoted in the result."""


@dataclass(frozen=True, slots=True)
class Checked:
    mined: Mined
    """Without the dropped candidates, which count as alike; cut to what was wanted."""
    confirmed: list[list[int]]
    """Per query: rows that are answers after all."""
    dropped: int
    unanswered: int
    """Candidates without a score; they stay as they were."""
    examples: list[dict[str, Any]]


def check_negatives(
    known: Known, mined: Mined, config: Negatives, score: Callable[[Sequence[Pair]], Sequence[float]]
) -> Checked:
    """Score mined negatives, and those candidates that mining left out as too near the positive, beside the positives.

    A candidate is dropped that scores above the query's lowest positive by more than `check_margin`: by the standard of
    the labels it may be an answer, and to drop a true negative costs little. It becomes a positive only if it also
    scores at least `check_confirm`. Labelled negatives are people's word and not checked. `score` gives 0 to 1, or NaN
    for no answer; a query whose positives all lack a score is left as it is.
    """
    looked = [
        [*mined.negatives[query][mined.labelled[query] :], *mined.close[query]] for query in range(len(known.queries))
    ]
    pairs: list[Pair] = []
    for query, rows in enumerate(looked):
        # Nothing to check, nothing to compare with.
        asked = [*known.positives[query], *rows] if rows else []
        pairs += [(known.queries[query], known.texts[row]) for row in asked]
    scores = iter(score(pairs))
    negatives, cosines, alike, confirmed = [], [], [], []
    dropped, unanswered = 0, 0
    examples: list[dict[str, Any]] = []
    for query, rows in enumerate(looked):
        own = [next(scores) for _ in known.positives[query]] if rows else []
        found = dict(zip(rows, [next(scores) for _ in rows], strict=True))
        lowest = min((value for value in own if not math.isnan(value)), default=math.inf)
        above = [row for row in rows if found[row] > lowest + config.check_margin]
        answers = [row for row in above if found[row] >= config.check_confirm]
        unanswered += sum(math.isnan(value) for value in found.values())
        dropped += len(set(above) & set(mined.negatives[query]))
        wanted = min(config.per_query, config.style_limits.get(known.styles[query], config.per_query))
        kept = [
            (row, cosine)
            for row, cosine in zip(mined.negatives[query], mined.scores[query], strict=True)
            if row not in above
        ][:wanted]
        negatives.append([row for row, _ in kept])
        cosines.append([cosine for _, cosine in kept])
        confirmed.append(answers)
        alike.append([*mined.alike[query], *(row for row in above if row not in answers)])
        for row in answers:
            if len(examples) < _SHOWN:
                examples.append({
                    "query": known.queries[query],
                    "passage": known.passage_ids[row],
                    "text": known.texts[row][:300],
                    "score": round(found[row], 3),
                    "lowest positive": round(lowest, 3),
                })  # fmt: skip
    skipped = dict(mined.skipped) | ({ABOVE: dropped} if dropped else {})
    clean = replace(mined, negatives=negatives, scores=cosines, alike=alike, skipped=skipped)
    return Checked(clean, confirmed, dropped, unanswered, examples)
