"""Labels of where the book's price goes next: past what an order would cost, and smoothed over the rows to come.

Like `models.labels` every label carries the span it looked at; what cannot be known is NaN
and has label 0: drop it first.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.errors import ShapeError
from models.labels import check_times

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class CostlyMoves:
    """Moves of the micro-price that are worth more than an order costs, one a row."""

    label: Ints  # 1 up, -1 down, 0 too small to pay
    weight: Floats  # 0 to 1; NaN where the move is unknown
    move_bps: Floats  # of the micro-price over the horizon; NaN where unknown
    start_ns: Ints
    end_ns: Ints


@dataclass(frozen=True)
class SmoothedMoves:
    """Mean of the next mids against the mid of the row, one a row."""

    label: Ints  # 1 up, -1 down, 0 within the threshold
    move_bps: Floats  # NaN where a mid is missing or the series ends first
    start_ns: Ints
    end_ns: Ints  # stamp of the last mid taken; where the series ends first, of its last row


def microstructure(
    exchange_ns: Ints,
    microprice: Floats,
    bid: Floats,
    ask: Floats,
    buy_cost_bps: Floats,
    sell_cost_bps: Floats,
    imbalance: Floats,
    horizon_ns: int,
) -> CostlyMoves:
    """Return which way the micro-price goes by more than half the spread and the sweep of an order.

    The move runs from the row to the last row no later than `t + horizon_ns`.  A rise must
    exceed half the spread plus the cost to buy, a fall that plus the cost to sell: the order
    sweeps in and leaves at the touch.

    Parameters
    ----------
    exchange_ns : ndarray of int64, shape (n,)
        Non-decreasing.
    microprice, bid, ask : ndarray of float64, shape (n,)
        Price; NaN where there is none.
    buy_cost_bps, sell_cost_bps : ndarray of float64, shape (n,)
        Of the order against the mid, see `sweep_cost_bps`.  Where the book is thinner than the
        order (NaN) no move pays: label 0.
    imbalance : ndarray of float64, shape (n,)
        `imbalance_5`.  The weight is its size where its sign is the label's, else one minus it.
    horizon_ns : int
        How far to look ahead.

    Raises
    ------
    ShapeError
        If the times decrease or lengths differ.

    Examples
    --------
    >>> ns, micro = np.arange(3) * 10, np.array([100.0, 101.0, 101.0])
    >>> cost = np.full(3, 20.0)
    >>> m = microstructure(ns, micro, micro - 0.5, micro + 0.5, cost, cost, np.array([0.8, 0.8, 0.8]), 10)
    >>> m.label, m.weight.round(1), m.move_bps.round()
    (array([1, 0, 0]), array([0.8, 0.2, nan]), array([100.,   0.,  nan]))
    """
    for values in (microprice, bid, ask, buy_cost_bps, sell_cost_bps, imbalance):
        check_times(exchange_ns, values)
    label, weight, move_bps = _microstructure(exchange_ns, microprice, bid, ask, buy_cost_bps, sell_cost_bps, imbalance, horizon_ns)
    return CostlyMoves(label, weight, move_bps, exchange_ns.copy(), exchange_ns + horizon_ns)


@njit(cache=True)
def _microstructure(
    exchange_ns: Ints, price: Floats, bid: Floats, ask: Floats, buy_bps: Floats, sell_bps: Floats, imbalance: Floats, horizon_ns: int
) -> tuple[Ints, Floats, Floats]:
    n = len(exchange_ns)
    label, weight, moves = np.zeros(n, np.int64), np.full(n, np.nan), np.full(n, np.nan)
    last = 0
    for i in range(n):
        if exchange_ns[i] + horizon_ns > exchange_ns[n - 1]:
            break
        while last + 1 < n and exchange_ns[last + 1] <= exchange_ns[i] + horizon_ns:
            last += 1
        mid = (bid[i] + ask[i]) / 2.0
        move = 1e4 * (price[last] - price[i]) / mid
        half = 1e4 * (ask[i] - bid[i]) / (2.0 * mid)
        if math.isnan(move) or math.isnan(imbalance[i]):
            continue
        if move > half + buy_bps[i]:
            label[i] = 1
        elif -move > half + sell_bps[i]:
            label[i] = -1
        size = abs(imbalance[i])
        weight[i] = size if label[i] * imbalance[i] > 0.0 else 1.0 - size
        moves[i] = move
    return label, weight, moves


def sweep_cost_bps(price: Floats, size: Floats, mid: Floats, notional: float) -> Floats:
    """Return how far from the mid an order of `notional` trades on average, bps; NaN where the book is thinner.

    Parameters
    ----------
    price, size : ndarray of float64, shape (n, levels)
        One side, the touch first; a size of 0 ends it.
    mid : ndarray of float64, shape (n,)
        Price.
    notional : float
        Quote units.

    Examples
    --------
    >>> sweep_cost_bps(np.array([[101.0, 102.0]]), np.array([[1.0, 1.0]]), np.array([100.0]), 152.0).round(1)
    array([133.3])
    """
    if price.shape != size.shape or price.ndim != 2 or mid.shape != price.shape[:1]:
        raise ShapeError("sizes and mids", f"of shape {price.shape} and {price.shape[:1]}", (size.shape, mid.shape))
    return _sweep(price, size, mid, float(notional))


@njit(cache=True)
def _sweep(price: Floats, size: Floats, mid: Floats, notional: float) -> Floats:
    out = np.full(len(mid), np.nan)
    for i in range(len(mid)):
        left, base = notional, 0.0
        for k in range(price.shape[1]):
            if not size[i, k] > 0.0:
                break
            worth = price[i, k] * size[i, k]
            if worth >= left:
                base += left / price[i, k]
                out[i] = 1e4 * abs(notional / base - mid[i]) / mid[i]
                break
            left -= worth
            base += size[i, k]
    return out


def smoothed_direction(exchange_ns: Ints, mid: Floats, k: int, alpha: float) -> SmoothedMoves:
    """Return which way the mean of the next `k` mids lies from the mid, beyond the threshold `alpha`.

    Parameters
    ----------
    exchange_ns : ndarray of int64, shape (n,)
        Non-decreasing.
    mid : ndarray of float64, shape (n,)
        Price; NaN where there is none.
    k : int
        Rows, not time, as in the published tables; the row itself is not among them.
    alpha : float
        Share of the mid: 0.002 % is 2e-5.

    Raises
    ------
    ShapeError
        If the times decrease, lengths differ, or `k` is below 1.

    References
    ----------
    Zhang, Zohren & Roberts (2019), "DeepLOB: Deep Convolutional Neural Networks for Limit Order
    Books", IEEE Transactions on Signal Processing 67(11), eqs. 3 and 4.

    Examples
    --------
    >>> s = smoothed_direction(np.arange(5), np.array([100.0, 101.0, 103.0, 102.0, 100.0]), 2, 0.005)
    >>> s.label, s.move_bps.round(), s.end_ns
    (array([ 1,  1, -1,  0,  0]), array([ 200.,  149., -194.,   nan,   nan]), array([2, 3, 4, 4, 4]))
    """
    check_times(exchange_ns, mid)
    if k < 1:
        raise ShapeError("k", "1 or more", k)
    move = _smoothed(mid, k)
    label = (move > alpha).astype(np.int64) - (move < -alpha).astype(np.int64)
    last = np.minimum(np.arange(len(mid)) + k, max(len(mid) - 1, 0))
    return SmoothedMoves(label, 1e4 * move, exchange_ns.copy(), exchange_ns[last])


@njit(cache=True)
def _smoothed(mid: Floats, k: int) -> Floats:
    out = np.full(len(mid), np.nan)
    for i in range(len(mid) - k):
        total = 0.0  # of differences: no digit is lost to the height of the price
        for j in range(i + 1, i + k + 1):
            total += mid[j] - mid[i]
        out[i] = total / k / mid[i]
    return out
