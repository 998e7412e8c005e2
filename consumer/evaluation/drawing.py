"""
Figures as SVG that lies in the page: text stays text, colours follow the page's theme.

matplotlib draws with stand-in colours, which are replaced by the page's CSS variables, so that
one picture serves light and dark. The same figures give the same bytes.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK: Final = "#010101"
SOFT: Final = "#020202"
BLUE: Final = "#030303"
ORANGE: Final = "#040404"
RED: Final = "#050505"
YELLOW: Final = "#060606"
GREEN: Final = "#070707"
_VARIABLES: Final = {
    INK: "var(--ink)",
    SOFT: "var(--line)",
    BLUE: "var(--blue)",
    ORANGE: "var(--orange)",
    RED: "var(--red)",
    YELLOW: "var(--yellow)",
    GREEN: "var(--green)",
}

# Its keys are literals of matplotlib, which a dict of this size does not infer.
_STYLE: Final[Any] = {
    "axes.edgecolor": SOFT,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "grid.color": SOFT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}
# Of a phone's width, so that text keeps its size there; a wide screen shows two side by side.
_WIDTH_IN: Final = 5.0
_HEIGHT_IN: Final = 3.5
_FONTS: Final = "system-ui, sans-serif"


@dataclass(frozen=True, slots=True)
class Plot:
    """
    A picture with its words: ``name`` is its id in the page, ``meaning`` one sentence.

    ``svg`` is an element, not a document.
    """

    name: str
    title: str
    meaning: str
    svg: str


@contextmanager
def canvas(
    rows: int = 1, heights: tuple[int, ...] = (1,), height_in: float = _HEIGHT_IN
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure of *rows* axes above one another, in the style of the report."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots(rows, 1, squeeze=False, height_ratios=heights)
        yield figure, list(axes[:, 0])


def to_plot(figure: Figure, name: str, title: str, meaning: str) -> Plot:
    """Render *figure*, drawn inside ``canvas``."""
    written = io.StringIO()
    with rc_context({"svg.hashsalt": name}):
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(written, format="svg", metadata=metadata)
    return Plot(name, title, meaning, _embed(written.getvalue(), name, f"{title}. {meaning}"))


def _embed(document: str, name: str, told: str) -> str:
    """The element of *document*: ids of its own, colours of the page, a title that is read out."""
    svg = document[document.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"'DejaVu Sans'(, [^;\"]*)?", _FONTS, svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    box = re.search(r'viewBox="([^"]*)"', svg)
    assert box is not None
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box[1]}" role="img" aria-labelledby="{name}-title">'
        f'<title id="{name}-title">{escape(told)}</title>'
    )
    return re.sub(r"\s*\n\s*", "\n", head + svg[svg.index(">") + 1 :]).strip()
