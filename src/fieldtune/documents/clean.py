"""Text as people wrote it: without soft hyphens, line-break hyphens and stray white space; nothing else goes."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

# Zero-width characters, byte order marks, and the mark that PDFium sets for a hyphen it takes as soft.
_INVISIBLE = re.compile("[\u200b\u200c\u200d\u2060\ufeff\ufffe\u0000-\u0008\u000e-\u001f]")
_SOFT_HYPHEN = re.compile("[\u00ad\u0002\ufffe]\\s*\n\\s*")
# A lower-case letter on both sides: "Defen-\ndant"; not "10-\n12", "COVID-\n19", "Anglo-\nAmerican".
_LINE_HYPHEN = re.compile(r"(?<=[^\W\d_]{2})[-\u2010]\n(?=[a-z\u00df-\u00ff]{2})")
_OTHER_HYPHEN = re.compile(r"(?<=\w)[-\u2010]\n(?=\w)")  # "10-\nK": the hyphen is the word's own
_SPACE = re.compile("[ \t\r\f\v\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+")
_CJK = "\u2e80-\u2fff\u3001-\u303f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff01-\uff60"
_CJK_LINE = re.compile(f"(?<=[{_CJK}\u201d\u2019])\n(?=[{_CJK}\u201c\u2018])")
_CJK_ONE = re.compile(f"[{_CJK}]")
# Words that keep their hyphen at a line's end, since the first half is a prefix of compounds: "self-\nemployed".
_KEEPS_HYPHEN = re.compile(
    r"(?i)(?<![^\W_])(self|non|anti|cross|long|short|third|first|second|year|quarter|co|ex|well|so|mid|high|low|full|"
    r"part|real|cost|tax|risk|market|interest|asset|performance|time|share|right|off|on|in|on-the|fixed|floating|"
    r"available|held|over|one|two|three|four|five|six|ten|day|month|company|debt|investment|cash|fair|state)$"
)


def is_cjk(character: str) -> bool:
    return _CJK_ONE.match(character) is not None


def join_lines(lines: list[str], known: frozenset[str] = frozenset()) -> str:
    """One paragraph out of its lines: hyphenated words joined, Chinese lines without a space between.

    `known` are the document's words in lower case: a hyphen at a line's end stays where the hyphenated form occurs
    elsewhere in the document, and goes where the joined form does.
    """
    return tidy(dehyphenate("\n".join(line.strip() for line in lines), known))


def dehyphenate(text: str, known: frozenset[str] = frozenset()) -> str:
    """Join words that a line break cut: "Defen-\\ndant" becomes "Defendant", "self-\\nemployed" keeps its hyphen."""
    if "\n" not in text:
        return text
    text = _SOFT_HYPHEN.sub("", text)

    def join(match: re.Match[str]) -> str:
        before = re.search(r"[\w-]+$", text[: match.start()])
        after = re.match(r"[\w-]+", text[match.end() :])
        first, second = (before.group() if before else "").lower(), (after.group() if after else "").lower()
        if first + second in known:
            return ""
        if f"{first}-{second}" in known or "-" in first or _KEEPS_HYPHEN.search(first):
            return "-"
        return ""

    return _OTHER_HYPHEN.sub("-", _LINE_HYPHEN.sub(join, text))


def tidy(text: str) -> str:
    """Single spaces, no line breaks, no invisible characters; full-width spaces between Chinese become one space."""
    if text.isascii():  # the common case, and many times as fast
        return " ".join((text if text.isprintable() else _INVISIBLE.sub("", text)).split())
    text = _INVISIBLE.sub("", text.replace("\u00ad", ""))
    text = _CJK_LINE.sub("", text)
    return _SPACE.sub(" ", text.replace("\n", " ")).strip()


def markdown_table(rows: list[list[str]]) -> str:
    """A Markdown table; the first row is the header, and short rows are filled up with empty cells.

    Returns "" when no cell holds text.
    """
    cells = [[tidy(cell).replace("|", "\\|") for cell in row] for row in rows]
    width = max((len(row) for row in cells), default=0)
    if not any(any(row) for row in cells):
        return ""
    cells = [row + [""] * (width - len(row)) for row in cells]
    used = [column for column in range(width) if any(row[column] for row in cells)]
    lines = ["| " + " | ".join(row[column] for column in used) + " |" for row in cells if any(row)]
    lines.insert(1, "| " + " | ".join("---" for _ in used) + " |")
    return "\n".join(lines)


def title_from_name(source: str) -> str:
    """The file's name as a title: "annual_report-2022.pdf" becomes "annual report-2022"."""
    name = PurePosixPath(source).name.removesuffix(".gz")
    stem = PurePosixPath(name).stem or name
    return tidy(re.sub(r"[_+\s]+", " ", stem)) or tidy(name)
