from dataclasses import replace

import pytest

from models.examples import Choices
from models.summary import summarize
from models.training import train
from models.verdict import Answer, Costs, taking_bps, verdict
from tests.models.examples import SECOND, made_up

NAN = float("nan")


@pytest.fixture(scope="module")
def summary():
    examples = made_up(n=2000)
    return summarize(train(examples, Choices(horizon_ns=SECOND, n_folds=2, n_trees=10)), examples)


def told(summary, auc=(0.6, 0.58, 0.62), gain=(0.02, 0.01, 0.03), pays=(0.6, 0.5, 0.7), spread=0.1, costs=None):
    intervals = {**summary.intervals, "auc": list(auc), "auc_gain": list(gain), "break_even_bps": list(pays)}
    metrics = {**summary.metrics, "spread_bps": spread, "trades": 1234.0}
    return verdict(replace(summary, intervals=intervals, metrics=metrics), costs or Costs())


@pytest.mark.parametrize(
    ("gain", "answer"),
    [
        ((0.02, 0.01, 0.03), Answer.YES),
        ((0.02, -0.01, 0.05), Answer.MAYBE),
        ((-0.02, -0.03, 0.01), Answer.MAYBE),
        ((-0.02, -0.03, -0.01), Answer.NO),
        ((NAN, NAN, NAN), Answer.UNKNOWN),
    ],
)
def test_beating_the_baseline_takes_the_lower_bound(summary, gain, answer):
    assert told(summary, gain=gain).beats_baseline == answer


@pytest.mark.parametrize(
    ("pays", "answer"),
    [
        ((9.0, 8.2, 9.9), Answer.YES),
        ((9.0, 7.9, 9.9), Answer.MAYBE),
        ((0.6, 0.5, 0.7), Answer.NO),
        ((-0.1, -0.2, 0.1), Answer.NO),
        ((NAN, NAN, NAN), Answer.UNKNOWN),
    ],
)
def test_paying_a_taker_takes_the_lower_bound_above_all_costs(summary, pays, answer):
    assert told(summary, pays=pays).pays_taker == answer


def test_words_carry_the_numbers(summary):
    found = told(summary)
    assert found.headline == "Better than the baseline, but it cannot be traded by a taker."
    assert "by at least 0.010" in found.model
    assert "pays 0.60 bps a trade" in found.money
    assert "1,234 trades" in found.money
    assert "taking costs 8.10 bps (two fees of 4 bps and 0.10 bps of spread)" in found.money
    assert "13.5 times as much" in found.money


def test_losing_is_said_first(summary):
    found = told(summary, gain=(-0.02, -0.03, -0.01))
    assert found.headline.startswith("Worse than the baseline, and")
    assert "use the baseline" in found.model


def test_resting_orders_are_weighed_by_their_fee(summary):
    assert "are less, but a resting order is not always filled" in told(summary, costs=Costs(4.0, 0.1)).money
    assert "are more than it pays, too" in told(summary, costs=Costs(4.0, 2.0)).money


def test_caveats_name_what_weakens_the_result(summary):
    weak = replace(
        summary,
        n_trials=20,
        stability=0.1,
        features=[{**summary.features[0], "gain": 0.95}],
        metrics={**summary.metrics, "ece": 0.2, "auc": 0.95, "trades": 7.0},
    )
    text = " ".join(verdict(weak, Costs()).caveats)
    parts = ("7 trades are few", "off by 20.0%", "suspect a leak", "20 parameter sets", "rank correlation 0.10", "95% of what")
    for part in (*parts, "of one market"):
        assert part in text


def test_unknown_spread_costs_only_fees(summary):
    assert taking_bps(replace(summary, metrics={**summary.metrics, "spread_bps": NAN}), Costs(3.0)) == 6.0
