"""The leakage audit: what of the test set was known before the test, looked for before any number is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldtune import config as settings
from fieldtune.beir import RetrievalData
from fieldtune.corpus.near import words
from fieldtune.dataset.examples import read_examples
from fieldtune.dataset.leaks import query_terms
from fieldtune.evaluation.known import Known, known_from_qrels, plain, tied_documents, with_rows
from fieldtune.evaluation.leakage import EXACT, NEAR, Finding, Leakage, Overlap, Pair
from fieldtune.evaluation.nearest import (
    Nearest,
    Vocabulary,
    copies,
    is_copy,
    is_filled_in,
    nearest_vectors,
    nearest_words,
    query_rarity,
    rarity,
    vocabulary,
)
from fieldtune.types import SPLITS

_LISTED = 20  # leaks of a kind that are named one by one; the counts are always whole
_WORST = 10  # pairs of nearest neighbours that are named
_WORDS = 8  # a passage of fewer words is compared with its title
_WHOLE = 0.2  # documents that hold a larger share of the labelled queries cannot lie on one side whole


def audit(
    data: RetrievalData,
    split: str,
    config: settings.Evaluation,
    seed: int,
    *,
    training: Path | None = None,
    vectors: Callable[[Sequence[str]], NDArray[np.float32]] | None = None,
) -> Leakage:
    """Compare the queries of a split and their relevant passages with those of train and dev.

    `training` is a file of training rows (query, pos, neg) that counts as train, beside the train split. `vectors`
    gives unit vectors `(n, dim)` of query texts; with it the nearest neighbours are found by vectors as well. Raises
    InputError for a file that is not training data.
    """
    measured = known_from_qrels(data, split)
    sides = {side: known_from_qrels(data, side) for side in SPLITS if side in data.qrels and side != split}
    if training is not None:
        sides["train"] = with_rows(sides.get("train", Known()), read_examples(training), training, data)
    sides = {side: sides[side] for side in SPLITS if side in sides and (sides[side].queries or sides[side].passages)}
    positives = data.positives(split)
    holders: dict[str, list[str]] = {}
    for query, found in positives.items():
        for key in found:
            holders.setdefault(key, []).append(query)
    labelled = [positives, *(data.positives(side) for side in sides if side in data.qrels)]
    tied = tied_documents(data, labelled, _WHOLE)
    corpus = vocabulary([passage.content for passage in data.passages.values()])
    findings: list[Finding] = []
    overlaps: list[Overlap] = []
    for side, known in sides.items():
        nearest, weights = _nearest_queries(measured, known, corpus)
        overlaps.append(_overlap(side, "words", measured, known, nearest))
        if vectors is not None and known.queries:
            texts = list(measured.ids.values())
            found_near = nearest_vectors(vectors(texts), vectors([text for _, text in known.queries.values()]))
            overlaps.append(_overlap(side, "vectors", measured, known, found_near))
        pairs = {
            "query": _same_queries(measured, known),
            "near query": _near_queries(measured, known, nearest, weights, config.near_copy_query),
            "passage": _same_passages(data, holders, known.passages),
            "near passage": _near_passages(data, holders, known, corpus, config.near_copy_passage, seed),
            "document": _documents(data, holders, known),
            "negative": _negatives(data, holders, known),
        }
        findings += [_finding(kind, side, found, len(positives)) for kind, found in pairs.items()]
    train = {one.kind: one.queries for one in findings if one.side == "train"}
    exact = frozenset().union(*(train.get(kind, frozenset()) for kind in EXACT))
    near = exact.union(*(train.get(kind, frozenset()) for kind in NEAR))
    parted = {
        query
        for query in train.get("document", ())
        if any(_shared_group(data, key, sides["train"]) not in (tied | {""}) for key in positives[query])
    }
    total = max(1, len(positives))
    return Leakage(
        split=split,
        queries=len(positives),
        compared={side: len(known.queries) for side, known in sides.items()},
        findings=tuple(findings),
        overlaps=tuple(overlaps),
        exact=len(exact) / total,
        near=len(near) / total,
        documents=len(parted) / total,
        limits={"exact": config.max_leak, "near": config.max_near_leak, "documents": config.max_shared_documents},
        documents_known=any(data.passages[key].group for key in holders),
    )


def _finding(kind: str, side: str, pairs: Iterable[Pair], total: int) -> Finding:
    found = sorted(pairs, key=lambda pair: -pair.similarity)
    queries = frozenset(pair.query for pair in found)
    return Finding(kind, side, queries, len(queries) / max(1, total), tuple(found[:_LISTED]))


def _same_queries(measured: Known, known: Known) -> list[Pair]:
    pairs = []
    for query, text in measured.ids.items():
        found = (query, known.ids[query]) if query in known.ids else known.queries.get(plain(text))
        if found:
            pairs.append(Pair(query, text, found[0], found[1]))
    return pairs


def _nearest_queries(measured: Known, known: Known, corpus: Vocabulary) -> tuple[Nearest, dict[str, float]]:
    here = [query_terms(text) for text in measured.ids.values()]
    there = [query_terms(text) for _, text in known.queries.values()]
    weights = query_rarity([*here, *there], corpus)
    return nearest_words(here, there, weights), weights


def _near_queries(
    measured: Known, known: Known, nearest: Nearest, weights: Mapping[str, float], threshold: float
) -> list[Pair]:
    others = list(known.queries.values())
    pairs = []
    for row, (query, text) in enumerate(measured.ids.items()):
        column = int(nearest.index[row])
        if column < 0 or query in known.ids or plain(text) in known.queries:
            continue
        name, other = others[column]
        if is_copy(query_terms(text), query_terms(other), weights, threshold):
            pairs.append(Pair(query, text, name, other, float(nearest.similarity[row])))
    return pairs


def _same_passages(
    data: RetrievalData, holders: Mapping[str, Sequence[str]], passages: Mapping[str, tuple[str, str, str]]
) -> list[Pair]:
    pairs = []
    for key, queries in holders.items():
        content = data.passages[key].content
        if found := passages.get(plain(content)):
            pairs += [Pair(query, content, found[0], found[2]) for query in queries]
    return pairs


def _near_passages(
    data: RetrievalData,
    holders: Mapping[str, Sequence[str]],
    known: Known,
    corpus: Vocabulary,
    threshold: float,
    seed: int,
) -> list[Pair]:
    rest = [key for key in holders if plain(data.passages[key].content) not in known.passages]
    others = list(known.passages.values())
    own = [_compared(data.passages[key].text, data.passages[key].content) for key in rest]
    near = copies(own, [_compared(text, content) for _, text, content in others], threshold, seed)
    # A template about another thing is no copy: both passages with their titles, by their rarest words.
    here = {row: query_terms(data.passages[rest[row]].content) for row in near}
    there = {column: query_terms(others[column][2]) for found in near.values() for _, column in found}
    wanted = [term for terms in (*here.values(), *there.values()) for term in terms]
    weights = rarity(wanted, corpus)
    pairs = []
    for row, found in sorted(near.items()):
        real = next((link for link in found if not is_filled_in(here[row], there[link[1]], weights)), None)
        if real is not None:
            similarity, column = real
            name, _, content = others[column]
            text = data.passages[rest[row]].content
            pairs += [Pair(query, text, name, content, similarity) for query in holders[rest[row]]]
    return pairs


def _compared(text: str, content: str) -> str:
    """A passage of few words is told from others by its title."""
    return text if len(words(text)) >= _WORDS else content


def _shared_group(data: RetrievalData, key: str, known: Known) -> str:
    group = data.passages[key].group
    return group if group in known.documents else ""


def _documents(data: RetrievalData, holders: Mapping[str, Sequence[str]], known: Known) -> list[Pair]:
    pairs = []
    for key, queries in holders.items():
        if group := _shared_group(data, key, known):
            pairs += [Pair(query, key, known.documents[group], group) for query in queries]
    return pairs


def _negatives(data: RetrievalData, holders: Mapping[str, Sequence[str]], known: Known) -> list[Pair]:
    pairs = []
    for key, queries in holders.items():
        content = data.passages[key].content
        if row := known.negatives.get(plain(content)) or known.negatives.get(plain(data.passages[key].text)):
            pairs += [Pair(query, content, row, content) for query in queries]
    return pairs


def _overlap(side: str, by: str, measured: Known, known: Known, nearest: Nearest) -> Overlap:
    others = list(known.queries.values())
    mine = list(measured.ids.items())
    order = np.argsort(-nearest.similarity, kind="stable")[:_WORST].tolist()
    worst = []
    for row in order:
        if nearest.index[row] >= 0:
            (query, text), (name, other) = mine[row], others[int(nearest.index[row])]
            worst.append(Pair(query, text, name, other, float(nearest.similarity[row])))
    return Overlap(
        side=side,
        by=by,
        median=float(np.median(nearest.similarity)) if len(mine) else 0.0,
        at_least={f"{step:.2f}": int((nearest.similarity >= step - 1e-9).sum()) for step in (0.5, 0.7, 0.8, 0.9, 0.95)},
        worst=tuple(worst),
    )
