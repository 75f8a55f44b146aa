"""Dense, sparse and multi-vector search with one encoder, before and after training, beside a dense model.

    python benchmarks/m3.py --data BEIR_DIR [--model M] [--train N] [--passages N] [--queries N] [--work FOLDER]
        [--set training.epochs=1 ...] [--tokens float16|int8] [--pool N] [--seed N] [--results FILE]

Trains twice on the same rows (N of the train queries; --passages keeps that many of the corpus, all with a label among
them, --queries that many of dev and of test) with the same epochs, batches and negatives: the dense model alone, and
all three kinds together (training.m3.train=both, or as --set says). Measures on test: the base with new
layers, the dense model, and the trained one, each kind alone, in pairs and all, weights chosen on dev; 95% intervals,
the difference to the trained dense model, bytes per passage; training time, peak memory, and the pace of encoding.
Finished trainings in --work are not repeated. The table is appended to benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from memory import peak_memory
from methods import smaller, some_queries
from results import RESULTS, append, markdown

from fieldtune.beir import RetrievalData, load_beir
from fieldtune.config import Config, make_config, merge, parse_overrides
from fieldtune.console import duration, note
from fieldtune.dataset import build_dataset
from fieldtune.encoding import Encoder
from fieldtune.encoding.m3 import encode_m3, m3_heads
from fieldtune.evaluation import System, evaluate, line_up
from fieldtune.evaluation.results import Evaluation
from fieldtune.training import tune
from fieldtune.workspace import Workspace, digest, write_json

WAYS: Mapping[str, Mapping[str, Any]] = {"dense": {"m3": {"train": "none"}}, "M3": {"m3": {"train": "both"}}}
MEASURE = "ndcg@10"


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="builtin:all-MiniLM-L6-v2")
    parser.add_argument("--train", type=int, default=0, help="queries trained on; 0: all")
    parser.add_argument("--passages", type=int, default=0, help="passages searched in; 0: all")
    parser.add_argument("--queries", type=int, default=0, help="queries of dev and of test; 0: all")
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--tokens", choices=("float32", "float16", "int8"), default="float16")
    parser.add_argument("--pool", type=int, default=1, help="keep about that part of a passage's token vectors")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "fieldtune-m3")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)  # a training, in a process of its own
    return parser.parse_args(words)


def config_of(given: argparse.Namespace, way: str) -> Config:
    settings = {
        "seed": given.seed,
        "model": {"base": given.model},
        "split": {"keep_given": True},
        "training": WAYS[way],
        "evaluation": {"m3": True, "m3_tokens": given.tokens, "m3_pool": given.pool},
    }
    own = parse_overrides(given.overrides)
    if way == "dense":  # what is set of M3 is for the other one
        own.get("training", {}).pop("m3", None)
    return make_config(merge(settings, own))


def rows_of(given: argparse.Namespace) -> Path:
    """The folder of the training rows, the same for both."""
    config = config_of(given, "dense")
    sections = config.model_dump(include={"seed", "split", "negatives", "teacher", "model"})
    folder = given.work / "rows" / digest([*_data_of(given), sections])
    if not (folder / "done").exists():
        data = smaller(some_queries(load_beir(given.data), given.train), given.passages, given.queries)
        encoder = Encoder.load(given.model, settings=config.model)
        build_dataset(config, data, {}, encoder, folder, given.work / "vectors")
        (folder / "done").touch()
    return folder


def _data_of(given: argparse.Namespace) -> list[object]:
    return [str(given.data.resolve()), given.train, given.passages, given.queries]


def run_of(given: argparse.Namespace, way: str) -> Path:
    settings = config_of(given, way).model_dump(exclude={"out", "evaluation"})
    return Path(given.work / "runs" / f"{way}-{digest([*_data_of(given), settings])}")


def run_one(given: argparse.Namespace, way: str) -> None:
    """Train in a process of its own, whose memory nothing else has touched."""
    config, rows, work = config_of(given, way), rows_of(given), run_of(given, way)
    encoder = Encoder.load(config.model.base, settings=config.model, precision=config.training.precision)
    with Workspace(work):
        began = time.monotonic()
        result = tune(config, load_beir(rows), rows / "train.jsonl", encoder, work, given.work / "vectors")
        took = {
            "seconds": round(time.monotonic() - began, 1),
            "memory": round(peak_memory(), 2),
            "counts": dict(result.counts),
        }
        write_json(work / "took.json", took | {"notes": list(result.notes)})


def systems_of(given: argparse.Namespace, data: RetrievalData) -> tuple[list[System], list[str]]:
    """BM25, the base, the dense model and the one of three kinds, with all that is made of them."""
    both = config_of(given, "M3")
    m3 = both.evaluation.model_copy(update={"m3_size": both.training.m3.size})
    plain = config_of(given, "dense").evaluation.model_copy(update={"m3": False})
    places = {
        "base": given.model,
        "dense": str(run_of(given, "dense") / "model"),
        "M3": str(run_of(given, "M3") / "model"),
    }
    loaders = {name: partial(Encoder.load, place) for name, place in places.items()}
    vectors = given.work / "vectors"
    three = line_up(data, "test", [(name, loaders[name]) for name in ("base", "M3")], vectors, m3, bm25=True)
    alone = line_up(data, "test", [("dense", loaders["dense"])], vectors, plain, bm25=False)
    systems = [three.systems[0], *alone.systems[:1], *three.systems[1:]]
    # What stands to be proved is a gain over the dense model that had the same rows and epochs.
    systems = [
        replace(one, about=replace(one.about, parents=("dense",))) if one.about.variant == "signals" else one
        for one in systems
    ]
    return systems, list(three.notes)


def paces(given: argparse.Namespace, data: RetrievalData, count: int = 256) -> tuple[float, float]:
    """Passages per second: dense alone, and all three in one pass."""
    encoder = Encoder.load(str(run_of(given, "M3") / "model"))
    heads = m3_heads(encoder, run_of(given, "M3") / "model")
    texts = [passage.content for passage in list(data.passages.values())[:count]]
    encoder.encode(texts[:8], "passage")
    began = time.monotonic()
    encoder.encode(texts, "passage")
    between = time.monotonic()
    encode_m3(encoder, heads, texts, "passage", form=given.tokens, pool=given.pool)
    return len(texts) / (between - began), len(texts) / (time.monotonic() - between)


def table_of(evaluation: Evaluation) -> list[tuple[str, ...]]:
    against = {one.a: one for one in evaluation.comparisons if one.b == "dense" and one.measure == MEASURE}
    rows = []
    for one in evaluation.systems:
        low, high = one.interval[MEASURE]
        found = against.get(one.name)
        gain = f"{found.difference:+.4f} [{found.interval[0]:+.4f}, {found.interval[1]:+.4f}]" if found else ""
        size = "" if one.about.bytes_per_vector is None else f"{one.about.bytes_per_vector:,}"
        name = f"{one.name} dense" if one.name in ("base", "M3") else one.name
        name = "dense model, trained alone" if one.name == "dense" else name
        rows.append((name, f"{one.mean[MEASURE]:.4f} [{low:.4f}, {high:.4f}]", gain, size))
    return rows


def main(words: list[str] | None = None) -> list[tuple[str, ...]]:
    given = arguments(words)
    if given.one:
        run_one(given, given.one)
        return []
    rows_of(given)  # here, so that its memory does not count as training's
    for way in WAYS:
        if not (run_of(given, way) / "took.json").exists():
            note(f"training {way}")
            command = [sys.executable, __file__, *(sys.argv[1:] if words is None else words), "--one", way]
            subprocess.run(command, check=True)
    data = load_beir(rows_of(given))
    systems, said = systems_of(given, data)
    evaluation = evaluate(data, "test", systems, config_of(given, "M3").evaluation, given.seed)
    rows = table_of(evaluation)
    took = {way: json.loads((run_of(given, way) / "took.json").read_text("utf-8")) for way in WAYS}
    alone, all_three = paces(given, data)
    own = " ".join(given.overrides)
    about = (
        f"{given.model}, {given.train or 'all'} train queries, {len(evaluation.queries):,} test queries, "
        f"{len(data.passages):,} passages{f', {own}' if own else ''}. nDCG@10 with 95% intervals; gains are over the "
        "dense model trained alone on the same rows. base: new layers, before any training."
    )
    lines = [*markdown(("system", "nDCG@10", "over the dense model", "bytes per passage"), rows), ""]
    for way, one in took.items():
        lines.append(f"- {way}: trained in {duration(one['seconds'])}, peak memory {one['memory']:.2f} GB.")
    lines.append(f"- Encoding: {alone:.0f} passages a second dense alone, {all_three:.0f} all three ({given.tokens}).")
    chosen = [f"{one.name}: {one.about.detail}" for one in systems if one.name.startswith("M3 ") and one.about.detail]
    lines += [f"- {text}" for text in (*chosen, *said)]
    best = max((one for one in evaluation.systems if one.name.startswith("M3")), key=lambda one: one.mean[MEASURE])
    lines.append(f"- Best of M3: {best.name}. {_finding(evaluation)}")
    title = f"Dense, sparse and multi-vector on {given.data.resolve().name}"
    print(append(title, about, lines, given.results))
    return rows


def _finding(evaluation: Evaluation) -> str:
    """Whether all three together beat the dense model of the same budget."""
    found = evaluation.compared("M3 all three", "dense", MEASURE)
    if found is None:
        return ""
    if found.interval[0] > 0 and found.p < 0.05:
        return "All three together beat the dense model trained alone: the interval of the gain lies above zero."
    if found.interval[1] < 0 and found.p < 0.05:
        return "All three together are worse than the dense model trained alone."
    return "All three together are not measurably better or worse than the dense model trained alone."


if __name__ == "__main__":
    main()
