"""What a similarity score is worth: the scores of right passages against those of the best wrong ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldtune.beir import RetrievalData
from fieldtune.evaluation.drawing import GAIN, LINE, LOSS, QUIET, new_figure, svg
from fieldtune.evaluation.rankings import Ranking
from fieldtune.evaluation.results import System
from fieldtune.evaluation.verdict import display, percent

_KEPT = 0.9  # share of the right passages that the cut of the sentence lets through
_BINS = 30
_FEWEST = 20  # queries below which a distribution is not drawn


@dataclass(frozen=True, slots=True)
class Calibration:
    """Scores of one model over the queries of a split."""

    system: str
    right: NDArray[np.float64]
    """The best score of a relevant passage of each query that has one among the ranks kept."""
    wrong: NDArray[np.float64]
    """The best score of another passage, of each query that has one."""
    missing: int
    """Queries without a relevant passage among the ranks kept."""

    @property
    def separation(self) -> float:
        """The chance that a right passage of one query scores above the best wrong one of any query; 0.5 is blind."""
        wrong = np.sort(self.wrong)
        below, upto = (np.searchsorted(wrong, self.right, side) for side in ("left", "right"))
        return float((below + upto).mean() / 2 / len(wrong))

    @property
    def cut(self) -> float:
        """The score that nine of ten right passages reach."""
        return float(np.quantile(self.right, 1 - _KEPT))

    @property
    def sentence(self) -> str:
        """What a fixed limit on the score would do."""
        passed = float((self.wrong >= self.cut).mean())
        missing = f" {self.missing:,} queries have no right passage among the ranks kept." if self.missing else ""
        return (
            f"A limit of {self.cut:.2f} keeps nine of ten right passages and lets through {percent(passed)} of the "
            f"best wrong ones. A right passage outscores a wrong one of any query in {percent(self.separation)} of "
            f"all pairs.{missing}"
        )


def calibrations(data: RetrievalData, split: str, systems: Sequence[System], names: Sequence[str]) -> list[Calibration]:
    """Of the embedding models among `names`, in that order; too few scores give none."""
    found = [
        _scores(data, split, one.name, one.run)
        for name in names
        for one in systems
        if one.name == name and one.run.kind == "model"
    ]
    return [one for one in found if min(len(one.right), len(one.wrong)) >= _FEWEST]


def _scores(data: RetrievalData, split: str, name: str, run: Ranking) -> Calibration:
    place = {passage: row for row, passage in enumerate(run.ids)}
    positives = data.positives(split)
    right: list[float] = []
    wrong: list[float] = []
    for query, rows, values in zip(run.queries, run.rows, run.values, strict=True):
        there = rows >= 0
        relevant = np.isin(rows, [place[passage] for passage in positives[query]])
        for scores, found in ((right, relevant & there), (wrong, ~relevant & there)):
            if found.any():
                scores.append(float(values[found.argmax()]))
    return Calibration(name, np.array(right), np.array(wrong), len(run.queries) - len(right))


def calibration_plot(one: Calibration, low: float, high: float) -> str:
    """Two step histograms over the same range of scores; the dashed one is of wrong passages."""
    figure, axes = new_figure(4.6, 2.5)
    edges = np.linspace(low, high, _BINS + 1)
    for scores, paint, dashes in ((one.wrong, LOSS, (0, (4, 2))), (one.right, GAIN, "solid")):
        counts = np.histogram(scores, edges)[0] / len(scores)
        axes.stairs(100 * counts, edges, fill=True, color=paint, alpha=0.16)
        axes.stairs(100 * counts, edges, color=paint, linewidth=1.8, linestyle=dashes)
    axes.axvline(one.cut, color=QUIET, linewidth=1)
    axes.set_xlim(low, high)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("similarity score", color=QUIET, fontsize=9)
    axes.set_ylabel("% of queries", color=QUIET, fontsize=9)
    axes.grid(axis="y", color=LINE, linewidth=0.7)
    figure.subplots_adjust(left=0.12, right=0.98, top=0.97, bottom=0.2)
    title = f"Distribution of the scores of right and of the best wrong passages, {display(one.system)}"
    return svg(figure, f"calibration {one.system}", title)


def score_range(found: Sequence[Calibration]) -> tuple[float, float]:
    """From the lowest to the highest score of all, in steps of 0.05, so that models can be compared."""
    scores = np.concatenate([part for one in found for part in (one.right, one.wrong)])
    low, high = np.floor(20 * scores.min()) / 20, np.ceil(20 * scores.max()) / 20
    return float(low), float(max(high, low + 0.05))
