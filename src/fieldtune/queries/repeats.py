"""Made queries that say the same: one stays, with the passages of all of them.

Two passages that were asked about in the same words both answer them. Kept apart, each query would make the other's
passage look wrong; joined, both are right. Where more passages come together than a query can mean, all of it goes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from fieldtune.corpus.near import near_duplicate_pairs
from fieldtune.lexical import STOP_WORDS, tokenize
from fieldtune.queries.filters import figures
from fieldtune.queries.joining import MOST_PASSAGES
from fieldtune.types import Qrels, Query

ALIKE = 0.9
"""Jaccard similarity of words (Chinese: character pairs) from which two queries say the same."""


def join_repeats(queries: Mapping[str, Query], qrels: Qrels, seed: int) -> tuple[Qrels, dict[str, str]]:
    """The qrels of the queries that stay, with the passages of those that went, and why each of these went."""
    ids = list(queries)
    texts = [queries[key].text for key in ids]
    sets = [np.unique(np.array([_hash(word) for word in _words(text)], np.uint64)) for text in texts]
    into: dict[int, int] = {}
    for one, other, _ in near_duplicate_pairs(sets, ALIKE, seed):
        # Last year's figure is another question than this year's.
        if figures(texts[one]) == figures(texts[other]) and other not in into:
            into[other] = into.get(one, one)
    groups: dict[int, list[int]] = {}
    for other, one in into.items():
        groups.setdefault(one, []).append(other)
    kept = {key: dict(qrels[key]) for key in ids}
    dropped: dict[str, str] = {}
    for one, others in groups.items():
        family = [ids[one], *(ids[other] for other in others)]
        answers = {passage for key in family for passage in qrels[key]}
        if len(answers) > MOST_PASSAGES:
            dropped |= dict.fromkeys(family, f"asked of {len(answers)} passages in much the same words")
            continue
        kept[ids[one]] |= {passage: 1 for key in family for passage in qrels[key]}
        dropped |= dict.fromkeys(family[1:], f"repeats {texts[one]!r}")
    return {key: row for key, row in kept.items() if key not in dropped}, dropped


def _words(text: str) -> list[str]:
    words = tokenize(text)
    return [word for word in words if word not in STOP_WORDS] or words


@lru_cache(maxsize=1 << 16)
def _hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
