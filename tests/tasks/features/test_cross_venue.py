"""The fold over venues against plain NumPy over everything that happened."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.features.cross_catalogue import CROSS_NAMES, CROSS_VENUE_10, CROSS_VENUE_15, OWN
from tasks.features.cross_venue import BOOKS, STEP_NS, TRADES, CrossVenue
from tests import naive_cross_venue as naive
from tests.cross_streams import VENUES as CROSSED
from tests.cross_streams import one_by_one, streams_of_venues, venue_events
from tests.streams import books_at, trades_at
from warehouse.schema import GAP

SIDES, SIDES_OF_CROSSED = ("binance", "bybit", ""), ("binance", "bybit", "", "")
VENUES, RATES, FEES = ("binance_spot", "bybit_spot", "kraken"), (1.0, 1.0, 1.001), (1.0, 2.0, 0.5)
START = 1_760_000_000_000_000_000


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


def past_of(events):
    kinds = {"book": BOOKS, "trade": TRADES}
    return naive.past_of([(venue, kinds[kind], row) for _, venue, kind, row in events], RATES)


def check(fold, row, expected):
    """Hold one row against the definitions: every column, NaN where they say nothing."""
    told, own = fold.values(row.reshape(1)), {name: expected.pop(name, {}) for name in OWN}
    for name in CROSS_NAMES:
        if name not in OWN:
            scale = {"vol_dispersion": 1e-6, "price_sync_correlation": 1e-8}.get(name, 1e-9)
            assert told[name] == pytest.approx(expected.get(name, math.nan), rel=1e-7, abs=scale, nan_ok=True), name
    for name, by_place in own.items():
        for place, venue in enumerate(fold.venues):
            assert told[f"{name}_{venue}"] == pytest.approx(by_place.get(place, math.nan), rel=1e-7, abs=1e-7, nan_ok=True), name


def test_rows_are_those_of_the_definitions():
    events = streams()
    rows, fold = folded(events)
    assert (np.diff(rows["exchange_ns"]) == STEP_NS).all()
    past = past_of(events)
    for row in [*rows[5:300:74], *rows[238:282:14]]:
        check(fold, row, naive.row(past, int(row["exchange_ns"]), FEES, (math.nan,) * 3, SIDES))
    assert {int(n) for n in rows["values"][:, CROSS_NAMES.index("num_venues")]} == {2, 3}


@settings(max_examples=20, deadline=None)
@given(stream=streams_of_venues(), share=st.floats(0, 1))
def test_rows_of_late_doubtful_crossed_and_silent_venues_are_those_of_the_definitions(stream, share):
    n, events = stream["n"], venue_events(**stream)
    funded = (1e-4, math.nan, -2e-4, 0.0)[:n]
    fold = CrossVenue(CROSSED[:n], (1.0, 1.0, 1.001, 1.0)[:n], (1.0, 2.0, 0.5, 0.0)[:n])
    for place, rate in enumerate(funded):
        fold.funding(place, rate)
    rows = one_by_one(fold, events)
    past = naive.past_of(events, (1.0, 1.0, 1.001, 1.0)[:n])
    assert rows["exchange_ns"].tolist() == naive.steps(past)
    for k in {*np.linspace(share, rows.size - 1, 8).astype(int), *range(rows.size - 2, rows.size), *range(238, min(246, rows.size), 3)}:
        t = int(rows["exchange_ns"][k])
        check(fold, rows[k], naive.row(past, t, (1.0, 2.0, 0.5, 0.0)[:n], funded, SIDES_OF_CROSSED[:n]))
        assert rows["receive_ns"][k] == naive.received(past, t)
        mids = rows["mid"][k][:n]
        np.testing.assert_allclose(mids, naive.mids_at(past, t)[0], rtol=1e-12, equal_nan=True)
        here, touch = np.flatnonzero(~np.isnan(mids)), past.touch[np.searchsorted(past.clock, t)]
        if here.size:
            assert rows["best_bid"][k] == touch[here, 0].max() == touch[rows["best_bid_at"][k], 0]
            assert rows["best_ask"][k] == touch[here, 1].min() == touch[rows["best_ask_at"][k], 1]
            assert rows["late_ms"][k] == max(0, (t - past.stamp[np.searchsorted(past.clock, t)][here]).max()) / 1e6
    again = CrossVenue(fold.venues, fold.state["venue"]["rate"][0, :n], fold.state["venue"]["fee"][0, :n])
    for place, rate in enumerate(funded):
        again.funding(place, rate)
    known = one_by_one(again, events[: int(share * len(events))])  # whatever follows changes nothing of it
    assert known.tobytes() == rows[: known.size].tobytes()


def test_the_leader_leads():
    events = streams()
    rows, fold = folded(events)
    told = fold.values(rows[rows["exchange_ns"] == START // STEP_NS * STEP_NS + 85 * 10**9])
    assert told["lead_lag_coefficient_binance_spot"] > 0.3 > -0.3 > told["lead_lag_coefficient_bybit_spot"]


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
    assert {"funding_delta": told["funding_delta"]} == pytest.approx(naive.funding((0.0001, -0.0002, math.nan)))
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
    lasting = [row["arb_duration_ms"] for row in told]
    assert max(lasting) == 750.0
    assert lasting[-1] == 0.0
    assert max(row["best_arb_opportunity_bps"] for row in told) == pytest.approx(1e4 * 0.2 / 100.2, rel=0.01)


def test_the_sets_have_as_many_as_they_say():
    assert len(set(CROSS_VENUE_15)) == 15
    assert len(set(CROSS_VENUE_10)) == 10
    assert set(CROSS_VENUE_10) | set(CROSS_VENUE_15) <= set(CROSS_NAMES)
    assert set(OWN) <= set(CROSS_NAMES)
