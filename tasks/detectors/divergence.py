"""Signals between venues: a price that can be bought here and sold there, funding rates that part."""

from typing import BinaryIO

import numpy as np
from numba import njit
from numpy.typing import NDArray

from warehouse.schema import ARBITRAGE, FUNDING_DIVERGENCE, row_dtype

ARB_BPS = 0.0  # net of both taker fees: anything above is a gain on paper
FUNDING_DELTA = 5e-4  # of the notional, per 8 hours
COOLDOWN_S = 30.0

_LONG_AGO = -(1 << 62)
_SIGNAL = row_dtype("signals")
LIMIT = np.dtype([("limit", "f8"), ("cooldown_ns", "i8"), ("clock_ns", "i8"), ("said_ns", "i8")], align=True)
_STATE = np.dtype([("arb", LIMIT), ("funding", LIMIT), ("signals", "i8")], align=True)


@njit(cache=True)
def limit_step(s, value, exchange_ns):
    """Return whether a value passes its limit and the last time it did is longer ago than the cooldown; NaN never does."""
    if exchange_ns > s["clock_ns"]:
        s["clock_ns"] = exchange_ns
    if not value > s["limit"] or s["clock_ns"] - s["said_ns"] < s["cooldown_ns"]:
        return False
    s["said_ns"] = s["clock_ns"]
    return True


@njit(cache=True)
def _say(s, row, kind, value, limit, signal):
    signal["exchange_ns"] = row["exchange_ns"]
    signal["receive_ns"] = row["receive_ns"]
    signal["event_seq"] = row["seq"]
    signal["seq"] = s["signals"]
    signal["kind"] = kind
    signal["side"] = 0
    signal["score"] = value
    signal["threshold"] = limit
    signal["cusum"] = np.nan
    signal["burst"] = np.nan
    signal["bocpd"] = np.nan
    signal["spectral_residual"] = np.nan
    signal["arb_bps"] = row["arb_bps"]
    signal["funding_delta"] = row["funding_delta"]
    s["signals"] += 1


@njit(cache=True)
def divergence_step(s, row, signals):
    """Hold one row of `consolidated` against both limits; return how many signals it made, 0 to 2."""
    n = 0
    if limit_step(s["arb"], row["arb_bps"], row["exchange_ns"]):
        _say(s, row, ARBITRAGE, row["arb_bps"], s["arb"]["limit"], signals[n])
        n += 1
    if limit_step(s["funding"], row["funding_delta"], row["exchange_ns"]):
        _say(s, row, FUNDING_DIVERGENCE, row["funding_delta"], s["funding"]["limit"], signals[n])
        n += 1
    return n


@njit(cache=True)
def _fold(state, rows, signals):
    n = 0
    for i in range(rows.size):
        n += divergence_step(state[0], rows[i], signals[n : n + 2])
    return n


class Divergence:
    """Arbitrage and funding signals of one base asset, folded row by row or day by day.

    Parameters
    ----------
    arb_bps : float
        Gain after both taker fees, bps, that must be passed.
    funding_delta : float
        Highest less lowest funding rate, share of the notional, that must be passed.
    cooldown_s : float
        Least time between two signals of one kind, on the exchange clock.
    first_seq : int
        `seq` of the first signal.

    Examples
    --------
    >>> rows = np.zeros(3, row_dtype("consolidated"))
    >>> rows["exchange_ns"], rows["arb_bps"] = np.array([0, 10, 40]) * 1_000_000_000, [2.0, 3.0, 1.5]
    >>> Divergence().batch(rows)["score"]
    array([2. , 1.5])
    """

    def __init__(
        self, arb_bps: float = ARB_BPS, funding_delta: float = FUNDING_DELTA, cooldown_s: float = COOLDOWN_S, first_seq: int = 0
    ) -> None:
        self.state = np.zeros(1, _STATE)
        self.state["signals"] = first_seq
        for name, limit in (("arb", arb_bps), ("funding", funding_delta)):
            self.state[name] = (limit, round(cooldown_s * 1e9), _LONG_AGO, _LONG_AGO)
        self._signals = np.zeros(2, _SIGNAL)

    def step(self, row: NDArray) -> NDArray:
        """Fold one row of `consolidated`, shape (1,), and return its signals: a view of up to two, valid until the next."""
        return self._signals[: _fold(self.state, row, self._signals)]

    def batch(self, rows: NDArray) -> NDArray:
        """Fold rows in their order and return the signals, shape (n signals,)."""
        signals = np.zeros(2 * rows.size + 2, _SIGNAL)
        return signals[: _fold(self.state, rows, signals)]

    def resume(self, signals: NDArray) -> None:
        """Keep the distance from signals that were given before, records of `signals` in their order."""
        for name, kind in (("arb", ARBITRAGE), ("funding", FUNDING_DIVERGENCE)):
            ours = signals["exchange_ns"][signals["kind"] == kind]
            if ours.size:
                self.state[name]["said_ns"] = ours.max()
                self.state[name]["clock_ns"] = ours.max()

    def save(self, file: BinaryIO) -> None:
        """Write when each signal was last given, so that another process goes on where this one stopped."""
        np.savez(file, state=self.state.view(np.uint8))

    def restore(self, file: BinaryIO) -> None:
        """Go on from what `save` wrote, limits included.

        Raises
        ------
        ValueError
            If it was written by another version.
        """
        with np.load(file) as kept:
            if kept["state"].size != _STATE.itemsize:
                raise ValueError(f"kept state must have {_STATE.itemsize} bytes, received {kept['state'].size}: another version wrote it")
            self.state = kept["state"].view(_STATE)
