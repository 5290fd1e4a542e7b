"""What changed among the best levels of a side.  Compiled."""

import numpy as np
from numba import njit


@njit(cache=True)
def changes(old, new, sign, is_full):
    """Return levels of `new` that differ from `old`, and those that are gone, from the touch outward.

    Rows are tick and size; size 0 for a level that left the book, -1 for one that was only pushed
    out of the depth (further out than the last of a full `new`).  `sign` is -1 for bids, 1 for asks.
    """
    out = np.empty((len(old) + len(new), 2), np.int64)
    n = i = j = 0
    while i < len(old) or j < len(new):
        if j == len(new) or (i < len(old) and sign * old[i, 0] < sign * new[j, 0]):
            is_out = is_full and j == len(new)
            out[n, 0], out[n, 1] = old[i, 0], -1 if is_out else 0
            n += 1
            i += 1
        elif i == len(old) or sign * new[j, 0] < sign * old[i, 0]:
            out[n, 0], out[n, 1] = new[j, 0], new[j, 1]
            n += 1
            j += 1
        else:
            if old[i, 1] != new[j, 1]:
                out[n, 0], out[n, 1] = new[j, 0], new[j, 1]
                n += 1
            i += 1
            j += 1
    return out[:n]
