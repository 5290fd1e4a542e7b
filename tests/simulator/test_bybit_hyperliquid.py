"""Bybit and Hyperliquid as simulated: the adapters read them without a gap, and their rows are the market's own."""

import json

import pytest

from simulator import wires
from simulator.desk import Desk
from simulator.listings import listing, raw_symbols
from simulator.market import Market
from simulator.protocol import BOOK, Moment, Request
from tasks.venues import directory
from tasks.venues.events import BOOK as ROW
from tasks.venues.events import CHANGE, TRADE

START_NS = 1_760_000_000_000_000_000
CASES = [(venue, symbol) for venue in ("bybit_spot", "bybit_linear", "hyperliquid") for symbol in raw_symbols(venue)[:2]]


def session_of(venue, symbol):
    desk = Desk(Market(listing(venue, symbol), seed=3, start_ns=START_NS))
    wire = wires.wire(venue, {symbol: desk})
    line = directory.wire(venue).lines([symbol], "ws://here")[0]
    path = line.url.removeprefix("ws://here")
    session, opened = wire.session(path, {}), directory.wire(venue).connection(line)
    acked, snapshots = [], []
    moment = Moment(desk.now_ns, 0.0)
    replies = [session.open(moment), *(session.receive(text.decode(), moment) for text in line.sends)]
    for reply in replies:
        for frame in reply.frames:
            acked += opened.receive(frame.encode()).acked
        snapshots += reply.snapshots
    assert sorted(acked) == sorted(line.keys)
    return desk, wire, session, opened, snapshots


@pytest.mark.parametrize(("venue", "symbol"), CASES)
def test_the_adapter_reads_every_message_and_has_the_market_itself(venue, symbol):
    desk, wire, session, opened, snapshots = session_of(venue, symbol)
    adapter, books, trades, ids = directory.adapter(venue, symbol), 0, [], []

    def hear(text):
        nonlocal books
        for raw, frame in opened.receive(text.encode()).frames:
            assert raw == symbol
            for event in adapter.receive(frame, desk.now_ns + 5_000_000):
                books += event == ROW
                if event == TRADE and not adapter.trade["backfill"][0]:
                    trades.append(int(adapter.trade["trade_id"][0]))

    begun = False
    while desk.market.now_ns < START_NS + 20_000_000_000:
        beat = desk.advance(desk.market.now_ns + 100_000_000)
        told = list(wire.messages(beat, set(session.streams)))
        if not begun:
            if beat.depth is not None:
                begun = True
                for stream in snapshots:
                    if (payload := wire.snapshot(stream, desk, Moment(desk.now_ns, 0.0))) is not None:
                        hear(session.seal(stream, payload))
            continue
        ids += [wire.trade_id(trade.id) for trade in beat.trades()]
        for message in told:
            hear(session.seal(message.stream, message.payload))
            if message.kind == BOOK:
                row, depth = adapter.row[0], getattr(wire, "ledger_depth", 20)
                assert row["exchange_ns"] == message.exchange_ns
                for side, levels in zip(("bid", "ask"), desk.top(depth), strict=True):
                    held = [(p, s) for p, s in zip(row[f"{side}_px"], row[f"{side}_sz"], strict=True) if s > 0]
                    assert held == [(float(desk.price(t)), float(desk.size(u))) for t, u in levels.tolist()]
    counts = adapter.counts
    assert books > 30
    assert trades == ids
    assert {k: v for k, v in counts.items() if k in ("gaps", "unreadable", "stray", "suspects", "crossed", "stale") and v} == {}
    assert counts["trade_id_gaps"] == 0


@pytest.mark.parametrize(("venue", "symbol"), CASES[::2])
def test_what_rest_says_of_instruments_and_books_is_understood(venue, symbol):
    desk, wire, *_ = session_of(venue, symbol)
    told = directory.wire(venue)

    def ask(url):
        address, _, body = url.removeprefix("http://here").partition("#")
        path, _, query = address.partition("?")
        asked = dict(part.split("=") for part in query.split("&") if part)
        return wire.rest(Request("POST" if body else "GET", path, asked, body.encode(), Moment(desk.now_ns, 0.0)))

    found = told.instruments(ask(told.instruments_url("http://here")).body)[symbol]
    assert found.lot == float(desk.size(1))
    answer = ask(told.witness_url(symbol, "http://here")[0])
    assert answer.status == 200
    assert json.loads(answer.body)


def test_a_restarted_service_begins_its_numbers_at_one():
    desk, wire, _session, opened, snapshots = session_of("bybit_linear", "BTCUSDT")
    adapter = directory.adapter("bybit_linear", "BTCUSDT")
    desk.advance(desk.market.now_ns + 1_000_000_000)
    for stream in snapshots:
        for _raw, frame in opened.receive(wire.snapshot(stream, desk, Moment(desk.now_ns, 0.0)).encode()).frames:
            list(adapter.receive(frame, desk.now_ns))
    assert wire.restart(desk)
    text = wire.snapshot("orderbook.50.BTCUSDT", desk, Moment(desk.now_ns, 0.0))
    assert json.loads(text)["data"]["u"] == 1
    assert list(adapter.receive(text.encode(), desk.now_ns)) == [CHANGE, CHANGE, ROW]  # a gap: what changed meanwhile was not sent
