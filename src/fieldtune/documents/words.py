"""The word check: what a second PDF library sees on a page, against the blocks that came out."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict, deque
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
_FOLDED = re.compile("[\u2010-\u2015\u2018-\u201e\u2032\u2033\u2212\u00ad]")


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
    """A function that gives words their typographic quotes and dashes back, in the order of the page.

    liteparse writes “ and – as " and -; for Chinese text and defined terms the difference matters.
    """
    originals: dict[str, deque[str]] = defaultdict(deque)
    for word in seen.replace("\ufffe", "").split():
        if _FOLDED.search(word):
            originals[word.translate(_FOLD)].append(word)
    plain = Counter(word for word in seen.split() if word in originals)
    curly_double = '"' not in seen and ("\u201d" in seen or "\u201c" in seen)
    curly_single = "'" not in seen and "\u2019" in seen

    def restore(word: str) -> str:
        queue = originals.get(word)
        if not queue or plain[word]:
            # Divided otherwise by the two libraries: go by the side on which the mark stands.
            if curly_double and '"' in word:
                word = re.sub(r'^([(\[]*)"', "\\1\u201c", word).replace('"', "\u201d")
            return word.replace("'", "\u2019") if curly_single else word
        return queue.popleft() if len(queue) > 1 else queue[0]

    return restore
