import numpy as np
import pytest

from models import booster
from models.errors import TooLittleDataError
from models.search import search


def _rows(n=600):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 3))
    spans = np.column_stack([np.arange(n), np.arange(n) + 5])
    return x, (x[:, 0] + rng.normal(size=n) > 0).astype(float), ["a", "b", "c"], spans


def _fit(x, y, names):
    return lambda rows, params: booster.train(x[rows], y[rows], names, params=params, n_trees=15)


def test_same_seed_finds_the_same_and_defaults_are_among_the_trials():
    x, y, names, spans = _rows()
    found = search(_fit(x, y, names), x, y, spans, n_trials=4, seed=3)
    again = search(_fit(x, y, names), x, y, spans, n_trials=4, seed=3)
    assert found == again
    assert len(found.trials) == 4
    assert found.trials[0][0]["num_leaves"] == booster.DEFAULTS["num_leaves"]
    assert found.log_loss == min(loss for _, loss in found.trials)
    assert found.log_loss < 0.69


def test_trials_train_on_purged_rows_only():
    x, y, names, spans = _rows()
    trained = []

    def fit(rows, params):
        trained.append(rows)
        return _fit(x, y, names)(rows, params)

    search(fit, x, y, spans, n_trials=1, n_folds=3)
    assert [len(rows) for rows in trained] == [400 - 5, 400 - 10, 400 - 5]


def test_too_few_rows_are_refused():
    x, y, names, spans = _rows(2)
    with pytest.raises(TooLittleDataError):
        search(_fit(x, y, names), x, y, spans, n_trials=2)
    x, _, names, spans = _rows(60)
    ones = np.ones(60)
    with pytest.raises(TooLittleDataError):
        search(_fit(x, ones, names), x, ones, spans, n_trials=2)
