"""The key phrases of a passage by the statistics of its corpus, without a dictionary."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable

import regex

from fieldtune.lexical import STOP_WORDS, tokenize
from fieldtune.queries.wording import language_of

_WORD = regex.compile(r"[\p{L}][\p{L}\p{M}\p{N}]*(?:['’&/-][\p{L}\p{N}]+)*|[^\p{L}\s]+|\s*\n\s*")
# Words that link or qualify; a phrase ends where one begins. Beside the stop words of BM25.
_LINK_WORDS = """
not no may also more most other such shall must upon under over within between through during after before include
includes including included use used using called known following respectively however therefore therein thereof
hereof herein whether because while although each both all some many much few only very often usually sometimes
make makes made take takes taken see get gets given give gives cause causes caused occur occurs due based related
certain various several part parts example provide provides provided set forth either neither among per via one two
three four five six first second third new well same own further less least than without against until unless where
else even still yet ever just like likely need needs help helps become becomes relate relates involve involves
affect affects result results refer refers mean means apply applies have having person people something someone
want go come keep put know show shows follow follows up down out off away etc january february march april june
july august september october november december million millions thousand thousands billion billions year years
ended total
"""
_LINKS = STOP_WORDS | frozenset(_LINK_WORDS.split())
# Chinese has no spaces: phrases end at function words. Words that merely contain such a character come first.
_KEPT = (
    "第三方|第三人|第三者|不同|有期徒刑|无期徒刑|有期|无期|中国|我国|永久|相应|后期|海洛因|行为|作为|成为|所有权|共有|国有|占有|持有|有限|有效|有偿|参与|给予|授予|赠与|和解|和平|平等|等级|同等|合并|并购|"
    "自由|理由|事由|相对|对象|核对|对方|本人|本金|成本|资本|基本|根本|文本|样本|将来|被告|被害|被保险|目的|标的|是非|"
    "在职|在校|存在|现在|所在|了解|上市|上诉|上级|下级|内部|内容|国内|境内|前期|事前|后果|售后|善后|中介|中止|中心|"
    "不动产|不可抗力|不正当|不当|不良|不服|无效|无罪|未成年|未遂|可转让|许可|认可|向量|方向|应收|应付|应急|应用|响应|"
    "供应|反应|经营|经济|经理|经费|时间|时效|临时|小时|及时|按揭|从业|从犯|主从|各方|自治|自然|自首|独自|因果|原因|"
    "使用权|行使|驾驶|至尊|以太网|于是|应税|到期|报到|到达|此外|又称|都市|首都|均衡|平均|规则|原则|总则|细则|即时|"
    "依赖|比例|比赛|凡例|已婚|让与|转让|出让|还款|偿还|归还|返还|把关|某些"
)
_BREAKS = (
    "应当|可以|不得|必须|依法|按照|依照|根据|依据|或者|以及|并且|但是|如果|因为|所以|对于|除外|除了|下列|前款|前条|规定|"
    "情形|有关|相关|其他|具有|享有|进行|予以|属于|由于|用于|关于|之间|之日|以上|以下|以内|以外|自己|他人|需要|能够|没有|"
    "不能|不予|是否|如何|什么|我们|他们|它们|这些|那些|这个|那个|一个|一种|通过|为了|并处|处以|至少|认为|视为|作出|提出|"
    "本(?:法|条例|规定|办法|规则|解释|细则|章程|合同|协议)|按期|定期|使用|包括|下述|上述|第[一二三四五六七八九十百千零〇]+[条款项章节]?|百分之[一二三四五六七八九十百]+|"
    "[一二三四五六七八九十百千万零〇两]+(?:年|个?月|日|条|款|项|倍|个|元|人|次|种|份|名|天|小时)(?:以上|以下|以内)?|"
    "的|了|和|与|或|及|并|在|对|由|被|将|为|以|有|是|其|该|等|之|于|从|向|至|自|但|而|因|且|所|则|即|均|应|可|不|未|无|也|"
    "都|就|又|还|使|让|把|给|到|时|后|前|中|内|上|下|各|每|某|此|本|经|已|按|依|比|凡|若|第"
)
_CHINESE = regex.compile(rf"(?P<kept>{_KEPT})|(?P<break>{_BREAKS})|(?P<han>\p{{Han}})|(?P<other>[^\p{{Han}}]+)")
# What a function word that is itself cut apart leaves at the ends.
_LOOSE = re.compile("^(?:指|除|项|简称)+|(?:除|指)+$")
_MOST_WORDS = 4
_COUNTED = 60_000


class Keywords:
    """Document frequencies of a corpus, and the phrases that stand out against them."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._frequency: Counter[str] = Counter()
        self._size = 0
        self._phrases: Counter[str] = Counter()
        for text in texts:
            self._frequency.update(set(tokenize(text)))
            self._size += 1
            # The phrases of the first passages tell well enough which are terms of the field.
            if self._size <= _COUNTED:
                self._phrases.update({run.casefold() for run in chunks(text)})

    def rarity(self, text: str) -> float:
        """Mean inverse document frequency of the words, 0 for words that every passage has."""
        tokens = tokenize(text)
        if not tokens:
            return 0.0
        return sum(math.log((self._size + 1) / (self._frequency[token] + 0.5)) for token in tokens) / len(tokens)

    def phrases(self, text: str, most: int) -> list[str]:
        """The phrases that say best what a text is about, in the order in which they stand in it.

        tf-idf over runs of words between function words and signs (after RAKE; Rose et al., 2010). Phrases that share
        a word with a better one are left out.
        """
        runs = chunks(text)
        count = Counter(run.casefold() for run in runs)
        first: dict[str, str] = {}
        for run in runs:
            first.setdefault(run.casefold(), run)
        limit = math.log(max(2, self._size) / 2)

        def weight(folded: str) -> float:
            # A word of this passage alone is no better than one of two: it may be a name or a slip.
            length = len(tokenize(folded))
            value = min(limit, self.rarity(folded)) * (1 + math.log(count[folded])) * math.sqrt(min(3, length))
            # A run of words that stands nowhere else is mostly no term but an accident of the sentence.
            return value if length < 2 or self._phrases[folded] > 1 or count[folded] > 1 else 0.4 * value

        order = {folded: position for position, folded in enumerate(first)}
        weights = {folded: weight(folded) for folded in first}
        chosen: list[str] = []
        taken: set[str] = set()
        for folded in sorted(first, key=lambda folded: (-weights[folded], order[folded])):
            tokens = set(tokenize(folded))
            if weights[folded] > 0 and not tokens & taken:
                chosen.append(folded)
                taken |= tokens
                if len(chosen) == most:
                    break
        return [first[folded] for folded in sorted(chosen, key=order.__getitem__)]


def chunks(text: str) -> list[str]:
    """Runs of one to four words, or two to eight Chinese characters, between function words and signs."""
    return _chinese(text) if language_of(text) == "zh" else _spaced(text)


def _spaced(text: str) -> list[str]:
    out: list[str] = []
    run: list[str] = []
    last = 0
    for match in [*_WORD.finditer(text), None]:
        word = match[0] if match else ""
        adjacent = match is not None and not text[last : match.start()].strip(" \t")
        if not adjacent or not word[:1].isalpha() or word.lower() in _LINKS or len(word) < 2:
            if run and len(run) <= _MOST_WORDS and (len(run) > 1 or len(run[0]) > 3):
                out.append(" ".join(run))
            run = []
        if match:
            last = match.end()
            if word[:1].isalpha() and word.lower() not in _LINKS and len(word) > 1:
                run.append(word)
    return out


def _chinese(text: str) -> list[str]:
    out: list[str] = []
    run = ""
    for match in _CHINESE.finditer(text + "。"):
        if match["kept"] or match["han"]:
            run += match[0]
        else:
            run = _LOOSE.sub("", run)
            if 2 <= len(run) <= 8:
                out.append(run)
            run = ""
    return out
