"""Terms that a passage defines: "X means …", "本法所称X，是指…"; the query asks for the term."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fieldtune.queries.wording import Language, Sentence

_TERM = r"[A-Za-z][\w'’/-]*(?:[ -][A-Za-z(][\w'’/)-]*){0,5}"
_VERB = r"(?:shall mean|shall have the meaning|means|refers to|is defined as|are defined as|has the meaning)"
_QUOTED = re.compile(
    rf'["“]([^"”]{{2,60}})["”](?:\s*\([^)]{{1,60}}\))?,?\s+(?:(?:as used )?(?:in|for) [^,]{{1,60}}, )?{_VERB}\b'
)
_BARE = re.compile(rf"^(?:[Tt]he (?:term|phrase) )?({_TERM})(?:\s*\([^)]{{1,60}}\))?,?\s+{_VERB}\b")
# "X is a disorder that …" opens an encyclopedia's article; further down it describes rather than defines.
_IS_A = re.compile(
    rf"^(?:An? |The )?({_TERM})(?:\s*\([^)]{{1,80}}\))?(?:, also (?:called|known as)[^,]{{1,80}},)?\s+"
    r"(?:is|are) (?:an? |the name|one of|any |when |(?:rare|common|inherited|chronic) "
    r"|the (?:\w+ ){0,2}(?:process|inability|abnormal|term))"
)
_NO_TERM_WORDS = """
a above all also an and another any as at below both but by each either everything following for from he her here
his however i if in include includes it its many most neither no not nothing on one or other our part she so some
such that the their there therefore these they this those thus to we what when where which who with you your
"""
_NO_TERM = frozenset(_NO_TERM_WORDS.split())
_NO_PART_WORDS = "which that who is are was will may can here there one sign signs step way"
_NO_PART = frozenset(_NO_PART_WORDS.split())
_HAN_TERM = r"[^\s，。；：、？！“”\"《》（）()的了所]{2,16}?"
_CALLED = re.compile(
    rf"(?:所称|所说|所指)的?[“\"]?({_HAN_TERM})[”\"]?(?:[（(][^）)]{{1,30}}[）)])?[，,：]?\s*"
    rf"(?:(?:是|系|均|即|主要)?(?:指|包括)(?![导定派示挥使控引责])|(?:具体|主要)?包括|是)"
)
_MEANS = re.compile(
    rf"(?:^|[；。])[“\"]?({_HAN_TERM})[”\"]?(?:[（(][^）)]{{1,30}}[）)])?[，,：]?\s*"
    r"(?:是指|系指|指的是|，(?:意|特|统)?指(?![导定派示挥使控引责]))"
)
# 刑法: "……的，是正当防卫。"
_IS = re.compile(r"的[，,](?:是|属于|为)([^\s，。；：、“”《》（）的了]{3,8})[。；]$")
_NO_HAN_TERM = re.compile(
    r"^(?:本|在|其|该|此|前|下列|上述|这|那|以上|以下|不(?!可抗力|动产|正当|当得利|良)|可|应|有|无|所|何|我国|第)|(?:时|后|等|者外)$"
)


def defined_terms(sentences: list[Sentence], language: Language) -> Iterator[str]:
    """The terms that the sentences define, in order."""
    for position, sentence in enumerate(sentences):
        if language == "zh":
            for pattern in (_CALLED, _MEANS, _IS):
                for match in pattern.finditer(sentence.text):
                    if not _NO_HAN_TERM.search(match[1]):
                        yield match[1]
        elif language == "en":
            for match in _QUOTED.finditer(sentence.text):
                term = match[1].strip(" ,.")
                if term.lower() not in _NO_TERM:
                    yield term
            bare = _BARE.match(sentence.text)
            if bare and _is_term(bare[1]):
                yield bare[1]
            opening = _IS_A.match(sentence.text) if position == 0 else None
            if opening and _is_term(opening[1]) and len(sentence.text.split()) >= 8:
                yield opening[1]


def definition_query(term: str, language: Language, turn: int) -> str:
    """How people ask for a term; `turn` chooses between the ways."""
    if language == "zh":
        return (f"什么是{term}？", f"{term}是什么意思？", f"{term}的定义")[turn % 3]
    plural = term.endswith("s") and not term.endswith(("ss", "us", "is", "sis")) and term[-2:-1].islower()
    asks = f"What {'are' if plural else 'is'} {term}?"
    return (asks, asks, f"What does {term} mean?", f"definition of {term}")[turn % 4]


def _is_term(text: str) -> bool:
    words = text.lower().split()
    return words[0] not in _NO_TERM and words[-1] not in ("by", "of", "in", "for", "to") and not _NO_PART & set(words)
