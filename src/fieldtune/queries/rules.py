"""Rules turned into the questions that they settle: "if …, …" asks what then, "may not …" asks whether one may.

A statute, a contract or a leaflet says what follows from a situation; people know the situation and ask what follows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fieldtune.queries.wording import Language, Sentence, lower_first

# A condition in Chinese law ends in 的 before the comma; what comes before the next sign is its consequence.
_HAN_CONDITION = re.compile(r"(?:^|[；。])([^；。：:]{6,60}?)(?<![标目])的[，,]([^；。]{4,200})")
_HAN_IF = re.compile(r"^(?:如果|如|若(?!干)|当(?!事|场|地|年|日))([^；。：:，,]{6,40}?)[，,]([^；。]{4,200})")
# Parts that lean on a sentence before, or say that something is against a law that the asker does not know.
_HAN_FRONT = re.compile(
    r"^(?:(?:违反|依照|按照|根据|依据)[^，,]{0,30}(?:规定|条例|办法|法)(?:的)?[，,]|但是?[，,]?|其中[，,]|对于(?=.{6})|凡是?(?=.{6}))"
)
_HAN_LEANS = re.compile(
    r"前款|前条|前[两二三四][款项条]|之罪$|之罪[，、]|本章|本节|本条|本款|下列|上述|上款|该项|前述|第[一二三四五六七八九十百千零]+[条款项]|除外$|另有规定|有此|此类|^以[^，]*为由$"
    r"|规定的(?:违法)?行为$|^[^，]{2,6}(?:未|没有)规定$"
    r"|^(?:导致|致使|使(?!用)|对[^，]{2,8}造成|价值|情节|造成|构成|逾期|拒不|尚不|后果|数额|其他|其|该|此|这|那|符合|具有|有关|有前|认为|需要|违法所得|没有违法所得|货值|犯前|单位犯|不(?!动产|正当|服)|并|又|且|经(?!营|济)|仍|未(?!成年|经)|属于|以及|或者?)"
)
_HAN_ASKS = (
    (re.compile("徒刑|拘役|死刑|管制|剥夺政治权利"), ("怎么判刑？", "会判几年？", "构成什么罪，怎么处罚？")),
    (re.compile("罚款|拘留|吊销|没收|警告|处罚|处分|取缔"), ("会怎么处罚？", "要罚多少？", "会受到什么处罚？")),
    (re.compile("赔偿|补偿|侵权责任|违约责任|民事责任"), ("要赔偿吗？", "由谁承担责任？", "要承担什么责任？")),
    (re.compile("无效|撤销|不发生效力|不影响"), ("还有效吗？", "在法律上有什么效果？", "算不算数？")),
    (re.compile("人民法院|受理|驳回|裁定|起诉"), ("法院会怎么处理？", "能起诉吗？", "法院怎么认定？")),
    (re.compile("可以(?:请求|要求|解除|拒绝|申请|向)|有权"), ("可以怎么办？", "有什么权利？", "能要求什么？")),
    (re.compile(""), ("怎么办？", "应该怎么处理？", "怎么处理？")),
)
_HAN_MODAL = re.compile(
    r"^([^，。；：]{2,26}?)(不得|禁止|可以|不能|应当)([^，。；：]{4,32})(?:[。；]|，(?:但|法律|并|不得|应当)|(?<=.{8})，)"
)
_HAN_WHO = re.compile(
    r"^([^，。；：]{4,24}?)(?:，)?由([^，。；：]{2,24})(负责|主管|承担|批准|决定|管辖|行使|制定)[^，。；：]{0,12}[。；]"
)
# What the state owes in general nobody looks up as a question of theirs.
_HAN_STATE = re.compile(r"国家|人民政府|国务院|部门|机关|人民法院|人民检察院|委员会|主管|^对|^在")
_HAN_OPEN = re.compile(
    r"任何(?:单位|组织|机构|个人)?(?:(?:和|或者?|、)(?:单位|组织|机构|个人))?|有关|各级|^(?:但是?|并|且)"
)
# Law and contract forbid and allow, they are not who may do it; and a person "of whom …" is no deed.
_HAN_SOURCE = re.compile(r"^(?:法律|行政法规|法规|章程|合同|协议|规定|约定|决定)|(?:法律|法规|规定)$|^(?:和|或|、)")
_HAN_DOER = re.compile(
    r"的(?:人|人员|单位|组织|物品|行为|活动|其他|请求|要求|规定|情况|原则)$|的[^，的]{1,3}人$"
    r"|(?:时|外|前|后|的|和|或者?|、|对|向|在|自|从|将)$"
    r"|^(?:根据|依据|按照|依照)[^，]{0,14}$|^(?:根据|依据|按照|依照)[^，]*(?:规定|要求)$"
    # How it may be done, before what it is.
    r"|^(?:以|通过|采用|采取|利用)[^，]*(?:等方式|等形式|等手段|名义|理由|借口)$"
)

# A modal inside of "on … who cannot …" or "when one cannot …" is no rule.
_HAN_SUBJECT = re.compile("^[对在]|(?:的|时|后|但|在|对|因|经|由于|或者?|和|依法)$")
_HAN_WAY = re.compile(
    "根据|依据|按照|依照|通过|自|凭|经(?!营)"
)  # by which way, and what may be done comes after the comma

_LATIN_IF = re.compile(r"^(If|Where|When|In the event that|Whenever) ([^,;:]{12,160}), (.{12,})$", re.S)
_LATIN_LATE_IF = re.compile(
    r"^((?:Call|See|Contact|Talk|Tell|Get|Seek|Stop|Notify|Inform)\b[^,;:]{4,120}?) if ([^,;:]{8,120})\.$"
)
_LATIN_GUILTY = re.compile(
    r"^((?:A|An|Any|Every) [^,;:]{2,60}? (?:who|that|which) [^;:]{8,160}?),? (?:shall be|is|are|commits|shall pay)"
    r" (?:guilty|liable|punish|fined|subject to a (?:fine|penalty)|an offence|a (?:fine|penalty))"
)
# "May" and "can" describe as often as they allow; what is forbidden or demanded is a rule.
_LATIN_MODAL = re.compile(
    r"^((?:No|A|An|The|Any|Every|Each|All|You|[A-Z][a-z]+)\b[^,;:]{0,60}?) "
    r"(may not|must not|shall not|cannot|may|must|shall)"
    r" ((?!be deemed|have been|also|not|mean)[a-z][^;:]{12,150}?)\.$"
)
_LATIN_NO_SUBJECT = re.compile(
    r"^(?:neither|although|because|but|while|as|if|when|since|however|and|or|in|for|with|by|on|at)\b"
    r"|\b(?:is|are|was|were|has|have|can|may|also|you|we|our)\b|\b(?:that|which|who|where|understands?)\b|\band$",
    re.I,
)
_LATIN_LEANS = re.compile(
    r"^(?:it|this|that|these|those|they|such|he|she|so|applicable|necessary|any of|none of|the above|the foregoing|"
    r"there|not)\b|\b(?:these|those|such|following|above|foregoing|aforementioned|preceding)\b",
    re.I,
)
_LATIN_HALF = re.compile(
    r"^\w+(?:ing|ed)\b|\d$|\([^)]*$|\bthe \w+ at\b|\(\w{1,3}\)|\b(?:we|our|us|this)\b|\b[ivx]+\)", re.I
)
# "If an emerging growth company, indicate by check mark …" is a form, and tells no situation.
_LATIN_FINITE = re.compile(
    r"\b(?:is|are|was|were|has|have|had|do|does|did|can|could|may|might|must|will|would|should|shall|cannot|i|you(?:ve|re|ll)?|we|they|"
    r"need|want)\b|['’](?:s|re|ve|d|ll|t)\b|\w(?:s|ed)\b|\b(?:become|begin|fall|feel|find|get|give|go|grow|hold|know|"
    r"leave|lose|make|pay|remain|rise|take|think|die|spread|fail|occur|arise|exist|apply|agree|stop|start|wish|change)\b",
    re.I,
)
# What a contract shall be or have is no duty of anybody.
_LATIN_STATE = re.compile(
    r"^be (?:binding|void|null|entitled|liable|subject|responsible|governed|construed|effective|due|deemed|final|valid|"
    r"conclusive|enforceable|considered|interpreted|equal|limited|eligible|vested|made up|the)\b"
    r"|^(?:have|become|begin|start|commence|continue|survive|inure|override|mean|include|apply|bear|constitute|remain|"
    r"terminate|expire|supersede|prevail|govern)\b|\b(?:shall|must|will)\b",
    re.I,
)
# One verb of a list ("to find an officer, director or …"): the situation goes on after the comma.
_LATIN_LIST = re.compile(r"(?:[\w’'-]+ ){0,4}[\w’'-]+,(?: \w+,)*|(?:or|and)\b")
_LATIN_OPEN_END = re.compile(r"\b(?:to|or|and) (?:\w+ (?:an?|the|your|their) )?\w+$")
_LATIN_DANGLES = re.compile(
    r"\b(?:them|his|him|her)\b(?! or her)"
    r"|\b(?:them|it|so|either|same|others?)$|\bdone so\b|^(?:either|both|neither|one)\b",
    re.I,
)
_DETERMINERS = frozenset(
    ("a", "an", "the", "any", "every", "each", "all", "no", "you", "your", "another", "either", "both")
)
_LATIN_PERSON = re.compile(r"\b(you|your|see|call|talk|ask|seek|contact|consult|tell|doctor)\b", re.I)
_ME = (
    (r"\byou are\b", "I am"), (r"\byou['’]?ve\b", "I've"),
    (r"\byou['’]?ll\b", "I'll"), (r"\byou were\b", "I was"), (r"\byou['’]?re\b", "I'm"),
    (r"\b(to|for|with|gives?|helps?|tells?|of|by|from|on|affects?|makes?|about|near|around) you\b", r"\1 me"),
    (r"\byourself\b", "myself"), (r"\byours\b", "mine"),
    (r"\byour\b", "my"), (r"\bYou\b", "I"), (r"\byou\b", "I"),
)  # fmt: skip


def condition_questions(sentences: list[Sentence], language: Language, turn: int) -> Iterator[str]:
    """What follows from each situation that the sentences name."""
    for number, sentence in enumerate(sentences, turn):
        if language == "zh":
            yield from _han_conditions(sentence.text, number)
        elif language == "en":
            yield from _latin_conditions(" ".join(sentence.text.split()), number)


def permission_questions(sentences: list[Sentence], language: Language, turn: int, *, rules: bool) -> Iterator[str]:
    """Whether one may, or must, do what the sentences allow, forbid or ask for.

    `rules` says that the text is one of numbered rules: in other English prose "must" and "may not" mostly describe.
    """
    small = {word for sentence in sentences for word in sentence.text.split() if word.islower()}
    for number, sentence in enumerate(sentences, turn):
        if sentence.is_item:
            continue
        if language == "zh":
            yield from _han_permission(sentence.text, number)
        elif language == "en" and (rules or " shall " in sentence.text):
            yield from _latin_permission(" ".join(sentence.text.split()), small)


def _han_conditions(text: str, turn: int) -> Iterator[str]:
    for pattern in (_HAN_CONDITION, _HAN_IF):
        for match in pattern.finditer(text):
            situation = match[1]
            while (shorter := _HAN_FRONT.sub("", situation)) != situation:
                situation = shorter
            # Of several situations in a row the first one stands for the question.
            situation = re.split("(?<![标目])的(?:[，,；;、]|或者?)", situation)[0].strip(" ，,、")
            if not 7 <= len(situation) <= 45 or _HAN_LEANS.search(situation) or situation.count("“") % 2:
                continue
            ways = next(ways for cue, ways in _HAN_ASKS if cue.search(match[2]))
            yield f"{situation}，{ways[turn % len(ways)]}"


def _han_permission(text: str, turn: int) -> Iterator[str]:
    who = _HAN_WHO.search(text)
    if who and not _HAN_LEANS.search(who[1]) and not who[1].endswith(("的", "经", "应当", "可以")):
        yield f"{who[1].removesuffix('，').removesuffix('应当')}由谁{who[3]}？"
        return
    match = _HAN_MODAL.search(text)
    if not match or _HAN_LEANS.search(match[1]) or _HAN_LEANS.search(match[3]) or match[3][0] in "的之":
        return
    subject, verb, rest = _HAN_OPEN.sub("", match[1]).strip("，、"), match[2], match[3]
    subject = subject.rstrip("也还均都并则一律").lstrip("和或、")
    if _HAN_SOURCE.search(subject) or _HAN_DOER.search(rest) or _HAN_SUBJECT.search(subject):
        return
    if match[0].endswith("，") and _HAN_WAY.match(rest):
        return
    if verb == "应当":
        if len(rest) >= 6 and len(subject) > 1 and not _HAN_STATE.search(subject):
            yield f"{subject}{('需要', '是不是必须', '要不要')[turn % 3]}{rest}{('吗？', '？', '？')[turn % 3]}"
        return
    yield f"{subject}{('可以', '能不能', '是否可以')[turn % 3]}{rest}{('吗？', '？', '？')[turn % 3]}"


def _latin_conditions(text: str, turn: int) -> Iterator[str]:
    guilty = _LATIN_GUILTY.match(text)
    if guilty and not _LATIN_LEANS.search(guilty[1]):
        yield f"What is the penalty for {lower_first(guilty[1])}?"
        return
    late = _LATIN_LATE_IF.match(text)
    match = late or _LATIN_IF.match(text)
    if not match:
        return
    situation, outcome = (late[2], late[1]) if late else (match[2], match[3])
    if _LATIN_LEANS.search(situation) or not 4 <= len(situation.split()) <= 25 or _LATIN_HALF.search(situation):
        return
    if _LATIN_DANGLES.search(situation) or not _LATIN_FINITE.search(situation):
        return
    if _LATIN_OPEN_END.search(situation) and not late and _LATIN_LIST.match(outcome):
        return
    if re.search(r"\byou(?:r|['’]?(?:ve|re|ll|d))?\b", situation) or (_LATIN_PERSON.match(outcome) and late):
        yield f"{('What should I do if', 'What if', 'What to do when')[turn % 3]} {_as_asked(situation)}?"
    else:
        yield f"{('What happens if', 'What if', 'What applies when')[turn % 3]} {situation}?"


def _latin_permission(text: str, small: set[str]) -> Iterator[str]:
    """`small` are the words that the passage has in small letters: a first word that is none of them may be a name."""
    match = _LATIN_MODAL.match(text)
    if not match or _LATIN_LEANS.search(match[1]) or not 5 <= len(match[3].split()) <= 22:
        return
    subject, verb, rest = match.groups()
    if len(subject.split()) > 10 or _LATIN_LEANS.search(rest) or _LATIN_NO_SUBJECT.search(subject):
        return
    if verb == "may" and not subject.startswith("No "):
        return
    forbidden = subject.startswith("No ")
    if not forbidden and verb in ("must", "shall") and _LATIN_STATE.search(rest):
        return
    if forbidden:
        plural = re.search(r"[^s]s$|\bpeople$", subject.split(" of ")[0])
        article = "any " if plural else "an " if subject[3:4].lower() in "aeiou" else "a "
        subject = article + subject[3:]
    first = subject.split(" ", 1)[0].lower()
    subject = _as_asked(lower_first(subject) if first in _DETERMINERS or first in small else subject)
    rest = _as_asked(re.sub(r"^(\w+) you\b", r"\1 me", rest))
    if verb in ("must", "shall") and not forbidden:
        yield f"Must {subject} {rest}?"
    else:
        yield f"Can {subject} {rest}?"


def _as_asked(text: str) -> str:
    """What speaks to the reader, in the reader's own mouth."""
    for pattern, mine in _ME:
        text = re.sub(pattern, mine, text)
    return text
