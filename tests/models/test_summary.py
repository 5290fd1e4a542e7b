import json
import math

import numpy as np
import pytest

from models.examples import Choices
from models.summary import Summary, summarize
from models.training import train
from tests.models.examples import SECOND, made_up


@pytest.fixture(scope="module")
def examples():
    e = made_up(n=3000)
    e.doubt[1000:1100] = 2
    return e


@pytest.fixture(scope="module")
def result(examples):
    return train(examples, Choices(horizon_ns=SECOND, n_folds=3, embargo_ns=SECOND, n_trees=20))


@pytest.fixture(scope="module")
def summary(result, examples):
    return summarize(result, examples)


def test_summary_survives_json(summary):
    kept = json.loads(json.dumps(summary.as_dict(), default=float))
    again = Summary.from_dict({**kept, "unknown": 1})
    assert json.dumps(again.as_dict()) == json.dumps(kept)
    assert again.folds[0]["auc"] == summary.folds[0]["auc"]


def test_numbers_are_those_of_the_training(result, examples, summary):
    assert summary.intervals["auc"] == list(result.auc)
    assert summary.rows == 3000
    assert summary.usable == examples.usable.sum()
    assert summary.lost["gap"] == 100
    assert sum(fold["tested"] for fold in summary.folds) == summary.metrics["rows"]
    assert summary.labels["up"] + summary.labels["flat"] + summary.labels["down"] == summary.usable
    assert sum(summary.labels["return_bps"]["rows"]) == summary.usable
    assert summary.latencies[0]["gross_bps"][0] == pytest.approx(summary.metrics["break_even_bps"])
    assert [f["name"] for f in summary.features] == [f["name"] for f in result.features]


def test_area_under_the_kept_curve_is_the_auc(summary):
    values = [summary.metrics["auc"], summary.baseline["auc"], *(f["auc"][0] for f in summary.folds)]
    for curve, value in zip(summary.roc, values, strict=True):
        x, y = curve["false_share"], curve["true_share"]
        assert (x[0], y[0], x[-1], y[-1]) == (0.0, 0.0, 1.0, 1.0)
        assert np.trapezoid(y, x) == pytest.approx(value, abs=2e-3)


def test_bounds_hold_the_estimate(summary):
    for name, (value, low, high) in summary.intervals.items():
        assert low <= value <= high, name
    for row in summary.reliability:
        assert row["low"] <= row["came"] <= row["high"]


def test_equity_ends_at_the_sum_of_all_trades(result, summary):
    assert summary.equity["gross_bps"][-1] == pytest.approx(result.trades.gross_bps.sum())
    assert summary.equity["trades"][-1] == len(result.trades.side)
    assert all(a < b for a, b in zip(summary.equity["trades"], summary.equity["trades"][1:], strict=False))


def test_baseline_trades_on_limits_of_the_past(summary):
    assert summary.baseline["trades"] > 0
    assert math.isfinite(summary.baseline["break_even_bps"])


def test_long_results_are_kept_short(result, examples):
    longer = made_up(n=6000, seed=3)
    found = summarize(train(longer, Choices(horizon_ns=SECOND // 5, n_folds=2, n_trees=5, trade_share=0.9)), longer)
    assert len(found.equity["exit_ns"]) <= 400 < found.metrics["trades"]
    assert len(json.dumps(found.as_dict(), default=float)) < 250_000
