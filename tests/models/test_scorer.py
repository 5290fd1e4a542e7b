import time

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import booster
from models.errors import FeatureMismatchError, ShapeError, UnsupportedModelError
from models.scorer import Scorer


def _rows(rng, n=600, features=6):
    x = rng.normal(size=(n, features))
    x[rng.random(x.shape) < 0.1] = np.nan
    x[rng.random(x.shape) < 0.1] = 0.0
    x[:, 1] = np.round(x[:, 1], 1)  # ties
    return x


def _fit(x, seed=0, n_trees=40, **params):
    y = (np.nan_to_num(x[:, 0] - x[:, 2] * x[:, 3]) + np.random.default_rng(seed).normal(size=len(x)) > 0).astype(float)
    settings = {"min_data_in_leaf": 5, "num_leaves": 31, "feature_fraction": 0.8, **params}
    return booster.train(x, y, [f"f{i}" for i in range(x.shape[1])], params=settings, n_trees=n_trees, seed=seed)


def _odd_rows(x):
    zero = 1.0000000180025095e-35  # as wide as zero is to LightGBM
    odd = np.array([np.nan, 0.0, -0.0, 1e-36, -1e-36, 1e-35, 2e-35, -zero, zero, np.inf, -np.inf, 1e300, -1e300, 5e-324])
    return np.concatenate([x, np.tile(odd[:, None], (1, x.shape[1])), np.random.default_rng(1).choice(odd, (200, x.shape[1]))])


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"use_missing": False},
        {"zero_as_missing": True},
        {"num_leaves": 64, "min_data_in_leaf": 2},
        {"num_leaves": 2},
        {"sigmoid": 0.7},
        {"boosting": "dart"},
        {"max_bin": 4},
    ],
    ids=str,
)
def test_scores_are_bit_for_bit_lightgbms(params):
    x = _rows(np.random.default_rng(7))
    model = _fit(x, **params)
    scorer = Scorer(booster.text(model))
    rows = _odd_rows(x)
    assert np.array_equal(scorer.batch(rows)[:, 0], booster.score(model, rows))
    np.testing.assert_allclose(scorer.batch(rows)[:, 1], model.predict(rows), rtol=1e-14)


def test_thresholds_themselves_go_left_as_in_lightgbm():
    x = _rows(np.random.default_rng(3))
    model = _fit(x)
    dump = model.trees_to_dataframe().dropna(subset=["threshold"])
    rows = np.tile(x[:1], (len(dump), 1))
    for row, name, value in zip(rows, dump["split_feature"], dump["threshold"], strict=True):
        row[int(name[1:])] = value
    assert np.array_equal(Scorer(booster.text(model)).batch(rows)[:, 0], booster.score(model, rows))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(20, 200), leaves=st.integers(2, 64), trees=st.integers(1, 12))
def test_any_small_booster_is_scored_exactly(seed, n, leaves, trees):
    x = _rows(np.random.default_rng(seed), n=n, features=4)
    model = _fit(x, seed=seed, n_trees=trees, num_leaves=leaves, min_data_in_leaf=1)
    rows = _odd_rows(x)
    assert np.array_equal(Scorer(booster.text(model)).batch(rows)[:, 0], booster.score(model, rows))


def test_trees_of_a_single_leaf_count():
    x = _rows(np.random.default_rng(5), n=40)
    model = _fit(x, min_data_in_leaf=1000)  # no split is possible
    assert np.array_equal(Scorer(booster.text(model)).batch(x)[:, 0], booster.score(model, x))


def test_one_row_equals_the_batch_and_reading_a_file_changes_nothing(tmp_path):
    x = _rows(np.random.default_rng(11))
    model = _fit(x)
    model.save_model(tmp_path / "model.lgb")
    scorer = Scorer((tmp_path / "model.lgb").read_text(), calibration=(1.3, -0.2))
    batch = scorer.batch(x)
    singles = np.array([scorer.score(row) for row in x])
    assert np.array_equal(batch, singles)
    assert np.array_equal(batch[:, 0], booster.score(model, x))
    np.testing.assert_allclose(batch[:, 1], 1 / (1 + np.exp(-(1.3 * batch[:, 0] - 0.2))), rtol=1e-14)


def test_first_differing_feature_is_named():
    model = booster.text(_fit(_rows(np.random.default_rng(0))))
    Scorer(model, names=["f0", "f1", "f2", "f3", "f4", "f5"])
    with pytest.raises(FeatureMismatchError, match=r"feature 2 must be 'f2', received 'f3'"):
        Scorer(model, names=["f0", "f1", "f3", "f2", "f4", "f5"])
    with pytest.raises(FeatureMismatchError, match=r"feature 5 must be 'f5', received None"):
        Scorer(model, names=["f0", "f1", "f2", "f3", "f4"])


def test_rows_of_the_wrong_width_are_refused():
    scorer = Scorer(booster.text(_fit(_rows(np.random.default_rng(0)))))
    with pytest.raises(ShapeError):
        scorer.score(np.zeros(5))
    with pytest.raises(ShapeError):
        scorer.batch(np.zeros((3, 7)))


def _other(x, y, categorical="auto", **params):
    dataset = lightgbm.Dataset(x, y, categorical_feature=categorical)
    return lightgbm.train({"verbosity": -1, "min_data_in_leaf": 5, **params}, dataset, 5).model_to_string()


def test_what_it_cannot_walk_is_refused_by_name():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3))
    x[:, 2] = rng.integers(0, 5, 400)
    y = (x[:, 0] + (x[:, 2] == 3) > 0).astype(float)
    with pytest.raises(UnsupportedModelError, match="objective"):
        Scorer(_other(x, y, objective="regression"))
    with pytest.raises(UnsupportedModelError, match="num_tree_per_iteration"):
        Scorer(_other(x, x[:, 2], objective="multiclass", num_class=5))
    with pytest.raises(UnsupportedModelError, match="num_cat"):
        Scorer(_other(x, y, categorical=[2], objective="binary", min_data_per_group=1))
    with pytest.raises(UnsupportedModelError, match="is_linear"):
        Scorer(_other(x, y, objective="binary", linear_tree=True))
    with pytest.raises(UnsupportedModelError, match="num_leaves"):
        Scorer(_other(x, (rng.random(400) > 0.5).astype(float), objective="binary", num_leaves=100, min_data_in_leaf=1))
    with pytest.raises(UnsupportedModelError, match="average_output"):
        Scorer(_other(x, y, objective="binary", boosting="rf", bagging_freq=1, bagging_fraction=0.5))
    with pytest.raises(UnsupportedModelError, match="no booster's text"):
        Scorer("what is this")


def test_a_full_sized_booster_is_scored_in_microseconds():
    rng = np.random.default_rng(0)
    x = np.cumsum(rng.normal(size=(4000, 75)), axis=0) * 0.1  # neighbours are alike, as books are
    model = _fit(x, n_trees=300, num_leaves=31)
    scorer = Scorer(booster.text(model))
    took = []
    for row in x[:2000]:
        start = time.perf_counter_ns()
        scorer.score(row)
        took.append(time.perf_counter_ns() - start)
    assert np.median(took) < 50_000  # 5 us on a quiet core: a shared one must still be far from LightGBM's own 40


def test_an_anchored_booster_is_scored_exactly():
    x = _rows(np.random.default_rng(2))
    y = (np.nan_to_num(x[:, 0]) + np.random.default_rng(0).normal(size=len(x)) > 0).astype(float)
    model = booster.train(x, y, [f"f{i}" for i in range(6)], n_trees=90, anchor="f0")
    rows = _odd_rows(x)
    assert np.array_equal(Scorer(booster.text(model)).batch(rows)[:, 0], booster.score(model, rows))
