"""Candles, funding and open interest over REST: each venue's shape, order and limits, and the same numbers each time."""

import asyncio
import itertools
import json
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest

from simulator import history
from simulator.desk import Desk
from simulator.listings import listing
from simulator.market import Market
from simulator.past import FUNDING_MS, LISTED_MS, MINUTE_MS, Past
from simulator.protocol import Moment, Request
from tests.simulated import run

NOW_NS = 1_790_000_000_000_000_000
NOW_MS = NOW_NS // 1_000_000
HOUR_MS = 3_600_000


def answers(venue, symbols, *paths):
    """Return status and body of each path, asked at NOW_NS."""
    desks = {symbol: Desk(Market(listing(venue, symbol), 1, NOW_NS)) for symbol in symbols}
    told = []
    for url in map(urlsplit, paths):
        request = Request("GET", url.path, dict(parse_qsl(url.query)), b"", Moment(NOW_NS, 0.0))
        answer = history.answer(SimpleNamespace(venue=venue, desks=desks), request)
        told.append((answer.status, json.loads(answer.body)))
    return told


def test_longer_candles_are_made_of_the_shorter_ones_and_any_stretch_is_the_same():
    past, start = Past(listing("binance_usdm", "ETHUSDT"), 3), NOW_MS - 10 * 24 * HOUR_MS
    minutes, hours = past.candles(start, MINUTE_MS, 600, NOW_MS), past.candles(start, HOUR_MS, 8, NOW_MS)
    inside = minutes[minutes[:, 0] >= hours[0, 0]][:480].reshape(8, 60, 6)
    np.testing.assert_array_equal(hours[:, 1], inside[:, 0, 1])
    np.testing.assert_array_equal(hours[:, 2], inside[:, :, 2].max(1))
    np.testing.assert_array_equal(hours[:, 3], inside[:, :, 3].min(1))
    np.testing.assert_array_equal(hours[:, 4], inside[:, -1, 4])
    np.testing.assert_allclose(hours[:, 5], inside[:, :, 5].sum(1), atol=1e-6)
    np.testing.assert_array_equal(past.candles(int(minutes[100, 0]), MINUTE_MS, 50, NOW_MS), minutes[100:150])
    np.testing.assert_array_equal(minutes[1:, 1], minutes[:-1, 4])
    assert (minutes[:, 2] >= minutes[:, [1, 4]].max(1)).all()
    assert (minutes[:, 3] <= minutes[:, [1, 4]].min(1)).all()
    assert not np.array_equal(Past(listing("binance_usdm", "ETHUSDT"), 4).candles(start, MINUTE_MS, 600, NOW_MS), minutes)


def test_nothing_is_older_than_the_listing_or_younger_than_now():
    past = Past(listing("binance_spot", "BTCUSDT"), 3)
    assert past.candles(0, 86_400_000, 3, NOW_MS)[:, 0].tolist() == [LISTED_MS + i * 86_400_000 for i in range(3)]
    last = past.candles(NOW_MS - 2 * HOUR_MS, HOUR_MS, 100, NOW_MS)
    assert last[-1, 0] <= NOW_MS < last[-1, 0] + HOUR_MS
    assert np.isfinite(last).all()
    later = past.candles(NOW_MS - 2 * HOUR_MS, HOUR_MS, 100, NOW_MS + 5 * MINUTE_MS)
    assert later[-1, 5] > last[-1, 5]
    assert not len(past.candles(NOW_MS + HOUR_MS, HOUR_MS, 3, NOW_MS))


def test_venues_agree_on_the_past():
    closes = [
        Past(listing(venue, symbol), 3).candles(NOW_MS - 100 * HOUR_MS, HOUR_MS, 90, NOW_MS)[:, 4]
        for venue, symbol in (("binance_usdm", "BTCUSDT"), ("coinbase_exchange", "BTC-USD"), ("bybit_spot", "BTCUSDT"))
    ]
    assert np.abs(np.log(closes[0] / closes[1])).max() < 5e-4
    assert np.abs(np.log(closes[0] / closes[2])).max() < 5e-4
    assert np.log(closes[0]).std() > 2e-3


def test_binance_klines_come_oldest_first_with_twelve_fields():
    start = NOW_MS - 10 * HOUR_MS
    [(_, latest), (_, some), (_, none), (status, wrong)] = answers(
        "binance_usdm",
        ["BTCUSDT"],
        "/fapi/v1/klines?symbol=BTCUSDT&interval=1m",
        f"/fapi/v1/klines?symbol=BTCUSDT&interval=5m&startTime={start}&endTime={start + HOUR_MS}&limit=1500",
        f"/fapi/v1/klines?symbol=BTCUSDT&interval=5m&startTime={NOW_MS + HOUR_MS}",
        "/fapi/v1/klines?symbol=NOPE&interval=5m",
    )
    assert len(latest) == 500
    assert latest[-1][0] <= NOW_MS + 1_000 < latest[-1][6] + 1_000
    assert all(after[0] - before[0] == MINUTE_MS for before, after in itertools.pairwise(latest))
    assert {len(row) for row in latest} == {12}
    assert [row[0] for row in some] == [ms for ms in range(start, start + HOUR_MS + 1) if ms % 300_000 == 0]
    assert none == []
    assert (status, wrong["code"]) == (400, -1121)


def test_binance_funding_and_open_interest_keep_the_venues_limits():
    start = NOW_MS - 40 * 24 * HOUR_MS
    [(_, funding), (_, last), (status, refused), (_, interest), (_, now)] = answers(
        "binance_usdm",
        ["BTCUSDT"],
        f"/fapi/v1/fundingRate?symbol=BTCUSDT&startTime={start}&limit=10",
        "/fapi/v1/fundingRate?symbol=BTCUSDT",
        f"/futures/data/openInterestHist?symbol=BTCUSDT&period=5m&startTime={start}&limit=10",
        f"/futures/data/openInterestHist?symbol=BTCUSDT&period=1h&startTime={NOW_MS - 48 * HOUR_MS}",
        "/fapi/v1/openInterest?symbol=BTCUSDT",
    )
    assert len(funding) == 10
    assert all(0 <= row["fundingTime"] % FUNDING_MS < 20 for row in funding)
    assert funding == sorted(funding, key=lambda row: row["fundingTime"])
    assert len(last) == 100
    assert (status, refused["code"]) == (400, -1130)
    assert len(interest) == 30
    assert float(now["openInterest"]) > 0
    assert all(after["timestamp"] - before["timestamp"] == HOUR_MS for before, after in itertools.pairwise(interest))


def test_bybit_answers_newest_first_and_a_start_alone_is_an_error():
    start, step = NOW_MS - 50 * HOUR_MS, "&symbol=BTCUSDT"
    [(_, kline), (_, alone), (_, both), (_, first), (_, second)] = answers(
        "bybit_linear",
        ["BTCUSDT"],
        f"/v5/market/kline?category=linear&interval=60&start={start}&limit=5{step}",
        f"/v5/market/funding/history?category=linear&startTime={start}{step}",
        f"/v5/market/funding/history?category=linear&startTime={start}&endTime={NOW_MS}{step}",
        "/v5/market/open-interest?category=linear&intervalTime=5min&limit=20" + step,
        f"/v5/market/open-interest?category=linear&intervalTime=5min&limit=20&cursor={NOW_MS // 300_000 * 300_000 - 19 * 300_000 - 1}"
        + step,
    )
    times = [int(row[0]) for row in kline["result"]["list"]]
    assert times == [start // HOUR_MS * HOUR_MS + i * HOUR_MS for i in range(4, -1, -1)]
    assert alone["retCode"] == 10001
    assert len(both["result"]["list"]) == 6
    stamps = [int(row["timestamp"]) for answer in (first, second) for row in answer["result"]["list"]]
    assert all(before - after == 300_000 for before, after in itertools.pairwise(stamps))
    assert first["result"]["nextPageCursor"] == str(stamps[19] - 1)


def test_coinbase_candles_come_newest_first_low_before_high_and_leave_out_quiet_minutes():
    day = NOW_MS // 86_400_000 * 86_400
    path = "/products/{}/candles?granularity=60&start=2026-09-20T00:00:00Z&end=2026-09-20T04:59:00.000Z"
    [(_, rows), (_, quiet), (status, refused)] = answers(
        "coinbase_exchange", ["BTC-USD", "SIM001-USD"], path.format("BTC-USD"), path.format("SIM001-USD"),
        f"/products/BTC-USD/candles?granularity=60&start={day - 86_400}&end={day}",
    )  # fmt: skip
    assert len(rows) == 300
    assert rows == sorted(rows, reverse=True)
    assert all(low <= min(opened, close) and high >= max(opened, close) for _, low, high, opened, close, _ in rows)
    assert 240 < len(quiet) < 290
    assert (status, "exceeds 300" in refused["message"]) == (400, True)
    start = NOW_MS // 1_000 - 7_200
    address = f"/api/v3/brokerage/market/products/BTC-USD/candles?start={start}&end={start + 3_600}&granularity=FIVE_MINUTE"
    [(_, told)] = answers("coinbase_advanced", ["BTC-USD"], address)
    starts = [int(candle["start"]) for candle in told["candles"]]
    assert starts == sorted(starts, reverse=True)
    assert len(starts) in (12, 13)
    assert set(told["candles"][0]) == {"start", "low", "high", "open", "close", "volume"}


@pytest.mark.parametrize("kind", ["spot", "swap"])
def test_ccxt_reads_binance_history(kind):
    ccxt = pytest.importorskip("ccxt")
    venue, symbol = ("binance_spot", "BTC/USDT") if kind == "spot" else ("binance_usdm", "BTC/USDT:USDT")

    async def body(market):
        base = market.rest_url(venue)
        urls = {"public": base + "/api/v3", "fapiPublic": base + "/fapi/v1", "fapiData": base + "/futures/data"}
        client = ccxt.binance(
            {
                "urls": {"api": urls},
                "options": {"fetchMarkets": {"types": ["spot" if kind == "spot" else "linear"]}},
                "enableRateLimit": False,
            }
        )
        client.session.trust_env = False
        start = NOW_MS // HOUR_MS * HOUR_MS - 20 * HOUR_MS

        def ask():
            told = [client.fetch_ohlcv(symbol, "1h", start, 10)]
            if kind == "swap":
                told += [client.fetch_funding_rate_history(symbol, start, 2), client.fetch_open_interest_history(symbol, "1h", start, 5)]
            return told

        return start, await asyncio.to_thread(ask)

    start, (candles, *more) = run(body, [venue], start_ns=NOW_NS, speed=0.001)
    assert [row[0] for row in candles] == [start + i * HOUR_MS for i in range(10)]
    assert [len(rows) for rows in more] == ([2, 5] if kind == "swap" else [])
