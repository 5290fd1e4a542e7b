"""What holds for every column over venues: warm-up, scale, mirror image."""

import numpy as np
import pytest

from tasks.features.cross_catalogue import CROSS_FEATURES, CROSS_NAMES, OWN
from tasks.features.cross_venue import BOOKS, STEP_NS, TRADES, CrossVenue
from tests.cross_streams import venue_events
from tests.tasks.features.test_book import POWERS
from tests.tasks.features.test_cross_venue import FEES, VENUES, folded, streams

SECONDS, NAMED = 66, {BOOKS: "book", TRADES: "trade"}
STEP_S = STEP_NS / 1e9
BY_SECONDS = ("cross_venue_vol_ratio", "vol_dispersion")  # of whole seconds of the clock: the first ends within one
FLIPS = ("depth_imbalance_ratio", "price_momentum_1m", *OWN)
REFLECTED = ("avg_price", "binance_bybit_ratio")
SAME = (
    "price_dispersion", "max_price_spread_bps", "price_divergence", "best_arb_opportunity_bps", "arb_opportunity_count",
    "arb_duration_ms", "vw_price_dispersion", "volume_concentration", "price_sync_correlation", "consolidated_spread_bps",
    "cross_venue_vol_ratio", "vol_dispersion", "funding_delta", "volatility_spread", "num_venues", "all_venues_active",
)  # fmt: skip


def has_image(name):
    """Return whether it is said how a column reads in the mirror."""
    return name in {*FLIPS, *REFLECTED, *SAME}


def rows_of(events):
    """Return the rows since every venue has traded, and the time since the first event; funding is known."""
    fold = CrossVenue(VENUES, (1.0, 1.0, 1.0), FEES)
    for i, rate in enumerate((1e-4, 3e-4)):
        fold.funding(i, rate)
    rows, _ = folded(events, fold)
    since_s = (rows["exchange_ns"] - events[0][0]) / 1e9
    return rows[since_s > 1.0], since_s[since_s > 1.0]


def changed(events, change):
    """Return copies of events, each book and trade changed in place."""
    out = [(ns, venue, kind, row.copy()) for ns, venue, kind, row in events]
    for _, _, kind, row in out:
        change(kind, row)
    return out


@pytest.fixture(scope="module")
def events(request):
    """Return events in the order of arrival: good ones, or by a seed late, doubtful, crossed and silent ones."""
    seed = getattr(request, "param", "plain")
    if seed == "plain":
        return streams(seed=4, seconds=SECONDS)
    rough = venue_events(seed, SECONDS, a_second=9, late=0.2 * seed, doubtful=0.004)
    return [(int(row["exchange_ns"][0]), place, NAMED[kind], row) for place, kind, row in rough if kind in NAMED]


@pytest.fixture(scope="module")
def rows(events):
    return rows_of(events)


def test_a_column_is_missing_exactly_during_its_warmup(rows):
    rows, since_s = rows
    assert (since_s > 61.0).sum() > 10
    for k, feature in enumerate(CROSS_FEATURES):
        if feature.name in OWN:
            values = rows[{"mid_deviation_bps": "deviation", "lead_lag_coefficient": "lead"}[feature.name]][:, 0]
        else:
            values = rows["values"][:, k]
        step_s = 1.0 if feature.name in BY_SECONDS else STEP_S  # the first one is whole sooner than after its length
        young = since_s < feature.warmup_s - step_s
        assert np.isnan(values[young]).all(), feature.name
        assert not np.isnan(values[since_s >= feature.warmup_s + STEP_S]).any(), feature.name


@pytest.mark.parametrize("events", ["plain", *range(3)], indirect=True)
def test_units_tell_how_columns_scale(events):
    rows = rows_of(events)

    def scale(kind, row):
        for name in ("bid_px", "ask_px") if kind == "book" else ("price",):
            row[name] *= 2.0**6
        for name in ("bid_sz", "ask_sz") if kind == "book" else ("size",):
            row[name] *= 2.0**-4

    scaled, _ = rows_of(changed(events, scale))
    for k, feature in enumerate(CROSS_FEATURES):
        price, size = POWERS[feature.unit]
        factor = 2.0 ** (6 * price - 4 * size)
        assert np.array_equal(scaled["values"][:, k], rows[0]["values"][:, k] * factor, equal_nan=True), feature.name
    assert np.array_equal(scaled["deviation"], rows[0]["deviation"], equal_nan=True)
    assert np.array_equal(scaled["lead"], rows[0]["lead"], equal_nan=True)


@pytest.mark.parametrize("events", ["plain", *range(3)], indirect=True)
def test_mirrored_venues_have_mirrored_rows(events):
    # Far from zero, so that shares of either mid are as good as the same.
    high, about = 2.0**30, 2.0 * (2.0**30 + 60_000.0)

    def lift(kind, row):
        for name in ("bid_px", "ask_px") if kind == "book" else ("price",):
            row[name] += high

    def mirror(kind, row):
        if kind == "book":
            bid_px, bid_sz = row["bid_px"].copy(), row["bid_sz"].copy()
            row["bid_px"], row["bid_sz"] = about - row["ask_px"], row["ask_sz"]
            row["ask_px"], row["ask_sz"] = about - bid_px, bid_sz

    lifted = changed(events, lift)
    (own, _), (twin, _) = rows_of(lifted), rows_of(changed(lifted, mirror))
    for k, name in enumerate(CROSS_NAMES):
        got, want = twin["values"][:, k], own["values"][:, k]
        if name == "avg_price":
            want = about - want
        elif name == "binance_bybit_ratio":
            got, want = got - 1.0, 1.0 - want
        elif name in FLIPS:
            want = -want
        far = np.abs(got - want) > 1e-4 * np.nanmax(np.abs(want), initial=1e-300)
        assert not far.any(), (name, got[far][:3], want[far][:3])
    np.testing.assert_allclose(twin["deviation"], -own["deviation"], atol=1e-4 * np.nanmax(np.abs(own["deviation"])), equal_nan=True)
    np.testing.assert_allclose(twin["lead"], own["lead"], atol=1e-4, equal_nan=True)
