"""What an evaluation found: per query, per system, and between systems."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fieldtune.evaluation.rankings import Kind, Ranking
from fieldtune.evaluation.statistics import Clusters
from fieldtune.measures import MAIN as MAIN  # for the modules beside this one

BM25_NAME = "BM25"
"""What keyword search is called in every table and file."""

Variant = Literal["plain", "dimension", "precision", "prompts", "hybrid", "signals", "reranked"]
"""What sets a derived system apart from those it is derived from; plain models and BM25 are derived from nothing."""


@dataclass(frozen=True, slots=True)
class About:
    """What a system is made of and what its vectors take."""

    variant: Variant = "plain"
    model: str = ""
    """The model whose vectors it searches; "" for BM25 alone."""
    dimension: int | None = None
    precision: str = ""
    """Number format of the passage vectors: float32, int8 or binary."""
    rescored: str = ""
    """What its first candidates are scored again with: "", binary or int8 (each against float32 queries)."""
    bytes_per_vector: int | None = None
    """Of all forms kept of one passage together; None where there are no vectors."""
    parents: tuple[str, ...] = ()
    """Names of the systems it is derived from and compared with, the nearest first."""
    detail: str = ""
    """How it was set up, as a sentence for the reader."""


@dataclass(frozen=True, slots=True)
class System:
    """A named ranking. Models come in the order of their making: the first is the base, the last the tuned one."""

    name: str
    run: Ranking
    about: About = About()


@dataclass(frozen=True, slots=True)
class Scores:
    """One system's numbers; arrays have one value per query, in the order of `Evaluation.queries`."""

    name: str
    kind: Kind
    mean: Mapping[str, float]
    interval: Mapping[str, tuple[float, float]]
    """95%, by cluster; NaN where the test set is a single query or cluster."""
    values: Mapping[str, NDArray[np.float64]]
    first: NDArray[np.int64]
    """1-based rank of the first relevant passage, 0 where none is among the ranks kept."""
    top: tuple[str, ...]
    """Id of the passage at rank 1, "" where nothing was found."""
    about: About = About()


@dataclass(frozen=True, slots=True)
class Comparison:
    """System `a` against system `b` in one measure; a positive difference is in favour of `a`."""

    a: str
    b: str
    measure: str
    difference: float
    interval: tuple[float, float]
    p: float
    """Paired test by sign flips of clusters, two-sided, as if this were the only comparison."""
    wins: int
    ties: int
    losses: int
    p_adjusted: float = math.nan
    """p after Holm's correction; the family is all pairs of systems compared in this measure."""
    detectable: float = math.nan
    """The smallest true difference that this test set would show four times in five; NaN where it can show none."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Systems side by side on one split."""

    split: str
    measures: tuple[str, ...]
    queries: tuple[str, ...]
    groups: tuple[str, ...]
    """Document groups of each query's relevant passages, joined by " | "."""
    clusters: Clusters
    passages: int
    left_out: int
    """Judged queries without a relevant passage; no measure is defined for them."""
    systems: tuple[Scores, ...]
    comparisons: tuple[Comparison, ...]
    seed: int
    judged_only: bool = False
    notes: tuple[str, ...] = ()
    """Sentences on what limits the numbers."""
    smallest_p: float = 0.0
    """The lowest p that so few document groups allow; above 0.05 nothing can be proven."""

    @property
    def one_document(self) -> bool:
        """Whether all queries are about one known document, so that no other was ever tried."""
        return (
            len(self.queries) > 1 and len(set(self.groups)) == 1 and self.groups[0] != "" and self.clusters.count == 1
        )

    def system(self, name: str) -> Scores:
        return next(system for system in self.systems if system.name == name)

    def compared(self, a: str, b: str, measure: str) -> Comparison | None:
        wanted = (a, b, measure)
        return next((row for row in self.comparisons if (row.a, row.b, row.measure) == wanted), None)

    def contest(self) -> tuple[str, str] | None:
        """Who stands against whom in the verdict: tuned and base, or one model and BM25; None for a single system."""
        models = [system.name for system in self.systems if system.kind == "model"]
        others = [system.name for system in self.systems if system.kind == "lexical"]
        if len(models) > 1:
            return models[-1], models[0]
        return (models[0], others[0]) if models and others else None
