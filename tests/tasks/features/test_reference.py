import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.features.bar_catalogue import BAR_NAMES
from tasks.features.bars import BAR
from tasks.features.reference import closes_of, put_funding, put_reference, reference_of
from tests.naive_bars import against, funded
from tests.naive_features import SECOND
from warehouse.schema import GAP, OK

NAMES = ("ref_return_lag1", "ref_return_lag2", "ref_corr_60", "ref_beta_60", "ref_vol_ratio_60")
NAN = math.nan


def bars_of(closes, span_s=1, start=1000):
    """Return consecutive bars; NaN makes a doubtful one, None leaves one out."""
    kept = [(i, close) for i, close in enumerate(closes) if close is not None]
    out = np.zeros(len(kept), BAR)
    out["exchange_ns"] = [(start + i) * span_s * SECOND for i, _ in kept]
    out["span_s"], out["values"] = span_s, NAN
    out["close"] = [100.0 if math.isnan(close) else close for _, close in kept]
    out["doubt"] = [GAP if math.isnan(close) else 0 for _, close in kept]
    return out


def check(own, reference, span_s=1, known=0):
    bars, others = bars_of(own, span_s), bars_of(reference, span_s)
    before = bars["exchange_ns"] < (1000 + known) * span_s * SECOND
    told = bars[~before]
    put_reference(told, closes_of(bars[before]), closes_of(others))
    for row in told:
        i = int(row["exchange_ns"] // SECOND // span_s) - 1000
        if row["doubt"]:
            assert np.isnan(row["values"]).all()
            continue
        for name, expected in against(own, reference, i).items():
            assert row["values"][BAR_NAMES.index(name)] == pytest.approx(expected, rel=1e-6, abs=1e-9, nan_ok=True), (name, i)
    return told


def walk(seed, n=200):
    return list(100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 1e-3, n))))


@pytest.mark.parametrize("known", [0, 1, 70])
@pytest.mark.parametrize("span_s", [1, 60, 3600])
def test_columns_are_those_of_the_definitions_wherever_the_day_is_cut(span_s, known):
    told = check(walk(1), walk(2), span_s, known)
    assert np.isfinite(told["values"][-1][BAR_NAMES.index("ref_corr_60")])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 199), st.sampled_from((NAN, None)), st.booleans()), max_size=6), st.integers(0, 99))
def test_doubtful_and_missing_bars_are_never_compared(holes, known):
    series = walk(3), walk(4)
    for place, hole, is_own in holes:
        series[not is_own][place] = hole
    check(*series, known=known)


def test_what_does_not_move_has_no_correlation():
    told = check([100.0] * 80, [100.0] * 80)
    assert told["values"][-1][BAR_NAMES.index("ref_vol_ratio_60")] == 1.0
    check([100.0] * 80, walk(5, 80))
    check(walk(5, 80), [100.0] * 80)


def test_a_series_against_its_own_past_is_one():
    (row,) = check(walk(6), walk(6), known=199)
    values = dict(zip(BAR_NAMES, row["values"], strict=True))
    assert [values[name] for name in NAMES[2:]] == pytest.approx([1.0, 1.0, 1.0])


def test_the_reference_bar_of_the_same_time_is_not_looked_at():
    own, reference = bars_of(walk(7)), walk(8)
    first, other = own.copy(), own.copy()
    put_reference(first, closes_of(own[:0]), closes_of(bars_of(reference)))
    put_reference(other, closes_of(own[:0]), closes_of(bars_of([*reference[:-1], 1e6])))
    assert first.tobytes() == other.tobytes()
    put_reference(other, closes_of(own[:0]), closes_of(bars_of([*reference[:-2], 1e6, 1e6])))
    assert first[:-1].tobytes() == other[:-1].tobytes()
    assert first[-1:].tobytes() != other[-1:].tobytes()


def test_funding_is_the_last_paid_by_the_close_of_a_bar():
    bars = bars_of([1.0, 1.0, NAN, 1.0])
    paid_ns, rates = bars["exchange_ns"][1:2] + np.array([0, SECOND + 5]), np.array([1e-4, 2e-4])
    put_funding(bars, paid_ns, rates)
    for row in bars[bars["doubt"] == OK]:
        for name, expected in funded(int(row["exchange_ns"]), list(zip(paid_ns.tolist(), rates, strict=True))).items():
            assert row["values"][BAR_NAMES.index(name)] == pytest.approx(expected, nan_ok=True), name
    found = bars["values"][:, -2:]
    np.testing.assert_array_equal(found, [[NAN, NAN], [1e-4, 0.0], [NAN, NAN], [2e-4, 1 - 5e-9]])
    assert BAR_NAMES[-2:] == ("funding_rate", "funding_age_s")


def test_the_reference_is_the_same_instrument_of_another_asset():
    assert reference_of("ETH-USD-220527") == "BTC-USD-220527"
    assert reference_of("BTC-USDT-PERP") == reference_of("ETH-USDT", "") == ""
    assert reference_of("BTC-USDT", "ETH") == "ETH-USDT"
