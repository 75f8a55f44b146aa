"""A probe's values as one score, and which probes say something about a base model at all."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fieldtune.probes.measuring import Floats, Probed
from fieldtune.probes.sets import LANGUAGES, Probe, RetrievalProbe, SimilarityProbe

_SKILLED = 0.5  # nDCG@10 of the base model from which it is taken to know a language
_UNKNOWN = 0.05  # share of unknown tokens above which it is not


def score(one: Probe, values: Floats) -> float:
    """Spearman's correlation of similarities with their grades, else the mean of the values."""
    return spearman(values, np.array(one.grades)) if isinstance(one, SimilarityProbe) else float(values.mean())


def spearman(cosines: Floats, grades: Floats) -> float:
    """0 where one side is constant, as all cosines of a collapsed model are."""
    from scipy.stats import rankdata

    left, right = rankdata(cosines), rankdata(grades)
    left, right = left - left.mean(), right - right.mean()
    length = math.sqrt(float(left @ left) * float(right @ right))
    return float(left @ right) / length if length > 0 else 0.0


def known(probes: Sequence[Probe], base: Probed) -> tuple[list[int], list[str]]:
    """Positions of the probes that say something about this base model, and a sentence for each language left out."""
    left_out, notes = set(), []
    for n, probe in enumerate(probes):
        if not isinstance(probe, RetrievalProbe) or not probe.language:
            continue
        language, measured = LANGUAGES[probe.language], float(base.values[n].mean())
        if probe.language == "zh" and base.unknown > _UNKNOWN:
            left_out.add(probe.language)
            notes.append(
                f"The {language} probes were left out: the base model's vocabulary lacks {base.unknown:.0%} of their "
                "tokens, so there is no ability to lose."
            )
        elif measured < _SKILLED:
            left_out.add(probe.language)
            notes.append(
                f"The {language} probes were left out: the base model's nDCG@10 there is {measured:.2f}, under "
                f"{_SKILLED}, so there is hardly any ability to lose."
            )
    return [n for n, probe in enumerate(probes) if probe.language not in left_out or not probe.language], notes
