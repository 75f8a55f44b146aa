"""Bodies and answers of /v1/classify, /v1/duplicates and /v1/outliers."""

from __future__ import annotations

from pydantic import Field

from fieldtune.serving.shapes import Answer, Body


class Labelled(Body):
    text: str
    label: str = Field(min_length=1, max_length=200)
    group: str = Field("", max_length=500)
    """Equal ones stay on one side in cross-validation, such as the contract that the clause is from."""


MOST_CELLS = 20_000
"""Examples times classes in one request, which the time for it goes by: some 8 s of a core at 768 dimensions."""
MOST_PAIRS = 50_000
"""Pairs in one answer; a million take a minute to compare word by word."""


class ClassifyBody(Body):
    """Examples to learn classes from, and texts to put into them."""

    examples: list[Labelled] = Field(min_length=6, max_length=2_000)
    """At least three different texts of each class; examples times classes at most 20,000."""
    texts: list[str] = Field(max_length=2_000)
    """May be empty, to learn what the examples are worth."""
    abstain_below: float = Field(0.0, ge=0, lt=1)
    """A best label that is less probable is not given."""
    drop_rare: bool = False
    """Leave out classes with fewer examples instead of refusing."""


class Predicted(Answer):
    label: str | None
    """null where it would be less probable than `abstain_below`."""
    best: str
    """The most probable label, given or not."""
    probability: float


class ClassReport(Answer):
    label: str
    examples: int
    precision: float
    recall: float
    f1: float


class ClassifyAnswer(Answer):
    predictions: list[Predicted]
    labels: list[str]
    accuracy: float
    """Of examples that were not learnt from, by cross-validation."""
    accuracy_interval: tuple[float, float] | None
    """95%."""
    macro_f1: float
    words_accuracy: float
    """The same of a classifier on the words alone: what the vectors have to beat."""
    classes: list[ClassReport]
    folds: int
    dropped: dict[str, int]
    notes: list[str]
    model: str


class DuplicatesBody(Body):
    """Texts among which, or between which, the same is said twice."""

    texts: list[str] = Field(min_length=1, max_length=5_000)
    against: list[str] | None = Field(None, min_length=1, max_length=5_000)
    """Pairs of `texts` with these, not among `texts`."""
    threshold: float | None = Field(None, ge=0, le=1)
    """Take pairs from this cosine on; by default it is chosen from the texts."""
    false_rate: float = Field(0.01, gt=0, lt=0.5)
    """The share of chance neighbours to put up with where it is chosen."""


class Twin(Answer):
    first: int
    second: int
    """Positions from 0: in `texts`, or the second in `against`."""
    similarity: float
    kind: str
    """`equal` (but for case and space) or `near`."""
    differs: str
    """Figures, dates and negations that only one of the two has; then they are alike, and perhaps not the same."""


class DuplicatesAnswer(Answer):
    pairs: list[Twin]
    """The most similar first."""
    threshold: float | None
    """The cosine from which pairs were taken; null where only equal texts stand out."""
    model: str


class OutliersBody(Body):
    """Texts, each of a kind, among which some lie far from their kind."""

    texts: list[str] = Field(min_length=1, max_length=5_000)
    kinds: list[str] | None = Field(None, max_length=5_000)
    """The kind of each text; by default all are of one. A kind needs ten different texts."""
    false_alarms: float = Field(0.01, gt=0, lt=0.5)
    """The share of ordinary texts to put up with."""


class Odd(Answer):
    index: int
    """Position in `texts`."""
    kind: str
    far: float
    """Robust standard deviations by which it lies farther from its kind than usual."""
    looks_like: str
    """The kind that it is nearer to, if there is another."""
    misplaced: float | None
    """Robust standard deviations by which it is nearer to that kind than usual; null where there is no other."""


class OutliersAnswer(Answer):
    outliers: list[Odd]
    """The oddest first."""
    judged: int
    too_small: dict[str, int]
    """Kinds with too few different texts to be judged, with their texts."""
    threshold: float
    model: str
