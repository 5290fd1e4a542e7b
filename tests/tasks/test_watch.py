"""ccxt.pro itself, watching a simulated Binance over real sockets."""

import asyncio
import json

import pytest

from simulator.faults import FaultPlan
from tasks.venues import directory
from tasks.venues.errors import UnknownVenueError
from tasks.venues.events import BOOK, CHANGE, TRADE
from tasks.watch import WatchRefusedError, instruments, watch
from tests.simulated import run
from warehouse.schema import GAP, OK, START

VENUE, SYMBOL = "ccxt_binance", "BTC/USDT"


def _pointed(market):
    def prepare(made):
        made.urls["api"]["ws"]["spot"] = market.ws_url("binance_spot") + "/ws"
        made.urls["api"]["public"] = market.rest_url("binance_spot") + "/api/v3"
        told = {"id": "BTCUSDT", "lowercaseId": "btcusdt", "symbol": SYMBOL, "base": "BTC", "quote": "USDT", "type": "spot", "spot": True}
        made.set_markets([made.safe_market_structure({**told, "active": True, "precision": {"price": 0.01, "amount": 1e-5}})])

    return prepare


def _watched(enough, **options):
    """Watch until `enough(frames)` and return what came; the market goes at the speed of the wall clock."""

    async def body(market):
        stop, frames = asyncio.Event(), []
        async for symbol, receive_ns, frame in watch(VENUE, [SYMBOL], stop, prepare=_pointed(market)):
            frames.append((symbol, receive_ns, frame))
            if enough(frames):
                stop.set()
        return frames

    return run(body, ("binance_spot",), **({"speed": 1.0} | options))


def _kinds(frames):
    return [json.loads(frame)["kind"] if frame else "" for _, _, frame in frames]


def test_books_and_trades_of_a_venue_that_only_ccxt_reads_become_rows():
    frames = _watched(lambda frames: _kinds(frames).count("book") > 8 and _kinds(frames).count("trades") > 3)
    stream, events = directory.adapter(VENUE, SYMBOL), []
    for symbol, receive_ns, frame in frames:
        assert symbol == SYMBOL
        for event in stream.receive(frame, receive_ns):
            events.append(event)
            if event == BOOK:
                row = stream.row[0]
                assert row["bid_px"][0] < row["ask_px"][0]
                assert abs(row["bid_px"][0] - 61_837) < 600
                assert (row["bid_px"][:19] > row["bid_px"][1:]).all()
    assert events.count(BOOK) > 8
    assert events.count(TRADE) >= 3
    assert events.count(CHANGE) == 2
    assert stream.state == OK
    assert stream.counts["unreadable"] == stream.counts["stray"] == 0


def test_lost_connection_is_an_empty_frame_and_the_watching_goes_on():
    plan = FaultPlan.parse("close=@1.0")
    frames = _watched(lambda frames: "book" in _kinds(frames)[-1:] and "" in _kinds(frames), faults=plan)
    stream, states = directory.adapter(VENUE, SYMBOL), []
    for _, receive_ns, frame in frames:
        states += [int(stream.change["state"][0]) for event in stream.receive(frame, receive_ns) if event == CHANGE]
    assert states == [START, OK, GAP, OK]


def test_symbol_that_the_venue_does_not_have_is_refused_for_good():
    async def body(market):
        async for _ in watch(VENUE, ["NO/USDT"], asyncio.Event(), prepare=_pointed(market)):
            pass

    with pytest.raises(WatchRefusedError, match="NO/USDT"):
        run(body, ("binance_spot",))


def test_instruments_are_those_of_ccxts_markets():
    async def body(market):
        return await instruments(VENUE, _pointed(market))

    found = run(body, ("binance_spot",))
    assert (found[SYMBOL].tick, found[SYMBOL].size_decimals) == (0.01, 5)


def test_venue_that_ccxt_does_not_know_is_told():
    with pytest.raises(UnknownVenueError, match="ccxt_kraken"):
        asyncio.run(anext(aiter(watch("ccxt_nowhere", [SYMBOL], asyncio.Event()))))
