"""What sets one test query apart from another: the label of each query in each way of slicing them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import regex

from fieldtune.beir import RetrievalData
from fieldtune.corpus.shingling import words
from fieldtune.dataset.leaks import query_terms
from fieldtune.evaluation.alike import rarity, vocabulary
from fieldtune.types import Passage, Query

_DOCUMENTS = 12  # documents named one by one; the others are one slice together
_VALUES = 20  # a metadata field of more values is no field to slice by
_SCRIPTS = (
    ("Japanese", regex.compile(r"[\p{Hiragana}\p{Katakana}]")),
    ("Korean", regex.compile(r"\p{Hangul}")),
    ("Chinese", regex.compile(r"\p{Han}")),
    ("Arabic script", regex.compile(r"\p{Arabic}")),
    ("Cyrillic script", regex.compile(r"\p{Cyrillic}")),
    ("Greek", regex.compile(r"\p{Greek}")),
    ("Hebrew", regex.compile(r"\p{Hebrew}")),
    ("Thai", regex.compile(r"\p{Thai}")),
    ("Devanagari script", regex.compile(r"\p{Devanagari}")),
)
# Words that one of these languages uses all the time and the others hardly ever.
_LATIN = {
    "English": "the and of is are what how does which with for to can who when",
    "German": "der das und ist wie welche nicht mit für wird sind auf ein eine werden",
    "French": "le les des et est quels quelle pour dans une du sont peut comment",
    "Spanish": "el los las y es qué cuál para una del cómo se son cuáles",
    "Italian": "il gli di è che quali per una della come sono quale nel",
    "Portuguese": "os o um é que quais para uma do da como são não",
    "Dutch": "de het een en is wat hoe van voor met niet zijn welke",
}
_LATIN_WORDS = {name: frozenset(text.split()) for name, text in _LATIN.items()}

Labels = list[str | None]
"""One per query; None leaves the query out of this way of slicing."""


def facets(data: RetrievalData, split: str, queries: Sequence[str]) -> dict[str, Labels]:
    """Way of slicing -> the label of each query; ways that tell no two queries apart are left out."""
    asked = [data.queries[name] for name in queries]
    positives = data.positives(split)
    right = [[data.passages[key] for key in positives[name]] for name in queries]
    found: dict[str, Labels] = {
        "document": _largest([_one(p.group for p in passages) for passages in right]),
        "query style": [query.style or "written by people" for query in asked],
        "query length": _thirds([len(words(query.text)) for query in asked], _by_words),
        "language": [language(query) for query in asked],
        "relevant passages": [_how_many(len(passages)) for passages in right],
        "words shared with the answer": _thirds(_overlap(data, asked, right), _by_overlap),
    }
    found |= {f"query {key}": labels for key, labels in _fields([query.metadata for query in asked]).items()}
    found |= {f"passage {key}": labels for key, labels in _fields([_common(passages) for passages in right]).items()}
    return {name: labels for name, labels in found.items() if len(set(labels) - {None}) > 1}


def language(query: Query) -> str:
    """The query's metadata say it, else its script, else its commonest short words; "undecided" where these fail."""
    for key in ("language", "lang"):
        if isinstance(given := query.metadata.get(key), str) and given:
            return given
    letters = max(1, len(re.findall(r"[^\W\d_]", query.text)))
    for name, pattern in _SCRIPTS:
        # A name in Latin letters does not make a Chinese question English, nor one kanji an English one Chinese.
        if len(pattern.findall(query.text)) >= 0.2 * letters:
            return name
    asked = set(words(query.text))
    votes = sorted(((len(asked & some), name) for name, some in _LATIN_WORDS.items()), reverse=True)
    return votes[0][1] if votes[0][0] > votes[1][0] else "undecided"


def _overlap(data: RetrievalData, asked: Sequence[Query], right: Sequence[Sequence[Passage]]) -> list[float]:
    """Share of the query's words, weighed by rarity, that the most alike of its relevant passages has."""
    terms = [query_terms(query.text) for query in asked]
    corpus = vocabulary([passage.content for passage in data.passages.values()])
    weights = rarity({term for some in terms for term in some}, corpus)
    shares = []
    for some, passages in zip(terms, right, strict=True):
        every = math.fsum(weights[term] for term in some)
        shared = [math.fsum(weights[term] for term in some & query_terms(p.content)) for p in passages]
        shares.append(round(max(shared) / every, 9))
    return shares


def _one(values: Iterable[str]) -> str | None:
    """The value that all share, "several" for more than one, None where one is missing."""
    found = sorted(set(values))
    if not found or "" in found:
        return None
    return found[0] if len(found) == 1 else "several"


def _largest(labels: Labels) -> Labels:
    counts = Counter(label for label in labels if label is not None)
    if len(counts) <= _DOCUMENTS + 1:
        return labels
    kept = {name for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_DOCUMENTS]}
    others = f"{len(counts) - len(kept):,} others"
    return [label if label is None or label in kept else others for label in labels]


def _how_many(count: int) -> str:
    return "1" if count == 1 else "2 or 3" if count < 4 else "4 or more"


def _thirds(values: Sequence[float], name: Callable[[int, float, float], str]) -> Labels:
    """Cut into a low, a middle and a high third; equal values stay together."""
    array = np.asarray(values, np.float64)
    edges = np.quantile(array, [1 / 3, 2 / 3], method="lower")
    part = np.searchsorted(edges, array, side="left")
    bounds = {int(n): (float(array[part == n].min()), float(array[part == n].max())) for n in np.unique(part)}
    return [name(int(n), *bounds[int(n)]) for n in part]


def _by_words(part: int, low: float, high: float) -> str:
    return f"{low:.0f} to {high:.0f} words" if low < high else f"{low:.0f} word{'s' if low != 1 else ''}"


def _by_overlap(part: int, low: float, high: float) -> str:
    return f"{('few', 'some', 'most')[part]} ({low:.0%} to {high:.0%})"


def _common(passages: Sequence[Passage]) -> dict[str, object]:
    """The metadata that all these passages have, with "several" where they differ."""
    keys = set.intersection(*(set(passage.metadata) for passage in passages))
    return {
        key: passages[0].metadata[key]
        if all(passage.metadata[key] == passages[0].metadata[key] for passage in passages)
        else "several"
        for key in sorted(keys)
    }


def _fields(rows: Sequence[Mapping[str, object]]) -> dict[str, Labels]:
    """Metadata fields of few values, most queries having one."""
    out: dict[str, Labels] = {}
    for key in sorted({key for row in rows for key in row} - {"style", "language", "lang"}):
        labels: Labels = [
            str(value) if isinstance(value := row.get(key), str | int) and str(value).strip() else None for row in rows
        ]
        values = {label for label in labels if label is not None}
        given = sum(label is not None for label in labels)
        if len(values) <= min(_VALUES, given / 2) and given >= len(labels) / 2:
            out[key] = labels
    return out
