from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fieldtune.beir import RetrievalData, load_beir, write_beir
from fieldtune.config import Evaluation as Settings
from fieldtune.errors import InputError
from fieldtune.evaluation import (
    Evaluation,
    Ranking,
    System,
    asked,
    compare_runs,
    dense_ranking,
    digests,
    evaluate,
    write_metrics,
    write_per_query,
)
from fieldtune.types import Passage, Query
from fieldtune.workspace import read_json

Make = Callable[..., Path]


def ranked(data: RetrievalData, noise: float, seed: int) -> Ranking:
    """A query lies by its first right passage as far as `noise` lets it."""
    points = np.random.default_rng(1).standard_normal((len(data.passages), 16))
    place = {name: row for row, name in enumerate(sorted(data.passages))}
    passages = np.stack([points[place[name]] for name in data.passages])
    positives = data.positives("test")
    target = np.stack([points[place[positives[query][0]]] for query in asked(data, "test")])
    queries = target + noise * np.random.default_rng(seed).standard_normal(target.shape)
    return dense_ranking(data, "test", queries.astype(np.float32), passages.astype(np.float32))


@pytest.fixture
def make(tmp_path: Path, collection: RetrievalData) -> Make:
    """Write a run's folder; `noise` is how far its tuned model's queries lie from their passages."""

    def made(
        name: str, noise: float, data: RetrievalData = collection, *, keep: bool = True, record: bool = True
    ) -> Path:
        folder = tmp_path / name
        systems = [
            System(name, ranked(data, distance, seed))
            for name, distance, seed in (("base", 1.5, 2), ("tuned", noise, 3))
        ]
        found = evaluate(data, "test", systems, Settings(bootstrap=200, permutations=500), seed=13)
        write_metrics(folder / "metrics.json", found, {"test_set": digests(data, "test")} if record else None)
        write_per_query(folder / "per_query.csv", found, data)
        if keep:
            write_beir(folder / "data", data)
        return folder

    return made


def changed(data: RetrievalData, **parts: object) -> RetrievalData:
    kept = {"passages": data.passages, "queries": data.queries, "qrels": data.qrels}
    return RetrievalData(**(kept | parts))  # type: ignore[arg-type]


def test_a_run_against_itself_differs_in_nothing(make: Make) -> None:
    found = compare_runs(make("a", 0.9), make("b", 0.9))
    assert found.outcome == "same"
    assert all(row.difference == 0 and row.p == 1 and row.interval[0] == -row.interval[1] for *_, row in found.rows)
    assert {system for system, *_ in found.rows} == {"base", "tuned"}
    assert "cannot be told apart" in found.sentence
    assert not any("smallest" in note or "was judged" in note for note in found.notes)


def test_a_worse_model_is_seen_with_the_right_sign_and_numbers(make: Make) -> None:
    a, b = make("a", 0.2), make("b", 2.5)
    found = compare_runs(a, b)
    assert found.outcome == "worse"
    assert found.system == "tuned"
    assert "tuned of B is worse than tuned of A" in found.sentence
    means = [json.loads((run / "metrics.json").read_text())["systems"]["tuned"]["ndcg@10"] for run in (a, b)]
    (row,) = [row for row in found.as_json()["comparisons"] if (row["system"], row["metric"]) == ("tuned", "ndcg@10")]
    assert (row["a"], row["b"]) == pytest.approx(means, abs=1e-5)
    assert row["difference"] == pytest.approx(means[1] - means[0], abs=1e-5)
    assert row["ci"][0] <= row["difference"] <= row["ci"][1] < 0
    assert row["p"] < 0.01
    assert row["p_holm"] == row["p"]  # the base model is the same in both runs, and no comparison
    assert row["detectable"] > 0 and any("smallest true difference" in note for note in found.notes)
    assert row["wins"] + row["ties"] + row["losses"] == found.queries == 36
    assert compare_runs(b, a).outcome == "better"


def test_two_systems_that_changed_are_a_family_and_a_third_that_did_not_is_not(make: Make) -> None:
    a, b = make("a", 0.2), make("b", 2.5)
    for run in (a, b):  # a second model that moved like the first, and one that did not move
        figures = json.loads((run / "metrics.json").read_text())
        figures["systems"] |= {"other": figures["systems"]["tuned"]}
        (run / "metrics.json").write_text(json.dumps(figures))
        rows = (run / "per_query.csv").read_text().splitlines()
        more = [row.replace(",tuned,", ",other,") for row in rows if ",tuned," in row]
        (run / "per_query.csv").write_text("\n".join([*rows, *more]) + "\n")
    found = [row for row in compare_runs(a, b).as_json()["comparisons"] if row["metric"] == "ndcg@10"]
    assert [row["system"] for row in found] == ["base", "tuned", "other"]
    assert [row["p_holm"] / row["p"] for row in found] == pytest.approx([1, 2, 2], rel=1e-3)


def test_what_the_runs_said_of_themselves_is_carried_over(make: Make) -> None:
    a, b = make("a", 0.2), make("b", 2.5)
    said = {
        "verdict": {"outcome": "not trustworthy", "headline": "The test set is known from training."},
        "general": {"sentence": "General ability fell by 9 points."},
    }
    path = b / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | said))
    found = compare_runs(a, b)
    assert found.untrusted == ("B",) and found.outcome == "worse"
    assert found.sentence.startswith("NOT TRUSTWORTHY, as the verdict of B says: tuned of B is worse")
    assert found.as_json()["not_trustworthy"] == ["B"]
    assert "B was judged: not trustworthy. The test set is known from training." in found.notes
    assert "B: General ability fell by 9 points." in found.notes
    limits = [note for note in found.notes if "take the intervals as rough" in note]
    assert len(limits) == 1  # of the few document groups, once


def test_the_order_of_queries_and_passages_does_not_matter(make: Make, collection: RetrievalData) -> None:
    a = make("a", 0.9)
    before = compare_runs(a, make("b", 1.4))
    path = a.parent / "b" / "per_query.csv"
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: row["query"], reverse=True))
    assert compare_runs(a, a.parent / "b").as_json() == before.as_json()
    turned = changed(collection, passages=dict(reversed(collection.passages.items())))
    assert digests(turned, "test") == digests(collection, "test")


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("fewer queries", "queries only in A: 1 (q7)"),
        ("more queries", "queries only in B: 1 (late)"),
        ("reworded", "queries reworded: 1 (q7)"),
        ("judged anew", "queries with other judgements: 1 (q7)"),
        ("passage gone", "passages only in A: 1 (p47)"),
        ("passage edited", "passages with another text: 1 (p11)"),
        ("other rules", "measured by other rules"),
    ],
)
def test_differing_test_sets_are_refused_with_what_differs(
    what: str, says: str, make: Make, collection: RetrievalData
) -> None:
    qrels = {query: dict(row) for query, row in collection.qrels["test"].items()}
    queries, passages = dict(collection.queries), dict(collection.passages)
    if what == "fewer queries":
        del qrels["q7"]
    elif what == "more queries":
        queries["late"], qrels["late"] = Query("late", "A late one"), {"p01": 1}
    elif what == "reworded":
        queries["q7"] = Query("q7", "Something else", "cropped")
    elif what == "judged anew":
        qrels["q7"] = qrels["q7"] | {"p30": 1}
    elif what == "passage gone":
        del passages["p47"]
        qrels = {query: {name: grade for name, grade in row.items() if name != "p47"} for query, row in qrels.items()}
    elif what == "passage edited":
        passages["p11"] = Passage("p11", "Deed", "edited", group="deed 2")
    other = changed(collection, queries=queries, passages=passages, qrels={"test": qrels})
    if what == "other rules":
        other = RetrievalData(passages, queries, {"test": qrels}, 1, "judged-only")
    a, b = make("a", 0.9), make("b", 0.9, other)
    with pytest.raises(InputError) as caught:
        compare_runs(a, b)
    assert caught.value.message.startswith("the test sets differ")
    assert says in caught.value.message


def test_runs_without_a_record_are_judged_by_their_data_and_else_refused(make: Make) -> None:
    a = make("a", 0.9)
    assert compare_runs(a, make("b", 0.9, record=False)).outcome == "same"
    with pytest.raises(InputError, match="does not say what its test set was"):
        compare_runs(a, make("c", 0.9, keep=False, record=False))
    assert compare_runs(a, make("d", 0.9, keep=False)).outcome == "same"


def test_a_change_whose_data_are_gone_is_still_refused(make: Make, collection: RetrievalData) -> None:
    passages = dict(collection.passages) | {"p11": Passage("p11", "Deed", "edited", group="deed 2")}
    b = make("b", 0.9, changed(collection, passages=passages), keep=False)
    with pytest.raises(InputError, match=r"the corpus changed .the data of B are gone"):
        compare_runs(make("a", 0.9), b)


def test_data_that_were_measured_elsewhere_are_found_again(
    make: Make, collection: RetrievalData, tmp_path: Path
) -> None:
    passages = dict(collection.passages) | {"p11": Passage("p11", "Deed", "edited", group="deed 2")}
    b = make("b", 0.9, changed(collection, passages=passages), keep=False)
    write_beir(tmp_path / "elsewhere", changed(collection, passages=passages))
    figures = json.loads((b / "metrics.json").read_text()) | {"data": str(tmp_path / "elsewhere")}
    (b / "metrics.json").write_text(json.dumps(figures))
    with pytest.raises(InputError, match=r"passages with another text: 1 \(p11\)"):
        compare_runs(make("a", 0.9), b)


def test_broken_files_are_named_with_their_line(make: Make, tmp_path: Path) -> None:
    a, b = make("a", 0.9), make("b", 0.9)
    with pytest.raises(InputError, match=r"absent: no such file or folder"):
        compare_runs(a, tmp_path / "absent")
    path = b / "per_query.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], lines[3].replace(",tuned,", ",nobody,").replace(",base,", ",nobody,")]))
    with pytest.raises(InputError, match=r"per_query\.csv:4: not a row of this run"):
        compare_runs(a, b)
    path.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(InputError, match="lacks queries"):
        compare_runs(a, b)


def test_systems_of_one_run_alone_are_named(make: Make, evaluation: Evaluation, collection: RetrievalData) -> None:
    b = make("b", 0.9)
    a = b.parent / "with-bm25"
    write_metrics(a / "metrics.json", evaluation, {"test_set": digests(collection, "test")})
    write_per_query(a / "per_query.csv", evaluation, collection)
    assert "Only in A: BM25." in compare_runs(a, b).notes
    assert len(asked(load_beir(b / "data"), "test")) == 36


def test_a_trained_model_and_the_files_of_an_evaluation_are_runs_too(make: Make, tmp_path: Path) -> None:
    a, b = make("a", 0.6), make("b", 0.9)
    trained = tmp_path / "model"
    trained.mkdir()
    b.rename(trained / "run")
    found = compare_runs(a, trained)
    assert found.as_json() == compare_runs(a / "metrics.json", trained / "run" / "metrics.json").as_json()
    metrics = read_json(a / "metrics.json") | {"per_query": "queries.csv"}
    (a / "metrics.json").write_text(json.dumps(metrics))
    (a / "per_query.csv").rename(a / "queries.csv")
    assert compare_runs(a, trained).as_json() == found.as_json()


def test_what_is_no_measured_run_is_told_with_the_cure(make: Make, tmp_path: Path) -> None:
    a = make("a", 0.6)
    with pytest.raises(InputError, match="no such file or folder"):
        compare_runs(a, tmp_path / "absent")
    trained = tmp_path / "model"
    (trained / "run").mkdir(parents=True)
    with pytest.raises(InputError, match=r"no metrics\.json"):
        compare_runs(a, trained)
    (trained / "run" / "run.json").write_text("{}")
    with pytest.raises(InputError, match="trained, but not measured") as caught:
        compare_runs(a, trained)
    assert "--card" in caught.value.hint
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "per_query.csv").write_text("query\n")
    with pytest.raises(InputError, match="no figures of systems"):
        compare_runs(a, tmp_path / "list.json")
    (a / "per_query.csv").unlink()
    with pytest.raises(InputError, match="single queries") as caught:
        compare_runs(a, a)
    assert "--per-query" in caught.value.hint
