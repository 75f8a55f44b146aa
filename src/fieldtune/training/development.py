"""The dev set as training sees it: a fixed sample, hard enough that the best checkpoint shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldtune.beir import RetrievalData
from fieldtune.encoding import Encoder, top_k
from fieldtune.measures import MAIN, canonical, label, parse
from fieldtune.measures import measure as measures_of
from fieldtune.workspace import digest

_HARD = 20  # of the base model's top passages per dev query: the ones a tuned model must learn to push down


@dataclass(frozen=True, slots=True)
class Development:
    """Queries of the dev split and the passages they are ranked against during training."""

    queries: list[str]
    passages: list[str]
    qrels: list[dict[int, int]]
    """Per query: passage row -> grade."""
    relevance_threshold: int
    whole: bool
    """Whether the sample is the whole corpus and every dev query."""

    measure: str = MAIN
    """In the form of files; see measures.canonical."""
    dimension: int = 0
    """Leading dimensions that are measured; 0: all."""

    @property
    def name(self) -> str:
        """As it is in the log."""
        return self.measure + (f", {self.dimension} dimensions" if self.dimension else "")

    @property
    def label(self) -> str:
        """As it is written for people."""
        return label(self.measure) + (f" at {self.dimension} dimensions" if self.dimension else "")

    def digest(self) -> str:
        """A fingerprint of what is asked, what is right and how it is measured: scores under two cannot be compared.

        Of a sample the passages that are right for no query stay out: a last bit in the base model's vectors may bring
        another one in, and must not end a training.
        """
        judged = [sorted((self.passages[row], grade) for row, grade in grades.items()) for grades in self.qrels]
        others = self.passages if self.whole else len(self.passages)
        return digest([self.queries, judged, others, self.relevance_threshold, self.measure, self.dimension])

    def error(self, scores: NDArray[np.float64]) -> float:
        """Standard error of their mean as an estimate of all queries of the kind; 0 for a single query."""
        return float(scores.std(ddof=1) / np.sqrt(len(scores))) if len(scores) > 1 else 0.0

    def about(self, error: float) -> str:
        """How much a difference on it says."""
        part = "all dev queries and passages" if self.whole else "a fixed sample of dev"
        return (
            f"Checkpoints were chosen on {part}: {len(self.queries):,} queries among {len(self.passages):,} passages, "
            f"on which {self.label} has a standard error of {error:.4f}."
        )

    def score(self, encoder: Encoder) -> NDArray[np.float64]:
        """The measure of each query."""
        return self.measured(encoder)[0]

    def measured(self, encoder: Encoder) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """The measure of each query, and the vectors of the passages (n, dim) that it was taken with."""
        passages = encoder.encode(self.passages, "passage")
        return self.of_vectors(encoder.encode(self.queries, "query"), passages), self._cut(passages)

    def of_vectors(self, queries: NDArray[np.float32], passages: NDArray[np.float32]) -> NDArray[np.float64]:
        """The measure of each query, from the unit vectors (n, dim) and (m, dim) of its texts."""
        queries, passages = self._cut(queries), self._cut(passages)
        depth = parse(self.measure)[1] or max(1, *map(len, self.qrels))
        _, ranked = top_k(queries, passages, depth)
        return measures_of([self.measure], ranked, self.qrels, self.relevance_threshold)[self.measure]

    def _cut(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        if not self.dimension:
            return vectors
        short = vectors[:, : self.dimension]
        lengths = np.linalg.norm(short, axis=1, keepdims=True)
        return np.asarray(short / np.maximum(lengths, 1e-12), np.float32)


def development_sample(
    data: RetrievalData,
    query_vectors: NDArray[np.float32],
    passage_vectors: NDArray[np.float32],
    *,
    queries: int,
    passages: int,
    seed: int,
    measure: str = "nDCG@10",
    dimension: int = 0,
) -> Development | None:
    """At most `queries` dev queries and about `passages` passages; None without dev labels.

    The sample holds every positive of the sampled queries, the base model's top passages for them, and a random rest.
    `query_vectors` are the base model's for the queries of `dev_queries(data, ...)`, `passage_vectors` its for the
    whole corpus in order.
    """
    chosen = dev_queries(data, queries, seed)
    if not chosen:
        return None
    ids = list(data.passages)
    place = {key: row for row, key in enumerate(ids)}
    judged = [{place[passage]: grade for passage, grade in data.qrels["dev"][query].items()} for query in chosen]
    if len(ids) <= passages:
        rows = np.arange(len(ids))
    else:
        needed = {row for grades in judged for row, grade in grades.items() if grade >= data.relevance_threshold}
        _, hard = top_k(query_vectors, passage_vectors, _HARD)
        needed.update(hard.ravel().tolist())
        rest = np.setdiff1d(np.arange(len(ids)), np.fromiter(needed, np.int64))
        drawn = np.random.default_rng((seed, 7)).permutation(rest)[: max(0, passages - len(needed))]
        rows = np.sort(np.concatenate([np.fromiter(needed, np.int64), drawn]))
    inside = {int(row): position for position, row in enumerate(rows)}
    return Development(
        queries=[data.queries[query].text for query in chosen],
        passages=[data.passages[ids[row]].content for row in rows],
        qrels=[{inside[row]: grade for row, grade in grades.items() if row in inside} for grades in judged],
        relevance_threshold=data.relevance_threshold,
        whole=len(rows) == len(ids) and len(chosen) == len(data.positives("dev")),
        measure=canonical(measure),
        dimension=dimension,
    )


def dev_queries(data: RetrievalData, count: int, seed: int) -> list[str]:
    """Ids of the dev queries in the sample, in the data's order."""
    labelled = list(data.positives("dev"))
    if len(labelled) <= count:
        return labelled
    chosen = np.random.default_rng((seed, 6)).choice(len(labelled), count, replace=False)
    return [labelled[i] for i in np.sort(chosen)]


def without_dev(data: RetrievalData) -> list[str]:
    """Why nothing was measured on the way."""
    if data.qrels.get("dev"):
        return [
            f"No dev query has a passage of grade {data.relevance_threshold} or more: the last weights were kept, "
            "unchecked. See qrels/dev.tsv, or relevance_threshold in meta.json."
        ]
    return ["There is no dev set: the last weights were kept, unchecked."]
