"""How much each training row counts: rows whose labels overlap tell the same story twice."""

import numpy as np
from numpy.typing import NDArray

from models.errors import ShapeError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def average_uniqueness(start_ns: Ints, end_ns: Ints, moments_ns: Ints | None = None) -> Floats:
    """Return the share of each label that is its own: 1 alone, 1/2 where always shared with one other.

    The mean of `1 / (labels active)` over the label's span, taken at the moments where labels
    start, so busy moments count by their rows and not by the clock; or at given ones, as of bars.

    Parameters
    ----------
    start_ns, end_ns : ndarray of int64, shape (n,)
        Label spans, both ends included, in any order.
    moments_ns : ndarray of int64, shape (m,), optional
        Where to count instead.  Each span must hold one of them.

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
    moments = np.unique(start_ns if moments_ns is None else moments_ns)
    active = np.searchsorted(np.sort(start_ns), moments, side="right") - np.searchsorted(np.sort(end_ns), moments, side="left")
    total = np.concatenate([[0.0], np.cumsum(1.0 / np.maximum(active, 1))])
    first = np.searchsorted(moments, start_ns, side="left")
    behind = np.searchsorted(moments, end_ns, side="right")
    if (behind == first).any():
        raise ShapeError("moments_ns", "such that each span holds one", f"none within the span of row {int(np.argmax(behind == first))}")
    return np.asarray((total[behind] - total[first]) / (behind - first))


def time_decay(start_ns: Ints, uniqueness: Floats, oldest: float) -> Floats:
    """Return a factor that falls on a line from 1 at the newest row towards `oldest` before the first one.

    Age is counted in uniqueness, not by the clock: a crowd of labels that tell one story ages
    no faster than one label.

    Parameters
    ----------
    start_ns : ndarray of int64, shape (n,)
        Starts of labels, in any order; equal ones age as they come.
    uniqueness : ndarray of float64, shape (n,)
        Of `average_uniqueness`.
    oldest : float
        1 no decay; 0 to 1 where the line ends; down to -1, exclusive, that share of the oldest counts 0.

    Raises
    ------
    ShapeError
        If `oldest` is not above -1 and at most 1.

    References
    ----------
    López de Prado (2018), Advances in Financial Machine Learning, ch. 4.7.

    Examples
    --------
    >>> time_decay(np.arange(4), np.ones(4), 0.5)
    array([0.625, 0.75 , 0.875, 1.   ])
    >>> time_decay(np.arange(4), np.ones(4), -0.5)
    array([0. , 0. , 0.5, 1. ])
    """
    if not -1 < oldest <= 1:
        raise ShapeError("oldest", "above -1 and at most 1", oldest)
    order = np.argsort(start_ns, kind="stable")
    age = np.empty(len(start_ns))
    age[order] = np.cumsum(uniqueness[order])
    share = age / age.max(initial=1e-300)
    return np.asarray(oldest + (1 - oldest) * share if oldest >= 0 else np.maximum(0.0, 1 - (1 - share) / (1 + oldest)))


def sample_weights(
    start_ns: Ints, end_ns: Ints, returns: Floats | None = None, half_life_ns: float | None = None, oldest: float | None = None
) -> Floats:
    """Return uniqueness, times the size of the return, times a decay with age; the mean is 1.

    Parameters
    ----------
    start_ns, end_ns : ndarray of int64, shape (n,)
        Label spans.
    returns : ndarray of float64, shape (n,), optional
        Large moves then count more.
    half_life_ns : float, optional
        Rows this much older than the newest then count half.
    oldest : float, optional
        Decay with uniqueness that came after instead, or too; see `time_decay`.

    Examples
    --------
    >>> sample_weights(np.array([0, 10]), np.array([1, 11]), returns=np.array([-3.0, 1.0]))
    array([1.5, 0.5])
    """
    weight = average_uniqueness(start_ns, end_ns)
    decay = 1.0 if oldest is None else time_decay(start_ns, weight, oldest)
    if returns is not None:
        weight = weight * np.abs(returns)
    if half_life_ns is not None and len(weight):
        weight = weight * 0.5 ** ((start_ns.max() - start_ns) / half_life_ns)
    weight = weight * decay
    total = weight.sum()
    return weight * (len(weight) / total) if total > 0 else np.ones(len(weight))
