"""HTML to blocks; Word and Markdown files come through here too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fieldtune.documents.clean import markdown_table, tidy, title_from_name
from fieldtune.documents.dates import stated_date
from fieldtune.documents.encoding import detect_encoding
from fieldtune.documents.headings import heading_level
from fieldtune.documents.parsed import Parsed, Report
from fieldtune.documents.plain import own_title
from fieldtune.types import Block, BlockKind

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

_SKIPPED = frozenset(
    [
        "script",
        "style",
        "noscript",
        "template",
        "svg",
        "nav",
        "head",
        "iframe",
        "object",
        "button",
        "select",
        "input",
        "textarea",
        "form-control",
    ]
)
_BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "center",
        "dd",
        "details",
        "dialog",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "html",
        "li",
        "main",
        "ol",
        "p",
        "pre",
        "section",
        "summary",
        "table",
        "ul",
    ]
)
_CHARSET = re.compile(rb"""charset\s*=\s*["']?\s*([\w-]+)""", re.IGNORECASE)
_DATES = (
    "article:published_time", "datepublished", "date", "dc.date", "dc.date.issued", "dcterms.date", "dcterms.issued",
    "citation_publication_date", "pubdate", "publishdate", "article:modified_time", "dcterms.modified",
)  # fmt: skip
"""Names of <meta> that hold a date, the first that is there counts."""
_HEAD = 200_000
"""Characters in which they stand; a filing has many millions."""
_FOOTNOTE = re.compile(r"(?i)\b(foot|end)-?notes?\b|^_?ftn")


@dataclass(slots=True)
class _Open:
    """The block that text is being gathered for."""

    kind: BlockKind
    level: int | None
    parts: list[str]


def read_html(path: Path, source: str, report: Report) -> Iterator[Parsed]:
    """Yield the page as one document; its title is <title>, else the first heading, else the file's name."""
    data = path.read_bytes()
    declared = _CHARSET.search(data[:4096])
    encoding = detect_encoding(path)
    name = encoding.name
    if declared and name in ("cp1252",):  # the bytes do not tell; the author may
        name = declared.group(1).decode("ascii")
    try:
        text = data.decode(name, "replace")
    except LookupError:
        text = data.decode("cp1252", "replace")
    blocks, title = html_blocks(text)
    title = title or own_title(blocks) or first_title(blocks) or title_from_name(source)
    date = page_date(text)
    yield Parsed(title, tuple(blocks), {"date": date} if date else {})


def page_date(text: str) -> str:
    """When a page says in its <meta> that it was published, else last changed: YYYY-MM-DD, or ""."""
    from selectolax.lexbor import LexborHTMLParser

    said: dict[str, str] = {}
    for meta in LexborHTMLParser(text[:_HEAD]).css("meta"):
        name = (meta.attributes.get("property") or meta.attributes.get("name") or "").lower()
        date = stated_date(meta.attributes.get("content") or "") if name in _DATES else ""
        if date:
            said.setdefault(name, date)
    return next((said[name] for name in _DATES if name in said), "")


def first_title(blocks: list[Block]) -> str:
    """The first heading of level 1, wherever it stands; else ""."""
    return next((b.text for b in blocks if b.kind == "heading" and b.level == 1 and len(b.text) <= 150), "")


def html_blocks(text: str) -> tuple[list[Block], str]:
    """The blocks of an HTML page in reading order, and its <title> ("" if none)."""
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(text)
    name = tree.css_first("head > title")
    title = tidy(name.text()) if name is not None else ""
    root = tree.body or tree.root
    out: list[Block] = []
    if root is not None:
        current = _Open("paragraph", None, [])
        _walk(root, current, out, 0)
        _close(current, out)
    return out, title


def _walk(node: LexborNode, current: _Open, out: list[Block], depth: int) -> None:
    """Gather text into `current`; a block element closes it and opens its own."""
    for child in node.iter(include_text=True):
        tag = child.tag
        if tag == "-text":
            current.parts.append(child.text_content or "")
        elif tag in ("br", "wbr"):
            current.parts.append(" " if tag == "br" else "")
        elif tag is None or tag in _SKIPPED or tag.startswith("_") or _hidden(child):
            continue
        elif tag == "table":
            _close(current, out)
            _table(child, out, depth)
        elif tag == "hr":
            _close(current, out)
        elif tag == "pre":
            _close(current, out)
            out.extend(_lines(child.text()))
        elif tag in _BLOCKS and depth < 200:  # deeper nesting is damage, and Python's stack is finite
            _close(current, out)
            kind, level = _kind(child, tag, current)
            inner = _Open(kind, level, [])
            _walk(child, inner, out, depth + 1)
            _close(inner, out)
        elif depth < 200:
            _walk(child, current, out, depth + 1)
        else:
            current.parts.append(child.text())


def _kind(node: LexborNode, tag: str, parent: _Open) -> tuple[BlockKind, int | None]:
    attributes = node.attributes
    marks = f"{attributes.get('id') or ''} {attributes.get('class') or ''} {attributes.get('role') or ''}"
    if _FOOTNOTE.search(marks) and tag in ("li", "p", "div", "aside", "section"):
        return "footnote", None
    if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
        return "heading", int(tag[1])
    if tag in ("li", "dd"):
        return ("footnote", None) if parent.kind == "footnote" else ("list_item", None)
    if parent.kind in ("list_item", "footnote") and tag in ("p", "div", "section", "ol", "ul"):
        return parent.kind, None
    if parent.kind == "heading" and tag in ("div", "p"):
        return "heading", parent.level
    return "paragraph", None


def _close(current: _Open, out: list[Block]) -> None:
    text = tidy("".join(current.parts))
    current.parts.clear()
    if not text:
        return
    level = current.level
    kind = current.kind
    if kind == "paragraph":
        level = heading_level(text)
        kind = "paragraph" if level is None else "heading"
    out.append(Block(kind, text, level if kind == "heading" else None))


def _table(table: LexborNode, out: list[Block], depth: int) -> None:
    """A data table becomes Markdown; a table that only lays out a page is read as its content."""
    rows = [row for row in table.css("tr") if _owner(row, "table") == table]
    cells = [[cell for cell in row.iter() if cell.tag in ("td", "th")] for row in rows]
    layout = any(cell.css_first("table, h1, h2, h3") is not None for row in cells for cell in row)
    if layout or max((len(row) for row in cells), default=0) < 2:
        current = _Open("paragraph", None, [])
        for row in cells:
            for cell in row:
                _walk(cell, current, out, depth + 1)
                _close(current, out)
        return
    caption = table.css_first("caption")
    if caption is not None and tidy(caption.text()):
        out.append(Block("paragraph", tidy(caption.text())))
    text = markdown_table(_grid(cells))
    if text:
        out.append(Block("table", text))


def _grid(cells: list[list[LexborNode]]) -> list[list[str]]:
    """Cell texts with row and column spans laid out; the text stands in the first cell of a span."""
    held: dict[tuple[int, int], str] = {}
    width = 0
    for y, row in enumerate(cells):
        x = 0
        for cell in row:
            while (y, x) in held:
                x += 1
            across, down = _span(cell, "colspan"), _span(cell, "rowspan")
            for dy in range(down):
                for dx in range(across):
                    held[y + dy, x + dx] = tidy(cell.text(separator=" ")) if dy == dx == 0 else ""
            x += across
        width = max(width, x)
    return [[held.get((y, x), "") for x in range(width)] for y in range(len(cells))]


def _span(cell: LexborNode, name: str) -> int:
    value = cell.attributes.get(name) or "1"
    return min(max(int(value), 1), 100) if value.isdigit() else 1


def _owner(node: LexborNode, tag: str) -> LexborNode | None:
    parent = node.parent
    while parent is not None and parent.tag != tag:
        parent = parent.parent
    return parent


def _lines(text: str) -> Iterator[Block]:
    from fieldtune.documents.plain import is_wrapped, text_blocks

    lines = text.splitlines()
    return text_blocks(lines, wrapped=is_wrapped(lines))


def _hidden(node: LexborNode) -> bool:
    attributes = node.attributes
    style = (attributes.get("style") or "").replace(" ", "").lower()
    return "hidden" in attributes or "display:none" in style or attributes.get("role") == "navigation"
