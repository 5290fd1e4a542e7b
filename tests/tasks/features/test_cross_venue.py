"""The fold over venues against plain NumPy over everything that happened."""

import math

import numpy as np
import pytest

from tasks.features.cross_catalogue import CROSS_NAMES, CROSS_VENUE_10, CROSS_VENUE_15, OWN
from tasks.features.cross_venue import AGE_NS, STEP_NS, CrossVenue
from tests.streams import books_at, trades_at

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


def naive(events, t):
    """Return the features of one step's end from all events before it."""
    books, trades = [[] for _ in VENUES], [[] for _ in VENUES]
    for ns, venue, kind, row in events:
        if ns < t:
            (books if kind == "book" else trades)[venue].append(row[0])

    def mid_at(venue, when):
        past = [book for book in books[venue] if book["exchange_ns"] < when]
        if not past or when - past[-1]["exchange_ns"] > AGE_NS:
            return math.nan
        return (past[-1]["bid_px"][0] + past[-1]["ask_px"][0]) * RATES[venue] / 2

    here = [v for v in range(3) if not math.isnan(mid_at(v, t))]
    mids = np.array([mid_at(v, t) for v in here])
    last = {v: books[v][-1] for v in here}
    volume = np.array(
        [math.fsum(trade["size"] for trade in trades[v] if trade["exchange_ns"] >= (t - 1) // 10**9 * 10**9 - 59 * 10**9) for v in here]
    )
    centre = (volume * mids).sum() / volume.sum()
    spread = math.sqrt((volume * (mids - centre) ** 2).sum() / volume.sum())
    bids, asks = ([last[v][f"{s}_px"][0] * RATES[v] for v in here] for s in ("bid", "ask"))
    depth = [sum(last[v][f"{s}_sz"][:10].sum() for v in here) for s in ("bid", "ask")]
    gains = [
        1e4 * (bids[i] - asks[j]) / mids.mean() - FEES[here[i]] - FEES[here[j]]
        for i in range(len(here))
        for j in range(len(here))
        if i != j
    ]
    return {
        "num_venues": len(here), "all_venues_active": float(len(here) == 3), "avg_price": mids.mean(),
        "price_divergence": mids.std(), "price_dispersion": 1e4 * mids.std() / mids.mean(),
        "max_price_spread_bps": 1e4 * np.ptp(mids) / mids.mean(), "vw_price_dispersion": 1e4 * spread / centre,
        "volume_concentration": (volume**2).sum() / volume.sum() ** 2, "depth_imbalance_ratio": (depth[0] - depth[1]) / sum(depth),
        "consolidated_spread_bps": 1e4 * (min(asks) - max(bids)) / mids.mean(), "best_arb_opportunity_bps": max(0.0, *gains),
        "arb_opportunity_count": sum(gain > 0 for gain in gains), "binance_bybit_ratio": mid_at(0, t) / mid_at(1, t),
    }, {v: 1e4 * (mid - centre) / centre for v, mid in zip(here, mids, strict=True)}, mid_at  # fmt: skip


def test_rows_are_those_of_the_definitions():
    events = streams()
    rows, fold = folded(events)
    assert (np.diff(rows["exchange_ns"]) == STEP_NS).all()
    for row in [*rows[5:300:37], *rows[238:282:7]]:
        expected, deviation, _ = naive(events, int(row["exchange_ns"]))
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
    _, _, mid_at = naive(events, t)
    grid = np.array([[mid_at(v, t - k * 100_000_000) for k in range(601)] for v in range(3)])
    r = np.log(grid[:, :-1] / grid[:, 1:])

    def corr(x, y):
        known = ~(np.isnan(x) | np.isnan(y))
        return np.corrcoef(x[known], y[known])[0, 1]

    told = fold.values(row.reshape(1))
    assert told["price_sync_correlation"] == pytest.approx(np.mean([corr(r[0], r[1]), corr(r[0], r[2]), corr(r[1], r[2])]), abs=1e-9)
    others = np.nanmean(r[1:], axis=0)
    lead = sum(corr(r[0][k:], others[:-k]) - corr(others[k:], r[0][:-k]) for k in range(1, 11))
    assert told["lead_lag_coefficient_binance_spot"] == pytest.approx(lead, abs=1e-9)
    assert told["lead_lag_coefficient_binance_spot"] > 0.3 > -0.3 > told["lead_lag_coefficient_bybit_spot"]
    vols = [
        math.sqrt(
            sum(
                math.log(mid_at(v, t // 10**9 * 10**9 - k * 10**9) / mid_at(v, t // 10**9 * 10**9 - (k + 1) * 10**9)) ** 2
                for k in range(60)
            )
        )
        for v in (0, 1)
    ]
    assert told["cross_venue_vol_ratio"] == pytest.approx(max(vols) / min(vols), rel=1e-9)
    assert told["vol_dispersion"] == pytest.approx(np.std(vols) / np.mean(vols), rel=1e-6)
    past = rows[(rows["exchange_ns"] > t - 60 * 10**9) & (rows["exchange_ns"] <= t)]["values"][:, CROSS_NAMES.index("price_divergence")]
    assert told["volatility_spread"] == pytest.approx(past.std(), rel=1e-9)
    minute = rows[rows["exchange_ns"] == t - 60 * 10**9][0]
    assert told["price_momentum_1m"] == pytest.approx(told["avg_price"] / fold.values(minute.reshape(1))["avg_price"] - 1, rel=1e-9)


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
    assert told["funding_delta"] == pytest.approx(0.0003)
    fold.doubt(1)
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
