"""Mining hard negatives from stored vectors, against `mine_hard_negatives` of Sentence Transformers.

    python benchmarks/speed_mine.py [--data DIR] [--passages 60000] [--queries 8000] [--repeats 5] [--check]

Both sides get the same unit vectors: drawn around centres, so that each query has many near neighbours; a query's
positive is the passage that it was drawn from. (Real corpora of that size would take hours to encode; products and
selection cost the same whatever the vectors mean.) Texts are random words, as many as a real passage has: of the BEIR
folders in DIR, else after a log-normal distribution of median 90.

By default fieldtune reads the texts to leave out near-duplicates of the positive; the peer does not look for those. So
it is measured twice, as it comes and with negatives.near_duplicate=1, which leaves out the very same text alone, as the
peer does; the bar is for the same work.

Both look at the 50 nearest passages of each query and keep the 4 best that lie at least 5% below the positive. The peer
is given its way of blocks (the default; its other one needs faiss). Taken is the time of the call alone, in alternation
in one process; peak memory above that of the loaded texts and vectors in a process of each side's own. With --check:
3 repeats, nothing is written, the exit status is 1 where a ratio is under its bar or the negatives are not the same.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from lengths import texts, told
from memory import forget_peak, peak_memory
from numpy.typing import NDArray
from results import RESULTS, append, markdown

BAR, MEMORY_BAR = 5.0, 4.0
PEER, DEFAULT, LIKE = "peer", "fieldtune", "fieldtune, near_duplicate=1"
DEPTH, KEPT = 50, 4


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="BEIR folders, for the lengths of passages")
    parser.add_argument("--passages", type=int, default=60_000)
    parser.add_argument("--queries", type=int, default=8_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)  # a side, in a process of its own
    given = parser.parse_args(words)
    if given.check:
        given.repeats = min(given.repeats, 3)
    return given


class Field:
    """Vectors and texts of random words."""

    def __init__(self, passages: int, queries: int, dimension: int, data: Path | None = None) -> None:
        draw = np.random.default_rng(0)
        centres = draw.standard_normal((max(1, passages // 100), dimension), np.float32)
        drawn = centres[draw.integers(0, len(centres), passages)]
        drawn += draw.standard_normal((passages, dimension), np.float32)
        self.passages = unit(drawn)
        self.own = draw.integers(0, passages, queries)
        noise = 0.03 * draw.standard_normal((queries, dimension), np.float32)
        self.queries = unit(self.passages[self.own] + noise)
        self.texts = texts(passages, data)
        self.asked = [f"query {number}" for number in range(queries)]


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def ours(field: Field, **more: float) -> tuple[float, list[set[int]]]:
    """Seconds, and the negatives of each query, with `more` settings of them."""
    from fieldtune.config import Negatives
    from fieldtune.dataset.candidates import candidates_from
    from fieldtune.dataset.known import Known
    from fieldtune.dataset.mining import mine

    nothing: list[list[int]] = [[] for _ in field.asked]
    known = Known(
        query_ids=field.asked,
        queries=field.asked,
        styles=["human"] * len(field.asked),
        passage_ids=[""] * len(field.texts),
        texts=field.texts,
        groups=[""] * len(field.texts),
        positives=[[row] for row in field.own.tolist()],
        irrelevant=nothing,
        partly=nothing,
        twins={},
        held=frozenset(),
    )
    began = time.perf_counter()
    found = candidates_from("model", field.asked, field.texts, field.queries, field.passages, DEPTH)
    settings = Negatives(per_query=KEPT, depth=DEPTH, max_share_of_positive=0.95, **more)
    mined = mine(known, found, field.queries, field.passages, settings)
    return time.perf_counter() - began, [set(rows) for rows in mined.negatives]


def peer(field: Field) -> tuple[float, list[set[int]]]:
    import torch
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import mine_hard_negatives

    place = {text: row for row, text in enumerate(field.texts)} | {text: row for row, text in enumerate(field.asked)}

    class Stored(SentenceTransformer):
        """Gives stored vectors for texts."""

        def encode(self, texts: list[str], **_: object) -> torch.Tensor:
            side = field.queries if texts[0].startswith("query") else field.passages
            assert [place[texts[0]], place[texts[-1]]] == [0, len(side) - 1]  # it asks for all of them, in order
            return torch.from_numpy(side)

        encode_query = encode_document = encode

    answers = [field.texts[row] for row in field.own]
    pairs = Dataset.from_dict({"query": field.asked, "answer": answers})
    model = Stored(modules=[torch.nn.Identity()], device="cpu")
    began = time.perf_counter()
    rows = mine_hard_negatives(
        pairs,
        model,
        corpus=field.texts,
        num_negatives=KEPT,
        range_max=DEPTH,
        relative_margin=0.05,
        output_format="labeled-list",
        verbose=False,
    )
    took = time.perf_counter() - began
    out: list[set[int]] = [set() for _ in field.asked]
    asked = {text: row for row, text in enumerate(field.asked)}
    for query, found in zip(rows["query"], rows["answer"], strict=True):
        out[asked[query]] = {place[text] for text in found[1:]}
    return took, out


SIDES: dict[str, Callable[[Field], tuple[float, list[set[int]]]]] = {
    PEER: peer,
    DEFAULT: ours,
    LIKE: partial(ours, near_duplicate=1),
}


def memory_of(side: str, given: argparse.Namespace) -> float:
    """GB that a side needs beyond imports and vectors, in a process of its own."""
    command = [sys.executable, __file__, "--one", side]
    for name in ("passages", "queries", "dimension"):
        command += [f"--{name}", str(getattr(given, name))]
    if given.data:
        command += ["--data", str(given.data)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(json.loads(said.splitlines()[-1])["gb"])


def main(words: list[str] | None = None) -> int:
    given = arguments(words)
    if given.one:
        SIDES[given.one](Field(10_000, 1_500, given.dimension))  # what is loaded once is not the work's
        field = Field(given.passages, given.queries, given.dimension, given.data)
        forget_peak()
        before = peak_memory()
        SIDES[given.one](field)
        print(json.dumps({"gb": peak_memory() - before}))
        return 0
    field = Field(given.passages, given.queries, given.dimension, given.data)
    took: dict[str, list[float]] = {side: [] for side in SIDES}
    found: dict[str, list[set[int]]] = {}
    for _ in range(given.repeats):
        for side, mine in SIDES.items():
            seconds, found[side] = mine(field)
            took[side].append(seconds)
    full = [(a, b) for a, b in zip(found[PEER], found[LIKE], strict=True) if len(a) == len(b) == KEPT]
    same = sum(len(a & b) for a, b in full) / max(1, KEPT * len(full))
    if len(full) < 0.95 * given.queries:  # what both sides found nothing for agrees by itself
        same = 0.0
    ratios, default = (sorted(a / b for a, b in zip(took[PEER], took[side], strict=True)) for side in (LIKE, DEFAULT))
    ratio = statistics.median(ratios)
    memory = {side: memory_of(side, given) for side in SIDES}
    saved = memory[PEER] / max(1e-3, memory[DEFAULT], memory[LIKE])
    rows = [(side, f"{statistics.median(took[side]):.2f} s", f"{1000 * memory[side]:,.0f} MB") for side in SIDES]
    table = markdown(("side", "time (median)", "peak memory added"), rows)
    said = (
        f"{ratio:.2f} times as fast at equal work ({ratios[0]:.2f} to {ratios[-1]:.2f} in {len(ratios)} paired runs, "
        f"bar {BAR:g}), {statistics.median(default):.2f} ({default[0]:.2f} to {default[-1]:.2f}) as it comes; "
        f"{saved:.1f} times less memory (bar {MEMORY_BAR:g}); {100 * same:.2f}% of the negatives are the same"
    )
    if given.check:
        print("\n".join(table))
    else:
        about = (
            f"{given.passages:,} passages, {given.queries:,} queries, {given.dimension} dimensions, {DEPTH} nearest,"
            f" {KEPT} kept; generated vectors, {told(given.data)}."
        )
        print(append("Mining hard negatives from stored vectors", about, [*table, "", said + "."], given.results))
    print(said)
    return int(ratio < BAR or saved < MEMORY_BAR or same < 0.95)


if __name__ == "__main__":
    sys.exit(main())
