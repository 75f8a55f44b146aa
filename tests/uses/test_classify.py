from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from uses_terms import Terms

from fieldtune.errors import InputError, ModelError
from fieldtune.evaluation.statistics import clusters_of
from fieldtune.uses import (
    Classifier,
    classify,
    load_classifier,
    predict,
    require_model,
    save_classifier,
)
from fieldtune.uses.figures import abstain_for, figures
from fieldtune.uses.files import Columns, predict_file, train_file
from fieldtune.uses.folds import divide, units_of

RNG = np.random.default_rng(0)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def blobs(per_class: int, classes: int = 3, spread: float = 0.4) -> tuple[list[str], np.ndarray, list[str]]:
    """Texts without a word in common, whose vectors lie around one centre per class."""
    rng = np.random.default_rng(1)
    truth = np.repeat(np.arange(classes), per_class)
    vectors = unit(np.eye(8)[truth] + spread * rng.standard_normal((len(truth), 8)))
    words = [f"w{n}a w{n}b w{n}c w{n}d" for n in range(len(truth))]
    return words, vectors, [f"class {label}" for label in truth]


def test_terms_are_put_into_chapters_better_than_by_their_words(icd: Terms) -> None:
    rows = slice(0, 240)
    found = classify(
        icd.terms[rows], icd.vectors[rows], icd.chapters[rows], icd.categories[rows], model="m", fingerprint="f"
    )
    ours, words, majority = (found.systems[name] for name in ("vectors", "bag of words", "majority"))
    assert ours.accuracy > 0.75
    assert ours.accuracy > words.accuracy + 0.05 > majority.accuracy + 0.1
    assert found.over_words[1][0] > 0
    assert ours.accuracy_interval[0] < ours.accuracy < ours.accuracy_interval[1]
    assert ours.macro_f1_interval[0] < ours.macro_f1 < ours.macro_f1_interval[1]
    assert majority.accuracy <= 0.3
    assert [one.examples for one in found.classes] == [60] * 4
    by_hand = np.mean([a == icd.chapters[row] for a, row in zip(found.predicted, found.examples, strict=True)])
    assert ours.accuracy == pytest.approx(by_hand)
    # The surer, the better: what abstaining is good for.
    shares, rights = [one.share for one in found.answered], [one.accuracy for one in found.answered]
    assert shares == sorted(shares, reverse=True)
    assert rights[4] > rights[0]
    again = classify(
        icd.terms[rows], icd.vectors[rows], icd.chapters[rows], icd.categories[rows], model="m", fingerprint="f"
    )
    assert again.predicted == found.predicted
    assert np.array_equal(again.classifier.weights, found.classifier.weights)


def test_labels_that_say_nothing_are_not_found_to_say_something(icd: Terms) -> None:
    labels = [f"{number}" for number in np.random.default_rng(5).integers(0, 2, 240)]
    found = classify(icd.terms[:240], icd.vectors[:240], labels, model="m", fingerprint="f")
    low, high = found.systems["vectors"].accuracy_interval
    assert low < 0.55
    assert high < 0.7


def test_copies_do_not_leak_across_folds() -> None:
    # Random labels, each text three times in other clothes: only a split that tears copies apart could be right.
    rng = np.random.default_rng(2)
    base = unit(rng.standard_normal((40, 64)))
    labels = [f"{n}" for n in rng.integers(0, 2, 40)]
    texts = [f"term{n} of{n} the{n} matter{n}" for n in range(40)]
    copies = texts + [text.upper() for text in texts] + [f"{text} ." for text in texts]
    found = classify(copies, np.tile(base, (3, 1)), labels * 3, model="m", fingerprint="f")
    assert found.units == 40
    assert found.systems["vectors"].accuracy < 0.75
    assert any("120 examples are 40 units" in note for note in found.notes)
    torn = classify(
        [f"{n} x{n} y{n}" for n in range(120)], np.tile(base, (3, 1)), labels * 3, model="m", fingerprint="f"
    )
    assert torn.systems["vectors"].accuracy > 0.9  # what the leak would have shown


def test_units_join_groups_equal_and_near_equal_texts_in_chains() -> None:
    long = "the tenant shall pay the rent on the first day of each month in advance to the landlord"
    texts = ["A  b", "ａ B", "合同 解除", long, long + " today", "alone", "grouped"]
    units = units_of(texts, ["", "", "g", "", "", "", "g"], 0)
    assert units.tolist() == [0, 0, 1, 2, 2, 3, 1]


def test_folds_keep_units_and_spread_classes() -> None:
    labels = np.array([0] * 50 + [1] * 10)
    units = np.concatenate([np.arange(50) // 2, 25 + np.arange(10)])
    folds = divide(labels, units, 5, 0)
    assert all(len(set(folds[units == one])) == 1 for one in range(35))
    assert np.bincount(folds[labels == 1]).tolist() == [2] * 5
    assert np.bincount(folds[labels == 0]).tolist() == [10] * 5
    assert not np.array_equal(folds, divide(labels, units, 5, 1))


def test_figures_are_what_scikit_learn_counts() -> None:
    from sklearn.metrics import accuracy_score, f1_score

    truth, said = RNG.integers(0, 4, 200), RNG.integers(0, 4, 200)
    found = figures(truth, said, 4, clusters_of(np.arange(200)), 0)
    assert found.accuracy == pytest.approx(accuracy_score(truth, said))
    assert found.macro_f1 == pytest.approx(f1_score(truth, said, average="macro"))
    # Rows in tens that stand or fall together say less than rows of their own.
    tens = figures(truth.repeat(10), said.repeat(10), 4, clusters_of(np.arange(200).repeat(10)), 0)
    assert tens.accuracy_interval == pytest.approx(found.accuracy_interval, abs=0.01)


def test_an_asked_accuracy_sets_where_to_abstain() -> None:
    truth = np.zeros(100, np.int64)
    chance = np.linspace(0.99, 0.51, 100)
    right = np.arange(100) < 60
    probabilities = np.where(right, chance, 1 - chance)[:, None]
    probabilities = np.hstack([probabilities, 1 - probabilities])
    below = abstain_for(truth, probabilities, 0.9)
    assert below is not None
    said = probabilities.max(axis=1) >= below
    assert said.sum() == 66  # 60 of 66 are 90.9%; 60 of 67 are too few
    assert abstain_for(1 - truth, np.array([[1.0, 0.0]] * 100), 0.9) is None


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (["a"] * 10 + ["b"] * 2, "'b' has 2; each class needs 3"),
        (["a"] * 12, "only 1 class has enough"),
    ],
)
def test_too_few_examples_are_named(labels: list[str], says: str) -> None:
    texts = [f"t{n} u{n} v{n}" for n in range(12)]
    with pytest.raises(InputError, match=says):
        classify(texts, unit(RNG.standard_normal((12, 4))), labels, model="m", fingerprint="f")


def test_rare_classes_can_be_left_out_and_are_counted() -> None:
    texts, vectors, labels = blobs(10)
    labels[0:9] = [f"odd {n}" for n in range(9)]
    found = classify(texts, vectors, labels, model="m", fingerprint="f", drop_rare=True)
    assert found.classifier.labels == ("class 1", "class 2")
    assert found.dropped == {"row of a class with too few examples": 10}
    assert len(found.examples) == 20


def test_a_saved_classifier_says_the_same_and_refuses_another_model(tmp_path: Path) -> None:
    texts, vectors, labels = blobs(12)
    found = classify(texts, vectors, labels, model="m", fingerprint="abc", abstain_below=0.8)
    save_classifier(tmp_path / "c.npz", found.classifier)
    loaded = load_classifier(tmp_path / "c.npz")
    assert predict(loaded, vectors) == predict(found.classifier, vectors)
    assert [one.label for one in predict(loaded, vectors)] == labels
    assert all(sum(one.probabilities) == pytest.approx(1) for one in predict(loaded, vectors))
    (middle,) = predict(loaded, unit(np.ones((1, 8))))
    assert middle.abstained
    require_model(loaded, "m", "abc")
    with pytest.raises(ModelError, match="another model"):
        require_model(loaded, "m2", "xyz")
    with pytest.raises(ModelError, match="8 dimensions"):
        predict(loaded, np.zeros((2, 9), np.float32))


def test_two_classes_are_scikit_learns_two_classes() -> None:
    from sklearn.linear_model import LogisticRegression

    texts, vectors, labels = blobs(20, classes=2)
    found = classify(texts, vectors, labels, model="m", fingerprint="f").classifier
    ours = np.array([one.probabilities for one in predict(found, vectors)])
    near = [
        np.abs(LogisticRegression(C=c, max_iter=2000).fit(vectors, labels).predict_proba(vectors) - ours).max()
        for c in (1.0, 10.0, 100.0)
    ]
    assert min(near) < 1e-3


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"\x80\x04\x95pickle"])
def test_what_is_no_classifier_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a classifier"):
        load_classifier(path)
    with pytest.raises(InputError, match="no such file"):
        load_classifier(tmp_path / "none.npz")


def test_a_damaged_classifier_is_refused(tmp_path: Path) -> None:
    bad = Classifier(("a", "b"), np.full((2, 3), np.nan), np.zeros(2), "m", "f")
    save_classifier(tmp_path / "c.npz", bad)
    with pytest.raises(InputError, match="damaged"):
        load_classifier(tmp_path / "c.npz")


def test_from_table_to_table(tiny_model: str, tmp_path: Path) -> None:
    topics = {"medicine": "fever cough asthma insulin fracture", "law": "lease rent tenant eviction landlord"}
    rng = np.random.default_rng(0)
    rows = [
        {"Clause Text": " ".join(rng.choice(words.split(), 4)) + f" {n}", "kind": kind}
        for kind, words in topics.items()
        for n in range(15)
    ]
    table = tmp_path / "rows.jsonl"
    lines = [json.dumps(row) for row in rows] + ["{broken", json.dumps({"Clause Text": "rent"}), '{"clause_text": []}']
    table.write_text("\n".join(lines))
    columns = Columns("clause-text", "KIND")
    out, predictions = tmp_path / "c.npz", tmp_path / "p.csv"
    found, records = train_file(table, columns, tiny_model, out, tmp_path / "c.json", predictions)
    assert records.dropped == {"broken row": 2, "row without label": 1}
    assert records.broken[0].startswith("rows.jsonl:31: not valid JSON")
    report = json.loads((tmp_path / "c.json").read_text())
    assert report["systems"]["vectors"]["accuracy"] == found.systems["vectors"].accuracy > 0.5
    assert report["dropped"] == {"broken row": 2, "row without label": 1}
    kept = list(csv.DictReader(predictions.read_text("utf-8-sig").splitlines()))
    assert len(kept) == 30
    assert {row["true"] for row in kept} == set(topics)

    gb = tmp_path / "ask.csv"
    gb.write_bytes(
        "编号,正文\n1,fever cough asthma 合同解除的条件是什么\n2,=lease rent tenant 承租人应当支付租金\n".encode(
            "gb18030"
        )
    )
    sure, unsure, _ = predict_file(gb, Columns("正文", id="编号"), out, "", tmp_path / "out.csv")
    said = list(csv.DictReader((tmp_path / "out.csv").read_text("utf-8-sig").splitlines()))
    assert (sure, unsure) == (2, 0)
    assert [row["label"] for row in said] == ["medicine", "law"]
    assert said[0]["text"].endswith("合同解除的条件是什么")
    assert said[1]["text"].startswith("'=lease")  # no spreadsheet may take it for a formula
    with pytest.raises(InputError, match="found: '编号', '正文'"):
        predict_file(gb, Columns("text"), out, "", tmp_path / "out.csv")
    with pytest.raises(ModelError, match="another model"):
        predict_file(gb, Columns("正文"), out, "builtin:all-MiniLM-L6-v2", tmp_path / "out.csv")
