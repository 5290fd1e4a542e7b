"""Train a gradient-boosted classifier so that the same rows and seed give the same trees.

The only file that imports LightGBM to train.  Scoring live rows is `models.scorer`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import lightgbm
import numpy as np
from lightgbm import Booster
from numpy.typing import NDArray

from models.errors import FeatureMismatchError, ShapeError, TooLittleDataError

DEFAULTS: dict[str, Any] = {
    "num_leaves": 7,
    "learning_rate": 0.03,
    "leaf_share": 0.02,  # ours: of the training rows, that a leaf must hold; neighbouring rows are nearly one row
    "feature_fraction": 0.4,
    "bagging_fraction": 0.6,
    "bagging_freq": 1,
    "lambda_l2": 10.0,
    "max_bin": 63,
}
N_TREES = 300
ANCHOR_TREES = 60
_ANCHOR = {
    "num_leaves": 8,
    "learning_rate": 0.1,
    "leaf_share": 0.03,
    "feature_fraction": 1.0,
    "bagging_freq": 0,
    "lambda_l2": 0.0,
    "max_bin": 255,
}

__all__ = ["ANCHOR_TREES", "DEFAULTS", "N_TREES", "Booster", "importance", "score", "text", "train"]


def train(
    x: NDArray[np.float64],
    y: NDArray[Any],
    names: Sequence[str],
    *,
    weight: NDArray[np.float64] | None = None,
    params: Mapping[str, Any] | None = None,
    n_trees: int = N_TREES,
    anchor: str | None = None,
    seed: int = 0,
    num_threads: int = 1,
) -> Booster:
    """Return a booster whose raw score is the log odds that `y` is 1.

    Parameters
    ----------
    x : ndarray of float64, shape (n, f)
        One row a moment; NaN means "not known yet" and is learnt as such.
    y : ndarray, shape (n,)
        1 where the price went up, 0 where it went down.
    names : sequence of str
        The features' names, kept in the booster in this order.
    weight : ndarray of float64, shape (n,), optional
        Sample weights, see `models.weights`.
    params : mapping, optional
        LightGBM parameters over `DEFAULTS`.
    n_trees : int
        Boosting rounds; there is no early stopping, which would need rows of its own.
    anchor : str, optional
        A feature known to point up: the first `ANCHOR_TREES` trees see nothing else and rise
        with it, the others correct them.  On minutes of data a free ensemble learns the day
        it was trained on and does worse than this one feature; an anchored one starts from it.
    seed : int
        Of bagging and feature sampling.  Same rows, seed and thread count: same trees.
    num_threads : int
        Threads to train with.

    Raises
    ------
    ShapeError
        If shapes disagree or `y` holds anything but 0 and 1.
    TooLittleDataError
        If one of the classes has no row.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 2 or x.shape != (len(y), len(names)):
        raise ShapeError("x", f"of shape ({len(y)}, {len(names)})", x.shape)
    if not np.isin(y, (0.0, 1.0)).all():
        raise ShapeError("y", "0 or 1", np.unique(y)[:5])
    for value in (0.0, 1.0):
        if not (y == value).any():
            raise TooLittleDataError(f"training with labels of {value:.0f}", 1, 0)
    if anchor is not None and anchor not in names:
        raise FeatureMismatchError(len(names), anchor, None)

    def settings(chosen: Mapping[str, Any]) -> dict[str, Any]:
        found = {**DEFAULTS, **chosen, "objective": "binary", "verbosity": -1, "deterministic": True, "force_row_wise": True}
        found |= {"feature_pre_filter": False, "seed": seed, "num_threads": num_threads}
        found.setdefault("min_data_in_leaf", max(5, int(found["leaf_share"] * len(y))))
        del found["leaf_share"]
        return found

    def rows(chosen: Mapping[str, Any]) -> lightgbm.Dataset:
        binning = {"verbosity": -1, "max_bin": chosen["max_bin"], "feature_pre_filter": False}
        return lightgbm.Dataset(x, y, weight=weight, feature_name=list(names), params=binning, free_raw_data=False)

    model = None
    free = settings(params or {})
    if anchor is not None:
        place = list(names).index(anchor)
        tied = settings(_ANCHOR)
        tied |= {"interaction_constraints": [[place]], "monotone_constraints": [int(i == place) for i in range(len(names))]}
        model = lightgbm.train(tied, rows(tied), num_boost_round=min(ANCHOR_TREES, n_trees))
        n_trees -= ANCHOR_TREES
    if model is None or n_trees > 0:
        model = lightgbm.train(free, rows(free), num_boost_round=n_trees, init_model=model)
    return model


def text(booster: Booster) -> str:
    """Return the booster as text: what `models.scorer.Scorer` reads, and equal for equal models."""
    return booster.model_to_string()


def importance(booster: Booster) -> dict[str, float]:
    """Return each feature's share of the total gain of all splits, largest first."""
    gain = booster.feature_importance("gain")
    share = gain / max(gain.sum(), 1e-300)
    names = booster.feature_name()
    return {names[i]: float(share[i]) for i in np.argsort(-share, kind="stable")}


def score(booster: Booster, x: NDArray[np.float64], n_trees: int | None = None) -> NDArray[np.float64]:
    """Return the raw score (log odds) of each row by the first `n_trees`, by LightGBM itself."""
    return np.asarray(booster.predict(x, raw_score=True, num_iteration=n_trees, num_threads=1))
