"""Questions after a figure in a table: the label of its row and the year of its column."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fieldtune.queries.wording import Language

_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")
_FOOTNOTE = re.compile(r"\s*[(（](?:[\da-z]{1,2}|\*+)[)）]$|[*†‡:：]+$")


def table_questions(text: str, document: str, language: Language) -> Iterator[str]:
    """One question for each row that has a telling label and a figure under a year, in order."""
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in text.split("\n")
        if line.lstrip().startswith("|") and not re.fullmatch(r"[\s|:-]+", line)
    ]
    years: list[str] = []
    for cells in rows:
        found = [_YEAR.search(cell) for cell in cells]
        if len([match for match in found if match]) >= 1 and not cells[0]:
            years = [match[0] if match else "" for match in found]
            continue
        label = _FOOTNOTE.sub("", cells[0])
        column = next((n for n, year in enumerate(years) if year and n < len(cells) and re.search(r"\d", cells[n])), 0)
        long = len(label) if language == "zh" else 3 * len(label.split())
        if column and 6 <= long <= 30 and not re.search(r"\d{3}", label) and label.lower() != "total":
            yield _question(label, years[column], document, language)


def _question(label: str, year: str, document: str, language: Language) -> str:
    if language == "zh":
        return f"{document}{year}年{label}是多少？"
    name = label if label[1:2].isupper() else label[0].lower() + label[1:]
    return f"What was the {name} in {year}" + (f" ({document})?" if document else "?")
