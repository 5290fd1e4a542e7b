"""Turn raw scores into probabilities that mean what they say.

Fit on out-of-sample scores only: a model is too sure of the rows it was trained on.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import ShapeError, TooLittleDataError

Floats = NDArray[np.float64]


class Platt(NamedTuple):
    """`probability = 1 / (1 + exp(-(a * raw + b)))`; `a` near 1: honest already, 0: no content."""

    a: float
    b: float

    def __call__(self, raw: Floats) -> Floats:
        """Return the probability of each raw score."""
        return sigmoid(self.a * np.asarray(raw, np.float64) + self.b)


def sigmoid(x: Floats) -> Floats:
    """Return `1 / (1 + exp(-x))` without overflow.

    Examples
    --------
    >>> sigmoid(np.array([-1e4, 0.0, 1e4]))
    array([0. , 0.5, 1. ])
    """
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0 / (1.0 + small), small / (1.0 + small))


def fit_platt(raw: Floats, y: Floats, weight: Floats | None = None) -> Platt:
    """Return the Platt parameters that make `raw` most likely to have given `y`.

    Newton's method on the log loss, with Platt's smoothed targets so that separable scores
    do not send `a` to infinity.

    Parameters
    ----------
    raw : ndarray of float64, shape (n,)
        Out-of-sample raw scores.
    y : ndarray, shape (n,)
        0 or 1, both present.
    weight : ndarray of float64, shape (n,), optional
        Sample weights.

    References
    ----------
    Platt (1999); Lin, Lin and Weng (2007), "A note on Platt's probabilistic outputs".

    Examples
    --------
    >>> raw = np.repeat([-2.0, 2.0], 1000)
    >>> y = np.concatenate([np.arange(1000) < 250, np.arange(1000) < 750]).astype(float)
    >>> platt = fit_platt(raw, y)
    >>> round(platt.a, 2), abs(round(platt.b, 2))
    (0.55, 0.0)
    """
    raw, y = np.asarray(raw, np.float64), np.asarray(y, np.float64)
    if raw.shape != y.shape or not np.isin(y, (0.0, 1.0)).all() or not np.isfinite(raw).all():
        raise ShapeError("calibration", "finite scores with labels 0 or 1", f"{raw.shape} scores, {y.shape} labels")
    w = np.ones(len(y)) if weight is None else np.asarray(weight, np.float64)
    up, down = float(w[y == 1].sum()), float(w[y == 0].sum())
    if not (up > 0 and down > 0):
        raise TooLittleDataError("calibration, of each class,", 1, 0)
    target = np.where(y == 1, (up + 1) / (up + 2), 1 / (down + 2))
    theta = np.array([0.0, np.log(up / down)])
    loss = _loss(theta, raw, target, w)
    for _ in range(100):
        p = sigmoid(theta[0] * raw + theta[1])
        slope = w * (p - target)
        bend = w * p * (1 - p)
        gradient = np.array([slope @ raw, slope.sum()])
        hessian = np.array([[bend @ (raw * raw), bend @ raw], [bend @ raw, bend.sum()]]) + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while size > 1e-8 and (new := _loss(theta - size * step, raw, target, w)) > loss:
            size /= 2
        if size <= 1e-8:
            break
        theta, loss, before = theta - size * step, new, loss
        if before - loss < 1e-12 * max(1.0, abs(loss)):
            break
    if theta[0] < 0:  # out of sample the scores pointed the wrong way: chance, and never a reason to turn them round
        return Platt(0.0, float(np.log(up / down)))
    return Platt(float(theta[0]), float(theta[1]))


def _loss(theta: Sequence[float] | Floats, raw: Floats, target: Floats, w: Floats) -> float:
    z = theta[0] * raw + theta[1]
    return float(w @ (np.logaddexp(0.0, z) - target * z))
