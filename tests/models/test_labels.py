import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import labels
from models.errors import ShapeError, TooLittleDataError
from tests import naive_models as naive

SECOND = 1_000_000_000


def _series(seed, n, empty=0.05):
    """A random walk on ticks with repeated stamps, and now and then no book."""
    rng = np.random.default_rng(seed)
    exchange_ns = 1_700_000_000 * SECOND + np.cumsum(rng.choice([0, 1, SECOND // 10, SECOND], n))
    bid = 100.0 + np.cumsum(rng.integers(-2, 3, n)) * 0.5
    ask = bid + rng.integers(1, 4, n) * 0.5
    hole = rng.random(n) < empty
    bid[hole] = np.nan
    return exchange_ns, bid, ask


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 60), horizon=st.sampled_from([1, SECOND // 10, SECOND, 5 * SECOND]))
def test_volatility_normalized_return_equals_the_slow_one(seed, n, horizon):
    exchange_ns, bid, ask = _series(seed, n)
    price = (bid + ask) / 2
    r = labels.volatility_normalized_return(exchange_ns, price, horizon, half_life_ns=3e9, warmup_ns=SECOND)
    sigma = naive.sigma(exchange_ns, price, 3e9, SECOND)
    ret = naive.horizon_return(exchange_ns, price, horizon)
    np.testing.assert_allclose(r.sigma_bps, sigma * 1e4, rtol=1e-9)
    np.testing.assert_allclose(r.return_bps, ret * 1e4, atol=1e-9)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = np.where(sigma > 0, ret / (sigma * np.sqrt(horizon * 1e-9)), np.nan)
    np.testing.assert_allclose(r.vol_return, expected, rtol=1e-9, atol=1e-12)
    assert np.array_equal(r.end_ns - r.start_ns, np.full(n, horizon))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 60), data=st.data())
def test_sigma_begins_anew_behind_each_doubtful_interval(seed, n, data):
    exchange_ns, bid, ask = _series(seed, n)
    price = (bid + ask) / 2
    at = sorted(data.draw(st.lists(st.integers(int(exchange_ns[0]), int(exchange_ns[-1])), min_size=2, max_size=6)))
    intervals = np.array([[start, end, i % 3] for i, (start, end) in enumerate(itertools.pairwise(at))])
    r = labels.volatility_normalized_return(exchange_ns, price, SECOND, 3e9, SECOND, intervals)
    np.testing.assert_allclose(r.sigma_bps, naive.sigma(exchange_ns, price, 3e9, SECOND, intervals) * 1e4, rtol=1e-9)


def test_a_jump_within_a_gap_makes_no_volatility():
    exchange_ns = np.concatenate([np.arange(30), 90 + np.arange(30)]) * SECOND
    price = np.where(exchange_ns < 60 * SECOND, 100.0, 150.0) + 0.01 * (np.arange(60) % 2)
    gap = np.array([[30 * SECOND, 90 * SECOND, 2]])
    blind = labels.volatility_normalized_return(exchange_ns, price, SECOND)
    seeing = labels.volatility_normalized_return(exchange_ns, price, SECOND, intervals=gap)
    assert blind.sigma_bps[45] > 100
    assert seeing.sigma_bps[45] < 2
    assert np.isnan(seeing.sigma_bps[30:40]).all()
    assert np.array_equal(blind.sigma_bps[:30], seeing.sigma_bps[:30], equal_nan=True)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 150),
    profit=st.sampled_from([0.5, 1.0, 2.0]),
    stop=st.sampled_from([1.0, 2.0, 3.0]),
    limit=st.sampled_from([1, SECOND, 10 * SECOND, 90 * SECOND]),
    fee=st.sampled_from([0.0, 2.0, 50.0]),
)
def test_triple_barrier_equals_following_every_trade(seed, n, profit, stop, limit, fee):
    exchange_ns, bid, ask = _series(seed, n)
    b = labels.triple_barrier(exchange_ns, bid, ask, profit, stop, limit, fee)
    expected = np.array(naive.triple_barrier(exchange_ns, bid, ask, profit, stop, limit, fee), dtype=object)
    assert b.label.tolist() == expected[:, 0].tolist()
    assert b.touch_ns.tolist() == expected[:, 1].tolist()
    np.testing.assert_allclose(b.ret_bps, expected[:, 2].astype(float), atol=1e-9)
    assert b.barrier.tolist() == expected[:, 3].tolist()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(5, 150), row=st.integers(0, 149))
def test_changing_what_comes_after_a_span_changes_no_label(seed, n, row):
    exchange_ns, bid, ask = _series(seed, n)
    row = min(row, n - 1)
    horizon = 2 * SECOND

    def all_labels(bid, ask):
        r = labels.volatility_normalized_return(exchange_ns, (bid + ask) / 2, horizon, warmup_ns=0)
        b = labels.triple_barrier(exchange_ns, bid, ask, 1, 2, horizon, 1.0)
        return r, b

    r, b = all_labels(bid, ask)
    changed_bid, changed_ask = bid.copy(), ask.copy()
    changed_bid[row:] = 500 + np.arange(n - row) * 7.0
    changed_ask[row:] = changed_bid[row:] + 0.5
    r2, b2 = all_labels(changed_bid, changed_ask)
    before = np.arange(n) < row
    known = before & (r.end_ns < exchange_ns[row])
    assert np.array_equal(r.vol_return[known], r2.vol_return[known], equal_nan=True)
    assert np.array_equal(r.sigma_bps[before], r2.sigma_bps[before], equal_nan=True)
    known = before & (b.touch_ns < exchange_ns[row])
    for name in ("label", "touch_ns", "ret_bps", "barrier"):
        assert np.array_equal(getattr(b, name)[known], getattr(b2, name)[known], equal_nan=True)


def test_profit_is_net_of_spread_and_fees():
    t = np.arange(3) * SECOND
    bid, ask = np.array([100.0, 100.0, 110.0]), np.array([100.5, 100.5, 110.5])
    b = labels.triple_barrier(t, bid, ask, 2, 2, 2 * SECOND, fee_bps=10)
    assert b.label[0] == 1
    assert b.barrier[0] == labels.PROFIT
    assert b.ret_bps[0] == pytest.approx(1e4 * 9.5 / 100.5 - 20)


def test_falling_book_pays_the_short():
    t = np.arange(3) * SECOND
    bid = np.array([100.0, 97.0, 90.0])
    b = labels.triple_barrier(t, bid, bid + 0.5, 1, 2, SECOND, fee_bps=0)
    assert b.label.tolist() == [-1, -1, 0]
    assert b.ret_bps[0] == pytest.approx(1e4 * 2.5 / 100.0)
    assert b.barrier[2] == labels.UNDECIDED


def test_series_that_run_backwards_are_refused():
    t = np.array([1, 3, 2])
    with pytest.raises(ShapeError, match="a step back at row 2"):
        labels.volatility_normalized_return(t, np.ones(3), 1)
    with pytest.raises(ShapeError):
        labels.triple_barrier(t, np.ones(3), np.ones(3), 1, 1, 1, 0)
    with pytest.raises(ShapeError):
        labels.volatility_normalized_return(t[:2], np.ones(3), 1)


def test_empty_series_have_empty_labels():
    none = np.empty(0, np.int64)
    assert len(labels.volatility_normalized_return(none, np.empty(0), 1).vol_return) == 0
    assert len(labels.triple_barrier(none, np.empty(0), np.empty(0), 1, 1, 1, 0).label) == 0


def test_clip_limits_need_a_known_return():
    with pytest.raises(TooLittleDataError):
        labels.clip_limits(np.array([np.nan]))


@settings(max_examples=100, deadline=None)
@given(
    spans=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 10)), max_size=20),
    intervals=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 15), st.integers(0, 3)), max_size=8),
)
def test_doubt_over_equals_looking_at_every_interval(spans, intervals):
    start = np.array([s for s, _ in spans], np.int64)
    end = np.array([s + d for s, d in spans], np.int64)
    rows = np.array([(a, a + d, c) for a, d, c in intervals], np.int64).reshape(-1, 3)
    got = labels.doubt_over(start, end, rows)
    # Where intervals overlap, the earliest start decides; among equals either may.
    for value, naive_value, s, e in zip(got, naive.doubt_over(start, end, rows), start, end, strict=True):
        assert (value == 0) == (naive_value == 0)
        if value:
            assert any(c == value and a <= e and b >= s for a, b, c in rows)
