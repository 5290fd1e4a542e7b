"""ccxt.pro itself, watching simulated venues over real sockets."""

import asyncio
import json
import math
import re
from itertools import groupby

import pytest

from simulator.faults import FaultPlan
from simulator.ledger import read
from tasks.venues import directory
from tasks.venues.errors import UnknownVenueError
from tasks.venues.events import BOOK, CHANGE, TRADE
from tasks.watch import WatchRefusedError, instruments, watch
from tests.simulated import run
from warehouse.schema import GAP, OK, STALL, START

VENUE, SYMBOL = "ccxt_binance", "BTC/USDT"


def _pointed(market):
    def prepare(made):
        made.urls["api"]["ws"]["spot"] = market.ws_url("binance_spot") + "/ws"
        made.urls["api"]["public"] = market.rest_url("binance_spot") + "/api/v3"
        told = {"id": "BTCUSDT", "lowercaseId": "btcusdt", "symbol": SYMBOL, "base": "BTC", "quote": "USDT", "type": "spot", "spot": True}
        made.set_markets([made.safe_market_structure({**told, "active": True, "precision": {"price": 0.01, "amount": 1e-5}})])

    return prepare


def _coinbase(market):
    def prepare(made):
        made.urls["api"]["ws"] = market.ws_url("coinbase_advanced")
        made.urls["api"]["rest"] = market.rest_url("coinbase_advanced")

    return prepare


def _kraken(market):
    def prepare(made):
        made.urls["api"]["ws"]["publicV2"] = market.ws_url("kraken") + "/v2"
        made.urls["api"]["public"] = market.rest_url("kraken")

    return prepare


VENUES = {
    "ccxt_binance": ("binance_spot", "BTCUSDT", "BTC/USDT", _pointed),
    "ccxt_coinbase": ("coinbase_advanced", "BTC-USD", "BTC/USD", _coinbase),
    "ccxt_kraken": ("kraken", "BTC/USD", "BTC/USD", _kraken),
}


def _watched(enough, venue=VENUE, **options):
    """Watch until `enough(frames)` and return what came; the market goes at the speed of the wall clock."""
    simulated, raw, symbol, point = VENUES[venue]

    async def body(market):
        stop, frames = asyncio.Event(), []
        async for told, receive_ns, frame in watch(venue, [symbol], stop, prepare=point(market)):
            frames.append((told, receive_ns, frame))
            if enough(frames):
                stop.set()
        return frames

    return run(body, (simulated,), **({"speed": 1.0, "symbols": {simulated: [raw]}} | options))


def _kinds(frames):
    return [json.loads(frame)["kind"] if frame else "" for _, _, frame in frames]


@pytest.mark.parametrize("venue", VENUES)
def test_books_and_trades_of_a_venue_become_rows_that_its_ledger_has(venue, tmp_path):
    simulated, raw, symbol, _ = VENUES[venue]
    enough = lambda frames: _kinds(frames).count("book") > 8 and _kinds(frames).count("trades") > 1  # noqa: E731
    frames = _watched(enough, venue, ledger=tmp_path)
    told, events, states, trades = read(tmp_path, simulated, raw), [], [], {}
    stream = directory.adapter(venue, symbol)
    for whose, receive_ns, frame in frames:
        assert whose == symbol
        for event in stream.receive(frame, receive_ns):
            events.append(event)
            if event == BOOK:
                states.append(_best(*(stream.row[0][name] for name in ("bid_px", "bid_sz", "ask_px", "ask_sz"))))
            elif event == TRADE:
                trades[int(stream.trade["trade_id"][0])] = float(stream.trade["price"][0])
    published = {_best(*(told[name][i] for name in ("bids", "bid_sizes", "asks", "ask_sizes"))) for i in range(len(told["seq"]))}
    assert set(states[1:]) <= published  # the first may be a REST book, which falls between two updates
    assert len(states) > 8
    true = dict(zip(told["trade_id"].tolist(), told["price"].tolist(), strict=True))
    assert trades
    assert all(true[number] == price for number, price in trades.items() if number in true)
    assert any(number in true for number in trades)
    assert events.count(CHANGE) == 2
    assert stream.counts["unreadable"] == stream.counts["stray"] == 0


def _best(*sides):
    return tuple(round(float(number), 8) for side in sides for number in side[:5])


def test_lost_connection_is_an_empty_frame_and_the_watching_goes_on():
    plan = FaultPlan.parse("close=@1.0")
    frames = _watched(lambda frames: "book" in _kinds(frames)[-1:] and "" in _kinds(frames), faults=plan)
    stream, states = directory.adapter(VENUE, SYMBOL), []
    for _, receive_ns, frame in frames:
        states += [int(stream.change["state"][0]) for event in stream.receive(frame, receive_ns) if event == CHANGE]
    assert states == [START, OK, GAP, OK]


def test_what_ccxt_stumbles_over_is_tried_again_and_ends_nothing():
    def stumbling(market):
        def prepare(made):
            _pointed(market)(made)
            ask, failures = made.watch_trades, [KeyError("p"), IndexError("list index out of range")]

            async def watch_trades(symbol):
                if failures:
                    raise failures.pop()
                return await ask(symbol)

            made.watch_trades = watch_trades

        return prepare

    async def body(market):
        stop, frames = asyncio.Event(), []
        async for frame in watch(VENUE, [SYMBOL], stop, prepare=stumbling(market)):
            frames.append(frame)
            if "trades" in _kinds(frames):
                stop.set()
        return frames

    assert {"book", "trades", ""} == set(_kinds(run(body, ("binance_spot",), speed=1.0, symbols={"binance_spot": ["BTCUSDT"]})))


def _deaf_after(books, frames, market):
    """Return what breaks one of ccxt's objects in its handler, where the error ends its reading without a word."""
    point, broken = _pointed(market), []

    def prepare(made):
        point(made)
        handle = made.handle_message

        def stumble(client, message):
            if _kinds(frames).count("book") >= books and (not broken or broken[0] is made):
                broken[:] = [made]
                raise KeyError("p")
            return handle(client, message)

        made.handle_message = stumble

    return prepare


def test_connection_that_falls_silent_is_a_gap_and_its_books_come_over_another():
    notes, accepted = [], []

    def is_back(frames):
        kinds = [kind for kind, _ in groupby(kind for kind in _kinds(frames) if kind != "trades")]
        return kinds[-3:] == ["book", "", "book"]

    async def body(market):
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # where ccxt's error ends up
        stop, frames = asyncio.Event(), []
        async for frame in watch(VENUE, [SYMBOL], stop, prepare=_deaf_after(3, frames, market), silence_s=1.0, told=notes.append):
            frames.append(frame)
            if is_back(frames):
                stop.set()
        accepted.append(market.venues["binance_spot"].accepted)
        return frames

    frames = run(body, ("binance_spot",), speed=1.0, symbols={"binance_spot": ["BTCUSDT"]})
    stream, changes = directory.adapter(VENUE, SYMBOL), []
    last_book_ns = 0
    for _, receive_ns, frame in frames:
        for event in stream.receive(frame, receive_ns):
            if event == CHANGE:
                changes.append((int(stream.change["state"][0]), int(stream.change["exchange_ns"][0]), last_book_ns))
            elif event == BOOK:
                last_book_ns = int(stream.row["exchange_ns"][0])
    assert [state for state, *_ in changes] == [START, OK, GAP, OK]
    assert changes[2][1] == changes[2][2], "the gap begins with the last book"
    assert {(note.kind, note.raw_symbols) for note in notes} == {(STALL, (SYMBOL,))}
    assert accepted[0] > 1


@pytest.mark.slow
def test_only_the_silent_book_is_watched_anew_and_ever_more_rarely():
    other = "ETH/USDT"

    def prepare_for(market):
        def prepare(made):
            _pointed(market)(made)
            told = {
                "id": "ETHUSDT",
                "lowercaseId": "ethusdt",
                "symbol": other,
                "base": "ETH",
                "quote": "USDT",
                "type": "spot",
                "spot": True,
            }
            listed = made.safe_market_structure({**told, "active": True, "precision": {"price": 0.01, "amount": 1e-5}})
            made.set_markets([*made.markets.values(), listed])

        return prepare

    notes = []

    async def body(market):
        stop, frames, server = asyncio.Event(), [], market.venues["binance_spot"]
        async for frame in watch(VENUE, [SYMBOL, other], stop, prepare=prepare_for(market), silence_s=1.5, told=notes.append):
            frames.append(frame)
            for client in server.clients:
                client.silent |= {name: math.inf for name in client.session.streams if name.startswith("ethusdt@depth")}
            if len(notes) > 1:
                stop.set()
        return frames

    frames = run(body, ("binance_spot",), speed=1.0, symbols={"binance_spot": ["BTCUSDT", "ETHUSDT"]})
    assert {symbol for symbol, _, frame in frames if not frame} == {other}
    assert [(note.raw_symbols, re.search("no book for [0-9.]+ s", note.detail)[0]) for note in notes] == [
        ((other,), "no book for 1.5 s"),
        ((other,), "no book for 3 s"),
    ]


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
