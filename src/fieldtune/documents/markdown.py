"""Markdown to blocks, by way of HTML."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from fieldtune.documents.clean import tidy, title_from_name
from fieldtune.documents.dates import stated_date
from fieldtune.documents.encoding import detect_encoding
from fieldtune.documents.html import first_title, html_blocks
from fieldtune.documents.parsed import Parsed, Report
from fieldtune.documents.plain import own_title

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*\n", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title:\s*(.+?)\s*$", re.MULTILINE)
_FRONT_DATE = re.compile(r"^date:\s*(.+?)\s*$", re.MULTILINE)


def read_markdown(path: Path, source: str, report: Report) -> Iterator[Parsed]:
    """Yield one document; a YAML front matter gives its title and date and is taken off."""
    from markdown_it import MarkdownIt

    text = path.read_text(detect_encoding(path).name, errors="replace")
    front = _FRONT_MATTER.match(text)
    title = date = ""
    if front:
        named = _FRONT_TITLE.search(front.group(1))
        title = tidy(named.group(1).strip("\"'")) if named else ""
        dated = _FRONT_DATE.search(front.group(1))
        date = stated_date(dated.group(1)) if dated else ""
        text = text[front.end() :]
    html = MarkdownIt("commonmark").enable("table").enable("strikethrough").render(text)
    blocks, _ = html_blocks(html)
    title = title or own_title(blocks) or first_title(blocks) or title_from_name(source)
    yield Parsed(title, tuple(blocks), {"date": date} if date else {})
