"""Each kind of leak is planted in a clean collection and must be found, and nothing else."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fieldtune.beir import RetrievalData
from fieldtune.config import Evaluation as Settings
from fieldtune.dataset.examples import write_examples
from fieldtune.evaluation.alike import ask, is_copy, query_rarity, vocabulary
from fieldtune.evaluation.audit import audit
from fieldtune.evaluation.leakage import Leakage
from fieldtune.types import Example, Passage, Query

SIZE = 60  # documents, of two passages each; a third of them in test


def word(kind: str, number: int) -> str:
    """A word of letters that no other number has."""
    return kind + "".join("bcdfghklmnprst"[int(digit)] + "a" for digit in str(number))


@pytest.fixture
def clean() -> RetrievalData:
    """Template questions about a rare name each, passages of 40 words; train and test share no document."""
    rng = random.Random(3)
    passages, queries, qrels = {}, {}, {"train": {}, "dev": {}, "test": {}}
    for n in range(SIZE):
        side = "test" if n % 3 == 0 else "dev" if n % 10 == 1 else "train"
        for m in range(2):
            name, key = word("mor", 2 * n + m), f"p{n}-{m}"
            text = f"{name} is a condition of " + " ".join(word("w", rng.randrange(400)) for _ in range(40))
            passages[key] = Passage(key, f"Book {n} > {name}", text, group=f"book {n}")
            queries[f"q{n}-{m}"] = Query(f"q{n}-{m}", f"What are the early symptoms and signs of {name}?")
            qrels[side][f"q{n}-{m}"] = {key: 1}
    return RetrievalData(passages, queries, qrels)


def found(leakage: Leakage, side: str = "train") -> dict[str, set[str]]:
    return {one.kind: set(one.queries) for one in leakage.findings if one.side == side and one.queries}


def test_a_clean_split_of_template_questions_has_no_leak(clean: RetrievalData) -> None:
    leakage = audit(clean, "test", Settings())
    assert found(leakage) == found(leakage, "dev") == {}
    assert not leakage.failed and leakage.compared == {"train": 72, "dev": 8}
    assert "no leak found" in leakage.sentence
    # The template alone makes them alike, and that is seen but not counted.
    words = leakage.overlaps[0]
    assert 0.1 < words.median < 0.75 and len(words.worst) == 10


@pytest.mark.parametrize("change", [str, str.upper, lambda text: text.replace("?", " ?!")])
def test_a_test_query_in_train_is_found(clean: RetrievalData, change) -> None:
    clean.queries["copy"] = Query("copy", change(clean.queries["q0-0"].text))
    clean.qrels["train"]["copy"] = {"p2-0": 1}
    leakage = audit(clean, "test", Settings())
    assert found(leakage) == {"query": {"q0-0"}}
    (pair,) = next(one for one in leakage.findings if one.kind == "query" and one.side == "train").pairs
    assert (pair.query, pair.other) == ("q0-0", "copy")
    assert leakage.exact == pytest.approx(1 / 40) and leakage.failed
    assert "2.5% of the test queries leak word for word (limit 1.0%)" in leakage.sentence


def test_the_same_query_id_on_two_sides_is_found(clean: RetrievalData) -> None:
    clean.qrels["train"]["q0-0"] = {"p2-0": 1}
    clean.qrels["dev"]["q3-0"] = {"p11-0": 1}
    leakage = audit(clean, "test", Settings())
    assert found(leakage) == {"query": {"q0-0"}}
    assert found(leakage, "dev") == {"query": {"q3-0"}}
    assert leakage.touched == {"q0-0"}


@pytest.mark.parametrize(
    ("text", "is_leak"),
    [
        ("Please, what are the early symptoms and signs of {}?", True),
        ("What are the symptoms and signs of {}?", True),
        ("What are the late symptoms and signs of {}?", False),
        ("What is {}?", False),
        ("Who treats {}?", False),
        ("early symptoms and signs of {}", True),
        ("Please tell me, I would like to know: the early sign and symptom of {}?", True),
        ("Early sign and symptoms of {}, what are they", True),
    ],
)
def test_near_copies_of_queries_are_those_with_little_added(clean: RetrievalData, text: str, is_leak: bool) -> None:
    clean.queries["copy"] = Query("copy", text.format(word("mor", 0)))
    clean.qrels["train"]["copy"] = {"p2-0": 1}
    assert found(audit(clean, "test", Settings())) == ({"near query": {"q0-0"}} if is_leak else {})


def test_questions_of_one_template_about_two_things_are_no_copies() -> None:
    corpus = vocabulary(["Gout has symptoms and treatments.", "Lupus has symptoms, causes and treatments."] * 9)
    pairs = [
        ("What are the symptoms of gout?", "What are the symptoms of lupus?", False),
        ("What is gout?", "What causes gout?", False),
        ("How is gout treated?", "When is gout treated?", False),
        ("treatments for gout", "What is the treatment of gout?", True),
        ("What are the symptomes and treatments of gout?", "symptoms and treatment of gout", True),
        ("Is it zolgensma for gout?", "Is it warfarin for gout?", False),
    ]
    asked = [(ask(a, corpus), ask(b, corpus)) for a, b, _ in pairs]
    weights = query_rarity([one.terms for pair in asked for one in pair], corpus)
    assert [is_copy(a, b, weights, 0.75) for a, b in asked] == [same for *_, same in pairs]


def test_chinese_queries_are_compared(clean: RetrievalData) -> None:
    clean.queries["q0-0"] = Query("q0-0", "名为个体工商户实为合伙，内部发生纠纷时如何认定合伙关系？")
    clean.queries["copy"] = Query("copy", "请问名为个体工商户实为合伙，内部发生纠纷时如何认定合伙关系？")
    clean.queries["other"] = Query("other", "劳动合同到期不续签，单位要不要赔偿？")
    clean.qrels["train"] |= {"copy": {"p2-0": 1}, "other": {"p2-0": 1}}
    assert found(audit(clean, "test", Settings())) == {"near query": {"q0-0"}}


def test_a_shared_passage_and_its_copy_under_another_id_are_found(clean: RetrievalData) -> None:
    clean.passages["again"] = replace(clean.passages["p3-1"], id="again", group="")
    clean.qrels["train"]["q2-0"] |= {"p0-0": 1}
    clean.qrels["train"]["q2-1"] = {"again": 1}
    found_ = found(audit(clean, "test", Settings()))
    assert found_["passage"] == {"q0-0", "q3-1"}
    assert found_["document"] == {"q0-0", "q0-1"}
    assert set(found_) == {"passage", "document"}


def test_a_near_duplicate_passage_is_found_and_a_filled_in_template_is_not(clean: RetrievalData) -> None:
    old = clean.passages["p0-0"]
    words = old.text.split()
    clean.passages["near"] = Passage("near", "Reprint", " ".join([*words[:20], "indeed", *words[21:], "The end."]))
    common = " is inherited in a dominant pattern, which means one copy of the changed part in each cell is enough."
    for key in ("p3-0", "p2-0"):
        passage = clean.passages[key]
        clean.passages[key] = replace(passage, text=passage.title.split()[-1] + common * 3)
    clean.qrels["train"]["q2-1"] = {"near": 1}
    leakage = audit(clean, "test", Settings())
    assert found(leakage) == {"near passage": {"q0-0"}}
    (pair,) = next(one for one in leakage.findings if one.kind == "near passage" and one.side == "train").pairs
    assert pair.other == "near" and 0.8 <= pair.similarity < 1
    assert not leakage.failed  # one of 40: over the limit for exact leaks, not over that for near ones


def test_a_random_split_of_passages_shares_documents_and_fails(clean: RetrievalData) -> None:
    every = [name for side in clean.qrels.values() for name in side]
    random.Random(1).shuffle(every)
    grades = {name: row for side in clean.qrels.values() for name, row in side.items()}
    qrels = {"train": {name: grades[name] for name in every[40:]}, "test": {name: grades[name] for name in every[:40]}}
    leakage = audit(replace(clean, qrels=qrels), "test", Settings())
    assert set(found(leakage)) == {"document"}
    assert leakage.documents > 0.3 and leakage.over == ("documents",)
    assert not audit(replace(clean, qrels=qrels), "test", Settings(max_shared_documents=1)).failed


def test_a_document_too_big_for_one_side_is_reported_but_not_held_against_the_split(clean: RetrievalData) -> None:
    passages = {key: replace(passage, group="the code") for key, passage in clean.passages.items()}
    leakage = audit(replace(clean, passages=passages), "test", Settings())
    assert len(found(leakage)["document"]) == 40
    assert leakage.documents == 0 and not leakage.failed


def test_training_rows_are_audited_by_their_texts(clean: RetrievalData, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    held, text_only = clean.passages["p0-0"], clean.passages["p3-0"].text
    unlabelled = Passage("x", "", "A text that the corpus does not have at all, and of its own words.")
    write_examples(
        path,
        [
            Example("a fresh question about nothing much", (unlabelled.text,), (held.content,)),
            Example(clean.queries["q6-0"].text, (clean.passages["p2-0"].content,), (text_only,)),
            Example("yet another fresh question, quite unlike it", (clean.passages["p9-1"].text,)),
        ],
    )
    leakage = audit(replace(clean, qrels={"test": clean.qrels["test"]}), "test", Settings(), training=path)
    assert found(leakage) == {
        "query": {"q6-0"}, "passage": {"q9-1"}, "negative": {"q0-0", "q3-0"}, "document": {"q9-0", "q9-1"},
    }  # fmt: skip
    pairs = next(one for one in leakage.findings if one.kind == "negative").pairs
    assert {pair.other for pair in pairs} == {"rows.jsonl, row 1", "rows.jsonl, row 2"}
    assert leakage.compared == {"train": 3}


def test_vectors_find_a_paraphrase_that_words_do_not(clean: RetrievalData) -> None:
    clean.queries["q0-0"] = Query("q0-0", "May my landlord keep the deposit?")
    clean.queries["para"] = Query("para", "Can an owner hold back money left as security?")
    clean.qrels["train"]["para"] = {"p2-0": 1}

    def encode(texts):
        seeds = [int.from_bytes(text.encode()[-12:]) for text in texts]
        out = np.stack([np.random.default_rng(seed).standard_normal(64) for seed in seeds]).astype(np.float32)
        out[[n for n, text in enumerate(texts) if "landlord" in text or "security" in text]] = 1
        return out / np.linalg.norm(out, axis=1, keepdims=True)

    leakage = audit(clean, "test", Settings(), vectors=encode)
    (by_vectors,) = [one for one in leakage.overlaps if one.by == "vectors" and one.side == "train"]
    assert (by_vectors.worst[0].query, by_vectors.worst[0].other) == ("q0-0", "para")
    assert by_vectors.worst[0].similarity == pytest.approx(1)
    assert by_vectors.at_least["0.95"] >= 1
    assert found(leakage) == {"near query": {"q0-0"}}
    (pair,) = next(one for one in leakage.findings if one.queries).pairs
    assert (pair.query, pair.other) == ("q0-0", "para")


def test_vectors_that_are_all_alike_or_blind_to_names_find_no_copies(clean: RetrievalData) -> None:
    def same_direction(texts):
        seeds = [int.from_bytes(text.encode()[-12:]) for text in texts]
        out = np.stack([np.random.default_rng(seed).standard_normal(64) for seed in seeds]).astype(np.float32) + 9
        return out / np.linalg.norm(out, axis=1, keepdims=True)

    def blind(texts):
        return np.tile(np.eye(64, dtype=np.float32)[0], (len(texts), 1))

    for encode in (same_direction, blind):
        leakage = audit(clean, "test", Settings(), vectors=encode)
        assert next(one for one in leakage.overlaps if one.by == "vectors").median > 0.95
        assert found(leakage) == {}


@pytest.mark.parametrize("kind", ["passage", "negative"])
@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda text, _: text, "{}"),
        (lambda text, _: text.replace(text.split()[7], "changed", 1), "near {}"),
        (lambda text, other: f"{text} {other}", "near {}"),
        (lambda text, _: " ".join(text.split()[:36]), "near {}"),
    ],
    ids=["another title", "a word changed", "text added", "a part"],
)
def test_copies_under_another_title_and_partial_ones_are_found(
    clean: RetrievalData, tmp_path: Path, kind: str, change, name: str
) -> None:
    text = change(clean.passages["p0-0"].text, clean.passages["p2-0"].text)
    held = f"Reprint\n{text}"
    row = Example("a fresh question", (held,)) if kind == "passage" else Example("fresh", ("its own answer",), (held,))
    clean.passages["new"] = Passage("new", "Reprint", text)
    write_examples(tmp_path / "rows.jsonl", [row])
    leakage = audit(clean, "test", Settings(), training=tmp_path / "rows.jsonl")
    assert found(leakage) == {name.format(kind): {"q0-0"}}


def test_a_text_that_many_passages_share_is_told_by_their_titles(clean: RetrievalData, tmp_path: Path) -> None:
    outline = " > ".join(word("outline", number) for number in range(30))
    answer = next(iter(clean.positives("test")["q0-0"]))
    for key in (answer, "x1", "x2", "x3"):
        title = "Fever" if key == answer else f"Fever kind {key}"
        clean.passages[key] = Passage(key, title, outline)
    other = clean.passages["x1"].content
    write_examples(tmp_path / "rows.jsonl", [Example("fresh", ("its own answer",), (other,))])
    assert found(audit(clean, "test", Settings(), training=tmp_path / "rows.jsonl")) == {"near negative": {"q0-0"}}
    del clean.passages["x2"], clean.passages["x3"]  # the text is now hardly more than these two passages' own
    assert found(audit(clean, "test", Settings(), training=tmp_path / "rows.jsonl")) == {"negative": {"q0-0"}}


def test_without_a_training_split_nothing_is_claimed(clean: RetrievalData) -> None:
    leakage = audit(replace(clean, qrels={"test": clean.qrels["test"]}), "test", Settings())
    assert leakage.compared == {} and not leakage.failed
    assert "nothing is known about leaks" in leakage.sentence
