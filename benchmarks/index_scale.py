"""From how many passages on an approximate index pays: exact search by int8 codes beside LanceDB's inverted lists.

    python benchmarks/index_scale.py RUN [--passages 200000 1000000] [--results FILE]

The passages' vectors are made of a finished run's: each of two passages mixed, and noise, so that they lie together as
those of texts do; the queries are the run's own. One query at a time in one thread; milliseconds of processor time,
which hardly change with what else the machine does, and of the clock. The lists are read until recall@10 against exact
search is 0.99, as an index is built. A million passages of 384 dimensions take 6 GB of memory and as much on disk.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from results import RESULTS, append, markdown
from serve_load import questions

Floats = NDArray[np.float32]
_BLOCK = 20_000


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the folder of a finished run")
    parser.add_argument("--passages", type=int, nargs="+", default=[200_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args(words)


def many(base: Floats, count: int, seed: int = 1) -> Floats:
    """Unit vectors (count, dimension) that lie as those of the base do."""
    rng = np.random.default_rng(seed)
    out = np.empty((count, base.shape[1]), np.float32)
    for begin in range(0, count, _BLOCK):
        size = min(_BLOCK, count - begin)
        one, other = (np.asarray(base[rng.integers(0, len(base), size)]) for _ in range(2))
        share = rng.random((size, 1), dtype=np.float32) / 2
        mixed = one + share * (other - one) + 0.02 * rng.standard_normal(one.shape, dtype=np.float32)
        out[begin : begin + size] = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    return out


def timed(find: Callable[[Floats], object], queries: Floats) -> tuple[float, float]:
    """Medians of processor time and of the clock, in milliseconds."""
    took = []
    for query in queries:
        clock, processor = time.perf_counter(), time.process_time()
        find(query)
        took.append((time.process_time() - processor, time.perf_counter() - clock))
    return (1_000 * float(np.median([one[0] for one in took])), 1_000 * float(np.median([one[1] for one in took])))


def table_of(folder: Path, vectors: Floats) -> Any:
    import lancedb
    import pyarrow as pa

    schema = pa.schema([("row", pa.int64()), ("vector", pa.list_(pa.float32(), vectors.shape[1]))])
    blocks = (
        pa.RecordBatch.from_arrays(
            [
                pa.array(np.arange(begin, min(begin + _BLOCK, len(vectors)))),
                pa.FixedSizeListArray.from_arrays(
                    pa.array(vectors[begin : begin + _BLOCK].reshape(-1)), vectors.shape[1]
                ),
            ],
            schema=schema,
        )
        for begin in range(0, len(vectors), _BLOCK)
    )
    return lancedb.connect(str(folder)).create_table("passages", pa.RecordBatchReader.from_batches(schema, blocks))


def measured(vectors: Floats, queries: Floats) -> tuple[object, ...]:
    import torch

    from fieldtune.index.approximate import build_approximate, sample
    from fieldtune.index.dense import Dense, write_codes
    from fieldtune.index.table import nearest

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "vectors.npy", vectors)
        write_codes(folder, "vectors", vectors, vectors.shape[1])
        dense, threads = Dense(folder, "vectors"), torch.get_num_threads()
        torch.set_num_threads(1)
        dense.best(queries[:1], 10)  # finds out which product is faster
        exact = timed(lambda query: dense.best(query[None], 10), queries[:100])
        torch.set_num_threads(threads)
        table, began = table_of(folder, vectors), time.monotonic()
        found = build_approximate(table, vectors, sample(vectors, queries, 1), min_recall=0.99)
        built = time.monotonic() - began
        lists = (float("nan"), float("nan"))
        if found.nprobes:
            lists = timed(lambda query: nearest(table, query, 10, nprobes=found.nprobes), queries[:100])
    read = f"{found.nprobes} of {found.partitions}"
    times = [f"{value:.1f}" for value in (*exact, *lists)]
    return (f"{len(vectors):,}", *times, read, f"{found.measured.recall:.3f}", f"{built:.0f}")


def main(words: list[str] | None = None) -> int:
    given = arguments(words)
    from fieldtune.index import Index

    index = Index.open(given.run)
    texts = questions(Path(given.run))
    queries = index.encoder.encode(texts[:: max(1, len(texts) // given.queries)][: given.queries], "query")
    rows = [measured(many(index.stored_vectors(), count), queries) for count in given.passages]
    columns = (
        "passages", "exact: processor ms", "clock ms", "lists: processor ms", "clock ms", "lists read", "recall@10",
        "built in s",
    )  # fmt: skip
    about = f"{len(queries)} queries of a run, {index.stored_vectors().shape[1]} dimensions, one query at a time."
    print(append("Exact and approximate search at scale", about, markdown(columns, rows), given.results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
