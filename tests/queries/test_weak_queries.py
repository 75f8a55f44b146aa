"""Weak queries seen when samples of each kind were read by eye: halves of sentences, and what names no subject."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from fieldtune.queries.asked import asked_questions
from fieldtune.queries.crops import Frames, key_sentence
from fieldtune.queries.facts import fact_questions
from fieldtune.queries.han_asks import legality_questions, limit_questions, list_questions, purpose_questions
from fieldtune.queries.keywords import Keywords
from fieldtune.queries.rules import condition_questions, permission_questions
from fieldtune.queries.wording import Language, Sentence, Title, sentences


def conditions(parts: list[Sentence]) -> Iterator[str]:
    return condition_questions(parts, "zh", 0)


def permissions(parts: list[Sentence]) -> Iterator[str]:
    return permission_questions(parts, "zh", 0, rules=True)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (permissions, "对长期不能自行走动、收入很低的住户，街道给予补助。"),
        (permissions, "管理处可以根据小区的具体情况，制定停车办法。"),
        (permissions, "车主应当在向管理处领取停车证之前，交清费用。"),
        (permissions, "时效从租客知道或者应当知道房屋受损之日起计算。"),
        (conditions, "致使货物全部腐烂变质的，赔偿损失。"),
        (conditions, "对住户健康造成严重危害的，处二年以下有期徒刑。"),
        (conditions, "租赁合同未规定的，由双方协商。"),
        (lambda parts: purpose_questions(parts, "", 0), "由于看守人疏忽，造成仓库全部货物被盗，应当赔偿。"),
        (lambda parts: limit_questions(parts, 0), "管理处应当自受理之日起十日内作出同意或者不同意的决定。"),
        (lambda parts: legality_questions(parts, 0), "管理人员应当文明执勤，不得超越职权扣押他人财物。"),
    ],
)
def test_half_a_rule_is_no_question(make: Callable[[list[Sentence]], Iterator[str]], text: str) -> None:
    assert list(make(list(sentences(text)))) == []


def test_whole_rules_are_still_asked_about() -> None:
    asked = list(permissions(list(sentences("任何个人和组织使用网络应当遵守公共秩序。"))))
    assert asked == ["使用网络需要遵守公共秩序吗？"]
    assert list(legality_questions(list(sentences("任何人不得超越职权扣押他人财物。")), 0)) == [
        "超越职权扣押他人财物合法吗？"
    ]
    # "怎样才能" takes a deed; a thing has conditions.
    assert list(list_questions(list(sentences("境外公司提出的请求应当符合下列条件：")), 2)) == [
        "境外公司提出的请求需要什么条件？"
    ]


@pytest.mark.parametrize(
    ("text", "questions"),
    [
        ("If an emerging growth company, tick the box on the cover of the form.", []),
        ("If you choose to access, correct or delete your data, we ask for a proof of identity.", []),
        ("If you touch them or things they have touched, wash your hands with soap at once.", []),
        (
            "If youve lost the card of the library, the desk blocks it on the same day.",
            ["What should I do if I've lost the card of the library?"],
        ),
    ],
)
def test_a_situation_is_whole_and_its_own(text: str, questions: list[str]) -> None:
    assert list(condition_questions(list(sentences(text)), "en", 0)) == questions


def test_a_figure_is_asked_for_with_the_name_of_whose_it_is() -> None:
    parts = list(sentences("At the end of 2016, cash and short-term deposits were $4.8 million in all."))
    assert list(fact_questions(parts, "Northwind 10-K 2016", 0)) == [
        "What were the cash and short-term deposits in 2016 (Northwind 10-K 2016)?"
    ]
    assert (
        list(fact_questions(list(sentences("What your request should include are the dates of the visit.")), "", 0))
        == []
    )


def test_a_line_that_goes_on_from_a_full_one_gives_no_crop() -> None:
    full = "The members of the savings plan of the harbour workers were moved to the Mutual\n"
    rest = "Plan, with the harbour workers as a new group of members of that savings plan.\n"
    text = full + rest + "Members of the plan pay monthly, and the workers of the harbour pay half of that. " * 2
    crop = key_sentence(list(sentences(text)), text, Keywords([text, "Something else."]), "en", Frames([text]))
    assert crop is not None and crop.text.startswith("Members of the plan pay")


def test_words_that_name_nothing_are_no_key_phrases() -> None:
    text = "Please note accordingly: tenants might look again at the boiler. Simply click along unless able."
    phrases = Keywords([text, "The owner pays.", "The cat sleeps.", "A dog barks."]).phrases(text, 5)
    assert {phrase.lower() for phrase in phrases} == {"tenants", "boiler"}


def test_a_heading_in_capitals_keeps_its_i() -> None:
    parts = list(sentences("WHAT HAPPENS IF I LOSE THE BOILER KEY?\nThe office lends another one to tenants."))
    language: Language = "en"
    assert [text for text, _ in asked_questions(parts, Title("", "", ""), language)] == [
        "What happens if I lose the boiler key?"
    ]
