"""The fold over venues: books, trades and funding of one base asset in, a row a step of the common clock out."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numba import njit

from tasks.features.co_movement import AGE_NS, GRID, GRID_NS, MINUTE, MOST, RING, ROW, STATE, STEP_NS, movement, volatilities
from tasks.features.cross_catalogue import CROSS_NAMES, OWN

_AT = {name: i for i, name in enumerate(CROSS_NAMES)}
(
    _DISPERSION, _MAX_SPREAD, _DIVERGENCE, _DEVIATION, _ARB, _ARBS, _ARB_MS, _VW, _CONCENTRATION, _SYNC, _LEAD, _DEPTH, _SPREAD, _VOL_RATIO,
    _VOL_DISPERSION, _AVERAGE, _FUNDING, _MOMENTUM, _VOL_SPREAD, _RATIO, _NUM, _ALL,
) = range(len(CROSS_NAMES))  # fmt: skip


@njit(cache=True)
def _is_there(s, v):
    return v["ns"] > 0 and s["clock_ns"] - v["ns"] <= AGE_NS


@njit(cache=True)
def _tick(s, now):
    # Seconds and tenths that are over: what each venue stood at, NaN where it was not there.
    while s["tenth"] < now // GRID_NS:
        s["tenth"] += 1
        at = s["tenth"] % GRID
        ends_second = s["tenth"] % 10 == 0
        for i in range(s["n"]):
            v = s["venue"][i]
            mid = v["mid"] if v["ns"] > 0 and s["tenth"] * GRID_NS - v["ns"] <= AGE_NS else np.nan
            v["grid"][at] = mid
            if ends_second:
                second = s["tenth"] // 10
                v["closes"][second % (MINUTE + 1)] = mid
                v["volume"][second % (MINUTE + 1)] = 0.0


@njit(cache=True)
def _advance(s, exchange_ns):
    # True where rows of earlier steps are due before this event.
    now = max(s["clock_ns"], exchange_ns)
    if s["clock_ns"] == 0 or now - s["clock_ns"] > 600_000_000_000:
        s["clock_ns"] = now
        s["began_ns"] = now
        s["step"] = now // STEP_NS
        s["tenth"] = now // GRID_NS
        s["average"][:] = np.nan
        s["divergence"][:] = np.nan
        for i in range(s["n"]):
            s["venue"][i]["grid"][:] = np.nan
            s["venue"][i]["closes"][:] = np.nan
            s["venue"][i]["volume"][:] = 0.0
        return False
    if now // STEP_NS > s["step"]:
        return True
    _tick(s, now)
    s["clock_ns"] = now
    return False


@njit(cache=True)
def _opportunities(s, out, here, average):
    best = 0.0
    pairs = 0
    for i in range(s["n"]):
        for j in range(s["n"]):
            if i != j and here[i] and here[j]:
                u, v = s["venue"][i], s["venue"][j]
                gain = 1e4 * (u["bid"] - v["ask"]) / average - u["fee"] - v["fee"]
                if gain > 0.0:
                    pairs += 1
                    best = max(best, gain)
    if pairs == 0:
        s["arb_ns"] = 0
    elif s["arb_ns"] == 0:
        s["arb_ns"] = s["clock_ns"]
    out[_ARB], out[_ARBS] = best, pairs
    out[_ARB_MS] = (s["clock_ns"] - s["arb_ns"]) / 1e6 if pairs else 0.0


@njit(cache=True)
def _traded(s, v):
    # Volume of 60 s: the open second and 59 before it, or the last 60 where a second has just ended.
    second, rest = s["clock_ns"] // (10 * GRID_NS), s["clock_ns"] % (10 * GRID_NS)
    return v["volume"].sum() - (v["volume"][(second + 1) % (MINUTE + 1)] if rest else 0.0)


@njit(cache=True)
def _prices(s, out, row, here):
    n = 0
    total = volume = weighted = bids = asks = 0.0
    low, high = np.inf, 0.0
    s["best_bid"], s["best_ask"], s["best_bid_at"], s["best_ask_at"], s["late_ns"] = 0.0, np.inf, -1, -1, 0
    for i in range(s["n"]):
        v = s["venue"][i]
        if not here[i]:
            continue
        n += 1
        mid, traded = v["mid"], _traded(s, v)
        total += mid
        volume += traded
        weighted += traded * mid
        bids += v["bids"]
        asks += v["asks"]
        low, high = min(low, mid), max(high, mid)
        row["mid"][i] = mid
        if v["bid"] > s["best_bid"]:
            s["best_bid"], s["best_bid_at"] = v["bid"], i
        if v["ask"] < s["best_ask"]:
            s["best_ask"], s["best_ask_at"] = v["ask"], i
        s["late_ns"] = max(s["late_ns"], s["clock_ns"] - v["ns"])
    out[_NUM], out[_ALL] = n, 1.0 if n == s["n"] else 0.0
    if n == 0:
        return np.nan
    average = total / n
    is_whole = s["clock_ns"] - s["began_ns"] >= MINUTE * 10 * GRID_NS  # volumes of less than 60 s are not compared
    centre = weighted / volume if volume > 0.0 else average
    squares = off = herfindahl = 0.0
    for i in range(s["n"]):
        if here[i]:
            v = s["venue"][i]
            traded = _traded(s, v)
            squares += (v["mid"] - average) ** 2
            off += traded * (v["mid"] - centre) ** 2
            herfindahl += traded * traded
            row["deviation"][i] = 1e4 * (v["mid"] - centre) / centre if is_whole else np.nan
    out[_AVERAGE] = average
    if n > 1:
        out[_DIVERGENCE] = math.sqrt(squares / n)
        out[_DISPERSION] = 1e4 * out[_DIVERGENCE] / average
        out[_MAX_SPREAD] = 1e4 * (high - low) / average
    if volume > 0.0 and is_whole:
        out[_VW] = 1e4 * math.sqrt(off / volume) / centre
        out[_CONCENTRATION] = herfindahl / (volume * volume)
    out[_DEPTH] = (bids - asks) / (bids + asks) if bids + asks > 0.0 else np.nan
    out[_SPREAD] = 1e4 * (s["best_ask"] - s["best_bid"]) / average
    return average


@njit(cache=True)
def _sides_and_funding(s, out, here):
    mids = np.zeros(2)
    n = np.zeros(2)
    low, high = np.inf, -np.inf
    known = 0
    for i in range(s["n"]):
        v = s["venue"][i]
        if here[i] and v["side"] > 0:
            mids[v["side"] - 1] += v["mid"]
            n[v["side"] - 1] += 1
        if not np.isnan(v["funding"]):
            low, high = min(low, v["funding"]), max(high, v["funding"])
            known += 1
    if n[0] and n[1]:
        out[_RATIO] = mids[0] / n[0] / (mids[1] / n[1])
    if known > 1:
        out[_FUNDING] = high - low


@njit(cache=True)
def _emit(s, receive_ns, row):
    # The row of the step that is over.
    end = (s["step"] + 1) * STEP_NS
    _tick(s, end)
    s["clock_ns"] = end
    s["step"] += 1
    out = row["values"]
    out[:] = np.nan
    row["mid"][:] = np.nan
    row["deviation"][:] = np.nan
    row["lead"][:] = np.nan
    here = np.zeros(MOST, np.bool_)
    for i in range(s["n"]):
        here[i] = _is_there(s, s["venue"][i])
    average = _prices(s, out, row, here)
    at = s["step"] % RING
    before = s["average"][at]  # of a minute ago
    if not np.isnan(average):
        _opportunities(s, out, here, average)
        out[_MOMENTUM] = average / before - 1.0
        _sides_and_funding(s, out, here)
        if s["clock_ns"] - s["began_ns"] >= 60_000_000_000:
            movement(s, out, row, here)
            volatilities(s, out, here)
    else:
        s["arb_ns"] = 0
    s["average"][at] = average
    s["divergence"][at] = out[_DIVERGENCE]
    out[_VOL_SPREAD] = s["divergence"].std()  # NaN until a whole minute is known
    row["exchange_ns"] = end
    row["receive_ns"] = receive_ns
    row["best_bid"] = s["best_bid"] if s["best_bid_at"] >= 0 else np.nan
    row["best_ask"] = s["best_ask"] if s["best_ask_at"] >= 0 else np.nan
    row["best_bid_at"], row["best_ask_at"] = s["best_bid_at"], s["best_ask_at"]
    row["late_ms"] = s["late_ns"] / 1e6


@njit(cache=True)
def _book(s, i, book, doubt):
    v, rate = s["venue"][i], s["venue"][i]["rate"]
    bid_sz, ask_sz = book["bid_sz"], book["ask_sz"]
    if doubt or book["doubt"] or not (bid_sz[0] > 0.0 and ask_sz[0] > 0.0):
        v["ns"] = 0
        return
    v["ns"] = max(v["ns"], book["exchange_ns"])
    v["bid"], v["ask"] = book["bid_px"][0] * rate, book["ask_px"][0] * rate
    v["mid"] = (v["bid"] + v["ask"]) / 2.0
    v["bids"], v["asks"] = bid_sz[:10].sum(), ask_sz[:10].sum()


@njit(cache=True)
def _on_book(state, i, book, doubt, row):
    s = state[0]
    if _advance(s, book[0]["exchange_ns"]):
        _emit(s, book[0]["receive_ns"], row[0])
        return True
    _book(s, i, book[0], doubt)
    return False


@njit(cache=True)
def _on_trade(state, i, trade, row):
    s = state[0]
    if trade[0]["backfill"]:
        return False
    if _advance(s, trade[0]["exchange_ns"]):
        _emit(s, trade[0]["receive_ns"], row[0])
        return True
    s["venue"][i]["volume"][(s["clock_ns"] // (10 * GRID_NS)) % (MINUTE + 1)] += trade[0]["size"]
    return False


class CrossVenue:
    """The venues of one base asset, aligned.

    Parameters
    ----------
    venues : sequence of str
        Names; at most 16.  An instrument each.
    rates : sequence of float
        What a unit of each venue's quote is worth in the common one.
    fees_bps : sequence of float
        Taker fee of each.

    Attributes
    ----------
    row : ndarray of ROW, shape (1,)
        The last row that `book` or `trade` made.

    Examples
    --------
    >>> from warehouse.schema import row_dtype
    >>> fold = CrossVenue(("binance_spot", "bybit_spot"), (1.0, 1.0), (0.0, 0.0))
    >>> book = np.zeros(1, row_dtype("l2_snapshots"))
    >>> book["bid_sz"][0, 0] = book["ask_sz"][0, 0] = 1.0
    >>> for i, bid in enumerate((100.0, 102.0)):
    ...     book["exchange_ns"], book["bid_px"], book["ask_px"] = 10**9 + i, bid, bid + 1.0
    ...     _ = list(fold.book(i, book))
    >>> book["exchange_ns"] += 300_000_000
    >>> for row in fold.book(1, book):
    ...     print(row["values"][0][CROSS_NAMES.index("avg_price")], row["best_bid"][0], row["best_ask"][0])
    101.5 102.0 101.0
    """

    def __init__(self, venues: Sequence[str], rates: Sequence[float], fees_bps: Sequence[float]):
        if not 0 < len(venues) <= MOST:
            raise ValueError(f"1 to {MOST} venues expected, received {len(venues)}")
        self.venues = tuple(venues)
        self.state, self.row = np.zeros(1, STATE), np.zeros(1, ROW)
        self.state["n"] = len(venues)
        for i, (venue, rate, fee) in enumerate(zip(venues, rates, fees_bps, strict=True)):
            v = self.state["venue"][0, i : i + 1]
            v["rate"], v["fee"], v["funding"] = rate, fee, np.nan
            v["side"] = 1 if venue.startswith("binance") else 2 if venue.startswith("bybit") else 0

    def book(self, i: int, book: np.ndarray, doubt: int = 0):  # type: ignore[no-untyped-def]
        """Fold a book, shape (1,), of the i-th venue; yield a row for each step that was over before it."""
        while _on_book(self.state, i, book, doubt, self.row):
            yield self.row

    def trade(self, i: int, trade: np.ndarray):  # type: ignore[no-untyped-def]
        """Fold a trade, shape (1,); yield rows as `book` does."""
        while _on_trade(self.state, i, trade, self.row):
            yield self.row

    def doubt(self, i: int) -> None:
        """Take the i-th venue out until its next good book."""
        self.state["venue"]["ns"][0, i] = 0

    def funding(self, i: int, rate: float) -> None:
        """Note the last funding rate that the i-th venue paid; all of one unit, per 8 hours."""
        self.state["venue"]["funding"][0, i] = rate

    def values(self, row: np.ndarray) -> Mapping[str, float]:
        """Return a row's numbers by the names of columns: those of one venue with its name behind."""
        told = {name: float(row["values"][0, k]) for name, k in _AT.items() if name not in OWN}
        for i, venue in enumerate(self.venues):
            for name, field in (("mid", "mid"), ("mid_deviation_bps", "deviation"), ("lead_lag_coefficient", "lead")):
                told[f"{name}_{venue}"] = float(row[field][0, i])
        return told
