"""The report's figures: inline SVG whose colours are the page's own, so that they follow light and dark."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.evaluation.results import Evaluation
from fieldtune.evaluation.verdict import display, signed
from fieldtune.measures import label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Placeholders drawn by matplotlib and replaced by custom properties of the style sheet.
_COLOURS = {
    "#010101": "var(--ink)",
    "#020202": "var(--quiet)",
    "#030303": "var(--line)",
    "#040404": "var(--first)",
    "#050505": "var(--last)",
    "#060606": "var(--lexical)",
    "#070707": "var(--gain)",
    "#080808": "var(--loss)",
}
_INK, _QUIET, _LINE, FIRST, LAST, LEXICAL, _GAIN, _LOSS = _COLOURS


def colours(evaluation: Evaluation) -> dict[str, str]:
    """Each system's placeholder: the last model stands out, BM25 and earlier models stand back."""
    models = [system.name for system in evaluation.systems if system.kind == "model"]
    out = {system.name: LEXICAL if system.kind == "lexical" else FIRST for system in evaluation.systems}
    return out | ({models[-1]: LAST} if models else {})


def variable(placeholder: str) -> str:
    """The style sheet's value for a placeholder."""
    return _COLOURS[placeholder]


def measure_plot(evaluation: Evaluation, measure: str) -> str:
    """One measure: a dot per system with its 95% interval, on an axis shared by all measures."""
    figure, axes = _figure(3.3, 0.62 + 0.3 * len(evaluation.systems))
    colour = colours(evaluation)
    low, high = span(evaluation)
    for row, system in enumerate(evaluation.systems):
        mean, (start, end) = system.mean[measure], system.interval[measure]
        paint = colour[system.name]
        if start == start:
            axes.plot([start, end], [row, row], color=paint, linewidth=2, solid_capstyle="round")
        axes.plot([mean], [row], "o", color=paint, markersize=6.5)
        axes.text(high + 0.03 * (high - low), row, f"{mean:.3f}", color=_INK, va="center", fontsize=9)
    axes.set_yticks(range(len(evaluation.systems)), [_short(display(system.name)) for system in evaluation.systems])
    axes.set_ylim(len(evaluation.systems) - 0.5, -0.5)
    axes.set_xlim(low, high)
    step = 0.2 if high - low > 0.45 else 0.1 if high - low > 0.15 else 0.05
    ticks = step * np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1)
    axes.set_xticks(ticks, [f"{tick:.2f}" if step < 0.1 else f"{tick:.1f}" for tick in ticks])
    axes.grid(axis="x", color=_LINE, linewidth=0.7)
    figure.subplots_adjust(left=0.19, right=0.86, top=0.97, bottom=0.3 if len(evaluation.systems) < 3 else 0.24)
    return _svg(figure, f"measure {measure}", f"{measure} of each system with its 95% interval")


def span(evaluation: Evaluation) -> tuple[float, float]:
    """A range in steps of 0.1 that holds every mean and interval: one for all plots, so that they can be compared."""
    ends = [system.mean[name] for system in evaluation.systems for name in evaluation.measures]
    ends += [
        end for system in evaluation.systems for pair in system.interval.values() for end in pair if not np.isnan(end)
    ]
    low, high = np.floor(10 * min(ends) + 1e-9) / 10, np.ceil(10 * max(ends) - 1e-9) / 10
    return max(0.0, float(min(low, 0.9))), min(1.0, float(max(high, low + 0.1)))


def gains_plot(differences: NDArray[np.float64]) -> str:
    """How many queries gained and lost how much; those that did not change are left to the caption."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = _figure(9.6, 2.7)
    edges = np.linspace(-1, 1, 21)
    changed = differences[np.abs(differences) > 1e-9]
    # A change on a bin's border belongs to the bin nearer zero, on either side alike.
    places = np.sign(changed) * (np.ceil(np.abs(changed) * 10 - 1e-9) - 0.5) / 10
    counts, _ = np.histogram(places, edges)
    middles = (edges[:-1] + edges[1:]) / 2
    axes.bar(middles, counts, width=0.086, color=[_LOSS if middle < 0 else _GAIN for middle in middles])
    axes.axvline(0, color=_QUIET, linewidth=1)
    axes.set_xlim(-1.02, 1.02)
    ticks = np.linspace(-1, 1, 9)
    axes.set_xticks(ticks, [signed(tick, 2) if tick else "0" for tick in ticks])
    axes.set_ylabel("queries", color=_QUIET, fontsize=9)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axes.grid(axis="y", color=_LINE, linewidth=0.7)
    figure.subplots_adjust(left=0.06, right=0.98, top=0.96, bottom=0.12)
    return _svg(figure, "gains", "Number of queries by change of nDCG@10")


def learning_plot(log: Sequence[Mapping[str, Any]]) -> str:
    """Loss and the dev measure over the steps of training; rows hold `step` and `loss`, or `step` and `dev_MEASURE`,
    such as `dev_ndcg@10`."""
    figure, left = _figure(9.6, 3)
    right = left.twinx()
    loss = [(row["step"], row["loss"]) for row in log if _is_number(row.get("loss"))]
    measured = next((key for row in log for key in row if key.startswith("dev_")), "dev_ndcg@10")
    dev = [(row["step"], row[measured]) for row in log if _is_number(row.get(measured))]
    name = label(measured.removeprefix("dev_"))
    if loss:
        left.plot(*zip(*loss, strict=True), color=_QUIET, linewidth=1.3)
    left.set_ylabel("loss (line)", color=_QUIET, fontsize=9)
    left.set_xlabel("step", color=_QUIET, fontsize=9)
    if dev:
        right.plot(*zip(*dev, strict=True), "o-", color=LAST, linewidth=1.6, markersize=5)
    right.set_ylabel(f"dev {name} (dots)", color=LAST, fontsize=9)
    _plain(right)
    left.grid(axis="y", color=_LINE, linewidth=0.7)
    figure.subplots_adjust(left=0.06, right=0.93, top=0.95, bottom=0.17)
    return _svg(figure, "learning", f"Training loss and dev {name} by step")


def share_plot(log: Sequence[Mapping[str, Any]]) -> str:
    """What each share of the base model's weights gave: the field on dev against what was lost elsewhere, in points.

    Rows of the training log with `base_share`, `general` and `dev` are drawn; "" where there are fewer than two.
    """
    rows = [row for row in log if all(_is_number(row.get(name)) for name in ("base_share", "general", "dev"))]
    if len(rows) < 2:
        return ""
    figure, axes = _figure(9.6, 3.2)
    lost, dev = [100 * row["general"] for row in rows], [row["dev"] for row in rows]
    axes.plot(lost, dev, "o-", color=LAST, linewidth=1.6, markersize=6)
    for row, x, y in zip(rows, lost, dev, strict=True):
        axes.annotate(f"{row['base_share']:g}", (x, y), (5, 5), textcoords="offset points", color=_INK, fontsize=9)
    axes.axvline(0, color=_QUIET, linewidth=1)
    axes.set_xlabel("change of general ability against the base model, points", color=_QUIET, fontsize=9)
    axes.set_ylabel("dev measure", color=_QUIET, fontsize=9)
    axes.grid(color=_LINE, linewidth=0.7)
    figure.subplots_adjust(left=0.08, right=0.97, top=0.95, bottom=0.17)
    return _svg(figure, "shares", "Dev measure and change of general ability by share of the base model's weights")


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    axes = figure.add_subplot()
    _plain(axes)
    return figure, axes


def _plain(axes: Axes) -> None:
    axes.set_frame_on(False)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9, labelcolor=_QUIET)


def _svg(figure: Figure, salt: str, title: str) -> str:
    """The figure as an element of an HTML page: no prolog, no metadata, no outside references, stable ids."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    FigureCanvasSVG(figure)
    out = io.StringIO()
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": salt, "svg.fonttype": "none"}):
        warnings.simplefilter("ignore")  # a glyph that matplotlib's own font lacks; the page has its fonts
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)
    text = text.replace("xlink:href", "href").replace('<g id="', '<g class="')
    text = re.sub(r'^<svg width="[^"]*" height="[^"]*"', '<svg role="img"', text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"|(<svg[^>]*?) height="[^"]*"', r"\1\2", text)
    for placeholder, value in _COLOURS.items():
        text = text.replace(placeholder, value)
    return re.sub(r"^<svg([^>]*)>", rf"<svg\1><title>{title}</title>", text.strip(), count=1)


def _short(name: str) -> str:
    return name if len(name) <= 12 else name[:11] + "…"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
