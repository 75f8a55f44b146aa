"""What the run was measured on: its queries with their right passages, and what came out for both models."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from fieldtune.errors import FieldtuneError
from fieldtune.types import SPLITS
from fieldtune.workspace import read_json, read_jsonl

_EXAMPLES = 8
_LONGEST = 110
"""Characters of an example that fits on a button."""


@dataclass(frozen=True, slots=True)
class Known:
    """A query of the run's data."""

    id: str
    text: str
    splits: tuple[str, ...] = ()
    right: frozenset[str] = frozenset()
    """Ids of its relevant passages."""


@dataclass(frozen=True, slots=True)
class Tested:
    queries: Mapping[str, Known] = field(default_factory=dict)
    """By folded text."""
    held_out: frozenset[str] = frozenset()
    """Folded texts of test questions, which nothing may be trained on."""

    @classmethod
    def of(cls, data: Path) -> Tested:
        """Of a run's BEIR folder; empty where it cannot be read. Remembered until the files change."""
        files = [data / "queries.jsonl", *(data / "qrels" / f"{split}.tsv" for split in SPLITS)]
        return _read(data, tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in files))

    def known(self, query: str) -> Known | None:
        return self.queries.get(folded(query))

    def examples(self, seed: int) -> Sequence[str]:
        """Some test questions, drawn by lot: none was chosen because it looks well."""
        fitting = [one.text for one in self.queries.values() if "test" in one.splits and len(one.text) <= _LONGEST]
        return random.Random(seed).sample(fitting, min(_EXAMPLES, len(fitting)))


@dataclass(frozen=True, slots=True)
class Figures:
    """Base against tuned over the whole test set."""

    base: float
    tuned: float
    """nDCG@10."""
    low: float
    high: float
    """95% interval of the difference."""
    first_base: float
    first_tuned: float
    """Share of queries with a right passage at rank 1."""
    queries: int


def figures_of(run: Path) -> Figures | None:
    """From metrics.json; None where it does not hold both models."""
    try:
        metrics: Any = read_json(run / "metrics.json")
        base, tuned = metrics["systems"]["base"], metrics["systems"]["tuned"]
        low, high = next(
            row["ci"] for row in metrics["comparisons"]
            if (row["a"], row["b"], row["metric"]) == ("tuned", "base", "ndcg@10")
        )  # fmt: skip
        return Figures(
            base["ndcg@10"], tuned["ndcg@10"], low, high, base["accuracy@1"], tuned["accuracy@1"], metrics["queries"]
        )
    except (FieldtuneError, LookupError, TypeError, ValueError, StopIteration):
        return None


def folded(query: str) -> str:
    """Queries that differ in spaces and capitals alone are one."""
    return " ".join(query.casefold().split())


@lru_cache(maxsize=2)
def _read(data: Path, stamps: tuple[int, ...]) -> Tested:
    try:
        texts = {str(row["_id"]): str(row["text"]) for _, row in read_jsonl(data / "queries.jsonl")}
        meta = read_json(data / "meta.json") if (data / "meta.json").exists() else {}
        threshold = int(meta.get("relevance_threshold", 1))
        splits: dict[str, dict[str, set[str]]] = {}
        for split in SPLITS:
            path = data / "qrels" / f"{split}.tsv"
            for line in path.read_text("utf-8-sig").split("\n")[1:] if path.exists() else ():
                query, *rest = line.split("\t")
                if query in texts and len(rest) > 1:
                    right = splits.setdefault(query, {}).setdefault(split, set())
                    if int(rest[-1]) >= threshold:
                        right.add(rest[-2])
    except (FieldtuneError, OSError, ValueError, LookupError, AttributeError):
        return Tested()  # a run may be served without the data that it was made from
    found: dict[str, Known] = {}
    for key, text in texts.items():
        rows = splits.get(key, {})
        found.setdefault(folded(text), Known(key, text, tuple(rows), frozenset(chain.from_iterable(rows.values()))))
    # Not of `found`: of two queries with one text it holds the first, and the other may be in the test split.
    return Tested(found, frozenset(folded(text) for key, text in texts.items() if "test" in splits.get(key, {})))
