"""Every way of training beside the others: the same rows and epochs, one table.

    python benchmarks/methods.py --data BEIR_DIR [--model M] [--methods mnrl,gte,kl] [--train N] [--seeds 13 14 15]
        [--passages N] [--queries N] [--teacher CROSS_ENCODER] [--vector-teacher MODEL] [--work FOLDER] [--out FILE]
        [--results FILE] [--set training.epochs=1 ...]

Trains on the train split (N of its queries, the same for all), chooses the checkpoint on dev, measures dev and test.
The table has nDCG@10 on both with 95% intervals (and the spread over the seeds), how many parameters were trained, the
time of training and the peak memory of its process, or of the GPU. Ways that follow a teacher run where one is given.
--passages keeps that many of the corpus, all labelled ones among them, and --queries that many of dev and of test, the
same for all methods. Each result is one line of --out, which a later call does not make again: the table names those
that other sources of fieldtune made than the present ones. Rows are made once and kept in --work. The table is appended
to benchmarks/RESULTS.md.

A way is a name and the settings it changes, whatever --set says of them; add yours to METHODS.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from memory import peak_memory
from results import RESULTS, append, markdown

import fieldtune
from fieldtune.beir import RetrievalData, load_beir
from fieldtune.config import Config, make_config, merge, parse_overrides
from fieldtune.console import duration, note
from fieldtune.dataset import build_dataset
from fieldtune.dataset.teacher import GRADED
from fieldtune.encoding import Encoder
from fieldtune.evaluation import System, evaluate, model_ranking
from fieldtune.models import resolve_model
from fieldtune.training import tune
from fieldtune.workspace import Workspace, digest, read_jsonl

BASE = "base model"
HALF = -1
"""In the place of a number of layers: half of those that the model has."""


@dataclass(frozen=True, slots=True)
class Method:
    """Settings against the defaults, by section, and which second model they need."""

    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    needs: str = ""
    """teacher, vector_teacher, or nothing."""


def loss(name: str, needs: str = "", **settings: Any) -> Method:
    return Method({"training": {"loss": name, **settings}}, needs)


def preset(name: str) -> Method:
    """Its length, measures, patience and batches, of which --set makes all other rows alike."""
    chosen = make_config({"preset": name}).training
    names = ("epochs", "evaluations", "patience", "batch_size")
    return loss("mnrl", **{setting: getattr(chosen, setting) for setting in names})


METHODS: dict[str, Method] = {
    BASE: Method(),
    "mnrl": loss("mnrl"),
    "preset-quick": preset("quick"),
    "preset-balanced": preset("balanced"),
    "preset-best": preset("best"),
    "mnrl-in-batch": Method({"training": {"loss": "mnrl"}, "negatives": {"per_query": 0}}),
    "mnrl-full-size": loss("mnrl", matryoshka=()),
    "mnrl-rate-2e-5": loss("mnrl", learning_rate=2e-5),
    "mnrl-rate-1e-4": loss("mnrl", learning_rate=1e-4),
    "cached-256": loss("cached", batch_size=256),
    "symmetric": loss("symmetric"),
    "gte": loss("gte"),
    "guided": loss("guided"),
    "triplet": loss("triplet"),
    "contrastive": loss("contrastive"),
    "online-contrastive": loss("online_contrastive"),
    "cosine": loss("cosine"),
    "cosent": loss("cosent"),
    "margin-mse": loss("margin_mse", "teacher"),
    "kl": loss("kl", "teacher"),
    "kl-embedder": loss("kl", "vector_teacher"),
    "kl-fused": Method({"teacher": {"model": "fused"}, "training": {"loss": "kl"}}),
    "kl-fused-half": Method({"teacher": {"model": "fused"}, "training": {"loss": "kl", "contrastive_share": 0.5}}),
    "margin-mse-fused": Method({"teacher": {"model": "fused"}, "training": {"loss": "margin_mse"}}),
    "vectors": loss("vectors", "vector_teacher"),
    "vectors-learned": loss("vectors", "vector_teacher", projection="learned"),
    "lora": Method({"training": {"method": "lora"}}),
    "lora-plus": Method({"training": {"method": "lora", "lora": {"b_rate": 16}, "learning_rate": 1e-4}}),
    "rslora": Method({"training": {"method": "lora", "lora": {"rslora": True}, "learning_rate": 2e-4}}),
    "dora": Method({"training": {"method": "lora", "lora": {"dora": True}}}),
    "adapter-pfeiffer": Method({"training": {"method": "adapter"}}),
    "adapter-houlsby": Method({"training": {"method": "adapter", "bottleneck": {"placement": "houlsby"}}}),
    "query-layer": Method({"training": {"method": "query"}}),
    "lower-half-frozen": Method({"training": {"freeze_layers": HALF}}),
    "words-frozen": Method({"training": {"freeze_embeddings": True}}),
    "dropout": Method({"training": {"dropout": True}}),
    "anchored": Method({"training": {"anchor": 0.1}}),
    "base-share-0.3": Method({"training": {"base_share": 0.3}}),
    "base-share-auto": Method({"training": {"base_share": "auto"}, "evaluation": {"general": True}}),
    "soup-of-3": Method({"training": {"seeds": 3}}),
    "mined-again": Method({"negatives": {"rounds": 2}}),
    "mlm-first": Method({"training": {"pretrain": "mlm"}}),
    "tsdae-first": Method({"training": {"pretrain": "tsdae"}}),
}


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="builtin:all-MiniLM-L6-v2")
    parser.add_argument("--methods", default="", help="names with commas; all that can run if not given")
    parser.add_argument("--train", type=int, default=0, help="queries trained on; 0: all")
    parser.add_argument("--passages", type=int, default=0, help="passages searched in; 0: all")
    parser.add_argument("--queries", type=int, default=0, help="queries of dev and of test; 0: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[13])
    parser.add_argument("--teacher", default="", help="cross-encoder for margin-mse and kl, or llm")
    parser.add_argument("--vector-teacher", default="", help="larger embedding model for vectors and kl-embedder")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "fieldtune-methods")
    parser.add_argument("--out", type=Path, help="a line per result; methods.jsonl in --work if not given")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)  # a method, in a process of its own
    given = parser.parse_args(words)
    given.out = given.out or given.work / "methods.jsonl"
    names = [name.strip() for name in given.methods.split(",") if name.strip()] or runnable(given)
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        parser.error(f"no method {unknown[0]!r}; there are {', '.join(METHODS)}")
    for name in names:
        if (needed := METHODS[name].needs) and not getattr(given, needed):
            parser.error(f"{name} needs --{needed.replace('_', '-')}")
    given.methods = names
    return given


def runnable(given: argparse.Namespace) -> list[str]:
    return [name for name, method in METHODS.items() if not method.needs or getattr(given, method.needs)]


def config_of(given: argparse.Namespace, name: str, seed: int) -> Config:
    method = METHODS[name]
    settings: dict[str, Any] = {"seed": seed, "model": {"base": given.model}, "split": {"keep_given": True}}
    settings["evaluation"] = {"general": False}  # time and memory are those of training alone
    if method.settings.get("training", {}).get("freeze_layers") == HALF:
        method = replace(method, settings={"training": {"freeze_layers": layers_of(given.model) // 2}})
    if method.needs == "teacher":
        settings["teacher"] = {"model": given.teacher}
    if method.needs == "vector_teacher":  # its vectors are followed, or its cosines
        section, key = ("training", "vector_teacher") if of_vectors(method) else ("teacher", "model")
        settings[section] = {key: given.vector_teacher}
    own = merge(merge(settings, parse_overrides(given.overrides)), method.settings)
    return make_config(merge(own, {"training": {"share_curve": False}}))


def of_vectors(method: Method) -> bool:
    return bool(method.settings["training"]["loss"] == "vectors")


@cache
def layers_of(model: str) -> int:
    config = json.loads((resolve_model(model).folder / "config.json").read_text("utf-8"))
    return int(config["num_hidden_layers"])


def key_of(given: argparse.Namespace, name: str, seed: int) -> str:
    """Names a result: the same settings, data and number of queries."""
    config = config_of(given, name, seed).model_dump(exclude={"out"})
    return digest([name, str(given.data.resolve()), given.train, given.passages, given.queries, config])


@cache
def sources() -> str:
    """The last commit of fieldtune's code, with a digest of what was changed since; its version where git has none."""
    git = ["git", "-C", str(Path(fieldtune.__file__).parent)]
    try:
        commit, changes = (
            subprocess.run([*git, *words, "--", "."], check=False, capture_output=True, text=True).stdout.strip()
            for words in (["log", "-1", "--format=%h"], ["diff", "HEAD"])
        )
    except OSError:  # no git
        return fieldtune.__version__
    return (f"{commit}-dirty-{digest([changes])[:8]}" if changes else commit) or fieldtune.__version__


def reused(results: list[dict[str, Any]]) -> str:
    """Says which results were made by other sources than the present ones; empty where none was."""
    others: dict[str, list[str]] = {}
    for row in results:
        if (made := row.get("sources", "")) != sources():
            others.setdefault(made, []).append(f"{row['name']} (seed {row['seed']})")
    return "".join(
        f" Not made by the sources {sources()} but {f'by {made}' if made else 'by earlier ones'}: {', '.join(names)}."
        for made, names in others.items()
    )


def some_queries(data: RetrievalData, count: int) -> RetrievalData:
    """The data with `count` of the train queries, the same whatever is trained."""
    train = data.qrels.get("train", {})
    if not count or not train:
        return data
    kept = sorted(train, key=lambda query: digest(["methods", query]))[:count]
    return replace(
        data, qrels=dict(data.qrels) | {"train": {query: train[query] for query in train if query in set(kept)}}
    )


def smaller(data: RetrievalData, passages: int, queries: int, kept_too: frozenset[str] = frozenset()) -> RetrievalData:
    """The data with that many dev and test queries and passages (0: all), drawn once and for all by their names.

    Every passage with a label stays, so that none of the queries loses one, and so does each of `kept_too`.
    """
    sides = dict(data.qrels)
    for side in ("dev", "test"):
        rows = sides.get(side, {})
        if queries and len(rows) > queries:
            kept = sorted(rows, key=lambda query: digest(["methods", query]))[:queries]
            sides[side] = {query: rows[query] for query in sorted(kept)}
    if not passages or len(data.passages) <= passages:
        return replace(data, qrels=sides)
    labelled = {key for rows in sides.values() for row in rows.values() for key in row}
    labelled |= kept_too & set(data.passages)
    order = sorted(set(data.passages) - labelled, key=lambda key: digest(["methods", key]))
    chosen = labelled | set(order[: max(0, passages - len(labelled))])
    return replace(data, qrels=sides, passages={key: one for key, one in data.passages.items() if key in chosen})


def rows_of(given: argparse.Namespace, config: Config) -> Path:
    """The folder of the training rows; made once for all methods that take the same ones."""
    sections = config.model_dump(include={"seed", "split", "negatives", "teacher", "model"})
    graded = config.training.loss in GRADED  # their rows carry the scores of the labels
    size = [given.train, given.passages, given.queries]
    folder = given.work / "rows" / digest([str(given.data.resolve()), *size, graded, sections])
    if not (folder / "done").exists():
        data = smaller(some_queries(load_beir(given.data), given.train), given.passages, given.queries)
        encoder = Encoder.load(config.model.base, settings=config.model)
        build_dataset(config, data, {}, encoder, folder, given.work / "vectors")
        (folder / "done").touch()
    return folder


def run_one(given: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """Train and measure; in a process of its own, whose memory nothing else has touched."""
    config = config_of(given, name, seed)
    data = load_beir(rows_of(given, config))
    encoder = Encoder.load(config.model.base, settings=config.model, precision=config.training.precision)
    work = given.work / "runs" / key_of(given, name, seed)
    found: dict[str, Any] = {"parameters": 0, "seconds": 0.0, "memory": 0.0, "notes": []}
    if name != BASE:
        with Workspace(work):
            began = time.monotonic()
            result = tune(config, data, rows_of(given, config) / "train.jsonl", encoder, work, given.work / "vectors")
            found = {
                "parameters": result.counts["trainable parameters"],
                "seconds": round(time.monotonic() - began, 1),
                "memory": round(peak_memory(), 2),
                "notes": list(result.notes),
            }
        # As it was saved: a query layer is a part of the saved model and not of the one that it was fitted on.
        encoder = Encoder.load(str(work / "model"), precision=config.training.precision)
    for split in ("dev", "test"):
        if data.qrels.get(split):
            ranking = model_ranking(encoder, data, split, work / "vectors", label=name)
            scores = evaluate(data, split, [System(name, ranking)], config.evaluation, seed).system(name)
            found[split] = {"ndcg@10": scores.mean["ndcg@10"], "interval": list(scores.interval["ndcg@10"])}
    return found


def lines(path: Path) -> dict[str, dict[str, Any]]:
    return {row["key"]: row for _, row in read_jsonl(path)} if path.exists() else {}


def shown(results: list[dict[str, Any]]) -> tuple[str, ...]:
    """One row of the table from a method's results, one for each seed."""
    cells = []
    for split in ("dev", "test"):
        there = [row[split] for row in results if split in row]
        if not there:
            cells.append("")
            continue
        means = [row["ndcg@10"] for row in there]
        low, high = np.mean([row["interval"] for row in there], axis=0)
        spread = f" ±{np.std(means, ddof=1):.4f}" if len(means) > 1 else ""
        cells.append(f"{np.mean(means):.4f}{spread} [{low:.4f}, {high:.4f}]")
    if results[0]["name"] == BASE:
        return BASE, *cells, "", "", ""
    seconds, memory = (float(np.mean([row[name] for row in results])) for name in ("seconds", "memory"))
    return results[0]["name"], *cells, f"{results[0]['parameters']:,}", duration(seconds), f"{memory:.2f} GB"


def main() -> None:
    given = arguments()
    if given.one:
        found = {"name": given.one, "seed": given.seeds[0], "key": key_of(given, given.one, given.seeds[0])}
        found["sources"] = sources()  # before the training, during which they may change
        found |= run_one(given, given.one, given.seeds[0])
        with given.out.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(found, ensure_ascii=False) + "\n")
        return
    given.out.parent.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in given.methods:
        for seed in given.seeds:
            if key_of(given, name, seed) in lines(given.out):
                continue
            rows_of(given, config_of(given, name, seed))  # here, so that its memory does not count as training's
            note(f"{name}, seed {seed}")
            command = [sys.executable, __file__, *sys.argv[1:], "--methods", name, "--seeds", str(seed), "--one", name]
            if subprocess.run(command, check=False).returncode:
                failed.append(f"{name}, seed {seed}")
    done = lines(given.out)
    keys = {name: [key_of(given, name, seed) for seed in given.seeds] for name in given.methods}
    rows = [[done[key] for key in found if key in done] for found in keys.values()]
    columns = ("method", "dev nDCG@10", "test nDCG@10", "trained parameters", "time", "peak memory")
    name = given.data.resolve().name
    data = load_beir(rows_of(given, config_of(given, BASE, given.seeds[0])))
    asked = ", ".join(f"{len(data.qrels.get(side, {})):,} {side} queries" for side in ("train", "dev", "test"))
    about = (
        f"{given.model}, {asked}, {len(data.passages):,} passages; seeds {', '.join(map(str, given.seeds))}; settings: "
        f"{' '.join(given.overrides) or 'defaults'}. Intervals are over queries, ± is the deviation over seeds."
        f"{reused([row for found in rows for row in found])}"
    )
    lines_of = markdown(columns, [shown(found) for found in rows if found])
    print(append(f"Ways of training on {name}", about, lines_of, given.results))
    for one in failed:
        note(f"failed: {one}")
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
