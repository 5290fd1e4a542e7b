"""History over REST, off a real server that speaks the venues' own paths, through ccxt."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import ccxt
import numpy as np
import pytest
from typer.testing import CliRunner

import cli
from cli.shared import FAILED
from simulator.server import serve
from tasks.fetch import fetch, merged, missing
from tasks.history import KINDS, BlockedError, NoAnswerError, NoMarketError, NotServedError, Source, exchange, unified_symbol
from warehouse.lake import Lake

VENUES = ("binance_spot", "binance_usdm", "binance_coinm", "bybit_spot", "bybit_linear", "coinbase_exchange", "okx", "hyperliquid")
SYMBOL = {
    "binance_spot": "BTC-USDT", "binance_usdm": "BTC-USDT-PERP", "binance_coinm": "BTC-USD-PERP", "bybit_spot": "BTC-USDT",
    "bybit_linear": "BTC-USDT-PERP", "coinbase_exchange": "BTC-USD", "okx": "BTC-USDT", "hyperliquid": "BTC-USD-PERP", "kraken": "BTC-USD",
}  # fmt: skip
DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def market():
    """Venues on loopback, in a thread of their own, so that a client that waits does not stop them."""
    loop, ready, box = asyncio.new_event_loop(), threading.Event(), {}

    async def main():
        box["stop"] = asyncio.Event()
        async with await serve((*VENUES, "kraken"), seed=5) as running:
            box["market"] = running
            ready.set()
            await box["stop"].wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),), daemon=True)
    thread.start()
    assert ready.wait(60)
    yield box["market"]
    loop.call_soon_threadsafe(box["stop"].set)
    thread.join(10)


@contextmanager
def asked(market, venue):
    """Record the REST paths and queries that a venue is asked."""
    wire, seen = market.venues[venue].wire, []
    answer = type(wire).rest
    from simulator import history

    true = history.answer

    def note(which, request):
        if which is wire:
            seen.append((request.path, dict(request.query)))
        return true(which, request)

    history.answer = note
    try:
        yield seen
    finally:
        history.answer = true
        assert type(wire).rest is answer


def source(market, venue, kind, timeframe="5m"):
    return Source(exchange(venue, market.rest_url(venue)), venue, SYMBOL[venue], kind, timeframe)


CASES = [
    *((venue, "ohlcv") for venue in VENUES),
    *((venue, kind) for venue in ("binance_usdm", "binance_coinm", "bybit_linear") for kind in ("funding", "open-interest")),
]


@pytest.mark.parametrize(("venue", "kind"), CASES)
def test_every_row_is_the_venues_own_and_nothing_is_fetched_twice(market, venue, kind, tmp_path):
    lake, made = Lake(tmp_path), source(market, venue, kind)
    desk = next(iter(market.venues[venue].desks.values()))
    end = made.client.milliseconds() // DAY_MS * DAY_MS
    start = end - 4 * DAY_MS
    first = fetch(lake, made, start, end - DAY_MS)
    second = fetch(lake, made, start, end)
    again = fetch(lake, made, start, end)
    assert again.pages == again.rows == 0
    assert second.start_ms == start
    rows = lake.rows(KINDS[kind], venue, SYMBOL[venue])
    assert first.rows + second.rows == rows.size
    assert (np.diff(rows["exchange_ns"]) > 0).all()
    assert (np.diff(rows["seq"]) == 1).all()
    ms = rows["exchange_ns"] // 1_000_000
    if kind == "ohlcv":
        truth = desk.past.candles(start, 300_000, 4 * 288, end)
        assert ms.tolist() == truth[:, 0].tolist()
        for i, name in enumerate(("open", "high", "low", "close", "volume"), 1):
            np.testing.assert_allclose(rows[name], truth[:, i], rtol=1e-12)
        assert (rows["span_s"] == 300).all()
    elif kind == "funding":
        truth = desk.past.funding(start, end - 1)
        assert rows.size == 12
        np.testing.assert_allclose(rows["funding_rate"], [rate for _, rate, _ in truth], rtol=1e-9)
    else:
        truth = desk.past.open_interest(start, 300_000, 4 * 288, end)
        assert ms.tolist() == [at for at, *_ in truth]
        expected = np.array([amount for _, amount, _ in truth])
        if venue != "binance_coinm":
            np.testing.assert_allclose(rows["amount"], expected, rtol=1e-9)


def test_candles_that_a_venue_gives_nobody_any_more_do_not_count_as_fetched(market, tmp_path):
    lake, made = Lake(tmp_path), source(market, "kraken", "ohlcv")
    now = made.client.milliseconds()
    told = fetch(lake, made, now - 30 * DAY_MS)
    assert now - 721 * made.step_ms < told.start_ms <= now - 719 * made.step_ms
    rows = lake.rows("ohlcv", "kraken", SYMBOL["kraken"])
    (desk, *_) = market.venues["kraken"].desks.values()
    truth = desk.past.candles(told.start_ms, made.step_ms, 720, told.end_ms - 1)
    assert (rows["exchange_ns"] // 1_000_000).tolist() == truth[:, 0].tolist()
    np.testing.assert_allclose(rows["close"], truth[:, 4], rtol=1e-12)
    assert rows.size == told.rows >= 719


@pytest.mark.parametrize("ahead_ms", [0, 600_000])
@pytest.mark.parametrize("kind", ["ohlcv", "funding", "open-interest"])
def test_a_clock_ahead_stores_nothing_that_is_not_final(market, kind, ahead_ms, tmp_path):
    made = source(market, "binance_usdm", kind)
    ours = made.client.milliseconds
    made.client.milliseconds = lambda: ours() + ahead_ms
    told = fetch(Lake(tmp_path), made, ours() - DAY_MS)
    assert told.end_ms <= time.time_ns() // 1_000_000 - {"ohlcv": 10_000, "funding": 300_000, "open-interest": 60_000}[kind]
    assert told.end_ms > ours() - 700_000


def test_a_candle_that_has_just_ended_is_left_to_the_next_run(market, tmp_path):
    made = source(market, "binance_usdm", "ohlcv", "1m")
    minute = made.client.milliseconds() // 60_000 * 60_000 - 120_000
    made.client.enableRateLimit = False  # its limiter goes by the same clock
    for now, end in ((minute + 9_999, minute - 60_000), (minute + 10_000, minute)):
        made.client.milliseconds = lambda now=now: now
        assert fetch(Lake(tmp_path), made, minute - 600_000).end_ms == end


@pytest.mark.parametrize("kind", ["ohlcv", "open-interest"])
def test_what_an_answer_ended_before_is_asked_for_again(market, kind, tmp_path):
    lake, made = Lake(tmp_path), source(market, "binance_usdm", kind)
    page, end = made._page, made.settled_ms() // 300_000 * 300_000
    late = end - 900_000
    made._page = lambda at, until: [row for row in page(at, until) if row[0] < late]
    told = fetch(lake, made, end - DAY_MS, end)
    assert (told.rows, told.end_ms) == (285, late)
    made._page = lambda at, until: page(at, until)[:50]
    assert fetch(lake, made, end - 2 * DAY_MS, end).rows == 288 + 3
    assert np.unique(lake.rows(KINDS[kind], "binance_usdm", SYMBOL["binance_usdm"])["exchange_ns"]).size == 2 * 288
    assert fetch(lake, made, end - 2 * DAY_MS, end).pages == 0


def test_a_gap_in_the_middle_is_all_that_is_asked_for(market, tmp_path):
    lake, made = Lake(tmp_path), source(market, "binance_usdm", "ohlcv")
    end = made.client.milliseconds() // DAY_MS * DAY_MS
    fetch(lake, made, end - DAY_MS, end)
    fetch(lake, made, end - 5 * DAY_MS, end - 4 * DAY_MS)
    with asked(market, "binance_usdm") as seen:
        fetch(lake, made, end - 5 * DAY_MS, end)
    spans = [(int(query["startTime"]), int(query["endTime"])) for path, query in seen if path.endswith("klines")]
    assert min(a for a, _ in spans) == end - 4 * DAY_MS
    assert max(b for _, b in spans) < end - DAY_MS
    rows = lake.rows("ohlcv", "binance_usdm", SYMBOL["binance_usdm"])
    assert np.unique(rows["exchange_ns"]).size == rows.size == 5 * 288


def test_too_many_requests_are_waited_for_as_long_as_the_venue_says(market, tmp_path):
    made = source(market, "binance_usdm", "ohlcv")
    market.venues["binance_usdm"].refuse_rest(2, retry_after_s=1.0)
    end, began = made.client.milliseconds() // DAY_MS * DAY_MS, time.monotonic()
    assert fetch(Lake(tmp_path), made, end - DAY_MS, end).rows == 288
    assert time.monotonic() - began > 1.9


def test_a_long_ban_ends_all_asking_of_that_venue_at_once(monkeypatch):
    monkeypatch.setattr("tasks.history._blocked", {})
    asked = []

    def ask():
        asked.append(1)
        raise ccxt.DDoSProtection("418")

    for _ in range(2):  # another kind of the same venue is not asked for either
        source = Source.__new__(Source)
        source.venue, source.client = "binance_spot", SimpleNamespace(last_response_headers={"Retry-After": "300"})
        with pytest.raises(BlockedError, match=r"binance_spot wants no request for (300|299) s"):
            source._asked(ask)
    assert len(asked) == 1


def test_what_a_venue_does_not_serve_is_told(market):
    with pytest.raises(NotServedError, match="coinbase_exchange serves no funding of BTC-USD; it serves ohlcv"):
        source(market, "coinbase_exchange", "funding")
    with pytest.raises(NoMarketError, match="binance_usdm lists no NONE-USDT-PERP"):
        Source(exchange("binance_usdm", market.rest_url("binance_usdm")), "binance_usdm", "NONE-USDT-PERP", "ohlcv", "1m")


def test_a_venue_that_is_not_there_is_told_after_all_tries(monkeypatch):
    monkeypatch.setattr("tasks.history._LONGEST_S", 0.01)
    client = exchange("kraken", "http://127.0.0.1:9")
    client.enableRateLimit = False  # a second between tries
    with pytest.raises(NoAnswerError, match="kraken did not answer in 8 tries"):
        Source(client, "kraken", "BTC-USD", "ohlcv", "1m")


KILLED = """
import sys
from pathlib import Path
from tasks.fetch import fetch
from tasks.history import Source, exchange
from warehouse.lake import Lake
made = Source(exchange("binance_usdm", sys.argv[1]), "binance_usdm", "BTC-USDT-PERP", "ohlcv", "1m")
made.page = 100
def told(done_ms, rows):
    print(rows, flush=True)
fetch(Lake(Path(sys.argv[2])), made, int(sys.argv[3]), int(sys.argv[4]), told)
"""


def test_a_killed_run_goes_on_behind_its_last_page(market, tmp_path):
    made, lakes = source(market, "binance_usdm", "ohlcv", "1m"), [tmp_path / "killed", tmp_path / "whole"]
    end = made.client.milliseconds() // DAY_MS * DAY_MS
    given = [market.rest_url("binance_usdm"), str(lakes[0]), str(end - 2 * DAY_MS), str(end)]
    process = subprocess.Popen([sys.executable, "-c", KILLED, *given], stdout=subprocess.PIPE, cwd=os.getcwd())
    for _ in range(5):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    left, whole = (fetch(Lake(lake), made, end - 2 * DAY_MS, end) for lake in lakes)
    assert 0 < left.rows <= whole.rows - 5 * 100, "a page is stored before it is told"
    killed, whole = (Lake(lake).rows("ohlcv", "binance_usdm", "BTC-USDT-PERP") for lake in lakes)
    assert whole.size == 2 * 1440
    for name in whole.dtype.names:
        if name != "receive_ns":
            np.testing.assert_array_equal(killed[name], whole[name])


def test_the_command_fetches_and_says_what(market, tmp_path):
    given = ["--venue", "bybit_linear", "--symbol", "BTC-USDT-PERP", "--what", "ohlcv,funding", "--timeframe", "1h"]
    result = CliRunner().invoke(
        cli.app, ["backfill", *given, "--rest-url", market.rest_url("bybit_linear"), "--lake", str(tmp_path), "--quiet"]
    )
    assert result.exit_code == 0, result.output
    rows = Lake(tmp_path).rows("ohlcv", "bybit_linear", "BTC-USDT-PERP")
    assert rows.size in (7 * 24 - 2, 7 * 24 - 1, 7 * 24)
    assert json.loads(Lake(tmp_path).load_state("history/ohlcv/bybit_linear/BTC-USDT-PERP/1h"))
    result = CliRunner().invoke(
        cli.app, ["backfill", *given[:2], "--symbol", "X-Y", "--rest-url", market.rest_url("bybit_linear"), "--lake", str(tmp_path)]
    )
    assert result.exit_code == FAILED


def test_ranges_merge_and_what_is_missing_is_what_is_between():
    assert merged([(1, 3), (3, 5), (7, 9), (8, 10)]) == [(1, 5), (7, 10)]
    assert missing([(1, 5), (7, 10)], 0, 12) == [(0, 1), (5, 7), (10, 12)]
    assert missing([(0, 20)], 3, 9) == []


@pytest.mark.parametrize(
    ("venue", "symbol", "unified"),
    [("kraken", "BTC-USD", "BTC/USD"), ("okx", "BTC-USD-PERP", "BTC/USD:BTC"), ("hyperliquid", "BTC-USD-PERP", "BTC/USDC:USDC")],
)
def test_names_are_ccxts(venue, symbol, unified):
    assert unified_symbol(venue, symbol) == unified
