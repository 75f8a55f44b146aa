from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import ir_measures
import pytest

from fieldtune.beir import RetrievalData
from fieldtune.config import Evaluation as Settings
from fieldtune.errors import InputError
from fieldtune.evaluation import (
    Evaluation,
    System,
    comparison_table,
    evaluate,
    judge,
    measures,
    metrics,
    movers,
    write_metrics,
    write_per_query,
)
from fieldtune.workspace import read_json


def test_means_agree_with_ir_measures(collection: RetrievalData, systems: list[System], evaluation: Evaluation) -> None:
    peers = {"ndcg@10": ir_measures.nDCG @ 10, "mrr@10": ir_measures.RR @ 10, "recall@3": ir_measures.R @ 3,
             "recall@10": ir_measures.R @ 10, "hit@10": ir_measures.Success @ 10,
             "accuracy@1": ir_measures.Success @ 1}  # fmt: skip
    for system in systems[:2]:
        run = {
            query: dict(zip(passages, scores, strict=True))
            for query, passages, scores in zip(system.run.queries, system.run.passages, system.run.scores, strict=True)
        }
        qrels = {query: collection.qrels["test"][query] for query in system.run.queries}
        expected = ir_measures.calc_aggregate(peers.values(), qrels, run)
        for name, peer in peers.items():
            assert evaluation.system(system.name).mean[name] == pytest.approx(expected[peer], abs=1e-9)


def test_what_is_counted(evaluation: Evaluation) -> None:
    assert (len(evaluation.queries), evaluation.left_out, evaluation.passages) == (36, 1, 48)
    assert evaluation.clusters.count == 9
    assert "1 judged query has no relevant passage and is left out." in evaluation.notes
    assert any("take the intervals as rough" in note for note in evaluation.notes)


def test_pairs_set_the_later_model_against_the_earlier_and_models_against_bm25(evaluation: Evaluation) -> None:
    pairs = list(dict.fromkeys((row.a, row.b) for row in evaluation.comparisons))
    assert pairs == [("tuned", "base"), ("tuned", "BM25"), ("base", "BM25")]
    assert evaluation.contest() == ("tuned", "base")
    for row in evaluation.comparisons:
        a, b = evaluation.system(row.a), evaluation.system(row.b)
        assert row.difference == pytest.approx(a.mean[row.measure] - b.mean[row.measure])
        assert row.wins + row.ties + row.losses == 36
        assert row.interval[0] <= row.difference <= row.interval[1]


def test_swapping_the_models_turns_every_sign(collection: RetrievalData, systems: list[System]) -> None:
    settings = Settings(bootstrap=200, permutations=300)
    one = evaluate(collection, "test", systems[:2], settings, 5)
    other = evaluate(collection, "test", systems[1::-1], settings, 5)
    for row, back in zip(one.comparisons, other.comparisons, strict=True):
        assert (row.difference, row.p) == (pytest.approx(-back.difference), back.p)
        assert (row.wins, row.losses) == (back.losses, back.wins)
        assert row.interval == pytest.approx((-back.interval[1], -back.interval[0]))


def test_cutoffs_are_the_k_of_recall_beside_those_that_every_figures_file_has() -> None:
    assert measures(Settings(cutoffs=(20, 5, 5))) == (
        "ndcg@10", "mrr@10", "recall@1", "recall@5", "recall@10", "recall@20", "hit@10", "accuracy@1",
    )  # fmt: skip


def test_systems_must_have_names_of_their_own_and_the_same_queries(
    collection: RetrievalData, systems: list[System]
) -> None:
    with pytest.raises(InputError, match="two systems are called 'base'"):
        evaluate(collection, "test", [systems[0], systems[0]], Settings(), 1)
    short = replace(systems[0].run, queries=systems[0].run.queries[1:])
    with pytest.raises(InputError, match="did not rank the queries"):
        evaluate(collection, "test", [System("base", short)], Settings(), 1)


def test_a_single_group_is_said_to_be_too_narrow(collection: RetrievalData, systems: list[System]) -> None:
    one_law = {name: replace(passage, group="law") for name, passage in collection.passages.items()}
    found = evaluate(replace(collection, passages=one_law), "test", systems, Settings(), 1)
    assert found.clusters.count == 1
    assert any("one document group" in note for note in found.notes)
    assert not math.isnan(found.systems[0].interval["ndcg@10"][0])


def test_a_single_query_has_no_interval_and_says_nothing_is_proven(collection: RetrievalData) -> None:
    from fieldtune.evaluation import bm25_ranking

    one = replace(collection, qrels={"test": {"q1": {"p01": 1}}})
    ranking = bm25_ranking(one, "test")
    systems = [System("base", replace(ranking, kind="model")), System("tuned", replace(ranking, kind="model"))]
    found = evaluate(one, "test", systems, Settings(), 1)
    assert metrics(found)["systems"]["base"]["ci"]["ndcg@10"] == [None, None]
    verdict = judge(found)
    assert (verdict.outcome, verdict.rule) == ("no measurable difference", "unclear")
    assert "nan" not in " ".join([verdict.headline, *verdict.sentences, *comparison_table(found)[1][0]])


def test_three_queries_work_and_say_that_they_prove_nothing(
    collection: RetrievalData, systems: list[System], tmp_path: Path
) -> None:
    three = {name: collection.qrels["test"][name] for name in ("q0", "q5", "q10")}
    small = replace(collection, qrels={"test": three})
    keep = [systems[0].run.queries.index(name) for name in three]
    cut = [
        replace(one, run=replace(one.run, queries=tuple(three), rows=one.run.rows[keep], values=one.run.values[keep]))
        for one in systems
    ]
    found = evaluate(small, "test", cut, Settings(), 1)
    assert found.smallest_p == 0.25
    assert found.notes[0].startswith("This test set can prove nothing: with 3 independent groups of queries")
    assert all(row.p >= 0.25 and math.isnan(row.detectable) for row in found.comparisons)
    assert judge(found).outcome == "no measurable difference"
    write_metrics(tmp_path / "m.json", found)
    assert read_json(tmp_path / "m.json")["comparisons"][0]["detectable"] is None


def test_holms_family_is_all_pairs_in_one_measure(evaluation: Evaluation) -> None:
    for name in evaluation.measures:
        rows = sorted((row for row in evaluation.comparisons if row.measure == name), key=lambda row: row.p)
        assert len(rows) == 3
        assert rows[0].p_adjusted == pytest.approx(min(1, 3 * rows[0].p))
        assert all(row.p_adjusted >= row.p for row in rows)


def test_other_measures_are_added_and_rankings_must_go_deep_enough(
    collection: RetrievalData, systems: list[System]
) -> None:
    found = evaluate(collection, "test", systems[:1], Settings(measures=("R-precision", "nDCG@40")), 1)
    assert found.measures[-2:] == ("r-precision", "ndcg@40")
    shallow = replace(systems[0].run, rows=systems[0].run.rows[:, :20], values=systems[0].run.values[:, :20])
    with pytest.raises(InputError, match="was ranked down to 20, the measures look down to 40"):
        evaluate(collection, "test", [System("base", shallow)], Settings(measures=("ndcg@40",)), 1)


def test_metrics_file_has_the_documented_form(tmp_path: Path, evaluation: Evaluation) -> None:
    write_metrics(tmp_path / "metrics.json", evaluation, {"model": "m"})
    found = read_json(tmp_path / "metrics.json")
    assert list(found["systems"]) == ["base", "tuned", "BM25"]
    expected = ["ndcg@10", "mrr@10", "recall@1", "recall@3", "recall@6", "recall@10", "hit@10", "accuracy@1"]
    assert list(found["systems"]["tuned"]) == [*expected, "ci"]
    assert list(found["systems"]["tuned"]["ci"]) == expected
    first = found["comparisons"][0]
    assert list(first) == [
        "a",
        "b",
        "metric",
        "difference",
        "ci",
        "p",
        "wins",
        "ties",
        "losses",
        "p_adjusted",
        "detectable",
    ]
    assert (found["queries"], found["queries_left_out"], found["passages"], found["clusters"]) == (36, 1, 48, 9)
    assert (found["split"], found["seed"], found["model"]) == ("test", 13, "m")
    assert found["versions"]["numpy"]


def test_metrics_stay_as_they_were(evaluation: Evaluation, golden: Callable[[str, str], None]) -> None:
    found = {key: value for key, value in metrics(evaluation).items() if key != "versions"}
    golden("metrics.json", json.dumps(found, ensure_ascii=False, indent=1) + "\n")


def test_per_query_rows_average_to_the_metrics(
    tmp_path: Path, evaluation: Evaluation, collection: RetrievalData
) -> None:
    write_per_query(tmp_path / "per_query.csv", evaluation, collection)
    with (tmp_path / "per_query.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 36 * 3
    for system in evaluation.systems:
        own = [row for row in rows if row["system"] == system.name]
        for name in evaluation.measures:
            assert sum(float(row[name]) for row in own) / 36 == pytest.approx(system.mean[name], abs=1e-5)
        for row in own:
            rank = float(row["first_relevant_rank"] or math.inf)
            assert float(row["mrr@10"]) == pytest.approx(1 / rank if rank <= 10 else 0, abs=1e-5)
            assert row["text"] == collection.queries[row["query"]].text
            assert row["group"] == f"deed {int(row['query'][1:]) // 4}"
            assert (row["top_passage"] in collection.positives("test")[row["query"]]) == (rank == 1)


def test_table_for_the_console(evaluation: Evaluation) -> None:
    columns, rows = comparison_table(evaluation)
    shown = ["", "base", "tuned", "BM25", "tuned − base", "95% interval", "p", "p (Holm)", "won/tied/lost"]
    assert columns == shown
    assert [row[0] for row in rows[:3]] == ["nDCG@10", "MRR@10", "Recall@1"]
    assert all(len(row) == len(columns) for row in rows)
    assert rows[0][2] == f"{evaluation.system('tuned').mean['ndcg@10']:.3f}"


def test_movers_are_in_order_and_on_the_right_side(evaluation: Evaluation) -> None:
    change = evaluation.system("tuned").values["ndcg@10"] - evaluation.system("base").values["ndcg@10"]
    up, down = movers(evaluation, 5), movers(evaluation, 36, best=False)
    assert [change[n] for n in up] == sorted(change, reverse=True)[:5]
    assert all(change[n] < 0 for n in down)
    assert len(down) == (change < -1e-9).sum()


def test_verdict_follows_the_interval(evaluation: Evaluation, collection: RetrievalData, systems: list[System]) -> None:
    better = judge(evaluation)
    assert (better.outcome, better.rule) == ("ship", "higher")
    assert better.headline == "The tuned model finds the right passage more often than the base model."
    share = f"{100 * evaluation.system('tuned').mean['accuracy@1']:.0f}% of 36 test queries"
    assert share in better.sentences[0]
    base, tuned, lexical = systems
    swapped = [System("base", tuned.run), System("tuned", base.run), lexical]
    worse = judge(evaluate(collection, "test", swapped, Settings(), 1))
    assert (worse.outcome, worse.rule) == ("worse", "lower")
    assert "do not ship" in worse.headline
    assert "Keyword search (BM25)" in worse.sentences[-1]
    same = judge(evaluate(collection, "test", [base, System("tuned", base.run)], Settings(), 1))
    assert (same.outcome, same.headline) == (
        "no measurable difference",
        "No measurable difference between the tuned model and the base model.",
    )
    alone = judge(evaluate(collection, "test", [base], Settings(), 1))
    assert alone.outcome == "not compared"
    against = judge(evaluate(collection, "test", [tuned, lexical], Settings(), 1))
    assert "BM25" in against.headline
