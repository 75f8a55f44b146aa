"""What a made query must be to stay: in its passage's language, of a query's length, no copy, and about a subject.

Each check is a function of one query and the passages that answer it, and returns why the query goes, or "".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import regex

from fieldtune.queries.tongues import tongue
from fieldtune.queries.wording import language_of
from fieldtune.types import Passage, Query

_POINTING_LATIN = re.compile(
    r"\b(?:this|the (?:above|given|provided|following|present|preceding)|according to the|in the|of the|by the|"
    r"does the|above|provided|given)"
    r" (?:passage|text|excerpt|paragraph|snippet|context|extract|article above|document above|table above)\b"
    r"|\bthis (?:document|article|section|page|filing|table|clause|provision|report)\b"
    r"|\b(?:mentioned|described|stated|discussed|listed|shown|quoted) (?:above|below|here)\b|\bthe author\b"
    r"|\b(?:both|two|these|either|each of the|the) (?:passages|excerpts|snippets|text (?:passages|excerpts))\b"
    r"|\b(?:both|these|the two) (?:texts|paragraphs)\b|\bthe (?:passage|excerpt|snippet)\b(?! of)",
    re.I,
)
_POINTING_HAN = re.compile(
    r"(?:上述|前述|上面的?|以上的?|下列|这段|这条|该段|此段|本段|这篇|该篇|给定的?|所给的?)"
    r"(?:条文|法条|条款|规定|文本|内容|段落|文字|材料|表格?|话|文章|情形|法律|资料)"
    r"|(?:这?两[段篇]|这两[条个]|上述两[条个])(?:文本|段落|文字|材料|条文|规定|内容|话|文章)"
    r"|(?<!日)本文(?![化件书])|(?<![中英外语原图论作公条译判诗散])文中|(?<!以)上文(?!件)|(?<![一二三四五六七八九十百千零])本条(?![例件款约])|前款|前条"
    r"|(?:根据|依据|按照|依照)(?:该|本|此|这)(?:条|款|段|文|规定)"
)
# Long enough that neither 1,000,000,000 nor a form's dots between two words are one.
_LOOP = re.compile(r"(.{5,80}?)\1\1", re.S)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_UNITS = regex.compile(r"\p{Han}|[\p{L}\p{M}\p{N}]+(?:['’.,-][\p{L}\p{N}]+)*")
_LETTER = regex.compile(r"\p{L}")
_LONGEST = {"zh": 160, "en": 90, "other": 90}
"""Characters or words; a case told in two sentences still fits."""
_RUN = 8
"""A run of fewer words (Chinese: twice as many characters) is a name or a turn of speech, not a copy."""


def wrong_language(query: Query, passages: Sequence[Passage]) -> str:
    """A query in another script or language than all of its passages; names and figures alone are of none."""
    asked = language_of(query.text)
    if len(_LETTER.findall(query.text)) < 12 and asked != "zh":
        return ""
    told = {language_of(passage.content) for passage in passages}
    if asked not in told:
        return f"is {asked}, its passage {'/'.join(sorted(told))}"
    spoken = tongue(query.text)
    heard = {tongue(passage.content) for passage in passages}
    return f"is {spoken}, its passage {'/'.join(sorted(heard))}" if spoken and not heard & {"", spoken} else ""


def wrong_length(query: Query, passages: Sequence[Passage]) -> str:
    language = language_of(query.text)
    size = len(_UNITS.findall(query.text))
    if size < 2 and not (size == 1 and language != "zh" and len(query.text.strip()) > 2):
        return "too short to ask for anything"
    if size > _LONGEST[language] or len(query.text) > 600:
        return f"longer than a query ({size} words)"
    return ""


def looping(query: Query, passages: Sequence[Passage]) -> str:
    """A small model that lost its thread says one run of characters over and over."""
    found = _LOOP.search(query.text.casefold() + " ")
    return f"says {found[1].strip()!r} over and over" if found else ""


def pointing(query: Query, passages: Sequence[Passage]) -> str:
    """Who asks does not see the passage: "this article" and 上述条文 mean nothing to a search engine."""
    found = points_at(query.text)
    return f"points at the passage: {found!r}" if found else ""


def points_at(text: str) -> str:
    """The words by which a text points at a passage that its reader would have to see; "" where it does not."""
    found = _POINTING_LATIN.search(text) or _POINTING_HAN.search(text)
    return found[0] if found else ""


def copied(query: Query, passages: Sequence[Passage], share: float) -> str:
    """One run of words that stands in the passage's text and is more than `share` of the query."""
    asked = _units(query.text)
    least = _RUN * (2 if language_of(query.text) == "zh" else 1)
    if len(asked) < least:
        return ""
    for passage in passages:
        length = longest_run(asked, _units(passage.text))
        if length >= least and length > share * len(asked):
            return f"copies {length} of its {len(asked)} words in one run"
    return ""


def longest_run(asked: Sequence[str], told: Sequence[str]) -> int:
    """Length of the longest run of words that both hold."""
    places: dict[str, list[int]] = {}
    for place, word in enumerate(told):
        places.setdefault(word, []).append(place)
    best = 0
    before: dict[int, int] = {}
    for word in asked:
        now = {place: before.get(place - 1, 0) + 1 for place in places.get(word, ())}
        best = max(best, max(now.values(), default=0))
        before = now
    return best


def terms(text: str) -> frozenset[str]:
    """The words of a query; figures are marked, so that queries that differ in one are never alike."""
    return frozenset(_units(text))


def figures(text: str) -> frozenset[str]:
    return frozenset(_NUMBER.findall(text))


def _units(text: str) -> list[str]:
    return [unit.casefold() for unit in _UNITS.findall(text)]
