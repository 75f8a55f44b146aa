"""Mining hard negatives from stored vectors, against `mine_hard_negatives` of Sentence Transformers.

    python benchmarks/speed_mine.py [--data DIR] [--passages 60000] [--queries 8000] [--repeats 3] [--check]

Both sides get the same unit vectors: drawn around centres, so that each query has many near neighbours; a query's
positive is the passage that it was drawn from. (Real corpora of that size would take hours to encode; products and
selection cost the same whatever the vectors mean. `--data` is taken for the sake of the other benchmarks and not read.)
Both look at the 50 nearest passages of each query and keep the 4 best that lie at least 5% below the positive. Texts
are numbers, so near-duplicates, which only fieldtune looks for, cost it little here. Time is taken in alternation in
one process; peak memory above that of the loaded vectors in a process of each side's own. With --check: 20,000
passages and 4,000 queries, nothing is written, the exit status is 1 where a ratio is under its bar.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from memory import peak_memory
from numpy.typing import NDArray
from results import RESULTS, append, markdown

BAR, MEMORY_BAR = 5.0, 4.0
DEPTH, KEPT = 50, 4


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="not read")
    parser.add_argument("--passages", type=int, default=60_000)
    parser.add_argument("--queries", type=int, default=8_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)  # a side, in a process of its own
    given = parser.parse_args(words)
    if given.check:
        given.passages, given.queries = min(given.passages, 20_000), min(given.queries, 4_000)
    return given


class Field:
    """Vectors and numbered texts."""

    def __init__(self, passages: int, queries: int, dimension: int) -> None:
        draw = np.random.default_rng(0)
        centres = draw.standard_normal((max(1, passages // 100), dimension), np.float32)
        drawn = centres[draw.integers(0, len(centres), passages)]
        drawn += draw.standard_normal((passages, dimension), np.float32)
        self.passages = unit(drawn)
        self.own = draw.integers(0, passages, queries)
        noise = 0.03 * draw.standard_normal((queries, dimension), np.float32)
        self.queries = unit(self.passages[self.own] + noise)
        self.texts = [f"passage {number}" for number in range(passages)]
        self.asked = [f"query {number}" for number in range(queries)]


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def ours(field: Field) -> list[set[int]]:
    from fieldtune.config import Negatives
    from fieldtune.dataset.candidates import candidates_from
    from fieldtune.dataset.known import Known
    from fieldtune.dataset.mining import mine

    nothing: list[list[int]] = [[] for _ in field.asked]
    known = Known(
        query_ids=field.asked,
        queries=field.asked,
        styles=["human"] * len(field.asked),
        passage_ids=field.texts,
        texts=field.texts,
        groups=[""] * len(field.texts),
        positives=[[row] for row in field.own.tolist()],
        irrelevant=nothing,
        partly=nothing,
        twins={},
        held=frozenset(),
    )
    found = candidates_from("model", field.asked, field.texts, field.queries, field.passages, DEPTH)
    settings = Negatives(per_query=KEPT, depth=DEPTH, max_share_of_positive=0.95)
    return [set(rows) for rows in mine(known, found, field.queries, field.passages, settings).negatives]


def peer(field: Field) -> list[set[int]]:
    import torch
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import mine_hard_negatives

    place = {text: row for row, text in enumerate(field.texts)} | {text: row for row, text in enumerate(field.asked)}

    class Stored(SentenceTransformer):
        """Gives stored vectors for texts."""

        def encode(self, texts: list[str], **_: object) -> torch.Tensor:
            side = field.queries if texts[0].startswith("query") else field.passages
            return torch.from_numpy(side[[place[text] for text in texts]])

        encode_query = encode_document = encode

    answers = [field.texts[row] for row in field.own]
    rows = mine_hard_negatives(
        Dataset.from_dict({"query": field.asked, "answer": answers}),
        Stored(modules=[torch.nn.Identity()], device="cpu"),
        corpus=field.texts,
        num_negatives=KEPT,
        range_max=DEPTH,
        relative_margin=0.05,
        output_format="labeled-list",
        verbose=False,
    )
    out: list[set[int]] = [set() for _ in field.asked]
    asked = {text: row for row, text in enumerate(field.asked)}
    for row in rows:
        out[asked[row["query"]]] = {place[text] for text in row["answer"][1:]}
    return out


SIDES = {"peer": peer, "fieldtune": ours}


def memory_of(side: str, given: argparse.Namespace) -> float:
    """GB that a side needs beyond imports and vectors, in a process of its own."""
    command = [sys.executable, __file__, "--one", side]
    for name in ("passages", "queries", "dimension"):
        command += [f"--{name}", str(getattr(given, name))]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(json.loads(said.splitlines()[-1])["gb"])


def main(words: list[str] | None = None) -> int:
    given = arguments(words)
    if given.one:
        SIDES[given.one](Field(10_000, 1_500, given.dimension))  # what is loaded once is not the work's
        field = Field(given.passages, given.queries, given.dimension)
        before = peak_memory()
        SIDES[given.one](field)
        print(json.dumps({"gb": peak_memory() - before}))
        return 0
    field = Field(given.passages, given.queries, given.dimension)
    took: dict[str, list[float]] = {side: [] for side in SIDES}
    found: dict[str, list[set[int]]] = {}
    for _ in range(given.repeats):
        for side, mine in SIDES.items():
            began = time.perf_counter()
            found[side] = mine(field)
            took[side].append(time.perf_counter() - began)
    full = [(a, b) for a, b in zip(found["peer"], found["fieldtune"], strict=True) if len(a) == len(b) == KEPT]
    same = sum(len(a & b) for a, b in full) / max(1, KEPT * len(full))
    ratios = sorted(a / b for a, b in zip(took["peer"], took["fieldtune"], strict=True))
    ratio = statistics.median(ratios)
    memory = {side: memory_of(side, given) for side in SIDES}
    saved = memory["peer"] / max(1e-3, memory["fieldtune"])
    rows = [(side, f"{statistics.median(took[side]):.2f} s", f"{1000 * memory[side]:,.0f} MB") for side in SIDES]
    table = markdown(("side", "time (median)", "peak memory added"), rows)
    said = (
        f"{ratio:.2f} times as fast ({ratios[0]:.2f} to {ratios[-1]:.2f} in {len(ratios)} paired runs, bar {BAR:g}), "
        f"{saved:.1f} times less memory (bar {MEMORY_BAR:g}); {100 * same:.2f}% of the negatives are the same"
    )
    if given.check:
        print("\n".join(table))
    else:
        about = (
            f"{given.passages:,} passages, {given.queries:,} queries, {given.dimension} dimensions, {DEPTH} nearest,"
            f" {KEPT} kept; generated vectors."
        )
        print(append("Mining hard negatives from stored vectors", about, [*table, "", said + "."], given.results))
    print(said)
    return int(ratio < BAR or saved < MEMORY_BAR or same < 0.95)


if __name__ == "__main__":
    sys.exit(main())
