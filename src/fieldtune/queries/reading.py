"""What an LLM's answer is worth: its queries, and why others in it were not taken."""

from __future__ import annotations

import re
from collections.abc import Sequence

import regex

from fieldtune.llm import find_object
from fieldtune.queries.draft import Draft
from fieldtune.queries.filters import points_at
from fieldtune.queries.prompts import LONGEST_QUERY
from fieldtune.queries.styles import WHAT
from fieldtune.queries.wording import Language

FOREIGN = "in another language than the passage"
_HAN = regex.compile(r"\p{Han}")
_LETTER = regex.compile(r"\p{L}")
# What only someone says who follows an instruction in a document, or talks about one.
# People ignore rules at work; only a model is told to ignore the instructions before, above or of its own.
_ABOUT_THE_MODEL = re.compile(
    r"\b(?:ignor|disregard|forget|overrid|bypass)\w*\s+(?:\w+\s+){0,3}?(?:previous|prior|above|earlier|preceding|foregoing"
    r"|system|your(?: own)?)\s+(?:\w+\s+)?(?:instructions?|rules?|prompts?|directions?|guidelines?)\b"
    r"|\b(?:ignor|disregard|forget)\w*\s+(?:the above|all (?:the )?(?:instructions|prompts)|everything above)\b"
    r"|\b(?:system|hidden|initial) prompt\b"
    r"|\bas an? (?:AI|language model)\b|\b(?:untrusted|marker lines?)\b|=== ?PASSAGE"
    r"|(?:忽略|无视|忘记|忘掉)[^，。？]{0,6}(?:以上|上述|之前|前面|先前|此前|所有|系统|你的)[^，。？]{0,6}(?:指令|指示|提示词?|命令|要求|规则)"
    r"|系统提示|作为(?:一个)?(?:AI|人工智能助手|语言模型)",
    re.I,
)


def read_answer(
    answer: str, passages: tuple[str, ...], styles: Sequence[str], language: Language
) -> tuple[list[Draft], list[str]]:
    """The queries in an answer on some passages, at most as many as styles, and why others were not taken.

    Raises ValueError when the answer as a whole does not have the form or the language that was asked for.
    """
    found = find_object(answer).get("queries")
    if not isinstance(found, list):
        raise ValueError('no list "queries" in it')
    drafts: list[Draft] = []
    refused: list[str] = []
    seen: set[str] = set()
    for place, entry in enumerate(found):
        text = entry.get("text") if isinstance(entry, dict) else entry
        if not isinstance(text, str):
            raise ValueError('an entry of "queries" has no text')
        text = " ".join(text.split())
        style = entry.get("style") if isinstance(entry, dict) else None
        if style not in styles:  # endpoints that do not hold to a schema: the order is as good as the name
            style = styles[place] if place < len(styles) else None
        reason = _refusal(text, seen, language)
        if reason:
            refused.append(reason)
        elif len(drafts) == len(styles):
            refused.append("more than asked for")
        else:
            seen.add(text.casefold())
            drafts.append(Draft(text, passages, f"llm-{style if style in WHAT else 'other'}"))
    if refused and not drafts and set(refused) == {FOREIGN}:
        raise ValueError(f"its queries are {FOREIGN}")
    return drafts, refused


def _refusal(text: str, seen: set[str], language: Language) -> str:
    if len(text) < 3 or not _LETTER.search(text):
        return "empty"
    if len(text) > LONGEST_QUERY:
        return "longer than a query"
    if text.casefold() in seen:
        return "repeated"
    if points_at(text):
        return "points at the passage instead of naming the subject"
    if _ABOUT_THE_MODEL.search(text):
        return "speaks to or of a model"
    return FOREIGN if _is_foreign(text, language) else ""


def _is_foreign(text: str, language: Language) -> bool:
    """By script alone: no Chinese character on a Chinese passage, or mostly such on one in Latin letters."""
    han = len(_HAN.findall(text))
    if language == "zh":
        return han == 0
    return language == "en" and han > 0.5 * len(_LETTER.findall(text))
