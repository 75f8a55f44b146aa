"""Scores on disk, keyed by scorer, query and passage: a killed run scores and pays for nothing twice."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fieldtune.console import Progress
from fieldtune.dataset.scorers import Pair, Scorer


@dataclass(frozen=True, slots=True)
class Scores:
    values: list[float]
    """In the order of the pairs; NaN where the scorer gave no answer."""
    cached: int
    """Distinct pairs whose score an earlier run left."""
    cut: int
    """Distinct pairs that are longer than the scorer reads."""
    distinct: int


def score_pairs(scorer: Scorer, pairs: Sequence[Pair], folder: Path, label: str) -> Scores:
    """Score each distinct pair once; scores are appended to a file in `folder` as they come.

    Pairs of like length are scored together. What the scorer had no answer for is asked again by the next run.
    """
    path = folder / f"scores-{scorer.fingerprint}.tsv"
    known = _read(path)
    keys = [_key(pair) for pair in pairs]
    first = {key: position for position, key in reversed(list(enumerate(keys)))}
    missing = sorted(position for key, position in first.items() if key not in known)
    folder.mkdir(parents=True, exist_ok=True)
    distinct = [pairs[position] for position in sorted(first.values())]
    cut = int((scorer.lengths(distinct) > scorer.max_tokens).sum()) if scorer.max_tokens and distinct else 0
    if missing:
        with path.open("a", encoding="ascii") as stream, Progress(label, len(first), unit="pairs") as progress:
            progress.resume(len(first) - len(missing))
            for rows, scores in scorer.score([pairs[position] for position in missing]):
                for row, score in zip(rows, scores, strict=True):
                    if math.isfinite(score):
                        known[keys[missing[row]]] = round(score, 5)
                        stream.write(f"{keys[missing[row]]}\t{round(score, 5)!r}\n")
                stream.flush()
                os.fsync(stream.fileno())
                progress.advance(len(rows))
    return Scores([known.get(key, math.nan) for key in keys], len(first) - len(missing), cut, len(first))


def _key(pair: Pair) -> str:
    return hashlib.sha256("\0".join(pair).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _read(path: Path) -> dict[str, float]:
    """What the file holds; a last line cut off by a kill is taken out, for half a number is a number too."""
    known: dict[str, float] = {}
    if not path.exists():
        return known
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        os.truncate(path, len(whole))
    for line in whole.decode("ascii", errors="replace").splitlines():
        key, _, score = line.partition("\t")
        try:
            known[key] = float(score)
        except ValueError:
            continue
    return known
