"""The leakage audit: what of the test set was known before the test, looked for before any number is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldtune import config as settings
from fieldtune.beir import RetrievalData
from fieldtune.dataset.examples import read_examples
from fieldtune.evaluation.alike import Vocabulary, ask, query_rarity, replaces, vocabulary
from fieldtune.evaluation.known import Known, known_from_qrels, plain, tied_documents, with_rows
from fieldtune.evaluation.leakage import EXACT, NEAR, Finding, Leakage, Overlap, Pair
from fieldtune.evaluation.nearest import Nearest, nearest_vectors, nearest_words
from fieldtune.evaluation.passage_leaks import passage_leaks, shared_group
from fieldtune.types import SPLITS

_LISTED = 20  # leaks of a kind that are named one by one; the counts are always whole
_WORST = 10  # pairs of nearest neighbours that are named
_WHOLE = 0.2  # documents that hold a larger share of the labelled queries cannot lie on one side whole


def audit(
    data: RetrievalData,
    split: str,
    config: settings.Evaluation,
    *,
    training: Path | Sequence[Path] = (),
    vectors: Callable[[Sequence[str]], NDArray[np.float32]] | None = None,
) -> Leakage:
    """Compare the queries of a split and their relevant passages with those of train and dev.

    `training` are files of training rows (query, pos, neg) that count as train, beside the train split. `vectors`
    gives unit vectors `(n, dim)` of query texts; with it the nearest neighbours are found by vectors as well. Raises
    InputError for a file that is not training data.
    """
    measured = known_from_qrels(data, split)
    sides = {side: known_from_qrels(data, side) for side in SPLITS if side in data.qrels and side != split}
    for path in (training,) if isinstance(training, Path) else training:
        sides["train"] = with_rows(sides.get("train", Known()), read_examples(path), path, data)
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
        pairs: dict[str, list[Pair]] = {"query": _same_queries(measured, known)}
        pairs["near query"], near = _near_queries(measured, known, corpus, config, vectors)
        overlaps += [_overlap(side, by, measured, known, nearest) for by, nearest in near.items()]
        pairs |= passage_leaks(data, holders, known, corpus, config.near_copy_passage)
        findings += [_finding(kind, side, found, len(positives)) for kind, found in pairs.items()]
    train = {one.kind: one.queries for one in findings if one.side == "train"}
    exact = frozenset().union(*(train.get(kind, frozenset()) for kind in EXACT))
    near_ones = exact.union(*(train.get(kind, frozenset()) for kind in NEAR))
    parted = {
        query
        for query in train.get("document", ())
        if any(shared_group(data, key, sides["train"]) not in (tied | {""}) for key in positives[query])
    }
    total = max(1, len(positives))
    return Leakage(
        split=split,
        queries=len(positives),
        compared={side: len(known.queries) for side, known in sides.items()},
        findings=tuple(findings),
        overlaps=tuple(overlaps),
        exact=len(exact) / total,
        near=len(near_ones) / total,
        documents=len(parted) / total,
        limits={"exact": config.max_leak, "near": config.max_near_leak, "documents": config.max_shared_documents},
        documents_known=any(data.passages[key].group for key in holders),
    )


def added_leaks(
    given: RetrievalData,
    labelled: RetrievalData,
    split: str,
    config: settings.Evaluation,
    training: Path | Sequence[Path] = (),
) -> list[str]:
    """What leaks by labels that were added to a split, as sentences.

    They are no fault of the split and are not held against its limits: whoever finds one more right passage of a query
    may well find one that training knows.
    """
    before, after = given.qrels.get(split, {}), labelled.qrels[split]
    added = {
        query: {key: grade for key, grade in row.items() if key not in before.get(query, {})}
        for query, row in after.items()
    }
    rest = replace(labelled, qrels={**labelled.qrels, split: added})
    if not rest.positives(split):
        return []
    asked_before = set(given.positives(split))
    found = []
    for one in audit(rest, split, config, training=training).findings:
        queries = one.queries - asked_before if "query" in one.kind else one.queries
        if queries and one.kind != "document":
            touched = replace(one, queries=queries, share=len(queries) / max(1, len(labelled.positives(split))))
            found.append(f"By labels that were added, which the limits leave out: {touched.sentence}")
    return found


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


def _near_queries(
    measured: Known,
    known: Known,
    corpus: Vocabulary,
    config: settings.Evaluation,
    vectors: Callable[[Sequence[str]], NDArray[np.float32]] | None,
) -> tuple[list[Pair], dict[str, Nearest]]:
    """Queries asked again in nearly the same words, or in others that mean the same; and the nearest of all."""
    mine, others = list(measured.ids.items()), list(known.queries.values())
    here, there = ([ask(text, corpus) for _, text in queries] for queries in (mine, others))
    weights = query_rarity([one.terms for one in (*here, *there)], corpus)
    near = {"words": nearest_words(here, there, weights, config.near_copy_query)}
    if vectors is not None and others:
        left, right = (vectors([text for _, text in queries]) for queries in (mine, others))
        near["vectors"] = nearest_vectors(left, right, config.near_copy_cosine)
    pairs = []
    for row, (query, text) in enumerate(mine):
        if query in known.ids or plain(text) in known.queries:
            continue
        for by, nearest in near.items():
            column = int(nearest.index[row])
            # Vectors hardly tell two questions of one template apart; where words are replaced, the words decide.
            if nearest.copy[row] and not (by == "vectors" and replaces(here[row], there[column])):
                pairs.append(Pair(query, text, *others[column], float(nearest.similarity[row])))
                break
    return pairs, near


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
