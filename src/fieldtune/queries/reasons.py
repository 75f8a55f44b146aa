"""Why something rose, fell or happened: the sentence gives the reason, the query asks for it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fieldtune.queries.wording import Language, Sentence, lower_first

_VERBS = {
    "increased": "increase", "decreased": "decrease", "declined": "decline", "grew": "grow", "rose": "rise",
    "fell": "fall", "dropped": "drop", "improved": "improve", "was higher": "higher", "was lower": "lower",
    "were higher": "higher", "were lower": "lower",
}  # fmt: skip
_LATIN = re.compile(
    rf"^(?:(?:In|For|During) [^,]{{3,60}}, )?([A-Z][^,;:.]{{3,90}}?) ({'|'.join(_VERBS)})\b(.*?)\b"
    r"(?:due to|because|as a result of|driven by|attributable to|reflecting|resulting from|primarily|mainly)\b"
)
_CHANGE = re.compile(
    r"^The (increase|decrease|decline|growth|reduction|change|improvement) (?:in|of) ([^,;:.]{4,80}?)"
    r" (?:was|is|were|in|of|for|from)\b"
    r".{0,120}?\b(?:due to|because|result|driven|attributable|reflect)"
)
_YEAR = re.compile(r"\b(?:fiscal(?: year)? )?(?:19|20)\d\d\b")
_LEANS = re.compile(
    r"^(?:this|that|these|those|it|they|he|she|such|which|we|you|as|although|while|if|when|"
    r"the (?:increase|decrease|decline))\b"
    r"|\b(?:is|are|was|were|has|have|had|can|may|will|also|when|who|which|that|share|includes?)\b"
    r"|\band$|^(?:the )?(?:number|amount|balance|total)$",
    re.I,
)
_HAN = re.compile(
    r"(?:^|[；。，])([^；。，、或]{3,24}?)(?:同比|环比|较上[年期]|比上[年期]|较去年)[^；。，]{0,12}?(增长|增加|上升|提高|下降|减少|降低|下滑)"
    r"[^；。]{0,40}?(?:系|由于|因为|是因|原因|得益于|所致|受)"
)


def reason_questions(sentences: list[Sentence], language: Language) -> Iterator[str]:
    """ "Why did … increase in 2019?" for each sentence that tells."""
    for sentence in sentences:
        text = " ".join(sentence.text.split())
        if language == "zh":
            for told in _HAN.finditer(text):
                yield f"{told[1]}为什么{told[2]}？"
        elif language == "en":
            year = _YEAR.search(text)
            when = f" in {year[0]}" if year else ""
            change, match = _CHANGE.match(text), _LATIN.match(text)
            if change and not _LEANS.search(change[2]):
                yield f"What caused the {change[1]} in {_without_year(change[2])}{when}?"
            elif match and not _LEANS.search(match[1]) and len(match[1].split()) <= 12:
                subject = _without_year(lower_first(match[1]))
                was = match[2].split()[0] if " " in match[2] else "did"
                yield f"Why {was} {subject} {_VERBS[match[2]]}{when}?"


def _without_year(text: str) -> str:
    """Without the year, the amount that it came to, and the preposition that led to either."""
    text = re.sub(r" of (?:US)?[$€£¥][\d.,]+(?: (?:thousand|million|billion))?", "", text)
    text = re.sub(
        r"\s*(?:\b(?:in|for|during|of|at|as of)\s+)?(?:the )?(?:year ended [A-Z][a-z]+ \d+ )?"
        r"(?:fiscal(?: year)? )?(?:19|20)\d\d\b",
        "",
        text,
    ).strip(" ,")
    return re.sub(r"\s+(?:in|for|of|at|to|from|during)$", "", text)
