"""What the user reads when a command has done its work."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fieldtune.console import note, say, table
from fieldtune.measures import MAIN
from fieldtune.types import Hit, Result
from fieldtune.workspace import read_json

_SHOWN = ("accuracy@1", "mrr@10", MAIN, "recall@10")


def print_summary(folder: Path) -> str:
    """The verdict, the table, the queries that moved up most, the paths, and what to try next; returns the outcome."""
    path = folder / "metrics.json"
    if not path.exists():
        return ""
    metrics = read_json(path)
    systems: dict[str, dict[str, Any]] = metrics["systems"]
    rows = []
    about = metrics.get("about", {})
    for name, values in systems.items():
        if not _on_screen(about.get(name, {})):
            continue
        rows.append((name, *(f"{values[key]:.3f}" for key in _SHOWN)))
        rows.append(("", *(_interval(values["ci"][key]) for key in _SHOWN)))
    verdict = metrics["verdict"]
    say()
    say(f"{verdict['outcome'].upper()}: {verdict['headline']}", style="bold")
    for line in dict.fromkeys((metrics["leakage"]["sentence"], *verdict["warnings"])):  # a warning may be the audit's
        say(line)
    say()
    table(("system", *_SHOWN), rows, title=f"{metrics['queries']:,} {metrics['split']} queries, 95% intervals")
    for comparison in metrics["comparisons"]:
        if comparison["metric"] == MAIN and {comparison["a"], comparison["b"]} == {"tuned", "base"}:
            ends = _interval(comparison["ci"], "+.3f")
            say(f"\ntuned against base, nDCG@10: {comparison['difference']:+.3f} {ends}, p = {comparison['p']:.4f}")
    risen = moved_up(folder / "per_query.csv", 5)
    if risen:
        say("\nmoved up most (rank of the right passage, base -> tuned):")
    for query, before, after in risen:
        say(f"  {before or '>100':>5} -> {after:<4} {query}")
    here = shlex.quote(str(folder))
    say(f"\nreport: {folder / 'report.html'}\nmodel:  {folder / 'model'}\nindex:  {folder / 'index'}")
    say("\nnext:")
    say(f'  fieldtune search {here} "your question"')
    say(f"  python -c 'from sentence_transformers import SentenceTransformer as S; print(S(\"{folder / 'model'}\"))'")
    say("  fieldtune init YOUR_DOCUMENTS && fieldtune run fieldtune.toml")
    return str(verdict["outcome"])


def _on_screen(about: dict[str, Any]) -> bool:
    """Models, BM25, and what the tuned model's other scores find; shorter vectors and the like are in the report."""
    by_scores = about.get("variant") == "signals" and about.get("model") == "tuned"
    return about.get("kind") != "derived" or by_scores


def _interval(ends: Sequence[float | None], digits: str = ".3f") -> str:
    """Both ends in brackets; a dash for those that a single query or document leaves unknown."""
    return "[{}, {}]".format(*("–" if end is None else format(end, digits) for end in ends))


def moved_up(path: Path, count: int) -> list[tuple[str, int | None, int]]:
    """The queries whose right passage rose most in reciprocal rank: (text, rank by base or None, rank by tuned)."""
    ranks: dict[str, dict[str, int | None]] = {}
    texts: dict[str, str] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            texts[row["query"]] = row["text"]
            rank = row["first_relevant_rank"]
            ranks.setdefault(row["query"], {})[row["system"]] = int(rank) if rank else None
    gains = []
    for query, found in ranks.items():
        after, before = found.get("tuned"), found.get("base")
        if after is not None:
            gains.append((1 / after - (1 / before if before else 0), before or 1_000, query, before, after))
    gains.sort(key=lambda gain: (-gain[0], -gain[1], gain[2]))
    return [(texts[query], before, after) for gain, _, query, before, after in gains[:count] if gain > 0]


def print_hits(hits: Sequence[Hit], *, as_json: bool) -> None:
    if not hits:
        note("nothing found: no passage meets the conditions, or shares a word with the query")
    for hit in hits:
        passage = hit.passage
        if as_json:
            row = {
                "rank": hit.rank,
                "score": round(hit.score, 6),
                "id": passage.id,
                "title": passage.title,
                "text": passage.text,
                "source": passage.source,
                "page": passage.page,
                "metadata": dict(passage.metadata),
                "parts": {name: round(value, 6) for name, value in hit.parts.items()},
            }
            say(json.dumps(row, ensure_ascii=False, default=str))
            continue
        place = ", ".join(filter(None, [passage.source, f"page {passage.page}" if passage.page is not None else ""]))
        place = f"{place}  [{passage.id}]"
        say(f"{hit.rank}. {passage.title or passage.id}   {hit.score:.3f}", style="bold")
        say(f"   {place}", style="dim")
        text = " ".join(passage.text.split())
        say(f"   {text[:300]}{' …' if len(text) > 300 else ''}\n")


def print_result(result: Result) -> None:
    """What a stage that ran alone has to say."""
    say(f"{result.stage}: " + ", ".join(f"{name} {value:,}" for name, value in result.counts.items()))
    for reason, count in result.dropped.items():
        say(f"  left out, {reason}: {count:,}", style="dim")
    for sentence in result.notes:
        say(f"  {sentence}")
