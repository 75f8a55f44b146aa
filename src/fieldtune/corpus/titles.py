"""The title of a passage: the document's title and the way down to the passage."""

from __future__ import annotations

import re

from fieldtune.corpus.outline import squeeze
from fieldtune.corpus.sections import Section

_LONGEST_TITLE = 200
_LONGEST_HEADING = 120
_CJK = re.compile("[\u3400-\u9fff]")


def titles(document_title: str, section: Section) -> list[str]:
    """Titles from the fullest to the shortest, for the case that a title would leave no room for the text.

    Articles are written as they are cited, with what stands above them in brackets: "中华人民共和国民法典 第五十条
    （第二章 自然人）", "Banking Act Section 12 Capital (Part II Supervision)". Everything else is a path: "ACME 2022
    10-K > Item 7 > Liquidity", and so are clauses known by a bare number: "Lease > 4 Rent > 4.2 Late payment".
    """
    head = _shortened(squeeze(document_title), _LONGEST_TITLE)
    path = [_shortened(name, _LONGEST_HEADING) for name in section.path]
    cited = _shortened(section.citation, _LONGEST_HEADING)
    if section.citation and not section.citation[0].isdigit():
        short = f"{head} {cited}".strip()
        full = short
        if path:
            above = " > ".join(path)
            full = f"{short}（{above}）" if _CJK.search(short) else f"{short} ({above})"
        return [full, short, cited]
    names = [name for name in (head, *path, cited) if name]
    return [" > ".join(names), " > ".join([*names[:1], *names[1:][-1:]]), names[-1] if names else ""]


def _shortened(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    cut = text[: most - 1]
    space = cut.rfind(" ")
    return (cut[:space] if space > most // 2 else cut).rstrip() + "…"
