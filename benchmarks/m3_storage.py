"""What an index of dense, sparse and token vectors takes on disk, and how long each of its searches takes.

    python benchmarks/m3_storage.py [--passages 20000 100000] [--tokens 120] [--dimension 384] [--size 384]
        [--words 250000] [--question 16] [--queries 100] [--form float16 int8] [--pool 1 2] [--beside 5000]
        [--results FILE]

Passages are made up: words drawn by Zipf's law, `--tokens` of them on average, a vector for each that leans towards its
word's and its passage's own, and a dense vector. Bytes are those of the index's files. Times are of one query at a time
in one thread, the model's pass left out: milliseconds of processor time, which hardly change with what else the machine
does, and of the clock. The first 20 queries are not timed, so files are in the cache of the operating system. Pooling
groups like tokens of each passage, which takes most of the time of making the data. Of 100,000 passages the files are
9 GB in float16, for a while twice. At the end the inverted lists stand
beside what else could hold word weights: scipy's product of sparse matrices, by word and by passage, and a table of
LanceDB with an index of lists, which finds the passages that share a word but not their scores. And the files of token
vectors stand beside LanceDB's column of multivectors, of --beside passages: bytes, and the time to score 200 candidates
and to search all.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from results import RESULTS, append, markdown

from fieldtune.encoding.m3 import M3Vectors, TokenFormat, TokenVectors, multi_of
from fieldtune.encoding.m3.stored import in_format, pooled
from fieldtune.index import MODES, Given
from fieldtune.index.dense import Dense, write_codes
from fieldtune.index.signals import Signals, write_signals
from fieldtune.index.three import Three, weights_of

Floats = NDArray[np.float32]
_BLOCK = 1_000
_META = {"m3": {"weights": {"dense-sparse": [1.0, 0.3, 0.0], "m3": [1.0, 0.3, 1.0]}}}
_DEPTH = 100


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--tokens", type=int, default=120, help="of a passage, on average")
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--size", type=int, default=384, help="numbers of a token's vector")
    parser.add_argument("--words", type=int, default=250_000, help="of the model's vocabulary")
    parser.add_argument("--question", type=int, default=16, help="tokens of a query")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--form", nargs="+", choices=("float32", "float16", "int8"), default=["float16", "int8"])
    parser.add_argument("--pool", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--beside", type=int, default=5_000, help="passages in LanceDB's column of multivectors; 0: none"
    )
    parser.add_argument("--work", type=Path, help="folder for the files; a temporary one by default")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args(words)


@dataclass(frozen=True, slots=True)
class Texts:
    """Made-up texts in blocks: the same for every number format."""

    given: argparse.Namespace
    seed: int
    tokens: int

    def block(self, begin: int, count: int) -> M3Vectors:
        """Texts `begin` to `begin + count`, their token vectors in float32."""
        from scipy.sparse import csr_matrix

        rng, given = np.random.default_rng([self.seed, begin]), self.given
        counts = np.maximum(1, rng.poisson(self.tokens, count))
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        # Zipf's law by the inverse of its cumulated weights: rank r with about 1/r.
        words = np.minimum((given.words + 1) ** rng.random(starts[-1]) - 1, given.words - 1).astype(np.int64)
        owners = np.repeat(np.arange(count), counts)
        weights = rng.random(len(words), dtype=np.float32) * 0.3
        sparse = csr_matrix((weights, (owners, words)), shape=(count, given.words))
        own = rng.standard_normal((count, given.size), dtype=np.float32)
        vectors = np.stack([_of_word(words, given.size), own[owners]]).sum(0)
        vectors += 0.5 * rng.standard_normal(vectors.shape, dtype=np.float32)
        dense = rng.standard_normal((count, given.dimension), dtype=np.float32)
        return M3Vectors(_unit(dense), sparse, TokenVectors(_unit(vectors), np.zeros(0, np.float32), starts))

    def blocks(self, count: int) -> Iterator[M3Vectors]:
        for begin in range(0, count, _BLOCK):
            yield self.block(begin, min(_BLOCK, count - begin))


def _of_word(words: NDArray[np.int64], size: int) -> Floats:
    """A direction for each word, the same wherever it stands, out of a table of a few thousand."""
    table = np.random.default_rng(0).standard_normal((4_096, size), dtype=np.float32)
    return np.asarray(table[words % len(table)], np.float32)


def _unit(vectors: Floats) -> Floats:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def made(texts: Texts, count: int, folder: Path, form: TokenFormat, pool: int) -> Any:
    """Write the files of an index; returns bytes per passage of each part and the word weights by passage."""
    from scipy.sparse import vstack

    dense = np.lib.format.open_memmap(
        folder / "vectors.npy", "w+", np.float32, (count, texts.given.dimension)
    )  # fmt: skip
    sparse, parts, at = [], [], 0
    for block in texts.blocks(count):
        dense[at : at + len(block)] = block.dense
        at += len(block)
        sparse.append(block.sparse)
        vectors, starts = block.tokens.values, block.tokens.starts
        if pool > 1:
            vectors, starts = pooled(vectors, starts, pool)
        parts.append(_on_disk(in_format(vectors, starts, form), folder / f"block-{at}.npy"))
    dense.flush()
    write_codes(folder, "vectors", dense, texts.given.dimension)
    whole = vstack(sparse, format="csr")
    given = Given(whole, tuple(parts), np.arange(count), form, pool, "", (1.0, 0.3, 1.0), _DEPTH)
    sizes = {"dense": 4 * texts.given.dimension + texts.given.dimension + 8, **write_signals(folder, given)}
    return sizes, whole


def _on_disk(tokens: TokenVectors, path: Path) -> TokenVectors:
    np.save(path, tokens.values)
    return replace(tokens, values=np.load(path, mmap_mode="r"))


def searches(three: Three, queries: M3Vectors, mode: str, query: int) -> object:
    """What an index does with a query, without the model and the passages' texts."""
    vector = queries.dense[query]
    near = np.zeros(0, np.int64) if mode == "sparse" else three.dense.best(vector[None], _DEPTH)[1][0]
    if mode == "dense":
        return near
    found = three.candidates(queries, query, vector, near, _DEPTH, None, mode=mode)
    return found.ranked(weights_of(_META, mode), 10)


def timed(find: Callable[[int], object], count: int) -> tuple[float, float]:
    """Medians of processor time and of the clock, in milliseconds; the first fifth is not counted."""
    took = []
    for query in range(count):
        clock, processor = time.perf_counter(), time.process_time()
        find(query)
        took.append((time.process_time() - processor, time.perf_counter() - clock))
    kept = np.array(took[count // 5 :]) * 1_000
    return float(np.median(kept[:, 0])), float(np.median(kept[:, 1]))


def measured(given: argparse.Namespace, count: int, form: TokenFormat, pool: int) -> tuple[list[Any], Any]:
    """A row of the table, and the word weights by passage."""
    import torch

    texts, asked = Texts(given, 1, given.tokens), Texts(given, 2, given.question)
    queries = asked.block(0, given.queries)
    with tempfile.TemporaryDirectory(dir=given.work) as name:
        sizes, words = made(texts, count, Path(name), form, pool)
        three, threads = Three(Dense(Path(name), "vectors"), Signals(Path(name))), torch.get_num_threads()
        torch.set_num_threads(1)
        modes = ("dense", *(mode for mode in MODES if mode != "m3-words"))
        times = {
            mode: timed(lambda query, mode=mode: searches(three, queries, mode, query), given.queries) for mode in modes
        }
        torch.set_num_threads(threads)
    cells = [f"{processor:.1f} / {clock:.1f}" for processor, clock in times.values()]
    row = [f"{count:,}", f"{form}, 1 of {pool}", *(f"{size:,}" for size in sizes.values()), *cells]
    return row, words


def alternatives(given: argparse.Namespace, words: Any) -> list[list[str]]:
    """Ways to hold word weights: milliseconds per query."""
    from scipy.sparse import csr_matrix

    count = words.shape[0]
    queries = Texts(given, 2, given.question).block(0, given.queries)
    one = TokenVectors(np.zeros((0, 1), np.float32), np.zeros(0, np.float32), np.zeros(count + 1, np.int64))
    with tempfile.TemporaryDirectory(dir=given.work) as name:
        write_signals(Path(name), Given(words, (one,), np.arange(count), "float32", 1, "", (1, 1, 1)))
        signals = Signals(Path(name))
        lists = timed(lambda query: signals.sparse(queries, query), given.queries)
        inverted = words.T.tocsr()
        product = timed(lambda query: (queries.sparse[query] @ inverted).toarray(), given.queries)

        def by_row(query: int) -> object:
            asked: csr_matrix = queries.sparse[query]
            return words @ asked.toarray()[0]

        rows = timed(by_row, given.queries)
        table = _table(Path(name), words)
        lance = timed(lambda query: _shares(table, queries.sparse[query].indices), min(20, given.queries))
    ways = ("inverted lists, mapped", "scipy, by word", "scipy, by passage", "LanceDB, lists of words (no scores)")
    return [
        [name, *(f"{value:.2f}" for value in pair)]
        for name, pair in zip(ways, (lists, product, rows, lance), strict=True)
    ]


def _table(folder: Path, words: Any) -> Any:
    import lancedb
    import pyarrow as pa
    from lancedb.index import LabelList

    lists = pa.ListArray.from_arrays(pa.array(words.indptr, pa.int32()), pa.array(words.indices, pa.int32()))
    table = lancedb.connect(folder / "lance").create_table("words", pa.table({"words": lists}))
    table.create_index("words", config=LabelList())
    return table


def _shares(table: Any, words: NDArray[np.int32]) -> object:
    wanted = ", ".join(map(str, words.tolist()))
    return table.search().where(f"array_has_any(words, [{wanted}])").select(["_rowid"]).limit(1_000_000).to_arrow()


def beside(given: argparse.Namespace) -> list[list[str]]:
    """Token vectors in files and in LanceDB: bytes per passage, milliseconds for 200 candidates and for all."""
    count, few = given.beside, min(10, given.queries)  # LanceDB takes seconds to search all
    queries, whole = (
        Texts(given, 2, given.question).block(0, given.queries),
        _whole(Texts(given, 1, given.tokens), count),
    )
    rng, every = np.random.default_rng(3), np.arange(count)
    wanted = [np.sort(rng.choice(count, min(200, count), replace=False)) for _ in range(given.queries)]
    exact = [int(np.argmax(multi_of(queries.tokens, query, whole, every))) for query in range(few)]

    def row(name: str, size: int, best: Callable[[int, NDArray[np.int64] | None], int]) -> list[str]:
        some, scan = timed(lambda query: best(query, wanted[query]), few), timed(lambda query: best(query, None), few)
        right = np.mean([best(query, None) == exact[query] for query in range(few)])
        times = [f"{processor:.1f} / {clock:.1f}" for processor, clock in (some, scan)]
        return [name, f"{size:,}", *times, f"{right:.2f}"]

    rows = []
    for form in dict.fromkeys(("float32", *given.form)):
        with tempfile.TemporaryDirectory(dir=given.work) as name:
            kept = in_format(whole.values, whole.starts, form)
            written = Given(_no_words(count, given.words), (kept,), every, form, 1, "", (1, 1, 1))
            size, signals = write_signals(Path(name), written)["multi-vector"], Signals(Path(name))

            def by_file(query: int, rows: NDArray[np.int64] | None, of: Signals = signals) -> int:
                among = every if rows is None else rows
                return int(among[np.argmax(of.multi(queries, query, among))])

            rows.append(row(f"files, {form}", size, by_file))
    for kind in ("float32", "float16"):
        with tempfile.TemporaryDirectory(dir=given.work) as name:
            table = _multivectors(Path(name), whole, kind)
            size = sum(part.stat().st_size for part in Path(name).rglob("*") if part.is_file()) // count

            def by_table(query: int, rows: NDArray[np.int64] | None, of: Any = table) -> int:
                return _nearest(of, queries, query, rows)

            rows.append(row(f"LanceDB, {kind}", size, by_table))
    return rows


def _whole(texts: Texts, count: int) -> TokenVectors:
    parts = [block.tokens for block in texts.blocks(count)]
    ends = np.cumsum([0, *(int(part.starts[-1]) for part in parts)])
    starts = np.concatenate([[0], *(part.starts[1:] + at for part, at in zip(parts, ends, strict=False))])
    return TokenVectors(np.concatenate([part.values for part in parts]), np.zeros(0, np.float32), starts)


def _no_words(count: int, words: int) -> Any:
    from scipy.sparse import csr_matrix

    return csr_matrix((count, words), dtype=np.float32)


def _multivectors(folder: Path, tokens: TokenVectors, form: str) -> Any:
    import lancedb
    import pyarrow as pa
    from lancedb.index import BTree

    numbers, size = pa.type_for_alias(form), tokens.values.shape[1]
    flat = pa.FixedSizeListArray.from_arrays(pa.array(tokens.values.astype(form).reshape(-1), numbers), size)
    lists = pa.ListArray.from_arrays(pa.array(tokens.starts, pa.int32()), flat)
    rows = pa.array(range(len(tokens)), pa.int64())
    table = lancedb.connect(folder).create_table("tokens", pa.table({"row": rows, "tokens": lists}))
    table.create_index("row", config=BTree())
    return table


def _nearest(table: Any, queries: M3Vectors, query: int, rows: NDArray[np.int64] | None) -> int:
    asked = queries.tokens.values[queries.tokens.starts[query] : queries.tokens.starts[query + 1]]
    found = table.search(asked, vector_column_name="tokens").distance_type("cosine").select(["row", "_distance"])
    if rows is not None:
        found = found.where(f"row IN ({', '.join(map(str, rows.tolist()))})", prefilter=True)
    return int(found.limit(10).to_arrow()["row"][0].as_py())


def main(words: list[str] | None = None) -> list[list[Any]]:
    given = arguments(words)
    if given.work:
        given.work.mkdir(parents=True, exist_ok=True)
    rows: list[list[Any]] = []
    weights: Any = None
    for count in given.passages:
        for form in given.form:
            for pool in given.pool:
                row, weights = measured(given, count, form, pool)
                rows.append(row)
    columns = (
        "passages", "token vectors kept", "dense: bytes a passage", "word weights", "token vectors", "dense: ms",
        "sparse", "dense-sparse", "multi", "m3",
    )  # fmt: skip
    lines = [
        *markdown(columns, rows), "",
        f"The same word weights of {weights.shape[0]:,} passages, held in other ways:", "",
        *markdown(("way", "processor ms", "clock ms"), alternatives(given, weights)),
    ]  # fmt: skip
    if given.beside:
        own = ("token vectors in", "bytes a passage", "200 candidates: ms", "all: ms", "first as in float32")
        said = f"Token vectors of {given.beside:,} passages in files and in LanceDB's column of multivectors:"
        lines += ["", said, "", *markdown(own, beside(given))]
    about = (
        f"Made-up passages of {given.tokens} tokens on average, queries of {given.question}; {given.dimension} numbers "
        f"in a dense vector, {given.size} in a token's, a vocabulary of {given.words:,}. Searches of one query in one "
        "thread without the model's pass: milliseconds of the processor / of the clock; candidates are the first "
        f"{_DEPTH} of dense and of sparse search."
    )
    print(append("An index of dense, sparse and token vectors", about, lines, given.results))
    return rows


if __name__ == "__main__":
    main()
    sys.exit(0)
