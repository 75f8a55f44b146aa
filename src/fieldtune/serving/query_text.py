"""What people type, made fit to search with."""

from __future__ import annotations

import unicodedata

from fieldtune.encoding.tokens import encodable
from fieldtune.errors import InputError
from fieldtune.index.asking import clean
from fieldtune.serving.problems import ApiError


def clean_query(text: str, longest: int, field: str = "query") -> str:
    """The text on one line without control characters and broken Unicode. Raises ApiError 400 for none or too much."""
    require_short(text, longest, field)
    try:
        line = clean(text)
    except InputError:
        line = ""
    if not any(unicodedata.category(mark)[0] in "LNPS" for mark in line):
        raise ApiError(400, f"{field}: holds nothing to search for", param=field, code="empty")
    return line


def clean_text(text: str, longest: int, field: str) -> str:
    """A text to embed, without half surrogate pairs, which no tokenizer takes. Raises ApiError 400."""
    require_short(text, longest, field)
    if not text.strip():
        raise ApiError(400, f"{field}: is empty", param=field, code="empty")
    return encodable(text)


def require_short(text: str, longest: int, field: str) -> None:
    if len(text) > longest:
        raise ApiError(400, f"{field}: {len(text):,} characters; at most {longest:,} are allowed", param=field,
                       code="too_long")  # fmt: skip
