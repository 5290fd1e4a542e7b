"""Kraken and OKX, simulated: what our readers make of their streams is the market itself."""

import itertools
import json
import re

import numpy as np
import pytest

from simulator import kraken, okx
from simulator.desk import Desk
from simulator.listings import listing
from simulator.market import Market
from simulator.protocol import BOOK as BOOKS
from simulator.protocol import Moment, Request
from tasks.venues import directory
from tasks.venues.events import BOOK, TRADE
from tests.checked_feed import NaiveKraken, NaiveOkx
from tests.damage import Play, levels_of, naive_levels
from warehouse.schema import GAP, OK, START

START_NS = 1_767_225_600_000_000_000
SYMBOLS = {"kraken": ("BTC/USD", "SIM003/USD"), "okx": ("BTC-USDT", "ETH-USDT-SWAP", "BTC-USD-SWAP")}
PATH = {"kraken": "/v2", "okx": "/ws/v5/public"}
MODULE = {"kraken": kraken, "okx": okx}
DEPTH = {"kraken": 10, "okx": 20}
TROUBLE = ("gaps", "crossed", "checksum_failures", "trade_id_gaps", "unreadable", "stray", "stale")


class Venue:
    """A venue without a socket and one client of it, read by our own wire and streams."""

    def __init__(self, venue, seed=1, symbols=None):
        self.desks = {symbol: Desk(Market(listing(venue, symbol), seed, START_NS)) for symbol in symbols or SYMBOLS[venue]}
        self.wire, self.ours = MODULE[venue].wire(venue, self.desks), directory.wire(venue)
        found = {}
        for url in getattr(self.ours, "instruments_urls", lambda base: [self.ours.instruments_url(base)])("http://here"):
            found |= self.ours.instruments(self.get(url).body)
        self.plays = {symbol: Play(directory.adapter(venue, symbol, instrument=found[symbol])) for symbol in self.desks}
        self.line = self.ours.lines(list(self.desks), "ws://here")[0]
        self.connection, self.acked, self.frames = self.ours.connection(self.line), set(), []
        self.session = self.wire.session(PATH[venue], {})
        self.truth, self.waiting, self.now_ns = {symbol: {} for symbol in self.desks}, [], START_NS
        self.hear(self.session.open(self.moment()))

    def moment(self):
        return Moment(self.now_ns, (self.now_ns - START_NS) / 1e9)

    def get(self, url):
        path, _, query = url.removeprefix("http://here").partition("?")
        told = dict(part.split("=") for part in query.split("&") if part)
        return self.wire.rest(Request("GET", path, told, b"", Moment(START_NS, 0.0)))

    def ask(self, *messages):
        return [self.hear(self.session.receive(message.decode(), self.moment())) for message in messages]

    def hear(self, reply):
        for text in reply.frames:
            self.say(text)
        self.waiting += reply.snapshots
        return reply

    def say(self, text):
        frame = text.encode()
        self.frames.append(frame)
        symbol = self.connection.owner.get(self.connection.name_of(frame))
        heard = self.connection.receive(frame) if symbol is None else None
        assert heard is None or not heard.refused
        self.acked.update(heard.acked if heard else ())
        for name, part in heard.frames if heard else ((symbol, frame),):
            self.plays[name].feed(self.now_ns + 3_000_000, part)

    def run(self, seconds):
        until_ns = self.now_ns + int(seconds * 1e9)
        for at_ns in range(self.now_ns, until_ns, 100_000_000):
            for symbol, desk in self.desks.items():
                while desk.now_ns < at_ns + 100_000_000:
                    self.beat(symbol, desk, desk.advance(at_ns + 100_000_000))
        self.now_ns = until_ns

    def beat(self, symbol, desk, beat):
        self.now_ns = desk.now_ns
        book, streams = self.wire.book_stream(symbol), self.session.streams
        for message in self.wire.messages(beat, [key for key, name in streams.items() if name == symbol]):
            if message.kind == BOOKS and message.stream == book:
                self.truth[symbol][message.exchange_ns] = message.seq, shown(desk)
            if message.stream not in self.waiting:
                self.say(self.session.seal(message.stream, message.payload))
        if beat.depth is not None:
            for key in [key for key in self.waiting if streams.get(key) == symbol]:
                self.waiting.remove(key)
                payload = self.wire.snapshot(key, desk, self.moment())
                if payload is not None:
                    self.say(payload)


def shown(desk):
    """Return the best 20 levels in base units, shape (4, 20)."""
    out, made = np.zeros((4, 20)), desk.instrument
    out[::2] = np.nan
    for side, levels in enumerate(desk.top(20)):
        for i, (tick, units) in enumerate(levels.tolist()):
            price, size = float(desk.price(tick)), float(desk.size(units))
            out[2 * side, i] = price
            out[2 * side + 1, i] = size * made.contract_usd / price if made.contract_usd else size * (made.contract_base or 1.0)
    return out


@pytest.fixture(scope="module", params=[("kraken", 1), ("kraken", 2), ("okx", 1), ("okx", 2)], ids=lambda given: f"{given[0]}-{given[1]}")
def venue(request):
    made = Venue(*request.param)
    made.ask(*made.line.sends)
    made.run(40)
    return made


def test_our_reader_sees_the_market_itself_without_a_gap_or_a_wrong_checksum(venue):
    depth = DEPTH[venue.wire.venue]
    assert venue.acked == set(venue.line.keys)
    for symbol, play in venue.plays.items():
        rows = play.of(BOOK)
        assert len(rows) > 100
        for row in rows:
            seq, true = venue.truth[symbol][int(row["exchange_ns"])]
            assert row["update_id"] == seq
            np.testing.assert_allclose(levels_of(row)[:, :depth], true[:, :depth], rtol=1e-14)
        assert play.states == [START, OK]
        assert not any(play.stream.counts[name] for name in TROUBLE)
        assert len(rows) >= len(venue.truth[symbol])
        play.assert_numbered()


def test_trades_are_the_markets_and_history_is_marked(venue):
    for symbol, play in venue.plays.items():
        last = {trade.id: trade for trade in venue.desks[symbol].recent}
        told = [trade for trade in play.of(TRADE) if int(trade["trade_id"]) in last]
        assert len(told) == len(last) or venue.wire.venue == "okx"
        ids = [int(trade["trade_id"]) for trade in play.of(TRADE)]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        for trade in told:
            true, desk = last[int(trade["trade_id"])], venue.desks[symbol]
            assert (float(trade["price"]), int(trade["aggressor"])) == (float(desk.price(true.tick)), true.aggressor)


def test_a_plain_book_agrees_with_every_checksum(venue):
    for symbol, play in venue.plays.items():
        naive = NaiveKraken() if venue.wire.venue == "kraken" else NaiveOkx()
        for frame in venue.frames:
            if b'"%s"' % symbol.encode() in frame:
                naive.receive(frame)
        assert naive.failures == 0
        assert venue.wire.venue == "okx" or naive.matches == len(play.of(BOOK))
        best = naive_levels(naive.book, 1)
        np.testing.assert_array_equal(best[::2, 0], levels_of(play.of(BOOK)[-1])[::2, 0])


@pytest.mark.parametrize("name", ["kraken", "okx"])
def test_lost_messages_are_cured_by_the_new_subscription_that_our_wire_asks_for(name):
    made, symbol = Venue(name, 5), SYMBOLS[name][0]
    made.ask(*made.line.sends)
    made.run(3)
    play = made.plays[symbol]
    made.say, say = lambda text: None, made.say  # lost on the way
    made.run(1)
    made.say = say
    made.run(2)
    assert not play.stream.is_live  # and where a trade was lost, that was told as well
    assert play.states[-1] == GAP
    assert play.stream.counts["gaps"] == 1
    stuck = len(play.of(BOOK))
    made.ask(*made.ours.resync(symbol))
    made.run(3)
    assert play.states[-1] == OK
    assert play.stream.counts["resyncs"] == 1
    for row in play.of(BOOK)[stuck:]:
        true = made.truth[symbol][int(row["exchange_ns"])][1][:, : DEPTH[name]]
        np.testing.assert_allclose(levels_of(row)[:, : DEPTH[name]], true, rtol=1e-14)


@pytest.mark.parametrize("name", ["kraken", "okx"])
def test_what_the_server_may_spoil_is_seen(name):
    (pattern,) = MODULE[name].wire(name, Venue(name).desks).spoil.values()
    made, symbol = Venue(name, 6, SYMBOLS[name][:1]), SYMBOLS[name][0]
    made.ask(*made.line.sends)
    made.run(2)
    made.run(2)
    frame = next(text for text in reversed(made.frames) if pattern.search(text.decode()))
    play = Play(directory.adapter(name, symbol))
    for text in made.frames:
        if text == frame:
            match = pattern.search(text.decode())
            text = text[: match.start(1)] + str(int(match[1]) + 1).encode() + text[match.end(1) :]
        if made.connection.owner.get(made.connection.name_of(text)):
            play.feed(made.now_ns, text)
    assert play.states == [START, OK, GAP]


def test_okx_counts_anew_after_maintenance_and_its_reader_follows():
    made = Venue("okx", 7, ["BTC-USDT"])
    made.ask(*made.line.sends)
    made.run(2)
    assert made.wire.restart(made.desks["BTC-USDT"])
    made.run(2)
    ids = [int(row["update_id"]) for row in made.plays["BTC-USDT"].of(BOOK)]
    assert sum(after < before for before, after in itertools.pairwise(ids)) == 1
    assert made.plays["BTC-USDT"].states == [START, OK]


def test_okx_says_that_nothing_happened_and_its_reader_calls_nothing_stale():
    made = Venue("okx", 8, ["BTC-USDT"])
    made.ask(*made.line.sends)
    made.run(1)
    (desk,), book = made.desks.values(), made.wire._books["BTC-USDT"]
    beat = desk.advance(desk.now_ns + 200_000_000)
    list(made.wire.messages(beat, ["books:BTC-USDT"]))
    book.told_ns -= 61_000_000_000
    (quiet,) = [m for m in made.wire.messages(beat, ["books:BTC-USDT"]) if beat.depth is not None]
    told = json.loads(quiet.payload)["data"][0]
    assert (told["bids"], told["asks"], told["prevSeqId"]) == ([], [], told["seqId"])


# -- requests ------------------------------------------------------------------------------


def said(name, message, seed=1):
    made = Venue(name, seed)
    reply = made.session.receive(message if isinstance(message, str) else json.dumps(message), made.moment())
    return [json.loads(text) if text.startswith("{") else text for text in reply.frames], reply


def test_kraken_answers_each_pair_for_itself():
    ask = {"method": "subscribe", "params": {"channel": "book", "symbol": ["BTC/USD", "NO/USD"], "depth": 25}, "req_id": 4}
    (good, bad), reply = said("kraken", ask)
    assert good["result"] == {"channel": "book", "depth": 25, "snapshot": True, "symbol": "BTC/USD"}
    assert (bad["success"], bad["error"], bad["req_id"]) == (False, "Currency pair not supported NO/USD", 4)
    assert reply.snapshots == ["book-25:BTC/USD"]
    assert said("kraken", {"method": "ping", "req_id": 9})[0][0]["method"] == "pong"
    assert not said("kraken", "nonsense")[0][0]["success"]
    assert "Depth" in said("kraken", ask | {"params": {"channel": "book", "symbol": ["BTC/USD"], "depth": 7}})[0][0]["error"]
    made = Venue("kraken")
    made.ask(json.dumps(ask | {"params": {"channel": "trade", "symbol": ["BTC/USD"]}}).encode())
    twice = made.session.receive(json.dumps(ask | {"params": {"channel": "trade", "symbol": ["BTC/USD"]}}), made.moment())
    assert "Already subscribed" in twice.frames[0]


def test_kraken_beats_when_idle_and_cuts_who_subscribes_to_nothing():
    made = Venue("kraken")
    assert made.session.tick(Moment(START_NS, 70.0)).close[0] == 1000
    made.ask(*made.line.sends)
    assert made.session.tick(Moment(START_NS, 80.0, sent_s=1.5)).frames == ['{"channel":"heartbeat"}']
    assert not made.session.tick(Moment(START_NS, 80.0, sent_s=0.5)).frames


def test_okx_answers_each_argument_for_itself():
    args = [{"channel": "books", "instId": "BTC-USDT"}, {"channel": "books", "instId": "NO-USDT"}]
    (good, bad), reply = said("okx", {"op": "subscribe", "args": args})
    assert good["arg"] == args[0]
    assert (bad["code"], "instId:NO-USDT" in bad["msg"]) == ("60018", True)
    assert reply.snapshots == ["books:BTC-USDT"]
    assert said("okx", "ping")[0] == ["pong"]
    assert said("okx", "nonsense")[0][0]["code"] == "60012"
    made = Venue("okx")
    made.ask(*made.line.sends)
    assert made.session.receive(made.line.sends[0].decode(), made.moment()).snapshots == []
    assert made.session.tick(Moment(START_NS, 90.0, 31.0, 31.0)).close[0] == 4004
    (notice,) = made.session.leave(made.moment()).frames
    assert made.connection.receive(notice.encode()).is_closing


@pytest.mark.parametrize("name", ["kraken", "okx"])
def test_rest_tells_the_book_and_counts_requests(name):
    made, symbol = Venue(name, 3), SYMBOLS[name][0]
    made.run(1)
    url, _ = made.ours.witness_url(symbol, "http://here")
    told = re.findall(r'"(?:bids|asks)": \[\["([\d.]+)", "([\d.]+)"', made.get(url).body.decode())
    bids, asks = made.desks[symbol].top(1)
    best = [(made.desks[symbol].price(int(side[0, 0])), made.desks[symbol].size(int(side[0, 1]))) for side in (asks, bids)]
    assert [tuple(map(float, level)) for level in told] == [tuple(map(float, level)) for level in best]
    refused = [made.get(url).status for _ in range(100)][-1]
    assert refused == 429
    assert made.get("http://here/no/such/path").status in (404, 429)
