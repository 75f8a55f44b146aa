"""Pairs per second of training, against SentenceTransformerTrainer, at no lower nDCG@10 on dev.

    python benchmarks/speed_train.py --data DIR [--set NAME ...] [--pairs 640] [--batch 64] [--repeats 3] [--check]

DIR holds BEIR folders. All ways start from the same model and the same rows (query, positive, one mined negative), with
batches of --batch, one epoch and the same rate; each training runs in a process of its own, in alternation, and what is
timed is the training alone, tokenising included, saving not (the peer is told to save nothing, and fieldtune's
checkpoint is left out; in trainings as short as these it would weigh more than in real ones):

- peer: SentenceTransformerTrainer with MultipleNegativesRankingLoss as it comes (fp32, the model's own dropout);
- peer, tuned: bf16, the hashed sampler without duplicates, a worker process that makes the batches;
- peer, tuned, no dropout: the same with the dropout of the model's config set to 0, which its documentation does not
  mention but which lets the fast attention kernel run;
- fieldtune: its defaults, without Matryoshka, which the peer's loss has not either (of multilingual-e5-small these
  leave the word vectors as they are, four fifths of all weights). Its scale is chosen before, from the base model's
  vectors, which a run has from mining; the peer's is its own default.

All without warm-up, which would be most of so short a training. How many worker processes and, below, how large
mini-batches are the best for the peer is tried first, once each on a few rows.

And with batches of 1,024 (no hard negatives, texts cut at --cached-tokens, so that the peer ends today): the peer's
cached loss as it comes, and tuned and without dropout, against training.loss=cached. No two rows of that batch share a
text, so that no sampler parts it: labels of train, then of dev and test (what is trained on them is timed and thrown
away), then the opening of a passage as the query for the passage. Where a set has too few, the batch is named by its
true size, and its bar counts as missed.

Every run has a seed of its own, the same for all ways. Afterwards dev nDCG@10 of the trained models is compared: its
mean over the runs, paired by query. --ways compares some of them alone, such as the two fastest over more pairs and
runs than the slow ones would end; bars of what did not run are left out. With --held-out the labelled train queries
that no way is trained on are compared as well: a set with few dev queries says little of half a point. Bars: 6 times
the peer and 3 times its best settings with the interval of the difference above -0.5 points, peak memory not above the
peer's, 2 times the faster of its cached losses. With --check:
med-en-medquad alone, 128 pairs, one run of each, nothing is written, and the exit status is 1 where a bar is missed.

On a GPU, where --model should name one of base size, the tuned ways of the peer alone run against fieldtune; the bars
are 1.3 times the faster one and the dev difference, and the share of the GPU's peak is stated.
Needs `datasets`.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from memory import peak_memory
from methods import smaller, some_queries
from peak import TRAINING, on_gpu, operations, peak_here, shares
from results import RESULTS, append, markdown

from fieldtune.beir import RetrievalData, load_beir
from fieldtune.config import Config, make_config, merge
from fieldtune.dataset import build_dataset, read_examples, write_examples
from fieldtune.encoding import Encoder
from fieldtune.evaluation import Evaluation, System, evaluate, model_ranking
from fieldtune.evaluation.paired import paired
from fieldtune.evaluation.statistics import singles
from fieldtune.measures import MAIN
from fieldtune.training.loop import train
from fieldtune.training.pairs import make_pairs
from fieldtune.training.recipe import Recipe
from fieldtune.training.scale import fitting_scale
from fieldtune.types import Example
from fieldtune.workspace import digest

SETS = {"med-en-medquad": "builtin:all-MiniLM-L6-v2", "law-zh-stard-small": "builtin:multilingual-e5-small"}
PEER, TUNED, BEST, OURS = "peer", "peer, tuned", "peer, tuned, no dropout", "fieldtune"
PLAIN_CACHED, CACHED_PEER = "peer, cached loss", "peer, cached loss, tuned, no dropout"
CACHED = "fieldtune, cached"
WAYS = (PEER, TUNED, BEST, OURS)
GPU_WAYS = (TUNED, BEST, OURS)
LARGE_WAYS = (PLAIN_CACHED, CACHED_PEER, CACHED)
BAR, BEST_BAR, CACHED_BAR, GPU_BAR, POINTS = 6.0, 3.0, 2.0, 1.3, 0.5
BATCH, LARGE, RATE, SEED = 64, 1_024, 5e-5, 13
WORKERS, MINI = (0, 1), (16, 32, 64)
"""What the peer's best settings are looked for among."""
TRIED = 64
"""Pairs of each such trial; of the cached loss, which is faster, twice as many."""
OPENING = 60
"""Characters of a passage that stand for a query where there are too few labels for a large batch."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """The peer's best settings."""

    workers: int = 1
    mini: int = 32


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", action="append", help="a folder in DIR; both by default")
    parser.add_argument("--model", default="", help="for all sets, instead of the builtin one of each")
    parser.add_argument("--pairs", type=int, default=6_400 if on_gpu() else 640)
    parser.add_argument("--peak-tflops", type=float, default=0, help="of a GPU whose bf16 peak is not known here")
    parser.add_argument("--passages", type=int, default=2_000, help="passages that dev is measured on")
    parser.add_argument("--queries", type=int, default=300, help="of dev")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=BATCH, help="of the ways that keep no cache of gradients")
    parser.add_argument("--cached-tokens", type=int, default=48)
    parser.add_argument("--ways", nargs="+", choices=(*WAYS, *LARGE_WAYS), help="all by default")
    parser.add_argument("--held-out", action="store_true", help="train queries that nobody trains on count as dev too")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--seed", type=int, default=SEED, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=Tuned().workers, help=argparse.SUPPRESS)
    parser.add_argument("--mini", type=int, default=Tuned().mini, help=argparse.SUPPRESS)
    parser.add_argument("--scale", type=float, default=20.0, help=argparse.SUPPRESS)
    parser.add_argument("--tune", nargs=3, metavar=("ROWS", "LARGE ROWS", "OUT"), help=argparse.SUPPRESS)
    parser.add_argument("--one", nargs=3, metavar=("WAY", "ROWS", "OUT"), help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    given.ways = tuple(given.ways or (GPU_WAYS if on_gpu() else (*WAYS, *LARGE_WAYS)))
    if given.check:
        given.set, given.pairs, given.repeats = (
            given.set or ["med-en-medquad"],
            min(given.pairs, 1_280 if on_gpu() else 128),
            1,
        )
    return given


def settings_of(given: argparse.Namespace, model: str, cached: int = 0) -> Config:
    """With `cached`, of one batch of that size."""
    training: dict[str, Any] = {"epochs": 1, "batch_size": given.batch, "learning_rate": RATE, "warmup": 0.0}
    training["matryoshka"] = ()
    settings: dict[str, Any] = {"seed": given.seed, "model": {"base": model}, "split": {"keep_given": True}}
    if cached:
        tokens = given.cached_tokens
        training |= {"loss": "cached", "batch_size": cached, "hard_negatives": 0, "passage_tokens": tokens}
    return make_config(merge(settings, {"training": training}))


def rows_of(given: argparse.Namespace, data: RetrievalData, model: str, folder: Path) -> list[Example]:
    """One positive and one mined negative for each of --pairs queries; queries without one are not taken.

    Whole batches alone: what is left over would be trained on by one side and not by the other.
    """
    config = settings_of(given, model)
    build_dataset(config, data, {}, Encoder.load(model), folder, folder / "vectors")
    rows = [one for one in read_examples(folder / "train.jsonl") if one.neg]
    count = min(len(rows), given.pairs)
    count -= count % given.batch if count >= given.batch else 0
    return [replace(one, pos=one.pos[:1], neg=one.neg[:1], pos_scores=(), neg_scores=()) for one in rows[:count]]


def with_held_out(data: RetrievalData, rows: Sequence[Example]) -> RetrievalData:
    """The data with the labelled train queries that none of the rows asks among the dev queries."""
    asked = {row.query for row in rows}
    spare = {key: grades for key, grades in data.qrels["train"].items() if data.queries[key].text not in asked}
    return replace(data, qrels=dict(data.qrels) | {"dev": dict(data.qrels["dev"]) | spare})


def scale_for(rows: Sequence[Example], model: str) -> float:
    """What training would choose for these rows."""
    encoder = Encoder.load(model)
    queries = encoder.encode([one.query for one in rows], "query")
    return fitting_scale(queries, encoder.encode([one.pos[0] for one in rows], "passage"), SEED)[0]


def large_rows(data: RetrievalData, count: int) -> tuple[list[Example], int]:
    """Up to `count` rows no two of which share a text, and how many of them are labels."""

    def labels() -> Iterator[tuple[str, str]]:
        for side in sorted(data.qrels, key=lambda side: (side != "train", side)):
            positives = data.positives(side)
            for query in sorted(positives, key=lambda query: (len(positives[query]), digest(["large", query]))):
                for passage in positives[query]:
                    yield data.queries[query].text, data.passages[passage].content

    def openings() -> Iterator[tuple[str, str]]:
        for key in sorted(data.passages, key=lambda key: digest(["large", key])):
            text = data.passages[key].content
            yield text[:OPENING].strip(), text

    rows: list[Example] = []
    used: set[str] = set()
    labelled = 0
    for number, offered in enumerate((labels(), openings())):
        for query, passage in offered:
            if len(rows) == count:
                break
            if query and query != passage and not {query, passage} & used:
                used |= {query, passage}
                rows.append(Example(query, (passage,)))
        labelled = labelled if number else len(rows)
    return rows, labelled


def ours(rows: Sequence[Example], config: Config, scale: float, out: Path) -> float:
    encoder = Encoder.load(config.model.base, precision="auto")
    cached = config.training.loss == "cached"
    recipe = Recipe(config.training, scale, (encoder.dimension,), config.seed, cached=cached)
    with patch("fieldtune.training.loop.save_checkpoint"):
        began = time.perf_counter()
        train(encoder, make_pairs(rows), recipe, None, out / "state", "speed")
        took = time.perf_counter() - began
    keep(encoder.model, out, cached)
    return took


def keep(model: Any, out: Path, cached: bool) -> None:
    """Save what is to be measured on dev, and no checkpoints."""
    if not cached:
        model.save(str(out / "model"), create_model_card=False)
    shutil.rmtree(out / "state", ignore_errors=True)


def peer(rows: Sequence[Example], config: Config, way: str, out: Path, tuned: Tuned) -> float:
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
        "per_device_train_batch_size": config.training.batch_size,
        "seed": config.seed, "save_strategy": "no", "report_to": [], "disable_tqdm": True,
        "use_cpu": model.device.type == "cpu",
    }  # fmt: skip
    if way not in (PEER, PLAIN_CACHED):
        sampler = BatchSamplers.NO_DUPLICATES_HASHED
        settings |= {"bf16": True, "batch_sampler": sampler, "dataloader_num_workers": tuned.workers}
    if way in (BEST, CACHED_PEER):
        without_dropout(model)
    if cached:
        model.max_seq_length = config.training.passage_tokens
    loss: Any = losses.MultipleNegativesRankingLoss(model)
    if cached:
        mini = tuned.mini if way == CACHED_PEER else Tuned().mini  # as it comes
        loss = losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=mini)
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(**settings),
        train_dataset=Dataset.from_dict(columns),
        loss=loss,
    )
    began = time.perf_counter()
    trainer.train()
    took = time.perf_counter() - began
    keep(model, out, cached)
    return took


def without_dropout(model: Any) -> None:
    """As if the model had been loaded with config_kwargs={"hidden_dropout_prob": 0, ...}."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout_prob"):
            module.dropout_prob = 0.0


def tune_peer(given: argparse.Namespace) -> None:
    """Try each setting of the peer on a few rows, all in this process, and write the fastest."""
    rows, large = (read_examples(Path(path)) for path in given.tune[:2])
    out, tuned = Path(given.tune[2]), Tuned()
    config = settings_of(given, given.model)
    config = config.model_copy(update={"training": config.training.model_copy(update={"batch_size": TRIED // 4})})
    cached = settings_of(given, given.model, min(2 * TRIED, len(large)))
    peer(rows[: TRIED // 4], config, BEST, out / "first", tuned)  # which also sets things up

    def tried(some: Sequence[Example], settings: Config, way: str, one: Tuned) -> float:
        return peer(some, settings, way, out / f"{one.workers}-{one.mini}", one)

    workers = {count: tried(rows[:TRIED], config, BEST, Tuned(count)) for count in WORKERS}
    tuned = Tuned(fastest_of(workers))
    mini = {size: tried(large[: 2 * TRIED], cached, CACHED_PEER, replace(tuned, mini=size)) for size in MINI}
    (out / "tuned.json").write_text(json.dumps(asdict(replace(tuned, mini=fastest_of(mini)))))


def fastest_of(seconds: dict[int, float]) -> int:
    return min(seconds, key=seconds.__getitem__)


def run_one(given: argparse.Namespace) -> None:
    way, rows, out = given.one[0], read_examples(Path(given.one[1])), Path(given.one[2])
    config = settings_of(given, given.model, len(rows) if way in LARGE_WAYS else 0)
    mine = way in (OURS, CACHED)
    if way == CACHED:  # the peer has one limit for both sides
        training = config.training.model_copy(update={"query_tokens": config.training.passage_tokens})
        config = config.model_copy(update={"training": training})
    took = (
        ours(rows, config, given.scale, out) if mine else peer(rows, config, way, out, Tuned(given.workers, given.mini))
    )
    (out / "took.json").write_text(json.dumps({"seconds": took, "memory": peak_memory()}))


def operations_of(model: str, rows: Sequence[Example]) -> float:
    """Of a training on these rows."""
    texts = [(side, text) for one in rows for side, some in (("query", (one.query,)), ("passage", one.pos + one.neg))
             for text in some]  # fmt: skip
    return TRAINING * operations(Encoder.load(model), texts)


def child(given: argparse.Namespace, words: Sequence[str]) -> None:
    """This script with the same settings in a process of its own."""
    same = ("data", "model", "cached_tokens", "batch", "seed", "workers", "mini", "scale")
    settings = [word for name in same for word in (f"--{name.replace('_', '-')}", str(getattr(given, name)))]
    done = subprocess.run([sys.executable, __file__, *settings, *words], check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words[:2])}: {done.stderr[-2_000:]}")


def tuned_peer(given: argparse.Namespace, rows: Path, large: Path, out: Path) -> Tuned:
    out.mkdir()
    child(given, ["--tune", str(rows), str(large), str(out)])
    return Tuned(**json.loads((out / "tuned.json").read_text()))


def trained(given: argparse.Namespace, way: str, rows: Path, out: Path) -> dict[str, float]:
    out.mkdir(parents=True)
    child(given, ["--one", way, str(rows), str(out)])
    found: dict[str, float] = json.loads((out / "took.json").read_text())
    return found


def compare(name: str, given: argparse.Namespace, folder: Path) -> tuple[list[str], list[str], bool]:
    """Table, ratios in words, and whether every bar is met."""
    given = argparse.Namespace(**vars(given) | {"model": given.model or SETS.get(name, SETS["med-en-medquad"])})
    whole = load_beir(given.data / name)
    data = smaller(some_queries(whole, 2 * given.pairs), given.passages, given.queries)
    rows = rows_of(given, data, given.model, folder / "data")
    large, labelled = large_rows(whole, LARGE)
    files = {False: folder / "rows.jsonl", True: folder / "large.jsonl"}
    write_examples(files[False], rows)
    write_examples(files[True], large)
    tuned = tuned_peer(given, *files.values(), folder / "tuned")
    given.workers, given.mini, given.scale = tuned.workers, tuned.mini, scale_for(rows, given.model)
    plain = [way for way in WAYS if way in given.ways]
    judged = with_held_out(data, rows) if given.held_out else data
    took: dict[str, list[dict[str, float]]] = {way: [] for way in (*WAYS, *LARGE_WAYS) if way in given.ways}
    found: list[Evaluation] = []
    for number in range(given.repeats):
        given.seed = SEED + number
        out = {way: folder / f"{number}-{place}" for place, way in enumerate(took)}
        for way in took:
            took[way].append(trained(given, way, files[way in LARGE_WAYS], out[way]))
        found.append(on_dev(judged, {way: out[way] / "model" for way in plain}, given, folder / "vectors"))
        for one in out.values():
            shutil.rmtree(one)
    compared = [way for way in dict.fromkeys((PEER, fastest(took))) if way in took]
    low = low_of(found, compared, given) if OURS in took and compared else None
    table = [
        (
            f"{way}, batch {len(large):,}" if way in LARGE_WAYS else way,
            f"{len(large if way in LARGE_WAYS else rows) / statistics.median(one['seconds'] for one in runs):.1f}",
            spread(next(iter(took[one] for one in took if (one in LARGE_WAYS) == (way in LARGE_WAYS))), runs),
            f"{max(one['memory'] for one in runs):.2f} GB",
            f"{np.mean([one.system(way).mean[MAIN] for one in found]):.4f}" if way in plain else "",
        )
        for way, runs in took.items()
    ]
    against = "times the first (cached: the first cached one)"
    columns = ("way", "pairs a second", against, "peak memory", "dev nDCG@10")
    bars = bars_of(took, low, len(large), on_gpu())
    said = [f"{text} (bar {bar:g}: {'met' if value >= bar else 'missed'})" for text, value, bar in bars]
    if on_gpu() and compared and OURS in took:
        seconds = {way: statistics.median(one["seconds"] for one in took[way]) for way in (OURS, fastest(took))}
        said.append(shares(operations_of(given.model, rows), seconds, peak_here(given.peak_tflops)))
    about = (
        f"{len(rows):,} pairs of a hard negative each; the batch of {len(large):,} has {labelled:,} labelled pairs and "
        f"{len(large) - labelled:,} of a passage's opening and the passage. The peer's best settings, in a trial of "
        f"each: {tuned.workers} worker processes, mini-batches of {tuned.mini}. fieldtune's scale: {given.scale:g}, "
        f"the peer's 20. Dev: {len(judged.positives('dev')):,} queries"
        + (", of train those among them that no way is trained on." if given.held_out else ".")
    )
    met = bool(bars) and all(value >= bar for _, value, bar in bars)
    return [about, "", *markdown(columns, table)], said, met


def on_dev(data: RetrievalData, models: dict[str, Path], given: argparse.Namespace, vectors: Path) -> Evaluation:
    """All that one run trained, measured."""
    systems = [
        System(way, model_ranking(Encoder.load(str(model)), data, "dev", vectors, label=way))
        for way, model in models.items()
    ]
    return evaluate(data, "dev", systems, settings_of(given, given.model).evaluation, SEED)


def low_of(found: Sequence[Evaluation], others: Sequence[str], given: argparse.Namespace) -> float:
    """The lowest end of the intervals of fieldtune's difference to others, points of nDCG@10; NaN where there is none.

    A query's value is the mean over the runs: what one training and not the other happens to learn evens out.
    """
    first, config = found[0], settings_of(given, given.model).evaluation
    units = first.clusters if first.clusters.count > 1 else singles(len(first.queries))
    mean = {way: np.mean([one.system(way).values[MAIN] for one in found], axis=0) for way in (OURS, *others)}
    apart = np.column_stack([mean[OURS] - mean[way] for way in others])
    named = [(OURS, way, MAIN) for way in others]
    sizes = {"resamples": config.bootstrap, "permutations": config.permutations}
    return 100 * float(np.min([one.interval[0] for one in paired(named, apart, units, **sizes, seed=SEED)]))


def fastest(took: dict[str, list[dict[str, float]]]) -> str:
    """Of the peer's ways that are tuned and ran; "" where none did."""
    there = {way: statistics.median(one["seconds"] for one in took[way]) for way in (TUNED, BEST) if way in took}
    return min(there, key=there.__getitem__, default="")


def bars_of(
    took: dict[str, list[dict[str, float]]], low: float | None, large: int, gpu: bool = False
) -> list[tuple[str, float, float]]:
    """What each bar is of in words, the value, and the least that it must be; of the ways that ran.

    `low` is that of the dev difference, None where nothing was to be compared.
    """
    bars: list[tuple[str, float, float]] = []
    best = fastest(took)
    if OURS in took and PEER in took:
        bars.append((f"{spread(took[PEER], took[OURS])} times {PEER}", middle(took[PEER], took[OURS]), BAR))
    if OURS in took and best:
        least = GPU_BAR if gpu else BEST_BAR
        bars.append((f"{spread(took[best], took[OURS])} times {best}", middle(took[best], took[OURS]), least))
    peers = {way: statistics.median(one["seconds"] for one in took[way]) for way in LARGE_WAYS[:2] if way in took}
    if CACHED in took and peers:
        cached = min(peers, key=peers.__getitem__)
        bars.append(
            (
                f"{spread(took[cached], took[CACHED])} times {cached} in a batch of {large:,}"
                + (f", which is none of {LARGE:,}" if large < LARGE else ""),
                middle(took[cached], took[CACHED]) if large == LARGE else -math.inf,
                CACHED_BAR,
            )
        )
    if low is not None:
        count = len(took[OURS])
        dev = f"dev difference, each way's mean over its {count} training{'s' * (count > 1)}, above {low:+.2f} points"
        bars.append((dev, low, -POINTS))
    if OURS in took and PEER in took:
        memory = {way: max(one["memory"] for one in took[way]) for way in took}
        best = fastest(took)
        beside = f" ({memory[OURS] / memory[best]:.2f} of that of {best})" if best != PEER else ""
        said = f"{memory[OURS] / memory[PEER]:.2f} of the peer's peak memory{beside}"
        bars.append((said, memory[PEER] / memory[OURS], 1.0))
    return bars


def middle(slow: Sequence[dict[str, float]], fast: Sequence[dict[str, float]]) -> float:
    """Of pairs a second, whatever their number."""
    return statistics.median(a["seconds"] / b["seconds"] for a, b in zip(slow, fast, strict=True))


def spread(slow: Sequence[dict[str, float]], fast: Sequence[dict[str, float]]) -> str:
    each = [a["seconds"] / b["seconds"] for a, b in zip(slow, fast, strict=True)]
    return f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})"


def main(words: list[str] | None = None) -> int:
    given = arguments(words)
    if given.one or given.tune:
        (run_one if given.one else tune_peer)(given)
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
