"""Chinese rules turned into the questions they settle: conditions, papers, duties, limits, amounts, what is allowed.

Lists that a sentence announces, periods "from the day on which …", and prohibitions are what people ask about a rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fieldtune.queries.wording import Sentence

_BEGIN = "(?:^|(?<=[，。；：]))"
_THING = _BEGIN + "([^，。；：、“”（）《》]{2,30}?)"
_N = "[一二三四五六七八九十百千万零〇两\\d]+"
_PERIOD = f"{_N}(?:个)?(?:工作)?(?:日|天|月|年|小时)"
# What a list under the words 下列 is a list of.
_LISTS: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = tuple(
    (re.compile(pattern), tuple(ways.split(" | ")))
    for pattern, ways in (
        (
            rf"{_THING}[，,]?(?:应当|必须|须|需|还应当)?(?:同时)?(?:具备|符合|满足)(?:下列|以下)(?:全部|各项|基本)?(?:条件|要求)",
            "{0}需要什么条件？ | {0}要满足哪些条件？ | 怎样才能{0}？",
        ),
        (
            rf"{_THING}(?:应当|必须)?(?:向[^，。：]{{2,14}})?(?:提交|提供|报送|出具|携带)(?:下列|以下)(?:文件|材料|资料|证明)",
            "{0}要准备什么材料？ | {0}需要提交哪些材料？",
        ),
        (
            rf"{_THING}(?:应当|必须|需要)?(?:载明|记载|写明|标明|注明|包括|具备)(?:下列|以下)(?:各项)?(?:事项|内容|条款|信息)",
            "{0}里要写明什么？ | {0}应该包括哪些内容？",
        ),
        (
            rf"{_THING}(?:应当|必须)?(?:履行|承担|遵守)(?:下列|以下)(?:各项)?(义务|职责|责任|规定)",
            "{0}有哪些{1}？ | {0}要承担什么{1}？",
        ),
        (rf"{_THING}(?:依法)?(?:享有|行使)(?:下列|以下)(权利|职权|权益)", "{0}有哪些{1}？ | {0}可以行使什么{1}？"),
        (
            rf"{_THING}(?:不得|禁止)(?:有|从事|实施)(?:下列|以下)(?:各项)?(?:行为|活动)",
            "{0}不能做哪些事？ | {0}有哪些行为是禁止的？",
        ),
        (
            rf"{_THING}(?:包括|分为)(?:下列|以下)(?:几种|几类|各项|情形|方式|事项|费用|范围)?",
            "{0}包括哪些？ | {0}有哪几种？",
        ),
        (
            r"(?:可以|应当)?(?:采取|采用)(?:下列|以下)(措施|方式|方法)([^，。；：、“”（）《》]{2,30}?)(?=[：。，])",
            "{1}可以采取哪些{0}？ | 怎么{1}？",
        ),
    )
)
_CASES = re.compile(
    r"^([^，。；：]{0,24}?)(?:有|具有|存在|属于|符合)(?:下列|以下)(?:各项)?(?:情形|情况|行为|条件|事由)之一(?:的)?[，,]([^。；]{4,44}?)[：:。；]"
)
_WHEN = re.compile(
    rf"(?:自|在|从)([^，。；：（）]{{2,26}}?)(?:之日起?|之时起?|后|起)({_PERIOD})(?:之|以)?内(?:，)?([^，。；：（）]{{4,26}})(?![^，。；：（）])"
)
_TERM = re.compile(
    rf"{_BEGIN}([^，。；：（）、]{{2,26}}?(?:期限?|期间|时间))(?:为|是|不得超过|最长不得超过|最长不超过){_PERIOD}(?:以下|以上)?[，。；]"
)
_AMOUNT = re.compile(
    rf"{_BEGIN}([^，。；：（）、]{{3,26}}?)(?:(?<=[率额例准金费价])为|不得?(?:低于|高于|超过|少于))[^，。；：]{{0,14}}?"
    rf"(?:百分之{_N}|{_N}(?:\.{_N})?(?:%|元|万元|亿元|倍|人|名|平方米|米|公里))"
)
_FORBIDS = re.compile(
    r"(?:^|[；。，])([^，。；：]{0,24}?)(?:不得|禁止|严禁|不准)(?:以任何(?:方式|理由|形式|手段|借口)(?:[和或](?:方式|手段))?)?"
    r"(?!超过|低于|少于|高于|有下列|用于|终身|相互|向|作为|从事下列|定罪)([^。；：]{4,40}?)(?=[。；]|，(?:不得|也不|并|但))"
)
_CLAIMS = re.compile(
    r"(?:^|[；。，])([^，。；：、]{2,20}?)(?:可以|有权)(?:依法)?(?:向([^，。；：]{2,16}?))?"
    r"(请求|要求|申请|主张|提起|提出|拒绝|解除|撤销|委托|转让|变更)([^，。；：]{2,30})(?=[，。；])"
)
_MADE_OF = re.compile(r"(?:^|[；。，])([^，。；：、]{2,20}?)(?:由|，由)([^。；：]{4,40}?)(组成|担任|产生|任命)")
_PURPOSE = re.compile(
    r"^为了?([^。]{8,200}?)，(?:根据[^，。]{2,40}，)?(?:结合[^，。]{2,30}，)?制定(本[^，。]{1,4}|[^，。]{2,12})[。，]"
)
_BECAUSE = re.compile(r"(?:由于|因为|鉴于)([^，。；]{4,40})[，,](?:所以|因此|因而|故)?([^，。；]{4,40})[，。；]")
_LEADS = re.compile(
    r"(?:^|[；。，])([^，。；：]{3,24}?)(?:会|可能|容易|往往)?(?:导致|引起|造成|引发)了?([^，。；：]{3,24})[。；，]"
)
# Left ends of a clause that belong to a sentence before, or say nothing of the matter.
_FRONT = re.compile(
    r"^(?:(?:但是?|并|并且|且|同时|其中|此外|另外|因此|所以|如果|如|若|依法|应当|对于|凡是?|任何(?:组织|单位|机构|个人|人)?(?:(?:和|或者?|、)(?:组织|单位|机构|个人|人))?|"
    r"有关(?:部门|单位|人员)?|各级)[，,]?)+"
)
_LEANS = re.compile(
    r"^(?:[其该此这那它他她的或和与及]|上述|前款|前条|前述|下列|以下|本款|本条|本章|除|经|按|依|根据|违反|由|被|所|不|未|以及|符合|属于|情节|"
    r"有|是|本院|对其|向其|在此|之|为)|前[款条项]|前[两二三]|上述|下列|本[条款项章节]|该[款项条]|第[一二三四五六七八九十百千零]+[条款项]"
    r"|除外|另有|之一|[（(“”《》]|(?:的|和|与|或|或者|及|以及|并|由|向|对|在|自|从|将|按照|依照|根据|应当|可以|不得|之)$"
)
_STATE = re.compile(r"^(?:国家|法律|法规|行政法规|法律、行政法规|国务院|中央|合同|约定|章程|规定|当事人约定|法律规定)")
_DEED = re.compile(
    "申请|设立|办理|取得|从事|成立|担任|参加|报考|开办|登记|收养|领取|享受|注册|经营|开设|举办|提起|变更|转让"
)
_BRINGS = re.compile("导致|造成|致使|引起|使")  # what somebody's fault led to, in a rule on who answers for it
_LONGEST = 34


def list_questions(sentences: list[Sentence], turn: int) -> Iterator[str]:
    """What a list is of: conditions, papers, duties, and the cases in which something holds."""
    for number, sentence in enumerate(sentences, turn):
        text = sentence.text
        if "下列" not in text and "以下" not in text:
            continue
        for pattern, ways in _LISTS:
            found = pattern.search(text)
            if found:
                parts = [_thing(part) for part in found.groups()]
                if all(parts) and not parts[0].startswith("对"):
                    fit = [way for way in ways if not way.startswith("怎样才能") or _DEED.match(parts[0])]
                    yield fit[number % len(fit)].format(*parts)
                break
        cases = _CASES.search(text if text[-1:] in "：:。；" else f"{text}。")
        if cases:
            held = cases[2].split("，")[0]
            if (
                _thing(held)
                and not _STATE.search(held)
                and not re.match("[由处可应依予并责给对]|进行|.*(?:前|后|时|的)$", held)
            ):
                yield (f"什么情况下{held}？", f"哪些情形{held}？")[number % 2]


def limit_questions(sentences: list[Sentence], turn: int) -> Iterator[str]:
    """How long, how much: periods that run from an event, terms and amounts."""
    for number, sentence in enumerate(sentences, turn):
        for found in _WHEN.finditer(sentence.text):
            event, act = _thing(found[1]), _thing(found[3])
            # "After acceptance": of what, nobody could tell.
            if len(event) > 3 and act and len(event + act) > 8 and not act.startswith(("的", "未", "不")):
                must = "" if re.search("可以|应当|有权", act) else "要"
                yield (f"{event}后多久内{must}{act}？", f"{event}之后，最晚什么时候{act}？")[number % 2]
        for found in _TERM.finditer(sentence.text):
            thing = _thing(found[1])
            if len(thing) > 3 and not thing.startswith(("延长", "最长", "具体")):
                yield (f"{thing}是多久？", f"{thing}最长多久？")[number % 2]
        for found in _AMOUNT.finditer(sentence.text):
            thing = _thing(found[1])
            if thing and not _STATE.search(thing):
                yield (f"{thing}是多少？", f"{thing}有什么限制？")[number % 2]
        for found in _MADE_OF.finditer(sentence.text):
            thing = _thing(found[1])
            if thing and not _STATE.search(thing) and not thing.startswith("对"):
                yield f"{thing}由谁{found[3]}？"


def legality_questions(sentences: list[Sentence], turn: int) -> Iterator[str]:
    """Whether what is forbidden is lawful, and whether one can have what one may claim."""
    for number, sentence in enumerate(sentences, turn):
        if sentence.is_item:
            continue
        for found in _FORBIDS.finditer(sentence.text):
            who = _FRONT.sub("", found[1]).strip("，、")
            act = _thing(found[2])
            if not act or (who and (_LEANS.search(who) or _STATE.search(who))):
                continue
            # Who may not was said before, unless it is everybody.
            everybody = "任何" in found[1] or re.match("[；。，]?(?:禁止|严禁)", found[0])
            if not who and (len(act) < 7 or not everybody):
                continue
            if act.endswith(("的人", "的人员", "的单位", "的组织", "的物品", "的行为")):
                continue
            yield (f"{who}{act}合法吗？", f"{who}{act}怎么办？", f"{who}可以{act}吗？", f"{who}{act}违法吗？")[
                number % 4
            ]
        for found in _CLAIMS.finditer(sentence.text):
            who, act = _thing(found[1]), _thing(found[4])
            if who and len(act) > 3 and not _STATE.search(who):
                whom = f"向{found[2]}" if found[2] else ""
                yield (f"{who}能不能{whom}{found[3]}{act}？", f"{who}可以{whom}{found[3]}{act}吗？")[number % 2]


def purpose_questions(sentences: list[Sentence], document: str, turn: int) -> Iterator[str]:
    """Why a rule was made; in a text without one (`document` empty), why something is so and what brings it about."""
    for number, sentence in enumerate(sentences, turn):
        if document and _PURPOSE.search(sentence.text):
            name = document.removeprefix("中华人民共和国")
            yield (f"为什么要制定{name}？", f"{name}的立法目的是什么？")[number % 2]
        for found in _BECAUSE.finditer(sentence.text):
            result = _thing(found[2])
            if result and found[1][-1] != "的" and result[-1] not in "外的" and not _BRINGS.match(result):
                yield f"为什么{result}？"
        for found in () if document else _LEADS.finditer(sentence.text):
            result = _thing(found[2])
            if result and not re.search("的$|后果|损失|损害|危害", result):
                yield (f"{result}是什么原因引起的？", f"为什么会{result}？")[number % 2]


def _thing(text: str) -> str:
    """A part of a sentence that can stand in a question; "" where it leans on something outside."""
    text = _FRONT.sub("", text).strip(" ，,、").removesuffix("，").removesuffix("应当").removesuffix("的，")
    if not 2 <= len(text) <= _LONGEST or _LEANS.search(text):
        return ""
    return text
