"""What each stage costs as the corpus grows: time and peak memory from a thousand to a million passages, plotted.

    python benchmarks/speed_scale.py [--data DIR] [--sizes 1000 10000 100000 1000000] [--stage NAME ...] [--check]

Texts are of random words, as many as passages of the BEIR folders in DIR have (else after a log-normal distribution);
vectors are generated too, for encoding a million passages would take hours, and lie in files that the stages map into
memory. For each stage and size one process makes what it needs, and another one, which is measured, works on that:

- parsing: Markdown files of about 200 parts each, read into documents;
- passages: such documents cut by their headings into passages, tokens counted by the builtin model's tokenizer;
- dedupe: ready texts, one in ten a copy of another with a word changed, compared with each other: all copies but a few
  must be found;
- mining: 4,000 queries, 50 nearest, 4 negatives kept;
- index: the whole of it: files, words, codes, table;
- search: 1,000 queries in it, one by one, by words and vectors; each asks with a passage's own vector and first words,
  and that passage must be among the ten found.

Memory is the most that the process holds, with the largest of its reading processes, less what it held when its work
began. Texts and passages that the stage is given in memory are not counted, nor are pages of files mapped into memory:
the system takes these back where others need room; what is resident with all of that is said beside it. Said is how
much more a further passage costs at each size than at the one before (1 is linear; of the smallest size start-up counts
too, of the others only what is added to the size before), and what memory each further passage takes at the last step:
of mining and index where both sizes are above 65,536 passages, for up to there they fill buffers that grow no more
(vectors; words that were seen, rows of the table); of the stage passages each one that comes of a text counts.

With --check: up to 30,000 passages, of mining and index up to 140,000, nothing is written, exit status 1 where a
passage costs more than twice as much, or takes over 2 kB: a million passages are to fit in 2 GB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice, pairwise
from pathlib import Path

import numpy as np
from lengths import texts, told
from memory import held, peak_memory
from results import RESULTS, append, markdown

from fieldtune.workspace import read_jsonl, write_jsonl

DIMENSION, QUERIES, SEARCHES = 384, 4_000, 1_000
STAGES = ("parsing", "passages", "dedupe", "mining", "index", "search")
PICTURE = Path(__file__).parent.parent / "docs" / "scale.svg"
LIMIT, KILOBYTES = 2.0, 2.0
LEAST = 0.1
"""Seconds: a smaller step counts as this one where the next is compared with it, for it may be noise."""
BUFFERED = {"mining": 65_536, "index": 65_536}
"""Passages up to which a stage fills buffers, which are then as large as they get."""
SMALL, ABOVE = (1_000, 10_000, 30_000), (10_000, 70_000, 140_000)
"""Sizes of a check, and of its stages with buffers."""
PART = 200
"""Parts of a document."""
BASE = "builtin:all-MiniLM-L6-v2"
Work = Callable[[], object]


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="BEIR folders, for the lengths of passages")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--stage", choices=STAGES, nargs="+", default=list(STAGES))
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    parser.add_argument("--one", nargs=3, metavar=("STAGE", "make or work", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if given.check:
        given.sizes = list(SMALL)
    return given


def make_vectors(folder: Path, count: int) -> None:
    """Unit vectors around centres, in a file to be mapped into memory."""
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((1_000, DIMENSION), np.float32)
    out = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, (count, DIMENSION))
    for begin in range(0, count, 10_000):
        part = out[begin : begin + 10_000]
        rows = centres[draw.integers(0, 1_000, len(part))] + draw.standard_normal(part.shape, np.float32)
        part[:] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    out.flush()


def vectors(folder: Path) -> np.ndarray:
    return np.asarray(np.load(folder / "vectors.npy", mmap_mode="r"))


def make_texts(folder: Path, count: int, data: Path | None) -> None:
    write_jsonl(folder / "texts.jsonl", ({"text": text} for text in texts(count, data)))


def made_texts(folder: Path) -> Iterator[str]:
    return (str(row["text"]) for _, row in read_jsonl(folder / "texts.jsonl"))


def make(stage: str, folder: Path, count: int, data: Path | None) -> None:
    """All that the stage works on, as files."""
    make_texts(folder, count, data)
    if stage in ("mining", "index", "search"):
        make_vectors(folder, count)
    if stage == "parsing":
        (folder / "files").mkdir()
        for begin, part in enumerate(batched(made_texts(folder), PART)):
            parts = (f"## Part {number}\n\n{text}\n" for number, text in enumerate(part))
            (folder / "files" / f"{begin}.md").write_text("\n".join(parts), "utf-8")
    if stage == "search":
        index(folder)()


def batched(some: Iterable[str], size: int) -> Iterator[list[str]]:
    rest = iter(some)
    while part := list(islice(rest, size)):
        yield part


def parsing(folder: Path) -> Work:
    from fieldtune.config import Documents
    from fieldtune.documents import read_documents

    config = Documents(paths=(str(folder / "files"),))
    return lambda: read_documents(config, folder / "documents.jsonl", folder / "cache")


def passages(folder: Path) -> Work:
    from fieldtune.config import Corpus
    from fieldtune.corpus import build_corpus
    from fieldtune.models import token_counter
    from fieldtune.types import Block, Document

    def documents() -> Iterator[Document]:
        for number, part in enumerate(batched(made_texts(folder), PART)):
            headed = ((Block("heading", f"Part {row}", 2), Block("paragraph", text)) for row, text in enumerate(part))
            yield Document(str(number), f"{number}.md", f"Book {number}", tuple(chain.from_iterable(headed)))

    count = token_counter(BASE)
    count(["so that what is loaded once is there"])
    return lambda: build_corpus(Corpus(), documents(), count, folder)


def dedupe(folder: Path) -> Work:
    from fieldtune.config import Corpus
    from fieldtune.corpus import build_corpus
    from fieldtune.types import Block, Document

    planted = 0

    def documents() -> Iterator[Document]:
        nonlocal planted
        for number, text in enumerate(made_texts(folder)):
            words = text.split()
            if number % 10 == 0 and len(words) >= 80:  # of a shorter one, a word is over a tenth of its shingles
                words[len(words) // 2] = "changed"
                copy = Block("paragraph", " ".join(words))
                yield Document(f"{number} copy", f"{number}.txt", "Copies", (copy,), {"ready": True})
                planted += 1
            yield Document(str(number), f"{number}.txt", "Copies", (Block("paragraph", text),), {"ready": True})

    def work() -> None:
        found = build_corpus(Corpus(), documents(), lambda some: [len(text) // 4 for text in some], folder)
        if not 0.98 * planted <= found.counts["near duplicates"] <= planted:
            raise SystemExit(f"{found.counts['near duplicates']} near-duplicates found of {planted}")

    return work


def mining(folder: Path) -> Work:
    from fieldtune.config import Negatives
    from fieldtune.dataset.candidates import candidates_from
    from fieldtune.dataset.known import Known
    from fieldtune.dataset.mining import mine

    found, made = vectors(folder), list(made_texts(folder))
    count = len(found)
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


def index(folder: Path) -> Work:
    from fieldtune.config import Index
    from fieldtune.index import build_index
    from fieldtune.models import resolve_model
    from fieldtune.types import Passage

    found = vectors(folder)
    given = [Passage(str(row), f"Text {row}", text, str(row)) for row, text in enumerate(made_texts(folder))]
    known = resolve_model(BASE).fingerprint
    return lambda: build_index(Index(), given, found, folder / "index", model_fingerprint=known, model=BASE, seed=1)


def search(folder: Path) -> Work:
    import torch

    from fieldtune.index import Index

    found = Index.open(folder / "index")
    torch.set_num_threads(torch.get_num_threads())
    rows = range(0, len(found), max(1, len(found) // SEARCHES))[:SEARCHES]
    asked = np.array(vectors(folder)[rows.start : rows.stop : rows.step])
    words = [" ".join(text.split()[:8]) for text in islice(made_texts(folder), 0, rows.stop, rows.step)]
    found.search_vectors(asked[:1], 10, queries=words[:1], mode="hybrid")  # which also sets things up

    def work() -> None:
        for place, (row, text) in enumerate(zip(rows, words, strict=True)):
            hits = found.search_vectors(asked[place : place + 1], 10, queries=[text], mode="hybrid")[0]
            require_own(str(row), [hit.passage.id for hit in hits])

    return work


def require_own(own: str, found: Sequence[str]) -> None:
    """Its own vector and words must find a passage; a search that finds others is no measurement."""
    if len(found) < 10 or own not in found:
        raise SystemExit(f"passage {own} is not among the {len(found)} found by its own vector and words")


WORK = {
    "parsing": parsing,
    "passages": passages,
    "dedupe": dedupe,
    "mining": mining,
    "index": index,
    "search": search,
}


def one(stage: str, part: str, folder: Path, count: int, data: Path | None) -> None:
    """Make what a stage needs, or do and measure its work."""
    if part == "make":
        make(stage, folder, count, data)
        return
    work = WORK[stage](folder)
    with held() as before:
        pass
    began = time.perf_counter()
    with held() as most:
        made = work()
        took = time.perf_counter() - began
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9 if stage == "parsing" else 0.0
    counts = getattr(made, "counts", {})
    came = int(counts["passages"]) if stage == "passages" else count
    print(json.dumps([took, most.gb - before.gb + children, peak_memory() + children, came]))


def measured(stage: str, size: int, data: Path | None) -> tuple[float, float, float, int]:
    """Seconds, GB added, GB resident in all, and passages that are there at the end."""
    said = b""
    with tempfile.TemporaryDirectory() as folder:
        for part in ("make", "work"):
            command = [sys.executable, __file__, "--one", stage, part, folder, "--sizes", str(size)]
            command += ["--data", str(data)] if data else []
            said = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    seconds, memory, whole, came = json.loads(said.splitlines()[-1])
    return float(seconds), float(memory), float(whole), int(came)


def plot(path: Path, sizes: list[int], found: dict[str, list[tuple[float, float, float, int]]]) -> None:
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
        stage, part, folder = given.one
        one(stage, part, Path(folder), given.sizes[0], given.data)
        return 0
    sizes = {stage: ABOVE if given.check and stage in BUFFERED else sorted(given.sizes) for stage in given.stage}
    found = {stage: [measured(stage, size, given.data) for size in sizes[stage]] for stage in given.stage}
    growth = {stage: growth_of(sizes[stage], [seconds for seconds, *_ in costs]) for stage, costs in found.items()}
    kept = {
        stage: further([one[3] for one in costs], [memory for _, memory, *_ in costs], stage)
        for stage, costs in found.items()
    }
    columns = sorted({size for some in sizes.values() for size in some})
    shown = {
        stage: {
            size: f"{one[0]:.1f} s, {1_000 * one[1]:,.0f} MB" for size, one in zip(sizes[stage], costs, strict=True)
        }
        for stage, costs in found.items()
    }
    rows = [(stage, *(cells.get(size, "") for size in columns)) for stage, cells in shown.items()]
    table = markdown(("stage", *(f"{size:,}" for size in columns)), rows)
    said = (
        f"cost of a passage, of that at the size before, at most (bar {LIMIT:g}): "
        + ", ".join(f"{stage} {ratio:.2f}" for stage, ratio in growth.items())
        + f"; kB of memory for each further passage (bar {KILOBYTES:g}): "
        + ", ".join(f"{stage} {'not counted' if size is None else f'{size:.2f}'}" for stage, size in kept.items())
        + "; MB resident at the largest size, with what was given and pages of mapped files: "
        + ", ".join(f"{stage} {1_000 * costs[-1][2]:,.0f}" for stage, costs in found.items())
    )
    if given.check:
        print("\n".join(table))
    else:
        plot(given.picture, columns, found)
        about = (
            f"Generated texts and vectors of {DIMENSION} dimensions, {told(given.data)}; each stage in a process of its"
            " own."
        )
        print(append("Cost of each stage as the corpus grows", about, [*table, "", said + "."], given.results))
    print(said)
    return int(max(growth.values()) > LIMIT or max((one or 0.0 for one in kept.values()), default=0.0) > KILOBYTES)


def growth_of(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """The largest ratio of a further passage's cost to that at the size before."""
    steps = [(sizes[0], seconds[0])]
    steps += [(many - few, b - a) for (few, many), (a, b) in zip(pairwise(sizes), pairwise(seconds), strict=True)]
    ratios = [(b / more) / (max(a, LEAST) / some) for (some, a), (more, b) in pairwise(steps)]
    return max(0.0, *ratios) if ratios else 0.0


def further(sizes: Sequence[int], memory: Sequence[float], stage: str) -> float | None:
    """kB that each passage takes which the last size has and the one before has not; None while a buffer fills."""
    if len(sizes) < 2 or sizes[-2] < BUFFERED.get(stage, 0):
        return None
    return 1e6 * (memory[-1] - memory[-2]) / (sizes[-1] - sizes[-2])


if __name__ == "__main__":
    sys.exit(main())
