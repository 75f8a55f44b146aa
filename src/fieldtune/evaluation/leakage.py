"""What the leakage audit found, and whether the numbers behind it can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

WHAT = {
    "query": "stand word for word among the {side} queries",
    "near query": "are near-copies of {side} queries",
    "passage": "have a relevant passage that is relevant in {side} too",
    "near passage": "have a relevant passage of which a near-duplicate, or a part, is relevant in {side}",
    "document": "ask about documents that {side} has relevant passages in",
    "negative": "have a relevant passage that training was told is wrong",
    "near negative": "have a relevant passage of which training was told that a near-duplicate, or a part, is wrong",
}
"""Kind of leak -> what it says of test queries."""
EXACT = ("query", "passage", "negative")
NEAR = ("near query", "near passage", "near negative")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts that are too much alike, or the same."""

    query: str
    """Id of the test query that it touches."""
    text: str
    """The test query, or its relevant passage."""
    other: str
    """Where the other text stands: a query's or passage's id, or a row of the training data."""
    other_text: str
    similarity: float = 1.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of leak between the measured split and another."""

    kind: str
    side: str
    """"train", or "dev", by which the best checkpoint is chosen."""
    queries: frozenset[str]
    """Ids of all measured queries that it touches."""
    share: float
    pairs: tuple[Pair, ...]
    """The worst first; at most 20."""

    @property
    def sentence(self) -> str:
        count = len(self.queries)
        said = WHAT[self.kind].format(side=self.side)
        if count == 1:
            said = said.replace("stand ", "stands ", 1).replace("are near-copies", "is a near-copy", 1)
            said = said.replace("have ", "has ", 1).replace("ask ", "asks ", 1)
        return f"{count:,} of the queries ({self.share:.1%}) {said}."


@dataclass(frozen=True, slots=True)
class Overlap:
    """How near the nearest query of another side comes to each measured one."""

    side: str
    by: str
    """"words" (the lower of plain and rarity-weighted Jaccard similarity) or "vectors" (cosine by the base model)."""
    median: float
    at_least: Mapping[str, int]
    """Similarity -> measured queries whose nearest neighbour reaches it."""
    worst: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Leakage:
    """What the audit found, and whether the test set can still be trusted."""

    split: str
    queries: int
    compared: Mapping[str, int]
    """Side -> its queries; empty when there was nothing to compare with."""
    findings: tuple[Finding, ...]
    overlaps: tuple[Overlap, ...]
    exact: float
    """Share of the measured queries touched by an exact leak from train."""
    near: float
    """Share touched by an exact leak or a near-copy from train."""
    documents: float
    """Share whose documents train knows, where a split by documents was possible."""
    limits: Mapping[str, float]
    """"exact", "near" and "documents" -> the largest share that is let pass."""
    documents_known: bool = True
    """Whether the corpus says which document a passage is of."""

    @property
    def over(self) -> tuple[str, ...]:
        """The limits that are passed."""
        shares = {"exact": self.exact, "near": self.near, "documents": self.documents}
        return tuple(name for name, share in shares.items() if share > self.limits[name])

    @property
    def failed(self) -> bool:
        return bool(self.over)

    @property
    def touched(self) -> frozenset[str]:
        """Measured queries that an exact leak or a near-copy from train touches."""
        found = (one.queries for one in self.findings if one.side == "train" and one.kind != "document")
        return frozenset().union(*found)

    @property
    def sentence(self) -> str:
        """The finding in one sentence."""
        if not self.compared:
            return (
                f"Leakage audit: there are no training queries to compare the {self.split} queries with, so nothing is "
                "known about leaks; name the model's training data to have them checked."
            )
        against = " and ".join(f"{count:,} {side}" for side, count in self.compared.items())
        if not any(one.queries for one in self.findings):
            return f"Leakage audit: {self.queries:,} {self.split} queries against {against} queries: no leak found."
        if not self.failed:
            return (
                f"Leakage audit: {self.queries:,} {self.split} queries against {against} queries: "
                "some overlap, within the limits."
            )
        said = {
            "exact": f"{self.exact:.1%} of the {self.split} queries leak word for word (limit {{:.1%}})",
            "near": f"{self.near:.1%} leak word for word or nearly so (limit {{:.1%}})",
            "documents": f"{self.documents:.1%} ask about documents known from training (limit {{:.1%}})",
        }
        return "Leakage audit: " + "; ".join(said[name].format(self.limits[name]) for name in self.over) + "."
