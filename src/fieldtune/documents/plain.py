"""Plain text of any size to blocks: read line by line, so that memory stays flat."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from pathlib import Path

from fieldtune.documents.clean import is_cjk, join_lines, tidy, title_from_name
from fieldtune.documents.encoding import detect_encoding
from fieldtune.documents.headings import heading_level, looks_like_title
from fieldtune.documents.parsed import Parsed, Report, UnreadableError
from fieldtune.types import Block

PART_CHARACTERS = 4_000_000
"""A longer text becomes several documents of about this size, so that nobody must hold it whole."""
_MAX_PARAGRAPH = 200_000
_BULLET = re.compile(r"^\s*(?:[•◦▪●○■□◆\u2043·‣*+\uf0b7]|[-\u2013\u2014])\s+(?=\S)")
_LISTED = re.compile(r"^\s*(?:\([a-z\d]{1,4}\)|\d{1,2}\)|[a-z]\))\s+(?=\S)")
_RULE = re.compile(r"^\s*([=\-~_*#.])\1{3,}\s*$")
_SENTENCE_END = re.compile('[.!?:;。！？：；…"”’)）】]$')


def read_plain(path: Path, source: str, report: Report) -> Iterator[Parsed]:
    """Yield one document, or several parts of about PART_CHARACTERS for a long file.

    Raises UnreadableError for a file that is binary data.
    """
    encoding = detect_encoding(path)
    if encoding.invalid:
        report.notes.append(f"{encoding.invalid} bytes are not valid {encoding.name} and were read as U+FFFD")
    with path.open(encoding=encoding.name, errors="replace", newline=None) as stream:
        head = list(islice(_bounded(stream), 400))
        if sum(line.count("\x00") for line in head) > 8:
            raise UnreadableError("binary data, not text", "convert it, or give the file its true ending")
        wrapped = is_wrapped(head)

        def lines() -> Iterator[str]:
            yield from head
            yield from _bounded(stream)

        yield from _parts(text_blocks(lines(), wrapped=wrapped), title_from_name(source))


def _bounded(stream: Iterable[str]) -> Iterator[str]:
    """Lines, with a line of many megabytes cut into pieces: text without any line break must not fill the memory."""
    read = getattr(stream, "readline")  # noqa: B009 - a text stream; Iterable keeps tests simple
    while line := read(_MAX_PARAGRAPH):
        yield line


def _parts(blocks: Iterator[Block], title: str) -> Iterator[Parsed]:
    held: list[Block] = []
    size = part = 0
    for block in blocks:
        if size > PART_CHARACTERS and (block.kind == "heading" or size > 1.25 * PART_CHARACTERS):
            part += 1
            yield _part(held, title, part)
            held, size = [], 0
        held.append(block)
        size += len(block.text)
    if held:
        yield _part(held, title, part + 1 if part else 0)


def _part(blocks: list[Block], title: str, part: int) -> Parsed:
    name = own_title(blocks) if part <= 1 else ""
    return Parsed(
        (name or title) if part == 0 else f"{title} (part {part})", tuple(blocks), {"part": part} if part else {}
    )


def own_title(blocks: list[Block]) -> str:
    """The document's first heading, where it comes at the very top and above all others; else ""."""
    if blocks and blocks[0].kind == "heading" and len(blocks[0].text) <= 150:
        others = [block.level or 9 for block in blocks[1:] if block.kind == "heading"]
        if (blocks[0].level or 9) <= min(others, default=9) and (heading_level(blocks[0].text) is None or not others):
            return blocks[0].text
    return ""


def is_wrapped(lines: list[str]) -> bool:
    """Whether single line breaks lie inside paragraphs (hard-wrapped text) rather than between them."""
    full = [line.rstrip() for line in lines]
    inner = [a for a, b in pairwise(full) if a.strip() and b.strip()]
    if len(inner) < 4:
        return False
    widths = sorted(_width(line) for line in inner)
    long = widths[int(0.9 * (len(widths) - 1))]
    if not 40 <= long <= 132:
        return False
    filled = [line for line in inner if _width(line) > 0.7 * long]
    broken = sum(1 for line in filled if not _SENTENCE_END.search(line))
    return len(filled) > 0.4 * len(inner) and broken > 0.5 * len(filled)


def _width(line: str) -> int:
    return sum(2 if is_cjk(character) else 1 for character in line[:200])


def text_blocks(lines: Iterable[str], *, wrapped: bool, page: int | None = None) -> Iterator[Block]:
    """Paragraphs, list items and headings (by numbering, capitals or underlining) from lines of text."""
    held: list[str] = []
    size = 0
    kind_of_held: str = "paragraph"

    def flush() -> Iterator[Block]:
        nonlocal held, size, kind_of_held
        lines_, held, size = held, [], 0
        text = join_lines(lines_)
        is_list, kind_of_held = kind_of_held == "list_item", "paragraph"
        if not text:
            return
        level = None if is_list else heading_of(lines_)
        if level is not None:
            yield Block("heading", text, level, page)
        else:
            yield Block("list_item" if is_list else "paragraph", text, None, page)

    for raw in lines:
        line = raw.replace("\f", " ").strip("\r\n")
        if not line.strip(" \t\u3000\u00a0"):
            yield from flush()
            continue
        if _RULE.match(line):
            if len(held) == 1 and line.strip()[0] in "=-~" and len(tidy(held[0])) <= 120:
                yield Block("heading", tidy(held[0]), 1 if line.strip()[0] == "=" else 2, page)
                held, size = [], 0
            else:
                yield from flush()
            continue
        starts_item = _BULLET.match(line) or _LISTED.match(line)
        stands_alone = heading_level(tidy(line)) is not None
        if starts_item or stands_alone or not wrapped or size > _MAX_PARAGRAPH:
            yield from flush()
        if starts_item:
            kind_of_held = "list_item"
            line = _BULLET.sub("", line)
        held.append(line)
        size += len(line)
        if stands_alone and not starts_item:
            yield from flush()
    yield from flush()


def heading_of(lines: list[str]) -> int | None:
    """The level of a heading that plain text can show: numbering, or one short line all in capitals."""
    text = tidy(" ".join(lines))
    level = heading_level(text)
    if level is not None or len(lines) > 1 or len(text) > 160 or text[-1] in ".;,":
        return level
    letters = [character for character in text if character.isalpha()]
    capitals = len(letters) >= 4 and all(character.isupper() for character in letters if character.isascii())
    ascii_letters = [character for character in letters if character.isascii()]
    if capitals and len(ascii_letters) == len(letters) and looks_like_title(text, most=12) and text[-1] not in ".;,":
        return 2
    return None
