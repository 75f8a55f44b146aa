"""Texts of random words that are as long as real passages are."""

from __future__ import annotations

import gzip
import json
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldtune.corpus.duplicates import decisive

_READ = 20_000  # passages of each set whose lengths are taken
_WORDS = 50_000


def lengths(data: Path | None) -> NDArray[np.int64]:
    """Words of the passages of all BEIR folders in `data` (Chinese: two characters), else of a usual corpus."""
    found = []
    for path in sorted(data.glob("*/corpus.jsonl*")) if data else []:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as stream:
            for line in islice(stream, _READ):
                text = json.loads(line)["text"]
                found.append(max(len(text.split()), sum("\u4e00" <= c <= "\u9fff" for c in text) // 2))
    if found:
        return np.maximum(np.array(found), 1)
    return np.maximum(np.random.default_rng(1).lognormal(np.log(90), 0.6, 10_000), 3).astype(np.int64)


def told(data: Path | None) -> str:
    """Where the lengths come from, for the line over a table."""
    if data and any(data.glob("*/corpus.jsonl*")):
        return f"texts as long as those of {len({path.parent for path in data.glob('*/corpus.jsonl*')})} BEIR folders"
    return "lengths of texts after a log-normal distribution (median 90 words)"


def texts(count: int, data: Path | None, seed: int = 2) -> list[str]:
    """So many of them, each with other words; frequent words are frequent (Zipf).

    No word is one that keeps near-duplicates apart ("not", "three"): what compares texts must look at all of them. The
    last word is each text's own, for the peer takes equal ones away.
    """
    draw = np.random.default_rng(seed)
    letters = np.array(list("etaoinshrdlu"))
    words: list[str] = []
    while len(words) < _WORDS:
        word = "".join(draw.choice(letters, draw.integers(2, 10)))
        if not decisive(word):
            words.append(word)
    sizes = draw.choice(lengths(data), count)
    out: list[str] = []
    for begin in range(0, count, 1_000):
        some = sizes[begin : begin + 1_000]
        places = np.minimum(draw.zipf(1.2, int(some.sum())) - 1, 2**40) * 7_919 % _WORDS
        out += [" ".join([words[place] for place in own.tolist()]) for own in np.split(places, np.cumsum(some)[:-1])]
    return [f"{text} {_own(number)}" for number, text in enumerate(out)]


def _own(number: int) -> str:
    """A word of letters for a number."""
    letters = "q"
    while True:
        number, letter = divmod(number, 26)
        letters += chr(ord("a") + letter)
        if not number:
            return letters
