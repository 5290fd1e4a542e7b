import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import ShapeError
from models.moves import microstructure, smoothed_direction, sweep_cost_bps
from tests import naive_models as naive

SECOND = 1_000_000_000


def _books(seed, n, empty=0.05):
    """Touches, micro-prices, costs and imbalances of a random walk with repeated stamps and holes."""
    rng = np.random.default_rng(seed)
    exchange_ns = 1_700_000_000 * SECOND + np.cumsum(rng.choice([0, 1, SECOND // 10, SECOND], n))
    bid = 100.0 + np.cumsum(rng.integers(-2, 3, n)) * 0.05
    ask = bid + rng.integers(1, 4, n) * 0.01
    micro = (bid + ask) / 2 + rng.uniform(-0.5, 0.5, n) * (ask - bid)
    buy, sell = rng.uniform(0.5, 6, n), rng.uniform(0.5, 6, n)
    imbalance = rng.choice([-0.9, -0.2, 0.0, 0.4, 1.0], n)
    for values in (micro, buy, imbalance):
        values[rng.random(n) < empty] = np.nan
    return exchange_ns, micro, bid, ask, buy, sell, imbalance


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 80), horizon=st.sampled_from([1, SECOND // 10, SECOND, 5 * SECOND]))
def test_microstructure_equals_the_slow_one(seed, n, horizon):
    series = _books(seed, n)
    got = microstructure(*series, horizon)
    label, weight, move = naive.microstructure(*series, horizon)
    assert got.label.tolist() == label
    np.testing.assert_allclose(got.weight, weight, rtol=1e-12)
    np.testing.assert_allclose(got.move_bps, move, atol=1e-9)
    assert (got.end_ns - got.start_ns == horizon).all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 80), k=st.integers(1, 20), alpha=st.sampled_from([0.0, 1e-4, 1e-3]))
def test_smoothed_direction_equals_the_slow_one(seed, n, k, alpha):
    exchange_ns, mid = _books(seed, n)[:2]
    got = smoothed_direction(exchange_ns, mid, k, alpha)
    move, end = naive.smoothed(exchange_ns, mid, k)
    np.testing.assert_allclose(got.move_bps, 1e4 * np.array(move), atol=1e-8)
    assert got.end_ns.tolist() == end
    clear = ~(np.abs(np.abs(move) - alpha) < 1e-12)  # where sums of another order may not part them
    assert np.array_equal(got.label[clear], np.nan_to_num(np.sign(move) * (np.abs(move) > alpha))[clear])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(5, 80), row=st.integers(1, 79))
def test_changing_what_comes_after_a_span_changes_no_label(seed, n, row):
    row = min(row, n - 1)
    series = _books(seed, n)
    later = [values.copy() for values in series]
    for values in later[1:]:
        values[row:] = 500 + np.arange(n - row) * 7.0
    before = np.arange(n) < row
    for one, two in (
        (microstructure(*series, SECOND), microstructure(*later, SECOND)),
        (smoothed_direction(*series[:2], 5, 1e-4), smoothed_direction(*later[:2], 5, 1e-4)),
    ):
        known = before & (one.end_ns < series[0][row])
        assert np.array_equal(one.label[known], two.label[known])
        assert np.array_equal(one.move_bps[known], two.move_bps[known], equal_nan=True)


def test_mirrored_books_have_the_other_label_and_the_same_weight():
    exchange_ns, micro, bid, ask, buy, sell, imbalance = _books(3, 400, empty=0.0)
    up = microstructure(exchange_ns, micro, bid, ask, buy, sell, imbalance, SECOND)
    # Prices run the other way around 200, what was bid is asked.
    down = microstructure(exchange_ns, 200 - micro, 200 - ask, 200 - bid, sell, buy, -imbalance, SECOND)
    same = np.isclose((bid + ask) / 2, 100, rtol=0.002)  # bps of nearly the same mid
    assert (up.label[same] != -down.label[same]).mean() < 0.05
    both = same & (up.label == -down.label)
    np.testing.assert_array_equal(up.weight[both], down.weight[both])
    assert {-1, 0, 1} == set(up.label)


@pytest.mark.parametrize(("move", "label"), [(3.1, 1), (2.9, 0), (-4.1, -1), (-3.9, 0)])
def test_a_move_must_pay_half_the_spread_and_the_sweep_of_its_side(move, label):
    micro = np.array([10_000.0, 10_000.0 + move])
    got = microstructure(
        np.array([0, 10]), micro, np.full(2, 9999.0), np.full(2, 10_001.0), np.full(2, 2.0), np.full(2, 3.0), np.array([0.75, 0.0]), 10
    )
    assert got.label.tolist() == [label, 0]
    assert got.weight[0] == (0.75 if label > 0 else 0.25)


def test_a_book_too_thin_for_the_order_pays_nothing():
    nan = np.full(2, np.nan)
    micro = np.array([100.0, 200.0])
    got = microstructure(np.array([0, 10]), micro, micro - 1, micro + 1, nan, nan, np.zeros(2), 10)
    assert got.label[0] == 0
    assert got.move_bps[0] == 10_000


def test_a_sweep_walks_the_levels_and_ends_with_them():
    price, size = np.array([[200.0, 250.0, 400.0, np.nan]]), np.array([[25.0, 20.0, 250.0, 0.0]])
    mid = np.array([150.0])
    assert sweep_cost_bps(price, size, mid, 10_000.0)[0] == pytest.approx(1e4 * (10_000 / 45 - 150) / 150)
    assert sweep_cost_bps(price, size, mid, 100_000.0)[0] == pytest.approx(1e4 * (100_000 / (45 + 90_000 / 400) - 150) / 150)
    assert np.isnan(sweep_cost_bps(price, size, mid, 110_001.0)[0])
    assert sweep_cost_bps(np.array([[100.0, 50.0]]), np.array([[50.0, 999.0]]), mid, 5000.0)[0] == pytest.approx(1e4 * 50 / 150)


def test_empty_series_have_empty_labels_and_bad_ones_are_refused():
    none, times = np.empty(0), np.empty(0, np.int64)
    assert len(microstructure(times, none, none, none, none, none, none, 1).label) == 0
    assert len(smoothed_direction(times, none, 3, 0.0).label) == 0
    with pytest.raises(ShapeError, match="1 or more"):
        smoothed_direction(times, none, 0, 0.0)
    with pytest.raises(ShapeError, match="a step back"):
        smoothed_direction(np.array([2, 1]), np.ones(2), 1, 0.0)
    with pytest.raises(ShapeError):
        sweep_cost_bps(np.ones((2, 3)), np.ones((2, 3)), np.ones(3), 1.0)
