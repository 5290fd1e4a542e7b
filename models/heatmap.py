"""A picture of a book through time: depth by price and time, trades on top.

Reduced before it is drawn: a picture has a few hundred columns, whether a minute or a day
went into it.  Takes rows as `warehouse.schema` declares them, and knows no venue.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import ticker
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from models.style import BLUE, GREY, INK, ORANGE, VERMILLION, as_days, clock_axis, say, styled, times
from warehouse.schema import LEVELS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Doubts = Sequence[tuple[int, int, str]]  # start_ns, end_ns, why

# Light to dark, so that it reads without colour; blue and vermilion dots stand out from it.
_DEPTHS = LinearSegmentedColormap.from_list("depths", ["#F4F6F8", "#C9D3DC", "#93A6B5", "#566F84", "#22384C", "#0B1520"])
_CHUNK = 50_000  # books whose levels are spread over the grid at a time
_MIN_RANGE = 1e-12


@dataclass(frozen=True)
class Depth:
    """Mean resting size by price and time; 0 between visible levels, NaN beyond the furthest."""

    time_ns: Ints  # shape (columns + 1,): edges
    price: Floats  # shape (rows + 1,): edges, a whole number of ticks apart
    bid: Floats  # shape (rows, columns), base units
    ask: Floats
    mid: Floats  # shape (columns,): last of the column


def depth(books: Any, start_ns: int, end_ns: int, columns: int = 600, rows: int = 130) -> Depth:
    """Return books averaged over a grid of time and price.

    Parameters
    ----------
    books : ndarray of row_dtype("l2_snapshots"), shape (n,)
        In order of time.
    start_ns, end_ns : int
        What the grid spans.
    columns, rows : int
        Cells at most; prices share a row only where ticks outnumber rows.

    Notes
    -----
    A column without an update shows the book that stood: nothing changed.  Prices reach as
    far around the mid as the visible levels usually do, so one far level does not empty the
    picture.
    """
    edges = _edges(start_ns, end_ns, columns)
    bid, ask = books["bid_px"][:, 0], books["ask_px"][:, 0]
    mid = (bid + ask) / 2
    known = np.isfinite(mid)
    if not known.any():
        nothing = np.full((1, columns), np.nan)
        return Depth(edges, np.array([0.0, 1.0]), nothing, nothing.copy(), np.full(columns, np.nan))
    with np.errstate(invalid="ignore"):
        reach = np.fmax(ask - np.nanmin(books["bid_px"], 1), np.nanmax(books["ask_px"], 1) - bid)[known]
    reach = float(np.median(reach))
    low, high = float(mid[known].min()) - reach, float(mid[known].max()) + reach
    tick = _tick(books)
    step = tick * max(1.0, np.ceil((high - low) / rows / tick))
    first = np.floor(low / step) * step - step / 2
    price = first + step * np.arange(int(np.ceil((high - first) / step)) + 1)
    column = np.clip(np.searchsorted(edges, books["exchange_ns"], side="right") - 1, 0, columns - 1)
    held = np.bincount(column, minlength=columns)
    stood = np.maximum.accumulate(np.where(held > 0, np.arange(columns), 0))
    grids = [_spread(books, side, column, price, columns) / np.maximum(held, 1) for side in ("bid", "ask")]
    shown = [_within_levels(grid)[:, stood] for grid in grids]
    last = np.full(columns, np.nan)
    last[column[known]] = mid[known]
    stood_mid = np.maximum.accumulate(np.where(np.isfinite(last), np.arange(columns), 0))
    return Depth(edges, price, shown[0], shown[1], last[stood_mid])


def _edges(start_ns: int, end_ns: int, columns: int) -> Ints:
    # Counted from the start: today's nanoseconds do not fit a float.
    edges: Ints = start_ns + np.linspace(0, max(end_ns - start_ns, 1), columns + 1).astype(np.int64)
    return edges


def _spread(books: Any, side: str, column: Ints, price: Floats, columns: int) -> Floats:
    rows = len(price) - 1
    grid = np.zeros(rows * columns)
    for first in range(0, len(books), _CHUNK):
        some = slice(first, first + _CHUNK)
        px, size = books[f"{side}_px"][some], books[f"{side}_sz"][some]
        inside = (px >= price[0]) & (px < price[-1])  # NaN is nowhere
        row = np.clip(((px[inside] - price[0]) / (price[1] - price[0])).astype(np.int64), 0, rows - 1)
        cell = row * columns + np.broadcast_to(column[some, None], (len(px), LEVELS))[inside]
        grid += np.bincount(cell, size[inside], rows * columns)
    return grid.reshape(rows, columns)


def _within_levels(grid: Floats) -> Floats:
    seen = grid > 0
    inside = np.maximum.accumulate(seen) & np.maximum.accumulate(seen[::-1])[::-1]
    return np.where(inside, grid, np.nan)


def _tick(books: Any) -> float:
    some = books[np.linspace(0, len(books) - 1, min(len(books), 200)).astype(np.int64)]
    steps = np.abs(np.diff(np.concatenate([some["bid_px"], some["ask_px"]]), axis=1))
    steps = steps[np.isfinite(steps) & (steps > _MIN_RANGE)]
    return float(f"{steps.min():.6g}") if len(steps) else 1.0


@styled
def heat_map(books: Any, trades: Any, doubts: Doubts = (), base: str = "base", quote: str = "quote") -> Figure:
    """Return depth by price and time, trades as dots by aggressor, and traded volume below.

    Parameters
    ----------
    books : ndarray of row_dtype("l2_snapshots")
        The stretch to show.
    trades : ndarray of row_dtype("trades")
        Those outside the stretch are left out.
    doubts : sequence of (start_ns, end_ns, why)
        Shaded: what is drawn there was not trusted.
    base, quote : str
        Units of size and price.
    """
    figure = Figure(figsize=(11.0, 6.4), layout="constrained")
    if not len(books):
        return say(figure, figure.subplots(), "no books recorded")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1))
    start, end = int(books["exchange_ns"].min()), int(books["exchange_ns"].max()) + 1
    picture = depth(books, start, end)
    edges = as_days(picture.time_ns)
    extent = (edges[0], edges[-1], picture.price[0], picture.price[-1])
    seen = np.concatenate([grid[grid > 0] for grid in (picture.bid, picture.ask)])
    low, high = np.quantile(seen, [0.05, 0.995]) if len(seen) else (0.1, 1.0)
    norm = LogNorm(low, max(high, low * 1.01), clip=True)
    for grid in (picture.bid, picture.ask):
        above.imshow(grid, extent=extent, origin="lower", aspect="auto", cmap=_DEPTHS, norm=norm, interpolation="nearest", zorder=1)
    above.step(edges[:-1], picture.mid, where="post", color=INK, linewidth=1.1, zorder=3, label="mid")
    trades = trades[(trades["exchange_ns"] >= start) & (trades["exchange_ns"] < end)]
    _dots(above, trades, picture, base)
    width_s = _volume(below, trades, picture.time_ns)
    below.set_ylabel(f"{base} in {width_s:.2g} s")
    for axes in (above, below):
        _shade(axes, doubts, start, end)
        axes.set_xlim(edges[0], edges[-1])
    swept = trades["price"] if len(trades) else picture.price[[0, -1]]
    above.set_ylim(min(picture.price[0], swept.min()), max(picture.price[-1], swept.max()))
    above.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.10g}"))
    above.set(ylabel=f"price ({quote})")
    above.grid(visible=False)
    above.legend(loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2, ncols=6)
    bar = figure.colorbar(ScalarMappable(norm, _DEPTHS), ax=above, pad=0.01, aspect=35, extend="both")
    bar.set_label(f"mean resting size ({base}, log)")
    bar.outline.set_visible(False)
    below.set(xlabel="exchange time (UTC)")
    clock_axis(below)
    return figure


def _dots(axes: Any, trades: Any, picture: Depth, base: str) -> None:
    if not len(trades):
        return
    # Trades of one cell and one side are one dot of their joint size.
    columns, rows = len(picture.time_ns) - 1, len(picture.price) - 1
    column = np.clip(np.searchsorted(picture.time_ns, trades["exchange_ns"], side="right") - 1, 0, columns - 1)
    row = np.clip(np.searchsorted(picture.price, trades["price"], side="right") - 1, 0, rows - 1)
    biggest = 0.0
    found = []
    for side, colour, name in ((1, BLUE, "taker bought"), (-1, VERMILLION, "taker sold"), (0, ORANGE, "taker unknown")):
        mine = trades["aggressor"] == side
        if mine.any():
            cell, place = np.unique(row[mine] * columns + column[mine], return_inverse=True)
            size = np.bincount(place, trades["size"][mine])
            price = np.bincount(place, trades["size"][mine] * trades["price"][mine]) / np.maximum(size, 1e-300)
            at = (picture.time_ns[cell % columns] + picture.time_ns[cell % columns + 1]) // 2
            found.append((as_days(at), price, size, colour, name))
            biggest = max(biggest, float(size.max()))
    for at, price, size, colour, name in found:
        area = 4 + 240 * size / biggest
        order = np.argsort(-size)
        axes.scatter(
            at[order], price[order], s=area[order], color=colour, alpha=0.55, linewidths=0.3, edgecolors="white", rasterized=True, zorder=4
        )
        axes.scatter([], [], s=36, color=colour, alpha=0.8, linewidths=0, label=name)
    example = float(f"{biggest:.1g}")
    axes.scatter([], [], s=4 + 240 * example / biggest, color=GREY, alpha=0.5, linewidths=0, label=f"{example:g} {base}")


def _volume(axes: Any, trades: Any, edges_ns: Ints) -> float:
    wide = edges_ns[:: max(1, (len(edges_ns) - 1) // 150)]
    at = as_days(wide)
    for side, colour in ((1, BLUE), (-1, VERMILLION)):
        mine = trades[trades["aggressor"] == side]
        total = np.histogram(mine["exchange_ns"], wide, weights=mine["size"])[0]
        axes.bar(at[:-1], side * total, width=np.diff(at), align="edge", color=colour, linewidth=0)
    axes.axhline(0, color=INK, linewidth=0.7)
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{abs(value):g}"))
    axes.yaxis.set_major_locator(ticker.MaxNLocator(4))
    return float(wide[1] - wide[0]) * 1e-9


def _shade(axes: Any, doubts: Doubts, start_ns: int, end_ns: int) -> None:
    for first, last, _ in doubts:
        first, last = max(first, start_ns), min(last, end_ns)
        if first < last:
            left, right = as_days([first, last])
            axes.axvspan(left, right, facecolor=ORANGE, alpha=0.28, edgecolor=ORANGE, hatch="///", linewidth=0.8, zorder=5)


@styled
def overview(
    exchange_ns: Ints, bid: Floats, ask: Floats, doubts: Doubts = (), shown: tuple[int, int] | None = None, quote: str = "quote"
) -> Figure:
    """Return the mid over everything recorded: low to high of each column, doubtful stretches shaded.

    Parameters
    ----------
    shown : tuple of int, optional
        The stretch that the heat map shows, marked.
    """
    figure = Figure(figsize=(11.0, 2.6), layout="constrained")
    axes = figure.subplots()
    mid = (bid + ask) / 2
    exchange_ns, mid = exchange_ns[np.isfinite(mid)], mid[np.isfinite(mid)]
    if not len(mid):
        return say(figure, axes, "no books recorded")
    order = np.argsort(exchange_ns, kind="stable")
    exchange_ns, mid = exchange_ns[order], mid[order]
    start, end = int(exchange_ns[0]), int(exchange_ns[-1]) + 1
    starts = np.unique(np.searchsorted(exchange_ns, _edges(start, end, 900)[:-1]))
    at = times(exchange_ns[starts])
    low, high = np.minimum.reduceat(mid, starts), np.maximum.reduceat(mid, starts)
    axes.fill_between(at, low, high, color=BLUE, alpha=0.3, linewidth=0)
    axes.plot(at, (low + high) / 2, color=BLUE, linewidth=1)
    _shade(axes, doubts, start, end)
    if shown is not None:
        left, right = as_days(shown)
        axes.axvspan(left, right, facecolor=GREY, alpha=0.25, linewidth=0)
    axes.set(ylabel=f"mid ({quote})", xlabel="exchange time (UTC)")
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.margins(x=0)
    clock_axis(axes)
    return figure
