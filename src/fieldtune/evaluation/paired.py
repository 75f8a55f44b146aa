"""Two systems on the same queries: the difference, its interval, the test, wins and losses."""

from __future__ import annotations

from collections.abc import Sequence

from fieldtune.evaluation.bootstrap import of_differences, resample
from fieldtune.evaluation.results import Comparison
from fieldtune.evaluation.statistics import Clusters, Floats, detectable, sign_flip, tally


def paired(
    named: Sequence[tuple[str, str, str]],
    differences: Floats,
    clusters: Clusters,
    *,
    resamples: int,
    permutations: int,
    seed: int,
) -> list[Comparison]:
    """Compare by per-query differences `(queries, columns)`; `named` says (a, b, measure) of each column.

    The p values are not corrected: what the family is, the caller knows.
    """
    found = resample(differences, clusters, resamples=resamples, seed=seed)
    bounds, least = of_differences(found, clusters), detectable(found.errors, clusters)
    p = sign_flip(differences, clusters, permutations=permutations, seed=seed)
    out = []
    for column, (a, b, measure) in enumerate(named):
        wins, ties, losses = tally(differences[:, column])
        out.append(
            Comparison(
                a=a,
                b=b,
                measure=measure,
                difference=float(found.means[column]),
                interval=(float(bounds[column, 0]), float(bounds[column, 1])),
                p=float(p[column]),
                wins=wins,
                ties=ties,
                losses=losses,
                detectable=float(least[column]),
            )
        )
    return out
