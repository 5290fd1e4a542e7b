"""Changes of regime: Bayesian online change-point detection with a normal likelihood.

Run length `r` counts the values of the present run, this one included.  A hypothesis is kept
for each `r` up to 500; the one of 500 stands for "500 or more" and knows the last 500 values,
so no mass is ever dropped.  Hypotheses lie in a ring by where their run began: one value
more changes the numbers of each, and moves none.
"""

from math import lgamma, log, pi

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tasks.detectors.elementary import quick_exp, quick_log

HAZARD = 1.0 / 250.0
MAX_RUN = 500
RECENT = 5  # a run this short or shorter is a change
THRESHOLD = 0.7
_SIZE = 512  # of the ring: a power of two above MAX_RUN + 1
_MASK = _SIZE - 1
_GONE = 1e-290  # below it masses would become denormal, which is slow and means nothing
_LIMIT = 1e6  # deviations: no value may leave all hypotheses with a density of 0

# Normal-inverse-gamma prior of a new run: mean 0 with the weight of one value, variance about 1.
PRIOR_MEAN, PRIOR_KAPPA, PRIOR_ALPHA, PRIOR_BETA = 0.0, 1.0, 1.0, 1.0

BOCPD = np.dtype(
    [
        ("seen", "i8"),  # values so far
        ("mass", "f8", (_SIZE,)),
        ("mean", "f8", (_SIZE,)),
        ("beta", "f8", (_SIZE,)),
        ("log_beta", "f8", (_SIZE,)),
        ("grown", "f8", (_SIZE,)),  # room to reckon in
        ("change_prob", "f8"),
        ("run_length", "f8"),
    ],
    align=True,
)


def _student() -> NDArray[np.float64]:
    # What a Student-t density needs to know of the run length: log constant, power, gain, share.
    # Longest run first, for so the ring lies: column MAX_RUN - r.
    out = np.empty((4, MAX_RUN + 1))
    for r in range(MAX_RUN + 1):
        kappa, alpha = PRIOR_KAPPA + r, PRIOR_ALPHA + 0.5 * r
        out[0, MAX_RUN - r] = lgamma(alpha + 0.5) - lgamma(alpha) - 0.5 * log(2.0 * pi * (kappa + 1.0) / kappa)
        out[1, MAX_RUN - r] = alpha + 0.5
        out[2, MAX_RUN - r] = kappa / (2.0 * (kappa + 1.0))
        out[3, MAX_RUN - r] = 1.0 / (kappa + 1.0)
    return out


_STUDENT = _student()


@njit(cache=True, error_model="numpy")
def _learn(mean, beta, gain, share, x, grown):
    for i in range(mean.size):
        away = x - mean[i]
        grown[i] = 1.0 + gain[i] * away * away / beta[i]
    for i in range(mean.size):
        mean[i] += (x - mean[i]) * share[i]


@njit(cache=True, error_model="numpy")
def _logs(beta, grown):
    for i in range(beta.size):
        beta[i] *= grown[i]
        grown[i] = quick_log(grown[i])


@njit(cache=True, error_model="numpy")
def _weigh(mass, log_beta, constant, power, log_grown):
    for i in range(mass.size):
        mass[i] *= quick_exp(constant[i] - 0.5 * log_beta[i] - power[i] * log_grown[i])
    for i in range(mass.size):
        log_beta[i] += log_grown[i]


@njit(cache=True)
def _stretch(s, start, stop, column, x):
    # Each hypothesis of a stretch of the ring: its mass times the density of x under it, then it learns x.
    # Loops of few arrays each: of more, a compiler cannot tell that they do not overlap, and goes one by one.
    to, grown = column + stop - start, s["grown"][start:stop]
    _learn(s["mean"][start:stop], s["beta"][start:stop], _STUDENT[2, column:to], _STUDENT[3, column:to], x, grown)
    _logs(s["beta"][start:stop], grown)
    _weigh(s["mass"][start:stop], s["log_beta"][start:stop], _STUDENT[0, column:to], _STUDENT[1, column:to], grown)


@njit(cache=True)
def _sums(mass, start, stop, run):
    # Sum of masses, and of masses times run lengths; four at a time, always in this order.
    a = b = c = d = 0.0
    ar = br = cr = dr = 0.0
    i, r = start, float(run)
    while i + 4 <= stop:
        a += mass[i]
        b += mass[i + 1]
        c += mass[i + 2]
        d += mass[i + 3]
        ar += mass[i] * r
        br += mass[i + 1] * (r - 1.0)
        cr += mass[i + 2] * (r - 2.0)
        dr += mass[i + 3] * (r - 3.0)
        i += 4
        r -= 4.0
    while i < stop:
        a += mass[i]
        ar += mass[i] * r
        i += 1
        r -= 1.0
    return (a + b) + (c + d), (ar + br) + (cr + dr)


@njit(cache=True)
def _normalise(mass, start, stop, share):
    for i in range(start, stop):
        p = mass[i] * share
        mass[i] = p if p >= _GONE else 0.0


@njit(cache=True)
def _open(s, slot, mass):
    s["mass"][slot] = mass
    s["mean"][slot] = PRIOR_MEAN
    s["beta"][slot] = PRIOR_BETA
    s["log_beta"][slot] = np.log(PRIOR_BETA)


@njit(cache=True)
def bocpd_restart(s):
    """Begin a run with nothing known of it."""
    s["seen"] = 0
    s["change_prob"] = np.nan
    s["run_length"] = np.nan
    _open(s, 0, 1.0)


@njit(cache=True)
def bocpd_step(s, x):
    """Take in one value and return the probability that the regime changed within the last five.

    Also leaves `run_length`, the posterior mean, in the state.

    Parameters
    ----------
    s : record of BOCPD
    x : float
        Standardised: the prior expects values around 0 with a deviation about 1.  NaN leaves the
        state as it is; the probability stays what it was.

    Returns
    -------
    float
        P(run length <= 5).  NaN for the first five values, whose run cannot be longer.

    Notes
    -----
    P(run length = 0) is the hazard whatever the data say, for a run that begins with the next
    value explains this one no worse than the run before: only runs with some values can win.
    A regime must therefore be told from the old one within five values, against odds of 250:1.
    A shift of one deviation never manages that; one of four or more does.

    References
    ----------
    Adams and MacKay (2007), "Bayesian Online Changepoint Detection", arXiv:0710.3742.
    """
    if np.isnan(x):
        return s["change_prob"]
    x = min(max(x, -_LIMIT), _LIMIT)
    seen, mass = s["seen"], s["mass"]
    first = max(0, seen - MAX_RUN)
    start, n = first & _MASK, seen - first + 1
    turn = min(start + n, _SIZE)  # the ring's end cuts the hypotheses in two
    rest, column = n - (turn - start), MAX_RUN + 1 - n
    _stretch(s, start, turn, column, x)
    _stretch(s, 0, rest, column + turn - start, x)
    total, expected = _sums(mass, start, turn, n)  # the run of the first is now n long
    more, more_expected = _sums(mass, 0, rest, n - (turn - start))
    total += more
    expected += more_expected
    seen += 1
    s["seen"] = seen
    if n > MAX_RUN:  # what was 500 long and grew is still "500 or more"
        expected -= mass[start]
        mass[(first + 1) & _MASK] += mass[start]
        mass[start] = 0.0
    share = (1.0 - HAZARD) / total
    _normalise(mass, start, turn, share)
    _normalise(mass, 0, rest, share)
    _open(s, seen & _MASK, HAZARD)
    s["run_length"] = expected * share
    recent = 0.0
    for r in range(min(RECENT, seen) + 1):
        recent += mass[(seen - r) & _MASK]
    s["change_prob"] = recent if seen > RECENT else np.nan
    return s["change_prob"]


@njit(cache=True)
def _bocpd_fold(s, x, out):
    for i in range(x.size):
        bocpd_step(s[0], x[i])
        out[i, 0] = s[0]["change_prob"]
        out[i, 1] = s[0]["run_length"]


def new_bocpd() -> NDArray:
    """Return the state of a run of which nothing is known, shape (1,).

    Examples
    --------
    >>> new_bocpd()["seen"]
    array([0])
    """
    state = np.zeros(1, BOCPD)
    bocpd_restart(state[0])
    return state


def bocpd(x: NDArray[np.float64], state: NDArray | None = None) -> NDArray[np.float64]:
    """Return, after each value, the probability of a recent change and the expected run length.

    Parameters
    ----------
    x : ndarray of float64, shape (n,)
        Standardised.  NaN repeats what was known.
    state : ndarray of BOCPD, shape (1,), optional
        What the previous call left; updated in place.

    Returns
    -------
    ndarray of float64, shape (n, 2)
        P(run length <= 5), NaN for the first five; posterior mean of the run length, values.

    Examples
    --------
    >>> x = np.where(np.arange(60) < 50, -0.5, 4.0) + np.arange(60) % 2
    >>> bocpd(x)[[49, 52, 57], 0].round(2)
    array([0.01, 0.99, 0.  ])
    """
    state = new_bocpd() if state is None else state
    out = np.empty((x.size, 2))
    _bocpd_fold(state, x, out)
    return out
