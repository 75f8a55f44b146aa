"""A made query is read by somebody who does not see the passage: it has to say all that it needs."""

import pytest

from fieldtune.queries.crops import Frames, key_sentence
from fieldtune.queries.definitions import defined_terms
from fieldtune.queries.han_asks import legality_questions, limit_questions, list_questions
from fieldtune.queries.keywords import Keywords
from fieldtune.queries.reasons import reason_questions
from fieldtune.queries.references import reference_drafts
from fieldtune.queries.rules import condition_questions, permission_questions
from fieldtune.queries.wording import language_of, sentences
from fieldtune.types import Passage

REST = (
    "The harbour master keeps a register of moorings and of the boats in the harbour. Each boat in the harbour has a"
    " mooring, the mooring has a number in the register, and fees for the mooring are due in March before the season"
    " of the harbour begins."
)
HAN_REST = (
    "港务局登记港口的泊位和船舶，泊位在登记册上有编号，泊位费在三月份缴纳，"
    "船舶在港口停靠须有泊位，泊位由港务局分配给船舶。"
)


def crop(text: str) -> str:
    """What is cropped where this sentence is the only one that could be."""
    rest = HAN_REST.replace("。", "，") if language_of(text) == "zh" else REST.replace(". ", ", ")
    passage = f"{text} {rest}"
    words = Keywords([passage, "Bread is baked at night.", "面包在夜里烤。", "Nothing else is known of it."])
    found = key_sentence(list(sentences(passage)), passage, words, language_of(text), Frames([passage]))
    return found.text if found else ""


@pytest.mark.parametrize(
    "text",
    [
        "The register of moorings that is illustrated in the tables is discussed in greater detail below.",
        "The above movements of boats in the harbour were due to a register of moorings.",
        "If they have no mooring in the harbour, the boats leave before the season.",
        "Click here to see the register of moorings and the fees of the harbour.",
        "For a mooring in the harbour, the fees are those described elsewhere in the register.",
        "Any such mooring in the harbour is void and taken out of the register.",
        "A mooring in the harbour has the meaning given in the register of boats.",
        "Boats in the harbour or (d) the moorings of the register are free of fees.",
        "<omitted>Boats in the harbour have a mooring and a number in the register.",
        "对其他停靠港口的船舶，应当查验其泊位的编号。",
        "无法登记泊位的船舶，应当在三日以内离开港口。",
        "船舶停靠港口不符合本条规定的，泊位由港务局收回。",
        "船舶停靠港口应当符合下列条件并且登记泊位。",
    ],
)
def test_a_sentence_that_points_elsewhere_is_not_cropped(text: str) -> None:
    assert crop(text) == ""


@pytest.mark.parametrize(
    "text",
    [
        "Boats below five metres in the harbour have a mooring without fees.",
        "The harbour master gives a mooring to such boats as have a number in the register.",
        "If a boat has no mooring in the harbour, it pays the fees of the season before it leaves.",
        "People who keep a boat in the harbour enter its mooring in the register.",
        "停靠港口的船舶应当登记泊位，泊位费三千元以下的免缴。",
        "没有泊位的船舶不得停靠港口，港务局另行分配的除外。",
    ],
)
def test_a_sentence_that_stands_alone_is_cropped(text: str) -> None:
    assert crop(text) == text


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("公安机关询问被侵害人或者其他证人的，同时适用本法第七条的规定。", ""),
        ("保险公司违反本法第七条规定的，由保险监督管理机构责令改正，处一万元以上十万元以下的罚款。", ""),
        ("被派遣劳动者有本法第七条和第一项、第二项规定情形的，用工单位可以将劳动者退回。", ""),
        ("有关社会团体推荐的公民应当提交身份证件和符合本法第七条规定条件的证明材料。", ""),
        (
            "用人单位依照本法第七条规定解除劳动合同的，应当给予经济补偿。",
            "用人单位解除劳动合同的，应当给予经济补偿",
        ),
        ("The amounts of the loans are net of allowances where they apply. See Note 7 for additional information.", ""),
        ("Trademarks and patents (refer to the heading of Item 7, Business) are essential to all our products.", ""),
        ("The Note 7 bear interest at a fixed rate of four percent that is payable on April 1 of each year.", ""),
        (
            "A bank that lends more than its capital in breach of section 7 pays a fine of one million francs.",
            "A bank that lends more than its capital in breach pays a fine of one million francs",
        ),
    ],
)
def test_a_sentence_torn_by_the_reference_taken_out_is_no_query(text: str, query: str) -> None:
    targets = {("g", "第七条"): ("aim",), ("g", "section 7"): ("aim",), ("g", "note 7"): ("aim",)}
    targets[("g", "item 7")] = ("aim",)
    parts = list(sentences(text))
    found = reference_drafts("own", Passage("own", "", text, "g"), parts, targets, language_of(text))
    assert [(draft.text, draft.passages) for draft in found] == ([(query, ("aim", "own"))] if query else [])


@pytest.mark.parametrize(
    ("text", "question"),
    [
        (
            "Qualigen shall give Sekisui copies of all test records.",
            "Must Qualigen give Sekisui copies of all test records?",
        ),
        (
            "The Employer shall reimburse you for all costs of travel.",
            "Must the Employer reimburse me for all costs of travel?",
        ),
        (
            "No member shall vote on a matter in which they have an interest.",
            "Can a member vote on a matter in which they have an interest?",
        ),
        (
            "No funds shall be set aside for the account of a former member.",
            "Can any funds be set aside for the account of a former member?",
        ),
        ("This clause aside. Any assignment without consent shall be void and of no effect at all.", ""),
        ("The term of the agreement shall begin on the first day of May.", ""),
    ],
)
def test_who_must_keeps_the_name_and_what_merely_holds_is_no_duty(text: str, question: str) -> None:
    found = list(permission_questions(list(sentences(text)), "en", 0, rules=True))
    assert found == ([question] if question else [])


@pytest.mark.parametrize(
    "text",
    [
        "If you do not wish to receive them, write to the office at once.",
        "If either case is true, the contract ends on the next day.",
        "以有禁止结婚的亲属关系为由的，法院驳回原告的请求。",
    ],
)
def test_a_situation_that_needs_another_sentence_is_not_asked_about(text: str) -> None:
    assert not list(condition_questions(list(sentences(text)), language_of(text), 0))


def test_chinese_questions_are_whole() -> None:
    long = "卫生机构自收到申请之日起十日内向国务院财政部门或者省、自治区、直辖市人民政府财政部门书面报告具体情况。"
    assert not list(limit_questions(list(sentences(long)), 0))
    assert list(limit_questions(list(sentences("业主自收到通知之日起十日内向法院书面申请撤销。")), 0))
    assert not list(legality_questions(list(sentences("不得重复立案。")), 0))
    how = list(sentences("经营者不得以格式条款、通知等方式，免除责任。"))
    assert not list(permission_questions(how, "zh", 0, rules=True))
    assert not list(list_questions(list(sentences("对被封存的记录应当符合下列条件：（一）已满两年。")), 0))


def test_reasons_and_terms_are_english() -> None:
    fell = "Operating profit of $12 million was lower in 2019 due to higher costs."
    assert list(reason_questions(list(sentences(fell)), "en")) == ["Why was operating profit lower in 2019?"]
    assert not list(reason_questions(list(sentences("The number increased in 2019 due to demand.")), "en"))
    assert not list(defined_terms(list(sentences('The word "include" means include without limitation.')), "en"))
