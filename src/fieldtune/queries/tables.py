"""Questions after a figure in a table, and what tables and numbered notes call themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fieldtune.queries.wording import Language, lower_first

_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")
_FOOTNOTE = re.compile(r"\s*[(（](?:[\da-z]{1,2}|\*+)[)）]$|(?<=[a-z])\d$|[*†‡:：]+$")
_UNTOLD = re.compile(
    r"\bquarter\b|^(?:less|add|plus)\b|^\w+ed\b(?! )|^(?:expired|granted|vested|forfeited|released|exercised)\b"
    r"|^(?:total|subtotal|other|others|net|balance|amount|合计|总计|小计|其他|其中)$|\d{3}",
    re.I,
)
_RULER = re.compile(r"[\s|:-]+")
_SETS_OUT = re.compile(
    r"\b(?:[Tt]he )?(?:following|below) (?:table|schedule|chart)s? (?:below )?"
    r"(?:sets? (?:forth|out)|shows?|summarizes?|summarises?|presents?|provides?|details?|reflects?|lists?|reconciles?|"
    r"contains?|includes?|discloses?|represents?|illustrates?|analyses?)\s+(.{12,160}?)"
    r"(?=\s*[(:;]|\.\s|\.$|"
    r", (?:which|and the)|\s(?:as of|for the|at|during|included in|recorded in|in our|were as follows)\b|$)"
)
_AS_FOLLOWS = re.compile(
    r"(?:^|(?<=[.\n] ))(?:[Tt]he )?(?:components? of |details? of |composition of |reconciliation of )?"
    r"([A-Za-z][^.;:\n]{10,120}?) (?:is|are|was|were|consists?|consisted|comprises?|comprised) "
    r"(?:summari[sz]ed |presented |shown |set out |analy[sz]ed )?"
    r"(?:as follows|of the following|shown below|in the (?:following )?table)"
)
_LABELLED = re.compile(
    r"^(?:table|exhibit|figure|note|表|附表|附注)\s*[\dIVX一二三四五六七八九十]+(?:[.\-－][\dA-Z]+)*\s*[.:：—–-]*\s*"
    r"(\S.{5,90})$",
    re.I,
)
_NUMBERED = re.compile(r"^\d{1,2}(?:\.\d{1,2}){0,2}\.?\s+([A-Z][^.|]{5,70})$")
_HAN_TABLE = re.compile(r"(?:下表|如下表|附表)(?:列示|列出|显示|为|是|汇总|所示)了?(?:的?是)?([^，。；：\n]{4,40})")


def table_questions(text: str, document: str, language: Language, turn: int = 0) -> Iterator[str]:
    """One question for each row that has a telling label and a figure under a year, in order; `turn` varies them."""
    years: list[str] = []
    for number, cells in enumerate(_rows(text)):
        found = [_YEAR.search(cell) for cell in cells]
        if any(found[1:]) and not any(re.search(r"\d", _YEAR.sub("", cell)) for cell in cells[1:] if "," in cell):
            years = ["", *(match[0] if match else "" for match in found[1:])]
            continue
        label = _FOOTNOTE.sub("", cells[0]).strip()
        told = [n for n, year in enumerate(years) if year and n < len(cells) and re.search(r"\d", cells[n])]
        long = len(label) if language == "zh" else 3 * len(label.split())
        # A label of names alone (a region, a customer) does not say what was counted.
        counted = language == "zh" or re.search(r"\b[a-z]{3,}|[A-Z]{4,}", label) is not None
        if told and counted and 6 <= long <= 30 and not _UNTOLD.search(label):
            columns = list(dict.fromkeys(years[n] for n in told))
            yield _question(label, columns, document, language, turn + number)


def table_captions(text: str, language: Language) -> Iterator[str]:
    """What the text calls its tables and notes, worded as a query: "stock-based compensation expense"."""
    if not any(line.lstrip().startswith("|") for line in text.split("\n")):
        return
    for line in text.split("\n"):
        line = line.strip()
        if not line or line.startswith("|"):
            continue
        if language == "zh":
            named = _LABELLED.match(line) or _HAN_TABLE.search(line)
        else:
            named = _LABELLED.match(line) or _NUMBERED.match(line) or _SETS_OUT.search(line) or _AS_FOLLOWS.search(line)
        if named:
            caption = re.sub(
                r"^(?:an? |the |our |this |these |its |representing |represents |"
                r"information (?:about|on|regarding) |certain )+",
                "",
                named[1],
                flags=re.I,
            )
            caption = re.sub(r"\s*\((?:in|dollars|amounts|continued|unaudited)\b[^)]*\)?", "", caption, flags=re.I)
            caption = caption.strip(" .,:;–—-")
            words = len(caption) / 2 if language == "zh" else len(caption.split())
            if 2 <= words <= 20 and not caption.endswith((" is", " are", " was", " were")):
                yield caption.lower() if caption.isupper() and words > 2 else caption


def _rows(text: str) -> Iterator[list[str]]:
    for line in text.split("\n"):
        if line.lstrip().startswith("|") and not _RULER.fullmatch(line):
            yield [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]


def _question(label: str, years: list[str], document: str, language: Language, turn: int) -> str:
    """After the figure of one year, or the change between two, in the ways that people ask for them."""
    last, first = max(years), min(years)
    year = years[turn % len(years)]
    if language == "zh":
        if first != last and turn % 3 == 2:
            return f"{document}{label}{last}年比{first}年变化了多少？"
        return f"{document}{year}年{label}是多少？"
    name = lower_first(label)
    where = f" ({document})?" if document else "?"
    head = re.split(r" (?:of|in|from|for|used|by|under|per|on|to|with|at)\b|,|\(", name)[0].rstrip()
    plural = head.endswith("s") and head[-2:-1].islower() and not head.endswith(("ss", "us", "is"))
    ways = (
        f"What {'were' if plural else 'was'} the {name} in {year}",
        f"What {'are' if plural else 'is'} the {name} for {year}",
        f"How much {'were' if plural else 'was'} {name} in {year}",
        f"What was the change in {name} between {first} and {last}" if first != last else f"{name} in {year}",
        f"What was the percentage change in {name} from {first} to {last}" if first != last else f"{name} {year}",
    )
    return ways[turn % len(ways)] + where
