"""The fold over venues against plain NumPy over everything that happened."""

import math

import numpy as np
import pytest

from tasks.features.cross_catalogue import CROSS_NAMES, CROSS_VENUE_10, CROSS_VENUE_15, OWN
from tasks.features.cross_venue import STEP_NS, CrossVenue
from tests import naive_cross_venue as naive
from tests.streams import books_at, trades_at
from warehouse.schema import GAP

VENUES, RATES, FEES = ("binance_spot", "bybit_spot", "kraken"), (1.0, 1.0, 1.001), (1.0, 2.0, 0.5)
START = 1_760_000_000_000_000_000
BY_VOLUME = ("vw_price_dispersion", "volume_concentration")  # and deviations: missing until a whole minute was traded


def streams(seed=0, seconds=90, lead_tenths=3):
    """Return (venue, kind, row) in the order of time: Bybit follows Binance after a while, Kraken goes its own way."""
    rng = np.random.default_rng(seed)
    steps = np.cumsum(rng.normal(0, 2.0, seconds * 10 + 50)) + 60_000
    own = np.cumsum(rng.normal(0, 2.0, seconds * 10 + 50)) + 60_010
    events = []
    for venue, lag in ((0, 0), (1, lead_tenths), (2, 0)):
        path = own if venue == 2 else steps
        ns = START + np.arange(seconds * 10) * 100_000_000 + 1_000_000 * (7 + venue)
        mid = path[50 - lag : 50 - lag + ns.size] if venue < 2 else path[: ns.size]
        books = books_at(ns, bid=np.round(mid, 2) - 0.5, ask=np.round(mid, 2) + 0.5, size=rng.uniform(1, 5, (ns.size, 1)))
        if venue == 2:  # silent for a while
            books = books[(ns < START + 60_000_000_000) | (ns > START + 70_000_000_000)]
        events += [(int(row["exchange_ns"]), venue, "book", books[i : i + 1]) for i, row in enumerate(books)]
        trades = trades_at(ns[:: 3 + venue] + 2_000_000, price=60_000.0, size=rng.uniform(0.1, 2.0, ns[:: 3 + venue].size))
        events += [(int(row["exchange_ns"]), venue, "trade", trades[i : i + 1]) for i, row in enumerate(trades)]
    return sorted(events, key=lambda event: event[:3])


def folded(events, fold=None):
    fold, rows = fold or CrossVenue(VENUES, RATES, FEES), []
    for _, venue, kind, row in events:
        rows += [made.copy() for made in getattr(fold, kind)(venue, row)]
    return np.concatenate(rows), fold


def test_rows_are_those_of_the_definitions():
    events = streams()
    rows, fold = folded(events)
    assert (np.diff(rows["exchange_ns"]) == STEP_NS).all()
    for row in [*rows[5:300:37], *rows[238:282:7]]:
        expected = naive.prices(events, int(row["exchange_ns"]), RATES, FEES)
        deviation = expected.pop("mid_deviation_bps")
        told = fold.values(row.reshape(1))
        is_whole = int(row["exchange_ns"]) - events[0][0] >= 60 * 10**9
        for name, value in expected.items():
            known = value if is_whole or name not in BY_VOLUME else math.nan
            assert told[name] == pytest.approx(known, rel=1e-9, abs=1e-9, nan_ok=True), name
        for venue, value in deviation.items():
            assert told[f"mid_deviation_bps_{VENUES[venue]}"] == pytest.approx(value if is_whole else math.nan, abs=1e-7, nan_ok=True)
    assert {int(n) for n in rows["values"][:, CROSS_NAMES.index("num_venues")]} == {2, 3}


def test_movement_is_that_of_the_definitions_and_the_leader_leads():
    events = streams()
    rows, fold = folded(events)
    row = rows[rows["exchange_ns"] == START // STEP_NS * STEP_NS + 85 * 10**9][0]
    t = int(row["exchange_ns"])
    told = fold.values(row.reshape(1))
    moved = naive.movement(events, t, RATES)
    leads = moved.pop("lead_lag_coefficient")
    for name, value in moved.items():
        assert told[name] == pytest.approx(value, abs=1e-9), name
    for venue, value in leads.items():
        assert told[f"lead_lag_coefficient_{VENUES[venue]}"] == pytest.approx(value, abs=1e-9)
    assert told["lead_lag_coefficient_binance_spot"] > 0.3 > -0.3 > told["lead_lag_coefficient_bybit_spot"]
    for name, value in naive.volatilities(events, t, RATES, (0, 1)).items():  # the third was silent within the minute
        assert told[name] == pytest.approx(value, rel=1e-6), name
    past = rows[(rows["exchange_ns"] >= t - 60 * 10**9) & (rows["exchange_ns"] <= t)]["values"]
    averages, divergences = (past[:, CROSS_NAMES.index(name)] for name in ("avg_price", "price_divergence"))
    for name, value in naive.of_a_minute(averages, divergences[1:]).items():
        assert told[name] == pytest.approx(value, rel=1e-9), name


def test_warm_up_is_a_minute_and_the_future_changes_nothing():
    events = streams(seed=1, seconds=70)
    rows, _ = folded(events)
    slow = [CROSS_NAMES.index(n) for n in ("price_sync_correlation", "cross_venue_vol_ratio", "price_momentum_1m")]
    young = rows["exchange_ns"] < events[0][0] + 60 * 10**9
    assert np.isnan(rows["values"][young][:, slow]).all()
    assert not np.isnan(rows["values"][rows["exchange_ns"] >= events[0][0] + 61 * 10**9][1:, slow]).any()
    cut = [event for event in events if event[0] < START + 40 * 10**9]
    part, _ = folded(cut)
    assert part.tobytes() == rows[: part.size].tobytes()


def test_a_doubtful_venue_is_not_there_and_funding_is_compared():
    events = streams(seed=2, seconds=5)
    fold = CrossVenue(VENUES, RATES, FEES)
    fold.funding(0, 0.0001)
    fold.funding(1, -0.0002)
    rows, _ = folded(events, fold)
    told = fold.values(rows[-1:])
    assert {"funding_delta": told["funding_delta"]} == pytest.approx(naive.funding((0.0001, -0.0002)))
    assert told["funding_delta"] == pytest.approx(0.0003)
    fold.turn(1, GAP)
    after = books_at([events[-1][0] + 600_000_000], bid=60_000.0, ask=60_001.0)
    told = [fold.values(row) for row in fold.book(0, after)][-1]
    assert told["num_venues"] == 2
    assert math.isnan(told["mid_bybit_spot"])


def test_an_opportunity_lasts_from_its_first_step():
    fold, ns, told = CrossVenue(VENUES[:2], (1.0, 1.0), (0.0, 0.0)), START, []
    for i in range(20):
        ns += 100_000_000
        told += [fold.values(row) for row in fold.book(0, books_at([ns], bid=100.0, ask=100.1))]
        told += [fold.values(row) for row in fold.book(1, books_at([ns], bid=100.3 if 5 <= i < 15 else 100.0, ask=100.4))]
    steps_ms, pairs = np.arange(len(told)) * STEP_NS / 1e6, [row["arb_opportunity_count"] for row in told]
    for n, row in enumerate(told):
        for name, value in naive.lasting(steps_ms[: n + 1], pairs[: n + 1]).items():
            assert row[name] == value
    lasting = [row["arb_duration_ms"] for row in told]
    assert max(lasting) == 750.0
    assert lasting[-1] == 0.0
    assert max(row["best_arb_opportunity_bps"] for row in told) == pytest.approx(1e4 * 0.2 / 100.2, rel=0.01)


def test_the_sets_have_as_many_as_they_say():
    assert len(set(CROSS_VENUE_15)) == 15
    assert len(set(CROSS_VENUE_10)) == 10
    assert set(CROSS_VENUE_10) | set(CROSS_VENUE_15) <= set(CROSS_NAMES)
    assert set(OWN) <= set(CROSS_NAMES)
