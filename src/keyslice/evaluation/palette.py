"""How figures look: one colour and marker per variant, ink that follows the page, stable bytes."""

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from itertools import cycle
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

INK, FAINT = "#24292f", "#c9ced6"
"""Text and lines, and what stands back; the report replaces both by the page's own colours."""

# After Okabe and Ito (2008), which readers with colour-blindness can tell apart; the first is for
# the reference that keeps everything. Markers repeat the distinction without colour.
_COLOURS = (
    "#6b7785",
    "#56b4e9",
    "#009e73",
    "#9467bd",
    "#e69f00",
    "#cc79a7",
    "#d55e00",
    "#0072b2",
)
_MARKERS = ("s", "o", "^", "v", "D", "P", "X", "*", "<", ">", "p")

RC: dict[Any, Any] = {
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9.5,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.6,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "keyslice",
    "text.color": INK,
    "text.parse_math": False,  # names of classes are shown as they are, with every $ in them
    "xtick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.color": FAINT,
    "ytick.labelcolor": INK,
}


@dataclass(frozen=True)
class Look:
    """A variant's colour and marker, the same in every figure."""

    colour: str
    marker: str


def looks(variants: Iterable[str]) -> dict[str, Look]:
    """In the order of the settings; colours recur after eight variants, with other markers."""
    return {
        name: Look(colour, marker)
        for name, colour, marker in zip(variants, cycle(_COLOURS), cycle(_MARKERS), strict=False)
    }


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """`draw` under the shared style; matplotlib's own settings are as before afterwards."""

    @wraps(draw)
    def under_style(*args: object, **kwargs: object) -> Figure:
        with mpl.rc_context(RC):
            return draw(*args, **kwargs)

    return under_style


def svg(figure: Figure, page: str = "none") -> str:
    """The figure as an <svg> element with live text, on a page of that colour; equal figures give
    equal bytes.
    """
    buffer = io.StringIO()
    with mpl.rc_context(RC):
        figure.savefig(
            buffer,
            format="svg",
            facecolor=page,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    text = buffer.getvalue()
    return text[text.index("<svg") :]
