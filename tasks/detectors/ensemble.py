"""What the detectors say together: one score, a threshold that follows it, at most one signal in a while."""

import numpy as np
from numba import njit

CUSUM, BURST, BOCPD, SPECTRAL = range(4)
N_PARTS = 4
WEIGHTS = (0.25, 0.25, 0.25, 0.25)
CAP = 2.0  # one part counts at most for twice its own threshold
FLOOR = 0.5  # as if half of the parts stood at their thresholds
COOLDOWN_S = 30.0
SCORES = 500
QUANTILE = 0.99

ENSEMBLE = np.dtype(
    [
        ("weights", "f8", (N_PARTS,)),
        ("floor", "f8"),
        ("seen", "i8"),  # scores so far
        ("ring", "f8", (SCORES,)),  # in order of time
        ("ordered", "f8", (SCORES,)),  # the same, smallest first
        ("parts", "f8", (N_PARTS,)),  # each detector's value over its own threshold, NaN while not known
        ("score", "f8"),
        ("threshold", "f8"),
    ],
    align=True,
)


@njit(cache=True)
def ensemble_restart(s):
    """Forget all scores, keep weights and floor."""
    s["seen"] = 0
    s["score"] = np.nan
    s["threshold"] = np.nan
    for i in range(N_PARTS):
        s["parts"][i] = np.nan


@njit(cache=True)
def _place(ordered, n, x):
    # First place whose number is not below x.
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        if ordered[middle] < x:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def _remember(s, score):
    ring, ordered = s["ring"], s["ordered"]
    n, at = min(s["seen"], SCORES), s["seen"] % SCORES
    hole = n
    if n == SCORES:
        n -= 1
        hole = _place(ordered, SCORES, ring[at])
    place = _place(ordered, s["seen"] if s["seen"] < SCORES else SCORES, score)
    if place > hole:
        place -= 1
        for i in range(hole, place):
            ordered[i] = ordered[i + 1]
    else:
        for i in range(hole, place, -1):
            ordered[i] = ordered[i - 1]
    ordered[place] = score
    ring[at] = score
    s["seen"] += 1


@njit(cache=True)
def _quantile(s):
    n = min(s["seen"], SCORES)
    if n == 0:
        return -np.inf
    at = QUANTILE * (n - 1)
    low = int(at)
    high = min(low + 1, n - 1)
    below = s["ordered"][low]
    return below + (s["ordered"][high] - below) * (at - low)


@njit(cache=True)
def ensemble_step(s):
    """Weigh the `parts` and return which one leads, -1 if there is nothing to say.

    The score is the weighted sum of the parts, each a detector's value over its own threshold,
    at most 2.  To be said, it must pass the 99 % quantile of the 500 scores before it and the
    floor, and a detector must have passed its own threshold; of those the one that weighs most
    leads.  Score and threshold stay in the state, NaN while no detector knows anything.
    """
    score, lead, most, known = 0.0, -1, 0.0, False
    for i in range(N_PARTS):
        part = s["parts"][i]
        if np.isnan(part):
            continue
        known = True
        weighed = s["weights"][i] * min(max(part, 0.0), CAP)
        score += weighed
        if part >= 1.0 and weighed > most:
            lead, most = i, weighed
    if not known:
        s["score"] = np.nan
        s["threshold"] = np.nan
        return -1
    s["score"] = score
    s["threshold"] = max(s["floor"], _quantile(s))
    _remember(s, score)
    return lead if score > s["threshold"] else -1
