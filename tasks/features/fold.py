"""The one fold: books, trades and changes of coverage in, a row of features for each book out.

Live folds one event a call, batch a day; both through the same step.  Nothing else computes a feature.
"""

from typing import BinaryIO

import numpy as np
from numba import njit

from models.fits import Fits
from models.microprice import microprice
from tasks.features.bar_catalogue import SPANS_S
from tasks.features.bars import BAR, BARS, N_SPANS, begin, book_bar, close_second, doubt_bars, new_bars, trade_bar
from tasks.features.book import book_features
from tasks.features.catalogue import NAMES, REGIME
from tasks.features.flow import advance, flow_features, oldest_trade, on_book, on_trade
from tasks.features.state import BOOK_ENTRY, SECOND, SPANS, STATE, TRADE_ENTRY, new_ring, new_state, restart, wider_ring
from warehouse.schema import OK, row_dtype

META = np.dtype([("exchange_ns", "i8"), ("receive_ns", "i8"), ("seq", "i8"), ("event_seq", "i8"), ("clean_ns", "i8"), ("doubt", "i8")])
_TRADES, _CHANGES = (np.zeros(0, row_dtype(t)) for t in ("trades", "coverage_changes"))
_DONE, _BOOK_ROOM, _TRADE_ROOM, _BAR_ROOM = range(4)
_WIDTH, _BARS_WAITING = len(NAMES), 512
_SILENCE_S = 10 * 86_400  # what is longer is not told second by second
_MICRO = NAMES.index("microprice")
_SPREAD, _IMBALANCE, _BID, _ASK, _VPIN = (NAMES.index(n) for n in ("spread_bps", "imbalance_5", "depth_bid_5", "depth_ask_5", "vpin"))


@njit(cache=True)
def _close_bars(s, books, trades, b, closed, exchange_ns, receive_ns, event_seq):
    # Bring the clock to an event, from one whole second to the next; False where there is no room for the rows.
    # Numbers of the event, not its row: three kinds of rows would be compiled apart.
    second = max(exchange_ns, s["clock_ns"]) // SECOND
    if b["second"] == 0 or second - b["second"] > _SILENCE_S:
        begin(b, second)
        return True
    while second >= b["second"]:
        if b["closed"] + N_SPANS > closed.size:
            return False
        advance(s, books, trades, b["second"] * SECOND)
        impact = s["aged_total"][0] + s["aged_lost"][0]
        close_second(b, impact, s["aged_n"], receive_ns, event_seq, closed)
    return True


@njit(cache=True)
def _turn(s, b, doubt, ns):
    restart(s, doubt, ns)
    doubt_bars(b, doubt)


@njit(cache=True)
def _on_trade(s, books, trades, b, row):
    advance(s, books, trades, row["exchange_ns"])
    trade_bar(b, row["price"], row["size"], float(row["aggressor"]), s["mid"])
    on_trade(s, trades, row)


@njit(cache=True)
def _on_book(s, books, trades, b, row, meta, out, tick, table):
    advance(s, books, trades, row["exchange_ns"])
    doubt = s["doubt"] if s["doubt"] != OK else row["doubt"]
    meta["exchange_ns"] = row["exchange_ns"]
    meta["receive_ns"] = row["receive_ns"]
    meta["seq"] = row["seq"]
    meta["event_seq"] = row["event_seq"]
    meta["clean_ns"] = s["clock_ns"] - s["clean_since_ns"]
    meta["doubt"] = doubt
    if doubt != OK or not (row["bid_sz"][0] > 0.0 and row["ask_sz"][0] > 0.0):
        for i in range(_WIDTH):
            out[i] = np.nan
        meta["clean_ns"] = 0
        if s["doubt"] == OK:  # a side without a level has no mid: nothing may be measured across it
            _turn(s, b, s["doubt"], s["clock_ns"])
        return
    book_features(row, out)
    out[REGIME] = out[REGIME + 1] = np.nan
    if table.size:
        out[_MICRO] = microprice(row["bid_px"][0], row["ask_px"][0], row["bid_sz"][0], row["ask_sz"][0], tick, table)
    on_book(s, books, row, out)
    flow_features(s, books, trades, out)
    book_bar(b, out[0], out[_SPREAD], out[_IMBALANCE], out[_BID], out[_ASK], out[_VPIN])


@njit(cache=True, nogil=True)  # days of other streams fold beside it in threads
def fold(state, bars, book_ring, trade_ring, books, trades, changes, at, meta, out, closed, tick, table):
    """Fold events, merged by `event_seq`, from the positions in `at`; stop early when there is no room."""
    s, bar = state[0], bars[0]
    b, t, c, k = at[0], at[1], at[2], at[3]
    last = np.int64(0x7FFFFFFFFFFFFFFF)
    while b < books.size or t < trades.size or c < changes.size:
        book_at = books[b]["event_seq"] if b < books.size else last
        trade_at = trades[t]["event_seq"] if t < trades.size else last
        change_at = changes[c]["event_seq"] if c < changes.size else last
        if change_at < book_at and change_at < trade_at:
            if bar["second"] and not _close_bars(
                s, book_ring, trade_ring, bar, closed, changes[c]["exchange_ns"], changes[c]["receive_ns"], changes[c]["event_seq"]
            ):
                at[0], at[1], at[2], at[3] = b, t, c, k
                return _BAR_ROOM
            _turn(s, bar, changes[c]["state"], changes[c]["exchange_ns"])
            c += 1
        elif trade_at < book_at:
            if s["doubt"] == OK and trades[t]["backfill"] == 0:  # history is not news
                if s["trade_head"] - oldest_trade(s) >= trade_ring.size:
                    at[0], at[1], at[2], at[3] = b, t, c, k
                    return _TRADE_ROOM
                if not _close_bars(
                    s, book_ring, trade_ring, bar, closed, trades[t]["exchange_ns"], trades[t]["receive_ns"], trades[t]["event_seq"]
                ):
                    at[0], at[1], at[2], at[3] = b, t, c, k
                    return _BAR_ROOM
                _on_trade(s, book_ring, trade_ring, bar, trades[t])
            t += 1
        else:
            if s["book_head"] - s["book_tail"][4] >= book_ring.size:
                at[0], at[1], at[2], at[3] = b, t, c, k
                return _BOOK_ROOM
            if not _close_bars(
                s, book_ring, trade_ring, bar, closed, books[b]["exchange_ns"], books[b]["receive_ns"], books[b]["event_seq"]
            ):
                at[0], at[1], at[2], at[3] = b, t, c, k
                return _BAR_ROOM
            _on_book(s, book_ring, trade_ring, bar, books[b], meta[k], out[k], tick, table)
            b += 1
            k += 1
    at[0], at[1], at[2], at[3] = b, t, c, k
    return _DONE


@njit(cache=True)
def _live_book(state, bars, book_ring, trade_ring, row, meta, out, closed, tick, table):
    s = state[0]
    if s["book_head"] - s["book_tail"][4] >= book_ring.size:
        return _BOOK_ROOM
    if not _close_bars(s, book_ring, trade_ring, bars[0], closed, row[0]["exchange_ns"], row[0]["receive_ns"], row[0]["event_seq"]):
        return _BAR_ROOM
    _on_book(s, book_ring, trade_ring, bars[0], row[0], meta[0], out[0], tick, table)
    return _DONE


@njit(cache=True)
def _live_trade(state, bars, book_ring, trade_ring, row, closed):
    s = state[0]
    if s["doubt"] == OK and row[0]["backfill"] == 0:
        if s["trade_head"] - oldest_trade(s) >= trade_ring.size:
            return _TRADE_ROOM
        if not _close_bars(s, book_ring, trade_ring, bars[0], closed, row[0]["exchange_ns"], row[0]["receive_ns"], row[0]["event_seq"]):
            return _BAR_ROOM
        _on_trade(s, book_ring, trade_ring, bars[0], row[0])
    return _DONE


@njit(cache=True)
def _live_change(state, bars, book_ring, trade_ring, row, closed):
    if bars[0]["second"] and not _close_bars(
        state[0], book_ring, trade_ring, bars[0], closed, row[0]["exchange_ns"], row[0]["receive_ns"], row[0]["event_seq"]
    ):
        return _BAR_ROOM
    _turn(state[0], bars[0], row[0]["state"], row[0]["exchange_ns"])
    return _DONE


def _room(entry: np.dtype, rows: np.ndarray) -> np.ndarray:
    # A ring that will about hold the busiest 300 s; it grows where that was too little.
    ns = rows["exchange_ns"][::256]
    peak = int((np.arange(ns.size) - np.searchsorted(ns, ns - SPANS[-1])).max()) if ns.size else 0
    return new_ring(entry, max(4096, 1 << (256 * (peak + 2)).bit_length()))


class Features:
    """The features of one stream, folded event by event or day by day.

    Parameters
    ----------
    fits : Fits, optional
        Fitted on an earlier stretch: `microprice` and its drift, and `garch_vol` of the bars, are then theirs.
    keeps_bars : bool
        False where nobody will ask for `bars`, as in a live stream: closed ones are dropped, or they would pile up.

    Attributes
    ----------
    fits : Fits
        In use.
    meta, out : ndarray
        After `live`: the row of the last book, shapes (1,) and (1, n features).

    Examples
    --------
    >>> from tasks.features.catalogue import NAMES
    >>> book = np.zeros(1, row_dtype("l2_snapshots"))
    >>> book["bid_px"], book["ask_px"] = 100.0 - np.arange(20), 101.0 + np.arange(20)
    >>> book["bid_sz"], book["ask_sz"] = 3.0, 1.0
    >>> good = np.zeros(1, row_dtype("coverage_changes"))
    >>> book["event_seq"] = 1
    >>> meta, out = Features().batch(book, changes=good)
    >>> out[0, NAMES.index("imbalance_1")]
    np.float64(0.5)
    """

    def __init__(self, fits: Fits | None = None, keeps_bars: bool = True) -> None:
        self._keeps_bars = keeps_bars
        self.state, self._bars = new_state(), new_bars()
        self.use(fits or Fits())
        self._closed, self._taken = np.zeros(_BARS_WAITING, BAR), [np.zeros(0, BAR)]
        self._book_ring = new_ring(BOOK_ENTRY)
        self._trade_ring = new_ring(TRADE_ENTRY)
        self.meta = np.zeros(1, META)
        self.out = np.zeros((1, _WIDTH))
        self.row = self.out[0]

    def use(self, fits: Fits) -> None:
        """Go on with other fits: from the next event on, and nothing of the past is forgotten."""
        self.fits = fits
        self._tick, self._table = float(fits.microprice.tick), np.array(fits.microprice.table, np.float64, order="C")
        for k, span_s in enumerate(SPANS_S):
            fit = fits.garch.get(span_s)
            self._bars[0]["series"][k]["garch"] = (fit.omega, fit.alpha, fit.beta) if fit else (0.0, 0.0, 0.0)

    def _make_room(self, code: int) -> None:
        s = self.state[0]
        if code == _BAR_ROOM:
            self._take()
        elif code == _BOOK_ROOM:
            self._book_ring = wider_ring(self._book_ring, s["book_head"], s["book_tail"][4])
        else:
            self._trade_ring = wider_ring(self._trade_ring, s["trade_head"], oldest_trade(s))

    def _take(self) -> None:
        if n := int(self._bars["closed"][0]):
            if self._keeps_bars:
                self._taken.append(self._closed[:n].copy())
            self._bars["closed"] = 0

    def bars(self) -> np.ndarray:
        """Return the bars that closed since the last call, all lengths in the order of closing: records of BAR."""
        self._take()
        rows = np.concatenate(self._taken)
        del self._taken[1:]
        return rows

    def book(self, row: np.ndarray) -> np.ndarray:
        """Fold one book, shape (1,), and return its features: a view of shape (n features,), valid until the next."""
        while code := _live_book(
            self.state, self._bars, self._book_ring, self._trade_ring, row, self.meta, self.out, self._closed, self._tick, self._table
        ):
            self._make_room(code)
        return self.row

    def trade(self, row: np.ndarray) -> None:
        """Fold one trade, shape (1,)."""
        while code := _live_trade(self.state, self._bars, self._book_ring, self._trade_ring, row, self._closed):
            self._make_room(code)

    def change(self, row: np.ndarray) -> None:
        """Fold one change of coverage, shape (1,)."""
        while code := _live_change(self.state, self._bars, self._book_ring, self._trade_ring, row, self._closed):
            self._make_room(code)

    def save(self, file: BinaryIO) -> None:
        """Write everything the fold remembers, so that another process goes on where this one stopped."""
        self._take()
        kept = {"state": self.state, "bars": self._bars, "books": self._book_ring, "trades": self._trade_ring}
        np.savez(file, allow_pickle=False, **{name: array.view(np.uint8) for name, array in kept.items()})

    def restore(self, file: BinaryIO) -> None:
        """Go on from what `save` wrote, with the fits in use here.

        Raises
        ------
        ValueError
            If it was written by features of another shape.
        """
        with np.load(file) as kept:
            for name, own in (("state", self.state), ("bars", self._bars)):
                size = kept[name].size if name in kept else 0
                if size != own.nbytes:
                    raise ValueError(f"kept {name} must have {own.nbytes} bytes, received {size}: another version wrote it")
            self.state, self._bars = kept["state"].view(STATE), kept["bars"].view(BARS)
            self._book_ring, self._trade_ring = kept["books"].view(BOOK_ENTRY), kept["trades"].view(TRADE_ENTRY)
        self.use(self.fits)

    def batch(self, books: np.ndarray, trades: np.ndarray = _TRADES, changes: np.ndarray = _CHANGES) -> tuple[np.ndarray, np.ndarray]:
        """Fold rows of the three tables, each in order, and return the meta records and the matrix of features.

        Parameters
        ----------
        books, trades, changes : ndarray
            Record types of `l2_snapshots`, `trades` and `coverage_changes`, sorted by `event_seq`.

        Returns
        -------
        meta : ndarray of META, shape (n books,)
        out : ndarray of float64, shape (n books, n features)
            NaN during warm-up and on doubtful rows.
        """
        meta, out = np.zeros(books.size, META), np.empty((books.size, _WIDTH))
        if not self.state[0]["book_head"] and not self.state[0]["trade_head"]:  # nothing to copy yet: make room at once
            self._book_ring, self._trade_ring = _room(BOOK_ENTRY, books), _room(TRADE_ENTRY, trades)
        at = np.zeros(4, np.int64)
        while code := fold(
            self.state, self._bars, self._book_ring, self._trade_ring, books, trades, changes, at, meta, out, self._closed,
            self._tick, self._table,
        ):  # fmt: skip
            self._make_room(code)
        return meta, out
