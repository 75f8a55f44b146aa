"""Whether two questions are the same one asked again, by their words."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fieldtune.dataset.leaks import query_terms
from fieldtune.lexical import STOP_WORDS, tokenize

Terms = frozenset[str]

# Who asks is told by these, what is asked is not: "please tell me", "I would like to know". No word of a field.
_POLITE = """
please tell me know want need like explain describe help thank thanks kindly hello hi dear someone anyone get getting
give given having learn understand find show wonder wondering let us question may might
"""
_COURTESY = frozenset(_POLITE.split())
_ASKING = frozenset(("who", "whom", "whose", "when", "where", "why", "how"))
_COURTESY_ZH = re.compile(
    r"请问(?:一下)?|请教|您好|你好|我(?:想|要)(?:问|知道)(?:一下)?|(?:请)?告诉我|麻烦|谢谢|多谢|大家好"
)
_ENDING_ZH = re.compile(r"[吗呢啊呀吧]?(?=[\s?？。!！]*$)")
_LEAST = math.log(2)
_SAMPLE = 20_000  # passages whose words suffice to tell rare words from common ones
_SLIP = 6  # letters from which two words one letter apart may be one word misspelt


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """How many passages hold each word; counted once, for it takes longer than the comparisons."""

    held: Counter[str]
    passages: int
    whole: bool
    """Whether all passages were counted, or an even sample of a large corpus."""

    def lacks(self, term: str) -> bool:
        """Whether surely no passage holds the word; in a sample, one that is not there may still be in the corpus."""
        return self.whole and self.held[term] == 0


def vocabulary(texts: Sequence[str]) -> Vocabulary:
    """Count the words of a corpus."""
    sample = texts[:: max(1, len(texts) // _SAMPLE)]
    held = Counter(term for text in sample for term in set(tokenize(text)))
    return Vocabulary(held, len(sample), len(sample) == len(texts))


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as it is compared with others."""

    terms: Terms
    """What is asked about: words without stop words and courtesies; all words where nothing else is left."""
    by: Terms
    """Words such as "who" and "when", which make another question of the same words."""
    unknown: Terms
    """Those of `terms` that no passage holds: slips of the pen, and words that tell no passage from another."""


def ask(text: str, corpus: Vocabulary) -> Asked:
    """The words of a question, weighed against a corpus."""
    words = query_terms(_ENDING_ZH.sub("", _COURTESY_ZH.sub("", text), count=1))
    terms = words - STOP_WORDS - _COURTESY or words or query_terms(text)
    return Asked(terms, words & _ASKING, frozenset(term for term in terms if corpus.lacks(term)))


def rarity(terms: Iterable[str], corpus: Vocabulary) -> dict[str, float]:
    """Weight of each term: the logarithm of how many passages there are for one that holds it; always above zero."""
    return {term: math.log((corpus.passages + 1) / (corpus.held[term] or 0.5)) for term in terms}


def query_rarity(queries: Sequence[Terms], corpus: Vocabulary) -> dict[str, float]:
    """Weight of each word of the queries: as common as among the queries or among the passages, whichever is more.

    "Symptoms" is a template's word in the queries, "between" a common word of passages, a disease's name rare in both.
    A word that no passage holds tells no passage from another: it weighs little.
    """
    asked = Counter(term for query in queries for term in query)
    weights = rarity(asked, corpus)
    for term, count in asked.items():
        often = math.log((len(queries) + 1) / count)
        weights[term] = _LEAST if corpus.lacks(term) else min(weights[term], often)
    return weights


def likeness(a: Asked, b: Asked, weights: Mapping[str, float]) -> float:
    """The lower of two Jaccard similarities of what is asked about: plain, and weighed by rarity.

    "What are the symptoms of gout?" and "... of lupus?" share a word, but not the rare one; "What causes gout?" and
    "Who treats gout?" share the rare one, but no other. Neither pair is a copy, and this calls neither one. What one
    side alone says in words that no passage holds is passed over, and a misspelt word is the word.
    """
    return _likeness(*_mended(a, b), weights)


def is_copy(a: Asked, b: Asked, weights: Mapping[str, float], threshold: float) -> bool:
    """Whether one question is the other with a little added: `likeness` from the threshold on.

    Where both have words of their own, as "total sales" and "net sales", something was put in another's place, and
    only half the distance to sameness is allowed. "Who" and "when" ask for two things, whatever follows them.
    """
    if a.by and b.by and not a.by & b.by:
        return False
    one, other = _mended(a, b)
    return _likeness(one, other, weights) >= (threshold if one <= other or other <= one else (1 + threshold) / 2)


def replaces(a: Asked, b: Asked) -> bool:
    """Whether two questions that share their words but one or two have something else in these words' place."""
    one, other = _mended(a, b)
    return bool(one - other and other - one) and 2 * len(one & other) >= min(len(one), len(other))


def is_filled_in(a: Terms, b: Terms, weights: Mapping[str, float]) -> bool:
    """Whether two texts are one template about two things: the rarest word of each is not in the other.

    "Gout is inherited in an autosomal dominant pattern, which means ..." stands in many passages, and knowing one is no
    help with another.
    """
    shared = max((weights[term] for term in a & b), default=0.0)
    return all(max((weights[term] for term in own), default=0.0) > shared for own in (a - b, b - a))


def _likeness(a: Terms, b: Terms, weights: Mapping[str, float]) -> float:
    shared = a & b
    if not shared:
        return 0.0
    plain = len(shared) / (len(a) + len(b) - len(shared))
    # Sums in sorted order: the order of a set differs between processes, and with it the last bits.
    common = math.fsum(weights[term] for term in sorted(shared))
    every = math.fsum(weights[term] for term in sorted(a | b))
    return min(plain, common / every)


def _mended(a: Asked, b: Asked) -> tuple[Terms, Terms]:
    """What is asked about, misspelt words put right by the other side and what one side alone adds left out, where no
    passage holds these words. Where both say unknown words that differ, these may be what sets the two apart."""
    one, other = a.terms, b.terms
    if a.unknown or b.unknown:
        one, other = _spelt(one, a.unknown, other), _spelt(other, b.unknown, one)
        strange, foreign = (one & a.unknown) - other, (other & b.unknown) - one
        # More than a word here and there is another question.
        if bool(strange) != bool(foreign) and 2 * len(strange | foreign) <= len(one & other):
            one, other = one - strange, other - foreign
    return one, other


def _spelt(terms: Terms, unknown: Terms, others: Terms) -> Terms:
    found = dict[str, str]()
    for term in sorted((unknown & terms) - others):
        near = next((word for word in sorted(others - terms) if _one_letter_apart(term, word)), None)
        if near:
            found[term] = near
    return frozenset(found.get(term, term) for term in terms) if found else terms


def _one_letter_apart(a: str, b: str) -> bool:
    """One letter more, less, other, or swapped with its neighbour; words of letters that are long enough."""
    if min(len(a), len(b)) < _SLIP or abs(len(a) - len(b)) > 1 or not (a.isalpha() and b.isalpha()):
        return False
    start = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    one, other = a[start:], b[start:]
    swapped = one[1:2] + one[:1] + one[2:]
    return one[1:] == other or one == other[1:] or one[1:] == other[1:] or (len(one) > 1 and swapped == other)
