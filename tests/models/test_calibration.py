import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from models.calibration import fit_platt, sigmoid
from models.errors import ShapeError, TooLittleDataError


def test_platt_finds_the_slope_that_made_the_labels():
    rng = np.random.default_rng(0)
    raw = rng.normal(size=40_000) * 2
    y = (rng.random(len(raw)) < sigmoid(0.4 * raw - 0.3)).astype(float)
    platt = fit_platt(raw, y)
    assert platt.a == pytest.approx(0.4, abs=0.03)
    assert platt.b == pytest.approx(-0.3, abs=0.03)
    assert platt(raw).mean() == pytest.approx(y.mean(), abs=1e-3)


def test_platt_agrees_with_logistic_regression_with_weights():
    rng = np.random.default_rng(1)
    raw, w = rng.normal(size=5_000), rng.random(5_000) * 2
    y = (rng.random(5_000) < sigmoid(raw)).astype(float)
    other = LogisticRegression(C=1e9, tol=1e-10).fit(raw[:, None], y, sample_weight=w)
    platt = fit_platt(raw, y, w)
    assert platt.a == pytest.approx(other.coef_[0, 0], abs=2e-3)
    assert platt.b == pytest.approx(other.intercept_[0], abs=2e-3)


def test_separable_scores_stay_finite():
    raw = np.linspace(-1, 1, 50)
    platt = fit_platt(raw, (raw > 0).astype(float))
    assert np.isfinite(platt).all()
    assert platt.a > 1


def test_scores_without_content_become_the_base_rate():
    platt = fit_platt(np.zeros(100), (np.arange(100) < 30).astype(float))
    assert platt(np.zeros(1))[0] == pytest.approx(0.3, abs=0.02)


def test_bad_input_is_refused():
    with pytest.raises(TooLittleDataError):
        fit_platt(np.zeros(3), np.ones(3))
    with pytest.raises(ShapeError):
        fit_platt(np.array([np.nan, 0.0]), np.array([0.0, 1.0]))
    with pytest.raises(ShapeError):
        fit_platt(np.zeros(2), np.array([0.0, 2.0]))


def test_scores_that_point_the_wrong_way_are_not_turned_round():
    raw = np.linspace(-1, 1, 200)
    platt = fit_platt(raw, (raw < 0.2).astype(float))
    assert platt.a == 0.0
    assert np.ptp(platt(raw)) == 0.0
