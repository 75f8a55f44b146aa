"""The key phrases of a passage by the statistics of its corpus, without a dictionary."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import regex

from fieldtune.lexical import STOP_WORDS, tokenize
from fieldtune.queries.han_phrases import HanPhrases
from fieldtune.queries.wording import language_of

_WORD = regex.compile(r"[\p{L}][\p{L}\p{M}\p{N}]*(?:['’&/-][\p{L}\p{N}]+)*|[^\p{L}\s]+|\s*\n\s*")
# Words that link or qualify; a phrase ends where one begins. Beside the stop words of BM25.
_LINK_WORDS = """
not no may also more most other such shall must upon under over within between through during after before include
includes including included use used using called known following respectively however therefore therein thereof
hereof herein whether because while although each both all some many much few only very often usually sometimes
make makes made take takes taken see get gets given give gives cause causes caused occur occurs due based related
certain various several part parts example provide provides provided set forth either neither among per via one two
three four five six first second third new well same own further less least than without against until unless where
else even still yet ever just like likely need needs help helps become becomes relate relates involve involves
affect affects result results refer refers mean means apply applies have having person people something someone
want go come keep put know show shows follow follows up down out off away etc january february march april june
july august september october november december million millions thousand thousands billion billions year years
ended total please since accordingly able unable might cannot could would should themselves itself ourselves yourself
yourselves myself himself herself unlike except again simply here there came look looks note tell tells think thinks
click along amount amounts ability addition additional additionally additionally meet meets thereby across around
toward towards about besides despite whenever wherever whatever whereas hereby hereunder thereunder dated contemplated
partially readily accordance previously currently generally primarily mainly approximately rarely otherwise allow allows
enable enables ensure ensures decide decides choose chooses turn turned turns let lets carry carried thought described
reported discuss discussed says said began begin begins etc com www http https usa ongoing entire
"""
_LINKS = STOP_WORDS | frozenset(_LINK_WORDS.split())
# A lone adverb or verb form rarely names a thing: "storing", "assured", "accordingly"; "parking" and "screening" do.
_BENT = regex.compile(r"^[a-z]+(?:ly|ed|ing)$")
_MOST_WORDS = 4
_COUNTED = 60_000


class Keywords:
    """Document frequencies of a corpus, and the phrases that stand out against them."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._words = HanPhrases(text for text in texts[:_COUNTED] if language_of(text) == "zh")
        self._frequency: Counter[str] = Counter()
        self._size = 0
        self._phrases: Counter[str] = Counter()
        for text in texts:
            self._frequency.update(set(tokenize(text)))
            self._size += 1
            # The phrases of the first passages tell well enough which are terms of the field.
            if self._size <= _COUNTED:
                self._phrases.update({run.casefold() for run in self.chunks(text)})

    def rarity(self, text: str) -> float:
        """Mean inverse document frequency of the words, 0 for words that every passage has."""
        tokens = tokenize(text)
        if not tokens:
            return 0.0
        return sum(math.log((self._size + 1) / (self._frequency[token] + 0.5)) for token in tokens) / len(tokens)

    def chunks(self, text: str) -> list[str]:
        """Runs of one to four words, or two to eight Chinese characters, between function words and signs."""
        return self._words.chunks(text) if language_of(text) == "zh" else _spaced(text)

    def phrases(self, text: str, most: int) -> list[str]:
        """The phrases that say best what a text is about, in the order in which they stand in it.

        tf-idf over runs of words between function words and signs (after RAKE; Rose et al., 2010). Phrases that share
        a word with a better one are left out.
        """
        runs = self.chunks(text)
        count = Counter(run.casefold() for run in runs)
        first: dict[str, str] = {}
        for run in runs:
            first.setdefault(run.casefold(), run)
        limit = math.log(max(2, self._size) / 2)

        def weight(folded: str) -> float:
            # A word of this passage alone is no better than one of two: it may be a name or a slip.
            length = len(tokenize(folded))
            value = min(limit, self.rarity(folded)) * (1 + math.log(count[folded])) * math.sqrt(min(3, length))
            if _BENT.search(folded):
                value /= 2
            # A run of words that stands nowhere else is mostly no term but an accident of the sentence.
            return value if length < 2 or self._phrases[folded] > 1 or count[folded] > 1 else 0.4 * value

        order = {folded: position for position, folded in enumerate(first)}
        weights = {folded: weight(folded) for folded in first}
        chosen: list[str] = []
        taken: set[str] = set()
        for folded in sorted(first, key=lambda folded: (-weights[folded], order[folded])):
            tokens = set(tokenize(folded))
            if weights[folded] > 0 and not tokens & taken:
                chosen.append(folded)
                taken |= tokens
                if len(chosen) == most:
                    break
        return [first[folded] for folded in sorted(chosen, key=order.__getitem__)]


def _spaced(text: str) -> list[str]:
    out: list[str] = []
    run: list[str] = []
    last = 0
    for match in [*_WORD.finditer(text), None]:
        word = match[0] if match else ""
        adjacent = match is not None and not text[last : match.start()].strip(" \t")
        if not adjacent or not word[:1].isalpha() or word.lower() in _LINKS or len(word) < 2:
            if run and len(run) <= _MOST_WORDS and (len(run) > 1 or len(run[0]) > 3):
                out.append(" ".join(run))
            run = []
        if match:
            last = match.end()
            if word[:1].isalpha() and word.lower() not in _LINKS and len(word) > 1:
                run.append(word)
    return out
