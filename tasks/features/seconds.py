"""Features over closed one-second buckets, computed afresh at each whole second: nothing drifts."""

import numpy as np
from numba import njit

from tasks.features.catalogue import WINDOWS
from tasks.features.state import BUCKETS

_W = np.array(WINDOWS, np.int64)


@njit(cache=True)
def _before(i):
    # The bucket before this one in the ring; a division here costs more than the rest of the loop.
    return i - 1 if i else BUCKETS - 1


@njit(cache=True)
def _kyle(s, last, n):
    sx = sy = sxx = sxy = 0.0
    i = last
    for _ in range(n):
        x, y = s["b_signed"][i], s["b_move"][i]
        sx += x
        sy += y
        sxx += x * x
        sxy += x * y
        i = _before(i)
    spread = sxx - sx * sx / n
    return (sxy - sx * sy / n) / spread if spread > 1e-12 * sxx else 0.0


@njit(cache=True)
def _amihud(s, last):
    # Oldest first, wherever the ring stands: two folds that began at different seconds agree to the last bit.
    total = 0.0
    n = 0
    i = last
    for _ in range(BUCKETS):
        i = i + 1 if i + 1 < BUCKETS else 0
        if s["b_quote"][i] > 0.0:
            total += s["b_return"][i]
            n += 1
    return total / n if n else 0.0


@njit(cache=True)
def _volume_moments(s, last, w):
    # Mean and standard deviation of the volumes of every w seconds within the last 300.
    rolling = 0.0
    newest = last
    oldest = last
    for _ in range(w):
        rolling += s["b_volume"][oldest]
        oldest = _before(oldest)
    n = BUCKETS - w + 1
    total = 0.0
    squares = 0.0
    first = rolling  # moments about the newest volume: no division in the loop, no loss of small differences
    for k in range(n):
        if k:
            rolling += s["b_volume"][oldest] - s["b_volume"][newest]
            newest = _before(newest)
            oldest = _before(oldest)
        total += rolling - first
        squares += (rolling - first) * (rolling - first)
    mean = first + total / n
    squares = max(0.0, squares - total * total / n)
    return mean, np.sqrt(squares / n)


@njit(cache=True)
def close_seconds(s, second):
    """Close every bucket before `second`; empty seconds in between are buckets too.

    A silence longer than the 300 buckets leaves nothing but empty ones.
    """
    while s["second"] < second:
        if s["closed"] >= 0:
            i = s["closed"] % BUCKETS
            s["b_volume"][i] = s["open_volume"]
            s["b_signed"][i] = s["open_signed"]
            s["b_quote"][i] = s["open_quote"]
            known = not np.isnan(s["close_mid"])
            s["b_move"][i] = s["mid"] - s["close_mid"] if known else 0.0
            s["b_return"][i] = abs(np.log(s["mid"] / s["close_mid"])) / s["open_quote"] if known and s["open_quote"] > 0.0 else 0.0
        s["closed"] += 1
        s["close_mid"] = s["mid"]
        s["open_volume"] = 0.0
        s["open_signed"] = 0.0
        s["open_quote"] = 0.0
        s["second"] += 1
        if second - s["second"] > 2 * BUCKETS:  # a long silence: skip to its last 600 s
            skipped = second - s["second"] - 2 * BUCKETS
            s["second"] += skipped
            s["closed"] += skipped
    _refresh(s)


@njit(cache=True)
def _refresh(s):
    out = s["per_second"]
    last = (s["closed"] - 1) % BUCKETS
    if s["closed"] >= 30:
        out[6] = _kyle(s, last, 30)
    if s["closed"] >= BUCKETS:
        for k in range(3):
            out[2 * k], out[2 * k + 1] = _volume_moments(s, last, _W[k])
        out[7] = _kyle(s, last, BUCKETS)
        out[8] = _amihud(s, last)
