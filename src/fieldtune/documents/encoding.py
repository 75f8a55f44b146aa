"""In which encoding a text file is written."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from pathlib import Path

_BOMS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SIGN_IN_WORD = re.compile("[a-z][¹³¿£¼¾ºª»¥][a-z]")
_CHUNK = 1 << 20
_SAMPLE = 1 << 16
# The commonest characters of written Chinese, with those of law and business; a wrong decoding hits them by accident
# only, since it lands in the rare part of the code table.
_COMMON_ZH = frozenset(
    "的一是不了在人有我他这为之大来以个中上们到说国和地也子时道出而要于就下得可你年生自会那后能对着事其里所去行过家十用发天如"
    "然作方成者多日都三小军二无同么经法当起与好看学进种将还分此心前面又定见只主没公从知使现理关条款项规合务院应人民律权责"
    "的一是不了在人有我他這為之大來以個中上們到說國和地也子時道出而要於就下得可你年生自會那後能對著事其裡所去行過家十用發天"
)


@dataclass(frozen=True, slots=True)
class Encoding:
    name: str
    invalid: int = 0
    """Bytes that do not fit the encoding and are read as U+FFFD."""


def detect_encoding(path: Path) -> Encoding:
    """Find the encoding: a byte order mark, else UTF-8 if (almost) valid, else by what the bytes look like.

    The whole file is looked at, block by block, so that a late non-ASCII character counts too.
    """
    with path.open("rb") as stream:
        head = stream.read(_SAMPLE)
    for mark, name in _BOMS:
        if head.startswith(mark):
            return Encoding(name)
    wide = _utf16_without_mark(head)
    if wide:
        return Encoding(wide)
    invalid, special, first = _utf8_errors(path)
    if invalid == 0:
        return Encoding("utf-8")
    if special >= 20 * invalid:  # a damaged UTF-8 file: nearly all of its non-ASCII characters are valid
        return Encoding("utf-8", invalid)
    with path.open("rb") as stream:
        stream.seek(max(0, first - 256))
        sample = stream.read(_SAMPLE)
    return _legacy(sample)


def _utf16_without_mark(head: bytes) -> str | None:
    if len(head) < 4:
        return None
    even, odd = head[0::2], head[1::2]
    if odd.count(0) > 0.3 * len(odd) and even.count(0) < 0.05 * len(even):
        return "utf-16-le"
    if even.count(0) > 0.3 * len(even) and odd.count(0) < 0.05 * len(odd):
        return "utf-16-be"
    return None


def _utf8_errors(path: Path) -> tuple[int, int, int]:
    """(invalid sequences, valid non-ASCII characters, offset of the first block with an error)."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    invalid = special = offset = 0
    first = -1
    with path.open("rb") as stream:
        while True:
            block = stream.read(_CHUNK)
            if block.isascii() and block and decoder.getstate()[0] == b"":
                offset += len(block)
                continue
            text = decoder.decode(block, final=not block)
            wrong = text.count("\ufffd") - block.count(b"\xef\xbf\xbd")
            if wrong > 0:
                if first < 0:
                    first = offset + _first_invalid(block)
                invalid += wrong
            special += len(text) - len(text.encode("ascii", "ignore")) - max(wrong, 0)
            if not block:
                return invalid, special, max(first, 0)
            offset += len(block)


def _first_invalid(block: bytes) -> int:
    try:
        block.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start
    return 0


def _legacy(sample: bytes) -> Encoding:
    best, best_score = "", 0.0
    for name in ("gb18030", "big5"):
        score = _chinese_score(sample, name)
        if score > best_score:
            best, best_score = name, score
    if best_score >= 0.08:
        return Encoding(best)
    from charset_normalizer import from_bytes

    guess = from_bytes(sample).best()
    if guess is not None and guess.encoding not in ("ascii", "utf_8"):
        # Western text in the Windows code page: a few accents are too little to tell its relatives apart, unless
        # reading it so puts signs inside words, as it does with Polish or Czech.
        western = sum(byte >= 0x80 for byte in sample) < 0.3 * len(sample)
        western = western and not _SIGN_IN_WORD.search(sample.decode("cp1252", "replace"))
        if not (western and guess.encoding.startswith(("cp125", "iso8859", "latin", "mac", "cp"))):
            return Encoding(guess.encoding)
    return Encoding("cp1252")


def _chinese_score(sample: bytes, name: str) -> float:
    """The share of common Chinese characters among all non-ASCII ones, 0 where the bytes do not fit."""
    text = sample.decode(name, "replace")
    special = [character for character in text if character > "\x7f"]
    if not special or text.count("\ufffd") > 0.01 * len(special) + 2:
        return 0.0
    return sum(character in _COMMON_ZH for character in special) / len(special)
