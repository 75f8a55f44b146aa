"""Phrases of Chinese text: runs of whole words between function words and signs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import regex

from fieldtune.queries.han_words import HanWords

# Words that merely contain a character which is a function word elsewhere.
_KEPT = (
    "第三方|第三人|第三者|不同|有期徒刑|无期徒刑|有期|无期|中国|我国|永久|相应|后期|海洛因|行为|作为|成为|所有权|共有|国有|占有|持有|有限|有效|有偿|参与|给予|授予|赠与|和解|和平|平等|等级|同等|合并|并购|"
    "自由|理由|事由|相对|对象|核对|对方|本人|本金|成本|资本|基本|根本|文本|样本|将来|被告|被害|被保险|目的|标的|是非|"
    "在职|在校|存在|现在|所在|了解|上市|上诉|上级|下级|内部|内容|国内|境内|前期|事前|后果|售后|善后|中介|中止|中心|"
    "不动产|不可抗力|不正当|不当|不良|不服|无效|无罪|未成年|未遂|可转让|许可|认可|向量|方向|应收|应付|应急|应用|响应|"
    "供应|反应|经营|经济|经理|经费|时间|时效|临时|小时|及时|按揭|从业|从犯|主从|各方|自治|自然|自首|独自|因果|原因|"
    "所得税|所得|所属|下属|中央|基层|前方|后方|对方|次要|因地制宜|就近|就业|就地|成就|量力而行|导向|支前|从轻|从重|从宽|从严|从属|依次|译文|明文|公文|行文|附文|"
    "被请求|共和国|无线|无形|无偿|不满|不足|不法|不得已|未成年|向前|时期|期中|集中|途中|其中|手中|中小企业|中小学|中期|"
    "以下简称|所谓|等候|等同|平等|优等|高等|中等|初等|是否|且仅|即将|应诉|应试|对待|对外|应对|核对|校对|针对|相对人|后代|"
    "使用权|行使|驾驶|至尊|以太网|于是|应税|到期|报到|到达|此外|又称|都市|首都|均衡|平均|规则|原则|总则|细则|即时|"
    "就诊|就医|就学|应缴|应纳|上一级|事务所|派出所|看守所|交易所|研究所|场所|住所|处所|公德|公益|公共|制定|"
    "依赖|比例|比赛|凡例|已婚|让与|转让|出让|还款|偿还|归还|返还|把关|某些"
)
_FUNCTION = (
    "应当|可以|不得|必须|依法|按照|依照|根据|依据|或者|以及|并且|但是|如果|因为|所以|对于|除外|除了|下列|前款|前条|规定|"
    "情形|有关|相关|其他|具有|享有|进行|予以|属于|由于|用于|关于|之间|之日|以上|以下|以内|以外|自己|他人|需要|能够|没有|"
    "不能|不予|是否|如何|什么|我们|他们|它们|这些|那些|这个|那个|一个|一种|通过|为了|并处|处以|至少|认为|视为|作出|提出|"
    "按期|定期|使用|包括|下述|上述|适用|符合|违反|行为之一|日起|施行|给予|发生|实施|任何|直接|另行|另有|受到|中华人民共和国|指|除|项|另|"
    "的|了|和|与|或|及|并|在|对|由|被|将|为|以|有|是|其|该|等|之|于|从|向|至|自|但|而|因|且|所|则|即|均|应|可|不|未|无|也|"
    "都|就|又|还|使|让|把|给|到|时|后|前|中|内|上|下|各|每|某|此|本|经|已|按|依|比|凡|若|第"
)
_NUMERAL = "[一二三四五六七八九十百千万亿零〇两]"
# What is no word at all: citations, quantities, and everything that is not Chinese.
_BETWEEN = regex.compile(
    rf"本(?:法|条例|规定|办法|规则|解释|细则|章程|合同|协议)|第{_NUMERAL}+(?![者人方])[条款项章节]?|百分之{_NUMERAL}+"
    rf"|{_NUMERAL}+(?:周岁|年|个?月|日|条|款|项|倍|个|元|人|次|种|份|名|天|小时)(?:以上|以下|以内|内)?|[^\p{{Han}}]+"
)
_EDGES = tuple("的了和与或及并在对由被将其该且但而因为") + tuple(word for word in _FUNCTION.split("|") if len(word) > 1)
_SHORTEST, _LONGEST = 2, 8


class HanPhrases:
    """Phrases whose ends are ends of words, as far as the corpus or the word lists tell."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._function = frozenset(_FUNCTION.split("|"))
        self._words = HanWords(texts, (*_KEPT.split("|"), *self._function), _EDGES)

    def chunks(self, text: str) -> list[str]:
        """Runs of two to eight characters; of a longer run its last words, which name the thing."""
        return [
            phrase
            for piece in _BETWEEN.split(text)
            if piece
            for run in self._runs(piece)
            if _SHORTEST <= len(phrase := _tail(run)) <= _LONGEST
        ]

    def _runs(self, piece: str) -> Iterator[list[str]]:
        run: list[str] = []
        for word in self._words.cut(piece):
            if word not in self._function:
                run.append(word)
                continue
            yield run
            run = []
        yield run


def _tail(run: list[str]) -> str:
    """As many of the last words as a phrase can hold.

    A lone character beside a word is mostly what is left of another word, and goes.
    """
    kept = list(run)
    while len(kept) > 1 and (sum(map(len, kept)) > _LONGEST or (len(kept[0]) == 1 < len(kept[1]))):
        kept.pop(0)
    while len(kept) > 1 and len(kept[-1]) == 1 < len(kept[-2]):
        kept.pop()
    return "".join(kept)
