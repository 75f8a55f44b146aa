"""The words of Chinese text, found by the statistics of a corpus: written Chinese does not say where they end."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

import regex

_HAN_RUN = regex.compile(r"\p{Han}+")
_LONGEST = 6
"""Characters of a word."""
_LEAST = 4
"""Times that a word stands in the corpus."""
_OPEN = 1.0
"""Entropy of what stands before and after a word, in nats: inside a word the next character is nearly certain."""
_SOLID = 3.0
"""Pointwise mutual information of a word's two parts, wherever it is divided: below, they are words that met."""
_COUNTED = 500_000
"""Characters of the corpus that are counted; more of them change few words."""
_GIVEN = 8
"""Times that a word known beforehand counts as seen."""
_KEPT = 200_000
"""Runs whose words are kept: the same turns of speech come again and again."""
_EDGE = "\n"


class HanWords:
    """Words by the branching entropy of their edges, sentences cut into the likeliest ones.

    A string is a word of the corpus when what follows and what precedes it varies (Jin and Tanaka-Ishii, 2006); of all
    ways to cut a sentence the one of highest probability under the words' frequencies is taken. `given` words are
    known beforehand; with a small corpus, only those are. No other word begins or ends with one of `edges`.
    """

    def __init__(self, texts: Iterable[str], given: Iterable[str] = (), edges: tuple[str, ...] = ()) -> None:
        grams = _counted(texts)
        singles = [(gram, count) for gram, count in grams.items() if len(gram) == 1 and gram != _EDGE]
        self._all = float(sum(count for _, count in singles) + 1)
        self._cost = {gram: self._log(count) - 0.5 for gram, count in singles}
        for word, count in _open_words(grams).items():
            if not (edges and (word.startswith(edges) or word.endswith(edges))):
                self._cost[word] = self._log(count)
        for word in given:
            self._cost[word] = max(self._cost.get(word, -math.inf), self._log(_GIVEN + grams[word]))
        self._unknown = self._log(0.3) - 0.5
        self._longest = max(map(len, self._cost), default=1)
        self._known: dict[str, list[str]] = {}

    def cut(self, text: str) -> list[str]:
        """The words of a run of Chinese characters; joined they are the text again."""
        found = self._known.get(text)
        if found is None:
            found = self._cut(text)
            if len(self._known) < _KEPT:
                self._known[text] = found
        return found

    def _cut(self, text: str) -> list[str]:
        best = [0.0, *([-math.inf] * len(text))]
        back = [0] * (len(text) + 1)
        for end in range(1, len(text) + 1):
            for start in range(max(0, end - self._longest), end):
                word = text[start:end]
                cost = self._cost.get(word)
                if cost is None:
                    if end - start > 1:
                        continue
                    cost = self._unknown
                if best[start] + cost > best[end]:
                    best[end], back[end] = best[start] + cost, start
        words: list[str] = []
        end = len(text)
        while end:
            words.append(text[back[end] : end])
            end = back[end]
        return words[::-1]

    def _log(self, count: float) -> float:
        return math.log(count / (self._all + _GIVEN))


def _counted(texts: Iterable[str]) -> Counter[str]:
    """How often each string of up to seven characters stands in the runs, their edges counted as a character."""
    runs = [f"{_EDGE}{run}{_EDGE}" for text in texts for run in _HAN_RUN.findall(text)]
    whole = sum(map(len, runs))
    step = max(1, math.ceil(whole / _COUNTED))
    runs = runs[::step]
    grams: Counter[str] = Counter()
    for length in range(1, _LONGEST + 2):
        found = Counter(
            run[start : start + length]
            for run in runs
            for start in range(len(run) - length + 1)
            if length < 3 or run[start : start + length - 1] in grams
        )
        # What stands there but rarely is no word, and nothing longer that begins with it is.
        grams.update({gram: count for gram, count in found.items() if length < 2 or count >= 2})
    return grams


def _open_words(grams: Counter[str]) -> dict[str, int]:
    """The strings of two characters and more whose two edges are open."""
    after: Counter[str] = Counter()
    before: Counter[str] = Counter()
    for gram, count in grams.items():
        if len(gram) < 3:
            continue
        head, tail = gram[:-1], gram[1:]
        # A neighbour's share p gives -p log p; an edge of the run is another neighbour each time.
        if _EDGE not in head and len(head) > 1:
            after[head] += _share(count, grams[head], edge=gram[-1] == _EDGE)  # type: ignore[assignment]
        if _EDGE not in tail and len(tail) > 1:
            before[tail] += _share(count, grams[tail], edge=gram[0] == _EDGE)  # type: ignore[assignment]
    size = sum(count for gram, count in grams.items() if len(gram) == 1 and gram != _EDGE)
    return {
        gram: count
        for gram, count in grams.items()
        if 2 <= len(gram) <= _LONGEST
        and _EDGE not in gram
        and count >= _LEAST
        and min(after[gram], before[gram]) >= _OPEN
        and all(
            math.log(count * size / (grams[gram[:cut]] * grams[gram[cut:]])) >= _SOLID for cut in range(1, len(gram))
        )
    }


def _share(count: int, whole: int, *, edge: bool) -> float:
    if not whole:
        return 0.0
    return count / whole * math.log(whole) if edge else -(count / whole) * math.log(count / whole)
