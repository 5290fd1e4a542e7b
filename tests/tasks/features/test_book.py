import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.features.catalogue import FEATURES, NAMES
from tasks.features.fold import Features
from tests.streams import START_NS, books_at, good, market
from warehouse.schema import LEVELS, row_dtype

BOOK = [f.name for f in FEATURES if f.family == "book"]
FLIPS = ("imbalance", "depth_ratio", "pressure", "microprice_drift", "ofi", "mlofi", "trade_imbalance", "signed_volume")
SWAPS = (("depth_bid", "depth_ask"), ("buy_cost", "sell_cost"), ("gap_bid", "gap_ask"))
REFLECTED = ("mid", "weighted_mid", "microprice")
SAME = (
    "spread_bps", "spread_compression", "update_intensity", "volume_zscore", "trade_intensity", "effective_spread_bps",
    "price_impact_bps", "realized_vol", "kyle_lambda", "amihud", "roll_spread", "vpin", "hour", "minute", "day_of_week", "hour_sin",
    "hour_cos", "bocpd_change_prob", "bocpd_run_length",
)  # fmt: skip


def has_image(name):
    """Return whether it is said how a feature reads in the mirror; whether that is true the test of mirrored books tells."""
    swapped = any(side in name for pair in SWAPS for side in pair)
    return swapped or name in REFLECTED or name.startswith(FLIPS) or re.sub(r"_\d+$", "", name) in SAME


def features_of(book):
    book["event_seq"] = 1
    _, out = Features().batch(book, changes=good())
    return dict(zip(NAMES, out[0].tolist(), strict=True))


def book(bids, asks):
    rows = np.zeros(1, row_dtype("l2_snapshots"))
    rows["exchange_ns"] = START_NS
    for side, levels in (("bid", bids), ("ask", asks)):
        rows[f"{side}_px"] = np.nan
        for i, (price, size) in enumerate(levels):
            rows[f"{side}_px"][0, i], rows[f"{side}_sz"][0, i] = price, size
    return rows


def test_a_book_by_hand():
    got = features_of(book([(99, 3), (98, 1)], [(101, 1), (102, 1), (104, 2)]))
    assert got["mid"] == 100
    assert got["spread_bps"] == pytest.approx(200)
    assert got["imbalance_1"] == 0.5
    assert got["imbalance_5"] == got["imbalance_10"] == 0
    assert got["weighted_mid"] == got["microprice"] == pytest.approx((99 * 1 + 101 * 3) / 4)
    assert got["depth_bid_5"] == got["depth_ask_20"] == 4
    assert got["depth_ratio_5"] == 0
    near = [sum(size * math.exp(-abs(price - 100) * 100 / 5) for price, size in side) for side in ([(99, 3)], [(101, 1)])]
    assert got["pressure"] == pytest.approx((near[0] - near[1]) / sum(near), abs=1e-8)
    assert got["gap_bid_bps"] == got["gap_ask_bps"] == pytest.approx(100)
    assert math.isnan(got["buy_cost_bps_10000"])
    assert math.isnan(got["microprice_drift_bps"])


def test_a_sweep_walks_the_levels():
    got = features_of(book([(100, 50), (50, 1000)], [(200, 25), (250, 20), (400, 250)]))
    assert got["buy_cost_bps_10000"] == pytest.approx(1e4 * (10_000 / 45 - 150) / 150)  # the first two levels, to the last unit
    assert got["sell_cost_bps_10000"] == pytest.approx(1e4 * (150 - 10_000 / 150) / 150)
    assert got["buy_cost_bps_100000"] == pytest.approx(1e4 * (100_000 / (45 + 90_000 / 400) - 150) / 150)
    assert math.isnan(got["sell_cost_bps_100000"])  # 55 000 are there


def test_a_level_a_side_is_enough():
    got = features_of(book([(99, 2)], [(101, 2)]))
    assert math.isnan(got["gap_bid_bps"])
    assert math.isnan(got["gap_ask_bps"])
    assert {got[name] for name in ("imbalance_1", "imbalance_10", "depth_ratio_20", "pressure")} == {0.0}


@pytest.mark.parametrize(("bid", "ask"), [(1e-8, 2e-8), (1.0, 1e9), (1e9, 1e9 + 0.01)])
@pytest.mark.parametrize("size", [1e-8, 1e9])
def test_wide_books_and_extreme_sizes_have_finite_features(bid, ask, size):
    got = features_of(book([(bid, size), (bid / 2, size)], [(ask, 3 * size), (ask * 2, size)]))
    assert all(math.isfinite(got[name]) for name in BOOK if not name.startswith(("buy", "sell", "microprice_d", "spread_c")))
    assert got["imbalance_1"] == pytest.approx(-0.5)
    assert -1 <= got["pressure"] < 0


def mirrored(tables, about):
    books, trades, changes = (rows.copy() for rows in tables)
    for side, other in (("bid", "ask"), ("ask", "bid")):
        books[f"{side}_px"], books[f"{side}_sz"] = about - tables[0][f"{other}_px"], tables[0][f"{other}_sz"]
    trades["price"], trades["aggressor"] = about - trades["price"], -trades["aggressor"]
    return books, trades, changes


def test_mirrored_books_and_trades_flip_signs_and_swap_sides():
    # About the first mid of prices that hardly differ, so that bps of either mid are as good as the same.
    tables = market(5, price=2.0**26)
    about = tables[0]["bid_px"][0, 0] + tables[0]["ask_px"][0, 0]
    _, out = Features().batch(*tables)
    _, twin = Features().batch(*mirrored(tables, about))
    for k, name in enumerate(NAMES):
        other, sign = name, 1.0
        for a, b in SWAPS:
            other = name.replace(a, b) if a in name else name.replace(b, a) if b in name else other
        got, want = twin[:, NAMES.index(other)], out[:, k]
        if name in REFLECTED:
            want = about - want
        elif name.startswith(FLIPS):
            sign = -1.0
        far = np.abs(got - sign * want) > 1e-4 * (np.abs(want) + np.nanmax(np.abs(want), initial=0.0))
        assert not far.any(), (name, got[far][:3], want[far][:3])
        assert np.array_equal(np.isnan(got), np.isnan(want)), name


POWERS = {"price": (1, 0), "base": (0, 1), "price/base": (1, -1), "1/quote": (-1, -1)}  # of prices and of sizes, by unit
POWERS |= dict.fromkeys(("", "bps", "ratio", "share", "log ratio", "log return", "sigma", "[-1, 1]", "[0, 1]", "[0, 100]"), (0, 0))
POWERS |= dict.fromkeys(("1/s", "s", "ms", "min", "h", "d", "bars", "0 or 1"), (0, 0))


@settings(max_examples=10, deadline=None)
@given(price=st.integers(-12, 12), size=st.integers(-12, 12), seed=st.integers(0, 3))
def test_units_tell_how_numbers_scale(price, size, seed):
    # Powers of two lose no bit, so what should scale scales exactly.
    tables = market(seed)
    books, trades, changes = (rows.copy() for rows in tables)
    for side in ("bid", "ask"):
        books[f"{side}_px"] *= 2.0**price
        books[f"{side}_sz"] *= 2.0**size
    trades["price"] *= 2.0**price
    trades["size"] *= 2.0**size
    _, out = Features().batch(*tables)
    _, scaled = Features().batch(books, trades, changes)
    for k, feature in enumerate(FEATURES):
        if "_cost_bps_" in feature.name and price + size:
            continue  # of a fixed sum of money
        a, b = POWERS[feature.unit]
        assert np.array_equal(scaled[:, k], out[:, k] * 2.0 ** (a * price + b * size), equal_nan=True), feature.name


def test_levels_beyond_the_touch_do_not_reach_into_narrow_features():
    deep = books_at(START_NS)
    deep["bid_sz"][0, 10:], deep["ask_sz"][0, 10:] = 1e6, 2e6
    got, plain = features_of(deep), features_of(books_at(START_NS))
    same = [name for name in BOOK if got[name] == plain[name] or math.isnan(plain[name])]
    assert set(BOOK) - set(same) <= {"depth_bid_20", "depth_ask_20", "depth_ratio_20", "pressure"}
    assert LEVELS == 20
