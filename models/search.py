"""Choose LightGBM parameters by trying some, inside one training span.

Nothing outside the rows given is seen: trials are judged on inner purged folds, and their
number goes into the report, because the best of many looks better than it is.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import optuna
from numpy.typing import NDArray

from models import booster
from models.calibration import sigmoid
from models.errors import TooLittleDataError
from models.evaluation import log_loss
from models.splits import PurgedKFold

_SEARCHED = ("num_leaves", "learning_rate", "min_data_in_leaf", "feature_fraction", "lambda_l2")


class Found(NamedTuple):
    """The best parameters, their inner log loss, and every trial as (parameters, log loss)."""

    params: dict[str, Any]
    log_loss: float
    trials: list[tuple[dict[str, Any], float]]


def search(
    x: NDArray[np.float64],
    y: NDArray[Any],
    names: Sequence[str],
    spans: NDArray[np.int64],
    *,
    n_trials: int,
    weight: NDArray[np.float64] | None = None,
    embargo_ns: int = 0,
    n_trees: int = booster.N_TREES,
    n_folds: int = 3,
    seed: int = 0,
    num_threads: int = 1,
) -> Found:
    """Return the parameters with the least log loss over purged inner folds of these rows.

    Parameters
    ----------
    x, y, names, weight
        As for `booster.train`.
    spans : ndarray of int64, shape (n, 2)
        Label spans, to purge by.
    n_trials : int
        Trials, the first of which are `booster.DEFAULTS` themselves.
    seed : int
        Of the sampler and of every training: same rows and seed, same parameters.

    Raises
    ------
    TooLittleDataError
        If no inner fold is left with both classes to train on.
    """
    folds = [fold for fold in PurgedKFold(n_folds, embargo_ns).folds(spans) if 0 < y[fold.train].mean() < 1] if len(y) >= n_folds else []
    if not folds:
        raise TooLittleDataError(f"a search over {n_folds} purged folds", 10 * n_folds, len(y))

    def objective(trial: optuna.Trial) -> float:
        params = {
            "num_leaves": trial.suggest_int("num_leaves", 4, 63, log=True),
            "learning_rate": trial.suggest_float("learning_rate", 0.005, 0.1, log=True),
            "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 20, 500, log=True),
            "feature_fraction": trial.suggest_float("feature_fraction", 0.2, 1.0),
            "lambda_l2": trial.suggest_float("lambda_l2", 0.1, 100.0, log=True),
        }
        losses = []
        for fold in folds:
            inner = None if weight is None else weight[fold.train]
            model = booster.train(
                x[fold.train], y[fold.train], names, weight=inner, params=params, n_trees=n_trees, seed=seed, num_threads=num_threads
            )
            losses.append(log_loss(y[fold.test], sigmoid(booster.score(model, x[fold.test]))))
        return float(np.mean(losses))

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="minimize", sampler=optuna.samplers.TPESampler(seed=seed))
        study.enqueue_trial({key: booster.DEFAULTS[key] for key in _SEARCHED})
        study.optimize(objective, n_trials=n_trials)
    finally:
        optuna.logging.set_verbosity(level)
    return Found(study.best_params, study.best_value, [(trial.params, float(trial.value or 0.0)) for trial in study.trials])
