"""Rows over venues made of what was recorded: the same as live to the bit, each step once, only what is new."""

import asyncio

import numpy as np
import pytest

from flows.alone import alone
from flows.between import align, recorded
from flows.settings import Settings
from simulator.server import serve
from tasks.aligned import ALL
from tasks.consolidate import Aligned, consolidate, days_due
from tasks.features.cross_venue import STEP_NS
from tasks.normalise import Normaliser
from tasks.record import Recorder
from tasks.stream import Endpoints, stream
from tasks.venues import directory
from tests.captures import SHARED, read
from tests.recorded_venues import (
    ALIGNED,
    DAYS,
    FEES,
    HOUR,
    MIDNIGHT,
    RATES,
    SYMBOLS,
    events_of,
    live_rows,
    make,
    nobody,
    paid_lake,
    record,
    rows_of,
    somebody,
)
from warehouse.lake import Lake

CAPTURES = {
    "binance_spot": [SHARED / "captures" / f"binance_spot-btcusdt-2024080{day}.gz" for day in (8, 9)],
    "binance_usdm": [SHARED / "captures" / "binance_usdm-btcusdt-20240808.gz"],
    "binance_coinm": [SHARED / "captures" / f"binance_coinm-btcusd_perp-2024080{day}.gz" for day in (8, 9)],
}


@pytest.fixture(scope="module")
def events():
    return events_of()


@pytest.fixture
def lake(tmp_path):
    return paid_lake(tmp_path / "lake")


@pytest.mark.parametrize("seed", range(3))
def test_rows_of_two_days_are_those_of_the_live_fold_to_the_bit(lake, seed):
    events = events_of(seed, late=0.2, doubtful=0.02)
    record(lake, events)
    manifests = make(lake)
    expected = live_rows(events)
    assert rows_of(lake).tobytes() == expected.tobytes()
    is_first = expected["exchange_ns"] < MIDNIGHT
    assert [known["rows"] for known in manifests] == [is_first.sum(), (~is_first).sum()]
    assert np.nanmax(np.abs(expected["funding_delta"] - 16e-5)) < 1e-12  # the payment of midnight does not count yet
    assert not np.isnan(expected["price_momentum_1m"][-1])  # warm, a moment behind midnight


@pytest.mark.parametrize("hole_s", [570, 2000])
def test_a_silence_over_midnight_and_what_turns_behind_it_are_those_of_the_live_fold(lake, hole_s):
    events = events_of(8, before_s=45, hole_s=hole_s, doubtful=0.05)
    record(lake, events)
    make(lake)
    expected = live_rows(events)
    assert rows_of(lake).tobytes() == expected.tobytes()
    assert expected["funding_delta"][-1] == pytest.approx(64e-5)
    assert (np.diff(expected["seq"]).max() > 1) == (hole_s > 600)


def test_only_what_is_new_is_made_and_the_whole_is_the_same(lake, events):
    for n, cut in enumerate((200, 500, 800, len(events))):
        record(lake, events[:cut], f"part {n}")
        assert not make(lake)[-1]["skipped"]
    assert rows_of(lake).tobytes() == live_rows(events).tobytes()
    version = lake.version("consolidated")
    assert [known["skipped"] for known in make(lake)] == [True, True]
    assert days_due(lake, ALIGNED, 0) == []
    assert lake.version("consolidated") == version


def test_days_of_other_code_and_all_behind_them_are_made_anew(lake, events, monkeypatch):
    record(lake, events)
    make(lake)
    monkeypatch.setattr("tasks.consolidate.CROSS_VERSION", "another")
    assert days_due(lake, ALIGNED, 0) == list(DAYS)
    assert [known["cross"] for known in make(lake)] == ["another"] * 2
    assert days_due(lake, ALIGNED, 0) == []
    dearer = Aligned("BTC", SYMBOLS, RATES, {"": 2.0})
    assert days_due(lake, dearer, 0) == list(DAYS)


def test_recorded_rows_take_the_place_of_live_ones_and_steps_that_only_those_have_stay(lake, events):
    record(lake, events)
    expected = live_rows(events)
    own, more = expected[100:180].copy(), expected[:4].copy()
    own["avg_price"] = 1.0
    more["exchange_ns"] = MIDNIGHT - 500 * 10**9 + np.arange(4) * STEP_NS
    more["seq"] = more["exchange_ns"] // STEP_NS
    with lake.writer() as writer:
        for rows in (more, own):
            writer.session(ALL, "BTC", f"from {rows['seq'][0]}", ("consolidated",), {"consolidated": int(rows["seq"][0])})
            writer.append("consolidated", ALL, "BTC", rows)
    whole = np.concatenate([more, expected]).tobytes()
    for cross in ("", "again"):
        made = make(lake)
        assert made[0]["live"] == [[int(more["seq"][0]), int(more["seq"][-1])]]
        assert rows_of(lake).tobytes() == whole, cross
    dearer = Aligned("BTC", SYMBOLS, RATES, {"": 2.0})
    assert make(lake, aligned=dearer)[0]["live"] == made[0]["live"]
    assert rows_of(lake)["seq"].tolist() == np.concatenate([more, expected])["seq"].tolist()


def test_a_live_run_keeps_its_day_until_that_is_over_and_sealed(lake, events):
    record(lake, events)
    assert [known["skipped"] for known in make(lake, somebody, now_ns=MIDNIGHT + 599 * 10**9)] == [True, True]
    expected = live_rows(events)
    writer = lake.writer()
    writer.session(ALL, "BTC", "live", ("consolidated",), {"consolidated": int(expected["seq"][0])})
    writer.append("consolidated", ALL, "BTC", expected[:9])
    writer.commit()
    assert [known["skipped"] for known in make(lake, somebody, now_ns=MIDNIGHT + 600 * 10**9)] == [True, True]
    writer.seal()
    assert [known["skipped"] for known in make(lake, somebody, now_ns=MIDNIGHT + 600 * 10**9)] == [False, True]
    writer.close()
    first_day = expected[expected["exchange_ns"] < MIDNIGHT]
    assert rows_of(lake).tobytes() == first_day.tobytes()


def test_what_was_made_of_more_than_is_left_stays(lake, events):
    record(lake, events)
    made = make(lake)
    lake.retire({"l2_snapshots": 1})
    left = [partition for partition in lake.partitions("l2_snapshots") if partition[0] == "kraken"]
    assert [day for *_, day in left] == [DAYS[1]]
    assert [consolidate(lake, ALIGNED, day, nobody)["skipped"] for day in DAYS] == [True, True]
    assert [lake.manifest("consolidated", ALL, "BTC", day)["rows"] for day in DAYS] == [known["rows"] for known in made]


def test_what_a_lake_holds_is_aligned_and_signals_follow(lake, events):
    record(lake, events)
    settings = Settings(lake=lake.root, quote_rates="USDT:1.0,USD:1.001", taker_fee_bps=0.1)
    assert recorded(lake, settings) == {"BTC": SYMBOLS}
    align(lake, settings)
    signals = lake.rows("signals", ALL, "BTC")
    rows = rows_of(lake)
    assert rows.size == live_rows(events).size
    assert signals.size
    np.testing.assert_array_equal(signals["arb_bps"], rows["arb_bps"][np.searchsorted(rows["seq"], signals["event_seq"])])
    version = lake.version("consolidated")
    with alone(lake.root, "normalise-BTC"):
        align(lake, settings)
    assert lake.version("consolidated") == version


async def _frames(seconds, speed):
    raws = {venue: directory.raw_symbol(venue, symbol) for venue, symbol in SYMBOLS.items()}
    adapters = {venue: directory.adapter(venue, raw) for venue, raw in raws.items()}
    taken, stop = [], asyncio.Event()
    async with await serve(list(SYMBOLS), {venue: [raw] for venue, raw in raws.items()}, seed=4, speed=speed, coupled=True) as market:

        async def feed(venue):
            where, adapter = Endpoints(market.ws_url(venue), market.rest_url(venue)), adapters[venue]

            def wanting():
                return [raws[venue]] if adapter.needs_snapshot else []

            async for _, receive_ns, frame in stream(venue, [raws[venue]], where, wanting, stop):
                taken.append((venue, receive_ns, frame))
                list(adapter.receive(frame, receive_ns))

        jobs = [asyncio.create_task(feed(venue)) for venue in SYMBOLS]
        while not all(adapter.is_live for adapter in adapters.values()):
            await asyncio.sleep(0.05)
        await asyncio.sleep(seconds)
        stop.set()
        await asyncio.gather(*jobs)
    return sorted(taken, key=lambda each: each[1])


def both_ways(tmp_path, frames, symbols):
    """Return the rows that frames give live, and those of the same frames recorded."""
    live, batch = Lake(tmp_path / "live"), Lake(tmp_path / "batch")
    normaliser = Normaliser(live, "BTC", symbols, RATES, FEES)
    recorders = {venue: Recorder(batch, venue, "recorded") for venue in symbols}
    for venue, receive_ns, frame in frames:
        normaliser.take(venue, receive_ns, frame)
        recorders[venue].take(directory.raw_symbol(venue, symbols[venue]), receive_ns, frame)
    for each in (normaliser, *recorders.values()):
        each.writer.close()
    make(batch, aligned=Aligned("BTC", symbols, RATES, FEES))
    return rows_of(live), rows_of(batch)


@pytest.mark.slow
def test_simulated_venues_give_the_same_rows_live_and_of_their_recording(tmp_path):
    rows, again = both_ways(tmp_path, asyncio.run(asyncio.wait_for(_frames(5.0, 16.0), 60)), SYMBOLS)
    assert rows.size > 250
    assert (rows["num_venues"] == 3).mean() > 0.8
    assert not np.isnan(rows["price_momentum_1m"][-1])
    assert again.tobytes() == rows.tobytes()


@pytest.mark.slow
@pytest.mark.skipif(not all(path.is_file() for paths in CAPTURES.values() for path in paths), reason="captures are not here")
def test_captured_venues_give_the_same_rows_live_and_of_their_recording_across_midnight(tmp_path):
    frames = []
    for place, (venue, paths) in enumerate(CAPTURES.items()):
        stamps, taken = zip(*read(*paths), strict=True)
        clock = np.maximum.accumulate(stamps)
        frames += [(clock[i], place, i, venue, stamps[i], frame) for i, frame in enumerate(taken)]
    symbols = {"binance_spot": "BTC-USDT", "binance_usdm": "BTC-USDT-PERP", "binance_coinm": "BTC-USD-PERP"}
    rows, again = both_ways(tmp_path, [each[3:] for each in sorted(frames, key=lambda each: each[:3])], symbols)
    assert rows.size > 2500
    assert np.unique(rows["exchange_ns"] // (24 * HOUR)).size == 2
    assert again.tobytes() == rows.tobytes()
