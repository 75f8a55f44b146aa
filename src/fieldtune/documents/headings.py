"""Which line of plain text is a heading, by its legal or business numbering, and of what level."""

from __future__ import annotations

import re

_NUMBER_ZH = "[〇零一二三四五六七八九十百千万两\\d]+"
_SPACED = "[ \u3000\u00a0]*"

# Levels: 1 part, book, annex; 2 chapter, item; 3 section of a chapter, article; 4 and below, what is inside those.
_CHINESE: tuple[tuple[re.Pattern[str], int], ...] = tuple(
    (re.compile(f"第{_SPACED}{_NUMBER_ZH}{_SPACED}{unit}"), level)
    for unit, level in (("分编", 2), ("[编篇]", 1), ("部分", 1), ("章", 2), ("节", 3), ("目", 4))
)
_ARTICLE_ZH = re.compile(
    f"第{_SPACED}{_NUMBER_ZH}{_SPACED}条(?:之{_NUMBER_ZH})?{_SPACED}(?:[【（(\\[][^】）)\\]]{{1,30}}[】）)\\]])?$"
)
_LISTED_ZH = re.compile("[一二三四五六七八九十]{1,3}、")
_LISTED_ZH_DEEP = re.compile("[（(][一二三四五六七八九十]{1,3}[)）]")
_ALONE_ZH = re.compile(
    f"(?:附{_SPACED}[则录件表]|前{_SPACED}言|序{_SPACED}言|目{_SPACED}录|总{_SPACED}则){_SPACED}(?:{_NUMBER_ZH})?$"
)
_SENTENCE_ZH = re.compile("[。；，！？：]")

_ROMAN = "(?=[IVXLC])(?:C{0,3}(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3}))"
_LATIN: tuple[tuple[re.Pattern[str], int], ...] = (
    (re.compile(rf"(?:PART|Part|TITLE|Title|BOOK|Book|DIVISION|Division)\s+(?:{_ROMAN}|\d{{1,3}}|[A-Z])\b"), 1),
    (
        re.compile(
            rf"(?:ANNEX|Annex|APPENDIX|Appendix|SCHEDULE|Schedule|EXHIBIT|Exhibit)(?:\s+(?:{_ROMAN}|[A-Z]?[\d.]+|[A-Z]))?\b"
        ),
        1,
    ),
    (re.compile(rf"(?:CHAPTER|Chapter)\s+(?:{_ROMAN}|\d{{1,3}}[A-Z]?)\b"), 2),
    (re.compile(r"(?:ITEM|Item)\s+\d{1,2}[A-C]?\b"), 2),
    (re.compile(rf"(?:SUBCHAPTER|Subchapter)\s+(?:{_ROMAN}|\d+|[A-Z])\b"), 3),
    (re.compile(rf"(?:ARTICLE|Article|Art\.)\s+(?:{_ROMAN}|\d+[a-z]?(?:[.-]\d+)*)\b"), 3),
    (re.compile(r"(?:NOTE|Note)\s+\d{1,2}\b"), 3),
    (
        re.compile(
            r"(?:SECTION|Section|SEC\.|Sec\.|§§?|RULE|Rule|CLAUSE|Clause|REGULATION|Regulation)\s*\d+[A-Za-z]?(?:[.\-\u2013]\d+[a-z]?)*(?:\([\w]+\))*"
        ),
        4,
    ),
)
_NUMBERED = re.compile(r"(\d{1,2}(?:\.\d{1,2}){0,3})(?P<dot>\.?)\s+(?=\S)")
_ROMAN_NUMBERED = re.compile(rf"{_ROMAN}\.\s+(?=[A-Z])")
# Most lines are no headings: one look at the first word spares them the rest.
_MAY_BE = re.compile(
    r"(?i:part|title|book|division|annex|appendix|schedule|exhibit|chapter|item|subchapter|article|art\b|note|section|"
    r"sec\b|rule|clause|regulation)\b|§|\d|[IVXLC]+\."
)
_VERB = re.compile(r"\b(?:shall|must|may|will|is|are|was|were|has|have|means|applies|provides|does|do)\b|[,;:]$")
_SMALL = frozenset(
    [
        "a",
        "an",
        "and",
        "as",
        "at",
        "by",
        "for",
        "from",
        "in",
        "into",
        "of",
        "on",
        "or",
        "per",
        "the",
        "to",
        "under",
        "upon",
        "with",
        "within",
    ]
)


def heading_level(line: str) -> int | None:
    """The level (1 is the highest) if a line standing alone is a heading by its numbering, else None.

    An article number followed by the article's text (第五十条 …, § 12 Whoever …) is a paragraph, not a heading.
    """
    line = line.strip(" \t\u3000\u00a0")
    if not line or len(line) > 160:
        return None
    return _chinese(line) if line[0] in "第附前序目总（(" or _LISTED_ZH.match(line) else _latin(line)


def numbered_by(line: str) -> bool:
    """Whether the numbering itself names the unit (PART, Item, 第…章), so that it outranks what fonts say."""
    line = line.strip(" \t\u3000\u00a0")
    return any(pattern.match(line) for pattern, _ in (*_CHINESE, *_LATIN)) or _ARTICLE_ZH.fullmatch(line) is not None


def looks_like_title(text: str, *, most: int = 14) -> bool:
    """Whether words read as a title: few, begun with a capital, digit or bracket, and not a sentence."""
    text = text.strip(" .:\u2013\u2014-\u3000")
    words = text.split()
    if not words:
        return True
    if len(words) > most or re.search(r"[;,]$|[.?!]\s+[A-Z]", text):
        return False
    if not re.match(r"[A-Z\d\"'\u201c\u2018(\[\u00c0-\u00de\u4e00-\u9fff]", words[0]):
        return False
    if len(words) <= 3:
        return True
    weighty = [word for word in words if word.strip("(\"'\u201c\u201d),").lower() not in _SMALL]
    capital = sum(1 for word in weighty if re.match(r"[\"'\u201c(]*[A-Z\d&]", word))
    return capital >= 0.6 * len(weighty)


def _chinese(line: str) -> int | None:
    for pattern, level in _CHINESE:
        match = pattern.match(line)
        if match:
            rest = line[match.end() :]
            bare = rest.strip(" \u3000\u00a0")
            # "第二章所称……" refers to the chapter; a heading sets its title off by a space, or has none.
            short = len(bare) <= 30 and not _SENTENCE_ZH.search(bare)
            parted = not bare or rest[0] in " \u3000\u00a0" or not re.match("[的所规中内和与及、]", bare)
            return level if short and parted else None
    if _ARTICLE_ZH.fullmatch(line):
        return 4
    if _ALONE_ZH.fullmatch(line):
        return 2
    if _LISTED_ZH.match(line) and len(line) <= 30 and not _SENTENCE_ZH.search(line):
        return 3
    if _LISTED_ZH_DEEP.match(line) and len(line) <= 24 and not _SENTENCE_ZH.search(line):
        return 4
    return None


def _latin(line: str) -> int | None:
    if not _MAY_BE.match(line):
        return None
    for pattern, level in _LATIN:
        match = pattern.match(line)
        if match:
            rest = line[match.end() :]
            if rest[:1] and (rest[0].isalnum() or rest[0] in ",;"):
                return None
            # A title may close with a full stop, a sentence of running text may not pass for one.
            rest = rest.lstrip(" .:)\u2013\u2014-\t\u3000")
            words = rest.split()
            named = len(words) <= 12 and rest[:1].isupper() and not rest.endswith(".") and not _VERB.search(rest)
            # The names of a filing's items are long, and close with a full stop: "Item 5. Market for …."
            most, stopped = (30, 30) if level <= 2 else (14, 8)
            title = looks_like_title(rest, most=most) and not (rest.endswith(".") and len(words) > stopped)
            return level if title or named else None
    match = _NUMBERED.match(line)
    if match:
        depth = match.group(1).count(".")
        rest = line[match.end() :]
        plain = not match.group("dot") and depth == 0  # "12 Months" is no heading, "12. Term" is
        if plain or rest[-1] in ".;,:" or not rest[0].isalpha() or len(rest) > 80:
            return None
        return 3 + depth if looks_like_title(rest, most=10) else None
    match = _ROMAN_NUMBERED.match(line)
    if match and line[-1] not in ".;,:" and looks_like_title(line[match.end() :], most=10):
        return 2
    return None
