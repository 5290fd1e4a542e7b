"""A limit order book that trades with itself, seeded.  Knows no wire format and no clock.

Five things happen, at random times: a level behind the touch is placed, resized or
cancelled; a best queue grows or shrinks; a trade eats part of a best queue; both best
prices move, or one of them does; a trade sweeps levels and the price moves with it.

**What can be learned.**  A slow hidden pressure (an AR(1) process with six seconds' memory)
tilts the sign of the next move and, the same way, the queues and the trades' sides: so
imbalances tell something about the future.  With `hidden=False` the pressure is zero, and
then nothing does, exactly: the mid only changes by moves whose sign is a fair coin tossed at
that moment, and no rate, jump or queue knows the coins tossed so far.  That is why queues
are never emptied by cancels or ordinary trades (in a book of pure chance the thinner queue
foretells the next mid), why a widened spread closes from either side alike (closing it
from the wide side would pull the mid back), and why sweeps happen in the very instant of a
depth message (a reader who joins trades to the last depth message would otherwise see the
trade before the move).
"""

from collections.abc import Iterator
from dataclasses import fields

import numpy as np

from simulator import book_kernel as kernel
from simulator.instruments import Instrument

DEPTH, TICKER, TRADE = kernel.DEPTH, kernel.TICKER, kernel.TRADE

# How strongly the pressure (standard deviation one) shows, in log odds a unit.
MEMORY_S = 6.0
MOVE_TILT, QUEUE_TILT, TRADE_TILT = 0.75, 0.40, 0.45
PULL = 1.2  # the same, a mean move away from the price to `follow`


class Market:
    """One instrument's book and the events it makes.

    Parameters
    ----------
    instrument : Instrument
        Grid, rates and cadence.
    seed : int
        Same seed, same market; however it is cut into calls of `advance`.
    start_ns : int
        Exchange time at which it opens.
    hidden : bool
        Whether the hidden pressure exists.

    Examples
    --------
    >>> from simulator.instruments import instrument
    >>> market = Market(instrument("binance_usdm", "BTCUSDT"), seed=1, start_ns=0)
    >>> events, levels = market.advance(1_000_000_000)
    >>> bool((events["kind"] == DEPTH).sum() > 10), market.best()[0] < market.best()[2]
    (True, True)
    """

    def __init__(self, instrument: Instrument, seed: int, start_ns: int, hidden: bool = True):
        self.instrument, self.seed = instrument, seed
        self._state = state = np.zeros(1, kernel.STATE)
        entropy = [seed, *instrument.venue.encode(), *instrument.raw_symbol.encode()]
        self._rng = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
        self._sizes = np.zeros((2, kernel.RING), np.int64)
        self._marks = np.zeros((2, kernel.RING), np.int64)
        self._dirty = np.zeros((2, kernel.RING), np.int64)
        self._out = np.zeros(kernel.EVENTS, kernel.EVENT)
        self._levels = np.zeros((kernel.LEVELS, 2), np.int64)
        for name in {field.name for field in fields(instrument)} & set(kernel.STATE.names or ()):
            state[name] = getattr(instrument, name)
        state["depth_ns"] = instrument.depth_ms * 1e6
        state["memory_s"], state["move_tilt"], state["queue_tilt"], state["trade_tilt"] = MEMORY_S, MOVE_TILT, QUEUE_TILT, TRADE_TILT
        state["hidden"], state["batch"] = hidden, 1
        state["now_ns"] = start_ns
        state["bid"] = round(instrument.start_price * 10**instrument.price_decimals)
        # Ids follow the clock, so that they keep growing when a server is started again.
        state["update_id"] = 1 + start_ns // 1_000_000_000 * (200_000 if instrument.id_jump else 1_000)
        state["trade_id"] = start_ns // 1_000_000_000 * 100
        kernel.open_book(state, self._rng, self._sizes)

    def follow(self, price: float) -> None:
        """Draw the mid towards a price from now on, in quote units: what the asset is worth elsewhere."""
        self._state["anchor"], self._state["pull"] = price * 10**self.instrument.price_decimals, PULL

    @property
    def now_ns(self) -> int:
        """Return the exchange time up to which events have been made."""
        return int(self._state["now_ns"][0])

    @property
    def update_id(self) -> int:
        """Return the id of the last change of the book."""
        return int(self._state["update_id"][0])

    @property
    def pressure(self) -> float:
        """Return the hidden state: positive pushes up, standard deviation one; 0 when off."""
        return float(self._state["pressure"][0])

    def best(self) -> tuple[int, int, int, int]:
        """Return best bid and its size, best ask and its size, in ticks and size units."""
        bid, ask = int(self._state["bid"][0]), int(self._state["ask"][0])
        return bid, int(self._sizes[0, bid & kernel.MASK]), ask, int(self._sizes[1, ask & kernel.MASK])

    def advance(self, until_ns: int, stop_at_depth: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Return the events up to a time, and the levels that their depth messages point at.

        Parameters
        ----------
        until_ns : int
            Exchange time to reach; fewer events may come when the output is full (`now_ns` tells).
        stop_at_depth : bool
            Return behind the first depth message.

        Returns
        -------
        events : ndarray of EVENT
            In the order of time.  Valid until the next call.
        levels : ndarray of int64, shape (m, 2)
            Ticks and size units; a depth event's are `levels[a : a + b]` for bids, the next `c` for asks.
        """
        book = self._state, self._rng, self._sizes, self._marks, self._dirty
        events, levels = kernel.advance(*book, self._out, self._levels, until_ns, stop_at_depth)
        return self._out[:events], self._levels[:levels]

    def snapshot(self, limit: int = 1000) -> tuple[np.ndarray, np.ndarray]:
        """Return bids and asks from the touch outward, each (n <= limit, 2) ticks and size units."""
        return kernel.walk(self._state, self._sizes, 0, limit), kernel.walk(self._state, self._sizes, 1, limit)

    def run(self, until_ns: int, step_ns: int = 250_000_000) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield `advance` in steps until a time is reached."""
        while self.now_ns < until_ns:
            yield self.advance(min(self.now_ns + step_ns, until_ns))
