"""Questions that documents answer, made without an LLM: what each kind makes of a sentence, and what it leaves."""

from __future__ import annotations

import json

import pytest

from fieldtune.config import Config, Queries, load_config
from fieldtune.pipeline import run_pipeline
from fieldtune.queries.asked import asked_questions
from fieldtune.queries.aspects import Aspects
from fieldtune.queries.crops import Frames
from fieldtune.queries.reasons import reason_questions
from fieldtune.queries.rules import condition_questions, permission_questions
from fieldtune.queries.structure import structure_queries
from fieldtune.queries.wording import language_of, lower_first, naming, read_title, sentences
from fieldtune.types import Passage


def parts(text: str):
    return list(sentences(text))


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("承租人无正当理由拖欠租金的，出租人可以请求解除合同。", "承租人无正当理由拖欠租金，可以怎么办？"),
        ("违反本法规定，出租房屋未办理登记的，处五百元以下罚款。", "出租房屋未办理登记，会怎么处罚？"),
        ("故意毁坏公私财物数额较大的，处三年以下有期徒刑。", "故意毁坏公私财物数额较大，怎么判刑？"),
        ("占用他人车位造成损失的，应当承担赔偿责任。", "占用他人车位造成损失，要赔偿吗？"),
        ("情节严重的，处五万元以下罚款。", ""),
        ("有前款规定情形的，由登记机关责令改正。", ""),
        ("If the pump does not start within a minute, check the fuse first.",
         "What happens if the pump does not start within a minute?"),
        ("If you lose your card, call the bank at once and give it the number.", "What should I do if I lose my card?"),
        ("Call your doctor if the fever lasts more than three days.",
         "What should I do if the fever lasts more than three days?"),
        ("Any person who opens a letter addressed to somebody else shall be liable to a fine.",
         "What is the penalty for any person who opens a letter addressed to somebody else?"),
        ("If this happens again and again, the lease ends.", ""),
        ("Where required by the Regulator at any time, the firm reports.", ""),
    ],
)  # fmt: skip
def test_a_condition_asks_what_follows(text, question):
    assert list(condition_questions(parts(text), language_of(text), 0)) == ([question] if question else [])


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("经营者不得以低于成本的价格销售商品。", "经营者可以以低于成本的价格销售商品吗？"),
        ("城市的物业服务收费标准由价格主管部门制定。", "城市的物业服务收费标准由谁制定？"),
        ("国务院有关部门应当加强对农村教育的指导。", ""),
        ("No firm may take deposits without a licence of the Authority.",
         "Can a firm take deposits without a licence of the Authority?"),
        ("The lender must tell the borrower about each change of the rate.",
         "Must the lender tell the borrower about each change of the rate?"),
        ("Symptoms may appear in the first weeks after the infection.", ""),
    ],
)  # fmt: skip
def test_a_rule_asks_whether_one_may(text, question):
    found = list(permission_questions(parts(text), language_of(text), 0, rules=True))
    assert found == ([question] if question else [])
    if language_of(text) == "en":
        assert not list(permission_questions(parts(text), "en", 0, rules=False))


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("Gross profit decreased 4% in 2019 compared to 2018, primarily due to higher freight.",
         "Why did gross profit decrease in 2019?"),
        ("The increase in selling expenses in fiscal 2020 was due to new stores.",
         "What caused the increase in selling expenses in fiscal 2020?"),
        ("营业收入同比增长12%，主要系新产品上市所致。", "营业收入为什么增长？"),
        ("Although prices rose because of freight, the margin held.", ""),
        ("国家按照规定增加投入，由于财政许可。", ""),
    ],
)  # fmt: skip
def test_a_reason_is_asked_for(text, question):
    assert list(reason_questions(parts(text), language_of(text))) == ([question] if question else [])


def test_a_question_of_the_text_is_taken_with_its_place_and_its_subject():
    text = "How is it treated? Rest and fluids are enough in most cases. Is that all?"
    title = read_title("Dengue fever")
    ((question, span),) = asked_questions(parts(text), title, "en")
    assert question == "Dengue fever: How is it treated?"
    assert span is not None and text[slice(*span)] == "How is it treated?"
    heading = read_title("Handbook > Who may borrow books from the library?")
    assert list(asked_questions([], heading, "en")) == [("Who may borrow books from the library?", None)]


def test_each_side_of_a_thing_belongs_to_the_passage_that_tells_most_of_it():
    texts = {
        "a": "Dengue fever is caused by a virus. Mosquitoes cause its spread; no other cause of dengue is known.",
        "b": "The symptoms of dengue fever are a high fever and a rash. Other symptoms and signs are pain and nausea.",
        "c": "Dengue fever is treated with rest. Treatment needs no medicine but fluids; no therapy is known.",
    }
    passages = {key: Passage(key, "Dengue fever", text) for key, text in texts.items()}
    text = "The lease agreement is caused by and because of causes. The cause is cause."
    passages["d"] = Passage("d", "Lease agreement", text)
    aspects = Aspects(passages)
    asked = {key: [draft.text for draft in aspects.queries(key, passages[key], 0)] for key in passages}
    assert asked == {
        "a": ["What causes Dengue fever?"],
        "b": ["What are the symptoms of Dengue fever?"],
        "c": ["How is Dengue fever treated?"],
        "d": [],
    }
    twice = {key: Passage(key, "Dengue fever", texts["a"]) for key in "xy"}
    assert not Aspects(twice).queries("x", twice["x"], 0)


def test_sentences_that_fill_in_a_form_are_no_crops():
    frames = Frames([f"The Register lists the following signs of disease number {n}." for n in range(30)])
    assert frames.is_form("The Register lists the following signs of anything at all.")
    assert not frames.is_form("A register of diseases is kept by the office in the capital.")


def test_printed_lines_join_to_sentences_at_their_place():
    text = "The board of the company met on the third of May and decided that\nthe dividend is paid in June. It rose."
    first, second = parts(text)
    assert first.text == text[first.start : first.end] and first.text.endswith("June.")
    assert second.text == "It rose."
    assert len(parts("Contents\nthe dividend")) == 2


def test_who_asks_names_the_law_and_no_page():
    assert (
        naming("本法施行后，依照本法规定", read_title("中华人民共和国租赁法 第三条"), "zh")
        == "租赁法施行后，依照租赁法规定"
    )
    assert naming("under this Act", read_title("Banking Act Section 3 Scope"), "en") == "under Banking Act"
    assert read_title("ACME 10-K 2022 page 17").document == "ACME 10-K 2022"
    assert read_title("Conduct Rules 9.10.5").number == "9.10.5"
    assert read_title("Trisomy 18").document == "Trisomy 18"
    assert [lower_first(text) for text in ("Operating income", "EBITDA margin", "Total Assets")] == [
        "operating income",
        "EBITDA margin",
        "Total Assets",
    ]


def test_only_the_kinds_asked_for_are_made_and_each_has_its_yield():
    text = (
        "If the pump does not start within a minute, check the fuse first. A fuse is a wire that melts when it is hot."
    )
    passages = {
        f"p{n}": Passage(f"p{n}", f"Pump {n}x", f"{text} Model {n} has {n} lamps of number {n}.") for n in range(4)
    }
    made = structure_queries(Queries(kinds=("condition", "definition")), passages, 13)
    assert {query.style for query in made.queries.values()} <= {"condition", "definition"}
    assert set(made.details["kinds"]) == {"condition", "definition"}
    assert made.details["kinds"]["condition"]["yield"] == 1.0
    assert sum(kind["share"] for kind in made.details["kinds"].values()) == pytest.approx(1)


def test_a_generator_file_runs_on_the_corpus_that_it_names(tiny_beir, tiny_model, tmp_path):
    rows = [{"corpus-id": f"p{n}", "style": "plain", "query": f"what covers {n}"} for n in range(60)]
    (tmp_path / "made.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "run.toml").write_text(
        f'out = "out"\n[queries]\nfrom = "made.jsonl"\ncorpus = "{tiny_beir.name}"\nround_trip_k = 20\n'
        f'[model]\nbase = "{tiny_model}"\n'
    )
    config = load_config(tmp_path / "run.toml")
    assert config.queries.corpus == str(tiny_beir)
    *_, queries = run_pipeline(config, last="queries")
    assert queries.counts["queries made"] == 60 and 0 < queries.counts["queries"] <= 60
    assert [path.suffix for path in sorted((tmp_path / "out" / "vectors").iterdir())].count(".npy") == 2
    assert (tmp_path / "out" / "corpus" / "corpus.jsonl").read_text().count("\n") == 60
    # Another text of a passage is another corpus: nothing of the old one may stay.
    corpus = tiny_beir / "corpus.jsonl"
    corpus.write_text(corpus.read_text().replace("article 7", "article seven"))
    run_pipeline(config, last="corpus")
    assert "article seven" in (tmp_path / "out" / "corpus" / "corpus.jsonl").read_text()


def test_kinds_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="kinds"):
        Config(queries={"kinds": ["poem"]})  # type: ignore[arg-type]
