"""PDF to blocks: liteparse finds the words and their places, pypdfium2 is the second pair of eyes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fieldtune.documents.clean import title_from_name
from fieldtune.documents.dates import stated_date
from fieldtune.documents.docx import sane_title
from fieldtune.documents.lines import Line, Word, page_lines
from fieldtune.documents.page_blocks import document_look, page_blocks
from fieldtune.documents.parsed import Parsed, Report, UnreadableError
from fieldtune.documents.plain import own_title, text_blocks
from fieldtune.documents.running_lines import running_lines
from fieldtune.documents.words import restorer, word_loss
from fieldtune.types import Block

_OCR = "run OCR over it first, e.g. ocrmypdf in.pdf out.pdf"
_DAMAGED = "the file is cut off or damaged: fetch it again, or mend it with qpdf or Ghostscript"
_VECTOR_JUNK = re.compile(r"(?:[\u2014_.\s-]|\.{3,})+")


def read_pdf(path: Path, source: str, report: Report, max_word_loss: float) -> Iterator[Parsed]:
    """Yield the file as one document with 1-based pages.

    A page whose blocks lack more than `max_word_loss` of the words that pypdfium2 sees goes into
    `report.lossy_pages`, and takes pypdfium2's plain text instead of its blocks.
    Raises UnreadableError for an encrypted, damaged or scanned file.
    """
    seen, title, date = _second_look(path)
    if not any(text.strip() for text in seen):
        raise UnreadableError(f"a scanned PDF: {len(seen)} pages, none with text", _OCR)
    pages = _pages(path, seen)
    report.pages = len(seen)
    report.empty_pages = [number for number, text in enumerate(seen, 1) if not text.strip()]
    running = running_lines(pages)
    stripped = [
        [line.text for i, line in enumerate(lines) if i in out] for lines, out in zip(pages, running, strict=True)
    ]
    report.running_lines = dict(Counter(text for texts in stripped for text in texts).most_common(20))
    kept = [[line for i, line in enumerate(lines) if i not in out] for lines, out in zip(pages, running, strict=True)]
    look = document_look(kept)
    known = _vocabulary(seen)
    blocks: list[Block] = []
    for number, (lines, text) in enumerate(zip(kept, seen, strict=True), 1):
        found = page_blocks(lines, look, number, known)
        total, missing = word_loss(text, [*(block.text for block in found), *stripped[number - 1]])
        if total and len(missing) > max_word_loss * total and len(missing) > 2:
            plain = _plain(text, stripped[number - 1], number)
            loss = round(len(missing) / total, 4)
            report.lossy_pages.append(
                {"page": number, "words": total, "lost": loss, "missing": missing[:20], "recovered": bool(plain)}
            )
            found = plain or found
        blocks += found
    yield Parsed(title or own_title(blocks) or title_from_name(source), tuple(blocks), {"pages": len(seen)} | date)


def _second_look(path: Path) -> tuple[list[str], str, dict[str, Any]]:
    """(text of each page, title and, as metadata, date from the properties) as pypdfium2 sees them."""
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower() or "security" in str(error).lower():
            raise UnreadableError(
                "encrypted: it opens with a password only", "save a copy without one, e.g. qpdf --decrypt"
            ) from None
        raise UnreadableError(f"not a readable PDF ({error})", _DAMAGED) from None
    try:
        stated = document.get_metadata_dict()
        title = sane_title(str(stated.get("Title") or ""))
        date = stated_date(str(stated.get("CreationDate") or ""))
        texts = []
        for index in range(len(document)):
            page = document[index]
            text_page = page.get_textpage()
            texts.append(text_page.get_text_range())
            text_page.close()
            page.close()
        return texts, title, {"date": date} if date else {}
    except pypdfium2.PdfiumError as error:
        raise UnreadableError(f"a page cannot be read ({error})", _DAMAGED) from None
    finally:
        document.close()


def _pages(path: Path, seen: Sequence[str]) -> list[list[Line]]:
    from liteparse import LiteParse

    parser = LiteParse(
        ocr_enabled=False,
        emit_word_boxes=True,
        preserve_very_small_text=True,
        keep_headers_footers=True,
        continue_on_page_error=True,
        max_pages=1_000_000,
        num_workers=1,
        quiet=True,
    )
    result = parser.parse(str(path))
    out: list[list[Line]] = [[] for _ in seen]
    for page in result.pages:
        if 1 <= page.page_num <= len(out):
            out[page.page_num - 1] = page_lines(_words(page, seen[page.page_num - 1]))
    return out


def _words(page: Any, seen: str) -> Iterator[Word]:
    restore = restorer(seen)
    for item in page.text_items:
        font = item.font_name or ""
        if (item.font_weight or 0) >= 600:
            font += " bold"
        boxes = item.words or [item]
        for box in boxes:
            text = box.text.strip()
            # Rules drawn with characters are no words; upright stamps along the margin would cut into lines.
            if not text or (len(text) > 3 and _VECTOR_JUNK.fullmatch(text)) or abs(item.rotation) % 360 > 20:
                continue
            yield Word(restore(text), box.x, box.x + box.width, box.y, box.y + box.height, font)


def _vocabulary(seen: Sequence[str]) -> frozenset[str]:
    """The document's words in lower case, hyphenated ones whole, those cut by a line break left out."""
    words: set[str] = set()
    for text in seen:
        words.update(re.findall(r"(?<!-\n)\b[^\W\d_]+(?:-[^\W\d_]+)*\b(?!-?[\r\n\u0002\ufffe])", text.lower()))
    return frozenset(words)


def _plain(text: str, stripped: Sequence[str], page: int) -> list[Block]:
    """The page as pypdfium2 reads it, without structure, less the running lines."""
    running = {re.sub(r"\s+", "", line) for line in stripped}
    lines = [line for line in text.splitlines() if re.sub(r"\s+", "", line) not in running]
    return list(text_blocks(lines, wrapped=True, page=page))
