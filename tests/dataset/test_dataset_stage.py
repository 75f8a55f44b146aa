from __future__ import annotations

from pathlib import Path

import pytest

from fieldtune.beir import RetrievalData, load_beir
from fieldtune.config import make_config
from fieldtune.dataset import build_dataset, read_examples
from fieldtune.encoding import Encoder
from fieldtune.errors import InputError
from fieldtune.queries.made import sample_prompt
from fieldtune.queries.prompts import Brief, query_prompt
from fieldtune.types import Passage, Qrels, Query, Result

SENTENCE = "rent covers lease when notice starts"


def data(qrels: dict[str, Qrels], count: int = 40) -> RetrievalData:
    passages = {
        f"p{n}": Passage(f"p{n}", f"article {n}", f"deposit {n}. {SENTENCE} {n}. audit {n}.", group=f"g{n // 2}")
        for n in range(count)
    }
    queries = {}
    for n in range(count):
        start = passages[f"p{n}"].text.index(SENTENCE)
        crop = {"passage": f"p{n}", "span": [start, start + len(f"{SENTENCE} {n}.")]}
        queries[f"q{n}"] = Query(f"q{n}", f"{SENTENCE} {n}.", "crop", {"crop": crop})
    return RetrievalData(passages, queries, qrels)


def all_pairs(numbers: range) -> Qrels:
    return {f"q{n}": {f"p{n}": 1} for n in numbers}


def test_a_cropped_sentence_is_mostly_cut_out_of_the_passage_that_training_shows(
    tiny_model: str, tmp_path: Path
) -> None:
    given = data({"train": all_pairs(range(36)), "dev": all_pairs(range(36, 40))})
    build_dataset(make_config({}), given, {}, Encoder.load(tiny_model), tmp_path / "data", tmp_path / "vectors")
    rows = read_examples(tmp_path / "data" / "train.jsonl")
    cut = [row for row in rows if SENTENCE not in row.pos[0]]
    assert 0.7 * len(rows) < len(cut) <= len(rows)
    for row in cut:
        number = row.query.removesuffix(".").split()[-1]
        assert row.pos == (f"article {number}\ndeposit {number}. audit {number}.",)
        assert f"article {number}\ndeposit {number}. {SENTENCE} {number}. audit {number}." in row.known


def test_all_forms_of_a_positive_and_its_known_copies_are_known_without_mining(tiny_model: str, tmp_path: Path) -> None:
    given = data({"train": all_pairs(range(36)), "dev": all_pairs(range(36, 40))})
    first = given.passages["p0"]
    for n in range(10):  # cropped from one passage, at other places
        queries = given.queries[f"q{n}"].metadata["crop"]
        crop = queries | {"passage": "p0", "span": [n, n + 12]}
        given.queries[f"q{n}"] = Query(f"q{n}", f"query {n}", "crop", {"crop": crop})
        given.qrels["train"][f"q{n}"] = {"p0": 1}
    given.qrels["train"]["q20"] = {"p20": 1, "p22": 0}
    config = make_config({"negatives": {"per_query": 0}})
    twins = {"p20": ["p21", "p22"]}
    build_dataset(config, given, twins, Encoder.load(tiny_model), tmp_path / "data", tmp_path / "vectors")
    rows = {row.query: row for row in read_examples(tmp_path / "data" / "train.jsonl")}
    forms = {rows[f"query {n}"].pos[0] for n in range(10)}
    assert len(forms) > 5
    for n in range(10):
        row = rows[f"query {n}"]
        assert {*row.pos, *row.known} == forms | {first.content}
    known = rows[f"{SENTENCE} 20."].known
    assert given.passages["p21"].content in known
    assert given.passages["p22"].content not in known  # judged, as irrelevant


def test_undivided_labels_are_divided_and_the_folder_is_a_beir_folder(tmp_path: Path, tiny_model: str) -> None:
    result = build_dataset(
        make_config({"negatives": {"per_query": 0}}),
        data({"all": all_pairs(range(40))}),
        {},
        Encoder.load(tiny_model),
        tmp_path / "data",
        tmp_path / "vectors",
    )
    made = load_beir(tmp_path / "data")
    assert set(made.qrels) == {"train", "dev", "test"}
    assert sum(len(rows) for rows in made.qrels.values()) + sum(result.dropped.values()) == 40
    assert result.counts["training queries"] == len(made.qrels["train"])
    assert not any(row.neg for row in read_examples(tmp_path / "data" / "train.jsonl"))


def test_a_missing_dev_side_is_cut_from_train_and_a_given_test_side_is_untouched(
    tmp_path: Path, tiny_model: str
) -> None:
    given = data({"train": all_pairs(range(30)), "test": all_pairs(range(30, 40))})
    result = build_dataset(
        make_config({}), given, {}, Encoder.load(tiny_model), tmp_path / "data", tmp_path / "vectors"
    )
    made = load_beir(tmp_path / "data")
    assert made.qrels["test"] == given.qrels["test"]
    assert made.qrels["dev"]
    assert set(made.qrels["dev"]) | set(made.qrels["train"]) <= set(given.qrels["train"])
    assert "no dev queries" in " ".join(result.notes)


def test_no_dev_side_is_cut_where_none_is_wanted(tmp_path: Path, tiny_model: str) -> None:
    given = data({"train": all_pairs(range(30)), "test": all_pairs(range(30, 40))})
    config = make_config({"split": {"dev": 0}})
    result = build_dataset(config, given, {}, Encoder.load(tiny_model), tmp_path / "data", tmp_path / "vectors")
    assert load_beir(tmp_path / "data").qrels == given.qrels
    assert "no dev queries" not in " ".join(result.notes)


def test_labels_without_a_train_side_are_refused(tmp_path: Path, tiny_model: str) -> None:
    with pytest.raises(InputError, match="no train split"):
        build_dataset(
            make_config({}), data({"test": all_pairs(range(9))}), {}, Encoder.load(tiny_model), tmp_path, tmp_path
        )


def test_the_card_shows_what_a_model_was_asked_and_what_the_filters_dropped(tmp_path: Path, tiny_model: str) -> None:
    passages = data({}).passages
    asked = sample_prompt("queries", ("p1",), query_prompt(passages["p1"], ("formal",), Brief()))
    dropped = {"query": "what does it say", "style": "formal", "passage": "p2", "why": "its passage is at rank none"}
    step = {"filter": "round trip (k = 5)", "in": 41, "dropped": 1, "kept examples": [], "dropped examples": [dropped]}
    before = [Result("queries", {"queries": 40}, details={"prompts": [asked], "filters": [step]})]
    build_dataset(
        make_config({"negatives": {"per_query": 0}}),
        data({"all": all_pairs(range(40))}),
        {},
        Encoder.load(tiny_model),
        tmp_path / "data",
        tmp_path / "vectors",
        before,
    )
    card = (tmp_path / "data" / "README.md").read_text()
    assert "queries, asked on one passage:" in card and "You write search queries" in card
    assert f"deposit 1. {SENTENCE} 1." in card.split("## Prompts")[1].split("## Examples")[0]
    assert "| round trip (k = 5) | 41 | 1 |" in card
    assert "what does it say (its passage is at rank none)" in card


def test_what_is_too_small_to_prove_anything_says_so(tmp_path: Path, tiny_model: str) -> None:
    def notes(count: int, qrels: dict[str, Qrels]) -> str:
        folder = tmp_path / str(count)
        given = data(qrels, count)
        return " ".join(build_dataset(make_config({}), given, {}, Encoder.load(tiny_model), folder, folder / "v").notes)

    small = notes(3, {name: all_pairs(range(n, n + 1)) for n, name in enumerate(("train", "dev", "test"))})
    for said in ("has 1 query: figures on it prove nothing", "corpus has 3 passages", "left to be a hard negative"):
        assert said in small
    sides = {"train": range(20, 60), "dev": range(60, 80), "test": range(80, 120)}
    large = notes(120, {name: all_pairs(numbers) for name, numbers in sides.items()})
    assert not any(said in large for said in ("prove nothing", "passages:", "hard negative"))
