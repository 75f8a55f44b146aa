"""What each stage costs as the corpus grows: time and peak memory from a thousand to a million passages, plotted.

    python benchmarks/speed_scale.py [--data DIR] [--sizes 1000 10000 100000 1000000] [--stage NAME ...] [--check]

Texts are of random words, as many as passages of the BEIR folders in DIR have (else after a log-normal distribution);
vectors are generated too, for encoding a million passages would take hours, and lie in files that the stages map into
memory. Each stage and size runs in a process of its own:

- parsing: Markdown files of about 200 passages each, read into documents;
- passages: ready texts into a corpus, near-duplicates looked for among all of them;
- mining: 2,000 queries, 50 nearest, 4 negatives kept;
- index: vectors into codes; search: 200 queries of the 10 best by codes, exact.

Memory is the peak of the process less what it held when its work began. Said is how much more a passage costs at the
largest size than at the one before it; 1 is linear. With --check: up to 30,000 passages, nothing is written, exit
status 1 where a passage costs more than twice as much.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from lengths import texts
from memory import forget_peak, peak_memory
from results import RESULTS, append, markdown

DIMENSION, QUERIES = 384, 2_000
STAGES = ("parsing", "passages", "mining", "index", "search")
PICTURE = Path(__file__).parent.parent / "docs" / "scale.svg"
LIMIT = 2.0
Work = Callable[[], object]


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="BEIR folders, for the lengths of passages")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--stage", choices=STAGES, nargs="+", default=list(STAGES))
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a stage, in a process of its own
    given = parser.parse_args(words)
    if given.check:
        given.sizes = [1_000, 10_000, 30_000]
    return given


def vectors(folder: Path, count: int) -> np.ndarray:
    """Unit vectors around centres, in a file mapped into memory."""
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((1_000, DIMENSION), np.float32)
    out = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, (count, DIMENSION))
    for begin in range(0, count, 10_000):
        part = out[begin : begin + 10_000]
        rows = centres[draw.integers(0, 1_000, len(part))] + draw.standard_normal(part.shape, np.float32)
        part[:] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    out.flush()
    del out
    return np.asarray(np.load(folder / "vectors.npy", mmap_mode="r"))


def parsing(folder: Path, count: int, data: Path | None) -> Work:
    from fieldtune.config import Documents
    from fieldtune.documents import read_documents

    source = folder / "files"
    source.mkdir()
    made = texts(count, data)
    for begin in range(0, count, 200):
        parts = (f"## Part {number}\n\n{text}\n" for number, text in enumerate(made[begin : begin + 200]))
        (source / f"{begin}.md").write_text("\n".join(parts), "utf-8")
    config = Documents(paths=(str(source),))
    return lambda: read_documents(config, folder / "documents.jsonl", folder / "cache")


def passages(folder: Path, count: int, data: Path | None) -> Work:
    from fieldtune.config import Corpus
    from fieldtune.corpus import build_corpus
    from fieldtune.types import Block, Document

    made = texts(count, data)
    documents = (
        Document(str(number), f"{number}.txt", f"text {number}", (Block("paragraph", text),), {"ready": True})
        for number, text in enumerate(made)
    )
    return lambda: build_corpus(Corpus(), documents, lambda all_of: [len(text) // 4 for text in all_of], folder)


def mining(folder: Path, count: int, data: Path | None) -> Work:
    from fieldtune.config import Negatives
    from fieldtune.dataset.candidates import candidates_from
    from fieldtune.dataset.known import Known
    from fieldtune.dataset.mining import mine

    found, made = vectors(folder, count), texts(count, data)
    draw = np.random.default_rng(1)
    own = draw.integers(0, count, QUERIES)
    asked = found[own] + 0.03 * draw.standard_normal((QUERIES, DIMENSION), np.float32)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    names, nothing = [str(number) for number in range(QUERIES)], [[] for _ in range(QUERIES)]
    known = Known(
        query_ids=names, queries=names, styles=["human"] * QUERIES, passage_ids=[""] * count, texts=made,
        groups=[""] * count, positives=[[row] for row in own.tolist()], irrelevant=nothing, partly=nothing, twins={},
        held=frozenset(),
    )  # fmt: skip
    settings = Negatives(per_query=4, depth=50)
    return lambda: mine(known, candidates_from("model", names, made, asked, found, 50), asked, found, settings)


def index(folder: Path, count: int, _: Path | None) -> Work:
    from fieldtune.index.dense import write_codes

    found = vectors(folder, count)
    return lambda: write_codes(folder, "vectors", found, DIMENSION)


def search(folder: Path, count: int, data: Path | None) -> Work:
    import torch

    from fieldtune.index.dense import Dense

    index(folder, count, data)()
    dense = Dense(folder, "vectors")
    torch.set_num_threads(torch.get_num_threads())
    asked = np.array(dense.vectors[:: max(1, count // 200)][:200])
    return lambda: [dense.best(asked[row : row + 1], 10) for row in range(len(asked))]


MAKE = {"parsing": parsing, "passages": passages, "mining": mining, "index": index, "search": search}


def measured(stage: str, size: int, data: Path | None) -> tuple[float, float]:
    """Seconds and GB."""
    command = [sys.executable, __file__, "--one", stage, "--sizes", str(size)]
    said = subprocess.run([*command, *(["--data", str(data)] if data else [])], check=True, stdout=subprocess.PIPE)
    seconds, memory = json.loads(said.stdout.splitlines()[-1])
    return float(seconds), float(memory)


def plot(path: Path, sizes: list[int], found: dict[str, list[tuple[float, float]]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for place, (axes, unit) in enumerate(zip(figure.subplots(1, 2), ("seconds", "GB added at the peak"), strict=True)):
        for stage, costs in found.items():
            axes.loglog(sizes, [max(cost[place], 1e-3) for cost in costs], marker="o", label=stage)
        axes.set_xlabel("passages")
        axes.set_ylabel(unit)
        axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)


def main(words: list[str] | None = None) -> int:
    given = arguments(words)
    if given.one:
        with tempfile.TemporaryDirectory() as folder:
            work = MAKE[given.one](Path(folder), given.sizes[0], given.data)
            forget_peak()
            before, began = peak_memory(), time.perf_counter()
            work()
            print(json.dumps([time.perf_counter() - began, peak_memory() - before]))
        return 0
    sizes = sorted(given.sizes)
    found = {stage: [measured(stage, size, given.data) for size in sizes] for stage in given.stage}
    rows = [
        (stage, *(f"{seconds:.1f} s, {1_000 * memory:,.0f} MB" for seconds, memory in costs))
        for stage, costs in found.items()
    ]
    growth = {}
    if len(sizes) > 1:
        step = sizes[-1] / sizes[-2]
        growth = {stage: costs[-1][0] / max(costs[-2][0], 0.05) / step for stage, costs in found.items()}
    table = markdown(("stage", *(f"{size:,}" for size in sizes)), rows)
    said = "cost of a passage at the largest size, of that at the one before: " + ", ".join(
        f"{stage} {ratio:.2f}" for stage, ratio in growth.items()
    )
    if given.check:
        print("\n".join(table))
    else:
        plot(given.picture, sizes, found)
        about = f"Generated texts and vectors of {DIMENSION} dimensions; each stage in a process of its own."
        print(append("Cost of each stage as the corpus grows", about, [*table, "", said + "."], given.results))
    print(said)
    return int(any(ratio > LIMIT for ratio in growth.values()))


if __name__ == "__main__":
    sys.exit(main())
