"""The date of a file, so that a search can be limited by it: as its name says it, else as its own properties do."""

from __future__ import annotations

import datetime
import re
from pathlib import PurePosixPath

_IN_NAME = (
    re.compile(r"(?<!\d)(?P<y>\d{4})(?P<mark>[-_.]?)(?P<m>\d\d)(?P=mark)(?P<d>\d\d)(?!\d)"),
    re.compile(r"(?<!\d)(?P<y>\d{4})\s*年\s*(?P<m>\d{1,2})\s*月\s*(?P<d>\d{1,2})\s*日"),
)
_STATED = re.compile(r"(?:D:)?(?P<y>\d{4})(?P<mark>[-/.]?)(?P<m>\d\d)(?P=mark)(?P<d>\d\d)")
_NO_CLOCK = ("1970-01-01", "1980-01-01")
_FIRST, _LAST = 1900, 2199
"""Years that are meant as years: other numbers of eight digits in a name are numbers."""


def date_in_name(source: str) -> str:
    """YYYY-MM-DD where the file's name holds such a date ("2023-05-01 Lease.pdf", "10-K_20230930.htm",
    "合同2023年5月1日.docx"); of several the first; else ""."""
    name = PurePosixPath(source).name
    found = sorted((match.start(), _written(match)) for form in _IN_NAME for match in form.finditer(name))
    return next((date for _, date in found if date), "")


def stated_date(text: str) -> str:
    """YYYY-MM-DD of a date as properties of files state it: ISO 8601, or PDF's D:20230501120000Z; else "".

    Days before months, or a year alone, are not guessed at; the days that clocks begin with are no dates.
    """
    match = _STATED.match(text.strip().strip("\"'"))
    date = _written(match) if match else ""
    return "" if date in _NO_CLOCK else date


def _written(match: re.Match[str]) -> str:
    try:
        date = datetime.date(int(match["y"]), int(match["m"]), int(match["d"]))
    except ValueError:
        return ""
    return date.isoformat() if _FIRST <= date.year <= _LAST else ""
