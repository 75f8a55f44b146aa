"""The word check: what a second PDF library sees on a page, against the blocks that came out."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable

from fieldtune.documents.clean import dehyphenate

_TOKEN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|[^\\W_\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+")
_FOLD = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u201a": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u201e": '"',
        "\u2010": "-",
        "\u2011": "-",
    }
    | {
        "\u2012": "-",
        "\u2013": "-",
        "\u2014": "-",
        "\u2015": "-",
        "\u2212": "-",
        "\u2032": "'",
        "\u2033": '"',
        "\u00ad": "-",
    }
)
_FOLDS_TO = re.compile("[\"'-]")


def tokens(text: str) -> list[str]:
    """Words in lower case, punctuation left out; each Chinese character is one."""
    return _TOKEN.findall(unicodedata.normalize("NFKC", text).lower())


def word_loss(seen: str, kept: Iterable[str]) -> tuple[int, list[str]]:
    """(number of words seen, those of them that are missing in `kept`), as multisets.

    A word that the two libraries divide differently ("Note 16", "Note16") is not missing.
    """
    wanted = Counter(tokens(dehyphenate(seen.replace("\r\n", "\n"))))
    own = Counter(token for text in kept for token in tokens(text))
    missing = wanted - own
    if missing:
        extra = own - wanted
        spare = " ".join(extra.elements())
        for token in list(missing):
            joined = spare.count(token)
            parted = max((min(extra[token[:i]], extra[token[i:]]) for i in range(1, len(token))), default=0)
            missing[token] -= min(joined + parted, missing[token])
    return wanted.total(), list((+missing).elements())


def restorer(seen: str) -> Callable[[str], str]:
    """A function that gives words their typographic quotes and dashes back, found in the page's text.

    liteparse writes “ and – as " and -; for Chinese text and defined terms the difference matters.
    """
    original = f" {' '.join(seen.split())} "
    folded = original.translate(_FOLD)  # character for character, so that places agree
    cursor = 0

    def restore(word: str) -> str:
        nonlocal cursor
        if not _FOLDS_TO.search(word):
            return word
        edge = 1 if len(word) < 3 else 0  # a dash must stand alone there too
        wanted = f" {word} " if edge else word
        place = folded.find(wanted, cursor)
        if place < 0:
            place = folded.find(wanted)
        if place < 0:
            return word
        cursor = place + len(wanted) - edge
        return original[place + edge : place + edge + len(word)]

    return restore
