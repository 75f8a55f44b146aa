"""What a passage says of the thing that its title names: its causes, its price, who may have it, how it is done.

Encyclopedias, leaflets and manuals have many passages under one name, and people ask for one side of the thing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from fieldtune.queries.draft import Draft
from fieldtune.queries.wording import language_of, read_title
from fieldtune.types import Passage

_BRACKETS = re.compile(r"\s*[（(][^（()）]*[)）]$")
_ABOUT = re.compile(
    r"^(?:what (?:i|you) need to know about|facts about|(?:a |your )?guide to|introduction to|overview of|about|关于)"
    r"\s*(?:the )?",
    re.I,
)


# Names of documents: nobody asks what causes a policy.
_NO_THING = re.compile(
    r"\b(?:policy|policies|agreement|report|rules?|act|rulebook|manual|contract|statements?|handbook|terms|code|regulations?"
    r"|conditions of|guidance|directive|standard|faqs?|com|org|net)\b"
    r"|^(?:other|unspecified|encounter|personal|family|complications?|contact with|accidental|screening|carrier)\b"
    r"|\b(?:elsewhere|unspecified|encounter|history of|causes)\b|政策|协议|合同|报告|手册|须知|章程|指南|细则|准则",
    re.I,
)


@dataclass(frozen=True, slots=True)
class _Aspect:
    cues: re.Pattern[str]
    common: bool
    """Its cues stand in all sorts of texts: one of them has to open the passage."""
    english: tuple[str, ...]
    chinese: tuple[str, ...]


def _aspect(english_cues: str, chinese_cues: str, english: str, chinese: str, *, common: bool = False) -> _Aspect:
    cues = re.compile(rf"\b(?:{english_cues})\b|{chinese_cues}", re.I)
    return _Aspect(cues, common, tuple(english.split(" | ")), tuple(chinese.split(" | ")))


_ASPECTS = (
    _aspect(
        "causes?|caused by|results? from|triggered by|brought on by", "病因|原因|引起|所致|导致",
        "What causes {}? | Why do people get {}? | {} causes", "{}是什么原因引起的？ | {}的原因",
    ),
    _aspect(
        "symptoms?|signs|characterized by|features include|may notice", "症状|体征|表现为|征兆",
        "What are the symptoms of {}? | How do I know if I have {}? | {} symptoms", "{}有哪些症状？ | {}的症状",
    ),
    _aspect(
        "treat|treated|treatments?|therapy|therapies|medications?|medicines?|surgery|management of",
        "治疗|用药|手术|疗法",
        "How is {} treated? | What are the treatments for {}? | {} treatment", "{}怎么治疗？ | {}的治疗方法",
    ),
    _aspect(
        "diagnos\\w+|blood tests?|tested|physical exam|biopsy|imaging|screening", "诊断|检查|检测|筛查",
        "How is {} diagnosed? | What tests show {}? | {} diagnosis", "{}怎么诊断？ | 怎么检查是不是{}？",
    ),
    _aspect(
        "prevent\\w*|avoid|lower your risk|reduce (?:the|your) risk|vaccin\\w+", "预防|避免|防止",
        "How can {} be prevented? | How do I avoid {}?", "怎么预防{}？ | 如何防止{}？",
    ),
    _aspect(
        "risk factors?|at risk|more likely to|increase[sd]? (?:the|your) risk|higher risk", "危险因素|高危|风险因素",
        "Who is at risk for {}? | What raises the risk of {}?", "哪些人容易得{}？ | {}的风险因素有哪些？",
    ),
    _aspect(
        "1 in [\\d,]+|prevalence|incidence|worldwide|affects (?:about|approximately|an estimated)|how many people|"
        "frequency",
        "发病率|患病率|占比|多见于",
        "How common is {}? | How many people are affected by {}?",
        "{}常见吗？ | {}的发生率是多少？",
    ),
    _aspect(
        "inherited|inheritance|autosomal|x-linked|each parent|one copy|carriers?|runs? in families", "遗传|家族史",
        "Is {} inherited? | How is {} passed on in a family?", "{}会遗传吗？",
    ),
    _aspect(
        "mutations? in the|genes?|chromosomes?|variants?|deletion", "基因|染色体|突变",
        "What genetic changes are related to {}? | Which genes are involved in {}?",
        "{}和哪些基因有关？ | {}是基因突变引起的吗？",
    ),
    _aspect(
        "prognosis|outlook|survival|life expectancy|recovery|complications?|long-term", "预后|后果|并发症|存活率",
        "What is the outlook for people with {}? | What are the complications of {}?",
        "{}的预后怎么样？ | {}会有什么后果？",
    ),
    _aspect(
        "requirements?|required|must|shall", "必须|应当|要求|条件", "What does {} require? | requirements for {}",
        "{}有什么要求？ | {}需要什么条件？", common=True,
    ),
    _aspect(
        "fees?|costs?|prices?|charges?|premium", "费用|收费|价格|价款", "How much does {} cost? | {} fees",
        "{}要多少钱？ | {}的收费标准", common=True,
    ),
    _aspect(
        "eligible|eligibility|entitled|qualif\\w+", "资格|有权|符合.{0,6}条件",
        "Who is eligible for {}? | Who can get {}?",
        "谁可以申请{}？ | {}的条件是什么？", common=True,
    ),
    _aspect(
        "within \\d+ (?:days|weeks|months|years)|deadline|no later than|time limit", "期限|之日起|日内|时限",
        "What is the time limit for {}? | {} deadline", "{}的期限是多久？", common=True,
    ),
    _aspect(
        "apply for|application|submit|steps|procedure|register", "申请|办理|提交|程序|流程|手续",
        "How do I apply for {}? | How does {} work?", "怎么办理{}？ | {}的流程是什么？", common=True,
    ),
    _aspect(
        "functions?|used (?:to|for|in)|purpose|role of|helps to", "用于|用途|作用|功能",
        "What is {} used for? | What does {} do?",
        "{}有什么用？ | {}的作用是什么？", common=True,
    ),
)  # fmt: skip


class Aspects:
    """For each title, which side of the thing each of its passages tells best."""

    def __init__(self, passages: Mapping[str, Passage]) -> None:
        named: dict[str, list[str]] = {}
        for key, passage in passages.items():
            topic = _topic(passage)
            if topic:
                named.setdefault(topic.casefold(), []).append(key)
        self._found: dict[str, tuple[int, ...]] = {}
        for keys in named.values():
            self._found.update(_divide({key: passages[key] for key in keys}))

    def queries(self, key: str, passage: Passage, turn: int) -> list[Draft]:
        """Questions after the sides of the thing that this passage tells better than any other of its title."""
        topic = _topic(passage)
        chinese = language_of(passage.title + passage.text) == "zh"
        drafts = []
        for number in self._found.get(key, ()):
            ways = _ASPECTS[number].chinese if chinese else _ASPECTS[number].english
            drafts.append(Draft(ways[turn % len(ways)].format(topic), (key,), "aspect"))
        return drafts


def _divide(passages: Mapping[str, Passage]) -> dict[str, tuple[int, ...]]:
    """Key -> the side that it tells most of, if it is the strongest of its family there."""
    strength = {key: [_strength(aspect, passage) for aspect in _ASPECTS] for key, passage in passages.items()}
    out: dict[str, tuple[int, ...]] = {}
    # The two strongest in each: a side that two passages tell alike asks for neither of them.
    best = [sorted((own[number] for own in strength.values()), reverse=True)[:2] for number in range(len(_ASPECTS))]
    for key, own in strength.items():
        number = max(range(len(own)), key=own.__getitem__)
        rival = best[number][1] if len(best[number]) > 1 else 0.0
        out[key] = (number,) if own[number] >= 1.0 and own[number] == best[number][0] > 1.3 * rival else ()
    return out


def _strength(aspect: _Aspect, passage: Passage) -> float:
    """How much of the passage is about it: cues per hundred words; those at its head count three times."""
    caption = read_title(passage.title).caption
    if caption and aspect.cues.search(caption):
        return 20.0
    text = passage.text
    words = len(text) / 2 if language_of(text) == "zh" else len(text.split())
    first = len(aspect.cues.findall(text[:160]))
    cues = len(aspect.cues.findall(text)) + 2 * first
    return 100 * cues / (60 + words) if cues > 1 and (first > 1 or not aspect.common) else 0.0


def _topic(passage: Passage) -> str:
    """The thing: a title that is no number, date or file's name and that the text speaks of; "" where it is none."""
    title = read_title(passage.title)
    topic = _BRACKETS.sub("", title.document).strip()
    topic = _ABOUT.sub("", topic) or topic
    if title.number or not 2 <= len(topic) <= 80 or len(topic.split()) > 9:
        return ""
    if _NO_THING.search(topic) or re.search(
        r"\b(?:19|20)\d\d\b|\bpage \d|\.\w{2,4}$|法$|条例$|规定$|办法$|解释$", topic
    ):
        return ""
    words = [word for word in re.findall(r"\w+", topic.casefold()) if len(word) > 3] or [topic.casefold()]
    text = passage.text.casefold()
    return topic if any(word in text for word in words) else ""
