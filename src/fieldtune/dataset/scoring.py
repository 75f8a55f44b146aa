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
    notes: tuple[str, ...] = ()
    """What there is to say to the user of pairs that were cut, or not asked for."""


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
    limit = scorer.max_tokens or scorer.max_characters
    cut = int((scorer.lengths(distinct) > limit).sum()) if limit and distinct else 0
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
    values = [known.get(key, math.nan) for key in keys]
    unasked = scorer.unasked[-1] if missing and scorer.unasked else 0
    return Scores(values, len(first) - len(missing), cut, len(first), _notes(scorer, cut, len(first), unasked))


def _notes(scorer: Scorer, cut: int, distinct: int, unasked: int) -> tuple[str, ...]:
    said = []
    if cut:
        said.append(f"{cut:,} of {distinct:,} pairs are longer than the {scorer.reads} that {scorer.name} reads.")
    if unasked:
        said.append(f"{unasked:,} of {distinct:,} pairs got no score of {scorer.name}: the spending limit was reached.")
    return tuple(said)


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
