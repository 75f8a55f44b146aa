"""The figures of measures, gains and learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.evaluation.drawing import FIRST, GAIN, INK, LAST, LEXICAL, LINE, LOSS, QUIET, new_figure, svg
from fieldtune.evaluation.results import Evaluation, Scores
from fieldtune.evaluation.verdict import display, signed
from fieldtune.measures import label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST = 6  # systems drawn for each measure; more are better read in the table


def colours(evaluation: Evaluation) -> dict[str, str]:
    """Each system's placeholder: the last model stands out, BM25 and earlier models stand back."""
    models = [system.name for system in evaluation.systems if system.kind == "model"]
    out = {system.name: LEXICAL if system.kind == "lexical" else FIRST for system in evaluation.systems}
    return out | ({models[-1]: LAST} if models else {})


def measure_plot(evaluation: Evaluation, measure: str) -> str:
    """One measure: a dot per model and BM25 with its 95% interval, on an axis shared by all measures.

    Of many, those of the verdict and BM25.
    """
    systems = [system for system in evaluation.systems if system.kind != "derived"]
    if len(systems) > _MOST:
        contest = evaluation.contest() or ()
        systems = [one for one in systems if one.name in contest or one.kind == "lexical"]
    figure, axes = new_figure(3.3, 0.62 + 0.3 * len(systems))
    colour = colours(evaluation)
    low, high = span(systems)
    for row, system in enumerate(systems):
        mean, (start, end) = system.mean[measure], system.interval[measure]
        paint = colour[system.name]
        if start == start:
            axes.plot([start, end], [row, row], color=paint, linewidth=2, solid_capstyle="round")
        axes.plot([mean], [row], "o", color=paint, markersize=6.5, clip_on=False)
        axes.text(high + 0.05 * (high - low), row, f"{mean:.3f}", color=INK, va="center", fontsize=9)
    axes.set_yticks(range(len(systems)), [_short(display(system.name)) for system in systems], parse_math=False)
    axes.set_ylim(len(systems) - 0.5, -0.5)
    axes.set_xlim(low, high)
    step = 0.2 if high - low > 0.45 else 0.1 if high - low > 0.15 else 0.05
    ticks = step * np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1)
    axes.set_xticks(ticks, [f"{tick:.2f}" if step < 0.1 else f"{tick:.1f}" for tick in ticks])
    axes.grid(axis="x", color=LINE, linewidth=0.7)
    figure.subplots_adjust(left=0.19, right=0.86, top=0.97, bottom=0.3 if len(systems) < 3 else 0.24)
    return svg(
        figure,
        f"measure {measure}",
        f"{label(measure)} of each system with its 95% interval; the table above has the figures",
    )


def span(systems: Sequence[Scores]) -> tuple[float, float]:
    """A range in steps of 0.1 that holds every mean and interval: one for all plots, so that they can be compared."""
    ends = [mean for system in systems for mean in system.mean.values()]
    ends += [end for system in systems for pair in system.interval.values() for end in pair if not np.isnan(end)]
    low, high = np.floor(10 * min(ends) + 1e-9) / 10, np.ceil(10 * max(ends) - 1e-9) / 10
    return max(0.0, float(min(low, 0.9))), min(1.0, float(max(high, low + 0.1)))


def gains_plot(differences: NDArray[np.float64]) -> str:
    """How many queries gained and lost how much; those that did not change are left to the caption."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = new_figure(9.6, 2.7)
    edges = np.linspace(-1, 1, 21)
    changed = differences[np.abs(differences) > 1e-9]
    # A change on a bin's border belongs to the bin nearer zero, on either side alike.
    places = np.sign(changed) * (np.ceil(np.abs(changed) * 10 - 1e-9) - 0.5) / 10
    counts, _ = np.histogram(places, edges)
    middles = (edges[:-1] + edges[1:]) / 2
    axes.bar(middles, counts, width=0.086, color=[LOSS if middle < 0 else GAIN for middle in middles])
    axes.axvline(0, color=QUIET, linewidth=1)
    axes.set_xlim(-1.02, 1.02)
    ticks = np.linspace(-1, 1, 9)
    axes.set_xticks(ticks, [signed(tick, 2) if tick else "0" for tick in ticks])
    axes.set_ylabel("queries", color=QUIET, fontsize=9)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axes.grid(axis="y", color=LINE, linewidth=0.7)
    figure.subplots_adjust(left=0.06, right=0.98, top=0.96, bottom=0.12)
    return svg(figure, "gains", "Bar chart: number of queries by change of nDCG@10")


def learning_plot(log: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The dev measure and the loss over the steps of training, each with its caption.

    Rows hold `step` and `loss`, or `step` and `dev_MEASURE`, such as `dev_ndcg@10`; what no row holds has no plot.
    """
    measured = next((key for row in log for key in row if key.startswith("dev_")), "dev_ndcg@10")
    name = label(measured.removeprefix("dev_"))
    dev = [(row["step"], row[measured]) for row in log if _is_number(row.get(measured))]
    loss = [(row["step"], row["loss"]) for row in log if _is_number(row.get("loss"))]
    plots = []
    if dev:
        figure, axes = _steps()
        axes.plot(*zip(*dev, strict=True), "o-", color=LAST, linewidth=1.6, markersize=5)
        step, best = max(dev, key=lambda point: (point[1], -point[0]))
        axes.plot([step], [best], "o", color=LAST, markersize=12, markerfacecolor="none", clip_on=False)
        title = f"Line chart: dev {name} by step, from {dev[0][1]:.3f} to {best:.3f} at step {step:,}"
        plots.append((f"{name} on the dev queries", svg(figure, "learning dev", title)))
    if loss:
        figure, axes = _steps()
        axes.plot(*zip(*loss, strict=True), color=QUIET, linewidth=1.3)
        title = f"Line chart: training loss by step, from {loss[0][1]:.3f} to {loss[-1][1]:.3f}"
        plots.append(("Loss on the training queries", svg(figure, "learning loss", title)))
    return plots


def share_plot(log: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What each share of the base model's weights gave: the field on dev against what was lost elsewhere, in points.

    Rows of the training log with `base_share`, `general` and `dev` are drawn; nothing where there are fewer than two.
    """
    rows = [row for row in log if all(_is_number(row.get(name)) for name in ("base_share", "general", "dev"))]
    if len(rows) < 2:
        return []
    figure, axes = new_figure(4.6, 2.5)
    lost, dev = [100 * row["general"] for row in rows], [row["dev"] for row in rows]
    axes.plot(lost, dev, "o-", color=LAST, linewidth=1.6, markersize=5)
    for row, x, y in zip(rows, lost, dev, strict=True):
        if row.get("taken"):
            axes.plot([x], [y], "o", color=LAST, markersize=12, markerfacecolor="none", clip_on=False)
        axes.annotate(f"{row['base_share']:g}", (x, y), (5, 5), textcoords="offset points", color=INK, fontsize=9)
    axes.axvline(0, color=QUIET, linewidth=1)
    axes.set_xlabel("general ability against the base model, points", color=QUIET, fontsize=9)
    axes.grid(color=LINE, linewidth=0.7)
    figure.subplots_adjust(left=0.12, right=0.98, top=0.95, bottom=0.19)
    title = "Line chart: dev measure and change of general ability by share of the base model's weights"
    by = "the half of the probes that the share was chosen by; the verdict rests on the other half"
    if any(row.get("fixed") for row in rows):
        by = "one half of the probes; the share was set (training.base_share), not chosen by them"
    caption = (
        "Dev measure and general ability by share of the base model's weights (the number at each point, 1 being the "
        f"base model, ringed the one taken), on {by}"
    )
    return [(caption, svg(figure, "shares", title))]


def _steps() -> tuple[Figure, Axes]:
    figure, axes = new_figure(4.6, 2.5)
    axes.set_xlabel("step", color=QUIET, fontsize=9)
    axes.grid(axis="y", color=LINE, linewidth=0.7)
    figure.subplots_adjust(left=0.12, right=0.98, top=0.95, bottom=0.19)
    return figure, axes


def _short(name: str) -> str:
    return name if len(name) <= 12 else name[:11] + "…"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
