"""What a line's own numbering says it is: a part or chapter, a statute article, a contract clause, a list item."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_GAP = "[ \t\u3000\u00a0]"
_ZH = "[〇○零一二三四五六七八九十百千万两\\d]+"
_ROMAN = "(?=[IVXLC])C{0,3}(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})"
_NUMBER = rf"(?:\d+[A-Za-z]{{0,2}}(?:[.\-\u2013]\d+[A-Za-z]{{0,2}})*|{_ROMAN}(?![a-z]))(?:\(\w{{1,5}}\))*"

# 31-34 lie below headings of level 3 (rank 30) and above every article, so that they survive under any of them.
_STRUCTURE_ZH = {"编": 31, "篇": 31, "部分": 31, "分编": 32, "章": 33, "节": 34, "目": 35}
_STRUCTURE = {"title": 31, "book": 31, "part": 32, "division": 32, "chapter": 33, "subchapter": 34, "subpart": 34}
_ARTICLE_RANK = {"article": 60, "art.": 60, "rule": 60, "regulation": 60}
_SECTION_RANK = 61
_CLAUSE_RANK = 62

_PART_ZH = re.compile(f"第{_GAP}*{_ZH}{_GAP}*(分编|编|篇|部分|章|节|目)(?P<rest>.*)", re.S)
_ARTICLE_ZH = re.compile(f"第{_GAP}*{_ZH}{_GAP}*条(?:{_GAP}*之{_GAP}*{_ZH})?")
_PART_LATIN = re.compile(
    rf"(?P<word>(?i:part|title|book|division|chapter|subchapter|subpart)){_GAP}+(?:{_ROMAN}|\d{{1,3}}[A-Z]?|[A-Z])\b"
)
_ARTICLE_LATIN = re.compile(
    rf"(?P<word>(?i:article|section|rule|regulation|clause)|(?i:art|sec)\.?|§§?){_GAP}*(?P<number>{_NUMBER})"
)
_CLAUSE = re.compile(rf"(?P<number>\d{{1,2}}(?:\.\d{{1,3}}){{0,4}})(?P<dot>\.?){_GAP}+(?=\S)")
_ITEM = re.compile(
    rf"[（(](?:[一二三四五六七八九十]{{1,3}}|\d{{1,2}}|[a-z]{{1,2}}|[ivx]{{1,5}}|[A-Z])[)）]|[①-⑳]|[•●▪■◦·]"
    rf"|[一二三四五六七八九十]{{1,3}}、|\d{{1,2}}[、．)]|\d{{1,2}}\.{_GAP}|[a-z][.)]{_GAP}|[-–—*]{_GAP}"
)
_CONTENTS = re.compile(r"目 ?[录次]|(?:table of )?contents|index", re.IGNORECASE)
_REFERS = re.compile("规定|所列|所称|所指|第|的|中|和|与|至|或|及|或者|、|，|。|；|款|项|以|之|内|情形")
_CAPTION = re.compile(r"(?P<caption>[^.:\u2014\n]{2,90}?)(?:\.(?=\s|$)|:|\s?\u2014|$)")
_OPENING = re.compile("[A-Z0-9\"'“‘(\\[\u00c0-\u00de\u4e00-\u9fff§]")


@dataclass(frozen=True, slots=True)
class Label:
    """A recognised numbering at the start of a line."""

    kind: Literal["structure", "article", "clause"]
    rank: int
    """Lower is higher in the document; headings of level n have rank 10 n."""
    citation: str
    """As a reader would cite it: "第五十条之一", "Section 4.2", "4.2"."""
    caption: str
    """The title that follows the number, if any."""
    alone: bool
    """The line holds nothing but number and caption."""
    number: tuple[int, ...] = ()
    """Of a clause: (4, 2)."""

    @property
    def name(self) -> str:
        return f"{self.citation} {self.caption}" if self.caption else self.citation


def label_of(line: str) -> Label | None:
    """The numbering a line starts with, or None.

    A sentence that begins with a reference ("Section 4 of the Act applies", 第五十条规定的) has none. A clause number
    ("4.2") is only a candidate: whether a document is numbered that way shows in the sequence (see `sections`).
    """
    line = line.strip(" \t\u3000\u00a0\n")
    if not line:
        return None
    if line[0] == "第":
        return _chinese(line)
    return _clause(line) if line[0].isdigit() else _latin(line)


def starts_item(line: str) -> bool:
    """Whether the line starts with the marker of a list item: （一）, (a), ①, 1、, a bullet."""
    return _ITEM.match(line) is not None


def is_contents_heading(line: str) -> bool:
    """Whether a heading announces a table of contents."""
    return _CONTENTS.fullmatch(squeeze(line)) is not None


def squeeze(text: str) -> str:
    """White space runs as one blank, ends cut."""
    return " ".join(text.split())


def _chinese(line: str) -> Label | None:
    match = _ARTICLE_ZH.match(line)
    if match:
        rest = line[match.end() :]
        bare = rest.strip(" \t\u3000\u00a0")
        parted = not bare or rest[0] in " \t\u3000\u00a0\n【（([:："
        if not parted and _REFERS.match(rest):
            return None
        titled = re.match(r"[【（(\[]([^】）)\]\n]{1,30})[】）)\]]", bare)
        alone = len(bare) <= 25 and not re.search("[。；，！？]|[：:]$", bare)
        caption = titled[1] if titled else (bare.strip("：: ") if alone else "")
        return Label("article", 60, re.sub(r"\s", "", match[0]), squeeze(caption), alone)
    match = _PART_ZH.match(line)
    if match:
        rest = match["rest"]
        bare = rest.strip(" \t\u3000\u00a0")
        short = len(bare) <= 40 and not re.search("[。；，！？：\n]", bare)
        if short and (not bare or rest[0] in " \t\u3000\u00a0" or not _REFERS.match(bare)):
            citation = re.sub(r"\s", "", line[: match.start("rest")])
            return Label("structure", _STRUCTURE_ZH[match[1]], citation, _without_leader(bare), True)
    return None


def _latin(line: str) -> Label | None:
    match = _ARTICLE_LATIN.match(line)
    if match:
        rest = line[match.end() :]
        after = rest.lstrip(" \t\u3000\u00a0.:)\u2013\u2014-")
        begins_text = rest[:1] in ("", ".", ":", " ", "\t", "\u3000", "\u00a0", "\u2014", "\u2013", "\n")
        if not begins_text or (after and not _OPENING.match(after)):
            return None
        word = match["word"]
        rank = _ARTICLE_RANK.get(word.lower().rstrip("."), _ARTICLE_RANK.get(word.lower(), _SECTION_RANK))
        caption, alone = _captioned(after)
        gap = " " if line[len(word) : len(word) + 1].isspace() else ""
        return Label("article", rank, f"{word}{gap}{match['number']}", caption, alone)
    match = _PART_LATIN.match(line)
    if match:
        rest = line[match.end() :].lstrip(" \t\u00a0.:\u2013\u2014-")
        caption, alone = _captioned(rest)
        if alone and (rest[:1] in ("", "(", "[") or rest[:1].isupper()) and not line.rstrip().endswith((".", ";", ",")):
            return Label("structure", _STRUCTURE[match["word"].lower()], squeeze(match[0]), caption, True)
    return None


def _clause(line: str) -> Label | None:
    match = _CLAUSE.match(line)
    if not match:
        return None
    number = tuple(map(int, match["number"].split(".")))
    after = line[match.end() :]
    if not _OPENING.match(after) or after[0].isdigit() or (len(number) == 1 and not match["dot"]):
        return None
    caption, alone = _captioned(after)
    return Label("clause", _CLAUSE_RANK + len(number) - 1, match["number"], caption, alone, number)


def _captioned(text: str) -> tuple[str, bool]:
    """The caption a clause's text opens with, and whether there is nothing else."""
    bare = _without_leader(squeeze(text))
    match = _CAPTION.match(bare)
    if not bare or not match:
        return "", not bare
    caption = match["caption"].strip()
    alone = match.end() >= len(bare)
    words = caption.split()
    if alone and not bare.endswith(".") and (len(words) <= 14 or caption.isupper()):
        return caption, True
    # "Termination. Either party may ..." has a caption; "The State protects property." is the text itself.
    weighty = [word for word in words if len(word) > 3 and word[0].isalpha()] or words
    titled = len(words) <= 10 and all(word[0].isupper() or not word[0].isalpha() for word in weighty)
    return (caption, alone) if titled else ("", False)


def _without_leader(text: str) -> str:
    """Without a table of contents' dots and page number at the end."""
    return re.sub(r"\s*(?:\.{3,}|…+|·{3,}|(?:\. ){3,})\s*\d{0,4}$", "", text)
