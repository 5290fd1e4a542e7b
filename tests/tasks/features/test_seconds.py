import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.features.catalogue import NAMES, WINDOWS
from tasks.features.fold import Features
from tests.naive_features import disagreements, pasts
from tests.streams import SECOND, START_NS, books_at, good, in_order, trades_at

FROM = START_NS // SECOND * SECOND
OF_SECONDS = ("kyle", "amihud", "volume_zscore")


def column(out, name):
    return out[:, NAMES.index(name)]


def paced(volume, move=None, start_ns=FROM):
    """Return a stream with one trade of each signed volume and one book a second, in the middle of it."""
    n = len(volume)
    ns = start_ns + np.arange(n) * SECOND + SECOND // 2
    mid = 100.0 + np.cumsum(np.zeros(n) if move is None else move)
    trades = trades_at(ns - 1, 100.0, np.abs(volume), np.sign(volume).astype(int))
    return in_order(books_at(ns, mid - 0.5, mid + 0.5), trades, good(start_ns))


def test_kyle_lambda_is_the_slope_of_moves_on_signed_volume():
    rng = np.random.default_rng(0)
    volume = rng.choice((-1, 1), 400) * rng.uniform(0.5, 2, 400)
    _, out = Features().batch(*paced(volume, 0.003 * volume + rng.normal(0, 1e-9, 400)))
    for name in ("kyle_lambda_30", "kyle_lambda_300"):
        assert column(out, name)[-1] == pytest.approx(0.003, rel=1e-4)


@pytest.mark.parametrize("volume", [0.0, 0.1, -0.1, 1e9])
def test_kyle_lambda_without_variation_is_zero(volume):
    _, out = Features().batch(*paced(np.full(320, volume), np.resize([0.01, -0.01], 320)))
    assert column(out, "kyle_lambda_300")[-1] == column(out, "kyle_lambda_30")[-1] == 0.0


def test_amihud_is_the_mean_return_of_a_quote_unit():
    volume = np.resize([2.0, 0.0], 320)  # every other second trades
    mid = 100.0 * np.exp(np.resize([0.001, 0.0], 320))
    _, out = Features().batch(*paced(volume, np.diff(mid, prepend=100.0)))
    assert column(out, "amihud_300")[-1] == pytest.approx(0.001 / 200.0)


def test_volume_zscores_by_hand():
    rng = np.random.default_rng(1)
    volume = rng.uniform(1, 2, 310)
    _, out = Features().batch(*paced(volume))
    closed = volume[-301:-1]
    for w in WINDOWS:
        sums = np.convolve(closed, np.ones(w), "valid")
        assert column(out, f"volume_zscore_{w}")[-1] == pytest.approx((volume[-w:].sum() - sums.mean()) / sums.std(), rel=1e-9)


@pytest.mark.parametrize("volume", [0.0, 0.1, 3.0])
def test_a_volume_that_never_varies_has_no_score(volume):
    _, out = Features().batch(*paced(np.full(320, volume)))
    assert column(out, "volume_zscore_1")[-1] == column(out, "volume_zscore_30")[-1] == 0.0


def test_the_first_partial_second_is_no_bucket():
    # Everything in the second in which the stream became clean leaves no trace.
    outs = []
    for first in (1.0, 1e6):
        books, trades, change = paced(np.concatenate([[first], np.resize([1.0, -2.0, 0.5], 330)]), np.resize([0.1, -0.1], 331))
        change["exchange_ns"] = FROM + SECOND // 4
        outs.append(Features().batch(books, trades, change)[1][-1])
    for name in NAMES:
        if name.startswith(OF_SECONDS):
            assert outs[0][NAMES.index(name)] == outs[1][NAMES.index(name)], name


def test_open_seconds_say_nothing_before_they_close():
    # Volume and moves of the running second reach Kyle's and Amihud's numbers only with the next one.
    ns = FROM + np.arange(320) * SECOND
    rng = np.random.default_rng(3)
    wild = np.array([ns[-1] + 100, ns[-1] + SECOND - 1, ns[-1] + SECOND])
    books = books_at(np.concatenate([ns, wild]), np.concatenate([100.0 + rng.integers(0, 3, 320), [50.0, 70.0, 70.0]]), 110.0)
    trades = trades_at(np.concatenate([ns, wild[:1]]), 100.0, np.concatenate([rng.uniform(1, 2, 320), [1e4]]))
    _, out = Features().batch(*in_order(books, trades, good(FROM)))
    for name in ("kyle_lambda_30", "kyle_lambda_300", "amihud_300"):
        before, first, still, after = column(out, name)[-4:]
        assert before == first == still
        assert after != before


@pytest.mark.parametrize("silence_s", [29, 30, 299, 300, 301, 599, 600, 601, 602, 899, 901, 100_000])
def test_silent_seconds_are_empty_buckets(silence_s):
    rng = np.random.default_rng(silence_s)
    before = paced(rng.normal(0, 1, 310), rng.normal(0, 0.01, 310))
    after = paced(rng.normal(0, 1, 40), rng.normal(0, 0.01, 40), FROM + (310 + silence_s) * SECOND)
    books, trades = (np.concatenate([a, b]) for a, b in zip(before[:2], after[:2], strict=True))
    tables = in_order(books, trades, good(FROM))
    _, out = Features().batch(*tables)
    of = pasts(*tables)
    for n in (309, 310, 311, 340, 349):
        assert disagreements(of[n]()[1], out[n]) == []
    if silence_s > 300:
        assert column(out, "amihud_300")[310] == 0.0
        assert column(out, "volume_zscore_1")[310] == 0.0  # nothing was traded for longer than the baseline


@settings(max_examples=25, deadline=None)
@given(
    gaps=st.lists(
        st.sampled_from((1, SECOND // 3, SECOND - 1, SECOND, SECOND + 1, 17 * SECOND, 150 * SECOND, 320 * SECOND)), min_size=5, max_size=25
    ),
    start=st.sampled_from((0, 1, SECOND // 2, SECOND - 1)),
    seed=st.integers(0, 99),
)
def test_seconds_fall_as_the_definitions_say(gaps, start, seed):
    rng = np.random.default_rng(seed)
    ns = FROM + start + np.cumsum([0, *gaps])
    mid = 100.0 + rng.integers(-3, 4, len(ns))
    trades = trades_at(ns + rng.choice((-1, 0), len(ns)), 100.0, rng.uniform(0.1, 5, len(ns)), rng.choice((-1, 1), len(ns)))
    tables = in_order(books_at(ns, mid - 0.5, mid + 0.5), trades, good(FROM + start))
    _, out = Features().batch(*tables)
    for n, past in enumerate(pasts(*tables)):
        assert disagreements(past()[1], out[n]) == []
