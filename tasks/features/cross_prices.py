"""Prices of all venues side by side: how far they lie apart, what crossing them earns, what was traded where."""

import math

import numpy as np
from numba import njit

from tasks.features.co_movement import DEPTH, GRID_NS, MINUTE, MOST
from tasks.features.cross_catalogue import CROSS_NAMES

(
    _DISPERSION, _MAX_SPREAD, _DIVERGENCE, _DEVIATION, _ARB, _ARBS, _ARB_MS, _VW, _CONCENTRATION, _SYNC, _LEAD, _DEPTH, _SPREAD, _VOL_RATIO,
    _VOL_DISPERSION, _AVERAGE, _FUNDING, _MOMENTUM, _VOL_SPREAD, _RATIO, _NUM, _ALL,
) = range(len(CROSS_NAMES))  # fmt: skip


@njit(cache=True)
def opportunities(s, out, here, average):
    """Write what buying at one venue and selling at another earns net of fees, and for how long."""
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
def _depth(s, here, side):
    # Size at the ten best prices of all books laid into one; levels of one price are one level.
    at = np.zeros(MOST, np.int64)
    total = 0.0
    for _ in range(DEPTH):
        best = np.nan
        for i in range(s["n"]):
            v = s["venue"][i]
            if here[i] and at[i] < DEPTH and v["sz"][side, at[i]] > 0.0:
                price = v["px"][side, at[i]]
                if np.isnan(best) or (price < best if side else price > best):
                    best = price
        for i in range(s["n"]):
            v = s["venue"][i]
            if here[i] and at[i] < DEPTH and v["sz"][side, at[i]] > 0.0 and v["px"][side, at[i]] == best:
                total += v["sz"][side, at[i]]
                at[i] += 1
    return total


@njit(cache=True)
def prices(s, out, row, here):
    """Write what the mids, depths and volumes tell; return the mean of the mids, NaN with no venue there."""
    n = 0
    total = volume = weighted = 0.0
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
    bids, asks = _depth(s, here, 0), _depth(s, here, 1)
    out[_DEPTH] = (bids - asks) / (bids + asks) if bids + asks > 0.0 else np.nan
    out[_SPREAD] = 1e4 * (s["best_ask"] - s["best_bid"]) / average
    return average


@njit(cache=True)
def sides_and_funding(s, out, here):
    """Write Binance over Bybit, and how far the known funding rates lie apart."""
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
