"""What happened after each moment: targets to learn, never inputs.

Every label carries its span, first and last moment it looks at: splits purge by it, and
`doubt_over` throws out what touches an interval in which the book could not be trusted.
Series come as arrays in folding order, stamped by the venue's clock.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.errors import ShapeError, TooLittleDataError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PROFIT, LIMIT, STOP, UNDECIDED = 1, 0, -1, -2
_BLOCK = 64  # rows whose extremes are known in advance, so that a search skips them at once


@dataclass(frozen=True)
class HorizonReturns:
    """Returns over a fixed horizon, one a row; NaN where they cannot be known."""

    vol_return: Floats  # in sigmas: the return over what the recent past makes usual for the horizon
    return_bps: Floats
    sigma_bps: Floats  # standard deviation a square root of second, from the past alone
    start_ns: Ints
    end_ns: Ints


@dataclass(frozen=True)
class Barriers:
    """First of profit, stop and time limit, one a row."""

    label: Ints  # 1 the long pays, -1 the short pays, 0 neither
    touch_ns: Ints  # when that was settled: the end of the label's span
    ret_bps: Floats  # what the trade earned after spread and fees; the better of the two where neither pays; NaN undecided
    barrier: Ints  # PROFIT, STOP, LIMIT of that trade, UNDECIDED where data or book end first


def volatility_normalized_return(
    exchange_ns: Ints,
    price: Floats,
    horizon_ns: int,
    half_life_ns: float = 60e9,
    warmup_ns: int = 10_000_000_000,
    intervals: Ints | None = None,
) -> HorizonReturns:
    """Return how far the price goes within the horizon, in units of its usual move.

    The return is the log return from the row to the last row no later than `t + horizon_ns`.
    Sigma is the root of the squared log returns up to and including the row, over the time
    they took, both decaying with the half-life: a variance a second, so irregular rows need
    no resampling.  It begins anew behind a doubtful interval: what the price did meanwhile is
    no return of a moment.

    Parameters
    ----------
    exchange_ns : ndarray of int64, shape (n,)
        Non-decreasing.
    price : ndarray of float64, shape (n,)
        Weighted mid, mid or microprice; NaN where there is none.
    horizon_ns : int
        How far to look ahead.
    half_life_ns : float
        Of the memory of sigma.
    warmup_ns : int
        Rows before this much of the series, or of what follows a doubtful interval, has passed have no sigma.
    intervals : ndarray of int64, shape (m, 3), optional
        Coverage, as `doubt_over` takes it; without it the whole series is believed.

    Returns
    -------
    HorizonReturns
        NaN where the horizon passes the end of the series, where a price is missing, and
        (`vol_return` only) where sigma is not yet known or zero.

    Raises
    ------
    ShapeError
        If the times decrease or the lengths differ.

    Examples
    --------
    >>> second = 1_000_000_000
    >>> t = np.arange(6) * second
    >>> price = 100 * np.exp(1e-4 * np.array([0, 1, 0, 1, 3, 3]))
    >>> r = volatility_normalized_return(t, price, 2 * second, half_life_ns=1e18, warmup_ns=second)
    >>> r.return_bps.round(6)
    array([ 0.,  0.,  3.,  2., nan, nan])
    >>> r.vol_return.round(3)
    array([  nan, 0.   , 2.121, 1.414,   nan,   nan])
    """
    check_times(exchange_ns, price)
    log_price = np.log(price)
    doubtful = np.zeros(len(exchange_ns), np.bool_)
    if intervals is not None and len(exchange_ns):
        # An interval ends with the book that can be believed again, so the step behind that one counts.
        doubtful[1:] = doubt_over(exchange_ns[:-1] + 1, exchange_ns[1:], intervals) != 0
    sigma = _sigma(exchange_ns, log_price, doubtful, math.log(2) / half_life_ns, warmup_ns)
    end_ns = exchange_ns + horizon_ns
    last = np.searchsorted(exchange_ns, end_ns, side="right") - 1
    ret = log_price[last] - log_price
    if len(exchange_ns):
        ret[end_ns > exchange_ns[-1]] = np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        usual = sigma * math.sqrt(horizon_ns * 1e-9)
        vol_return = np.where(usual > 0, ret / usual, np.nan)
    return HorizonReturns(vol_return, ret * 1e4, sigma * 1e4, exchange_ns.copy(), end_ns)


@njit(cache=True)
def _sigma(exchange_ns: Ints, log_price: Floats, doubtful: NDArray[np.bool_], rate: float, warmup_ns: int) -> Floats:
    # `doubtful`: the step that led to the row touches a doubtful interval
    n = len(exchange_ns)
    sigma = np.full(n, np.nan)
    squares, seconds = 0.0, 0.0
    seen = -1  # last row with a price
    first_ns = 0
    for i in range(n):
        if doubtful[i]:
            squares, seconds, seen = 0.0, 0.0, -1
        if math.isnan(log_price[i]):
            continue
        if seen < 0:
            first_ns = exchange_ns[i]
        else:
            elapsed_ns = exchange_ns[i] - exchange_ns[seen]
            keep = math.exp(-rate * elapsed_ns)
            move = log_price[i] - log_price[seen]
            squares = squares * keep + move * move
            seconds = seconds * keep + elapsed_ns * 1e-9
        seen = i
        if seconds > 0 and exchange_ns[i] - first_ns >= warmup_ns:
            sigma[i] = math.sqrt(squares / seconds)
    return sigma


def clip_limits(vol_return: Floats, quantiles: tuple[float, float] = (0.005, 0.995)) -> tuple[float, float]:
    """Return the limits beyond which returns are clipped; give it the training window only.

    Examples
    --------
    >>> clip_limits(np.array([-9.0, -1, 0, 1, 9, np.nan]), (0.25, 0.75))
    (-1.0, 1.0)
    """
    known = vol_return[~np.isnan(vol_return)]
    if not len(known):
        raise TooLittleDataError("fitting clip limits", 1, 0)
    low, high = np.quantile(known, quantiles)
    return float(low), float(high)


def direction(vol_return: Floats, threshold: float) -> Ints:
    """Return 1 above the threshold, -1 below its negative, else 0; a NaN is 0 too: drop it first.

    Examples
    --------
    >>> direction(np.array([0.6, -0.6, 0.5, np.nan]), 0.5)
    array([ 1, -1,  0,  0])
    """
    return (vol_return > threshold).astype(np.int64) - (vol_return < -threshold).astype(np.int64)


def triple_barrier(
    exchange_ns: Ints,
    bid: Floats,
    ask: Floats,
    profit_spreads: float,
    stop_spreads: float,
    limit_ns: int,
    fee_bps: float,
) -> Barriers:
    """Return which trade, opened at this row with market orders, would have paid.

    A long enters at the ask and leaves at the bid, a short the reverse, each at the first
    later row beyond its profit or stop barrier, or at the last row within the limit.  Profit
    lies `profit_spreads` of the row's spread plus the fees of both sides from the entry,
    stop `stop_spreads` of it plus the fees on the other side: a trade that touches profit
    has earned `profit_spreads` net.  The label is the trade that touches its profit first,
    before its own stop.

    Parameters
    ----------
    exchange_ns : ndarray of int64, shape (n,)
        Non-decreasing.
    bid, ask : ndarray of float64, shape (n,)
        Touch prices; a NaN touches nothing, and a row without a positive spread is undecided.
    profit_spreads, stop_spreads : float
        Barriers in multiples of the spread at the row; never of a past range.
    limit_ns : int
        Longest life of a trade.
    fee_bps : float
        Taker fee of one side.

    Returns
    -------
    Barriers
        Undecided rows (series or book end first) have label 0, NaN return, and the whole
        limit as span.  Where neither side pays, both trades were followed to their end, so
        the span ends with the later of them.

    References
    ----------
    López de Prado (2018), Advances in Financial Machine Learning, ch. 3; with spreads, not
    volatility, as unit, and both sides traded at the touch.

    Examples
    --------
    >>> t = np.arange(4) * 1_000_000_000
    >>> bid = np.array([99.0, 100.0, 102.0, 102.0])
    >>> b = triple_barrier(t, bid, bid + 1, 1, 2, 2_000_000_000, fee_bps=0)
    >>> b.label, b.touch_ns // 1_000_000_000, b.ret_bps.round(1)
    (array([1, 1, 0, 0]), array([2, 2, 4, 5]), array([200.,  99.,  nan,  nan]))
    """
    check_times(exchange_ns, bid)
    check_times(exchange_ns, ask)
    return Barriers(*_triple_barrier(exchange_ns, bid, ask, profit_spreads, stop_spreads, limit_ns, fee_bps))


@njit(cache=True)
def _triple_barrier(
    exchange_ns: Ints, bid: Floats, ask: Floats, profit_spreads: float, stop_spreads: float, limit_ns: int, fee_bps: float
) -> tuple[Ints, Ints, Floats, Ints]:
    n = len(exchange_ns)
    label = np.zeros(n, np.int64)
    touch_ns = exchange_ns + limit_ns
    ret_bps = np.full(n, np.nan)
    barrier = np.full(n, UNDECIDED, np.int64)
    bid_high, bid_low = _extremes(bid)
    ask_high, ask_low = _extremes(ask)
    last = 0
    for i in range(n):
        while last + 1 < n and exchange_ns[last + 1] <= exchange_ns[i] + limit_ns:
            last += 1
        spread = ask[i] - bid[i]
        if not spread > 0:
            continue
        complete = exchange_ns[n - 1] >= exchange_ns[i] + limit_ns
        fees = 2e-4 * fee_bps * 0.5 * (ask[i] + bid[i])
        profit = profit_spreads * spread + fees
        stop = stop_spreads * spread + fees
        long_end = _first_beyond(bid, bid_high, bid_low, i + 1, last, ask[i] - stop, ask[i] + profit)
        short_end = _first_beyond(ask, ask_high, ask_low, i + 1, last, bid[i] - profit, bid[i] + stop)
        long_pays = long_end >= 0 and bid[long_end] >= ask[i] + profit
        short_pays = short_end >= 0 and ask[short_end] <= bid[i] - profit
        if not complete and ((long_end < 0 and not short_pays) or (short_end < 0 and not long_pays)):
            continue
        long_exit = long_end if long_end >= 0 else last
        short_exit = short_end if short_end >= 0 else last
        long_bps = 1e4 * (bid[long_exit] - ask[i]) / ask[i] - 2 * fee_bps
        short_bps = 1e4 * (bid[i] - ask[short_exit]) / bid[i] - 2 * fee_bps
        if long_pays and (not short_pays or long_end <= short_end):
            label[i], touch_ns[i], ret_bps[i], barrier[i] = 1, exchange_ns[long_end], long_bps, PROFIT
        elif short_pays:
            label[i], touch_ns[i], ret_bps[i], barrier[i] = -1, exchange_ns[short_end], short_bps, PROFIT
        else:
            if math.isnan(long_bps) or math.isnan(short_bps):
                continue  # the book was empty when the limit came
            if long_end >= 0 and short_end >= 0:
                touch_ns[i] = exchange_ns[max(long_end, short_end)]
            end = long_end if long_bps >= short_bps else short_end
            ret_bps[i] = max(long_bps, short_bps)
            barrier[i] = STOP if end >= 0 else LIMIT
    return label, touch_ns, ret_bps, barrier


@njit(cache=True)
def _extremes(price: Floats) -> tuple[Floats, Floats]:
    n_blocks = (len(price) + _BLOCK - 1) // _BLOCK
    high, low = np.full(n_blocks, -np.inf), np.full(n_blocks, np.inf)
    for i in range(len(price)):
        block = i // _BLOCK
        if price[i] > high[block]:
            high[block] = price[i]
        if price[i] < low[block]:
            low[block] = price[i]
    return high, low


@njit(cache=True)
def _first_beyond(price: Floats, high: Floats, low: Floats, first: int, last: int, floor: float, ceiling: float) -> int:
    """Return the first row in `first..last` at or beyond floor or ceiling, -1 if there is none."""
    i = first
    while i <= last:
        if i % _BLOCK == 0 and high[i // _BLOCK] < ceiling and low[i // _BLOCK] > floor:
            i += _BLOCK
        elif price[i] >= ceiling or price[i] <= floor:
            return i
        else:
            i += 1
    return -1


def doubt_over(start_ns: Ints, end_ns: Ints, intervals: Ints) -> Ints:
    """Return the code of the first doubtful interval that each span touches, 0 if it touches none.

    Parameters
    ----------
    start_ns, end_ns : ndarray of int64, shape (n,)
        Spans, both ends included.
    intervals : ndarray of int64, shape (m, 3)
        Start, end, both included, and state of each stretch of coverage; state 0 is fine.

    Examples
    --------
    >>> doubt_over(np.array([0, 4, 9]), np.array([3, 6, 12]), np.array([[0, 4, 0], [5, 8, 2]]))
    array([0, 2, 0])
    """
    intervals = np.asarray(intervals, np.int64).reshape(-1, 3)
    bad = intervals[intervals[:, 2] != 0]
    bad = bad[np.argsort(bad[:, 0], kind="stable")]
    if not len(bad):
        return np.zeros(len(start_ns), np.int64)
    # The first interval whose end, or an earlier one's, reaches the span is itself that one.
    first = np.searchsorted(np.maximum.accumulate(bad[:, 1]), start_ns, side="left")
    at = np.minimum(first, len(bad) - 1)
    touches = (first < len(bad)) & (bad[at, 0] <= end_ns)
    return np.where(touches, bad[at, 2], 0)


def check_times(exchange_ns: Any, values: Any) -> None:
    """Refuse values of another length than their times, and times that run backwards."""
    if exchange_ns.shape != values.shape or exchange_ns.ndim != 1:
        raise ShapeError("prices", f"of shape {exchange_ns.shape}", values.shape)
    if len(exchange_ns) and (np.diff(exchange_ns) < 0).any():
        raise ShapeError("exchange_ns", "non-decreasing", f"a step back at row {int(np.argmax(np.diff(exchange_ns) < 0)) + 1}")
