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

import numpy as np

from fieldtune import config as settings
from fieldtune.evaluation.ability import Change, General, State
from fieldtune.evaluation.statistics import Clusters, cluster, resamples_of, singles
from fieldtune.probes import Probe, Probed, known
from fieldtune.probes.measuring import Floats
from fieldtune.probes.sets import RetrievalProbe, SimilarityProbe
from fieldtune.probes.skills import spearman


def general_ability(
    probes: Sequence[Probe], base: Probed, tuned: Probed, config: settings.Evaluation, seed: int
) -> General:
    """Compare what two models scored on the same probes; languages that the base model does not know are left out."""
    limit, resamples = config.max_general_loss, config.bootstrap
    chosen, notes = known(probes, base)
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


def _resampled(probe: Probe, base: Floats, tuned: Floats, resamples: int, seed: int) -> tuple[Change, Floats, int]:
    """The change of one probe, its bootstrap replicates, and the number of independent observations."""
    clusters = _clusters(probe, len(base))
    weights = resamples_of(clusters, resamples, seed)
    if isinstance(probe, SimilarityProbe):
        grades = np.array(probe.grades)
        change = _scored(probe.name, "Spearman", len(base), spearman(base, grades), spearman(tuned, grades))
        moved = np.empty(resamples)
        for n, weight in enumerate(weights):
            rows = np.repeat(np.arange(len(grades)), weight[clusters.labels])
            moved[n] = spearman(tuned[rows], grades[rows]) - spearman(base[rows], grades[rows])
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


def _scored(name: str, measure: str, items: int, base: float, tuned: float) -> Change:
    return Change(name, measure, items, base, tuned, tuned - base, (math.nan, math.nan), math.nan, "unclear")


def _judged(change: Change, moved: Floats, clusters: int, limit: float, level: float) -> Change:
    """Give a change its interval (percentile, widened for few clusters as in `bootstrap.resample`) and its state."""
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
