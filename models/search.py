"""Choose LightGBM parameters by trying some, inside one training span.

Nothing outside the rows given is seen: trials are judged on inner purged folds, and their
number goes into the report, because the best of many looks better than it is.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import optuna
from numpy.typing import NDArray

from models import booster
from models.calibration import sigmoid
from models.errors import TooLittleDataError
from models.evaluation import log_loss
from models.splits import PurgedKFold

_SEARCHED = ("num_leaves", "learning_rate", "leaf_share", "feature_fraction", "lambda_l2")

# Trains on the rows it is given, with these parameters.
Fit = Callable[[NDArray[np.int64], Mapping[str, Any]], booster.Booster]


class Found(NamedTuple):
    """The best parameters, their inner log loss, and every trial as (parameters, log loss)."""

    params: dict[str, Any]
    log_loss: float
    trials: list[tuple[dict[str, Any], float]]


def search(
    fit: Fit,
    x: NDArray[np.float64],
    y: NDArray[Any],
    spans: NDArray[np.int64],
    *,
    n_trials: int,
    embargo_ns: int = 0,
    n_folds: int = 3,
    seed: int = 0,
) -> Found:
    """Return the parameters with the least log loss over purged inner folds of these rows.

    Parameters
    ----------
    fit : callable
        Takes row numbers and parameters, returns a booster trained on them.
    x, y : ndarray
        Features and labels 0 or 1 of the rows.
    spans : ndarray of int64, shape (n, 2)
        Label spans, to purge by.
    n_trials : int
        Trials, the first of which are `booster.DEFAULTS` themselves.
    seed : int
        Of the sampler: same rows and seed, same parameters.

    Raises
    ------
    TooLittleDataError
        If no inner fold is left with both classes to train on.
    """
    cut = PurgedKFold(n_folds, embargo_ns).folds(spans) if len(y) >= n_folds else []
    folds = [fold for fold in cut if len(np.unique(y[fold.train])) == 2]
    if not folds:
        raise TooLittleDataError(f"a search over {n_folds} purged folds", 10 * n_folds, len(y))

    def objective(trial: optuna.Trial) -> float:
        params = {
            "num_leaves": trial.suggest_int("num_leaves", 3, 31, log=True),
            "learning_rate": trial.suggest_float("learning_rate", 0.005, 0.1, log=True),
            "leaf_share": trial.suggest_float("leaf_share", 0.003, 0.1, log=True),
            "feature_fraction": trial.suggest_float("feature_fraction", 0.1, 1.0),
            "lambda_l2": trial.suggest_float("lambda_l2", 0.1, 100.0, log=True),
        }
        return float(np.mean([log_loss(y[f.test], sigmoid(booster.score(fit(f.train, params), x[f.test]))) for f in folds]))

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="minimize", sampler=optuna.samplers.TPESampler(seed=seed))
        study.enqueue_trial({key: booster.DEFAULTS[key] for key in _SEARCHED})
        study.optimize(objective, n_trials=n_trials)
    finally:
        optuna.logging.set_verbosity(level)
    return Found(study.best_params, study.best_value, [(trial.params, float(trial.value or 0.0)) for trial in study.trials])
