"""A picture of one day of a stream: price with what the detectors said, and the features behind it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from models.plots import BLUE, GREY, INK, ORANGE, VERMILLION, clock_axis, say, styled, times
from warehouse.schema import SIGNALS

_COLUMNS = 900  # a picture has no more
_PANELS = (("imbalance_5", "imbalance"), ("ofi_5", "OFI, 5 s"), ("spread_bps", "spread (bps)"), ("vpin", "VPIN"))
_COLOURS = (ORANGE, VERMILLION, BLUE, INK, GREY)
_MARKS = {1: "^", -1: "v", 0: "o"}


@styled
def day_picture(exchange_ns: NDArray[np.int64], features: Mapping[str, Any], change: NDArray[np.float64], signals: Any) -> Figure:
    """Return six panels over one clock: mid with signals, imbalance, OFI, spread, VPIN, change probability.

    Parameters
    ----------
    exchange_ns : ndarray of int64, shape (n,)
    features : mapping of str to ndarray of float64, shape (n,)
        By name; NaN where not known, which is left blank.
    change : ndarray of float64, shape (n,)
        Probability of a change of regime.
    signals : ndarray of row_dtype("signals")
    """
    figure = Figure(figsize=(11.0, 11.0), layout="constrained")
    known = np.flatnonzero(np.isfinite(features["mid"]))
    if not known.size:
        return say(figure, figure.subplots(), "no features of this day")
    axes = figure.subplots(6, 1, sharex=True, height_ratios=(3, 1, 1, 1, 1, 1))
    edges = np.linspace(exchange_ns[known[0]], exchange_ns[known[-1]] + 1, _COLUMNS + 1)
    starts = known[np.unique(np.searchsorted(exchange_ns[known], edges[:-1]))]
    at = times(exchange_ns[starts])
    for panel, (values, name) in zip(
        axes, [(features["mid"], "mid"), *((features[n], title) for n, title in _PANELS), (change, "P(change)")], strict=True
    ):
        low, high = np.fmin.reduceat(values, starts), np.fmax.reduceat(values, starts)
        panel.fill_between(at, low, high, color=BLUE, alpha=0.3, linewidth=0)
        panel.plot(at, (low + high) / 2, color=BLUE, linewidth=0.8)
        panel.set_ylabel(name)
        panel.margins(x=0)
        if not np.isfinite(values).any():
            panel.text(0.5, 0.5, "still warming up", transform=panel.transAxes, ha="center", va="center", color=GREY)
    mid = features["mid"][known]
    place = np.clip(np.searchsorted(exchange_ns[known], signals["exchange_ns"]), 0, known.size - 1)
    for kind, name in enumerate(SIGNALS):
        for side, mark in _MARKS.items():
            mine = (signals["kind"] == kind) & (signals["side"] == side)
            if mine.any():
                label = name + {1: ", up", -1: ", down", 0: ""}[side]
                axes[0].scatter(
                    times(signals["exchange_ns"][mine]), mid[place[mine]], marker=mark, s=40, color=_COLOURS[kind], label=label, zorder=4
                )
    if len(signals):
        axes[0].legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=6)
    axes[0].ticklabel_format(axis="y", useOffset=False)
    axes[-1].set(xlabel="exchange time (UTC)", ylim=(0, 1))
    clock_axis(axes[-1])
    return figure
