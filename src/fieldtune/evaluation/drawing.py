"""How the report's figures are drawn: inline SVG in the page's own colours, so that they follow light and dark."""

from __future__ import annotations

import html
import io
import re
import warnings
from typing import TYPE_CHECKING

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
    "#090909": "var(--page)",
}
INK, QUIET, LINE, FIRST, LAST, LEXICAL, GAIN, LOSS, PAGE = _COLOURS


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    axes = figure.add_subplot()
    plain(axes)
    return figure, axes


def plain(axes: Axes) -> None:
    axes.set_frame_on(False)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9, labelcolor=QUIET)


def svg(figure: Figure, salt: str, title: str) -> str:
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
    return re.sub(
        r"^<svg([^>]*)>", lambda found: f'<svg{found[1]} aria-label="{html.escape(title)}">', text.strip(), count=1
    )
