"""What training has seen: queries, relevant passages, their documents, and passages it pushed away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fieldtune.beir import RetrievalData
from fieldtune.corpus.shingling import words
from fieldtune.dataset.parts import Sets
from fieldtune.types import Example


@dataclass(frozen=True, slots=True)
class Known:
    """One side of the split, by what its texts say; names tell where a text stands."""

    queries: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Words of the query -> (name, text)."""
    ids: dict[str, str] = field(default_factory=dict)
    """Id of each judged query that has a relevant passage -> its text."""
    passages: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    """Words of title and text of a relevant passage -> (name, text without title, title and text)."""
    documents: dict[str, str] = field(default_factory=dict)
    """Document group -> one of its passages."""
    negatives: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    """Words of a negative -> (the row it stands in, text without title, title and text)."""
    rows: int = 0
    """Rows of training data, beside the judged queries."""


def plain(text: str) -> str:
    """The words of a text, whatever its case, punctuation and spacing; the text itself where it has none."""
    return " ".join(words(text)) or text.strip()


def known_from_qrels(data: RetrievalData, split: str) -> Known:
    """The queries of a split that have a relevant passage, with these passages."""
    known = Known()
    for name, found in data.positives(split).items():
        query = data.queries[name]
        known.ids[name] = query.text
        known.queries.setdefault(plain(query.text), (name, query.text))
        for key in found:
            passage = data.passages[key]
            known.passages.setdefault(plain(passage.content), (key, passage.text, passage.content))
            if passage.group:
                known.documents.setdefault(passage.group, key)
    return known


def with_rows(known: Known, rows: Iterable[Example], path: Path, data: RetrievalData) -> Known:
    """Add rows of training data; a text that is a passage of the corpus counts as that passage.

    A passage is recognised with its title before it, as training writes it, or by its text alone.
    """
    by_text = {text: key for key, passage in data.passages.items() for text in (passage.text, passage.content)}
    queries, passages = dict(known.queries), dict(known.passages)
    documents, negatives, count = dict(known.documents), dict(known.negatives), 0
    for count, row in enumerate(rows, 1):
        name = f"{path.name}, row {count}"
        queries.setdefault(plain(row.query), (name, row.query))
        for text in row.pos:
            key = by_text.get(text)
            if key is None:
                passages.setdefault(plain(text), (name, text, text))
                continue
            passage = data.passages[key]
            passages.setdefault(plain(passage.content), (key, passage.text, passage.content))
            if passage.group:
                documents.setdefault(passage.group, key)
        for text in row.neg:
            key = by_text.get(text)
            body, content = (data.passages[key].text, data.passages[key].content) if key else (text, text)
            negatives.setdefault(plain(content), (name, body, content))
    return Known(queries, known.ids, passages, documents, negatives, count)


def tied_documents(
    data: RetrievalData, positives: Sequence[Mapping[str, Sequence[str]]], share: float
) -> frozenset[str]:
    """Documents that no split can keep on one side: with those they share queries with, they hold more than `share` of
    all labelled queries."""
    sets = Sets()
    first = []
    for found in (found for side in positives for found in side.values()):
        groups = sorted({data.passages[key].group for key in found} - {""})
        for group in groups:
            sets.join(groups[0], group)
        first += groups[:1]
    load = Counter(map(sets.find, first))
    total = sum(len(side) for side in positives)
    return frozenset(group for group in sets.names() if load[sets.find(group)] > share * total)
