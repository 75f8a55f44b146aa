from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fieldtune.beir import RetrievalData
from fieldtune.config import Evaluation as Settings
from fieldtune.evaluation import Evaluation, Proof, System, asked, audit, bm25_ranking, dense_ranking, evaluate, prove
from fieldtune.types import Passage, Query

WORDS = (
    "covenant", "lessee", "dividend", "warrant", "escrow", "lien",
    "audit", "clause", "tender", "novation", "surety", "pledge",
)  # fmt: skip
EVIL = '<script src="https://evil.example/x.js">alert(1)</script><img src=x onerror=alert(1)>'


@pytest.fixture(scope="session")
def collection() -> RetrievalData:
    """48 passages in 12 groups, 37 test queries of which one has no relevant passage, and some queries with markup."""
    passages, queries, test = {}, {}, {}
    for n in range(48):
        text = f"The {WORDS[n % 12]} and the {WORDS[(n // 4) % 12]} of matter {n}."
        passages[f"p{n:02d}"] = Passage(
            f"p{n:02d}", f"Deed {n // 4} > Clause {n}", text, group=f"deed {n // 4}", source="deeds.pdf", page=n + 1
        )
    for n in range(36):
        queries[f"q{n}"] = Query(
            f"q{n}", f"Who bears the {WORDS[n % 12]} in matter {n}? {EVIL * (n % 3 == 0)}", style="cropped" * (n % 2)
        )
        test[f"q{n}"] = {f"p{n:02d}": 1, f"p{(n + 5) % 48:02d}": 0}
    queries["bare"] = Query("bare", "Nothing answers this")
    test["bare"] = {"p00": 0}
    return RetrievalData(passages, queries, {"test": test})


def vectors(data: RetrievalData, noise: float, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Unit vectors of queries and passages; a query lies by its passage as far as `noise` lets it."""
    base = np.random.default_rng(1).standard_normal((len(data.passages), 16))
    place = {name: row for row, name in enumerate(data.passages)}
    positives = data.positives("test")
    target = np.stack([base[place[positives[query][0]]] for query in asked(data, "test")])
    moved = target + noise * np.random.default_rng(seed).standard_normal(target.shape)
    return tuple((x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in (moved, base))  # type: ignore[return-value]


@pytest.fixture(scope="session")
def systems(collection: RetrievalData) -> list[System]:
    return [
        System("base", dense_ranking(collection, "test", *vectors(collection, 1.5, 2))),
        System("tuned", dense_ranking(collection, "test", *vectors(collection, 0.9, 3))),
        System("BM25", bm25_ranking(collection, "test")),
    ]


@pytest.fixture(scope="session")
def evaluation(collection: RetrievalData, systems: list[System]) -> Evaluation:
    return evaluate(collection, "test", systems, Settings(), seed=13)


@pytest.fixture(scope="session")
def proof(collection: RetrievalData, evaluation: Evaluation, systems: list[System]) -> Proof:
    return prove(collection, evaluation, systems, audit(collection, "test", Settings()), Settings())


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """Compare text with a file of the folder golden; WRITE_GOLDEN=1 writes it, to be read and committed."""

    def check(name: str, text: str) -> None:
        path = Path(__file__).parent / "golden" / name
        if os.environ.get("WRITE_GOLDEN"):
            path.write_text(text, "utf-8", newline="\n")
        assert text == path.read_text("utf-8")

    return check
