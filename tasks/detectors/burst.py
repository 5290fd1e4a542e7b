"""Bursts: volume or volatility far above what is usual, over any window."""

import numpy as np
from numba import njit

THRESHOLD = 2.5  # deviations
CONFIRMED, AMONG = 3, 5  # so many of the last points flagged
QUIET = 1.0  # volume z-score below which a flagged point is not believed

CONFIRM = np.dtype([("seen", "i8"), ("flags", "i8", (AMONG,))], align=True)


@njit(cache=True)
def higher(top, z):
    """Return the higher of two z-scores, the known one if the other is NaN.  The highest above 2.5 is a burst."""
    return top if z <= top or np.isnan(z) else z


@njit(cache=True)
def confirm_restart(s):
    """Forget all flags."""
    s["seen"] = 0
    for i in range(AMONG):
        s["flags"][i] = 0


@njit(cache=True)
def confirm_step(s, flagged, volume_zscore):
    """Return whether 3 of the last 5 points were flagged and volume is more than a deviation above the usual.

    An unknown (NaN) volume confirms nothing.
    """
    s["flags"][s["seen"] % AMONG] = flagged
    s["seen"] += 1
    n = 0
    for i in range(AMONG):
        n += s["flags"][i]
    return n >= CONFIRMED and volume_zscore > QUIET
