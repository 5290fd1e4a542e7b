import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import strategy
from models.errors import CostsMissingError, ShapeError
from tests import naive_models as naive

SECOND = 1_000_000_000


def _market(seed, n):
    rng = np.random.default_rng(seed)
    ns = np.cumsum(rng.choice([0, 1, 3], n)).astype(np.int64)
    mid = 100 + np.cumsum(rng.normal(size=n))
    return ns, rng.random(n), mid - 0.1, mid + 0.1


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 60), horizon=st.integers(1, 12), latency=st.integers(0, 4))
def test_trades_equal_going_row_by_row(seed, n, horizon, latency):
    ns, p, bid, ask = _market(seed, n)
    trades = strategy.trade(ns, p, bid, ask, 0.3, 0.7, horizon, latency)
    expected = naive.trades(ns.tolist(), p, 0.3, 0.7, horizon, latency)
    assert trades.entry_ns.tolist() == [ns[i] for i, _, _ in expected]
    assert trades.exit_ns.tolist() == [ns[j] for _, j, _ in expected]
    assert trades.side.tolist() == [side for _, _, side in expected]
    mid = (bid + ask) / 2
    np.testing.assert_allclose(trades.gross_bps, [side * 1e4 * (mid[j] / mid[i] - 1) for i, j, side in expected], atol=1e-9)


def test_nothing_is_traded_on_nan_or_alike_probabilities():
    ns, _, bid, ask = _market(0, 50)
    assert len(strategy.trade(ns, np.full(50, np.nan), bid, ask, 0.3, 0.7, 2).side) == 0
    limits = strategy.entry_limits(np.full(50, 0.5))
    assert len(strategy.trade(ns, np.full(50, 0.5), bid, ask, *limits, 2).side) == 0


def test_perfect_foresight_earns_the_move_and_costs_take_it_away():
    ns = np.arange(101, dtype=np.int64) * SECOND
    mid = 100 * (1 + 1e-4 * (np.arange(101) % 2))
    p = np.where(np.arange(101) % 2 == 0, 1.0, 0.0)
    trades = strategy.trade(ns, p, mid - 0.01, mid + 0.01, 0.1, 0.9, SECOND)
    assert len(trades.side) == 100
    assert strategy.break_even_bps(trades) == pytest.approx(1.0, abs=1e-3)
    assert trades.spread_bps[0] == pytest.approx(2.0, abs=1e-3)
    found = {tier.cost_bps: tier for tier in strategy.tiers(trades, 10 * SECOND, 100.0)}
    assert found[0.5].net_bps.value == pytest.approx(0.5, abs=1e-3)
    assert found[0.5].win_rate == 1.0
    assert found[0.5].max_drawdown_bps == 0.0
    assert found[2.0].total_bps == pytest.approx(-100, abs=0.1)
    assert found[2.0].sharpe < 0 < found[0.5].sharpe
    when, running = strategy.equity(trades, 0.5)
    assert running[-1] == pytest.approx(50, abs=0.1)
    assert when[-1] == ns[-1]


@pytest.mark.parametrize("cost", [None, 0.0, -1.0, math.nan])
def test_no_sharpe_without_a_cost(cost):
    with pytest.raises(CostsMissingError, match="above 0 bps"):
        strategy.sharpe(np.array([1.0, 2.0, 3.0]), cost, 60.0)


def test_sharpe_is_annualised_by_elapsed_time():
    net = np.array([1.0, 2.0, 3.0, 2.0])
    a_day = strategy.sharpe(net, 1.0, 86_400.0)
    assert a_day == pytest.approx(net.mean() / net.std(ddof=1) * math.sqrt(4 * 365))
    assert math.isnan(strategy.sharpe(net[:1], 1.0, 86_400.0))
    assert math.isnan(strategy.sharpe(np.ones(4), 1.0, 86_400.0))


def test_trying_more_deflates_more():
    net = np.random.default_rng(0).normal(0.15, 1, 500)
    once, ten, many = (strategy.deflated_sharpe(net, n) for n in (1, 10, 1000))
    assert once == strategy.probabilistic_sharpe(net)
    assert 1 > once > ten > many > 0
    assert math.isnan(strategy.deflated_sharpe(net[:2], 5))


def test_probabilistic_sharpe_is_a_coins_for_no_skill():
    net = np.random.default_rng(1).normal(size=1000)
    assert strategy.probabilistic_sharpe(net - net.mean()) == pytest.approx(0.5)
    assert strategy.probabilistic_sharpe(net + 1) > 0.999


def test_no_trades_have_no_numbers():
    ns, _, bid, ask = _market(0, 20)
    none = strategy.trade(ns, np.full(20, 0.5), bid, ask, 0.1, 0.9, 2)
    assert math.isnan(strategy.break_even_bps(none))
    assert all(math.isnan(tier.net_bps.value) and tier.total_bps == 0 for tier in strategy.tiers(none, 1, 1.0))
    with pytest.raises(ShapeError):
        strategy.trade(ns, np.zeros(3), bid, ask, 0, 1, 2)
