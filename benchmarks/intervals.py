"""Check the statistics against made-up test sets whose truth is known: do intervals cover, do tests keep their level?

    python benchmarks/intervals.py [--sets 1000] [--seed 1]

Each line is one kind of test set. Coverage of a 95% interval should lie between 93% and 97%; two equal systems should
be called different at most 5% of the time; a true gain as large as the one called detectable should be found about 80%
of the time (less often for hits, whose few possible outcomes make the test cautious).

The second table draws differences by document. Where documents gain and lose evenly about the mean, the same holds.
Where a tenth of the documents gain much and the rest lose a little, or where a document gains by its number of
queries, it does not: of up to 100 documents coverage is 85 to 93%, and 7 to 14% are called different from the truth. No
interval from so few documents knows of gains that are not among them; more documents, not more queries, are the cure.
One processor takes about five minutes for both tables.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldtune.evaluation.statistics import (
    Clusters,
    Floats,
    around,
    cluster,
    detectable,
    sign_flip,
    standard_errors,
)

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
        return a, b, cluster([[str(label)] for label in labels], {})

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


@dataclass(frozen=True, slots=True)
class Effect:
    """Differences of two systems that succeed and fail by document, drawn as such: no gain that all share hides it."""

    name: str
    """spread: each document gains or loses, evenly about zero; skewed: one in ten gains much, the others lose a little,
    zero in all; by size: the longer a document's list of queries, the more it gains."""
    documents: int

    def drawn(self, generator: Generator) -> tuple[Floats, Clusters]:
        sizes = 1 + generator.geometric(0.2, self.documents)
        labels = np.repeat(np.arange(self.documents), sizes)
        effect = {
            "spread": lambda: generator.normal(0, 0.2, self.documents),
            "skewed": lambda: np.where(generator.random(self.documents) < 0.1, 0.45, -0.05),
            "by size": lambda: 0.02 * (sizes - 6.0),
        }[self.name]()
        values = np.clip(effect[labels] + generator.normal(0, 0.2, len(labels)), -1, 1)
        return values, cluster([[str(label)] for label in labels], {})

    @property
    def truth(self) -> float:
        """The mean over the queries of infinitely many documents; clipping to what a measure can differ by is rare."""
        if self.name != "by size":
            return 0.0
        # Sizes are 1 + G, G geometric with chance c = 0.2: E[size (size - 6)] / E[size] = Var[G] / (1 + E[G]).
        return 0.02 * ((1 - 0.2) / 0.2**2) / (1 + 1 / 0.2)


EFFECTS = [Effect(name, documents) for name in ("spread", "skewed", "by size") for documents in (8, 15, 40, 100)]


def checked_effect(effect: Effect, sets: int, seed: int) -> tuple[float, float]:
    """Shares of test sets: difference covered, and a difference found on the wrong side of the truth or where there is
    none."""
    generator = np.random.default_rng([seed, 1_000 + EFFECTS.index(effect)])
    covered = called = 0
    for number in range(sets):
        values, clusters = effect.drawn(generator)
        column = values[:, None] - effect.truth
        errors = standard_errors(column, clusters, resamples=RESAMPLES, seed=number)
        ((low, high),) = around(column.mean(axis=0), errors, clusters)
        covered += low <= 0 <= high
        called += different(column, errors, clusters, number)
    return covered / sets, called / sets


def checked(kind: Kind, sets: int, seed: int) -> list[float]:
    """Shares of test sets: mean covered, difference covered, and equal systems called different."""
    generator = np.random.default_rng([seed, KINDS.index(kind)])
    mean, gap = kind.truth()
    equal = Kind(kind.measure, kind.level, 0.0, kind.documents, kind.sizes)
    covered = near = called = 0
    least, found = [], 0
    for number in range(sets):
        a, b, clusters = kind.drawn(generator)
        columns = np.column_stack([a, b - a])
        errors = standard_errors(columns, clusters, resamples=RESAMPLES, seed=number)
        ((low, high),) = around(columns[:, :1].mean(axis=0), errors[:1], clusters, share=True)
        ((left, right),) = around(columns[:, 1:].mean(axis=0), errors[1:], clusters)
        covered += low <= mean <= high
        near += left <= gap <= right
        least.append(float(detectable(errors[1:], clusters)[0]))
        found += different(columns[:, 1:], errors[1:], clusters, number)
        a, b, clusters = equal.drawn(generator)
        even = (b - a)[:, None]
        called += different(even, standard_errors(even, clusters, resamples=RESAMPLES, seed=number), clusters, number)
    return [covered / sets, near / sets, called / sets, gap, float(np.nanmedian(least)), found / sets]


def different(differences: Floats, errors: Floats, clusters: Clusters, seed: int) -> bool:
    """The rule of the verdict: the interval is clear of zero and p is below 0.05."""
    ((low, high),) = around(differences.mean(axis=0), errors, clusters)
    p = sign_flip(differences, clusters, permutations=PERMUTATIONS, seed=seed)[0]
    return bool(p < 0.05 and (low > 0 or high < 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=1_000, help="test sets per line")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(
        "documents  queries    measure       | covered: mean  difference | equal called different "
        "| true gain  detectable  found"
    )
    for kind in KINDS:
        mean, near, called, gap, least, found = checked(kind, given.sets, given.seed)
        print(
            f"{kind.documents:>9}  {kind.sizes:<9}  {kind.measure:<5} {kind.level:<7} |          {mean:.3f}       "
            f"{near:.3f} |                  {called:.3f} |     {gap:.3f}       {least:.3f}  {found:.3f}",
            flush=True,
        )
    print("documents  effect by document | covered: difference | called different from the truth")
    for effect in EFFECTS:
        near, called = checked_effect(effect, given.sets, given.seed)
        print(
            f"{effect.documents:>9}  {effect.name:<18} |               {near:.3f} | {called:>30.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
