"""Key sentences cropped out of their passage: the query is a sentence, the answer is the rest."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from fieldtune.lexical import STOP_WORDS, tokenize
from fieldtune.queries.filters import points_at
from fieldtune.queries.keywords import Keywords
from fieldtune.queries.wording import Language, Sentence

# A sentence that leans on another one says nothing by itself.
_LEANS = re.compile(
    r"^(?:this|that|these|those|it|they|he|she|such|however|therefore|thus|also|in addition|furthermore|moreover|"
    r"for example|for instance|as a result|see|the following|other|others|another|and|but|or|if so|in this case|"
    r"\(|\[)\b|^(?:但是?|因此|所以|此外|另外|其中|前款|上述|该|其|这|那|同时|并且?|而且|例如|如下|下列|有前款|依照前款)"
    r"|前款|前条|前项|上述|第[一二三四五六七八九十百千零]+[条款项]",
    re.I,
)
# Nor does one that sends its reader elsewhere, speaks to whoever has the page open, or takes up what was said before.
_ELSEWHERE = re.compile(
    r"^(?:please|click|learn more|for (?:more|further|additional|a (?:discussion|description|summary))|refer|here|"
    r"likewise|similarly|accordingly|consequently|additionally|conversely|otherwise|instead|nevertheless|nonetheless|hence|then|"
    r"either|neither|alternatively|specifically|in (?:particular|contrast|other words|this|that|these|those|such)|"
    r"by contrast|on the other hand|notwithstanding the foregoing|be (?:sure|advised|assured)|note that|"
    r"as (?:noted|described|discussed|mentioned|shown|stated|explained|defined|indicated|set)|"
    r"(?:if|when|once|unless|where|while|although|because|since|until|after|before) (?:it|they|he|she|so|not|no such)|"
    r"(?:each|all|both|some|many|most|one|none|any|two|several) of (?:them|these|those|which)|"
    r"the (?:former|latter|same|above|foregoing|preceding|following|remaining|remainder|others?|table|chart|graph|"
    r"figure|comparisons?|aforementioned))\b"
    r"|\b(?:described|discussed|shown|presented|set (?:forth|out)|listed|noted|outlined|defined|mentioned|"
    r"summari[sz]ed|detailed|included|indicated|explained|illustrated|stated|provided|identified|disclosed|contained|"
    r"referenced|see|as)\W+"
    r"(?:\w+\W+){0,3}?(?:above|below|here|elsewhere|earlier|previously|tables?|charts?|figures?|notes?\s+\d+|page\s+\d+)\b"
    r"|\b(?:above|below)(?=\W*$|[,;)])|\bhere(?=\W*$)"
    r"|\b(?:the|these|those|our) (?:above|below|foregoing|aforementioned|preceding)\b"
    r"|\b(?:tables?|charts?|graphs?|figures?|paragraphs?|sections?) (?:above|below)\b|\bclick (?:here|on)\b"
    r"|\b(?:in|see|to) (?:notes?|items?|exhibits?|schedules?|appendix|annex) [\dA-Z]"
    r"|\b(?:the meaning|meanings) (?:given|set|ascribed|assigned|specified)\b|\baccompanying (?:notes|tables?)\b"
    # Before anything is named, these can only mean what another sentence named.
    r"|^(?:\S+ ){1,5}(?:these|those(?! (?:who|of|that|with|in))|such(?! as)|said|this(?! [A-Z]))\b",
    re.I,
)
_ELSEWHERE_HAN = re.compile(
    "^(?:对?其他|无法|根据需要|必要时|届时|对(?:此|该|其)|如有|除此|综上|总之|不过|反之|另一方面|相反|见|如图|如表|注[：:])"
    "|下列|如下|前述|此类|本(?:项|章|节)(?!目)|[上下附]表(?!明|示|面|现|达)|[见如][图表第附]|^[^，。]{0,6}(?:该|这些|上款)"
)
_FULL_LINE = 60
"""Characters from which a printed line that ends without a sign goes on in the next one."""
_CUT_SHORT = re.compile(r"-[A-Z]\.$")  # "U.S. and non-U.", of "non-U.S."
_LISTED = re.compile(r"\((?:([b-h])|(ii|iii|iv))\)")
_ANNOUNCES = re.compile(r"(?:[:：]|the following|as follows|下列(?:情形|条件|规定)?之?一?的?)\W*$", re.I)


class Frames:
    """How sentences of a corpus begin: what begins like many others is a form that was filled in."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._begin: Counter[str] = Counter()
        self._size = 0
        for text in texts:
            self._size += 1
            self._begin.update({_frame(part) for part in _STARTS.findall(text)})

    def is_form(self, sentence: str) -> bool:
        """Whether over five sentences, and one in two hundred passages, begin with the same five words."""
        return self._begin[_frame(sentence)] > max(5, self._size / 200)


_STARTS = re.compile(r"(?:^|(?<=[.!?] )|(?<=\n))[A-Z][^.!?\n]{20,}")


def _frame(text: str) -> str:
    return " ".join(text.split(None, 5)[:5]).casefold()


def key_sentence(
    sentences: list[Sentence], text: str, words: Keywords, language: Language, frames: Frames
) -> Sentence | None:
    """The sentence that says most of what the rest of the passage is about, None where none stands alone.

    The rest must be as long as the sentence at least, for it is what training shows when the sentence is cut out.
    """
    best: tuple[float, Sentence] | None = None
    every = Counter(tokenize(text))
    for sentence in sentences:
        length = len(sentence.text) if language == "zh" else len(sentence.text.split())
        low, high = (16, 80) if language == "zh" else (8, 35)
        if not low <= length <= high or 2 * len(sentence.text) > len(text):
            continue
        # Without a full stop it is a heading; the subject of a list's item stands elsewhere.
        if sentence.is_item or sentence.text[:1].islower() or sentence.text.rstrip("”\"’')）")[-1:] not in "。！？.!?":
            continue
        if _leans(sentence.text, language) or _ANNOUNCES.search(sentence.text) or _is_figures(sentence.text):
            continue
        if _began_before(text, sentence.start) or _CUT_SHORT.search(sentence.text):
            continue
        if sentence.text.endswith(("?", "？")) or (language == "en" and frames.is_form(sentence.text)):
            continue
        own = Counter(tokenize(sentence.text))
        shared = [token for token in own if every[token] > own[token] and token not in STOP_WORDS]
        # What it shares with the rest, rare words counting more, and the share of it that this is.
        score = sum(words.rarity(token) for token in shared) / (4 + len(own)) if shared else 0
        if score > 0 and (best is None or score > best[0]):
            best = (score, sentence)
    return best[1] if best else None


def _began_before(text: str, start: int) -> bool:
    """Whether a sentence is the end of one that a page's or a line's border cut: its line goes on from a full one."""
    if not text[:start].strip():
        return not text[start].isalpha()  # a passage that begins with figures, brackets or quotation marks
    before = text[:start]
    if not before.endswith("\n") or before.endswith("\n\n"):
        return False
    line = before[:-1].rsplit("\n", 1)[-1].rstrip()
    return len(line) >= _FULL_LINE and line[-1] not in '.?!:;。！？：；|”"’)'


def _leans(text: str, language: Language) -> bool:
    """Whether a sentence needs another one, or the page that it stands on, to be understood."""
    elsewhere = _ELSEWHERE_HAN if language == "zh" else _ELSEWHERE
    flat = " ".join(text.split())
    if _LEANS.search(flat) or elsewhere.search(flat) or points_at(flat) or flat.startswith("<"):
        return True
    # The second item of a list without the first: the sentence began before the passage.
    listed = _LISTED.search(flat)
    return listed is not None and ("(a)" if listed[1] else "(i)") not in flat[: listed.start()]


def _is_figures(text: str) -> bool:
    return sum(char.isdigit() for char in text) > 0.25 * len(text)
