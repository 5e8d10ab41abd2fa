"""How plots look: one palette, shapes beside colours, fonts that every browser has, and the same bytes every time.

Colours are those of Okabe and Ito (2008), which people with any colour vision tell apart; series differ in marker and
line as well, for print in grey.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLACK, BLUE, ORANGE, GREEN = "#000000", "#0072b2", "#d55e00", "#009e73"
SKY, AMBER, PINK, YELLOW = "#56b4e9", "#e69f00", "#cc79a7", "#f0e442"
GREY = "#6b6b6b"
COLOURS = (BLUE, ORANGE, GREEN, PINK, AMBER, SKY, BLACK, YELLOW)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":")
HATCHES = ("", "//", "..", "xx", "\\\\")

SIZE = (6.4, 4.0)  # inches: legible on a phone's 360 points, and half a printed page wide
DPI = 150
STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
    "font.size": 11,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "svg.fonttype": "none",  # text stays text: found by a search, read aloud
    "svg.hashsalt": "hpcflow",
    "figure.constrained_layout.use": True,
}


@contextmanager
def figure(title: str, x: str, y: str, size: tuple[float, float] = SIZE) -> Iterator[tuple[Figure, Any]]:
    """A figure and its axes, labelled; without pyplot, which keeps figures and looks for a screen."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        made = Figure(figsize=size)
        axes = made.add_subplot()
        axes.set_title(title, loc="left", fontsize=12)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        yield made, axes


def encode(made: Figure, kind: str) -> bytes:
    """The figure as `png` or `svg`; the same bytes for the same figure."""
    import matplotlib as mpl

    out = BytesIO()
    with mpl.rc_context(STYLE):
        made.savefig(
            out, format=kind, dpi=DPI, metadata={"Date": None} if kind == "svg" else {"Software": None}
        )
    return out.getvalue()
