"""Check the statistics against made-up test sets whose truth is known: do intervals cover, do tests keep their level?

    python benchmarks/intervals.py [--sets 1000] [--seed 1] [--processes 2]

Each line is one kind of test set. Coverage of a 95% interval should lie between 93% and 97%; two equal systems should
be called different at most 5% of the time; a true gain as large as the one called detectable should be found about 80%
of the time (less often for hits, whose few possible outcomes make the test cautious).

The second table draws differences as such, by document or query. "Called different" is there from the truth, which for
some kinds is zero. Kinds that fall short are of few documents whose gains are strongly skewed or go with their number
of queries: no interval from so few documents knows of gains that are not among them; more documents, not more queries,
are the cure. Both tables go to RESULTS.md. Two processors take about five minutes.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldtune.evaluation.bootstrap import Resampled, of_differences, of_shares, resample
from fieldtune.evaluation.statistics import Clusters, Floats, clusters_of, detectable, sign_flip

sys.path.insert(0, str(Path(__file__).parent))
from results import append, markdown

Generator = np.random.Generator
RESAMPLES, PERMUTATIONS = 1_000, 1_000


@dataclass(frozen=True, slots=True)
class Kind:
    """How test sets of one kind come about."""

    measure: str
    """hit: 0 or 1 per query; ndcg: the discount of the rank of the one right passage, 0 where it is not found."""
    level: float
    """Chance that the first system finds the right passage, on average over documents."""
    gain: float
    """How much of the rest the second system finds too."""
    documents: int
    sizes: str
    """one: a query per document; some: 1 to many, 6 on average; giant: as some, but one document has a third of all."""

    def labels(self, generator: Generator) -> NDArray[np.int64]:
        if self.sizes == "one":
            return np.arange(self.documents)
        sizes = 1 + generator.geometric(0.2, self.documents)
        if self.sizes == "giant":
            sizes[0] = sizes[1:].sum() // 2
        return np.repeat(np.arange(self.documents), sizes)

    def drawn(self, generator: Generator) -> tuple[Floats, Floats, Clusters]:
        """Values of both systems, which share most of their luck, in documents that succeed and fail together."""
        labels = self.labels(generator)
        rate = generator.beta(4 * self.level, 4 * (1 - self.level), self.documents)[labels]
        luck, other = generator.random((2, len(labels)))
        found_a = luck < rate
        found_b = np.where(generator.random(len(labels)) < 0.7, luck, other) < rate + self.gain * (1 - rate)
        a, b = found_a.astype(np.float64), found_b.astype(np.float64)
        if self.measure == "ndcg":
            a, b = (values / np.log2(1 + generator.geometric(0.5, len(labels))) for values in (a, b))
        return a, b, clusters_of(labels)

    def truth(self) -> tuple[float, float]:
        """The mean of the first system, and by how much the second is better."""
        ranks = np.arange(1, 200)
        scale = float((0.5**ranks / np.log2(1 + ranks)).sum()) if self.measure == "ndcg" else 1.0
        return scale * self.level, scale * self.gain * (1 - self.level)


KINDS = [
    Kind(measure, level, gain, documents, sizes)
    for documents, sizes in ((15, "some"), (40, "some"), (40, "giant"), (60, "one"), (300, "one"))
    for measure, level, gain in (("hit", 0.5, 0.3), ("hit", 0.85, 0.3), ("ndcg", 0.6, 0.3), ("ndcg", 0.9, 0.5))
]


GRADES = np.array([1.0, 0.63, 0.5, 0.43, 0.39])
"""What a query's nDCG changes by when its one right passage comes in or drops out: from or to ranks 1 to 5."""


@dataclass(frozen=True, slots=True)
class Effect:
    """Differences of two systems, drawn as such: no gain that all share hides how they come about."""

    name: str
    """By document, of 6 queries on average. spread: each gains or loses, evenly about zero; skewed: one in ten gains
    much, the others lose a little, zero in all; by size: the longer a document's list of queries, the more it gains;
    long tail: most documents have two queries, some dozens, and gain 0.05 on average.

    One query per document. even: normal about 0.1; few change: 5% go up, 5% go down, the rest stay; more go up: 10% go
    up, 2% down; rare gains: 30% gain, few of them much."""
    documents: int

    def drawn(self, generator: Generator) -> tuple[Floats, Clusters]:
        count = self.documents
        if self.name in ("even", "few change", "more go up", "rare gains"):
            return self._queries(generator), clusters_of(np.arange(count))
        sizes = 1 + generator.geometric(0.2, count)
        if self.name == "long tail":
            sizes = np.minimum(1 + generator.zipf(1.7, count), 60)
        labels = np.repeat(np.arange(count), sizes)
        effect = {
            "spread": lambda: generator.normal(0, 0.2, count),
            "skewed": lambda: np.where(generator.random(count) < 0.1, 0.45, -0.05),
            "by size": lambda: 0.02 * (sizes - 6.0),
            "long tail": lambda: generator.normal(0.05, 0.15, count),
        }[self.name]()
        return np.clip(effect[labels] + generator.normal(0, 0.2, len(labels)), -1, 1), clusters_of(labels)

    def _queries(self, generator: Generator) -> Floats:
        count = self.documents
        if self.name == "even":
            return generator.normal(0.1, 0.3, count)
        if self.name == "rare gains":
            return generator.exponential(0.1, count) * (generator.random(count) < 0.3)
        up, down = (0.05, 0.05) if self.name == "few change" else (0.1, 0.02)
        luck = generator.random(count)
        return np.where(luck < up, 1.0, np.where(luck < up + down, -1.0, 0.0)) * generator.choice(GRADES, count)

    @property
    def truth(self) -> float:
        """The mean over the queries of infinitely many documents; clipping to what a measure can differ by is rare."""
        if self.name == "by size":
            # Sizes are 1 + G, G geometric with chance c = 0.2: E[size (size - 6)] / E[size] = Var[G] / (1 + E[G]).
            return 0.02 * ((1 - 0.2) / 0.2**2) / (1 + 1 / 0.2)
        known = {"even": 0.1, "more go up": 0.08 * GRADES.mean(), "rare gains": 0.03, "long tail": 0.05}
        return float(known.get(self.name, 0.0))


EFFECTS = [
    *(Effect(name, documents) for name in ("spread", "skewed", "by size") for documents in (8, 15, 40, 100)),
    *(Effect("long tail", documents) for documents in (10, 15, 30, 80)),
    *(
        Effect(name, documents)
        for name in ("even", "few change", "more go up", "rare gains")
        for documents in (50, 100, 300)
    ),
]


def checked_effect(effect: Effect, sets: int, seed: int) -> list[float]:
    """Shares of test sets: difference covered, and a difference found on the wrong side of the truth or where there is
    none."""
    generator = np.random.default_rng([seed, 1_000 + EFFECTS.index(effect)])
    covered = called = 0
    for number in range(sets):
        values, clusters = effect.drawn(generator)
        column = values[:, None] - effect.truth
        found = resample(column, clusters, resamples=RESAMPLES, seed=number)
        ((low, high),) = of_differences(found, clusters)
        covered += low <= 0 <= high
        called += different(column, found, clusters, number)
    return [covered / sets, called / sets]


def checked(kind: Kind, sets: int, seed: int) -> list[float]:
    """Shares of test sets: mean covered, difference covered, and equal systems called different; then the gain, the
    median of what is called detectable, and how often the gain is found."""
    generator = np.random.default_rng([seed, KINDS.index(kind)])
    mean, gap = kind.truth()
    equal = Kind(kind.measure, kind.level, 0.0, kind.documents, kind.sizes)
    covered = near = called = 0
    least, found = [], 0
    for number in range(sets):
        a, b, clusters = kind.drawn(generator)
        own = resample(a[:, None], clusters, resamples=RESAMPLES, seed=number)
        ((low, high),) = of_shares(own, clusters)
        gain = (b - a)[:, None]
        change = resample(gain, clusters, resamples=RESAMPLES, seed=number)
        ((left, right),) = of_differences(change, clusters)
        covered += low <= mean <= high
        near += left <= gap <= right
        least.append(float(detectable(change.errors, clusters)[0]))
        found += different(gain, change, clusters, number)
        a, b, clusters = equal.drawn(generator)
        even = (b - a)[:, None]
        called += different(even, resample(even, clusters, resamples=RESAMPLES, seed=number), clusters, number)
    return [covered / sets, near / sets, called / sets, gap, float(np.nanmedian(least)), found / sets]


def different(differences: Floats, found: Resampled, clusters: Clusters, seed: int) -> bool:
    """The rule of the verdict: the interval is clear of zero and p is below 0.05."""
    ((low, high),) = of_differences(found, clusters)
    p = sign_flip(differences, clusters, permutations=PERMUTATIONS, seed=seed)[0]
    return bool(p < 0.05 and (low > 0 or high < 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=1_000, help="test sets per line")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    with ProcessPoolExecutor(given.processes) as pool:
        lines = list(pool.map(partial(checked, sets=given.sets, seed=given.seed), KINDS))
        more = list(pool.map(partial(checked_effect, sets=given.sets, seed=given.seed), EFFECTS))
    columns = ("measure, documents, queries", "mean covered", "difference covered", "equal called different")
    first = markdown(
        (*columns, "true gain", "detectable", "found"),
        [
            (f"{kind.measure} {kind.level}, {kind.documents}, {kind.sizes}", *(f"{value:.3f}" for value in values))
            for kind, values in zip(KINDS, lines, strict=True)
        ],
    )
    second = markdown(
        ("difference, documents", "difference covered", "called different from the truth"),
        [
            (f"{effect.name}, {effect.documents}", *(f"{value:.3f}" for value in values))
            for effect, values in zip(EFFECTS, more, strict=True)
        ],
    )
    about = (
        f"{given.sets:,} made-up test sets of each kind (seed {given.seed}), 95% intervals by {RESAMPLES:,} resamples, "
        f"tests by {PERMUTATIONS:,} permutations; shares of the test sets, kinds as in benchmarks/intervals.py."
    )
    print(append("Intervals and tests on known truths", about, [*first, "", *second]))


if __name__ == "__main__":
    main()
