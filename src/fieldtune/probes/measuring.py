"""One model on the general probes: a value per query, pair and text, and nothing about any other model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fieldtune.console import Progress
from fieldtune.encoding.search import top_k
from fieldtune.encoding.vectors import cached_vectors
from fieldtune.measures import measure
from fieldtune.probes.sets import ClassificationProbe, Probe, RetrievalProbe, SimilarityProbe, texts_of
from fieldtune.types import Side

if TYPE_CHECKING:
    from fieldtune.encoding import Encoder

Floats = NDArray[np.float64]
MEASURE = "ndcg@10"
SHOTS, DRAWS = 4, 20
"""Labelled texts per class, and how often they are drawn; the draws are the same for every model and run."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What one model scored, probe by probe, in the order of the probes."""

    values: tuple[Floats, ...]
    """Retrieval: nDCG@10 of each query; similarity: cosine of each pair; classification: share of the draws in which
    each text was put in its class."""
    unknown: float
    """Share of the Chinese probe's tokens that the model's vocabulary lacks; 0 where it cannot lack any."""


def probe(encoder: Encoder, probes: Sequence[Probe], vectors: Path | None, *, label: str) -> Probed:
    """Run a model on the probes; `vectors` is the folder of encoded texts, for the user's corpora.

    Without it nothing is kept: for a model whose weights change while its fingerprint stays.
    """
    if not probes:
        return Probed((), 0.0)
    queries, passages = texts_of(probes)
    known: dict[Side, dict[str, NDArray[np.float32]]] = {}
    with Progress(f"general ability ({label})", len(queries) + len(passages), unit="texts") as progress:
        for side, texts in (("query", queries), ("passage", passages)):
            encoded = encoder.encode(texts, side, advance=progress.advance)  # type: ignore[arg-type]
            known[side] = dict(zip(texts, encoded, strict=True))  # type: ignore[index]
    values = tuple(_values(encoder, one, known, vectors, label) for one in probes)
    return Probed(values, _unknown(encoder, probes))


def _values(
    encoder: Encoder, one: Probe, known: dict[Side, dict[str, NDArray[np.float32]]], vectors: Path | None, label: str
) -> Floats:
    if isinstance(one, SimilarityProbe):
        left, right = (np.stack([known["query"][text] for text in texts]) for texts in (one.first, one.second))
        return np.asarray(np.einsum("ij,ij->i", left, right), np.float64)
    if isinstance(one, ClassificationProbe):
        return few_shot(np.stack([known["query"][text] for text in one.texts]), one.classes)
    queries = [one.data.queries[name].text for name in one.data.positives(one.split)]
    passages = [passage.content for passage in one.data.passages.values()]
    if one.language:
        found = [np.stack([known[side][text] for text in texts]) for side, texts in _sides(queries, passages)]
    elif vectors is None:
        found = [encoder.encode(texts, side) for side, texts in _sides(queries, passages)]
    else:
        found = [
            cached_vectors(encoder, texts, side, vectors, label=f"encoding {side} texts ({label}, {one.name})")
            for side, texts in _sides(queries, passages)
        ]
    return _ndcg(one, *found)


def _sides(queries: list[str], passages: list[str]) -> tuple[tuple[Side, list[str]], tuple[Side, list[str]]]:
    return ("query", queries), ("passage", passages)


def _ndcg(one: RetrievalProbe, queries: NDArray[np.float32], passages: NDArray[np.float32]) -> Floats:
    """nDCG@10 of each query with a relevant passage; judged-only data rank a query's judged passages alone."""
    data, depth = one.data, 10
    place = {name: row for row, name in enumerate(data.passages)}
    qrels = [
        {place[name]: grade for name, grade in data.qrels[one.split][query].items()}
        for query in data.positives(one.split)
    ]
    if data.evaluation == "judged-only":
        ranked = np.full((len(queries), depth), -1, np.int64)
        for n, grades in enumerate(qrels):
            rows = np.sort(np.fromiter(grades, np.int64))
            best = rows[np.argsort(-(passages[rows] @ queries[n]), kind="stable")[:depth]]
            ranked[n, : len(best)] = best
    else:
        _, ranked = top_k(queries, passages, depth)
    return measure([MEASURE], ranked, qrels, data.relevance_threshold)[MEASURE]


def few_shot(vectors: NDArray[np.float32], classes: Sequence[str]) -> Floats:
    """How often each text is nearest to the mean of its own class, of the draws in which it is not labelled itself.

    `vectors` is `(texts, dim)`. Nearest-centroid classification from few labels is what an embedding is used for when
    there is no time to train a classifier; averaging over draws makes it a smoother measure than one split.
    """
    names = sorted(set(classes))
    members = [np.flatnonzero([label == name for label in classes]) for name in names]
    truth = np.array([names.index(label) for label in classes])
    right, tried = np.zeros(len(truth)), np.zeros(len(truth))
    rng = np.random.default_rng(0)
    for _ in range(DRAWS):
        drawn = [rng.permutation(rows)[:SHOTS] for rows in members]
        means = np.stack([vectors[rows].astype(np.float64).mean(axis=0) for rows in drawn])
        means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
        held = np.setdiff1d(np.arange(len(truth)), np.concatenate(drawn))
        right[held] += (vectors[held] @ means.T).argmax(axis=1) == truth[held]
        tried[held] += 1
    return np.divide(right, tried, out=np.zeros_like(right), where=tried > 0)


def _unknown(encoder: Encoder, probes: Sequence[Probe]) -> float:
    tokenizer = getattr(encoder.model, "tokenizer", None)
    mark = getattr(tokenizer, "unk_token_id", None)
    chinese = [
        query for one in probes if isinstance(one, SimilarityProbe) and one.language == "zh" for query in one.first
    ]
    if tokenizer is None or mark is None or not chinese:
        return 0.0
    tokens = [token for ids in tokenizer(chinese, add_special_tokens=False)["input_ids"] for token in ids]
    return tokens.count(mark) / max(len(tokens), 1)
