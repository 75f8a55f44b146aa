"""Evaluation from text at five Matryoshka dimensions, against InformationRetrievalEvaluator of Sentence Transformers.

    python benchmarks/speed_evaluate.py --data DIR [--set NAME ...] [--passages 1000] [--queries 400] [--repeats 3]
        [--check]

DIR holds BEIR folders. The peer runs as its documentation has it: an InformationRetrievalEvaluator for each
truncate_dim in a SequentialEvaluator, in fp32, batches of 32; it encodes queries and corpus anew for each. fieldtune
encodes once and cuts; its time includes intervals and tests, which the peer has none of. Both get the loaded model;
queries are of the test split, passages their relevant ones and others. nDCG@10 of each dimension must agree within 0.3
points. Bar: 4 times. With --check: 450 passages, 1 pair of runs, nothing is written, and the exit status is 1 where a
ratio is under its bar or the measures do not agree.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from results import RESULTS, append, markdown
from speed_encode import SETS, sample

from fieldtune import config as settings
from fieldtune.beir import RetrievalData, load_beir
from fieldtune.encoding import Encoder
from fieldtune.evaluation import evaluate, line_up

BAR, POINTS = 4.0, 0.3
SIZES = (384, 256, 192, 128, 64)
Found = dict[int, float]


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", action="append", help="a folder in DIR; both by default")
    parser.add_argument("--model", default="", help="for all sets, instead of the builtin one of each")
    parser.add_argument("--passages", type=int, default=1_000)
    parser.add_argument(
        "--queries", type=int, default=400, help="of test, at most; fewer where passages do not suffice"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args(words)
    if given.check:
        given.passages, given.repeats = min(given.passages, 450), 1
    return given


def small(data: RetrievalData, size: int, most: int) -> RetrievalData:
    passages, queries = sample(data, size, most)
    rows = {query: {key: grade for key, grade in data.qrels["test"][query].items() if key in set(passages)}
            for query in queries}  # fmt: skip
    return replace(
        data,
        passages={key: data.passages[key] for key in passages},
        queries={key: data.queries[key] for key in queries},
        qrels={"test": rows},
    )


def peer(encoder: Encoder, data: RetrievalData) -> Found:
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator, SequentialEvaluator

    queries = {key: query.text for key, query in data.queries.items()}
    corpus = {key: passage.content for key, passage in data.passages.items()}
    relevant = {key: set(found) for key, found in data.positives("test").items()}
    each = [
        InformationRetrievalEvaluator(queries, corpus, relevant, truncate_dim=size, name=str(size), write_csv=False)
        for size in SIZES
    ]
    found = SequentialEvaluator(each)(encoder.model)
    return {size: 100 * found[f"{size}_cosine_ndcg@10"] for size in SIZES}


def ours(encoder: Encoder, data: RetrievalData) -> Found:
    config = settings.Evaluation(dimensions=SIZES[1:], precisions=(), hybrid=False)
    with tempfile.TemporaryDirectory() as folder:
        found = line_up(data, "test", [("model", lambda: encoder)], Path(folder), config, bm25=False)
    said = evaluate(data, "test", found.systems, config, 13, found.notes)
    names = {SIZES[0]: "model"} | {size: f"model @{size}" for size in SIZES[1:]}
    return {size: 100 * said.system(name).mean["ndcg@10"] for size, name in names.items()}


def compare(name: str, given: argparse.Namespace) -> tuple[list[str], str, bool]:
    """The table of one set, its ratio in words, and whether it reaches the bar."""
    data = small(load_beir(given.data / name), given.passages, given.queries)
    model = given.model or SETS.get(name, SETS["med-en-medquad"])
    sides = {
        "peer": (peer, Encoder.load(model, precision="fp32")),
        "fieldtune": (ours, Encoder.load(model)),
    }
    took: dict[str, list[float]] = {side: [] for side in sides}
    found: dict[str, Found] = {}
    for _, encoder in sides.values():
        encoder.encode(["a first text, which also sets things up"], "passage")
    for _ in range(given.repeats):
        for side, (run, encoder) in sides.items():
            began = time.perf_counter()
            found[side] = run(encoder, data)
            took[side].append(time.perf_counter() - began)
    ratios = sorted(a / b for a, b in zip(took["peer"], took["fieldtune"], strict=True))
    ratio = statistics.median(ratios)
    apart = max(abs(found["peer"][size] - found["fieldtune"][size]) for size in SIZES)
    rows = [
        (side, f"{statistics.median(took[side]):.1f} s", *(f"{found[side][size]:.2f}" for size in SIZES))
        for side in sides
    ]
    said = (
        f"{name}: {ratio:.2f} times as fast ({ratios[0]:.2f} to {ratios[-1]:.2f}, bar {BAR:g}), nDCG@10 at most "
        f"{apart:.2f} points apart (bar {POINTS})"
    )
    columns = ("side", "time (median)", *(f"nDCG@10 at {size}" for size in SIZES))
    counts = f"{len(data.passages):,} passages, {len(data.qrels['test']):,} queries."
    return [counts, "", *markdown(columns, rows)], said, ratio >= BAR and apart <= POINTS


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
        about = f"{given.repeats} paired runs in one process."
        print(append("Evaluation at five dimensions", about, lines, given.results))
    print("; ".join(last))
    return int(not reached)


if __name__ == "__main__":
    sys.exit(main())
