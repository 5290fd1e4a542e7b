import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import ShapeError, TooLittleDataError
from models.microprice import Microprice, drift_of, fit_microprice
from tests.captures import SHARED, read
from tests.golden import rows_of

REAL = SHARED / "captures" / "binance_coinm-btcusd_perp-20240808.gz"
IMBALANCES = np.array([-0.8, 0.0, 0.8])  # of the chain's states
# Chances of the next state and move, from each state: (next, move in ticks) -> probability.  Mirror images agree.
CHAIN = (
    {(0, 0.0): 0.5, (1, 0.0): 0.2, (1, -1.0): 0.2, (2, -0.5): 0.1},
    {(0, 0.0): 0.25, (2, 0.0): 0.25, (1, 0.0): 0.3, (0, 1.0): 0.1, (2, -1.0): 0.1},
    {(2, 0.0): 0.5, (1, 0.0): 0.2, (1, 1.0): 0.2, (0, 0.5): 0.1},
)


def exact():
    """By conditioning on the next change: g = mean move + P g.  With g[1] = 0 and g[2] = -g[0] it is one equation."""
    # g2 = (0.2 + 0.05) + 0.5 g2 + 0.1 g0 = 0.25 + 0.4 g2
    return np.array([-0.25 / 0.6, 0.0, 0.25 / 0.6])


def simulated(n, seed=0):
    rng, state, mid, states, mids = np.random.default_rng(seed), 1, 0.0, [], []
    choices = [(list(row), np.cumsum(list(row.values()))) for row in CHAIN]
    for u in rng.random(n):
        states.append(state)
        mids.append(mid)
        found, until = choices[state]
        state, move = found[min(int(np.searchsorted(until, u)), len(found) - 1)]
        mid += move
    return np.array(states), np.array(mids)


def test_a_chain_solved_by_hand_is_solved_exactly():
    still, moved, total = np.zeros((3, 3)), np.zeros((3, 3)), np.zeros(3)
    for x, row in enumerate(CHAIN):
        for (y, move), chance in row.items():
            (moved if move else still)[x, y] += chance
            total[x] += chance * move
    np.testing.assert_allclose(drift_of(still, moved, total, np.ones(3)), exact(), atol=1e-12)


def test_a_simulated_chain_gives_its_known_answer_and_a_martingale():
    states, mid = simulated(200_000)
    fit = fit_microprice(IMBALANCES[states], np.ones(len(states)), mid, tick=0.5, n_buckets=3, max_ticks=1)
    assert fit.table[0, 0] == 0.0
    assert fit.table[1, 0] == pytest.approx(exact()[2], abs=0.01)
    micro = mid + np.array([-1, 0, 1])[states] * fit.table[1, 0]
    steps = np.diff(micro)
    for state in range(3):  # from no state is the micro-price expected to move; the mid is, from two of them
        some = states[:-1] == state
        error = steps[some].std() / np.sqrt(some.sum())
        assert abs(steps[some].mean()) < 4 * error
        assert (abs(np.diff(mid)[some].mean()) > 20 * error) == (state != 1)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n_buckets=st.sampled_from([1, 3, 5, 11]), max_ticks=st.integers(1, 3))
def test_mirrored_books_have_mirrored_micro_prices(seed, n_buckets, max_ticks):
    rng = np.random.default_rng(seed)
    imbalance, spread = rng.choice(np.linspace(-1, 1, 23), 600), rng.integers(1, 5, 600).astype(float)
    mid = np.cumsum(rng.choice([-1.0, 0.0, 0.5], 600))
    fit = fit_microprice(imbalance, spread, mid, 1.0, n_buckets=n_buckets, max_ticks=max_ticks)
    turned = fit_microprice(-imbalance, spread, -mid, 1.0, n_buckets=n_buckets, max_ticks=max_ticks)
    assert np.array_equal(fit.table, turned.table, equal_nan=True)
    assert np.array_equal(fit.table[0][~np.isnan(fit.table[0])], np.zeros((~np.isnan(fit.table[0])).sum()))
    bid_size, ask_size = rng.integers(1, 9, 50).astype(float), rng.integers(1, 9, 50).astype(float)
    bid, ask = np.full(50, 1000.0), 1000.0 + rng.integers(1, 6, 50)
    up, down = fit.at(bid, ask, bid_size, ask_size), fit.at(bid, ask, ask_size, bid_size)
    np.testing.assert_allclose(up - (bid + ask) / 2, (bid + ask) / 2 - down, atol=1e-12)


def test_prices_are_the_tables_and_rare_states_keep_the_weighted_mid():
    table = np.array([[0.0, 0.0], [0.25, np.nan], [0.5, 1.5]])
    fit = Microprice(0.5, table)
    for (share, row), (ticks, column) in itertools.product([(0.5, 0), (0.7, 1), (0.95, 2)], [(1, 0), (2, 1), (7, 1)]):
        bid, ask = np.array([100.0]), np.array([100.0 + ticks * 0.5])
        got = fit.at(bid, ask, np.array([share]), np.array([1 - share]))[0]
        g = table[row, column]
        expected = bid[0] * (1 - share) + ask[0] * share if np.isnan(g) else (bid[0] + ask[0]) / 2 + 0.5 * g
        assert got == pytest.approx(expected, abs=1e-12)


def test_before_a_fit_it_is_the_weighted_mid_bit_for_bit_and_has_no_name():
    rng = np.random.default_rng(0)
    bid, bid_size, ask_size = rng.uniform(1, 9, 100), rng.uniform(0, 3, 100), rng.uniform(0, 3, 100)
    ask = bid + 0.1
    assert Microprice().id == ""
    assert np.array_equal(Microprice().at(bid, ask, bid_size, ask_size), (bid * ask_size + ask * bid_size) / (bid_size + ask_size))
    assert np.isnan(Microprice().at(bid[:1], np.array([np.nan]), bid_size[:1], np.array([0.0]))[0])


def test_the_name_tells_fits_apart():
    table = np.array([[0.0], [0.3]])
    names = {Microprice(1.0, table).id, Microprice(0.5, table).id, Microprice(1.0, table + 0.1).id, Microprice(1.0, table.T.copy()).id}
    assert len(names) == 4
    assert Microprice(1.0, table.copy()).id in names


def test_nothing_is_counted_across_a_break():
    states, mid = simulated(5000)
    imbalance, follows = IMBALANCES[states], np.ones(5000, bool)
    cut = fit_microprice(imbalance, np.ones(5000), mid, 1.0, n_buckets=3, max_ticks=1)
    leap = np.concatenate([mid, mid + 1e6])
    twice = fit_microprice(
        np.tile(imbalance, 2), np.ones(10_000), leap, 1.0, np.tile(follows, 2) & (np.arange(10_000) != 5000), n_buckets=3, max_ticks=1
    )
    np.testing.assert_allclose(twice.table, cut.table, rtol=1e-9)
    empty = np.tile(imbalance, 2)
    empty[5000] = np.nan  # a book without a side breaks it too
    np.testing.assert_allclose(fit_microprice(empty, np.ones(10_000), leap, 1.0, n_buckets=3, max_ticks=1).table, cut.table, atol=0.01)


def test_too_few_moves_and_odd_shapes_are_refused():
    with pytest.raises(TooLittleDataError, match="at least 50"):
        fit_microprice(np.zeros(100), np.ones(100), np.zeros(100), 1.0)
    with pytest.raises(ShapeError, match="odd number"):
        fit_microprice(np.zeros(9), np.ones(9), np.arange(9.0), 1.0, n_buckets=10)
    with pytest.raises(ShapeError):
        fit_microprice(np.zeros(9), np.ones(8), np.arange(9.0), 1.0)


@pytest.mark.skipif(not REAL.exists(), reason="the real captures are not here")
def test_on_a_real_book_it_is_nearer_to_the_mid_to_come(capsys):
    tick = 0.1
    books, _, _ = rows_of(read(REAL)[:40_000], "binance_coinm", "BTCUSD_PERP")
    bid, ask, bid_size, ask_size = (books[name][:, 0] for name in ("bid_px", "ask_px", "bid_sz", "ask_sz"))
    mid, imbalance = (bid + ask) / 2, (bid_size - ask_size) / (bid_size + ask_size)
    train = len(books) // 2
    fit = fit_microprice(imbalance[:train], (ask - bid)[:train] / tick, np.rint(mid[:train] / tick * 2) / 2, tick)
    moves = np.flatnonzero(np.diff(mid) != 0)
    rows = np.arange(train, moves[-1])
    to_come = mid[moves[np.searchsorted(moves, rows)] + 1]
    micro, weighted = (some.at(bid, ask, bid_size, ask_size) for some in (fit, Microprice()))
    prices = (("mid", mid), ("weighted mid", weighted), ("micro-price", micro))
    errors = {name: round(float(np.sqrt(np.mean((to_come - price[rows]) ** 2)) / tick), 3) for name, price in prices}
    side = np.sign(micro - mid)[rows]
    right = float((side == np.sign(to_come - mid[rows]))[side != 0].mean())
    with capsys.disabled():
        print(f"\nnext mid, root mean square error in ticks: {errors}; side right {right:.3f} of {len(rows)} books")
    assert errors["micro-price"] < errors["weighted mid"] < errors["mid"]
    assert right > 0.6
