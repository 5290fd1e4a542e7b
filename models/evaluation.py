"""How good predictions are, beside a naive baseline, and how sure we may be of it.

Scores are judged on moments where the price moved beyond the label's threshold; the rank
correlation takes all moments.  What a prediction is worth after costs is `models.strategy`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.stats import rankdata

from models.errors import ShapeError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Interval(NamedTuple):
    """An estimate with the bounds between which resampled data leave it."""

    value: float
    low: float
    high: float


def auc(y: Any, score: Floats) -> float:
    """Return the chance that a row that went up scores above one that went down; NaN with one class only.

    Examples
    --------
    >>> auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.4, 0.8]))
    0.875
    """
    up = np.asarray(y) == 1
    n_up, n_down = int(up.sum()), int((~up).sum())
    if not (n_up and n_down):
        return float("nan")
    return float((rankdata(score)[up].sum() - n_up * (n_up + 1) / 2) / (n_up * n_down))


def pr_auc(y: Any, score: Floats) -> float:
    """Return the average precision over all recalls; a useless score has the share of ups.

    Examples
    --------
    >>> round(pr_auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])), 4)
    0.8333
    """
    if not len(score):
        return float("nan")
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(np.asarray(y)[order] == 1)
    last_of_tie = np.append(np.diff(score[order]) != 0, True)
    hits, taken = hits[last_of_tie], np.flatnonzero(last_of_tie) + 1
    if not hits[-1]:
        return float("nan")
    recall_step = np.diff(np.concatenate([[0], hits])) / hits[-1]
    return float(recall_step @ (hits / taken))


def log_loss(y: Any, probability: Floats) -> float:
    """Return the mean negative log likelihood; 0.693 is a coin's."""
    return float(np.mean(row_log_loss(y, probability)))


def row_log_loss(y: Any, probability: Floats) -> Floats:
    """Return each row's negative log likelihood."""
    p = np.clip(probability, 1e-12, 1 - 1e-12)
    return np.where(np.asarray(y) == 1, -np.log(p), -np.log1p(-p))


def brier(y: Any, probability: Floats) -> float:
    """Return the mean squared error of the probability; 0.25 is a coin's."""
    return float(np.mean((probability - (np.asarray(y) == 1)) ** 2))


class Reliability(NamedTuple):
    """What was said against what came, a bin of equally many rows each."""

    said: Floats
    came: Floats
    rows: Ints


def reliability(y: Any, probability: Floats, n_bins: int = 10) -> Reliability:
    """Return mean probability and share of ups in each of `n_bins` bins of equal count.

    Examples
    --------
    >>> r = reliability(np.array([0, 1, 1, 1]), np.array([0.2, 0.3, 0.7, 0.9]), 2)
    >>> r.said, r.came
    (array([0.25, 0.8 ]), array([0.5, 1. ]))
    """
    order = np.argsort(probability, kind="stable")
    bins = [b for b in np.array_split(order, n_bins) if len(b)]
    up = np.asarray(y) == 1
    return Reliability(
        np.array([probability[b].mean() for b in bins]), np.array([up[b].mean() for b in bins]), np.array([len(b) for b in bins])
    )


def expected_calibration_error(y: Any, probability: Floats, n_bins: int = 10) -> float:
    """Return by how much probabilities are off, on average over bins of equal count.

    A calibrated score is not at 0: with n rows a bin, chance alone leaves about `0.4 / sqrt(n)`.
    """
    said, came, rows = reliability(y, probability, n_bins)
    return float(np.abs(said - came) @ rows / max(rows.sum(), 1))


def information_coefficient(score: Floats, returns: Floats) -> float:
    """Return Spearman's rank correlation of score and return over rows where both are known.

    Examples
    --------
    >>> information_coefficient(np.array([1.0, 2, 3, 4]), np.array([10.0, 20, np.nan, 15]))
    0.5
    """
    known = np.isfinite(score) & np.isfinite(returns)
    a, b = rankdata(score[known]), rankdata(returns[known])
    a, b = a - a.mean() if len(a) else a, b - b.mean() if len(b) else b
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else float("nan")


def precision_at_k(y: Any, score: Floats, share: float = 0.1) -> float:
    """Return how often the surest rows are right, taking the top and bottom `share / 2` as ups and downs.

    Examples
    --------
    >>> precision_at_k(np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.6, 0.9]), 0.5)
    1.0
    """
    k = max(1, int(len(score) * share / 2))
    order = np.argsort(score, kind="stable")
    up = np.asarray(y) == 1
    return float((up[order[-k:]].sum() + (~up[order[:k]]).sum()) / (2 * k)) if len(score) else float("nan")


def evaluate(direction: Ints, probability: Floats, baseline: Floats, returns_bps: Floats) -> dict[str, float]:
    """Return the metrics of one stretch of out-of-sample predictions, the baseline's beside them.

    Parameters
    ----------
    direction : ndarray of int64, shape (n,)
        1 up, -1 down, 0 not beyond the threshold.
    probability : ndarray of float64, shape (n,)
        Calibrated probability of up.
    baseline : ndarray of float64, shape (n,)
        The naive score, queue imbalance; larger means up; NaN counts as 0.
    returns_bps : ndarray of float64, shape (n,)
        Return over the horizon.

    Returns
    -------
    dict
        `rows`, `moved`, `up_share`, `auc`, `pr_auc`, `log_loss`, `base_log_loss` (always saying
        the share of ups), `brier`, `ece`, `precision_at_10pct`, `ic`, and `baseline_auc`,
        `baseline_ic`, `auc_gain`, `ic_gain`.
    """
    if not direction.shape == probability.shape == baseline.shape == returns_bps.shape:
        raise ShapeError("predictions and labels", f"of shape {direction.shape}", (probability.shape, baseline.shape, returns_bps.shape))
    moved = direction != 0
    y, p, naive = (direction[moved] > 0).astype(np.int64), probability[moved], np.nan_to_num(baseline)
    share = float(y.mean()) if len(y) else float("nan")
    found = {
        "rows": float(len(direction)),
        "moved": float(moved.sum()),
        "up_share": share,
        "auc": auc(y, p),
        "pr_auc": pr_auc(y, p),
        "log_loss": log_loss(y, p) if len(y) else float("nan"),
        "base_log_loss": log_loss(y, np.full(len(y), share)) if len(y) else float("nan"),
        "brier": brier(y, p) if len(y) else float("nan"),
        "ece": expected_calibration_error(y, p),
        "precision_at_10pct": precision_at_k(y, p, 0.1),
        "ic": information_coefficient(probability, returns_bps),
        "baseline_auc": auc(y, naive[moved]),
        "baseline_ic": information_coefficient(naive, returns_bps),
    }
    return {**found, "auc_gain": found["auc"] - found["baseline_auc"], "ic_gain": found["ic"] - found["baseline_ic"]}


def auc_intervals(
    y: Any, scores: Sequence[Floats], exchange_ns: Ints, block_ns: int, confidence: float = 0.95, resamples: int = 400, seed: int = 0
) -> tuple[list[Interval], Interval]:
    """Return the AUC of each score with bounds, and of the first score's lead over the second.

    Rows near in time are alike, so whole blocks of time are drawn with replacement, the same
    ones for all scores.

    Parameters
    ----------
    y : ndarray, shape (n,)
        1 up, 0 down.
    scores : sequence of ndarray of float64, shape (n,)
        One or more; the lead is NaN for one.
    exchange_ns : ndarray of int64, shape (n,)
        When each row was.
    block_ns : int
        Longer than predictions stay alike; a few dozen blocks at least give bounds of use.
    confidence : float
        Share of resamples between the bounds.

    References
    ----------
    Künsch (1989), "The Jackknife and the Bootstrap for General Stationary Observations".
    """
    up = np.asarray(y) == 1
    block, n_blocks = _blocks(exchange_ns, block_ns)
    orders = [np.argsort(score, kind="stable") for score in scores]
    ranked = [score[order] for score, order in zip(scores, orders, strict=True)]
    rng = np.random.default_rng(seed)
    drawn = np.empty((resamples, len(scores)))
    for r in range(resamples):
        weight = np.bincount(rng.integers(0, n_blocks, n_blocks), minlength=n_blocks)[block].astype(np.float64)
        for s, order in enumerate(orders):
            drawn[r, s] = _weighted_auc(order, ranked[s], up, weight)
    found = [_interval(auc(up, score), drawn[:, s], confidence) for s, score in enumerate(scores)]
    if len(scores) < 2:
        return found, Interval(float("nan"), float("nan"), float("nan"))
    return found, _interval(found[0].value - found[1].value, drawn[:, 0] - drawn[:, 1], confidence)


def usual_block_ns(exchange_ns: Ints, horizon_ns: int) -> int:
    """Return the length of blocks to draw: a 30th of the time, 10 s to 60 s, and never below 5 horizons.

    Labels of rows nearer than a horizon overlap; within a block they are drawn together, so
    only the few at its ends are taken for more than they are.

    Examples
    --------
    >>> usual_block_ns(np.array([0, 600_000_000_000]), 1_000_000_000), usual_block_ns(np.array([0, 1]), 60_000_000_000)
    (20000000000, 300000000000)
    """
    elapsed_ns = int(exchange_ns[-1] - exchange_ns[0]) if len(exchange_ns) else 0
    return max(min(max(elapsed_ns // 30, 10_000_000_000), 60_000_000_000), 5 * horizon_ns)


def mean_interval(
    values: Floats, exchange_ns: Ints, block_ns: int, confidence: float = 0.95, resamples: int = 400, seed: int = 0
) -> Interval:
    """Return a mean with bounds from drawing whole blocks of time; NaN bounds without values."""
    if not len(values):
        return Interval(float("nan"), float("nan"), float("nan"))
    block, n_blocks = _blocks(exchange_ns, block_ns)
    total, count = np.bincount(block, values, n_blocks), np.bincount(block, minlength=n_blocks)
    drawn = np.random.default_rng(seed).integers(0, n_blocks, (resamples, n_blocks))
    return _interval(float(values.mean()), total[drawn].sum(1) / count[drawn].sum(1), confidence)


def _blocks(exchange_ns: Ints, block_ns: int) -> tuple[Ints, int]:
    if not len(exchange_ns):
        return np.empty(0, np.int64), 1
    found, block = np.unique(exchange_ns // block_ns, return_inverse=True)
    return block, len(found)


def _interval(value: float, drawn: Floats, confidence: float) -> Interval:
    known = drawn[~np.isnan(drawn)]  # a resample may hold one class only
    if not len(known):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high))


@njit(cache=True)
def _weighted_auc(order: Ints, ranked: Floats, up: Any, weight: Floats) -> float:
    below, won, n_up = 0.0, 0.0, 0.0  # weight of downs so far, pairs won, weight of ups
    i, n = 0, len(order)
    while i < n:
        tied_up, tied_down = 0.0, 0.0
        j = i
        while j < n and ranked[j] == ranked[i]:
            if up[order[j]]:
                tied_up += weight[order[j]]
            else:
                tied_down += weight[order[j]]
            j += 1
        won += tied_up * (below + 0.5 * tied_down)
        n_up += tied_up
        below += tied_down
        i = j
    return won / (n_up * below) if n_up > 0 and below > 0 else np.nan


def population_stability(train: Floats, test: Floats, n_bins: int = 10) -> float:
    """Return how far a feature moved between two samples: below 0.1 hardly, above 0.25 much.

    Bins are the deciles of `train`; missing values have a bin of their own.

    Examples
    --------
    >>> x = np.arange(1000.0)
    >>> population_stability(x, x), population_stability(x, x + 500) > 0.25
    (0.0, True)
    """
    known = train[~np.isnan(train)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, n_bins + 1)[1:-1])) if len(known) else np.empty(0)

    def shares(x: Floats) -> Floats:
        bins = np.where(np.isnan(x), len(edges) + 1, np.searchsorted(edges, x, side="right"))
        return np.maximum(np.bincount(bins, minlength=len(edges) + 2) / max(len(x), 1), 1e-4)

    a, b = shares(train), shares(test)
    return float(np.sum((b - a) * np.log(b / a)))
