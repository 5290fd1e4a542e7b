"""How much each training row counts: rows whose labels overlap tell the same story twice."""

import numpy as np
from numpy.typing import NDArray

from models.errors import ShapeError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def average_uniqueness(start_ns: Ints, end_ns: Ints) -> Floats:
    """Return the share of each label that is its own: 1 alone, 1/2 where always shared with one other.

    The mean of `1 / (labels active)` over the label's span, taken at the moments where labels
    start, so busy moments count by their rows and not by the clock.

    Parameters
    ----------
    start_ns, end_ns : ndarray of int64, shape (n,)
        Label spans, both ends included, in any order.

    References
    ----------
    López de Prado (2018), Advances in Financial Machine Learning, ch. 4.

    Examples
    --------
    >>> average_uniqueness(np.array([0, 1, 9]), np.array([1, 2, 9])).round(3)
    array([0.75, 0.5 , 1.  ])
    """
    if start_ns.shape != end_ns.shape or (end_ns < start_ns).any():
        raise ShapeError("label spans", "of one shape and no end before its start", (start_ns.shape, end_ns.shape))
    moments = np.unique(start_ns)
    active = np.searchsorted(np.sort(start_ns), moments, side="right") - np.searchsorted(np.sort(end_ns), moments, side="left")
    total = np.concatenate([[0.0], np.cumsum(1.0 / active)])
    first = np.searchsorted(moments, start_ns, side="left")
    behind = np.searchsorted(moments, end_ns, side="right")
    return np.asarray((total[behind] - total[first]) / (behind - first))


def sample_weights(start_ns: Ints, end_ns: Ints, returns: Floats | None = None, half_life_ns: float | None = None) -> Floats:
    """Return uniqueness, times the size of the return, times a decay with age; the mean is 1.

    Parameters
    ----------
    start_ns, end_ns : ndarray of int64, shape (n,)
        Label spans.
    returns : ndarray of float64, shape (n,), optional
        Large moves then count more.
    half_life_ns : float, optional
        Rows this much older than the newest then count half.

    Examples
    --------
    >>> sample_weights(np.array([0, 10]), np.array([1, 11]), returns=np.array([-3.0, 1.0]))
    array([1.5, 0.5])
    """
    weight = average_uniqueness(start_ns, end_ns)
    if returns is not None:
        weight = weight * np.abs(returns)
    if half_life_ns is not None and len(weight):
        weight = weight * 0.5 ** ((start_ns.max() - start_ns) / half_life_ns)
    total = weight.sum()
    return weight * (len(weight) / total) if total > 0 else np.ones(len(weight))
