"""Systems side by side: the measures of each, their intervals, and paired tests between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fieldtune import config as settings
from fieldtune.beir import RetrievalData
from fieldtune.errors import InputError
from fieldtune.evaluation.bootstrap import of_shares, resample
from fieldtune.evaluation.paired import paired
from fieldtune.evaluation.rankings import asked, judged
from fieldtune.evaluation.results import MAIN, Comparison, Evaluation, Scores, System
from fieldtune.evaluation.statistics import Clusters, Floats, cluster, holm, singles, smallest_p
from fieldtune.measures import Judgements, first_relevant, measure, needed_depth

FEW = 10  # effective clusters below which an interval is called rough


def measures(config: settings.Evaluation) -> tuple[str, ...]:
    """The measures of a report, in its order."""
    recalls = (f"recall@{k}" for k in sorted({1, 10, *config.cutoffs}))
    return tuple(dict.fromkeys((MAIN, "mrr@10", *recalls, "hit@10", "accuracy@1", *config.measures)))


def evaluate(
    data: RetrievalData,
    split: str,
    systems: Sequence[System],
    config: settings.Evaluation,
    seed: int,
    notes: Sequence[str] = (),
) -> Evaluation:
    """Measure systems on the queries of a split that have a relevant passage, and compare them.

    In a comparison `a` is the later model and `b` the earlier, or a model and BM25, or a derived system and what it is
    derived from. `notes` go before those on the numbers. Raises InputError for a split without queries, two systems of
    one name, or a system that ranked other queries or not as deep as the measures look.
    """
    queries, names = asked(data, split), measures(config)
    if not systems:
        raise ValueError("no system to evaluate")
    table = judged(data, split)
    needed = min(needed_depth(names, table), len(data.passages))
    for n, system in enumerate(systems):
        if system.name in [earlier.name for earlier in systems[:n]]:
            raise InputError(f"two systems are called {system.name!r}", "give each its own name")
        if system.run.queries != queries:
            raise InputError(f"{system.name} did not rank the queries of the {split} split", "rank them again")
        if system.run.rows.shape[1] < needed:
            raise InputError(
                f"{system.name} was ranked down to {system.run.rows.shape[1]}, the measures look down to {needed}",
                "rank deeper",
            )
    positives = data.positives(split)
    groups = {name: data.passages[name].group for query in queries for name in positives[query]}
    clusters = cluster([positives[query] for query in queries], groups)
    # One cluster cannot be resampled: rather an interval that is too narrow, and says so, than none.
    units = clusters if clusters.count > 1 else singles(len(queries))
    scored = [_score(system, names, table) for system in systems]
    values = np.hstack([np.column_stack([one.values[name] for name in names]) for one in scored])
    found = of_shares(resample(values, units, resamples=config.bootstrap, seed=seed), units)
    bounds = found.reshape(len(systems), len(names), 2)
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
        notes=(*notes, *_notes(data, split, queries, clusters, units)),
        smallest_p=smallest_p(units),
    )


def _score(system: System, names: Sequence[str], table: Judgements) -> Scores:
    values = measure(names, system.run.rows, table)
    ids, top = system.run.ids, system.run.rows[:, 0].tolist()
    return Scores(
        name=system.name,
        kind=system.run.kind,
        mean={name: float(values[name].mean()) for name in names},
        interval={},
        values=values,
        first=first_relevant(system.run.rows, table),
        top=tuple(ids[row] if row >= 0 else "" for row in top),
        about=system.about,
    )


def _with_intervals(one: Scores, bounds: Floats) -> Scores:
    found = {name: (float(low), float(high)) for name, (low, high) in zip(one.mean, bounds, strict=True)}
    return replace(one, interval=found)


def _pairs(systems: Sequence[Scores]) -> list[tuple[Scores, Scores]]:
    """Who is compared with whom: models among themselves and with BM25, and derived systems with their parents."""
    lexical = [one for one in systems if one.kind == "lexical"]
    models = [one for one in systems if one.kind == "model"]
    line = lexical + models
    pairs = [(a, b) for a in reversed(models) for b in models[: models.index(a)]]
    pairs += [(a, b) for n, b in enumerate(lexical) for a in reversed(line[n + 1 :])]
    named = {one.name: one for one in systems}
    derived = [one for one in systems if one.kind == "derived"]
    return pairs + [(one, named[parent]) for one in derived for parent in one.about.parents if parent in named]


def _compare(
    systems: Sequence[Scores], names: Sequence[str], clusters: Clusters, config: settings.Evaluation, seed: int
) -> list[Comparison]:
    pairs = _pairs(systems)
    if not pairs:
        return []
    differences = np.hstack([np.column_stack([a.values[name] - b.values[name] for name in names]) for a, b in pairs])
    named = [(a.name, b.name, name) for a, b in pairs for name in names]
    rows = paired(named, differences, clusters, resamples=config.bootstrap, permutations=config.permutations, seed=seed)
    families = np.array([row.p for row in rows]).reshape(len(pairs), len(names)).T
    adjusted = np.column_stack([holm(family) for family in families]).ravel().tolist()
    return [replace(row, p_adjusted=p) for row, p in zip(rows, adjusted, strict=True)]


def _notes(data: RetrievalData, split: str, queries: Sequence[str], clusters: Clusters, units: Clusters) -> list[str]:
    notes = []
    left_out = len(data.qrels[split]) - len(queries)
    if left_out:
        what = f"{left_out} judged {'query has' if left_out == 1 else 'queries have'} no relevant passage"
        notes.append(f"{what} and {'is' if left_out == 1 else 'are'} left out.")
    if smallest_p(units) > 0.05:
        what = "independent query" if units.count == 1 else f"{units.count} independent groups of queries"
        notes.append(
            f"This test set can prove nothing: with {'one ' * (units.count == 1)}{what} no paired test falls below "
            f"p = {min(smallest_p(units), 1):.2g}, however large the difference. Label queries on more documents."
        )
    if clusters.count == 1 and len(queries) > 1:
        notes.append(
            "All test queries belong to one document group, or to groups tied together by queries about several. The "
            "intervals treat each query as independent, so they are too narrow for documents not seen here."
        )
    elif len(queries) > 1 and clusters.effective < FEW:
        notes.append(
            f"The queries fall into {clusters.count} document groups of very unequal or small number, worth about "
            f"{clusters.effective:.0f} equal ones: take the intervals as rough."
        )
    if data.evaluation == "judged-only":
        notes.append("Each query ranks only the passages judged for it.")
    return notes
