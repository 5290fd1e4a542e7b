"""Salience of a series' last point: what its spectrum holds beyond its own smooth course.

The window is 128 values and five extrapolated ones, so that the point in question is not the
edge.  133 is odd and short: a plain transform over symmetric pairs, whose inverse is taken
only where it is looked at, is quicker here than a fast one.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tasks.detectors.elementary import quick_exp, quick_log

WINDOW = 128
AVERAGE = 3  # bins of the spectrum's local average
SCORE_WINDOW = 21  # points before the last that its salience is held against
EXTRAPOLATED = 5
THRESHOLD = 3.0

_N = WINDOW + EXTRAPOLATED
_HALF = _N // 2  # bins above the constant one
_POINTS = SCORE_WINDOW + 1
_SILENT = 1e-10  # share of the greatest possible amplitude below which a bin is rounding

SPECTRAL = np.dtype(
    [
        ("seen", "i8"),
        ("ring", "f8", (WINDOW,)),
        ("score", "f8"),
        # Room to reckon in.
        ("x", "f8", (_N,)),
        ("re", "f8", (_HALF + 1,)),
        ("im", "f8", (_HALF + 1,)),
        ("log", "f8", (_HALF + 1,)),
        ("y", "f8", (_POINTS,)),
    ],
    align=True,
)

_pair, _bin = np.arange(1, _HALF + 1)[:, None], np.arange(_HALF + 1)[None, :]
_COS, _SIN = (np.ascontiguousarray(f(2.0 * np.pi * ((_pair * _bin) % _N) / _N)) for f in (np.cos, np.sin))
_point = np.arange(WINDOW - _POINTS, WINDOW)[None, :]
_BACK_COS, _BACK_SIN = (
    np.ascontiguousarray(f(2.0 * np.pi * ((np.arange(_HALF + 1)[:, None] * _point) % _N) / _N)) for f in (np.cos, np.sin)
)


@njit(cache=True)
def spectral_restart(s):
    """Forget the window."""
    s["seen"] = 0
    s["score"] = np.nan


@njit(cache=True)
def _unroll(s):
    # The window in order of time, from 0, and five times the point that the slopes before its last lead to.
    x, ring, head = s["x"], s["ring"], s["seen"] & (WINDOW - 1)
    origin = ring[head]
    for i in range(WINDOW - head):
        x[i] = ring[head + i] - origin
    for i in range(head):
        x[WINDOW - head + i] = ring[i] - origin
    before = WINDOW - 2
    slope = 0.0
    for i in range(1, EXTRAPOLATED + 1):
        slope += (x[before] - x[before - i]) / i
    guess = x[before - EXTRAPOLATED + 1] + slope  # mean slope x 5
    for i in range(EXTRAPOLATED):
        x[WINDOW + i] = guess


@njit(cache=True)
def _transform(s):
    # Real and imaginary part of bins 0 to 66; points n and 133 - n share their cosine.
    x, re, im = s["x"], s["re"], s["im"]
    for k in range(_HALF + 1):
        re[k] = x[0]
        im[k] = 0.0
    for n in range(1, _HALF + 1):
        even, odd = x[n] + x[_N - n], x[n] - x[_N - n]
        for k in range(_HALF + 1):
            re[k] += even * _COS[n - 1, k]
            im[k] -= odd * _SIN[n - 1, k]


@njit(cache=True, error_model="numpy")
def _divide_by_average(s, floor):
    # Amplitude exp(log a - average of log a) at the old phase is the old bin times exp(-average).
    # The constant bin is left out: how high a series stands says nothing of its shape.
    re, im, logs = s["re"], s["im"], s["log"]
    floor_log = quick_log(floor)
    for k in range(1, _HALF + 1):
        power = re[k] * re[k] + im[k] * im[k]
        if power > floor * floor:
            logs[k] = 0.5 * quick_log(power)
        else:
            logs[k] = floor_log
            re[k] = 0.0
            im[k] = 0.0
    for k in range(1, _HALF + 1):  # bin 67 mirrors 66; in the constant bin's place stands bin 1
        average = (logs[max(k - 1, 1)] + logs[k] + logs[min(k + 1, _HALF)]) / AVERAGE
        scale = quick_exp(-average)
        re[k] *= scale
        im[k] *= scale


@njit(cache=True)
def _score(s):
    # The last point's salience against the mean of the 21 before it.
    re, im, y = s["re"], s["im"], s["y"]
    for p in range(_POINTS):
        y[p] = 0.0
    for k in range(1, _HALF + 1):
        for p in range(_POINTS):
            y[p] += re[k] * _BACK_COS[k, p] - im[k] * _BACK_SIN[k, p]
    before = 0.0
    for p in range(SCORE_WINDOW):
        before += abs(y[p])
    before /= SCORE_WINDOW
    return (abs(y[SCORE_WINDOW]) - before) / before if before > 0.0 else 0.0


@njit(cache=True)
def spectral_step(s, x):
    """Take in one value and return by how many times its salience exceeds that of the 21 points before it.

    Parameters
    ----------
    s : record of SPECTRAL
    x : float
        In any unit, from any zero: the score does not change with them.  NaN leaves the state as it is and returns NaN.

    Returns
    -------
    float
        Above 3 is a flag.  NaN until there are 128 values; 0 where nothing moves.

    References
    ----------
    Ren et al. (2019), "Time-Series Anomaly Detection Service at Microsoft", KDD, with two
    departures.  The extrapolation leaves out the point in question, as the authors' code does
    and their formula does not: otherwise the five points repeat the outlier, and an outlier of
    eight deviations is never flagged.  And the constant bin is left out, so that the score does
    not depend on how high the series stands.
    """
    if np.isnan(x):
        return np.nan
    s["ring"][s["seen"] & (WINDOW - 1)] = x
    s["seen"] += 1
    if s["seen"] < WINDOW:
        return np.nan
    _unroll(s)
    size = 0.0
    for i in range(_N):
        size += abs(s["x"][i])
    s["score"] = 0.0
    if size > 0.0:
        _transform(s)
        _divide_by_average(s, _SILENT * size)
        s["score"] = _score(s)
    return s["score"]


@njit(cache=True)
def _spectral_fold(s, x, out):
    for i in range(x.size):
        out[i] = spectral_step(s[0], x[i])


def spectral_residual(x: NDArray[np.float64], state: NDArray | None = None) -> NDArray[np.float64]:
    """Return each value's salience score; above 3 it stands out.

    Parameters
    ----------
    x : ndarray of float64, shape (n,)
        NaN gives NaN and is left out of the window.
    state : ndarray of SPECTRAL, shape (1,), optional
        What the previous call left; updated in place.

    Returns
    -------
    ndarray of float64, shape (n,)
        NaN until there are 128 values.

    Examples
    --------
    >>> x = np.random.default_rng(1).normal(size=200)
    >>> x[180] += 12.0
    >>> score = spectral_residual(x)
    >>> int(np.nanargmax(score)), bool(score[180] > THRESHOLD)
    (180, True)
    """
    state = np.zeros(1, SPECTRAL) if state is None else state
    out = np.empty(x.size)
    _spectral_fold(state, x, out)
    return out
