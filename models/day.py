"""A picture of one day of a stream: price with what the detectors said, and the features behind it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from models.style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, VERMILLION, clock_axis, say, styled, times
from warehouse.schema import SIGNALS

_COLUMNS = 900  # a picture has no more
_PANELS = (
    ("mid", "mid\n(quote units)"), ("imbalance_5", "imbalance\nof 5 levels"), ("ofi_5", "OFI of 5 s\n(base units)"),
    ("spread_bps", "spread\n(bps)"), ("vpin", "VPIN"), ("bocpd_change_prob", "chance of\na change"),
)  # fmt: skip
_FIXED = {"imbalance_5": (-1.05, 1.05), "bocpd_change_prob": (0.0, 1.02)}
_REGIME_CHANGE = 0.7  # chance from which the detectors call it one
_COLOURS = (ORANGE, VERMILLION, PURPLE, INK, GREEN)
_MARKS = {1: "^", -1: "v", 0: "o"}


@styled
def day_picture(
    exchange_ns: NDArray[np.int64], features: Mapping[str, Any], signals: Any, apart: NDArray[np.int64] | None = None
) -> Figure:
    """Return six panels over one clock: mid with signals, imbalance, OFI, spread, VPIN, chance of a change of regime.

    Each line is the middle of what was seen in a column of the picture, the shade about it from
    least to most.  Stretches in which the stream was doubtful are grey, and no line goes across.

    Parameters
    ----------
    exchange_ns : ndarray of int64, shape (n,)
    features : mapping of str to ndarray of float64, shape (n,)
        By name; NaN where not known, which is left blank.
    signals : ndarray of row_dtype("signals")
    apart : ndarray of int64, shape (m, 2), optional
        Start and end of stretches that are not to be trusted, ns.
    """
    figure = Figure(figsize=(11.0, 11.0), layout="constrained")
    known = np.flatnonzero(np.isfinite(features["mid"]))
    if not known.size:
        return say(figure, figure.subplots(), "no features of this day that can be trusted")
    axes = figure.subplots(len(_PANELS), 1, sharex=True, height_ratios=(3, 1, 1, 1, 1, 1))
    first, last = int(exchange_ns[known[0]]), int(exchange_ns[known[-1]])
    gaps = stretches(exchange_ns, features["mid"], np.zeros((0, 2), np.int64) if apart is None else apart, first, last)
    edges = np.linspace(first, last + 1, _COLUMNS + 1)
    starts = known[np.unique(np.searchsorted(exchange_ns[known], edges[:-1]))]
    # A column that begins before a stretch and one behind it are not joined.
    torn = np.unique(np.searchsorted(exchange_ns[starts], gaps[:, 1]))
    torn = torn[(torn > 0) & (torn < starts.size)]
    at = times(np.insert(exchange_ns[starts], torn, exchange_ns[starts[torn] - 1]))
    for panel, (name, title) in zip(axes, _PANELS, strict=True):
        low, high = (np.insert(part.reduceat(features[name], starts), torn, np.nan) for part in (np.fmin, np.fmax))
        panel.fill_between(at, low, high, color=BLUE, alpha=0.3, linewidth=0)
        panel.plot(at, (low + high) / 2, color=BLUE, linewidth=0.9)
        for begin, end in gaps:
            panel.axvspan(*times(np.array([begin, end])), color=GREY, alpha=0.25, linewidth=0)
        panel.set_ylabel(title)
        panel.margins(x=0)
        if name in _FIXED:
            panel.set_ylim(*_FIXED[name])
        if not np.isfinite(features[name]).any():
            panel.set_yticks([])
            panel.text(0.5, 0.5, "not known yet: still warming up", transform=panel.transAxes, ha="center", va="center", color=GREY)
        elif name in ("imbalance_5", "ofi_5"):
            panel.axhline(0.0, color=INK, linewidth=0.6)
    axes[-1].axhline(_REGIME_CHANGE, color=VERMILLION, linewidth=0.8, linestyle="--")
    axes[3].set_ylim(bottom=0.0)
    _put_signals(axes[0], exchange_ns[known], features["mid"][known], signals, bool(len(gaps)))
    axes[-1].set(xlabel="exchange time (UTC)")
    axes[0].set_xlim(*times(np.array([first, max(last, first + 1_000_000)])))
    clock_axis(axes[-1])
    figure.align_ylabels(axes)
    return figure


def stretches(
    exchange_ns: NDArray[np.int64], mid: NDArray[np.float64], apart: NDArray[np.int64], first: int, last: int
) -> NDArray[np.int64]:
    """Return start and end of what is not to be trusted between two moments: runs without a mid, and `apart`, joined, shape (m, 2).

    Examples
    --------
    >>> stretches(np.array([1, 2, 3, 4, 9]), np.array([5.0, np.nan, np.nan, 5.0, 5.0]), np.array([[3, 6], [8, 50]]), 1, 9)
    array([[1, 6],
           [8, 9]])
    """
    lost = np.diff(np.isnan(mid).astype(np.int8), prepend=0, append=0)
    begins, ends = np.flatnonzero(lost == 1), np.flatnonzero(lost == -1)
    runs = np.column_stack([exchange_ns[np.maximum(begins - 1, 0)], exchange_ns[np.minimum(ends, mid.size - 1)]])
    every = np.clip(np.concatenate([runs, np.asarray(apart, np.int64).reshape(-1, 2)]), first, last)
    every = every[every[:, 0] < every[:, 1]]
    every = every[np.argsort(every[:, 0], kind="stable")]
    reach = np.maximum.accumulate(every[:, 1]) if len(every) else every[:, 1]
    opens = np.flatnonzero(np.append(True, every[1:, 0] > reach[:-1])) if len(every) else np.zeros(0, np.int64)
    return np.column_stack([every[opens, 0], reach[np.append(opens[1:] - 1, len(every) - 1)]]) if len(every) else every


def _put_signals(panel: Axes, ns: NDArray[np.int64], mid: NDArray[np.float64], signals: Any, has_gaps: bool) -> None:
    place = np.clip(np.searchsorted(ns, signals["exchange_ns"]), 0, ns.size - 1)
    for kind, name in enumerate(SIGNALS):
        for side, mark in _MARKS.items():
            mine = (signals["kind"] == kind) & (signals["side"] == side)
            if mine.any():
                label = f"{name.replace('_', ' ')}{ {1: ', up', -1: ', down', 0: ''}[side] }: {int(mine.sum())}"
                style: Any = {"marker": mark, "s": 46, "color": _COLOURS[kind], "edgecolor": "white", "linewidth": 0.6, "zorder": 4}
                panel.scatter(times(signals["exchange_ns"][mine]), mid[place[mine]], label=label, **style)
    handles, labels = panel.get_legend_handles_labels()
    if has_gaps:
        handles, labels = [*handles, Patch(color=GREY, alpha=0.25)], [*labels, "doubtful or missing"]
    if handles:
        panel.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4)
    panel.ticklabel_format(axis="y", useOffset=False)
