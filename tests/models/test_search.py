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


def test_same_seed_finds_the_same_and_defaults_are_among_the_trials():
    found = search(*_rows(), n_trials=4, n_trees=15, seed=3)
    again = search(*_rows(), n_trials=4, n_trees=15, seed=3)
    assert found == again
    assert len(found.trials) == 4
    assert found.trials[0][0]["num_leaves"] == booster.DEFAULTS["num_leaves"]
    assert found.log_loss == min(loss for _, loss in found.trials)
    assert found.log_loss < 0.69


def test_too_few_rows_are_refused():
    x, y, names, spans = _rows(2)
    with pytest.raises(TooLittleDataError):
        search(x, y, names, spans, n_trials=2)
    x, y, names, spans = _rows(60)
    with pytest.raises(TooLittleDataError):
        search(x, np.ones(60), names, spans, n_trials=2)
