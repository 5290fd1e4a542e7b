"""How late rows are, counted in the hot path: receive less exchange time, in buckets of under 2 %.

Buckets count from a little below the least latency seen, so that they stay fine when the
clocks are far apart; a later message that is quicker moves the origin.
"""

import numpy as np
from numba import njit

_ORIGIN, _N, _LEAST, _RECENT, _HEAD = 0, 1, 2, 3, 4  # origin ns; samples; least ns and samples since the last look
_FINE = 64  # buckets an octave
BUCKETS = 32 * _FINE
_BELOW_NS = 2_000_000
_EXCHANGE, _RECEIVE, _BACKFILL = 0, 1, 8  # places in rows of `l2_snapshots` and `trades`


def new_histogram() -> np.ndarray:
    """Return an empty histogram."""
    return np.zeros(_HEAD + BUCKETS, np.int64)


@njit(cache=True)
def _bucket(us):
    if us < _FINE:
        return max(us, 0)
    shift = 0
    while (us >> shift) >= 2 * _FINE:
        shift += 1
    return min((shift + 1) * _FINE + (us >> shift) - _FINE, BUCKETS - 1)


@njit(cache=True)
def _middle_us(bucket):
    if bucket < _FINE:
        return bucket + 0.5
    shift = bucket // _FINE - 1
    return ((bucket % _FINE + _FINE) + 0.5) * 2.0**shift


@njit(cache=True)
def add_book(row, histogram):
    """Count one book row, given as its words."""
    _add(row[_RECEIVE] - row[_EXCHANGE], histogram)


@njit(cache=True)
def add_trade(row, histogram):
    """Count one trade row, given as its words, unless it is history."""
    if row[_BACKFILL] == 0:
        _add(row[_RECEIVE] - row[_EXCHANGE], histogram)


@njit(cache=True)
def _add(late_ns, h):
    if h[_N] == 0:
        h[_ORIGIN] = late_ns - _BELOW_NS
    elif late_ns < h[_ORIGIN]:
        _move(h, late_ns - _BELOW_NS)
    if h[_RECENT] == 0 or late_ns < h[_LEAST]:
        h[_LEAST] = late_ns
    h[_RECENT] += 1
    h[_N] += 1
    h[_HEAD + _bucket((late_ns - h[_ORIGIN]) // 1000)] += 1


@njit(cache=True)
def _move(h, origin_ns):
    by_us = (h[_ORIGIN] - origin_ns) // 1000
    counts = h[_HEAD:].copy()
    h[_HEAD:] = 0
    h[_ORIGIN] = origin_ns
    for bucket in range(BUCKETS):
        if counts[bucket]:
            h[_HEAD + _bucket(np.int64(_middle_us(bucket)) + by_us)] += counts[bucket]


def least(histogram: np.ndarray) -> tuple[int, int]:
    """Return the least latency in ns and the number of rows since the last call."""
    found = int(histogram[_LEAST]), int(histogram[_RECENT])
    histogram[_RECENT] = 0
    return found


def quantiles_ms(histogram: np.ndarray, at: tuple[float, ...] = (0.5, 0.95, 0.99)) -> list[float]:
    """Return latencies in ms below which these shares of the rows lie; NaN of none; then forget the rows.

    Examples
    --------
    >>> histogram = new_histogram()
    >>> for ms in (5, 5, 5, 40):
    ...     add_book(np.array([0, ms * 1_000_000]), histogram)
    >>> [round(ms) for ms in quantiles_ms(histogram, (0.5, 0.99))]
    [5, 40]
    """
    counts = histogram[_HEAD:]
    n, origin_ms = int(counts.sum()), histogram[_ORIGIN] / 1e6
    if n == 0:
        return [float("nan")] * len(at)
    below = np.cumsum(counts)
    told = [origin_ms + _middle_us(int(np.searchsorted(below, share * n))) / 1e3 for share in at]
    counts[:] = 0
    histogram[_N] = 0
    return told
