"""What is usual for a series: mean and deviation of its last 300 whole seconds, the present one left out.

A second is a bucket of count, mean and sum of squared deviations, so memory is bounded
whatever the rate, and nothing drifts: each second all buckets are added up afresh.
"""

import numpy as np
from numba import njit

SECONDS = 300
_MIN_SAMPLES = 30  # of fewer there is no telling what is usual
_FLAT = 1e-9  # a deviation below this share of the mean is rounding


def baseline_dtype(n_series: int) -> np.dtype:
    """Return the record that remembers the last 300 s of some series.

    Examples
    --------
    >>> baseline_dtype(1).itemsize
    7264
    """
    row, ring = (n_series,), (SECONDS, n_series)
    return np.dtype(
        [
            ("closed", "i8"),  # whole seconds so far
            ("mean", "f8", row),
            ("per_std", "f8", row),  # 1 / deviation, 0 where the series is flat, NaN where it is not known yet
            ("open_n", "f8", row),
            ("open_mean", "f8", row),
            ("open_square", "f8", row),
            ("ring_n", "f8", ring),
            ("ring_mean", "f8", ring),
            ("ring_square", "f8", ring),
            ("total_n", "f8", row),  # room to add up in
            ("total_square", "f8", row),
        ],
        align=True,
    )


@njit(cache=True)
def baseline_restart(b):
    """Forget everything."""
    b["closed"] = 0
    b["per_std"][:] = np.nan
    b["open_n"][:] = 0.0
    b["open_mean"][:] = 0.0
    b["open_square"][:] = 0.0


@njit(cache=True)
def baseline_add(b, i, x):
    """Put one value of a series into the open second; NaN and infinity are no values."""
    if not np.isfinite(x):
        return
    n = b["open_n"][i] + 1.0
    away = x - b["open_mean"][i]
    b["open_n"][i] = n
    b["open_mean"][i] += away / n
    b["open_square"][i] += away * (x - b["open_mean"][i])


@njit(cache=True)
def baseline_close(b):
    """Close the open second: from now on it belongs to what is usual."""
    at = b["closed"] % SECONDS
    n_series = b["mean"].size
    for i in range(n_series):
        b["ring_n"][at, i] = b["open_n"][i]
        b["ring_mean"][at, i] = b["open_mean"][i]
        b["ring_square"][at, i] = b["open_square"][i]
        b["open_n"][i] = 0.0
        b["open_mean"][i] = 0.0
        b["open_square"][i] = 0.0
    b["closed"] += 1
    if b["closed"] < SECONDS:
        return
    n, mean, square = b["total_n"], b["mean"], b["total_square"]
    for i in range(n_series):
        n[i] = 0.0
        mean[i] = 0.0
        square[i] = 0.0
    for j in range(at + 1, at + 1 + SECONDS):  # oldest first, so that it does not matter when the ring began
        k = j if j < SECONDS else j - SECONDS
        for i in range(n_series):
            n[i] += b["ring_n"][k, i]
            mean[i] += b["ring_n"][k, i] * b["ring_mean"][k, i]
    for i in range(n_series):
        mean[i] /= max(1.0, n[i])
    for j in range(at + 1, at + 1 + SECONDS):
        k = j if j < SECONDS else j - SECONDS
        for i in range(n_series):
            away = b["ring_mean"][k, i] - mean[i]
            square[i] += b["ring_square"][k, i] + b["ring_n"][k, i] * away * away
    for i in range(n_series):
        std = np.sqrt(square[i] / max(1.0, n[i]))
        b["per_std"][i] = np.nan if n[i] < _MIN_SAMPLES else 1.0 / std if std > _FLAT * abs(mean[i]) else 0.0


@njit(cache=True)
def standardise(b, i, x):
    """Return how many deviations a value is above what is usual; 0 on a flat series, NaN before 300 s."""
    return (x - b["mean"][i]) * b["per_std"][i]
