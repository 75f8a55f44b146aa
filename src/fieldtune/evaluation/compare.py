"""Systems side by side: the measures of each, their intervals, and paired tests between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fieldtune import config as settings
from fieldtune.beir import RetrievalData
from fieldtune.errors import InputError
from fieldtune.evaluation.rankings import asked
from fieldtune.evaluation.results import Comparison, Evaluation, Scores, System
from fieldtune.evaluation.statistics import Clusters, Floats, cluster, intervals, sign_flip, singles
from fieldtune.measures import first_relevant, measure

FEW = 10  # effective clusters below which an interval is called rough


def measures(config: settings.Evaluation) -> tuple[str, ...]:
    """The measures of a report, in its order."""
    return ("ndcg@10", "mrr@10", *(f"recall@{k}" for k in sorted({1, 10, *config.cutoffs})), "hit@10", "accuracy@1")


def evaluate(
    data: RetrievalData, split: str, systems: Sequence[System], config: settings.Evaluation, seed: int
) -> Evaluation:
    """Measure systems on the queries of a split that have a relevant passage, and compare each pair.

    In a comparison `a` is the later model and `b` the earlier, or a model and BM25. Raises InputError for a split
    without queries, two systems of one name, or a system that ranked other queries.
    """
    queries, names = asked(data, split), measures(config)
    if not systems:
        raise ValueError("no system to evaluate")
    for n, system in enumerate(systems):
        if system.name in [earlier.name for earlier in systems[:n]]:
            raise InputError(f"two systems are called {system.name!r}", "give each its own name")
        if system.run.queries != queries:
            raise InputError(f"{system.name} did not rank the queries of the {split} split", "rank them again")
    positives = data.positives(split)
    groups = {name: data.passages[name].group for query in queries for name in positives[query]}
    clusters = cluster([positives[query] for query in queries], groups)
    # One cluster cannot be resampled: rather an interval that is too narrow, and says so, than none.
    units = clusters if clusters.count > 1 else singles(len(queries))
    scored = [_score(data, split, system, names) for system in systems]
    values = np.hstack([np.column_stack([one.values[name] for name in names]) for one in scored])
    bounds = intervals(values, units, resamples=config.bootstrap, seed=seed).reshape(len(systems), len(names), 2)
    return Evaluation(
        split=split,
        measures=names,
        queries=queries,
        groups=tuple(" | ".join(sorted({groups[name] for name in positives[query]} - {""})) for query in queries),
        clusters=clusters,
        passages=len(data.passages),
        left_out=len(data.qrels[split]) - len(queries),
        systems=tuple(_with_intervals(one, bound) for one, bound in zip(scored, bounds, strict=True)),
        comparisons=tuple(_compare(scored, names, units, config, seed)),
        seed=seed,
        judged_only=data.evaluation == "judged-only",
        notes=tuple(_notes(data, split, queries, clusters)),
    )


def _score(data: RetrievalData, split: str, system: System, names: Sequence[str]) -> Scores:
    qrels = [data.qrels[split][query] for query in system.run.queries]
    values = measure(names, system.run.passages, qrels, data.relevance_threshold)
    return Scores(
        name=system.name,
        kind=system.run.kind,
        mean={name: float(values[name].mean()) for name in names},
        interval={},
        values=values,
        first=first_relevant(system.run.passages, qrels, data.relevance_threshold),
        top=tuple(passages[0] if passages else "" for passages in system.run.passages),
    )


def _with_intervals(one: Scores, bounds: Floats) -> Scores:
    found = {name: (float(low), float(high)) for name, (low, high) in zip(one.mean, bounds, strict=True)}
    return Scores(one.name, one.kind, one.mean, found, one.values, one.first, one.top)


def _compare(
    systems: Sequence[Scores], names: Sequence[str], clusters: Clusters, config: settings.Evaluation, seed: int
) -> list[Comparison]:
    lexical = [one for one in systems if one.kind == "lexical"]
    models = [one for one in systems if one.kind == "model"]
    line = lexical + models
    pairs = [(a, b) for a in reversed(models) for b in models[: models.index(a)]]
    pairs += [(a, b) for n, b in enumerate(lexical) for a in reversed(line[n + 1 :])]
    if not pairs:
        return []
    differences = np.hstack([np.column_stack([a.values[name] - b.values[name] for name in names]) for a, b in pairs])
    bounds = intervals(differences, clusters, resamples=config.bootstrap, seed=seed)
    p = sign_flip(differences, clusters, permutations=config.permutations, seed=seed)
    out = []
    for column, (a, b, name) in enumerate((a, b, name) for a, b in pairs for name in names):
        each = differences[:, column]
        out.append(
            Comparison(
                a=a.name,
                b=b.name,
                measure=name,
                difference=float(each.mean()),
                interval=(float(bounds[column, 0]), float(bounds[column, 1])),
                p=float(p[column]),
                wins=int((each > 1e-9).sum()),
                ties=int((np.abs(each) <= 1e-9).sum()),
                losses=int((each < -1e-9).sum()),
            )
        )
    return out


def _notes(data: RetrievalData, split: str, queries: Sequence[str], clusters: Clusters) -> list[str]:
    notes = []
    left_out = len(data.qrels[split]) - len(queries)
    if left_out:
        what = f"{left_out} judged {'query has' if left_out == 1 else 'queries have'} no relevant passage"
        notes.append(f"{what} and {'is' if left_out == 1 else 'are'} left out.")
    if clusters.count == 1 and len(queries) > 1:
        notes.append(
            "All test queries belong to one document group. The intervals treat each query as independent, so they are "
            "too narrow for documents not seen here."
        )
    elif len(queries) > 1 and clusters.effective < FEW:
        notes.append(
            f"The queries fall into {clusters.count} document groups of very unequal or small number, worth about "
            f"{clusters.effective:.0f} equal ones: take the intervals as rough."
        )
    if data.evaluation == "judged-only":
        notes.append("Each query ranks only the passages judged for it.")
    return notes
