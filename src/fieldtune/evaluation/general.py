"""General ability: what tuning on one field cost the model everywhere else, with intervals and a limit.

Each probe is measured for the base and the tuned model on the same items. A probe is lost when the score fell by more
than the limit and the interval of the change lies below zero; it is kept when the interval rules out a fall over the
limit; else it is unclear. The intervals hold for all probes together (Bonferroni), so that a model that lost nothing is
called lost at most in one of twenty runs, however many probes there are.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fieldtune import config as settings
from fieldtune.evaluation.probe_sets import LANGUAGES, Probe, RetrievalProbe, SimilarityProbe
from fieldtune.evaluation.probing import Floats, Probed
from fieldtune.evaluation.statistics import Clusters, cluster, singles
from fieldtune.evaluation.verdict import signed

State = Literal["kept", "lost", "unclear"]
_SKILLED = 0.5  # nDCG@10 of the base model from which it is taken to know a language
_UNKNOWN = 0.05  # share of unknown tokens above which it is not


@dataclass(frozen=True, slots=True)
class Change:
    """One probe, before and after; scores lie between 0 and 1 (correlations between -1 and 1)."""

    name: str
    measure: str
    items: int
    """Queries, pairs or texts."""
    base: float
    tuned: float
    difference: float
    """Tuned less base: negative is a loss."""
    interval: tuple[float, float]
    """Of the difference, at `General.level`; NaN where there are too few items."""
    detectable: float
    """The smallest fall that would be called lost four times out of five."""
    state: State


@dataclass(frozen=True, slots=True)
class General:
    """What the tuned model lost elsewhere against the base model."""

    limit: float
    """Fall that is accepted, in the scores' own unit: 0.01 is one point."""
    level: float
    """Of each interval, such that all of them hold together in 95 of 100 runs."""
    probes: tuple[Change, ...]
    overall: Change | None
    """The mean over the probes; None for fewer than two."""
    notes: tuple[str, ...] = ()
    """What was not measured, and why."""

    @property
    def changes(self) -> tuple[Change, ...]:
        return (*self.probes, *([self.overall] if self.overall else []))

    @property
    def failed(self) -> bool:
        return any(change.state == "lost" for change in self.changes)

    @property
    def state(self) -> State | Literal["not measured"]:
        if not self.probes:
            return "not measured"
        if self.failed:
            return "lost"
        return "kept" if all(change.state == "kept" for change in self.changes) else "unclear"

    @property
    def sentence(self) -> str:
        """The finding, for the report's first screen."""
        limit = _points(self.limit)
        if self.state == "not measured":
            return "General ability was not measured."
        if self.failed:
            lost = [change for change in self.changes if change.state == "lost"]
            what = "; ".join(f"{change.name} fell by {_change(change)}" for change in lost)
            return f"General ability was lost, over the limit of {limit}: {what}."
        whole = self.overall or self.probes[0]
        if self.state == "kept":
            return (
                f"General ability is kept: {_change(whole)} over {_listed(self.probes)}, the limit is {limit}."
                f"{_power(whole)}"
            )
        open_ = [change.name for change in self.changes if change.state == "unclear"]
        return (
            f"No loss of general ability over the limit of {limit} was shown ({_change(whole)} over "
            f"{_listed(self.probes)}), but for {', '.join(open_)} one cannot be ruled out."
            f"{_power(whole)}"
        )

    def as_json(self) -> dict[str, Any]:
        """What metrics.json holds, numbers rounded to 6 digits, NaN as null."""
        return {
            "state": self.state,
            "failed": self.failed,
            "sentence": self.sentence,
            "limit": self.limit,
            "level": round(self.level, 6),
            "probes": [_row(change) for change in self.probes],
            "overall": _row(self.overall) if self.overall else None,
            "notes": list(self.notes),
        }


def general_ability(
    probes: Sequence[Probe], base: Probed, tuned: Probed, config: settings.Evaluation, seed: int
) -> General:
    """Compare what two models scored on the same probes; languages that the base model does not know are left out."""
    limit, resamples = config.max_general_loss, config.bootstrap
    chosen, notes = _known(probes, base)
    measured = [_resampled(probes[n], base.values[n], tuned.values[n], resamples, seed + n) for n in chosen]
    count = len(measured) + (len(measured) > 1)
    level = 1 - 0.05 / max(count, 1)
    changes = tuple(_judged(*one, limit, level) for one in measured)
    overall = None
    if len(changes) > 1:
        before, after = (float(np.mean([getattr(one, side) for one in changes])) for side in ("base", "tuned"))
        items = sum(one.items for one in changes)
        whole = _scored("all probes together", "mean", items, before, after)
        smallest = min(clusters for _, _, clusters in measured)
        overall = _judged(whole, np.mean([moved for _, moved, _ in measured], axis=0), smallest, limit, level)
    return General(limit, level, changes, overall, tuple(notes))


def _known(probes: Sequence[Probe], base: Probed) -> tuple[list[int], list[str]]:
    """Positions of the probes that say something about this base model."""
    left_out, notes = set(), []
    for n, probe in enumerate(probes):
        if not isinstance(probe, RetrievalProbe) or not probe.language:
            continue
        language, score = LANGUAGES[probe.language], float(base.values[n].mean())
        if probe.language == "zh" and base.unknown > _UNKNOWN:
            left_out.add(probe.language)
            notes.append(
                f"The {language} probes were left out: the base model's vocabulary lacks {base.unknown:.0%} of their "
                "tokens, so there is no ability to lose."
            )
        elif score < _SKILLED:
            left_out.add(probe.language)
            notes.append(
                f"The {language} probes were left out: the base model's nDCG@10 there is {score:.2f}, under "
                f"{_SKILLED}, so there is hardly any ability to lose."
            )
    return [n for n, probe in enumerate(probes) if probe.language not in left_out or not probe.language], notes


def _resampled(probe: Probe, base: Floats, tuned: Floats, resamples: int, seed: int) -> tuple[Change, Floats, int]:
    """The change of one probe, its bootstrap replicates, and the number of independent observations."""
    clusters = _clusters(probe, len(base))
    rng = np.random.default_rng(seed)
    drawn = (rng.integers(0, clusters.count, clusters.count) for _ in range(resamples))
    weights = (np.bincount(draw, minlength=clusters.count) for draw in drawn)
    if isinstance(probe, SimilarityProbe):
        grades = np.array(probe.grades)
        change = _scored(probe.name, "Spearman", len(base), _spearman(base, grades), _spearman(tuned, grades))
        moved = np.empty(resamples)
        for n, weight in enumerate(weights):
            rows = np.repeat(np.arange(len(grades)), weight[clusters.labels])
            moved[n] = _spearman(tuned[rows], grades[rows]) - _spearman(base[rows], grades[rows])
        return change, moved, clusters.count
    measure = "nDCG@10" if isinstance(probe, RetrievalProbe) else "accuracy"
    change = _scored(probe.name, measure, len(base), float(base.mean()), float(tuned.mean()))
    sums = clusters.sums(np.column_stack([tuned - base, np.ones(len(base))]))
    totals = np.stack([weight @ sums for weight in weights])
    return change, totals[:, 0] / totals[:, 1], clusters.count


def _clusters(probe: Probe, items: int) -> Clusters:
    """Queries with one document group, and pairs with one first sentence, are one observation."""
    if isinstance(probe, RetrievalProbe):
        positives = probe.data.positives(probe.split)
        groups = {name: probe.data.passages[name].group for names in positives.values() for name in names}
        return cluster(list(positives.values()), groups)
    if isinstance(probe, SimilarityProbe):
        return cluster([[text] for text in probe.first], {})
    return singles(items)


def _spearman(cosines: Floats, grades: Floats) -> float:
    """0 where one side is constant, as all cosines of a collapsed model are."""
    from scipy.stats import rankdata

    left, right = rankdata(cosines), rankdata(grades)
    left, right = left - left.mean(), right - right.mean()
    length = math.sqrt(float(left @ left) * float(right @ right))
    return float(left @ right) / length if length > 0 else 0.0


def _scored(name: str, measure: str, items: int, base: float, tuned: float) -> Change:
    return Change(name, measure, items, base, tuned, tuned - base, (math.nan, math.nan), math.nan, "unclear")


def _judged(change: Change, moved: Floats, clusters: int, limit: float, level: float) -> Change:
    """Give a change its interval (percentile, widened for few clusters as in `statistics.intervals`) and its state."""
    from scipy import stats

    if clusters < 2:
        return change
    tail = (1 - level) / 2
    wider = float(stats.norm.cdf(math.sqrt(clusters / (clusters - 1)) * stats.t.ppf(tail, clusters - 1)))
    low, high = map(float, np.quantile(moved, [wider, 1 - wider]))
    error = float(moved.std())
    detectable = max(limit + 0.84 * error, (0.84 - float(stats.norm.ppf(tail))) * error)  # 0.84: power 80%
    state: State = "unclear"
    if change.difference < -limit and high < 0:
        state = "lost"
    elif low >= -limit:
        state = "kept"
    return dataclasses.replace(change, interval=(low, high), detectable=detectable, state=state)


def _row(change: Change) -> dict[str, Any]:
    row = dataclasses.asdict(change)
    row["ci"] = row.pop("interval")
    numbers = {
        key: None if math.isnan(value) else round(value, 6) for key, value in row.items() if type(value) is float
    }
    return row | numbers | {"ci": [None if math.isnan(end) else round(end, 6) for end in change.interval]}


def _change(change: Change) -> str:
    """`−4.6 points [−7.1, −2.0]`; a loss that a sentence already calls a fall keeps its sign in the bracket alone."""
    low, high = change.interval
    bracket = "" if math.isnan(low) else f" [{signed(100 * low, 1)}, {signed(100 * high, 1)}]"
    if change.state == "lost":
        return f"{-100 * change.difference:.1f} points{bracket}"
    return f"{signed(100 * change.difference, 1)} points{bracket}"


def _power(change: Change) -> str:
    if math.isnan(change.detectable):
        return ""
    return f" A fall of {100 * change.detectable:.1f} points would have been seen four times in five."


def _points(value: float) -> str:
    return f"{100 * value:g} {'point' if math.isclose(value, 0.01) else 'points'}"


def _listed(probes: Sequence[Change]) -> str:
    names = [probe.name for probe in probes]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
