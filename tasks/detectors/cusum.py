"""Drift: Page's cumulative sums, two-sided, and the run lengths that follow from their threshold."""

from math import erf, exp, pi, sqrt

import numpy as np
from numba import njit
from numpy.typing import NDArray

SLACK = 0.5  # k: half the shift, in deviations, that is looked for
THRESHOLD = 3.0  # h

CUSUM = np.dtype([("up", "f8"), ("down", "f8")], align=True)
_NODES = 48
_LEGENDRE = np.polynomial.legendre.leggauss(_NODES)
_PER_ROOT_2PI = 1.0 / sqrt(2.0 * pi)


@njit(cache=True)
def cusum_restart(s):
    """Begin at zero."""
    s["up"] = 0.0
    s["down"] = 0.0


@njit(cache=True)
def cusum_step(s, z, h):
    """Return the larger of both sums, negative if it is the one of falls; both begin anew once it passed `h`.

    Parameters
    ----------
    s : record of CUSUM
    z : float
        The value in deviations from what is usual; NaN leaves the state as it is and returns NaN.
    h : float
        Threshold.  A result of at least `h` in size is an alarm.

    References
    ----------
    Page (1954), "Continuous Inspection Schemes", Biometrika 41.
    """
    if np.isnan(z):
        return np.nan
    up = max(0.0, s["up"] + z - SLACK)
    down = max(0.0, s["down"] - z - SLACK)
    alarm = up >= h or down >= h
    s["up"] = 0.0 if alarm else up
    s["down"] = 0.0 if alarm else down
    return up if up >= down else -down


@njit(cache=True)
def _cusum_fold(s, z, h, out):
    for i in range(z.size):
        out[i] = cusum_step(s[0], z[i], h)


def cusum(z: NDArray[np.float64], h: float = THRESHOLD, state: NDArray | None = None) -> NDArray[np.float64]:
    """Return the leading sum after each value: positive drifts up, negative down, an alarm at `h`.

    Parameters
    ----------
    z : ndarray of float64
        In deviations from what is usual.  NaN gives NaN and changes nothing.
    state : ndarray of CUSUM, shape (1,), optional
        What the previous call left; updated in place.

    Examples
    --------
    >>> cusum(np.array([0.0, 2.0, 2.0, 0.0, -1.0]))
    array([ 0. ,  1.5,  3. ,  0. , -0.5])
    """
    state = np.zeros(1, CUSUM) if state is None else state
    out = np.empty(z.size)
    _cusum_fold(state, z, h, out)
    return out


def _one_sided(h: float, shift: float) -> float:
    # Page's integral equation for the mean run from a sum of 0, by Gauss-Legendre nodes (Nystroem).
    nodes, weights = _LEGENDRE
    y, w = 0.5 * h * (nodes + 1.0), 0.5 * h * weights
    step = SLACK - shift  # a sum goes from u to max(0, u + z - step) of a z around zero
    starts = np.append(y, 0.0)
    density = _PER_ROOT_2PI * np.exp(-0.5 * (y[None, :] - starts[:, None] + step) ** 2) * w
    to_zero = np.array([0.5 * (1.0 + erf((step - u) / sqrt(2.0))) for u in starts])
    system = np.eye(_NODES + 1)
    system[:, :_NODES] -= density
    system[:, _NODES] -= to_zero
    return float(np.linalg.solve(system, np.ones(_NODES + 1))[_NODES])


def arl(h: float, shift: float = 0.0) -> float:
    """Return how many values pass until an alarm, on average, if they are normal and shifted by so many deviations.

    With no shift it is the time between false alarms, else the delay of a detection that began
    at zero.  Exact but for the discretised integral: values must be independent and their mean
    and deviation known, which a baseline of 300 s only approaches.

    Raises
    ------
    ValueError
        If `h` is not positive.

    References
    ----------
    Page (1954); two sides together after van Dobben de Bruyn (1968).

    Examples
    --------
    >>> round(arl(4.0), 1), round(arl(4.0, 1.0), 1)
    (167.7, 8.4)
    """
    if not h > 0.0:
        raise ValueError(f"the threshold must be positive, received {h}")
    if shift == 0.0:
        return 0.5 * _one_sided(h, 0.0)
    return 1.0 / (1.0 / _one_sided(h, shift) + 1.0 / _one_sided(h, -shift))


def h_for_arl(target: float) -> float:
    """Return the threshold whose false alarms are so many values apart on average, both sides together.

    Raises
    ------
    ValueError
        If the target is not between 2 and 1e8.

    Examples
    --------
    >>> round(h_for_arl(465.4), 2)
    5.0
    """
    if not 2.0 <= target <= 1e8:
        raise ValueError(f"the average run length must be between 2 and 1e8 values, received {target}")
    low, high = 1e-3, 24.0
    while high - low > 1e-6:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if arl(middle) < target else (low, middle)
    return 0.5 * (low + high)


def siegmund_arl(h: float, shift: float = 0.0) -> float:
    """Return Siegmund's approximation of `arl` for one side, the one that a positive shift drives.

    References
    ----------
    Siegmund (1985), "Sequential Analysis", chapter 2.

    Examples
    --------
    >>> round(siegmund_arl(4.0), 1)
    338.1
    """
    drift, b = shift - SLACK, h + 1.166
    if drift == 0.0:
        return b * b
    return (exp(-2.0 * drift * b) + 2.0 * drift * b - 1.0) / (2.0 * drift * drift)
