"""Read one file with the reader of its format; every way in which that can fail gets a cause and a cure."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fieldtune.documents.dates import date_in_name
from fieldtune.documents.find import FORMATS, extension
from fieldtune.documents.parsed import Parsed, Report, UnreadableError


def read_one(path: Path, source: str, report: Report, *, max_bytes: int, max_word_loss: float) -> Iterator[Parsed]:
    """Yield the documents of one file; a very long text or a table of passages gives several.

    Raises UnreadableError, whatever goes wrong.
    """
    try:
        size = os.stat(path).st_size
        if size == 0:
            raise UnreadableError("the file is empty (0 bytes)", "fetch or save it again")
        if size > max_bytes:
            raise UnreadableError(
                f"{size:,} bytes, more than documents.max_bytes ({max_bytes:,})",
                "split it or raise documents.max_bytes",
            )
        found = False
        for parsed in _reader(path, source, report, max_word_loss):
            if any(block.text for block in parsed.blocks):
                found = True
                yield _dated(parsed, source)
        if not found:
            raise UnreadableError("no text in it", "check that the file is what its ending says")
    except UnreadableError:
        raise
    except PermissionError:
        raise UnreadableError("no permission to read it", "give yourself permission: chmod u+r") from None
    except FileNotFoundError:
        raise UnreadableError("it disappeared while the run was going on", "run again") from None
    except (gzip.BadGzipFile, EOFError) as error:
        raise UnreadableError(f"damaged gzip file ({error})", "fetch the file again") from None
    except MemoryError:
        raise UnreadableError("reading it takes more memory than there is", "split the file") from None
    except OSError as error:
        raise UnreadableError(
            f"cannot be read ({error.strerror or error})", "check the disk or the network share"
        ) from None
    except Exception as error:  # one of the three places where errors are caught: reading one file
        raise UnreadableError(
            f"{type(error).__name__}: {error}"[:500], "the file is damaged or unusual: save it anew"
        ) from error


def _dated(parsed: Parsed, source: str) -> Parsed:
    """With the date of the file's name, which people gave it, in the place of that of its properties."""
    date = "" if parsed.metadata.get("ready") else date_in_name(source)
    return replace(parsed, metadata={**parsed.metadata, "date": date}) if date else parsed


def _reader(path: Path, source: str, report: Report, max_word_loss: float) -> Iterator[Parsed]:
    kind = FORMATS.get(extension(path.name), "text")
    with path.open("rb") as stream:
        if stream.read(5) == b"%PDF-":
            kind = "pdf"  # whatever it is called
    # Imported on use: each reader brings a parser with it.
    if kind == "pdf":
        from fieldtune.documents.pdf import read_pdf

        return read_pdf(path, source, report, max_word_loss)
    if kind == "docx":
        from fieldtune.documents.docx import read_docx

        return read_docx(path, source, report)
    if kind == "html":
        from fieldtune.documents.html import read_html

        return read_html(path, source, report)
    if kind == "markdown":
        from fieldtune.documents.markdown import read_markdown

        return read_markdown(path, source, report)
    if kind == "ready":
        from fieldtune.documents.ready import read_ready

        return read_ready(path, source, report)
    from fieldtune.documents.plain import read_plain

    return read_plain(path, source, report)
