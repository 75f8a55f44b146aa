"""Grades by a language model that sees a query and a passage and nothing else, and how far people agree with it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fieldtune.beir import RetrievalData
from fieldtune.llm.grading import Client, Rubric, grades, is_cut
from fieldtune.workspace import digest

Judged = tuple[str, str]
"""(query id, passage id)."""

_TASK = """You judge search results. Given a query and one passage, say how well the passage answers the query. Judge \
what the passage says, not how it is written. A passage about the same topic that does not answer the query has grade \
0."""
_SCALES = {
    1: "Grades: 0 does not answer the query; 1 answers it, in whole or in an essential part.",
    2: "Grades: 0 does not answer the query; 1 answers a side of it; 2 answers it.",
    3: "Grades: 0 does not answer the query; 1 helps a little; 2 answers it in part; 3 answers it fully.",
}


@dataclass(frozen=True, slots=True)
class Graded:
    """What the model said of each pair."""

    grades: Mapping[Judged, tuple[int, str]]
    """Grade and reason."""
    failed: Mapping[Judged, str]
    """Pairs without a usable answer, and why."""
    cut: int = 0
    """Pairs of which the model saw only the beginning of the passage."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often model and people agree on what is relevant."""

    pairs: int
    raw: float
    """Share of the pairs that both call relevant, or both not; NaN without pairs."""
    kappa: float
    """Cohen's kappa (1960): agreement beyond chance, 1 is full; NaN where the people gave one grade to all."""
    found: float
    """Share of the passages that people call relevant which the model calls relevant too; NaN without one."""

    @property
    def sentence(self) -> str:
        if not self.pairs:
            return "LLM judge: there are no human labels to compare it with; do not rely on it."
        told = f"LLM judge: agrees with {self.raw:.0%} of {self.pairs:,} human labels"
        if math.isnan(self.kappa):
            return f"{told}; the human labels are all alike, so agreement beyond chance is not known."
        strength = "good" if self.kappa >= 0.6 else "fair" if self.kappa >= 0.4 else "poor: do not rely on it"
        return f"{told}, Cohen's kappa {self.kappa:.2f} ({strength})."


def llm_grades(data: RetrievalData, split: str, pairs: Sequence[Judged], client: Client) -> Graded:
    """Grade pairs on the scale of the split's qrels (0 to 1, 2 or 3).

    A prompt holds the query and the passage alone. Pairs without a usable answer are named in `failed`. Raises
    EndpointError when the endpoint cannot be used.
    """
    highest = max((grade for row in data.qrels.get(split, {}).values() for grade in row.values()), default=1)
    highest = min(3, max(1, highest, data.relevance_threshold))
    items = [(data.queries[query].text, [data.passages[key].content]) for query, key in pairs]
    found: dict[int, tuple[int, str]] = {}
    failed: dict[int, str] = {}
    for index, grade in grades(client, Rubric(_TASK, _SCALES[highest], highest), items):
        if grade.value is None:
            failed[index] = grade.reason
        else:
            found[index] = grade.value, grade.reason
    # Answers come as they are ready; the result is in the order of the pairs.
    told = ({pairs[n]: found[n] for n in sorted(found)}, {pairs[n]: failed[n] for n in sorted(failed)})
    return Graded(*told, cut=sum(is_cut(texts[0]) for _, texts in items))


def human_pairs(data: RetrievalData, split: str, count: int, seed: int) -> list[Judged]:
    """Pairs with a human label to hold the model against: half relevant and half not where there are as many."""
    every = [(query, key) for query, row in data.qrels[split].items() for key in row]
    mixed = sorted(every, key=lambda pair: digest([seed, "agreement", *pair]))
    relevant = [pair for pair in mixed if _relevant(data, split, pair)]
    others = [pair for pair in mixed if not _relevant(data, split, pair)]
    half = count // 2
    taken = relevant[: max(half, count - len(others))] + others[: max(half, count - len(relevant))]
    return sorted(taken, key=mixed.index)


def agreement(data: RetrievalData, split: str, graded: Mapping[Judged, tuple[int, str]]) -> Agreement:
    """Compare grades with the labels of people where both exist; relevant is what reaches the threshold."""
    qrels = data.qrels[split]
    both = [pair for pair in graded if pair[1] in qrels.get(pair[0], {})]
    if not both:
        return Agreement(0, math.nan, math.nan, math.nan)
    ours = np.array([graded[pair][0] >= data.relevance_threshold for pair in both])
    theirs = np.array([_relevant(data, split, pair) for pair in both])
    raw = float((ours == theirs).mean())
    chance = float(ours.mean() * theirs.mean() + (~ours).mean() * (~theirs).mean())
    one_sided = bool(theirs.all() or not theirs.any())
    kappa = math.nan if one_sided or chance == 1 else (raw - chance) / (1 - chance)
    return Agreement(len(both), raw, kappa, float(ours[theirs].mean()) if theirs.any() else math.nan)


def _relevant(data: RetrievalData, split: str, pair: Judged) -> bool:
    return data.qrels[split][pair[0]][pair[1]] >= data.relevance_threshold
