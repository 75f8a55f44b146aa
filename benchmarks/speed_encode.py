"""Passages per second of encoding, against Sentence Transformers and its OpenVINO way, at equal nDCG@10.

    python benchmarks/speed_encode.py --data DIR [--set NAME ...] [--passages 1000] [--queries 400] [--repeats 5]
        [--check]

DIR holds BEIR folders. Ways, all in one process on all processors, in alternation:

- `encode` of Sentence Transformers in fp32, batches of 32: the peer;
- the peer's documented backends for processors: OpenVINO in bf16, its default here, and in int8, and ONNX in fp32. The
  package that its `backend=` needs holds Sentence Transformers back two major versions, so what runs is our export of
  the same graph, with the backend's own settings, fed as `encode` would feed it: texts sorted by length, batches of 32
  padded to their longest, one after the other on all processors;
- fieldtune with the model as it is loaded, which is what short work and dev during training take; on torch alone with
  weights in bf16; on OpenVINO in bf16, and in int8, calibrated on passages of the set.

The peer's time includes tokenising, as ours does. Loading and exporting are not timed. nDCG@10 is compared on test
queries over the passages that were encoded: the relevant ones of up to --queries queries, as many as go into
--passages, and others. Bars: 4.5 times the first, 1.3 times the fastest of the peer's backends that stays within 0.3
points of its fp32.

On a GPU, where --model should name one of base size, the peer is `encode` of the model in bf16 with batches of 32, 128
and 512, and the one bar is 1.3 times the fastest of these; the share of the GPU's peak is stated.

With --check: 300 passages, 3 repeats, nothing is written, and the exit status is 1 where a ratio is under its bar.
"""

from __future__ import annotations

import argparse
import copy
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peak import on_gpu, operations, peak_here, shares
from results import RESULTS, append, markdown

from fieldtune.beir import RetrievalData, load_beir
from fieldtune.encoding import Encoder, top_k
from fieldtune.encoding.exported import load_export, write_export
from fieldtune.encoding.fast import Encodes, with_torch
from fieldtune.encoding.tokens import Tokens
from fieldtune.measures import MAIN, judgements, measure
from fieldtune.types import Side

SETS = {"med-en-medquad": "builtin:all-MiniLM-L6-v2", "law-zh-stard-small": "builtin:multilingual-e5-small"}
BAR, BACKEND_BAR, POINTS = 4.5, 1.3, 0.3
ABOUT = (
    "The peer's OpenVINO and ONNX ways are its documented backends as run by us: our export of the same graph on "
    "OpenVINO (latency hint, all processors) and ONNX Runtime (its defaults), texts sorted by length in batches of 32; "
    "its own loader needs an older Sentence Transformers."
)
Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Way = Callable[[list[str], Side], Floats]


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", action="append", help="a folder in DIR; both by default")
    parser.add_argument("--model", default="", help="for all sets, instead of the builtin one of each")
    parser.add_argument("--passages", type=int, default=1_000)
    parser.add_argument("--queries", type=int, default=400, help="of test, at most")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak-tflops", type=float, default=0, help="of a GPU whose bf16 peak is not known here")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args(words)
    if given.check:
        given.passages, given.repeats = min(given.passages, 300), min(given.repeats, 3)
    return given


def as_peer(encoder: Encoder, vectors: Callable[[Ids, Ids], Floats]) -> Way:
    """An exported graph, given ids and mask as the peer's `encode` gives them to its own."""
    tokens = Tokens.of(encoder.model)

    def encode(texts: list[str], side: Side) -> Floats:
        out = np.empty((len(texts), encoder.dimension), np.float32)
        order = np.argsort([-len(text) for text in texts], kind="stable")
        for begin in range(0, len(texts), 32):
            rows = order[begin : begin + 32]
            store = tokens.store([texts[row] for row in rows], encoder.prompts[side])
            out[rows] = vectors(*store.padded_arrays(np.arange(len(rows)), tokens.pad))
        return out

    return encode


def on_openvino(folder: Path) -> Callable[[Ids, Ids], Floats]:
    import openvino

    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "bf16"}
    compiled = openvino.Core().compile_model(str(folder / "model.xml"), "CPU", hints)
    return lambda ids, mask: np.asarray(compiled({"input_ids": ids, "attention_mask": mask})[0])


def on_onnx(folder: Path) -> Callable[[Ids, Ids], Floats]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    return lambda ids, mask: np.asarray(session.run(None, {"input_ids": ids, "attention_mask": mask})[0])


def plain(model: Any, size: int = 32) -> Way:
    def encode(texts: list[str], side: Side) -> Floats:
        way = model.encode_query if side == "query" else model.encode_document
        return np.asarray(way(texts, normalize_embeddings=True, show_progress_bar=False, batch_size=size), np.float32)

    return encode


def ways(encoder: Encoder, folder: Path, calibration: list[str]) -> dict[str, Way]:
    def ours(made: Encodes) -> Way:
        return lambda texts, side: made.encode(texts, side)

    found: dict[str, Way] = {"peer fp32": plain(encoder.model)}
    as_loaded = ours(Encoder.load(encoder.name, precision="auto"))
    torch_way = ours(with_torch(encoder))
    exports: dict[str, Way] = {}
    for precision in ("bf16", "int8"):
        where = folder / precision
        where.mkdir()
        write_export(encoder, "openvino", precision, where, calibration)  # type: ignore[arg-type]
        found[f"peer OpenVINO {precision}"] = as_peer(encoder, on_openvino(where))
        exports[f"fieldtune OpenVINO {precision}"] = ours(load_export(where))
    (folder / "onnx").mkdir()
    write_export(encoder, "onnx", "fp32", folder / "onnx")
    found["peer ONNX fp32"] = as_peer(encoder, on_onnx(folder / "onnx"))
    return found | {"fieldtune as loaded": as_loaded, "fieldtune torch": torch_way} | exports


def gpu_ways(encoder: Encoder) -> dict[str, Way]:
    import torch

    def ours(made: Encodes) -> Way:
        return lambda texts, side: made.encode(texts, side)

    half = copy.deepcopy(encoder.model).to(torch.bfloat16)
    peers = {f"peer bf16, batch {size}": plain(half, size) for size in (32, 128, 512)}
    return {"peer fp32": plain(encoder.model)} | peers | {"fieldtune bf16": ours(with_torch(encoder, "bf16"))}


def sample(data: RetrievalData, size: int, queries: int) -> tuple[list[str], list[str]]:
    """Ids of passages, and of up to `queries` test queries, as many as have all their relevant passages among them."""
    draw = random.Random(7)
    positives = data.positives("test")
    kept: dict[str, None] = {}
    asked = []
    for query in draw.sample(sorted(positives), len(positives)):
        more = [passage for passage in positives[query] if passage not in kept]
        if len(asked) < queries and len(kept) + len(more) <= size:
            kept |= dict.fromkeys(more)
            asked.append(query)
    others = [name for name in data.passages if name not in kept]
    kept |= dict.fromkeys(draw.sample(others, min(len(others), size - len(kept))))
    passages = sorted(kept)
    draw.shuffle(passages)
    return passages, asked


def points(way: Way, data: RetrievalData, queries: list[str], passages: list[str], vectors: Floats) -> float:
    place = {name: row for row, name in enumerate(passages)}
    relevant = data.positives("test")
    table = judgements([dict.fromkeys(relevant[query], 1) for query in queries], place, 1)
    rows = top_k(way([data.queries[query].text for query in queries], "query"), vectors, 10)[1]
    return 100 * float(measure([MAIN], rows, table)[MAIN].mean())


def compare(name: str, given: argparse.Namespace) -> tuple[list[str], str, bool]:
    """The table of one set, its ratios in words, and whether they reach the bars."""
    data = load_beir(given.data / name)
    passages, queries = sample(data, given.passages, given.queries)
    texts = [data.passages[passage].content for passage in passages]
    with tempfile.TemporaryDirectory() as folder:
        encoder = Encoder.load(given.model or SETS.get(name, SETS["med-en-medquad"]), precision="fp32")
        calibration = [passage.content for passage in data.passages.values()]
        gpu = on_gpu()
        tried = gpu_ways(encoder) if gpu else ways(encoder, Path(folder), calibration)
        for way in tried.values():
            way(texts[:40], "passage")  # the first pass also sets things up
        took: dict[str, list[float]] = {label: [] for label in tried}
        vectors: dict[str, Floats] = {}
        for _ in range(given.repeats):
            for label, way in tried.items():
                began = time.perf_counter()
                vectors[label] = way(texts, "passage")
                took[label].append(time.perf_counter() - began)
        ndcg = {label: points(way, data, queries, passages, vectors[label]) for label, way in tried.items()}
    exact = ndcg["peer fp32"]
    sound = [label for label in tried if ndcg[label] >= exact - POINTS]
    middle = {label: statistics.median(took[label]) for label in tried}
    best = min((label for label in sound if label.startswith("fieldtune")), key=middle.__getitem__, default="")
    backend = min(
        (label for label in sound if label.startswith("peer ") and label != "peer fp32"),
        key=middle.__getitem__,
        default="peer fp32",
    )
    rows = [
        (label, f"{len(texts) / middle[label]:.1f}", spread(took["peer fp32"], took[label]), f"{ndcg[label]:.2f}")
        for label in tried
    ]
    table = markdown(("way", "passages a second", "times the peer's fp32", "nDCG@10"), rows)
    table = [f"{len(texts):,} passages, nDCG@10 on {len(queries):,} queries.", "", *table]
    if not best:
        return table, f"{name}: no way of fieldtune is within {POINTS} points of {exact:.2f}", False
    bar = "" if gpu else f" (bar {BAR})"
    said = (
        f"{name}: {best} is {spread(took['peer fp32'], took[best])} times encode in fp32{bar} and "
        f"{spread(took[backend], took[best])} times {backend} (bar {BACKEND_BAR})"
    )
    if gpu:
        needed = operations(encoder, [("passage", text) for text in texts])
        said += "; " + shares(needed, {label: middle[label] for label in (best, backend)}, peak_here(given.peak_tflops))
    reached = gpu or ratio(took["peer fp32"], took[best]) >= BAR
    return table, said, reached and ratio(took[backend], took[best]) >= BACKEND_BAR


def ratio(slow: list[float], fast: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def spread(slow: list[float], fast: list[float]) -> str:
    each = [a / b for a, b in zip(slow, fast, strict=True)]
    return f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})"


def main(words: list[str] | None = None) -> int:
    given = arguments(words)
    lines, last, reached = [], [], True
    for name in given.set or list(SETS):
        table, said, good = compare(name, given)
        lines += ["", f"{name}, {given.model or SETS.get(name, '')}:", "", *table, "", said + "."]
        last.append(said)
        reached &= good
    if given.check:
        print("\n".join(lines))
    else:
        about = f"{given.repeats} paired runs in one process; medians, spread. {ABOUT}"
        print(append("Encoding", about, lines, given.results))
    print("; ".join(last))
    return int(not reached)


if __name__ == "__main__":
    sys.exit(main())
