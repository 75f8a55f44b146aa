"""A document's outline: which paragraphs stand under which headings, articles and clauses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fieldtune.corpus.outline import Label, is_contents_heading, label_of, squeeze
from fieldtune.corpus.segments import Segment
from fieldtune.types import Document

_CONTENTS_RANK = 99  # below everything: the entries of a table of contents do not stand under its heading


@dataclass(slots=True)
class Section:
    """What stands directly under one heading; no passage reaches beyond it."""

    path: tuple[str, ...]
    """Headings above the text, without the document's title."""
    citation: str = ""
    """Of an article: how it is cited, with its caption; then `path` is what stands above it."""
    is_article: bool = False
    """Articles and clauses are units: never merged with another, never overlapping."""
    items: list[Segment] = field(default_factory=list)


@dataclass(slots=True)
class _Node:
    rank: int
    name: str
    segment: Segment
    label: Label | None
    above: tuple[str, ...]
    section: Section
    has_children: bool = False


@dataclass(frozen=True, slots=True)
class Outline:
    sections: list[Section]
    contents_lines: int
    """Headings left out because they only announce the same heading further down: a table of contents."""


def outline(document: Document, cleaned: str, parts: Sequence[Segment], heading_levels: int) -> Outline:
    """Divide a document's segments into sections.

    Headings of level 1 to `heading_levels`, parts and chapters, articles and numbered clauses open a section; deeper
    headings stay in the text. A heading under which nothing stands becomes text itself, lest it be lost.
    """
    labels = [label_of(cleaned[part.start : part.end]) if part.kind != "table" else None for part in parts]
    clauses = _numbered(parts, labels, cleaned)
    root = Section(())
    stack: list[_Node] = []
    nodes: list[_Node] = []
    order: list[Section | _Node] = [root]
    current = root
    for index, (part, label) in enumerate(zip(parts, labels, strict=True)):
        contents = part.kind == "heading" and is_contents_heading(cleaned[part.start : part.end])
        opened = _opens(part, label, index in clauses, heading_levels, stack, contents)
        if opened is None:
            current.items.append(part)
            continue
        rank, is_article = opened
        while stack and stack[-1].rank >= rank:
            stack.pop()
        for node in stack[-1:]:
            node.has_children = True
        text = squeeze(cleaned[part.start : part.end])
        name = label.name if label and (label.kind != "clause" or is_article) else text
        above = tuple(node.name for node in stack if squeeze(node.name).casefold() != document.title.casefold())
        current = Section(above if is_article else _with(above, name, document.title), name if is_article else "")
        current.is_article = is_article
        alone = part.kind == "heading" or (label is not None and label.alone)
        node = _Node(rank, name, part, label, above, current)
        if not alone or (is_article and part.kind != "heading"):
            current.items.append(part)
        stack.append(node)
        nodes.append(node)
        order.append(node)
    return _settle(order)


def _with(above: tuple[str, ...], name: str, title: str) -> tuple[str, ...]:
    return above if name.casefold() == squeeze(title).casefold() else (*above, name)


def _opens(
    part: Segment, label: Label | None, is_clause: bool, heading_levels: int, stack: Sequence[_Node], contents: bool
) -> tuple[int, bool] | None:
    """(rank, whether an article) of a segment that opens a section, else None."""
    if part.kind == "table" or part.kind == "footnote":
        return None
    shallow = part.kind == "heading" and part.level is not None and part.level <= heading_levels
    if (
        label is not None
        and label.kind == "article"
        and (part.kind != "list_item" or not label.citation.startswith("第"))
    ):
        return (min(10 * (part.level or 9), label.rank) if shallow and label.rank > 60 else label.rank), True
    if label is not None and label.kind == "structure" and (part.kind == "heading" or label.alone):
        chinese = label.citation.startswith("第")
        if chinese or part.kind != "heading":
            return label.rank, False
    if shallow:
        return (_CONTENTS_RANK if contents else 10 * (part.level or 1)), False
    if label is not None and is_clause and not _inside(label, stack):
        return label.rank, True
    return None


def _inside(label: Label, stack: Sequence[_Node]) -> bool:
    """Whether a clause number belongs to the open article's own text: 4.2.1 within 4.2, 1.1 within 第一条."""
    for node in reversed(stack):
        if node.section.is_article and node.label is not None:
            if node.label.citation.startswith("第"):
                return True
            if node.label.kind == "clause" and len(label.number) >= 3:
                return len(node.label.number) >= 2 and label.number[: len(node.label.number)] == node.label.number
    return False


def _numbered(parts: Sequence[Segment], labels: Sequence[Label | None], cleaned: str) -> set[int]:
    """Indices of the segments that are numbered clauses: those whose numbers follow one another.

    A lone "12.5 Million" or a short numbered list after a colon is not a contract's numbering.
    """
    out: set[int] = set()
    for depth in (1, 2, 3, 4, 5):
        found = [
            index
            for index, label in enumerate(labels)
            if label is not None
            and label.kind == "clause"
            and len(label.number) == depth
            and (depth > 1 or (label.caption and parts[index].kind != "list_item"))
        ]
        chain: list[int] = []
        for index in found:
            number = labels[index].number  # type: ignore[union-attr]
            last = labels[chain[-1]].number if chain else None  # type: ignore[union-attr]
            if number[-1] <= 1 or (last and number[:-1] == last[:-1] and 0 < number[-1] - last[-1] <= 3):
                chain.append(index)
        if depth == 1 and chain:
            before = parts[chain[0] - 1] if chain[0] else None
            after_colon = before is not None and cleaned[before.start : before.end].rstrip().endswith((":", "："))
            # One-line entries right below each other are a list, clauses have text of their own.
            members = set(chain)
            bare = [index for index in chain if index + 1 in members and _alone(labels[index])]
            if after_colon or 2 * len(bare) > len(chain):
                continue
        if len(chain) >= 3 and 2 * len(chain) >= len(found):
            out.update(chain)
    return out


def _alone(label: Label | None) -> bool:
    return label is not None and label.alone


def _is_bare(node: _Node) -> bool:
    """Whether nothing but the heading or caption itself stands directly under it."""
    items = node.section.items
    return not items or (items == [node.segment] and node.label is not None and node.label.alone)


def _settle(order: Sequence[Section | _Node]) -> Outline:
    """Decide what becomes of headings under which nothing stands, and drop empty sections."""
    last = {
        entry.name.casefold(): position
        for position, entry in enumerate(order)
        if isinstance(entry, _Node) and (entry.has_children or not _is_bare(entry))
    }
    out: list[Section] = []
    contents = 0
    loose: Section | None = None
    for position, entry in enumerate(order):
        section = entry.section if isinstance(entry, _Node) else entry
        if isinstance(entry, _Node) and _is_bare(entry):
            if entry.has_children:
                loose = None
                continue
            if entry.rank == _CONTENTS_RANK or last.get(entry.name.casefold(), 0) > position:
                contents += 1
                continue
            if loose is None or loose.path != entry.above or section.is_article:
                loose = Section(entry.above, section.citation, section.is_article)
                out.append(loose)
            loose.items.append(entry.segment)
            if section.is_article:
                loose = None
            continue
        loose = None
        if section.items:
            out.append(section)
    return Outline(out, contents)
