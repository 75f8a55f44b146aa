"""Pairs per second of training, against SentenceTransformerTrainer, at no lower nDCG@10 on dev.

    python benchmarks/speed_train.py --data DIR [--set NAME ...] [--pairs 640] [--batch 64] [--repeats 3] [--check]

DIR holds BEIR folders. All ways start from the same model and the same rows (query, positive, one mined negative), with
batches of --batch, one epoch and the same rate; each training runs in a process of its own, in alternation, and what is
timed is the training alone, tokenising included:

- peer: SentenceTransformerTrainer with MultipleNegativesRankingLoss as it comes (fp32, the model's own dropout);
- peer, tuned: bf16, the hashed sampler without duplicates, a worker process that makes the batches;
- peer, tuned, no dropout: the same with the dropout of the model's config set to 0, which its documentation does not
  mention but which lets the fast attention kernel run;
- fieldtune: its defaults, without Matryoshka, which the peer's loss has not either (of multilingual-e5-small these
  leave the word vectors as they are, four fifths of all weights).

All without warm-up, which would be most of so short a training.

And with batches of 1,024 (no hard negatives, texts cut at --cached-tokens, so that the peer ends today): the peer's
cached loss as it comes, and tuned and without dropout, against training.loss=cached. Afterwards dev nDCG@10 of the
trained models is compared, paired by query. Bars: 6 times the peer and 3 times its best settings with the interval of
the difference above -0.5 points, peak memory not above the peer's, 2 times the faster of its cached losses. With
--check: med-en-medquad alone, 128 pairs, one run of each, nothing is written, and the exit status is 1 where a bar is
missed. Needs `datasets`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from memory import peak_memory
from methods import smaller, some_queries
from results import RESULTS, append, markdown

from fieldtune.beir import RetrievalData, load_beir
from fieldtune.config import Config, make_config, merge
from fieldtune.dataset import build_dataset, read_examples
from fieldtune.encoding import Encoder
from fieldtune.evaluation import System, evaluate, model_ranking
from fieldtune.training.loop import train
from fieldtune.training.pairs import make_pairs
from fieldtune.training.recipe import Recipe
from fieldtune.types import Example

SETS = {"med-en-medquad": "builtin:all-MiniLM-L6-v2", "law-zh-stard-small": "builtin:multilingual-e5-small"}
PEER, TUNED, BEST, OURS = "peer", "peer, tuned", "peer, tuned, no dropout", "fieldtune"
PLAIN_CACHED, CACHED_PEER = "peer, cached loss, batch 1,024", "peer, cached loss, tuned, no dropout, batch 1,024"
CACHED = "fieldtune, cached, batch 1,024"
WAYS = (PEER, TUNED, BEST, OURS)
LARGE_WAYS = (PLAIN_CACHED, CACHED_PEER, CACHED)
BAR, BEST_BAR, CACHED_BAR, POINTS = 6.0, 3.0, 2.0, 0.5
BATCH, LARGE, RATE, SEED = 64, 1_024, 5e-5, 13


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", action="append", help="a folder in DIR; both by default")
    parser.add_argument("--model", default="", help="for all sets, instead of the builtin one of each")
    parser.add_argument("--pairs", type=int, default=640)
    parser.add_argument("--passages", type=int, default=2_000, help="passages that dev is measured on")
    parser.add_argument("--queries", type=int, default=300, help="of dev")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=BATCH, help="of the ways that keep no cache of gradients")
    parser.add_argument("--cached-tokens", type=int, default=48)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--one", nargs=3, metavar=("WAY", "ROWS", "OUT"), help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if given.check:
        given.set, given.pairs, given.repeats = given.set or ["med-en-medquad"], min(given.pairs, 128), 1
    return given


def settings_of(given: argparse.Namespace, model: str, cached: bool) -> Config:
    training: dict[str, Any] = {"epochs": 1, "batch_size": given.batch, "learning_rate": RATE, "warmup": 0.0}
    training["matryoshka"] = ()
    settings: dict[str, Any] = {"seed": SEED, "model": {"base": model}, "split": {"keep_given": True}}
    if cached:
        tokens = given.cached_tokens
        training |= {"loss": "cached", "batch_size": LARGE, "hard_negatives": 0, "passage_tokens": tokens}
    return make_config(merge(settings, {"training": training}))


def rows_of(given: argparse.Namespace, data: RetrievalData, model: str, folder: Path) -> list[Example]:
    """One positive and one mined negative for each of --pairs queries; queries without one are not taken."""
    config = settings_of(given, model, False)
    build_dataset(config, data, {}, Encoder.load(model), folder, folder / "vectors")
    rows = [one for one in read_examples(folder / "train.jsonl") if one.neg]
    return [replace(one, pos=one.pos[:1], neg=one.neg[:1], pos_scores=(), neg_scores=()) for one in rows][: given.pairs]


def ours(rows: Sequence[Example], config: Config, out: Path) -> float:
    encoder = Encoder.load(config.model.base, precision="auto")
    cached = config.training.loss == "cached"
    recipe = Recipe(config.training, 20.0, (encoder.dimension,), SEED, cached=cached)
    began = time.perf_counter()
    train(encoder, make_pairs(rows), recipe, None, out / "state", "speed")
    took = time.perf_counter() - began
    encoder.model.save(str(out / "model"))
    return took


def peer(rows: Sequence[Example], config: Config, way: str, out: Path) -> float:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments, losses
    from sentence_transformers.training_args import BatchSamplers

    cached = way in LARGE_WAYS
    model = Encoder.load(config.model.base, precision="fp32").model
    columns = {"anchor": [one.query for one in rows], "positive": [one.pos[0] for one in rows]}
    if not cached:
        columns["negative"] = [one.neg[0] for one in rows]
    settings: dict[str, Any] = {
        "output_dir": str(out / "state"), "num_train_epochs": 1, "learning_rate": RATE, "warmup_ratio": 0.0,
        "per_device_train_batch_size": LARGE if cached else config.training.batch_size,
        "seed": SEED, "save_strategy": "no", "report_to": [], "disable_tqdm": True,
        "use_cpu": model.device.type == "cpu",
    }  # fmt: skip
    if way not in (PEER, PLAIN_CACHED):
        sampler = BatchSamplers.NO_DUPLICATES_HASHED
        settings |= {"bf16": True, "batch_sampler": sampler, "dataloader_num_workers": 1}
    if way in (BEST, CACHED_PEER):
        without_dropout(model)
    if cached:
        model.max_seq_length = config.training.passage_tokens
    loss = losses.CachedMultipleNegativesRankingLoss(model) if cached else losses.MultipleNegativesRankingLoss(model)
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(**settings),
        train_dataset=Dataset.from_dict(columns),
        loss=loss,
    )
    began = time.perf_counter()
    trainer.train()
    took = time.perf_counter() - began
    model.save(str(out / "model"))
    return took


def without_dropout(model: Any) -> None:
    """As if the model had been loaded with config_kwargs={"hidden_dropout_prob": 0, ...}."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout_prob"):
            module.dropout_prob = 0.0


def run_one(given: argparse.Namespace) -> None:
    way, rows, out = given.one[0], read_examples(Path(given.one[1])), Path(given.one[2])
    config = settings_of(given, given.model, way in LARGE_WAYS)
    mine = way in (OURS, CACHED)
    if way == CACHED:  # the peer has one limit for both sides
        training = config.training.model_copy(update={"query_tokens": config.training.passage_tokens})
        config = config.model_copy(update={"training": training})
    took = ours(rows, config, out) if mine else peer(rows, config, way, out)
    (out / "took.json").write_text(json.dumps({"seconds": took, "memory": peak_memory()}))


def trained(given: argparse.Namespace, model: str, way: str, rows: Path, out: Path) -> dict[str, float]:
    out.mkdir(parents=True)
    words = [
        "--data",
        str(given.data),
        "--model",
        model,
        "--cached-tokens",
        str(given.cached_tokens),
        "--batch",
        str(given.batch),
    ]
    command = [sys.executable, __file__, *words, "--one", way, str(rows), str(out)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{way}: {done.stderr[-2_000:]}")
    found: dict[str, float] = json.loads((out / "took.json").read_text())
    return found


def compare(name: str, given: argparse.Namespace, folder: Path) -> tuple[list[str], list[str], bool]:
    """Table, ratios in words, and whether every bar is met."""
    from fieldtune.dataset import write_examples

    model = given.model or SETS.get(name, SETS["med-en-medquad"])
    data = some_queries(load_beir(given.data / name), max(2 * given.pairs, LARGE + 200))
    data = smaller(data, given.passages, given.queries)
    rows = rows_of(given, data, model, folder / "data")
    large = read_examples(folder / "data" / "train.jsonl")[:LARGE]
    files = {False: folder / "rows.jsonl", True: folder / "large.jsonl"}
    write_examples(files[False], rows)
    write_examples(files[True], [replace(one, pos=one.pos[:1], neg=(), pos_scores=(), neg_scores=()) for one in large])
    took: dict[str, list[dict[str, float]]] = {way: [] for way in (*WAYS, *LARGE_WAYS)}
    for number in range(given.repeats):
        for way in took:
            out = folder / f"{number}-{len(way)}-{way.split(',')[0]}"
            took[way].append(trained(given, model, way, files[way in LARGE_WAYS], out) | {"out": str(out)})  # type: ignore[dict-item]
    systems = [
        System(way, model_ranking(Encoder.load(f"{took[way][0]['out']}/model"), data, "dev", folder / "v", label=way))
        for way in WAYS
    ]
    found = evaluate(data, "dev", systems, settings_of(given, model, False).evaluation, SEED)
    counts = {way: len(large) if way in LARGE_WAYS else len(rows) for way in took}
    table = [
        (
            way,
            f"{counts[way] / statistics.median(one['seconds'] for one in runs):.1f}",
            spread(took[PEER if way in WAYS else PLAIN_CACHED], runs),
            f"{max(one['memory'] for one in runs):.2f} GB",
            f"{found.system(way).mean['ndcg@10']:.4f}" if way in WAYS else "",
        )
        for way, runs in took.items()
    ]
    columns = ("way", "pairs a second", "times the peer (cached: its cached loss)", "peak memory", "dev nDCG@10")
    fastest = max((TUNED, BEST), key=lambda way: middle(took[PEER], took[way]))
    cached = max((PLAIN_CACHED, CACHED_PEER), key=lambda way: middle(took[PLAIN_CACHED], took[way]))
    against = [found.compared(OURS, way, "ndcg@10") for way in (PEER, fastest)]
    lows = [100 * one.interval[0] if one else 0.0 for one in against]
    memory = max(one["memory"] for one in took[OURS]) / max(one["memory"] for one in took[PEER])
    bars = [
        (f"{spread(took[PEER], took[OURS])} times {PEER}", middle(took[PEER], took[OURS]), BAR),
        (f"{spread(took[fastest], took[OURS])} times {fastest}", middle(took[fastest], took[OURS]), BEST_BAR),
        (f"{spread(took[cached], took[CACHED])} times {cached}", middle(took[cached], took[CACHED]), CACHED_BAR),
        (f"dev difference above {min(lows):+.2f} points", min(lows), -POINTS),
        (f"{memory:.2f} of the peer's peak memory", -memory, -1.0),
    ]  # fmt: skip
    said = [f"{text} (bar {abs(bar):g}: {'met' if value >= bar else 'missed'})" for text, value, bar in bars]
    return markdown(columns, table), said, all(value >= bar for _, value, bar in bars)


def middle(slow: Sequence[dict[str, float]], fast: Sequence[dict[str, float]]) -> float:
    """Of pairs a second, whatever their number."""
    return statistics.median(a["seconds"] / b["seconds"] for a, b in zip(slow, fast, strict=True))


def spread(slow: Sequence[dict[str, float]], fast: Sequence[dict[str, float]]) -> str:
    each = [a["seconds"] / b["seconds"] for a, b in zip(slow, fast, strict=True)]
    return f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})"


def main(words: list[str] | None = None) -> int:
    given = arguments(words)
    if given.one:
        run_one(given)
        return 0
    lines: list[str] = []
    last: list[str] = []
    reached = True
    for name in given.set or list(SETS):
        with tempfile.TemporaryDirectory() as folder:
            table, said, good = compare(name, given, Path(folder))
        lines += ["", f"{name}, {given.model or SETS.get(name, '')}:", "", *table, "", *(f"- {one}" for one in said)]
        last.append(f"{name}: {'; '.join(said)}")
        reached &= good
    if given.check:
        print("\n".join(lines))
    else:
        about = (
            f"{given.pairs:,} pairs of each set in batches of {given.batch}, {given.repeats} runs in alternation; "
            "medians, spread."
        )
        print(append("Training", about, lines, given.results))
    print(" | ".join(last))
    return int(not reached)


if __name__ == "__main__":
    sys.exit(main())
