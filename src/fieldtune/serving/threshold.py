"""From which similarity on a passage may be an answer: calibrated on dev questions and on questions from elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.beir import load_beir
from fieldtune.errors import FieldtuneError
from fieldtune.probes.sets import RetrievalProbe, builtin_probes
from fieldtune.queries.wording import language_of
from fieldtune.workspace import read_json, write_json

log = logging.getLogger(__name__)

_MOST = 200
"""Questions of each side; the standard error of a share near 0.05 is then below 0.02."""
_FEWEST = 20
_REFUSED = 0.05
"""The most questions with an answer that may be told that there is none."""

TopScores = Callable[[Sequence[str]], NDArray[np.float32]]
"""Queries -> the best similarity of each, (len(queries),)."""


@dataclass(frozen=True, slots=True)
class Threshold:
    cut: float
    """A best similarity below it says: not in these documents."""
    refused: float
    """Share of the dev questions that have an answer and fall below."""
    let_through: float
    """Share of the foreign questions that do not."""
    questions: int
    foreign: int

    @property
    def sentence(self) -> str:
        return (
            f"best similarity below {self.cut:.3f} counts as not found: so it was for {self.refused:.1%} of "
            f"{self.questions} dev questions and {1 - self.let_through:.1%} of {self.foreign} about other things"
        )


def calibrate(right: NDArray[np.floating[Any]], foreign: NDArray[np.floating[Any]]) -> Threshold | None:
    """The cut with the highest sum of both shares judged rightly, never above what refuses 5% of the right ones.

    `right` are the best similarities of questions with an answer, `foreign` of questions without. None for too few.
    """
    if min(len(right), len(foreign)) < _FEWEST:
        return None
    right, foreign = np.sort(right), np.sort(foreign)
    cuts = np.unique(np.concatenate([right, foreign]))
    kept = 1 - np.searchsorted(right, cuts, "left") / len(right)
    stopped = np.searchsorted(foreign, cuts, "left") / len(foreign)
    allowed = kept >= 1 - _REFUSED
    best = int(np.argmax(np.where(allowed, kept + stopped, -1)))
    # Between the two nearest scores: the next question's score is none of these.
    cut = float(cuts[best]) if best == 0 else float((cuts[best - 1] + cuts[best]) / 2)
    return Threshold(
        round(cut, 5), float((right < cut).mean()), float((foreign >= cut).mean()), len(right), len(foreign)
    )


def threshold_of(
    data: Path, kept: Path, fingerprint: str, top: TopScores, seed: int, *, holds: Callable[[str], bool]
) -> Threshold | None:
    """The threshold for an index, from the file `kept` where it was calibrated before; None for too few dev questions.

    `data` is the run's BEIR folder, `fingerprint` that of model and table. Dev questions count while the index `holds`
    a passage (given by its id) that answers them: documents may have been taken out since.
    """
    if kept.exists():
        try:
            row = read_json(kept)
            if row.get("fingerprint") == fingerprint:
                return Threshold(**row["threshold"]) if row["threshold"] else None
        except (FieldtuneError, AttributeError, KeyError, TypeError):
            log.info("%s is made again", kept)
    asked = _dev_questions(data, seed, holds)
    elsewhere = foreign_questions(language_of("\n".join(asked[:50])))
    found = None
    if min(len(asked), len(elsewhere)) >= _FEWEST:
        found = calibrate(top(asked), top(elsewhere))
    try:
        write_json(kept, {"fingerprint": fingerprint, "threshold": asdict(found) if found else None})
    except OSError as error:  # a read-only run can be served; it is calibrated at every start
        log.info("the threshold is not kept (%s)", error)
    return found


def foreign_questions(language: str) -> list[str]:
    """Everyday questions that ship with fieldtune, about nothing that a firm's documents are likely to say: those in
    this language ("en", "zh"), or all, for those in another would be told apart too easily."""
    sets = [probe for probe in builtin_probes() if isinstance(probe, RetrievalProbe)]
    sets = [probe for probe in sets if probe.language == language] or sets
    texts = [probe.data.queries[query].text for probe in sets for query in sorted(probe.data.positives(probe.split))]
    return texts[:: max(1, len(texts) // _MOST)][:_MOST]


def _dev_questions(data: Path, seed: int, holds: Callable[[str], bool]) -> list[str]:
    if not (data / "qrels" / "dev.tsv").exists():
        return []
    try:
        loaded = load_beir(data)
        right = loaded.positives("dev")
        queries = sorted(query for query in right if any(map(holds, right[query])))
    except FieldtuneError as error:
        log.warning("the threshold is not calibrated: %s", error.message)
        return []
    rows = np.sort(np.random.default_rng(seed).permutation(len(queries))[:_MOST])
    return [loaded.queries[queries[row]].text for row in rows]
