"""What holds for every column of a bar: warm-up, scale, mirror image, live as in batch."""

import numpy as np
import pytest

from tasks.features.bar_catalogue import BAR_FEATURES, BAR_NAMES
from tasks.features.bars import BAR
from tasks.features.fold import Features
from tasks.features.reference import closes_of, put_reference
from tests.captures import CAPTURES
from tests.streams import live, market, recorded
from tests.tasks.features.test_book import POWERS, mirrored

REFERENCE = tuple(name for name in BAR_NAMES if name.startswith("ref_"))
FUNDING = ("funding_rate", "funding_age_s")
FLIPS = ("imbalance_5", "trade_imbalance", "return_1", "return_5", "return_60", "return_240", "log_return_", "macd", "return_skew_60")
CENTRES = {"ema_12": 1.0, "ema_26": 1.0, "ema_50": 1.0, "bollinger_upper": 1.0, "bollinger_lower": 1.0, "rsi_14": 50.0}
CENTRES["bollinger_position"] = 0.5
NO_IMAGE = ("max_drawdown_60", "bars_since_high_60")  # of a fall, which the mirror makes a rise
SWAPS = {"depth_bid_5": "depth_ask_5", "bollinger_upper": "bollinger_lower"}
SWAPS |= {b: a for a, b in SWAPS.items()}
SAME = (
    "atr_14", "hurst", "parkinson_vol_20", "garch_vol", "realized_vol_15", "realized_vol_60", "vol_ratio", "return_std_15",
    "return_std_60", "return_kurt_60", "spread_bps", "effective_spread_bps", "price_impact_bps",
)  # fmt: skip


def has_image(name):
    """Return whether it is said how a column reads in the mirror, or that it has no image or is not of one stream of books."""
    return name in {*SWAPS, *CENTRES, *SAME, *NO_IMAGE, *FUNDING, *REFERENCE, "vpin"} or name.startswith(FLIPS)


def bars_of(tables, span_s=1):
    """Return the clean bars of one length, with another stream of the same seconds for reference."""
    fold = Features()
    fold.batch(*tables)
    rows = fold.bars()
    put_reference(rows, closes_of(np.zeros(0, BAR)), closes_of(rows))
    return rows[(rows["span_s"] == span_s) & (rows["doubt"] == 0)]


@pytest.fixture(scope="module")
def tables():
    """Half an hour of a stream that is clean throughout."""
    return market(3, n=6000, mean_ns=400_000_000)


@pytest.fixture(scope="module")
def rows(tables):
    return bars_of(tables)


def test_a_column_is_missing_exactly_during_its_warmup(rows):
    clean = np.arange(1, rows.size + 1)
    assert rows.size > 1500
    assert (np.diff(rows["exchange_ns"]) == 10**9).all()
    for k, feature in enumerate(BAR_FEATURES):
        if feature.name == "vpin" or feature.name in FUNDING:  # told by others: an hour's volume, a payment
            assert np.isnan(rows["values"][:, k]).all()
            continue
        assert np.array_equal(np.isnan(rows["values"][:, k]), clean < feature.warmup_s), feature.name
    assert not np.isinf(rows["values"]).any()


def test_units_tell_how_columns_scale(tables, rows):
    # Powers of two lose no bit, so what should scale scales exactly.
    books, trades, changes = (table.copy() for table in tables)
    for side in ("bid", "ask"):
        books[f"{side}_px"] *= 2.0**7
        books[f"{side}_sz"] *= 2.0**-5
    trades["price"] *= 2.0**7
    trades["size"] *= 2.0**-5
    scaled = bars_of((books, trades, changes))["values"]
    for k, feature in enumerate(BAR_FEATURES):
        price, size = POWERS[feature.unit]
        factor = 2.0 ** (7 * price - 5 * size)
        near = np.allclose if feature.name in REFERENCE else np.array_equal  # made of logarithms of the price itself
        assert near(scaled[:, k], rows["values"][:, k] * factor, equal_nan=True), feature.name


def test_a_mirrored_market_has_mirrored_bars():
    # About the first mid of prices that hardly differ, so that shares of either mid are as good as the same.
    tables = market(5, n=3000, mean_ns=400_000_000, price=2.0**26)
    about = tables[0]["bid_px"][0, 0] + tables[0]["ask_px"][0, 0]
    own, twin = (dict(zip(BAR_NAMES, bars_of(given)["values"].T, strict=True)) for given in (tables, mirrored(tables, about)))
    for name in set(BAR_NAMES) - {*NO_IMAGE, *FUNDING, *REFERENCE, "vpin"}:
        centre = CENTRES.get(name, 0.0)
        sign = -1.0 if name.startswith(FLIPS) or name in CENTRES else 1.0
        got, want = twin[SWAPS.get(name, name)] - centre, sign * (own[name] - centre)
        assert np.array_equal(np.isnan(got), np.isnan(want)), name
        far = np.abs(got - want) > 1e-4 * np.nanmax(np.abs(want), initial=1e-300)
        assert not far.any(), (name, got[far][:3], want[far][:3])


@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_live_bars_are_those_of_batch_on_captures(capture):
    tables, whole, fold = recorded(capture), Features(), Features()
    whole.batch(*tables)
    live(tables, fold)
    rows = whole.bars()
    assert rows.size
    assert fold.bars().tobytes() == rows.tobytes()
