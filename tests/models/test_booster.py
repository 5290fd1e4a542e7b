import numpy as np
import pytest

from models import booster
from models.errors import FeatureMismatchError, ShapeError, TooLittleDataError


def _rows(n=500):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 3))
    return x, (x[:, 1] + rng.normal(size=n) > 0).astype(float), ["mid", "ofi_1", "vpin"]


def test_same_rows_and_seed_give_the_same_trees():
    x, y, names = _rows()
    first = booster.text(booster.train(x, y, names, n_trees=10, seed=5))
    assert booster.text(booster.train(x, y, names, n_trees=10, seed=5)) == first
    assert booster.text(booster.train(x, y, names, n_trees=10, seed=6)) != first


def test_importance_sums_to_one_and_leads_with_what_matters():
    x, y, names = _rows()
    gain = booster.importance(booster.train(x, y, names, n_trees=10))
    assert next(iter(gain)) == "ofi_1"
    assert sum(gain.values()) == pytest.approx(1.0)
    assert set(gain) == set(names)


def test_weights_matter():
    x, y, names = _rows()
    weight = np.where(y == 1, 5.0, 1.0)
    plain, heavy = (booster.score(booster.train(x, y, names, weight=w, n_trees=10), x).mean() for w in (None, weight))
    assert heavy > plain + 0.5


def test_bad_input_is_refused():
    x, y, names = _rows()
    with pytest.raises(ShapeError, match="x must be"):
        booster.train(x, y, names[:2])
    with pytest.raises(ShapeError, match="0 or 1"):
        booster.train(x, y * 2 - 1, names)
    with pytest.raises(TooLittleDataError, match="labels of 0"):
        booster.train(x, np.ones(len(x)), names)


def test_anchor_leads_and_the_rest_may_only_correct_it():
    x, y, names = _rows()
    anchored = booster.train(x, y, names, n_trees=80, anchor="mid")
    assert anchored.num_trees() == 80
    only = booster.train(x, y, names, n_trees=booster.ANCHOR_TREES, anchor="mid")
    assert set(np.flatnonzero(only.feature_importance())) <= {0}
    rising = np.column_stack([np.linspace(-3, 3, 50), np.zeros((50, 2))])
    assert (np.diff(booster.score(only, rising)) >= 0).all()
    np.testing.assert_array_equal(booster.score(anchored, x, booster.ANCHOR_TREES), booster.score(only, x))
    with pytest.raises(FeatureMismatchError, match="'queue'"):
        booster.train(x, y, names, anchor="queue")
