"""The fold over venues: books, trades and funding of one base asset in, a row a step of the common clock out."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import BinaryIO

import numpy as np
from numba import njit

from tasks.features.co_movement import AGE_NS, DEPTH, GRID, GRID_NS, MINUTE, MOST, RING, ROW, STATE, STEP_NS, movement, volatilities
from tasks.features.cross_catalogue import CROSS_FEATURES, CROSS_NAMES, OWN
from tasks.features.cross_prices import opportunities, prices, sides_and_funding
from warehouse.schema import OK

BOOKS, TRADES, CHANGES = range(3)  # kinds of events in `CrossVenue.batch`
_AT = {name: i for i, name in enumerate(CROSS_NAMES)}
_DIVERGENCE, _MOMENTUM, _VOL_SPREAD = (_AT[name] for name in ("price_divergence", "price_momentum_1m", "volatility_spread"))
_ROOM = 4096

# Days of rows that bear another are made anew: raise `REVISION` when the same events give other rows.
REVISION = 2
_KNOWN = (REVISION, STEP_NS, AGE_NS, [(f.name, f.version) for f in CROSS_FEATURES], STATE.itemsize)
CROSS_VERSION = sha256(repr(_KNOWN).encode()).hexdigest()[:12]


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
        s["arb_ns"] = 0
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
    average = prices(s, out, row, here)
    at = s["step"] % RING
    before = s["average"][at]  # of a minute ago
    if not np.isnan(average):
        opportunities(s, out, here, average)
        out[_MOMENTUM] = average / before - 1.0
        sides_and_funding(s, out, here)
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
def _book(s, i, book):
    v, rate = s["venue"][i], s["venue"][i]["rate"]
    bid_sz, ask_sz = book["bid_sz"], book["ask_sz"]
    if v["doubt"] != OK or book["doubt"] != OK or not (bid_sz[0] > 0.0 and ask_sz[0] > 0.0):
        v["ns"] = 0
        return
    v["ns"] = max(v["ns"], book["exchange_ns"])
    v["bid"], v["ask"] = book["bid_px"][0] * rate, book["ask_px"][0] * rate
    v["mid"] = (v["bid"] + v["ask"]) / 2.0
    for level in range(DEPTH):
        v["px"][0, level], v["sz"][0, level] = book["bid_px"][level] * rate, bid_sz[level]
        v["px"][1, level], v["sz"][1, level] = book["ask_px"][level] * rate, ask_sz[level]


@njit(cache=True)
def _on_book(state, i, book, row):
    s = state[0]
    if _advance(s, book[0]["exchange_ns"]):
        _emit(s, book[0]["receive_ns"], row[0])
        return True
    _book(s, i, book[0])
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


@njit(cache=True)
def _turn(state, i, doubt):
    v = state[0]["venue"][i]
    v["doubt"] = doubt
    if doubt != OK:
        v["ns"] = 0


@njit(cache=True, nogil=True)
def _fold(state, kinds, places, at, first, books, trades, changes, rows):
    # Events from `first` on; the event that was reached and the rows made, as many as there is room for.
    n = 0
    for e in range(first, kinds.size):
        i, k = places[e], at[e]
        if kinds[e] == BOOKS:
            while _on_book(state, i, books[k : k + 1], rows[n : n + 1]):
                n += 1
                if n == rows.size:
                    return e, n
        elif kinds[e] == TRADES:
            while _on_trade(state, i, trades[k : k + 1], rows[n : n + 1]):
                n += 1
                if n == rows.size:
                    return e, n
        else:
            _turn(state, i, changes[k]["state"])
    return kinds.size, n


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

    def book(self, i: int, book: np.ndarray):  # type: ignore[no-untyped-def]
        """Fold a book, shape (1,), of the i-th venue; yield a row for each step that was over before it."""
        while _on_book(self.state, i, book, self.row):
            yield self.row

    def trade(self, i: int, trade: np.ndarray):  # type: ignore[no-untyped-def]
        """Fold a trade, shape (1,); yield rows as `book` does."""
        while _on_trade(self.state, i, trade, self.row):
            yield self.row

    def turn(self, i: int, state: int) -> None:
        """Note the state of the i-th venue's stream, a code in STATES: in all but OK it is not there."""
        _turn(self.state, i, state)

    def batch(
        self, kinds: np.ndarray, places: np.ndarray, at: np.ndarray, books: np.ndarray, trades: np.ndarray, changes: np.ndarray
    ) -> np.ndarray:
        """Fold many events in their order and return the rows, records of ROW: what `book`, `trade` and `turn` do one by one.

        Parameters
        ----------
        kinds, places, at : ndarray of int64, shape (n events,)
            BOOKS, TRADES or CHANGES; which venue's it is; which row of that table, all venues' in one array.
        books, trades, changes : ndarray
            Records of `l2_snapshots`, `trades` and `coverage_changes`.
        """
        made, rows, first = [np.zeros(0, ROW)], np.zeros(_ROOM, ROW), 0
        while first < kinds.size:
            first, n = _fold(self.state, kinds, places, at, first, books, trades, changes, rows)
            made.append(rows[:n].copy())
        return np.concatenate(made)

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

    def save(self, file: BinaryIO) -> None:
        """Write everything the fold remembers, so that another process goes on where this one stopped."""
        np.savez(file, allow_pickle=False, state=self.state.view(np.uint8), venues=np.array(self.venues))

    def restore(self, file: BinaryIO) -> None:
        """Go on from what `save` wrote, with the rates and fees in use here from the next book on.

        Raises
        ------
        ValueError
            If it was written by another version, or of other venues.
        """
        with np.load(file) as kept:
            if kept["state"].size != STATE.itemsize:
                raise ValueError(f"kept state must have {STATE.itemsize} bytes, received {kept['state'].size}: another version wrote it")
            if tuple(kept["venues"].tolist()) != self.venues:
                raise ValueError(f"kept state must be of {', '.join(self.venues)}, received {', '.join(kept['venues'].tolist())}")
            state = kept["state"].view(STATE)
        for name in ("rate", "fee"):
            state["venue"][name] = self.state["venue"][name]
        self.state = state
