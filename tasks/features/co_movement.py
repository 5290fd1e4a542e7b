"""How venues move together: what the fold over venues remembers, and correlations of it."""

import math

import numpy as np
from numba import njit

from tasks.features.cross_catalogue import CROSS_NAMES

MOST = 16  # venues
STEP_NS = 250_000_000  # a row each
AGE_NS = 2_000_000_000  # an older book is not there
GRID_NS, GRID, MINUTE = 100_000_000, 601, 60
DEPTH = 10  # levels a side, of each venue and of all together
_LAGS = 10
RING = 4 * MINUTE  # steps of a minute

VENUE = np.dtype(
    [
        ("ns", "i8"),  # exchange time of the last book; 0 where there is none, or a doubtful one
        ("bid", "f8"), ("ask", "f8"), ("mid", "f8"), ("px", "f8", (2, DEPTH)), ("sz", "f8", (2, DEPTH)),
        ("doubt", "i8"),  # state of its stream
        ("rate", "f8"), ("fee", "f8"), ("side", "i8"),  # quote conversion, taker fee in bps, 1 Binance, 2 Bybit
        ("funding", "f8"), ("deviation", "f8"), ("lead", "f8"),
        ("volume", "f8", (MINUTE + 1,)),  # by second
        ("closes", "f8", (MINUTE + 1,)),  # mid at the end of each second
        ("grid", "f8", (GRID,)),  # mid at each tenth of a second
    ],
    align=True,
)  # fmt: skip
STATE = np.dtype(
    [
        ("n", "i8"), ("clock_ns", "i8"), ("step", "i8"), ("tenth", "i8"), ("second", "i8"), ("began_ns", "i8"), ("arb_ns", "i8"),
        ("average", "f8", (RING,)), ("divergence", "f8", (RING,)), ("best_bid_at", "i8"), ("best_ask_at", "i8"),
        ("best_bid", "f8"), ("best_ask", "f8"), ("late_ns", "i8"), ("venue", VENUE, (MOST,)),
    ],
    align=True,
)  # fmt: skip
ROW = np.dtype(
    [
        ("exchange_ns", "i8"), ("receive_ns", "i8"), ("best_bid", "f8"), ("best_ask", "f8"), ("best_bid_at", "i8"), ("best_ask_at", "i8"),
        ("late_ms", "f8"), ("values", "f8", (len(CROSS_NAMES),)),
        ("mid", "f8", (MOST,)), ("deviation", "f8", (MOST,)), ("lead", "f8", (MOST,)),
    ],
    align=True,
)  # fmt: skip
_SYNC, _LEAD, _VOL_RATIO, _VOL_DISPERSION = (
    CROSS_NAMES.index(n) for n in ("price_sync_correlation", "lead_lag_coefficient", "cross_venue_vol_ratio", "vol_dispersion")
)


@njit(cache=True)
def _returns(v, tenth, i):
    # Log return over the i-th tenth back, NaN where unknown.
    a, b = v["grid"][(tenth - i) % GRID], v["grid"][(tenth - i - 1) % GRID]
    return math.log(a / b) if a > 0.0 and b > 0.0 else np.nan


@njit(cache=True)
def _correlation(x, y, lag):
    # Of x before y by `lag`; arrays run from the newest backward.  NaN where one does not move.
    n = 0
    sx = sy = sxx = syy = sxy = 0.0
    for i in range(x.size - lag):
        a, b = x[i + lag], y[i]
        if np.isnan(a) or np.isnan(b):
            continue
        n += 1
        sx += a
        sy += b
        sxx += a * a
        syy += b * b
        sxy += a * b
    if n < 30:
        return np.nan
    vx, vy = sxx - sx * sx / n, syy - sy * sy / n
    if vx <= 1e-12 * sxx or vy <= 1e-12 * syy or vx <= 0.0 or vy <= 0.0:
        return np.nan
    return (sxy - sx * sy / n) / math.sqrt(vx * vy)


@njit(cache=True)
def movement(s, out, row, here):
    """Write correlations of 100 ms returns over 60 s, and what each venue leads by."""
    n = s["n"]
    r = np.full((n, GRID - 1), np.nan)
    for i in range(n):
        if here[i]:
            for k in range(GRID - 1):
                r[i, k] = _returns(s["venue"][i], s["tenth"], k)
    total = 0.0
    pairs = 0
    for i in range(n):
        for j in range(i):
            if here[i] and here[j]:
                c = _correlation(r[i], r[j], 0)
                if not np.isnan(c):
                    total += c
                    pairs += 1
    if pairs:
        out[_SYNC] = total / pairs
    others = np.empty(GRID - 1)
    for i in range(n):
        if not here[i]:
            continue
        for k in range(GRID - 1):
            m, total = 0, 0.0
            for j in range(n):
                if j != i and not np.isnan(r[j, k]):
                    total += r[j, k]
                    m += 1
            others[k] = total / m if m else np.nan
        lead = 0.0
        known = 0
        for lag in range(1, _LAGS + 1):
            before, after = _correlation(r[i], others, lag), _correlation(others, r[i], lag)
            if not np.isnan(before) and not np.isnan(after):
                lead += before - after
                known += 1
        if known == _LAGS:
            row["lead"][i] = lead


@njit(cache=True)
def volatilities(s, out, here):
    """Write highest over lowest realised volatility of 60 s, and how they scatter."""
    total = squares = 0.0
    low, high = np.inf, 0.0
    m = 0
    second = s["tenth"] // 10
    for i in range(s["n"]):
        if not here[i]:
            continue
        closes = s["venue"][i]["closes"]
        vol = 0.0
        for k in range(MINUTE):
            a, b = closes[(second - k) % (MINUTE + 1)], closes[(second - k - 1) % (MINUTE + 1)]
            vol += math.log(a / b) ** 2
        if np.isnan(vol):
            continue
        vol = math.sqrt(vol)
        total += vol
        squares += vol * vol
        low, high = min(low, vol), max(high, vol)
        m += 1
    if m > 1:
        out[_VOL_RATIO] = high / low if low > 0.0 else np.nan
        mean = total / m
        out[_VOL_DISPERSION] = math.sqrt(max(0.0, squares / m - mean * mean)) / mean if mean > 0.0 else 0.0
