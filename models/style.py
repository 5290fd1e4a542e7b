"""How pictures look: colours, the house style, and axes of time.

Colours are Okabe and Ito's, which people with any colour vision tell apart.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
from matplotlib import dates, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, GREY, INK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8A939C", "#1F2933",
)  # fmt: skip
STYLE: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9AA5B1",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E7EB",
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": "#52606D",
    "ytick.color": "#52606D",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "white",
    "figure.dpi": 110,
    "savefig.dpi": 160,
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.08,
    "svg.fonttype": "none",
}


def styled(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Let a drawing function draw in the house style."""

    @wraps(draw)
    def drawn(*args: Any, **kwargs: Any) -> Any:
        with rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


def say(figure: Figure, axes: Axes, text: str) -> Figure:
    """Return the figure with nothing on it but why there is nothing."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY, fontsize=12)
    return figure


def times(ns: Any) -> Any:
    """Return nanoseconds since 1970 as times that an axis understands."""
    return np.asarray(ns, np.int64).view("datetime64[ns]")


def as_days(ns: Any) -> Any:
    """Return nanoseconds since 1970 as the number that a time axis counts in."""
    return dates.date2num(times(ns))  # type: ignore[no-untyped-call]


def clock_axis(axes: Axes) -> None:
    """Mark an axis with as much of date and time as its span needs."""
    locator = dates.AutoDateLocator(minticks=3, maxticks=8)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
