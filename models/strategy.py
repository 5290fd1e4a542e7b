"""What predictions are worth: trades they call for, and what is left after costs.

The trades are the plainest there are: in when the probability is extreme, out when the
horizon is over, one at a time, priced at the mid.  Costs are then taken off in tiers, because
at this horizon they decide everything; no Sharpe ratio is given without them.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.stats import kurtosis, norm, skew

from models.errors import CostsMissingError, ShapeError
from models.evaluation import Interval, mean_interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# All costs of a round trip, in bps of notional: from a rebate-paid maker's to a retail taker's.
COST_TIERS_BPS = (0.5, 1.0, 2.0, 4.0, 7.0, 10.0)
LATENCY_TIERS_NS = (0, 10_000_000, 100_000_000, 500_000_000)
_YEAR_S = 365 * 86_400


@dataclass(frozen=True)
class Trades:
    """Trades one after another; `gross_bps` is what the mid did, `spread_bps` what crossing cost on top."""

    entry_ns: Ints
    exit_ns: Ints
    side: Ints
    gross_bps: Floats
    spread_bps: Floats  # half the spread at entry and half at exit


@dataclass(frozen=True)
class Tier:
    """What a trade leaves at one cost."""

    cost_bps: float
    net_bps: Interval  # mean of a trade
    total_bps: float
    win_rate: float
    sharpe: float  # annualised from elapsed time
    deflated_sharpe: float  # chance that the true Sharpe ratio is above what the best of so many trials shows by luck
    max_drawdown_bps: float


def entry_limits(probability: Floats, share: float = 0.1) -> tuple[float, float]:
    """Return the probabilities below and above which to trade: the outer `share` of those given.

    Give it probabilities of the past, never the ones to be traded.  Where they are all alike,
    or there are none, nothing is extreme, and nothing is traded.

    Examples
    --------
    >>> entry_limits(np.linspace(0, 1, 101), 0.2)
    (0.1, 0.9)
    """
    if not len(probability):
        return -math.inf, math.inf
    low, high = np.quantile(probability, [share / 2, 1 - share / 2])
    return (float(low), float(high)) if low < high else (-math.inf, math.inf)


def trade(
    exchange_ns: Ints, probability: Floats, bid: Floats, ask: Floats, low: Any, high: Any, horizon_ns: int, latency_ns: int = 0
) -> Trades:
    """Return the trades that extreme probabilities call for, never two at once.

    Parameters
    ----------
    exchange_ns : ndarray of int64, shape (n,)
        Non-decreasing.
    probability : ndarray of float64, shape (n,)
        NaN where it must not be acted on (doubtful book, no prediction).
    bid, ask : ndarray of float64, shape (n,)
        Touch prices.
    low, high : float or ndarray of float64, shape (n,)
        Short at or below `low`, long at or above `high`.
    horizon_ns : int
        How long a trade is held.
    latency_ns : int
        Time from book to fill: entered, and left, at the book of then.

    Returns
    -------
    Trades
        Those whose exit lies within the data and whose books had both sides.

    Examples
    --------
    >>> t = np.arange(5)
    >>> mid = np.array([100.0, 101.0, 101.0, 101.0, 100.0])
    >>> trades = trade(t, np.array([0.9, 0.9, 0.5, 0.1, 0.5]), mid - 0.5, mid + 0.5, 0.2, 0.8, 1)
    >>> trades.side, trades.gross_bps.round(1)
    (array([ 1,  1, -1]), array([100.,   0.,  99.]))
    """
    if not exchange_ns.shape == probability.shape == bid.shape == ask.shape:
        raise ShapeError("books and predictions", f"of shape {exchange_ns.shape}", (probability.shape, bid.shape, ask.shape))
    lows = np.broadcast_to(np.asarray(low, np.float64), probability.shape)
    highs = np.broadcast_to(np.asarray(high, np.float64), probability.shape)
    entry, leave, side = _trade(exchange_ns, probability, np.ascontiguousarray(lows), np.ascontiguousarray(highs), horizon_ns, latency_ns)
    mid, half = (bid + ask) / 2, (ask - bid) / 2
    gross = side * 1e4 * (mid[leave] / mid[entry] - 1)
    spread = 1e4 * (half[entry] + half[leave]) / mid[entry]
    keep = np.isfinite(gross) & np.isfinite(spread)
    return Trades(exchange_ns[entry][keep], exchange_ns[leave][keep], side[keep], gross[keep], spread[keep])


@njit(cache=True)
def _trade(exchange_ns: Ints, probability: Floats, low: Floats, high: Floats, horizon_ns: int, latency_ns: int) -> tuple[Ints, Ints, Ints]:
    n = len(exchange_ns)
    entry, leave, side = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    count = 0
    at, out = 0, 0
    free_ns = exchange_ns[0] if n else 0
    for i in range(n):
        t = exchange_ns[i]
        wish = 1 if probability[i] >= high[i] else -1 if probability[i] <= low[i] else 0
        if wish == 0 or t < free_ns or t + latency_ns + horizon_ns > exchange_ns[n - 1]:
            continue
        while at + 1 < n and exchange_ns[at + 1] <= t + latency_ns:
            at += 1
        while out + 1 < n and exchange_ns[out + 1] <= t + latency_ns + horizon_ns:
            out += 1
        # Without latency the fill is at this very book, not at a later one of the same stamp.
        entry[count] = at if latency_ns > 0 else i
        leave[count] = out
        side[count] = wish
        count += 1
        free_ns = t + latency_ns + horizon_ns
    return entry[:count], leave[:count], side[:count]


def break_even_bps(trades: Trades) -> float:
    """Return the cost of a round trip, in bps, at which the trades earn nothing; NaN without trades."""
    return float(trades.gross_bps.mean()) if len(trades.gross_bps) else float("nan")


def net_bps(trades: Trades, cost_bps: float) -> Floats:
    """Return what each trade earns after `cost_bps` a round trip."""
    return trades.gross_bps - cost_bps


def sharpe(net: Floats, cost_bps: float | None, elapsed_s: float) -> float:
    """Return the Sharpe ratio of trades after costs, annualised by elapsed time; NaN below two trades.

    Raises
    ------
    CostsMissingError
        If no cost was taken off: at this horizon such a number misleads.
    """
    if cost_bps is None or not cost_bps > 0:
        raise CostsMissingError(cost_bps)
    if len(net) < 2 or not elapsed_s > 0 or not net.std(ddof=1) > 0:
        return float("nan")
    return float(net.mean() / net.std(ddof=1) * math.sqrt(len(net) * _YEAR_S / elapsed_s))


def probabilistic_sharpe(net: Floats, benchmark: float = 0.0) -> float:
    """Return the chance that the true Sharpe ratio a trade is above the benchmark.

    Parameters
    ----------
    net : ndarray of float64, shape (n,)
        What each trade earned.
    benchmark : float
        A Sharpe ratio a trade, not annualised.

    References
    ----------
    Bailey and López de Prado (2012), "The Sharpe Ratio Efficient Frontier".
    """
    n = len(net)
    if n < 3 or not net.std(ddof=1) > 0:
        return float("nan")
    ratio = net.mean() / net.std(ddof=1)
    spread = 1 - skew(net) * ratio + (kurtosis(net, fisher=False) - 1) / 4 * ratio**2
    return float(norm.cdf((ratio - benchmark) * math.sqrt(n - 1) / math.sqrt(max(spread, 1e-12))))


def deflated_sharpe(net: Floats, n_trials: int, trial_std: float | None = None) -> float:
    """Return the probabilistic Sharpe ratio against the best that so many trials show by luck.

    Parameters
    ----------
    net : ndarray of float64, shape (n,)
        What each trade earned, after costs.
    n_trials : int
        Models tried before this one was chosen, this one included.
    trial_std : float, optional
        Standard deviation of the trials' Sharpe ratios a trade; by default what no skill at
        all would show.

    References
    ----------
    Bailey and López de Prado (2014), "The Deflated Sharpe Ratio".
    """
    if len(net) < 3:
        return float("nan")
    std = 1 / math.sqrt(len(net) - 1) if trial_std is None else trial_std
    if n_trials < 2:
        return probabilistic_sharpe(net)
    gamma = 0.5772156649015329
    luck = std * ((1 - gamma) * norm.ppf(1 - 1 / n_trials) + gamma * norm.ppf(1 - 1 / (n_trials * math.e)))
    return probabilistic_sharpe(net, float(luck))


def tiers(trades: Trades, block_ns: int, elapsed_s: float, n_trials: int = 1, costs_bps: tuple[float, ...] = COST_TIERS_BPS) -> list[Tier]:
    """Return what the trades leave at each cost, with bounds from drawing blocks of time."""
    found = []
    for cost in costs_bps:
        net = net_bps(trades, cost)
        total = np.cumsum(net)
        drawdown = float((np.maximum.accumulate(np.maximum(total, 0.0)) - total).max()) if len(net) else 0.0
        found.append(
            Tier(
                cost,
                mean_interval(net, trades.entry_ns, block_ns),
                float(net.sum()),
                float((net > 0).mean()) if len(net) else float("nan"),
                sharpe(net, cost, elapsed_s),
                deflated_sharpe(net, n_trials),
                drawdown,
            )
        )
    return found


def equity(trades: Trades, cost_bps: float) -> tuple[Ints, Floats]:
    """Return exit times and the running sum of what trades earned after the cost, in bps of notional."""
    return trades.exit_ns, np.cumsum(net_bps(trades, cost_bps))
