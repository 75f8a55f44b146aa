"""What smaller vectors cost: quality against the number of dimensions and against bytes per vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fieldtune.evaluation.drawing import FIRST, LINE, PAGE, QUIET, new_figure, svg
from fieldtune.evaluation.plots import colours
from fieldtune.evaluation.results import MAIN, Evaluation, Scores
from fieldtune.measures import label

_SHAPES = {"float32": "o", "int8": "s", "binary": "^"}
_APART = 1.45  # ratio of two values on the axis whose labels do not touch


def sized(evaluation: Evaluation) -> dict[str, list[Scores]]:
    """Systems that search a model's vectors in some size, by model; models that were measured in one size are out."""
    out: dict[str, list[Scores]] = {}
    for system in evaluation.systems:
        about = system.about
        if about.variant in ("plain", "dimension", "precision") and about.model and about.bytes_per_vector:
            out.setdefault(about.model, []).append(system)
    return {model: found for model, found in out.items() if len(found) > 1}


def dimension_plot(evaluation: Evaluation) -> str:
    """A line per model over the dimensions kept of its float32 vectors; "" where only one was measured."""
    rows = {
        model: [one for one in found if one.about.precision == "float32" and one.about.dimension]
        for model, found in sized(evaluation).items()
    }
    rows = {model: found for model, found in rows.items() if len(found) > 1}
    return _plot(evaluation, rows, lambda one: one.about.dimension or 1, "dimensions, float32") if rows else ""


def bytes_plot(evaluation: Evaluation) -> str:
    """A point per system over what one of its vectors takes; "" where nothing but plain models was measured."""
    rows = sized(evaluation)
    return _plot(evaluation, rows, lambda one: one.about.bytes_per_vector or 1, "bytes per vector") if rows else ""


def _plot(evaluation: Evaluation, rows: dict[str, list[Scores]], place: Callable[[Scores], int], what: str) -> str:
    figure, axes = new_figure(4.6, 3.1)
    paint = colours(evaluation)
    for model, systems in rows.items():
        colour = paint[model]
        line = sorted((place(one), one.mean[MAIN]) for one in systems if one.about.precision == "float32")
        # Dashes tell earlier models apart from the last where colour does not, as in print.
        dash = "dashed" if colour == FIRST else "solid"
        axes.plot(*zip(*line, strict=True), color=colour, linewidth=1.5, linestyle=dash)
        for one in systems:
            low, high = one.interval[MAIN]
            if low == low:
                axes.plot([place(one)] * 2, [low, high], color=colour, linewidth=1, alpha=0.35)
            axes.plot(
                [place(one)],
                [one.mean[MAIN]],
                _SHAPES[one.about.precision],
                color=colour,
                markerfacecolor=PAGE if one.about.rescored else colour,
                markersize=6.5,
            )
    axes.set_xscale("log", base=2)
    ticks = _ticks({place(one) for systems in rows.values() for one in systems})
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel(what, color=QUIET, fontsize=9)
    axes.set_ylabel(label(MAIN), color=QUIET, fontsize=9)
    axes.grid(axis="y", color=LINE, linewidth=0.7)
    figure.subplots_adjust(left=0.16, right=0.98, top=0.97, bottom=0.16)
    title = f"{label(MAIN)} with its 95% interval against {what}; the table of all systems has the figures"
    return svg(figure, what, title)


def _ticks(values: set[int]) -> Sequence[int]:
    """The largest value, and each smaller one that is far enough from the tick before."""
    kept: list[int] = []
    for value in sorted(values, reverse=True):
        if not kept or kept[-1] / value >= _APART:
            kept.append(value)
    return kept[::-1]
