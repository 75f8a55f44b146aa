"""Cross-references: the sentence that refers to section 12 says what section 12 is about."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from fieldtune.queries.draft import Draft
from fieldtune.queries.wording import Language, Sentence, read_title
from fieldtune.types import Passage

_NUMERAL = "[一二三四五六七八九十百千零〇○两\\d]+"
_HAN = re.compile(
    rf"(?:《([^《》]{{2,40}})》|(?:本|该)(?:法|条例|办法|规定|规则|解释|细则|章程|合同|协议|准则|指引))?"
    rf"第({_NUMERAL})条(之{_NUMERAL})?"
)
_FOREIGN = re.compile(
    rf"(?<![本该])(?:法|典|条例|办法|规定|规则|解释|细则|通则|决定|意见|规范|公约)(?:[（(][^）)]*[)）])?第{_NUMERAL}条"
)
_HAN_CUT = re.compile(
    rf"(?:违反|依照|按照|根据|依据|适用|符合|参照)?了?(?:《[^《》]{{2,40}}》|(?:本|该)[一-鿿]{{1,3}})?"
    rf"第{_NUMERAL}条(?:之{_NUMERAL})?(?:第{_NUMERAL}款)?(?:第?[（(]?{_NUMERAL}[）)]?项)?"
    rf"(?:(?:、|和|或者?|至|及)(?:本法)?第{_NUMERAL}[条款项](?:第{_NUMERAL}款)?)*(?:的?有?关?规定)?(?:的?[，,]|的)?"
)
# The reference carried the sentence: what is left of it says nothing.
_TORN = re.compile(
    r"前款|前[两二三]款|^(?!.*除).*以外的其他|行使各项权利|情节，(?:分别)?处罚$|本[章节]|上述期限|所列|行为之一|犯之罪|之罪|是的|至第|有至|[；，。]除外|^除外|不得行使的|没有的|具备的|下列|如下|^(?:的|和|或|及|与|由|并|条件|情形|行为|人员|规定|所列|前款)|其的|[，、]的|[，,]\s*办理$|^(?:of|and|or|is|are)\b|^[a-z]|\b(?:as|to|of|in|by|under|with|and|or|the|for|must|may|it|where|that|which)$"
    r"|\bpurposes ,|\bto \d|^(?:An?|The) (?:specif|set|require|appl)"
    r"|[，、](?:参照|依照)$|(?:参照|依照|按照|适用|根据|依据|符合|参照执行|程序|的)$|[且应与和及、对由为没在以](?:的|，)|，，|[在对从]期间|发?[现有]情形|应当，|，(?:同时|具体程序)$|限额的限额"
)
# The same of what was cut out of the middle: a hole, half a bracket, an order to look it up.
_HOLE = re.compile(
    r" [.,;:]|^\d|^[(“\"]|^(?:refer|see|for (?:additional|further|more)|includes?|incorporated|certain|our|the|each|"
    r"all)\W+(?:have|has|is|are|were|was|include|shall|may|will|bear|to|also|additional|further|more|information)\b"
    r"|^(?:refer|see|for more|includes)\b|\b(?:additional|further|more) information\b|\bincorporated by reference\b"
    r"|\b(?:20\d\d) (?:bears?|includes?|have|are)\b|\bthe meaning (?:given|set|ascribed)\b|['’]s$"
    r"|\b(?:this|these|such|the|a|an|our|its|excess|certain)(?:$|[,.;)])|\bcan be found of\b",
    re.I,
)
_HOLE_HAN = re.compile(
    rf"第{_NUMERAL}[款项]|^(?:所称|进行|情节)|[和与及、]条件的|，进行[^，]{{2}}$|^[^，。的]{{2,14}}，由[^，]{{2,24}}(?:责令|给予|依法|处)"
    r"|^[^，]*，$|[，、；]{2}"
)
_KIND = r"(section|sec\.|§+|article|art\.|rule|clause|paragraph|note|item|schedule|annex|appendix|exhibit|part|chapter)"
_NUMBER = r"(\d+[A-Z]?(?:\.\d+)*|[A-Z](?:\.\d+)*(?![a-z])|[IVX]+\b)"
_LATIN = re.compile(rf"\b{_KIND}s?\s*{_NUMBER}(?:\([a-zA-Z\d]+\))*(?!\s+of\s+(?:the|Regulation|Directive))", re.I)
_LATIN_CUT = re.compile(
    r"[\s,(“\"]*(?:\b(?:as|pursuant|subject|according|refer|see|also|in accordance|set out|set forth|described|defined|"
    r"specified|provided|referred|discussed|disclosed|included|contained|with|to|in|under|by|of|and|the|please)\s+)*"
    rf"\b{_KIND}s?\s*{_NUMBER}(?:\([a-zA-Z\d]+\))*[)”\"]?",
    re.I,
)
_SAME = {"sec.": "section", "art.": "article", "paragraph": "section", "clause": "section", "rule": "section"}
_HEAD = re.compile(rf"^\s*(?:{_KIND}\s*)?{_NUMBER}(?:[.:\s—–-]|$)", re.I)
_PATH = re.compile(r"\d+(?:\.\d+)+")

Targets = Mapping[tuple[str, str], tuple[str, ...]]
"""(document, "section 12" or "第十二条") -> ids of its passages."""


def reference_targets(passages: Mapping[str, Passage]) -> Targets:
    """Where each numbered unit of each document stands; a document goes by its group and by its name."""
    found: dict[tuple[str, str], list[str]] = {}
    for key, passage in passages.items():
        title = read_title(passage.title)
        label = _label(title.number) or (f"section {title.number}" if _PATH.fullmatch(title.number) else "")
        if not label:
            head = _HEAD.match(passage.text)
            label = _label(f"{head[1] or 'section'} {head[2]}") if head and head[1] else ""
        if label:
            for document in {passage.group, _short(title.document)} - {""}:
                found.setdefault((document, label), []).append(key)
    return {where: tuple(keys) for where, keys in found.items() if len(keys) <= 2}


def reference_drafts(
    key: str, passage: Passage, sentences: list[Sentence], targets: Targets, language: Language
) -> Iterator[Draft]:
    """Sentences that refer to another passage, the reference cut out, labelled with that passage and their own."""
    own = {passage.group, _short(read_title(passage.title).document)} - {""}
    for sentence in sentences:
        pattern, cut = (_HAN, _HAN_CUT) if language == "zh" else (_LATIN, _LATIN_CUT)
        if language == "zh" and _FOREIGN.search(sentence.text):
            continue  # a law named without brackets: its articles are not ours
        aims: list[str] = []
        for match in pattern.finditer(sentence.text):
            if language == "zh":
                documents = {_short(match[1])} if match[1] else own
                label = f"第{match[2]}条{match[3] or ''}"
            else:
                documents, label = own, _label(match[0])
            aims += [aim for document in sorted(documents) for aim in targets.get((document, label), ())]
        aims = [aim for aim in dict.fromkeys(aims) if aim != key]
        if not 1 <= len(aims) <= 2:
            continue
        text = re.sub(r"\s+", " ", cut.sub(_joint, sentence.text)).strip(" ,，;；:：、.。")
        if language == "zh":
            text = text.replace(" ", "")
        if _is_torn(text, language):
            continue
        length = len(text) if language == "zh" else len(text.split())
        if (16 <= length <= 120) if language == "zh" else (8 <= length <= 45):
            yield Draft(text, (*aims, key), "reference")


def _is_torn(text: str, language: Language) -> bool:
    if _TORN.search(text):
        return True
    if language == "zh":
        return bool(_HOLE_HAN.search(text))
    halves = any(text.count(left) != text.count(right) for left, right in ("()", "“”", "[]"))
    return halves or text.count('"') % 2 == 1 or bool(_HOLE.search(text))


def _joint(match: re.Match[str]) -> str:
    """What takes a reference's place: the comma that it ended with, or a blank."""
    return "，" if match[0][-1] in "，," else " "


def _label(text: str) -> str:
    """`Sec. 12(b)` and `§ 12` as `section 12`; a Chinese article as it is."""
    if text.startswith("第"):
        return text
    match = _LATIN.match(text)
    if not match:
        return ""
    kind = match[1].lower()
    return f"{'section' if kind.startswith('§') else _SAME.get(kind, kind)} {match[2].upper()}"


def _short(name: str) -> str:
    """A law's name as other laws cite it."""
    return re.sub(r"[（(][^）)]*[)）]$", "", name.removeprefix("中华人民共和国")).strip()
