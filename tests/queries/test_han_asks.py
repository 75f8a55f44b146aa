"""Questions that Chinese rules settle, facts that English sentences tell, and both in everyday words."""

from __future__ import annotations

from collections import Counter

import pytest

from fieldtune.config import Queries
from fieldtune.queries.facts import fact_questions
from fieldtune.queries.han_asks import legality_questions, limit_questions, list_questions, purpose_questions
from fieldtune.queries.plain import plainly
from fieldtune.queries.rules import condition_questions, permission_questions
from fieldtune.queries.structure import structure_queries
from fieldtune.queries.wording import sentences
from fieldtune.types import Passage


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("设立典当行，应当具备下列条件：", "设立典当行需要什么条件？"),
        ("申请人应当提交下列材料：", "申请人要准备什么材料？"),
        ("旅游合同应当载明下列事项：", "旅游合同里要写明什么？"),
        ("有下列情形之一的，出租人可以收回房屋：", "什么情况下出租人可以收回房屋？"),
        ("有下列行为之一的，处五百元罚款：", ""),
        ("前款规定的材料包括下列文件：", ""),
        ("租金每月支付。", ""),
    ],
)
def test_a_list_is_asked_for_by_what_it_is_of(text, question):
    assert list(list_questions(list(sentences(text)), 0)) == ([question] if question else [])


@pytest.mark.parametrize(
    ("text", "question"),
    [
        (
            "业主应当自收到通知之日起三十日内向管理处提出书面异议。",
            "收到通知后多久内要向管理处提出书面异议？",
        ),
        ("试用期限为三个月，从入职起算。", "试用期限是多久？"),
        ("物业服务押金不得超过三千元。", "物业服务押金是多少？"),
        ("行为人就同一行为二人以上作证的。", ""),
    ],
)
def test_limits_are_asked_for(text, question):
    assert list(limit_questions(list(sentences(text)), 0)) == ([question] if question else [])


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("用人单位不得扣押劳动者的居民身份证。", "用人单位扣押劳动者的居民身份证合法吗？"),
        ("任何单位和个人不得以任何理由拖欠护工的工资。", "拖欠护工的工资合法吗？"),
        ("旅客可以要求承运人退还票款。", "旅客能不能要求承运人退还票款？"),
        ("法律、行政法规禁止从事营利性活动的人，不能成为投资人。", ""),
    ],
)
def test_what_is_forbidden_or_allowed_is_asked_about(text, question):
    assert list(legality_questions(list(sentences(text)), 0)) == ([question] if question else [])


def test_no_law_is_asked_whether_it_may():
    for text in ("法律、行政法规禁止从事营利性活动的人，不得投资。", "合同可以约定由保管人支付费用。"):
        assert list(permission_questions(list(sentences(text)), "zh", 0, rules=True)) == []


@pytest.mark.parametrize("text", ["违法所得三万元以上的，处一倍罚款。", "单位犯前两款罪的，对单位判处罚金。"])
def test_a_situation_without_a_deed_is_no_question(text):
    assert list(condition_questions(list(sentences(text)), "zh", 0)) == []


def test_why_is_asked_of_a_law_once_and_of_other_texts_by_their_reasons():
    law = list(sentences("为了保护湿地，维护生态平衡，制定本法。"))
    assert list(purpose_questions(law, "中华人民共和国湿地保护法", 0)) == ["为什么要制定湿地保护法？"]
    leaflet = list(sentences("长期吸烟会导致慢性咳嗽。由于滤网堵塞，水泵停止运转。"))
    assert set(purpose_questions(leaflet, "", 0)) == {"慢性咳嗽是什么原因引起的？", "为什么水泵停止运转？"}


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("Inventories consist primarily of raw materials and finished goods.", "What do inventories consist of?"),
        ("Cost of revenue includes wages, licences and the upkeep of machines.", "What does cost of revenue include?"),
        ("Deferred tax is measured using the rates that are enacted at the date.", "How is deferred tax measured?"),
        ("Trade debts are written off when no payment can be expected.", "When are trade debts written off?"),
        ("The warranty reserve was $4.2 million as of June 30, 2019.", "What was the warranty reserve in 2019?"),
        ("On March 3, 2018, the Company acquired Northwind Ltd, a maker of pumps.",
         "When did the company acquire Northwind Ltd?"),
        ("This includes wages and the upkeep of machines in all plants.", ""),
        ("The amount was $4.2 million as of June 30, 2019, in all plants.", ""),
    ],
)  # fmt: skip
def test_what_a_sentence_tells_is_asked_for(text, question):
    assert list(fact_questions(list(sentences(text)), "", 0)) == ([question] if question else [])


def test_a_fact_that_does_not_name_its_document_gets_its_name():
    told = list(sentences("Severance costs include wages, notice pay and legal fees."))
    assert list(fact_questions(told, "Acme 2019 10-K", 0)) == ["What do severance costs include (Acme 2019 10-K)?"]
    assert list(fact_questions(told, "Severance", 0)) == ["What do severance costs include?"]


@pytest.mark.parametrize(
    ("text", "language", "plain"),
    [
        ("用人单位扣押劳动者的居民身份证合法吗？", "zh", "公司扣押员工的身份证合法吗？"),
        ("被保险人死亡，保险人要赔偿吗？", "zh", "被保险人去世，保险公司要赔偿吗？"),
        ("道路交通事故怎么赔偿？", "zh", "车祸怎么赔偿？"),
        ("盗窃罪怎么判刑？", "zh", "盗窃罪怎么判刑？"),
        ("Can a lessee terminate early?", "en", "Can a tenant end early?"),
        ("Wann zahlt der lessee?", "other", "Wann zahlt der lessee?"),
    ],
)
def test_the_fields_words_become_everyday_ones(text, language, plain):
    assert plainly(text, language) == plain


def test_no_kind_takes_more_than_its_share_where_others_are_to_be_had():
    trades = [a + b for a in "甲乙丙丁戊己庚辛壬癸" for b in "山水木火土石田日月云"]
    passages = {
        f"p{n}": Passage(
            f"p{n}",
            f"经营办法 第{n}条",
            f"{name}商行转让{name}牌照的，应当向登记机关备案。{name}商行不得出租{name}牌照给{name}学徒。"
            f"{name}牌照的有效期限为五年，期满前可以申请延展。",
            f"g{n}",
        )
        for n, name in enumerate(trades)
    }
    made = structure_queries(Queries(per_passage=2), passages, 13)
    shares = {kind: row["share"] for kind, row in made.details["kinds"].items()}
    assert max(shares.values()) < 0.33 and sum(share > 0.1 for share in shares.values()) >= 3
    free = structure_queries(Queries(per_passage=2, max_kind_share=1), passages, 13)
    assert max(row["share"] for row in free.details["kinds"].values()) > max(shares.values())
    # A passage that gives one kind alone keeps its query.
    titles = structure_queries(Queries(per_passage=2, kinds=("title", "keywords")), passages, 13)
    asked = Counter(passage for row in titles.qrels["all"].values() for passage in row)
    assert len(asked) == len(passages)
