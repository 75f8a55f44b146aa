"""Word files to blocks, by way of HTML."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from fieldtune.documents.clean import tidy, title_from_name
from fieldtune.documents.dates import stated_date
from fieldtune.documents.html import first_title, html_blocks
from fieldtune.documents.parsed import Parsed, Report, UnreadableError
from fieldtune.documents.plain import own_title

_MAX_UNPACKED = 1_000_000_000
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
# Word's own outline styles go by localised names; mammoth knows the English ones.
_STYLES = "\n".join(
    [
        "p[style-name='Title'] => h1:fresh",
        "p[style-name='Subtitle'] => p:fresh",
        *(f"p[style-name='标题 {n}'] => h{n}:fresh" for n in range(1, 7)),
        *(f"p[style-name='Überschrift {n}'] => h{n}:fresh" for n in range(1, 7)),
        *(f"p[style-name='Titre {n}'] => h{n}:fresh" for n in range(1, 7)),
    ]
)
# Titles that programs leave in a file, and that say nothing of it.
_EMPTY_TITLE = re.compile(
    r"(?i)^(untitled|microsoft word|word document|document\d*|文档\d*|新建.*文档|template|normal)\b"
)


def read_docx(path: Path, source: str, report: Report) -> Iterator[Parsed]:
    """Yield the file as one document, footnotes and endnotes included.

    Raises UnreadableError for an encrypted file, an old .doc under a new name, and a zip that is no Word file.
    """
    import mammoth

    with path.open("rb") as stream:
        if stream.read(8) == _OLE:
            raise UnreadableError(
                "encrypted, or an old .doc under the ending .docx",
                "open it in Word, save it as .docx without a password",
            )
    try:
        with zipfile.ZipFile(path) as archive:
            names = {entry.filename: entry.file_size for entry in archive.infolist()}
            if "word/document.xml" not in names:
                raise UnreadableError("a zip archive, not a Word file", "give the file its true ending, or unpack it")
            if sum(names.values()) > _MAX_UNPACKED:
                raise UnreadableError("unpacks to more than 1 GB", "save the file without its pictures")
            title, date = _properties(archive) if "docProps/core.xml" in names else ("", "")
    except zipfile.BadZipFile as error:
        raise UnreadableError(f"not a Word file ({error})", "the file is damaged: fetch or save it again") from None
    with path.open("rb") as stream:
        html = mammoth.convert_to_html(
            stream, style_map=_STYLES, convert_image=mammoth.images.img_element(_no_image)
        ).value
    blocks, _ = html_blocks(re.sub(r'<a href="#(?:foot|end)note-ref[^>]*>.*?</a>', "", html))
    title = title or own_title(blocks) or first_title(blocks) or title_from_name(source)
    yield Parsed(title, tuple(blocks), {"date": date} if date else {})


def sane_title(text: str) -> str:
    """A title from a file's properties if it can be one, else ""."""
    text = tidy(text)
    letters = sum(character.isalpha() for character in text)
    if _EMPTY_TITLE.match(text) or letters < 3 or letters < 0.3 * len(text) or len(text) > 200:
        return ""
    # A file name or a path, not a title.
    path = re.search(r"\.(docx?|pdf|indd|html?|qxd|rtf|xlsx?|tex|dvi)$|^\S*[\\/]\S*$|^[A-Za-z]:\\", text, re.IGNORECASE)
    return "" if path else text


def _properties(archive: zipfile.ZipFile) -> tuple[str, str]:
    """Title and date; the date is that of the last change, since many a contract was begun in an old one's copy."""
    from html import unescape

    core = archive.read("docProps/core.xml")[:100_000].decode("utf-8", "replace")
    named = re.search(r"<dc:title>(.*?)</dc:title>", core, re.DOTALL)
    dates = (re.search(rf"<dcterms:{name}\b[^>]*>([^<]*)<", core) for name in ("modified", "created"))
    date = next((found for one in dates if one and (found := stated_date(one.group(1)))), "")
    return sane_title(unescape(named.group(1))) if named else "", date


def _no_image(_: object) -> dict[str, str]:
    return {"src": ""}
