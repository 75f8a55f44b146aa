"""A document as one cleaned text and the paragraphs in it, by character offset."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fieldtune.corpus.outline import label_of, starts_item
from fieldtune.types import BlockKind, Document

_JOINT = "\n\n"
_BREAK = re.compile("[ \t\u3000\u00a0]*\n[ \t\u3000\u00a0]*")
_CLOSED = re.compile("[.!?:;。！？：；…][\"'”’」』)）\\]】]*$")


@dataclass(frozen=True, slots=True)
class Segment:
    """A paragraph, list item, table or heading: `cleaned[start:end]`."""

    start: int
    end: int
    kind: BlockKind
    level: int | None = None
    page: int | None = None


def cleaned_text(document: Document) -> str:
    """The text all offsets refer to: the blocks' texts with an empty line between them."""
    return _JOINT.join(block.text for block in document.blocks)


def segments(document: Document) -> list[Segment]:
    """The document's blocks, a paragraph of several lines divided where a line starts something of its own."""
    out: list[Segment] = []
    begin = 0
    for block in document.blocks:
        if block.kind in ("heading", "table"):
            text = block.text.strip()
            if text:
                start = begin + len(block.text) - len(block.text.lstrip())
                level = (block.level or 1) if block.kind == "heading" else None
                out.append(Segment(start, start + len(text), block.kind, level, block.page))
        else:
            for start, end in _paragraphs(block.text):
                # Only the first line of a list item is one; what follows on new lines may be anything.
                out.append(Segment(begin + start, begin + end, block.kind, None, block.page))
        begin += len(block.text) + len(_JOINT)
    return out


def _paragraphs(text: str) -> list[tuple[int, int]]:
    """Spans without white space at their ends; a line break inside running text divides nothing."""
    out: list[tuple[int, int]] = []
    lines = []
    begin = 0
    for gap in _BREAK.finditer(text):
        lines.append((begin, gap.start()))
        begin = gap.end()
    lines.append((begin, len(text)))
    for first, last in lines:
        line = text[first:last]
        stripped = line.strip()
        if not stripped:
            continue
        start = first + len(line) - len(line.lstrip())
        end = start + len(stripped)
        continues = out and not _CLOSED.search(text[out[-1][0] : out[-1][1]][-8:])
        if continues and not starts_item(stripped) and label_of(stripped) is None:
            out[-1] = (out[-1][0], end)
        else:
            out.append((start, end))
    return out
