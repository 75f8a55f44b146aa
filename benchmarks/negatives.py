"""What hard negatives are worth: the same budget of training with in-batch negatives alone and with mined ones.

    python benchmarks/negatives.py --data BEIR_DIR --model M [--sources model bm25 fused] [--shares 0.95 0.8]
        [--rounds 1 2] [--check RERANKER] [--seeds 13 14] [--train N] [--work FOLDER] [--set training.epochs=1]

Trains on train, measures on DEV (test is not read) and prints for each way nDCG@10, its difference from in-batch
negatives alone with the paired 95% interval over the queries, and two figures of the negatives themselves: how many
there are per query, and which share of positives that were hidden from mining it takes for negatives. The first sees
what training gains, the second how many false ones are among them; hiding needs queries with several positives.
--train N takes N of the train queries alone. Finished trainings in --work are not repeated. The table is appended to
benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from results import RESULTS, append, markdown

from fieldtune.beir import RetrievalData, load_beir, write_beir
from fieldtune.config import Config, make_config, merge, parse_overrides
from fieldtune.console import note
from fieldtune.dataset import training_rows
from fieldtune.encoding import Encoder
from fieldtune.evaluation import System, evaluate, model_ranking
from fieldtune.evaluation.rankings import Ranking
from fieldtune.queries.sampling import stable_order
from fieldtune.standalone import train_on_beir
from fieldtune.workspace import atomic_file, digest

BASELINE = "in-batch alone"
Settings = dict[str, object]


def ways(sources: list[str], shares: list[float], rounds: list[int], check: str) -> dict[str, Settings]:
    """Name -> settings of the negatives."""
    out: dict[str, Settings] = {BASELINE: {"per_query": 0}}
    for source in sources:
        for share in shares:
            for count in rounds:
                name = f"{source}, share {share:g}" + (f", {count} rounds" if count > 1 else "")
                settings: Settings = {"candidates": source, "max_share_of_positive": share, "rounds": count}
                out[name] = settings
                if check:
                    out[f"{name}, checked"] = settings | {"check": check}
    return out


def without_some(data: RetrievalData, seed: int) -> tuple[RetrievalData, dict[str, str]]:
    """The train queries with several positives, one of them taken out of the labels; and what was taken."""
    rng = np.random.default_rng(seed)
    train, hidden = {}, {}
    for query, found in data.positives("train").items():
        if len(found) > 1:
            hidden[query] = found[int(rng.integers(len(found)))]
            train[query] = {key: grade for key, grade in data.qrels["train"][query].items() if key != hidden[query]}
    sides = data.qrels | {"train": train}
    return RetrievalData(data.passages, data.queries, sides, data.relevance_threshold), hidden


def false_share(config: Config, data: RetrievalData, encoder: Encoder, work: Path) -> tuple[float, float]:
    """Negatives per query, and the share of hidden positives among them (NaN where no query has several)."""
    partly, hidden = without_some(data, config.seed)
    if not hidden:
        rows = training_rows(config, data, {}, encoder, work / "vectors", work / "scores")
        return float(np.mean([len(example.neg) for example in rows.examples])), float("nan")
    rows = training_rows(config, partly, {}, encoder, work / "vectors", work / "scores")
    taken = 0
    for query, example in zip(partly.positives("train"), rows.examples, strict=True):
        taken += data.passages[hidden[query]].content in example.neg
    return float(np.mean([len(example.neg) for example in rows.examples])), taken / len(hidden)


def taken(share: float) -> str:
    return "no query has several" if np.isnan(share) else f"{share:.1%}"


def some_of(data: RetrievalData, count: int, folder: Path) -> Path:
    """A BEIR folder with `count` of the train queries and all of dev."""
    if not (folder / "corpus.jsonl").exists():
        rows = data.qrels["train"]
        chosen = sorted(rows, key=lambda key: stable_order(13, key))[:count]
        sides = {"train": {key: rows[key] for key in sorted(chosen)}, "dev": data.qrels["dev"]}
        asked = {key: data.queries[key] for side in sides.values() for key in side}
        write_beir(folder, RetrievalData(data.passages, asked, sides, data.relevance_threshold))
    return folder


def dev_ranking(config: Config, data: Path, loaded: RetrievalData, work: Path) -> tuple[Ranking, float]:
    """Train once and rank the dev queries; also the minutes that mining and training took."""
    out = work / digest([str(data.resolve()), config.model_dump(exclude={"out"})])
    if not (out / "minutes.txt").exists():
        began = time.monotonic()
        train_on_beir(config, data, out / "model")
        with atomic_file(out / "minutes.txt") as stream:
            stream.write(f"{(time.monotonic() - began) / 60:.1f}")
    encoder = Encoder.load(str(out / "model"), precision="auto")
    ranking = model_ranking(encoder, loaded, "dev", work / "vectors", label="dev")
    return ranking, float((out / "minutes.txt").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="builtin:all-MiniLM-L6-v2")
    parser.add_argument("--sources", nargs="+", default=["model", "bm25", "fused"])
    parser.add_argument("--shares", nargs="+", type=float, default=[0.95, 0.8])
    parser.add_argument("--rounds", nargs="+", type=int, default=[1])
    parser.add_argument("--check", default="")
    parser.add_argument("--seeds", nargs="+", type=int, default=[13])
    parser.add_argument("--train", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "fieldtune-negatives")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--set", nargs="*", default=[], dest="overrides")
    given = parser.parse_args()
    folder, loaded = given.data, load_beir(given.data)
    if given.train:
        folder = some_of(loaded, given.train, given.work / f"{given.data.resolve().name}-{given.train}")
        loaded = load_beir(folder)
    base = Encoder.load(given.model)
    rows = []
    baseline: dict[int, Ranking] = {}
    for name, negatives in ways(given.sources, given.shares, given.rounds, given.check).items():
        scores, gains, intervals, minutes = [], [], [], []
        for seed in given.seeds:
            settings = {"seed": seed, "model": {"base": given.model}, "negatives": negatives}
            config = make_config(merge(settings, parse_overrides(given.overrides)))
            ranking, took = dev_ranking(config, folder, loaded, given.work)
            minutes.append(took)
            both = [System("in-batch", baseline.setdefault(seed, ranking)), System("mined", ranking)]
            evaluation = evaluate(loaded, "dev", both, config.evaluation, seed)
            scores.append(evaluation.system("mined").mean["ndcg@10"])
            found = evaluation.compared("mined", "in-batch", "ndcg@10")
            gains.append(found.difference if found else float("nan"))
            intervals.append(found.interval if found else (float("nan"), float("nan")))
        count, share = (0.0, 0.0) if name == BASELINE else false_share(config, loaded, base, given.work)
        low, high = np.mean(intervals, axis=0)
        gain = "" if name == BASELINE else f"{np.mean(gains):+.4f} [{low:+.4f}, {high:+.4f}]"
        rows.append((name, f"{np.mean(scores):.4f}", gain, f"{np.mean(minutes):.1f}", f"{count:.2f}", taken(share)))
        note(" | ".join(rows[-1]))
    columns = ("negatives", "dev nDCG@10", "against in-batch alone", "minutes", "per query", "hidden positives taken")
    title = f"Hard negatives on {given.data.resolve().name}, {given.model}"
    queries = len(loaded.positives("train"))
    told = f"{queries:,} train queries, {len(given.seeds)} seeds, {' '.join(given.overrides) or 'default settings'}."
    print(append(title, told, markdown(columns, rows), given.results))


if __name__ == "__main__":
    main()
