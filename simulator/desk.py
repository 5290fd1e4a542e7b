"""One market as a venue's wire sees it: its book, its last trades, and its numbers as text."""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from simulator.book_kernel import DEPTH, TRADE
from simulator.market import Market
from simulator.past import Past
from simulator.view_kernel import changes

RECENT = 60  # trades kept for the backfills that venues send


def writer(decimals: int, pad: int = 0) -> Callable[[int], str]:
    """Return what writes whole units as the venue's text: the grid's decimals, then zeros that never change.

    Examples
    --------
    >>> writer(1, 1)(618002), writer(0, 2)(5), writer(0)(5)
    ('61800.20', '5.00', '5')
    """
    if not decimals and not pad:
        return str
    if not decimals:
        return f"%d.{'0' * pad}".__mod__
    scale, text = 10**decimals, f"%d.%0{decimals}d{'0' * pad}"
    return lambda units: text % divmod(units, scale)


class Trade(NamedTuple):
    """A trade that happened: time, the venue's number, ticks, size units, and +1 where the taker bought."""

    exchange_ns: int
    id: int
    tick: int
    units: int
    aggressor: int


class RestBook(NamedTuple):
    """A book as REST answers it: last update id, time, and sides from the touch outward."""

    update_id: int
    exchange_ns: int
    bids: np.ndarray
    asks: np.ndarray


class Desk:
    """One market of one venue.

    Parameters
    ----------
    market : Market

    Attributes
    ----------
    instrument : Instrument
    recent : deque of Trade
        The last trades, oldest first.
    price, size : callable
        Ticks and size units to the venue's text, trailing zeros included.
    past : Past
        What happened before, for REST history.
    skew_ns : int
        Venue clock minus true time; already in every stamp that a wire sees.
    old, serves_old : RestBook or None, and bool
        The last book that REST served, and whether it shall serve that once more.

    Examples
    --------
    >>> from simulator.instruments import instrument
    >>> desk = Desk(Market(instrument("binance_usdm", "BTCUSDT"), seed=1, start_ns=0))
    >>> beat = desk.advance(1_000_000_000)
    >>> int(beat.depth["kind"]) == DEPTH, len(desk.top(20)[0])
    (True, 20)
    """

    def __init__(self, market: Market):
        self.market, self.instrument = market, market.instrument
        self.past = Past(self.instrument, market.seed)
        self.recent: deque[Trade] = deque(maxlen=RECENT)
        self.price = writer(self.instrument.price_decimals, self.instrument.price_pad)
        self.size = writer(self.instrument.size_decimals, self.instrument.size_pad)
        self.skew_ns = 0
        self.old: RestBook | None = None
        self.serves_old = False

    @property
    def raw_symbol(self) -> str:
        """Return the venue's own name of the market."""
        return self.instrument.raw_symbol

    @property
    def now_ns(self) -> int:
        """Return the time of the market as the venue stamps it."""
        return self.market.now_ns + self.skew_ns

    def advance(self, until_ns: int) -> "Beat":
        """Return what happened up to a time, or to the next depth event if that comes first."""
        events, levels = self.market.advance(until_ns, stop_at_depth=True)
        if self.skew_ns:
            events["exchange_ns"] += self.skew_ns
            events["transact_ns"] += self.skew_ns
        beat = Beat(self, events, levels)
        self.recent += beat.trades()
        return beat

    def top(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Return bids and asks from the touch outward, each (m <= n, 2) ticks and size units."""
        return self.market.snapshot(n)

    def rest_book(self, limit: int) -> RestBook:
        """Return the book for a REST answer: the book of now, or the one before when told to serve that."""
        if self.serves_old and self.old:
            self.serves_old = False
            return self.old._replace(bids=self.old.bids[:limit], asks=self.old.asks[:limit])
        self.old = RestBook(self.market.update_id, self.now_ns, *self.top(limit))
        return self.old


class Beat:
    """What happened in one market: trades and tickers, and at most one depth event, which is the last.

    Attributes
    ----------
    desk : Desk
        In the state behind the last event.
    events : ndarray of EVENT
        Kinds DEPTH, TICKER, TRADE; fields as `simulator.market` fills them: TICKER id, a bid, b its
        size, c ask, d its size; TRADE id, a tick, b units, c aggressor; DEPTH id, first_id, previous_id, and
        where its levels are.  Valid until the next beat.
    levels : ndarray of int64, shape (m, 2)
    depth : void, optional
        The depth event, if there is one.
    """

    __slots__ = ("_trades", "depth", "desk", "events", "levels")

    def __init__(self, desk: Desk, events: np.ndarray, levels: np.ndarray):
        self.desk, self.events, self.levels = desk, events, levels
        kinds = events["kind"].tolist()
        self.depth = events[-1] if kinds and kinds[-1] == DEPTH else None
        self._trades = [Trade(*events[i].item()[2:4], *events[i].item()[6:9]) for i, kind in enumerate(kinds) if kind == TRADE]

    def changed(self) -> tuple[np.ndarray, np.ndarray]:
        """Return bids and asks that changed anywhere in the book, by rising price; size 0 is gone."""
        if (depth := self.depth) is None:
            return self.levels[:0], self.levels[:0]
        at, bids, asks = int(depth["a"]), int(depth["b"]), int(depth["c"])
        return self.levels[at : at + bids], self.levels[at + bids : at + bids + asks]

    def trades(self) -> list[Trade]:
        """Return the trades of the beat, oldest first."""
        return self._trades


class View:
    """The best levels of a book as a stream last published them.

    Parameters
    ----------
    depth : int
        Levels a side.
    tells_pushed_out : bool
        Whether a level that is only pushed out of the depth is published as size 0 (False: Kraken).

    Attributes
    ----------
    bids, asks : ndarray of int64, shape (n, 2)
        From the touch outward, ticks and size units: what a snapshot must show.
    """

    def __init__(self, depth: int, tells_pushed_out: bool = True):
        self.depth, self.tells_pushed_out = depth, tells_pushed_out
        self.bids = self.asks = np.empty((0, 2), np.int64)

    def turn(self, desk: Desk) -> tuple[list[list[int]], list[list[int]]]:
        """Take the book of now, and return changes of bids and asks from the touch outward, [tick, units]."""
        before = self.bids, self.asks
        self.bids, self.asks = desk.top(self.depth)
        return self._told(changes(before[0], self.bids, -1, len(self.bids) == self.depth)), self._told(
            changes(before[1], self.asks, 1, len(self.asks) == self.depth)
        )

    def _told(self, rows: np.ndarray) -> list[list[int]]:
        if self.tells_pushed_out:
            rows[:, 1] = np.maximum(rows[:, 1], 0)
        else:
            rows = rows[rows[:, 1] >= 0]
        return rows.tolist()  # type: ignore[no-any-return]
