"""Venues side by side: off real sockets of simulated venues, into the lake, not more than half a second behind."""

import asyncio
from itertools import count

import numpy as np
import pytest

from flows.between import assets
from flows.normalise import _keep
from flows.settings import Settings
from simulator.server import serve
from tasks.aligned import ALL, MORE, NoRateError, base_and_quote
from tasks.features.cross_venue import STEP_NS
from tasks.normalise import Normaliser, signal_between_venues
from tasks.stream import Endpoints, stream
from tasks.venues import directory
from warehouse.errors import LakeFullError
from warehouse.lake import Lake
from warehouse.schema import ARBITRAGE, FUNDING_DIVERGENCE, OK, row_dtype

SYMBOLS = {"binance_usdm": "BTC-USDT-PERP", "bybit_linear": "BTC-USDT-PERP", "kraken": "BTC-USD", "okx": "BTC-USDT"}
RATES = {"USDT": 1.0, "USD": 1.0}


PAIR = {"binance_usdm": "BTC-USDT-PERP", "bybit_linear": "BTC-USDT-PERP"}
START = 1_723_200_000_000_000_000


def feed(normaliser, first, last):
    """Books of two venues, one a second and venue, the second far above the first; what is not over stays unwritten."""
    book = np.zeros(1, row_dtype("l2_snapshots"))
    book["bid_sz"][0, 0] = book["ask_sz"][0, 0] = 1.0
    for second in range(first, last):
        for i, bid in enumerate((100.0, 102.0)):
            book["exchange_ns"] = book["receive_ns"] = START + second * 10**9 + i
            book["bid_px"][0, 0], book["ask_px"][0, 0] = bid, bid + 0.1
            normaliser.fold.turn(i, OK)
            normaliser._store(normaliser.fold.book(i, book))


def told(lake):
    return [row.tobytes() for row in lake.rows("signals", ALL, "BTC")]


def normalised(lake, spans):
    for first, last in spans:
        normaliser = Normaliser(lake, "BTC", PAIR, RATES, {"": 4.0})
        normaliser.funding("binance_usdm", 0.0)
        normaliser.funding("bybit_linear", 1e-3)
        feed(normaliser, first, last)
        normaliser.writer.close()


def test_rows_give_signals_live_once_and_the_same_in_batch(tmp_path):
    lake = Lake(tmp_path / "live")
    normalised(lake, [(0, 50), (50, 70)])
    signals, rows = lake.rows("signals", ALL, "BTC"), lake.rows("consolidated", ALL, "BTC")
    assert signals["kind"].tolist() == [ARBITRAGE, FUNDING_DIVERGENCE] * 3
    assert signals["seq"].tolist() == list(range(6))
    assert np.diff(signals["exchange_ns"][::2]).min() >= 30e9  # across the restart too
    np.testing.assert_array_equal(signals["arb_bps"], rows["arb_bps"][np.searchsorted(rows["seq"], signals["event_seq"])])
    np.testing.assert_array_equal(rows["seq"], rows["exchange_ns"] // STEP_NS)
    assert np.unique(rows["seq"]).size == rows.size
    assert signal_between_venues(lake, "BTC") == 0
    batch = Lake(tmp_path / "batch")
    with batch.writer() as writer:
        for part in np.split(rows, [100, *np.flatnonzero(np.diff(rows["seq"]) > 1) + 1]):
            writer.session(ALL, "BTC", f"from {part['seq'][0]}", ("consolidated",), {"consolidated": part["seq"][0]})
            writer.append("consolidated", ALL, "BTC", part)
            writer.commit()
            signal_between_venues(batch, "BTC")
    signal_between_venues(batch, "BTC")
    assert told(batch) == told(lake)


def test_rows_that_gave_no_signal_are_looked_at_once_and_open_no_session(tmp_path, monkeypatch):
    lake, rows, day_steps = Lake(tmp_path), np.zeros(400, row_dtype("consolidated")), 86_400 * 10**9 // STEP_NS
    rows["seq"] = START // STEP_NS // day_steps * day_steps + 2 * day_steps - 200 + np.arange(400)  # over two days
    rows["exchange_ns"], rows["arb_bps"], rows["funding_delta"] = rows["seq"] * STEP_NS, np.nan, np.nan

    def store(part, name):
        with lake.writer() as writer:
            writer.session(ALL, "BTC", name, ("consolidated",), {"consolidated": part["seq"][0]}).append("consolidated", part)

    store(rows[:300], "first")
    read, true = [], lake.rows

    def counted(table, *args):
        out = true(table, *args)
        read.extend(out["seq"].tolist() if table == "consolidated" else ())
        return out

    monkeypatch.setattr(lake, "rows", counted)
    assert [signal_between_venues(lake, "BTC") for _ in range(2)] == [0, 0]
    assert read[:300] == rows["seq"][:300].tolist()
    assert set(read[300:]) <= set(rows["seq"][200:300].tolist()), "only the last day may still grow"
    assert lake.sessions(ALL, "BTC") == ["first"]

    first_day, again = str(rows["exchange_ns"][0].astype("M8[ns]").astype("M8[D]")), rows[:200].copy()
    again["arb_bps"][50] = 3.0
    lake.replace("consolidated", ALL, "BTC", first_day, {name: again[name] for name in again.dtype.names}, {"made": "anew"})
    assert signal_between_venues(lake, "BTC") == 1, "a day that was made anew is looked at again"
    rows["arb_bps"][390] = 2.0
    store(rows[300:], "second")
    assert [signal_between_venues(lake, "BTC") for _ in range(2)] == [1, 0]
    assert true("signals", ALL, "BTC")["event_seq"].tolist() == rows["seq"][[50, 390]].tolist()
    assert true("signals", ALL, "BTC")["seq"].tolist() == [0, 1]
    assert len(lake.sessions(ALL, "BTC")) == 4


def test_signals_that_a_kill_took_come_with_the_next_run(tmp_path):
    whole, cut = Lake(tmp_path / "whole"), Lake(tmp_path / "cut")
    normalised(whole, [(0, 80)])
    with cut.writer() as writer:
        rows = whole.rows("consolidated", ALL, "BTC")
        writer.session(ALL, "BTC", "rows", ("consolidated",), {"consolidated": rows["seq"][0]}).append("consolidated", rows)
    normalised(cut, [(80, 81)])
    assert told(cut)[: len(told(whole))] == told(whole)


def test_funding_is_the_newest_by_time_and_of_eight_hours(tmp_path):
    lake, hour = Lake(tmp_path), 3_600 * 10**9
    normaliser = Normaliser(lake, "BTC", PAIR, RATES, {"": 4.0})
    normaliser._turn_funding(START)
    assert np.isnan(normaliser.fold.state["venue"]["funding"][0, :2]).all()
    with lake.writer() as writer:
        for venue, hours, rates in (("binance_usdm", (16, 0, 8), (3e-4, 1e-4, 2e-4)), ("bybit_linear", (4, 2, 3), (4e-5, 2e-5, 9e-5))):
            rows = np.zeros(3, row_dtype("funding_rates"))  # a later fetch brought the older ones
            rows["seq"], rows["exchange_ns"], rows["funding_rate"] = np.arange(3), START + np.array(hours) * hour, rates
            writer.session(venue, PAIR[venue], "paid", ("funding_rates",)).append("funding_rates", rows)
    late, due = 18 * hour + START // hour * hour, normaliser._funding_ns
    assert due == START // hour * hour + hour // 6 + hour * (START % hour >= hour // 6)
    for ns, rates in ((due - 1, (np.nan, np.nan)), (due, (1e-4, np.nan)), (late, (3e-4, 3.2e-4))):
        normaliser.take("binance_usdm", ns, b"")
        np.testing.assert_allclose(normaliser.fold.state["venue"]["funding"][0, :2], rates)
    np.testing.assert_allclose(normaliser.fold.state["venue"]["funding"][0, :2], (3e-4, 3.2e-4))
    normaliser.writer.close()


def test_rows_outlast_a_full_disk_and_funding_is_looked_up_again(tmp_path, monkeypatch):
    normaliser, true, left = Normaliser(Lake(tmp_path), "BTC", PAIR, RATES, {"": 4.0}), {}, {"commit": 3, "seal": 1}
    looks, hours = [], count()
    for name in left:
        true[name] = getattr(normaliser.writer, name)

        def full(name=name):
            left[name] -= 1
            if left[name] >= 0:
                raise LakeFullError(tmp_path, "no space")
            return true[name]()

        monkeypatch.setattr(normaliser.writer, name, full)
    monkeypatch.setattr(normaliser, "look_up_funding", looks.append)
    monkeypatch.setattr("flows.normalise.funding_hour", lambda _: next(hours))
    for name in ("COMMIT_S", "SEAL_S"):
        monkeypatch.setattr(f"flows.normalise.{name}", 0.01)
    feed(normaliser, 0, 5)

    async def keep():
        stop = asyncio.Event()
        keeper = asyncio.create_task(_keep(normaliser, stop))
        async with asyncio.timeout(20):
            while left["commit"] >= 0 or left["seal"] >= 0 or not looks:
                assert not keeper.done()
                await asyncio.sleep(0.02)
        stop.set()
        await keeper

    asyncio.run(keep())
    normaliser.writer.close()
    assert normaliser.full == 4
    rows = Lake(tmp_path).rows("consolidated", ALL, "BTC")
    assert rows["seq"].tolist() == list(range(rows["seq"][0], rows["seq"][0] + normaliser.rows))


def test_a_silence_leaves_numbers_out_and_a_clock_that_was_further_stores_nothing_twice(tmp_path):
    lake = Lake(tmp_path)
    normalised(lake, [(0, 5), (3, 8), (700, 705)])
    normaliser = Normaliser(lake, "BTC", PAIR, RATES, {"": 4.0})
    feed(normaliser, 2000, 2003)
    feed(normaliser, 3000, 3003)  # longer than a clock may stand still
    normaliser.writer.close()
    seq = lake.rows("consolidated", ALL, "BTC")["seq"]
    assert (np.diff(seq) > 0).all()
    assert (np.diff(seq)[np.diff(seq) > 1] > 4 * 600).all()
    assert seq.size > 4 * 4 * 3


def test_a_disk_that_is_full_before_the_first_row_costs_rows_and_not_the_run(tmp_path, monkeypatch):
    normaliser, told = Normaliser(Lake(tmp_path), "BTC", PAIR, RATES, {"": 4.0}), []
    normaliser._publish = lambda base, row: told.append(row["seq"])

    def full(*_):
        raise LakeFullError(tmp_path, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(normaliser.writer, "session", full)
        feed(normaliser, 0, 3)
    assert normaliser.rows == 0
    assert normaliser.full == len(told) > 5
    lost = len(told)
    feed(normaliser, 3, 6)
    normaliser.writer.close()
    assert Lake(tmp_path).rows("consolidated", ALL, "BTC")["seq"].tolist() == told[lost:]


async def recorded(lake, n_rows):
    raws = {venue: directory.raw_symbol(venue, symbol) for venue, symbol in SYMBOLS.items()}
    normaliser, stop, told = (
        Normaliser(lake, "BTC", SYMBOLS, RATES, {"": 4.0}, publish=lambda base, row: told.append(row)),
        asyncio.Event(),
        [],
    )
    async with await serve(list(SYMBOLS), {venue: [raw] for venue, raw in raws.items()}, seed=4) as market:

        async def feed(venue):
            where = Endpoints(market.ws_url(venue), market.rest_url(venue))
            async for _, receive_ns, frame in stream(venue, [raws[venue]], where, lambda: normaliser.wanting(venue), stop):
                normaliser.take(venue, receive_ns, frame)

        jobs = [asyncio.create_task(feed(venue)) for venue in SYMBOLS]
        while normaliser.rows < n_rows:
            await asyncio.sleep(0.05)
        stop.set()
        await asyncio.gather(*jobs)
    normaliser.writer.close()
    return normaliser, told


def test_four_venues_are_aligned_in_the_lake_and_not_more_than_half_a_second_behind(tmp_path):
    lake = Lake(tmp_path)
    normaliser, told = asyncio.run(asyncio.wait_for(recorded(lake, 16), 60))
    rows = lake.sql("SELECT * FROM consolidated ORDER BY seq").to_pandas()
    assert len(rows) == normaliser.rows == len(told) >= 16
    late = rows[rows["num_venues"] == 4]
    assert len(late) > 5
    assert (late["receive_ns"] - late["exchange_ns"]).median() < 500e6
    for venue in SYMBOLS:
        assert late[f"mid_{venue}"].notna().all()
    mids = late[[f"mid_{venue}" for venue in SYMBOLS]].to_numpy()
    np.testing.assert_allclose(late["avg_price"], mids.mean(1), rtol=1e-12)
    np.testing.assert_allclose(late["price_divergence"], mids.std(1), rtol=1e-9)
    assert rows[f"mid_{'coinbase_exchange'}"].isna().all()
    best = late["best_bid_venue"].map(lambda place: directory.VENUES[int(place)])
    assert set(best) <= set(SYMBOLS)


def test_a_quote_without_a_rate_is_refused(tmp_path):
    with pytest.raises(NoRateError, match="BTC-EUR: expected a quote of USDT, USD, received EUR"):
        Normaliser(Lake(tmp_path), "BTC", {"binance_spot": "BTC-USDT", "kraken": "BTC-EUR"}, RATES, {"": 4.0})


def test_what_two_venues_trade_is_aligned():
    settings = Settings(streams="binance_spot:BTC-USDT,binance_spot:ETH-USDT,kraken:BTC-USD,okx:SOL-EUR", quote_rates="USDT:1.0,USD:1.0")
    assert assets(settings) == {"BTC": {"binance_spot": "BTC-USDT", "kraken": "BTC-USD"}}
    assert base_and_quote("SOL-EUR") == ("SOL", "EUR")


def test_columns_are_the_same_whatever_venues_there_are():
    assert len(set(MORE)) == len(MORE)
    assert not set(MORE) & set(row_dtype("consolidated").names)
