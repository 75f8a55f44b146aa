"""Filters on made queries: what each one drops and keeps, and what is said when nothing is left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.beir import RetrievalData, read_queries
from fieldtune.config import Config, Model, Queries
from fieldtune.dataset.known import known_rows
from fieldtune.errors import ConfigError, InputError
from fieldtune.llm import Reply
from fieldtune.queries import gather_queries
from fieldtune.queries.filters import copied, longest_run, looping, pointing, wrong_language, wrong_length
from fieldtune.queries.judge import judge
from fieldtune.queries.made import doubted_of
from fieldtune.queries.repeats import join_repeats
from fieldtune.queries.tongues import tongue
from fieldtune.types import Passage, Query

RENT = Passage("r", "Lease", "The tenant shall pay the rent to the landlord on the first working day of each month.")
MIETE = Passage(
    "z", "租赁合同", "承租人应当按照约定的期限支付租金，对支付租金的期限没有约定的，应当在租赁期限届满时支付。"
)


def query(text: str, style: str = "formal") -> Query:
    return Query(text, text, style)


@pytest.mark.parametrize(
    ("text", "passage", "dropped"),
    [
        ("When does the tenant pay?", RENT, False),
        ("承租人什么时候支付租金？", RENT, True),
        ("When does the tenant have to pay the rent?", MIETE, True),
        ("房租什么时候交", MIETE, False),
        ("EBITDA 2019", MIETE, False),
        ("Когда арендатор должен платить арендную плату?", RENT, True),
        ("Wann muss der Mieter die Miete zahlen?", RENT, True),
        ("¿Cuándo debe el inquilino pagar el alquiler?", RENT, True),
        ("Quand le locataire doit-il payer le loyer au bailleur ?", RENT, True),
        ("rent due date Kaltmiete Nebenkosten", RENT, False),
        ("What does Rechtsschutzversicherung cover in a lease?", RENT, False),
        ("家賃はいつ支払うのですか、教えてください", MIETE, True),
    ],
)
def test_a_query_speaks_the_language_of_its_passage(text, passage, dropped):
    assert bool(wrong_language(query(text), [passage])) is dropped


@pytest.mark.parametrize(
    ("text", "dropped"),
    [
        ("rent", False),
        ("a?", True),
        ("？", True),
        ("押金", False),
        ("why " * 91, True),
        ("租" * 161, True),
        ("租" * 120, False),
    ],
)
def test_a_query_has_the_length_of_one(text, dropped):
    assert bool(wrong_length(query(text), [RENT])) is dropped


@pytest.mark.parametrize(
    ("text", "dropped"),
    [
        ("What does the passage say about rent?", True),
        ("According to this document, who pays?", True),
        ("What is the penalty mentioned above?", True),
        ("上述条文规定的期限是多久？", True),
        ("根据该规定，谁来支付租金？", True),
        ("本文的主要内容是什么？", True),
        ("日本文化遗产怎么申报？", False),
        ("合同有两种以上文件，以哪个为准？", False),
        ("中文中的标点怎么用？", False),
        ("第三十一条例外情况有哪些？", False),
        ("How long must documents be kept above ground?", False),
        ("Which section of the lease covers rent?", False),
        ("盗窃三万元以上怎么判", False),
        ("工龄十年以上有多少天年假", False),
        ("这两年工资没涨合法吗", False),
        ("论文中引用他人作品算侵权吗", False),
        ("这两段文字有什么区别？", True),
        ("who signs the document", False),
        ("how long must I keep the documents", False),
        ("what two documents do I need", False),
        ("How do both passages differ on rent?", True),
        ("Who pays rent, going by the excerpt?", True),
    ],
)
def test_a_query_names_its_subject_instead_of_pointing(text, dropped):
    assert bool(pointing(query(text), [RENT])) is dropped


def test_copies_are_questions_that_are_the_passage():
    whole = "the tenant shall pay the rent to the landlord on the first working day of each month"
    assert copied(query(f"Must {whole}?"), [RENT], 0.75) == "copies 17 of its 18 words in one run"
    assert not copied(query(f"Must {whole}?"), [RENT], 0.99)
    assert not copied(query("When is the rent due to the landlord?"), [RENT], 0.75)
    assert copied(query("承租人应当按照约定的期限支付租金，对支付租金的期限没有约定的，怎么办？"), [MIETE], 0.75)
    assert not copied(query("租金什么时候给房东？没写日子怎么办？"), [MIETE], 0.75)


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_the_longest_run_is_the_longest_common_substring(one, other):
    runs = {tuple(one[i:j]) for i in range(len(one)) for j in range(i + 1, len(one) + 1)}
    both = [run for run in runs if any(tuple(other[i : i + len(run)]) == run for i in range(len(other)))]
    assert longest_run(one, other) == max(map(len, both), default=0)


def test_queries_of_the_same_words_become_one_with_the_passages_of_each():
    texts = {
        "a": "What was the operating income in 2019?",
        "b": "In 2019, what was the operating income?",
        "c": "What was the operating income in 2018?",
        "d": "How is rent paid?",
    }
    queries = {key: query(text) for key, text in texts.items()}
    qrels = {key: {f"p-{key}": 1} for key in texts}
    joined, dropped = join_repeats(queries, qrels, 13)
    assert joined == {"a": {"p-a": 1, "p-b": 1}, "c": {"p-c": 1}, "d": {"p-d": 1}}
    assert list(dropped) == ["b"] and "operating income" in dropped["b"]


def test_words_that_fit_many_passages_ask_for_none():
    queries = {str(n): query("rent deposit " + "?" * n) for n in range(5)} | {"x": query("notice period")}
    joined, dropped = join_repeats(queries, {key: {f"p{key}": 1} for key in queries}, 13)
    assert list(joined) == ["x"] and len(dropped) == 5
    assert "5 passages" in dropped["0"]


def test_a_chinese_query_that_differs_in_the_decisive_character_stays():
    queries = {
        "a": query("租赁合同被认定有效以后押金怎么退还给承租人"),
        "b": query("租赁合同被认定无效以后押金怎么退还给承租人"),
    }
    assert join_repeats(queries, {"a": {"p": 1}, "b": {"q": 1}}, 13)[1] == {}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("What is the notice period of a lease?", "en"),
        ("Wie hoch ist die Miete und wer zahlt sie?", "de"),
        ("Hoe hoog is de huur en wie betaalt die?", "nl"),
        ("Qual é o prazo para o pagamento do aluguel?", "pt"),
        ("租金什么时候交", "zh"),
        ("用 Python 写的 API 怎么申请著作权登记", "zh"),
        ("敷金はいつ返ってきますか", "ja"),
        ("보증금은 언제 돌려받나요", "ko"),
        ("EBITDA 2019", ""),
        ("asthma inhaler dose children", ""),
    ],
)
def test_small_words_and_scripts_tell_the_language(text, code):
    assert tongue(text) == code


class Clerk:
    """Grades by what stands in the prompt, in place of an endpoint."""

    def ask(self, prompts):
        for number, prompt in enumerate(prompts):
            text = prompt.messages[1][1]
            if "prose" in text:
                yield number, Reply("I think it is fine.")
            else:
                yield (
                    number,
                    Reply(json.dumps({"reason": "so it is", "grade": 3 if "rent" in text.split("PASSAGE")[0] else 1})),
                )


def test_a_judge_drops_what_it_grades_low_and_keeps_what_it_does_not_grade():
    queries = {"a": query("when is the rent due"), "b": query("who wins the cup"), "c": query("prose")}
    judged = judge(Clerk(), queries, {key: {"r": 1} for key in queries}, {"r": RENT}, 2)  # type: ignore[arg-type]
    assert judged.low == {"b": {"r": "graded 1: so it is"}}
    assert (judged.graded, judged.unanswered) == (2, 1)


def test_a_comparison_is_judged_with_both_passages_and_stays_or_goes_as_a_whole():
    seen = []

    class Watched(Clerk):
        def ask(self, prompts):
            seen.extend(prompts)
            return super().ask(prompts)

    long = Passage("l", "", "y" * 9_000)
    asked = {"a": query("how do both set the rent", "llm-comparison"), "b": query("who wins", "llm-comparison")}
    both = {"r": 1, "l": 1}
    judged = judge(Watched(), asked, {"a": both, "b": both}, {"r": RENT, "l": long}, 2)
    assert len(seen) == 2 and all(prompt.messages[1][1].count("=== PASSAGE") == 2 for prompt in seen)
    assert judged.low == {"b": dict.fromkeys(both, "graded 1: so it is")}
    assert judged.cut == 2 and "saw the beginning" in judged.sentence("m")


def test_every_other_query_is_judged_with_each_passage_alone():
    seen = []

    class Watched(Clerk):
        def ask(self, prompts):
            seen.extend(prompts)
            return super().ask(prompts)

    judge(Watched(), {"a": query("when is the rent due")}, {"a": {"r": 1, "z": 1}}, {"r": RENT, "z": MIETE}, 2)
    assert [prompt.messages[1][1].count("=== PASSAGE") for prompt in seen] == [1, 1]


def test_what_the_limit_left_unjudged_stays_and_is_told():
    class Spent:
        def ask(self, prompts):
            yield from ((number, Reply("", "not asked", asked=False)) for number in range(len(prompts)))

    judged = judge(Spent(), {"a": query("what")}, {"a": {"r": 1}}, {"r": RENT}, 2)
    assert (judged.low, judged.unasked, judged.unanswered) == ({}, 1, 0)
    assert "1 were not graded, for the spending limit was reached" in judged.sentence("m")


def generated(folder: Path, rows: list[dict[str, object]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "generated.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def test_generated_queries_are_read_filtered_and_accounted_for(tmp_path):
    passages = {"r": RENT, "z": MIETE}
    rows = [
        {"corpus-id": "r", "style": "formal", "query": "When is the rent due?"},
        {"corpus-id": ["r", "z"], "style": "comparison", "query": "How do both leases set the day of payment?"},
        {"corpus-id": "gone", "style": "formal", "query": "Who repairs the roof?"},
        {"corpus-id": "r", "style": "formal", "query": "What does this passage say?"},
        {"corpus-id": "z", "style": "colloquial", "query": "When do I have to pay my rent then?"},
        {"corpus-id": "r", "style": "formal", "query": ""},
        {"style": "formal", "query": "no passage"},
    ]
    source = generated(tmp_path, rows)
    result = gather_queries(Config(queries=Queries(source=str(source))), passages, tmp_path / "out", tmp_path / "cache")
    assert result.counts["queries"] == 2 and result.counts["rows"] == 7 and result.counts["queries made"] == 4
    assert result.dropped == {
        "broken row": 2,
        "generated query whose passage is not in the corpus": 1,
        "filter: language": 1,
        "filter: points at the passage": 1,
    }
    assert [entry["where"] for entry in result.details["not_found"]] == ["generated.jsonl:3"]
    assert [entry.split(": ")[0] for entry in result.details["broken_rows"]] == [
        "generated.jsonl:6",
        "generated.jsonl:7",
    ]
    kept = [json.loads(line) for line in (tmp_path / "out" / "queries.jsonl").read_text().splitlines()]
    assert {(row["text"], row["metadata"]["style"]) for row in kept} == {
        (rows[0]["query"], "formal"),
        (rows[1]["query"], "comparison"),
    }
    assert "z\t1" in (tmp_path / "out" / "qrels" / "all.tsv").read_text()
    assert json.loads((tmp_path / "out" / "meta.json").read_text())["made_by"] == "file"
    steps = {step["filter"]: step for step in result.details["filters"]}
    (shown,) = steps["points at the passage"]["dropped examples"]
    assert shown["query"] == "What does this passage say?" and "this passage" in shown["why"]
    assert steps["language"]["in"] == 4 and steps["language"]["kept examples"]
    assert result.details["kinds"]["formal"] == {"made": 2, "kept": 1, "share": 0.5}


def test_rows_that_all_name_absent_passages_are_an_error_with_file_line_and_cure(tmp_path):
    source = generated(tmp_path, [{"corpus-id": "gone", "style": "formal", "query": "Who repairs the roof?"}])
    with pytest.raises(InputError, match=r"none of its 1 rows.*generated.jsonl:1 'gone'") as caught:
        gather_queries(Config(queries=Queries(source=str(source))), {"r": RENT}, tmp_path / "o", tmp_path / "c")
    assert "queries.corpus" in caught.value.hint


def test_when_all_are_filtered_out_each_filter_says_how_many(tmp_path):
    rows = [
        {"corpus-id": "r", "style": "x", "query": text} for text in ("What does this passage say?", "谁应当支付租金？")
    ]
    source = generated(tmp_path, rows)
    with pytest.raises(
        InputError, match=r"none of the 2 made queries passed.*language 1, points at the passage 1"
    ) as caught:
        gather_queries(Config(queries=Queries(source=str(source))), {"r": RENT}, tmp_path / "o", tmp_path / "c")
    assert caught.value.hint and not (tmp_path / "o" / "meta.json").exists()


def test_the_round_trip_drops_queries_that_do_not_lead_back(tiny_model, tmp_path):
    topics = ["lease", "rent", "tenant", "deposit", "eviction", "contract", "breach", "damages", "notice", "landlord"]
    passages = {
        str(n): Passage(str(n), "", f"{topics[n % 10]} {n} covers article {n} {topics[(n * 3) % 10]}")
        for n in range(40)
    }
    rows = [
        {"corpus-id": "7", "style": "formal", "query": "what covers article 7"},
        {"corpus-id": ["8", "33"], "style": "formal", "query": "when starts article 8"},
        {"corpus-id": "12", "style": "formal", "query": "what covers article 31"},
    ]
    source = generated(tmp_path, rows)
    config = Config(queries=Queries(source=str(source), round_trip_k=3), model=Model(base=tiny_model))
    result = gather_queries(config, passages, tmp_path / "out", tmp_path / "cache", tmp_path / "vectors")
    assert result.counts["queries"] == 2
    assert result.dropped["filter: round trip (k = 3)"] == 1
    assert result.dropped["label that fails the round trip (k = 3)"] == 1
    qrels = (tmp_path / "out" / "qrels" / "all.tsv").read_text()
    assert "\t8\t1" in qrels and "\t33\t" not in qrels and "\t12\t" not in qrels
    kept = read_queries(tmp_path / "out" / "queries.jsonl")
    assert [doubted_of(query) for query in kept.values() if query.text.startswith("when")] == [["33"]]
    vectors = sorted(path.name for path in (tmp_path / "vectors").glob("*.npy"))
    assert len(vectors) == 2
    every = Config(queries=Queries(source=str(source), round_trip_k=0), model=Model(base=tiny_model))
    assert gather_queries(every, passages, tmp_path / "o2", tmp_path / "c", tmp_path / "v2").counts["queries"] == 3
    assert not (tmp_path / "v2").exists()
    wide = Config(queries=Queries(source=str(source), round_trip_k=40), model=Model(base=tiny_model))
    notes = gather_queries(wide, passages, tmp_path / "o3", tmp_path / "c", tmp_path / "v3").notes
    assert any("No round trip" in note for note in notes)


def test_three_passages_and_identical_passages(tmp_path):
    three = {
        f"p{n}": Passage(f"p{n}", f"Manual > {name}", text)
        for n, (name, text) in enumerate({
            "Starting": "If the pump does not start, check the fuse and the float switch before you call the service.",
            "Cleaning": "The filter is rinsed with clear water once a month and dried in the shade for a day.",
            "Storage": "In winter the pump is emptied and kept in a dry room above the freezing point of water.",
        }.items())
    }  # fmt: skip
    result = gather_queries(Config(), three, tmp_path / "a", tmp_path / "c", tmp_path / "v")
    assert result.counts["queries"] >= 3
    same = {f"p{n}": Passage(f"p{n}", "", three["p0"].text) for n in range(30)}
    with pytest.raises(InputError, match=r"no query tells the 30 passages apart.*the same text") as caught:
        gather_queries(Config(), same, tmp_path / "b", tmp_path / "c", tmp_path / "v")
    assert caught.value.hint


def test_the_same_text_twice_gives_queries_with_both_passages(tmp_path):
    text = "If the pump does not start, check the fuse and the float switch before you call the service."
    same = {f"p{n}": Passage(f"p{n}", "", text) for n in range(2)}
    gather_queries(Config(), same, tmp_path / "b", tmp_path / "c", tmp_path / "v")
    rows = (tmp_path / "b" / "qrels" / "all.tsv").read_text().splitlines()[1:]
    assert {row.split("\t")[1] for row in rows} == {"p0", "p1"} and len(rows) % 2 == 0


def test_labels_of_people_are_never_filtered(tmp_path):
    labels = tmp_path / "labels.jsonl"
    labels.write_text(json.dumps({"query": "What does this passage say?", "passage": RENT.text}))
    result = gather_queries(Config(queries=Queries(source=str(labels))), {"r": RENT}, tmp_path / "o", tmp_path / "c")
    assert result.counts["queries"] == 1 and "filters" not in result.details


def test_what_a_filter_takes_from_the_answers_is_never_mined_against_the_query():
    doubted = Query("q", "who pays", "formal", {"doubted": ["b"]})
    passages = {key: Passage(key, "", key) for key in "abc"}
    known = known_rows(RetrievalData(passages, {"q": doubted}, {"train": {"q": {"a": 1}}}), {})
    assert known.partly == [[1]]
    nonsense = Query("q", "who pays", "formal", {"doubted": 3})
    assert known_rows(RetrievalData(passages, {"q": nonsense}, {"train": {"q": {"a": 1}}}), {}).partly == [[]]


def test_a_comparison_that_leads_to_one_of_its_passages_keeps_both(tiny_model, tmp_path):
    topics = ["lease", "rent", "tenant", "deposit", "eviction", "contract", "breach", "damages", "notice", "landlord"]
    passages = {
        str(n): Passage(str(n), "", f"{topics[n % 10]} {n} covers article {n} {topics[(n * 3) % 10]}")
        for n in range(40)
    }
    source = generated(tmp_path, [{"corpus-id": ["8", "33"], "style": "comparison", "query": "when starts article 8"}])
    config = Config(queries=Queries(source=str(source), round_trip_k=3), model=Model(base=tiny_model))
    gather_queries(config, passages, tmp_path / "out", tmp_path / "cache", tmp_path / "vectors")
    qrels = (tmp_path / "out" / "qrels" / "all.tsv").read_text()
    assert "\t8\t1" in qrels and "\t33\t1" in qrels


def test_generated_queries_that_hand_back_the_users_own_are_dropped(tmp_path):
    own = tmp_path / "own.txt"
    own.write_text("when do I have to pay my rent\n")
    rows = [
        {"corpus-id": "r", "style": "colloquial", "query": text}
        for text in ("When do I have to pay my rent?", "Who must hand over the money each month?")
    ]
    settings = Queries(source=str(generated(tmp_path, rows)), examples=str(own))
    result = gather_queries(Config(queries=settings), {"r": RENT}, tmp_path / "o", tmp_path / "c")
    assert result.dropped == {"filter: close to one of your own": 1} and result.counts["queries"] == 1


@pytest.mark.parametrize("style", ["question", "title", "keywords"])
def test_a_generators_style_name_is_no_leave_to_copy(style, tmp_path):
    rows = [
        {"corpus-id": "r", "style": style, "query": f"{RENT.text[:-1]}?"},
        {"corpus-id": "r", "style": style, "query": "When is my rent due?"},
    ]
    source = generated(tmp_path, rows)
    result = gather_queries(Config(queries=Queries(source=str(source))), {"r": RENT}, tmp_path / "o", tmp_path / "c")
    assert result.dropped == {"filter: copied": 1}


def test_rows_without_a_style_are_generated_where_the_config_says_so(tmp_path):
    rows = [{"corpus-id": "r", "query": text} for text in ("What does this passage say?", "When is my rent due?")]
    source = generated(tmp_path, rows)
    told = Config(queries=Queries(source=str(source), generated=True))
    result = gather_queries(told, {"r": RENT}, tmp_path / "o", tmp_path / "c")
    assert result.counts["queries"] == 1 and result.counts["style generated"] == 1
    untold = Config(queries=Queries(source=str(source)))
    assert gather_queries(untold, {"r": RENT}, tmp_path / "o2", tmp_path / "c").counts["queries"] == 2


def test_a_judge_without_an_endpoint_is_refused_before_any_query_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr("fieldtune.queries.stage.structure_queries", lambda *_: pytest.fail("queries were made"))
    with pytest.raises(ConfigError, match="no LLM endpoint is set"):
        gather_queries(Config(queries=Queries(judge=True)), {"r": RENT}, tmp_path / "o", tmp_path / "c")


@pytest.mark.parametrize(
    ("text", "dropped"),
    [
        ("the plan of the plan of the plan of the plan", True),
        ("Is there a refund of 100 dollars? Is there a refund of 100 dollars? Is there a refund of 100 dollars?", True),
        ("房东不退押金，房东不退押金，房东不退押金，怎么办", True),
        ("is equipment 12,500,000,000,000,000,000,000,000", True),
        ("which claims of 1,000,000,000 dollars or more were settled?", False),
        ("the notice of the tenant and the notice of the landlord: which notice of the two counts?", False),
        ("一次一次又一次违约怎么办", False),
    ],
)
def test_a_model_that_goes_in_circles_is_heard(text, dropped):
    assert bool(looping(query(text), [RENT])) is dropped
