"""What an English sentence tells of a thing, asked for: what it holds, how it is measured, when it counts, how much."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fieldtune.lexical import STOP_WORDS, tokenize
from fieldtune.queries.wording import Sentence, lower_first

_THING = r"((?:The |An? |Our |Its |Their |Total |Net |All )?[A-Za-z][^,;:.()]{2,70}?)"
_HOLDS = re.compile(
    rf"^{_THING} (?:primarily |mainly |also )?"
    r"(includes?|consists?|comprises?)(?: primarily| mainly)?(?: of)? (?=.{12,})"
)
_HOW = re.compile(
    rf"^{_THING} (is|are) (?:initially |generally |subsequently |normally |usually )?"
    r"(measured|calculated|determined|recorded|computed|estimated|valued|allocated|accounted for|stored|"
    r"configured|assessed)"
    r" (?:using|by|based on|at|as|with|on|through|under)\b"
)
_WHEN = re.compile(
    rf"^{_THING} (is|are) (?:generally |considered to be |only )?"
    r"((?:considered )?(?:recognized|impaired|payable|due|required|billed|paid|called|"
    r"raised|written off|derecognised|recognised|capitalized))"
    r" (?:when|once|if|upon|after|at the time|over)\b"
)
_AMOUNT = re.compile(
    rf"^(?:(?:In|For|During|At|As of) [^,]{{3,60}}, )?{_THING} (was|were|totaled|totalled|amounted to)"
    r" (?:approximately |about |an aggregate of )?(?:[$€£¥]|US\$|USD |RMB )?\d"
)
_DATED = re.compile(
    r"^(?:On|In|Effective) ([A-Z][a-z]+ (?:\d{1,2}, )?(?:19|20)\d\d), (?:we|the (?:Company|Group|Bank)) "
    r"(adopted|acquired|issued|sold|completed|entered into|repaid|declared) ([^,;:]{6,80}?)(?=[,.;]| for | with "
    r"| in | to )"
)
_PLAIN = {"adopted": "adopt", "acquired": "acquire", "issued": "issue", "sold": "sell", "completed": "complete",
          "entered into": "enter into", "repaid": "repay", "declared": "declare"}  # fmt: skip
_YEAR = re.compile(r"\b(?:fiscal(?: year)? )?(?:19|20)\d\d\b")
_LEANS = re.compile(
    r"^(?:this|that|these|those|it|they|he|she|such|which|we|you|there|what|in|on|for|as|if|when|while|although|because|"
    r"the (?:following|above|table|company|group|same|amount|balance|total|result|increase|decrease|change|remaining|"
    r"remainder|other|latter|former|difference|effect|impact|purpose|first|second))\b"
    r"|^(?:amounts?|balances?|totals?|others?|items?|adjustments?|treatments?|signs?|symptoms?|features|investments?|parts?)$"
    r"| (?:The|Our|This|We) |\b\w+(?:ieved|istered|isted|reased|corded|hanged)\b|\b(?:during|records?|represents?)\b"
    r"|\b(?:is|are|was|were|has|have|had|can|may|will|should|must|shall|would|could|allows?|your|also)\b"
    r"|\b(?:when|who|which|that|not|and its|if|following|below|above)\b"
    r"|\b(?:and|or|of|in|for|to|by|our|its|their)$",
    re.I,
)
_OURS = re.compile(r"^(?:our|its|their|the|an?)\s+", re.I)


def fact_questions(sentences: list[Sentence], document: str, turn: int) -> Iterator[str]:
    """Questions that single sentences answer; a sentence that leans on another gives none.

    Where the question shares no word with the document's name, that is added: whose revenue, of which disease.
    """
    # A year or a form's number in both tells nobody whose figure is meant.
    named = {word for word in tokenize(document) if len(word) > 1 and not word.isdigit()} - STOP_WORDS
    for number, sentence in enumerate(sentences, turn):
        text = " ".join(sentence.text.split())
        if sentence.is_item or len(text) < 30:
            continue
        question = _question(text, number)
        if question and named and len(document) <= 80 and not named & set(tokenize(question)):
            question = f"{question[:-1]} ({document})?"
        if question:
            yield question


def _question(text: str, turn: int) -> str:
    if match := _HOLDS.match(text):
        thing = _thing(match[1])
        verb = {"i": "include", "c": "consist of" if match[2].startswith("cons") else "comprise"}[match[2][0]]
        does = "does" if match[2].endswith("s") else "do"
        return f"What {does} {thing} {verb}?" if thing else ""
    if match := _HOW.match(text):
        thing = _thing(match[1])
        return f"How {match[2]} {thing} {match[3]}?" if thing else ""
    if match := _WHEN.match(text):
        thing = _thing(match[1])
        return f"When {match[2]} {thing} {match[3]}?" if thing else ""
    if match := _DATED.match(text):
        return f"When did the company {_PLAIN[match[2]]} {match[3].strip()}?"
    if match := _AMOUNT.match(text):
        thing = _thing(_YEAR.sub("", match[1]))
        year = _YEAR.search(text)
        if not thing or len(thing.split()) < 2:
            return ""
        when = f" in {year[0]}" if year else ""
        plural = "were" if match[2] == "were" else "was"
        return (f"What {plural} the {thing}{when}?", f"How much {plural} {thing}{when}?")[turn % 2]
    return ""


def _thing(text: str) -> str:
    text = " ".join(text.split())
    bare = _OURS.sub("", text)
    if _LEANS.search(text) or _LEANS.search(bare) or len(text.split()) > 12:
        return ""
    # "Company's control" cannot stand without its article.
    article = "the " if text.startswith("The ") and re.match(r"\w+['’]s? ", bare) else ""
    return article + lower_first(bare).strip()
