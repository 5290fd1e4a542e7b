import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn import metrics

from models import evaluation
from models.errors import ShapeError
from tests import naive_models as naive

SECOND = 1_000_000_000


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=60))
def test_auc_equals_comparing_all_pairs_and_pr_auc_scikit_learn(rows):
    y = np.array([int(up) for up, _ in rows])
    score = np.array([value / 7 for _, value in rows])
    if 0 < y.sum() < len(y):
        assert evaluation.auc(y, score) == pytest.approx(naive.auc(y, score))
        assert evaluation.auc(y, -score) == pytest.approx(1 - naive.auc(y, score))
        assert evaluation.pr_auc(y, score) == pytest.approx(metrics.average_precision_score(y, score))
    else:
        assert math.isnan(evaluation.auc(y, score))


def test_losses_equal_scikit_learns():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.01, 0.99, 500)
    y = (rng.random(500) < p).astype(int)
    assert evaluation.log_loss(y, p) == pytest.approx(metrics.log_loss(y, p))
    assert evaluation.brier(y, p) == pytest.approx(metrics.brier_score_loss(y, p))


def test_information_coefficient_equals_scipys_and_skips_the_unknown():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 9, 300).astype(float), rng.normal(size=300)
    assert evaluation.information_coefficient(a, b) == pytest.approx(spearmanr(a, b).statistic)
    holes = np.concatenate([b, [np.nan]])
    assert evaluation.information_coefficient(np.append(a, 3.0), holes) == pytest.approx(spearmanr(a, b).statistic)
    assert math.isnan(evaluation.information_coefficient(np.ones(5), np.arange(5.0)))
    assert math.isnan(evaluation.information_coefficient(np.empty(0), np.empty(0)))


def test_honest_probabilities_are_calibrated_and_boasting_ones_are_not():
    rng = np.random.default_rng(2)
    p = rng.uniform(size=20_000)
    y = (rng.random(20_000) < p).astype(int)
    assert evaluation.expected_calibration_error(y, p) < 0.02
    assert evaluation.expected_calibration_error(y, np.where(p > 0.5, 0.95, 0.05)) > 0.15
    r = evaluation.reliability(y, p)
    assert r.rows.sum() == 20_000
    assert (np.diff(r.said) > 0).all()


def test_precision_counts_both_ends():
    y = np.array([0, 0, 1, 0, 1, 1])
    score = np.array([0.0, 0.1, 0.4, 0.6, 0.8, 0.9])
    assert evaluation.precision_at_k(y, score, 4 / 6) == 1.0
    assert evaluation.precision_at_k(1 - y, score, 4 / 6) == 0.0


def _scored(n, strength, seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    return y, y * strength + rng.normal(size=n), np.cumsum(rng.integers(1, 3, n)) * SECOND // 10


def test_bounds_hold_the_truth_and_narrow_with_data():
    y, score, ns = _scored(4000, 1.0, 0)
    (found,), lead = evaluation.auc_intervals(y, [score], ns, 10 * SECOND)
    assert found.low < 0.7602 < found.high  # Phi(1 / sqrt 2)
    assert math.isnan(lead.value)
    (few,), _ = evaluation.auc_intervals(y[:400], [score[:400]], ns[:400], 10 * SECOND)
    assert few.high - few.low > found.high - found.low


def test_lead_is_surer_than_either_score_alone():
    y, score, ns = _scored(3000, 1.0, 3)
    worse = score + np.random.default_rng(4).normal(size=3000) * 0.7
    (first, second), lead = evaluation.auc_intervals(y, [score, worse], ns, 5 * SECOND)
    assert lead.value == pytest.approx(first.value - second.value)
    assert 0 < lead.low < lead.value < lead.high
    assert lead.high - lead.low < first.high - second.low
    _, nothing = evaluation.auc_intervals(y, [score, score], ns, 5 * SECOND)
    assert nothing == (0.0, 0.0, 0.0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.integers(0, 3)), min_size=2, max_size=40))
def test_weighted_auc_equals_comparing_all_pairs(rows):
    y = np.array([int(up) for up, _, _ in rows])
    score = np.array([float(value) for _, value, _ in rows])
    weight = np.array([float(w) for _, _, w in rows])
    order = np.argsort(score, kind="stable")
    got = evaluation._weighted_auc(order, score[order], y == 1, weight)
    if weight[y == 1].sum() and weight[y == 0].sum():
        assert got == pytest.approx(naive.auc(y, score, weight))
    else:
        assert math.isnan(got)


def test_mean_interval_of_alike_neighbours_is_wider():
    rng = np.random.default_rng(5)
    ns = np.arange(2000) * SECOND
    alike = np.repeat(rng.normal(size=100), 20)
    by_block = evaluation.mean_interval(alike, ns, 20 * SECOND)
    by_row = evaluation.mean_interval(alike, ns, SECOND)
    assert by_block.high - by_block.low > 2 * (by_row.high - by_row.low)
    assert math.isnan(evaluation.mean_interval(np.empty(0), np.empty(0, np.int64), 1).low)


def test_metrics_of_a_stretch_stand_beside_the_baselines():
    rng = np.random.default_rng(6)
    returns = rng.normal(size=3000)
    direction = np.sign(np.where(np.abs(returns) > 0.3, returns, 0)).astype(np.int64)
    probability = 1 / (1 + np.exp(-returns - rng.normal(size=3000)))
    baseline = returns + 3 * rng.normal(size=3000)
    baseline[:10] = np.nan
    found = evaluation.evaluate(direction, probability, baseline, returns)
    assert found["rows"] == 3000
    assert found["moved"] == (direction != 0).sum()
    assert found["auc"] > found["baseline_auc"] > 0.5
    assert found["auc_gain"] == found["auc"] - found["baseline_auc"]
    assert found["log_loss"] < found["base_log_loss"]
    with pytest.raises(ShapeError):
        evaluation.evaluate(direction, probability[:-1], baseline, returns)
    still = evaluation.evaluate(np.zeros(5, np.int64), np.full(5, 0.5), np.zeros(5), np.zeros(5))
    assert math.isnan(still["auc"])


def test_stability_sees_shifts_and_missing_values():
    x = np.random.default_rng(7).normal(size=5000)
    holes = x.copy()
    holes[:2500] = np.nan
    assert evaluation.population_stability(x, x[::2]) < 0.02
    assert evaluation.population_stability(x, x + 1) > 0.25
    assert evaluation.population_stability(x, holes) > 0.25
    assert evaluation.population_stability(np.full(10, np.nan), np.full(10, np.nan)) == 0.0
