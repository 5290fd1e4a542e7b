"""Both Coinbase feeds, simulated: what our readers make of them is the market itself."""

import asyncio
import json

import numpy as np
import pytest

from simulator import coinbase, coinbase_advanced
from simulator.desk import Desk
from simulator.listings import listing
from simulator.market import Market
from simulator.protocol import Moment, Request
from tasks import stream as shell
from tasks.feed.terms import Endpoints
from tasks.venues import directory
from tasks.venues.events import BOOK, CHANGE, QUOTE, TRADE
from tests.coinbase_feed import Play
from tests.simulated import dial, get, run, take
from warehouse.schema import OK, START

VENUES = ("coinbase_exchange", "coinbase_advanced")
SYMBOLS = ("BTC-USD", "SOL-USD")
START_NS = 1_767_225_600_000_000_000
MODULE = {"coinbase_exchange": coinbase, "coinbase_advanced": coinbase_advanced}


class Venue:
    """A venue without a socket: one client, all its messages in order, as the server would send them."""

    def __init__(self, venue, seed, symbols=SYMBOLS):
        self.desks = {symbol: Desk(Market(listing(venue, symbol), seed, START_NS)) for symbol in symbols}
        self.wire = MODULE[venue].wire(venue, self.desks)
        self.session, self.begun, self.frames = self.wire.session("/", {}), set(), []
        self.session.open(Moment(START_NS, 0.0))
        self.waiting, self.late = [], []

    def ask(self, message, now_ns=START_NS):
        reply = self.session.receive(message.decode() if isinstance(message, bytes) else message, self.moment(now_ns))
        self.say(now_ns, "", reply.frames)
        self.waiting += reply.snapshots
        self.late += reply.late
        return reply

    @staticmethod
    def moment(now_ns):
        return Moment(now_ns, (now_ns - START_NS) / 1e9)

    def say(self, now_ns, stream, payloads):
        self.frames += [(now_ns + 3_000_000, self.session.seal(stream, payload).encode()) for payload in payloads if payload]

    def run(self, seconds):
        """Let all markets run; return the true best 20 levels by symbol and time."""
        books, until_ns, now_ns = {symbol: {} for symbol in self.desks}, START_NS, START_NS
        for _ in range(int(seconds * 20)):
            until_ns += 50_000_000
            for symbol, desk in self.desks.items():
                while desk.now_ns < until_ns:
                    beat = desk.advance(until_ns)
                    now_ns = desk.now_ns
                    wanted = {key for key, raw in self.session.streams.items() if raw == symbol}
                    for message in self.wire.messages(beat, wanted):
                        if message.stream in self.begun:
                            self.say(now_ns, message.stream, [message.payload])
                        if message.stream == self.wire.book_stream(symbol):
                            books[symbol][message.exchange_ns] = truth(desk)
                    if beat.depth is not None:
                        self.begin(symbol, desk, books)
            self.say(now_ns, "", self.session.tick(self.moment(until_ns)).frames)
        return books

    def begin(self, symbol, desk, books):
        for key in [key for key in self.waiting if self.session.streams.get(key) == symbol]:
            self.waiting.remove(key)
            self.begun.add(key)
            books[symbol].setdefault(desk.now_ns // 1000 * 1000, truth(desk))
            self.say(desk.now_ns, key, [self.wire.snapshot(key, desk, self.moment(desk.now_ns))])
        for key, raw in self.session.streams.items():
            if raw == symbol and key.startswith(("ticker", "heartbeat")):
                self.begun.add(key)
        if not self.waiting and self.late:
            self.say(desk.now_ns, "", self.late)
            self.late = []


def truth(desk):
    """Return the best 20 levels as text, bids then asks."""
    return [[(desk.price(tick), desk.size(units)) for tick, units in side.tolist()] for side in desk.top(20)]


def assert_row(row, levels):
    for name, side in zip(("bid", "ask"), levels, strict=True):
        np.testing.assert_array_equal(row[f"{name}_px"][: len(side)], [float(price) for price, _ in side])
        np.testing.assert_array_equal(row[f"{name}_sz"][: len(side)], [float(size) for _, size in side])


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("seed", [1, 2])
def test_our_reader_sees_the_market_itself_without_a_gap_or_a_false_suspicion(venue, seed):
    simulated, play = Venue(venue, seed), Play(venue, SYMBOLS)
    for message in play.lines[0].sends:
        simulated.ask(message)
    books = simulated.run(60)
    acked = set()
    for _, frame in simulated.frames:
        acked |= set(play.connection.receive(frame).acked) if b'"subscriptions"' in frame else set()
    play.connection = play.wire.connection(play.lines[0])
    for receive_ns, frame in simulated.frames:
        play.feed(receive_ns, frame)
    assert acked == set(play.lines[0].keys)
    for symbol, desk in simulated.desks.items():
        rows, counts = play.of(BOOK, symbol), play.streams[symbol].counts
        assert len(rows) > 200
        for row in rows:
            assert_row(row, books[symbol][int(row["exchange_ns"])])
        assert [int(change["state"]) for change in play.of(CHANGE, symbol)] == [START, OK]
        assert not any(counts[name] for name in ("gaps", "crossed", "suspects", "trade_id_gaps", "unreadable", "stray"))
        assert len(play.of(QUOTE, symbol)) > 20
        last = {trade.id: trade for trade in desk.recent}
        told = [trade for trade in play.of(TRADE, symbol) if int(trade["trade_id"]) in last]
        assert len(told) > 30
        for trade in told:
            true = last[int(trade["trade_id"])]
            assert (float(trade["price"]), int(trade["aggressor"])) == (float(desk.price(true.tick)), true.aggressor)


@pytest.mark.parametrize("venue", VENUES)
def test_new_subscription_brings_a_new_book_and_a_repeated_one_does_not(venue):
    simulated, wire = Venue(venue, 3, SYMBOLS[:1]), directory.wire(venue)
    for message in wire.lines(SYMBOLS[:1], "ws://here")[0].sends:
        simulated.ask(message)
    first = wire.lines(SYMBOLS[:1], "ws://here")[0].sends[-1 if venue == "coinbase_exchange" else 1]
    assert not simulated.ask(first).snapshots
    stop, again = wire.resync("BTC-USD")[:2]
    assert not simulated.ask(stop).snapshots
    assert simulated.ask(again).snapshots == [simulated.wire.book_stream("BTC-USD")]


@pytest.mark.parametrize(
    ("venue", "message", "said"),
    [
        ("coinbase_exchange", "{", "Malformed JSON"),
        ("coinbase_exchange", '{"type":"subscribe","product_ids":["NO-USD"],"channels":["matches"]}', "NO-USD is not a valid product"),
        ("coinbase_exchange", '{"type":"subscribe","product_ids":["BTC-USD"],"channels":["level2"]}', "require authentication"),
        ("coinbase_exchange", '{"type":"subscribe","product_ids":["BTC-USD"],"channels":["news"]}', "news is not a valid channel"),
        ("coinbase_advanced", "{", "unmarshal"),
        ("coinbase_advanced", '{"type":"subscribe","product_ids":["NO-USD"],"channel":"level2"}', "NO-USD is not a valid product"),
        ("coinbase_advanced", '{"type":"subscribe","product_ids":["BTC-USD"],"channel":"full"}', "not a valid subscription"),
    ],
)
def test_what_is_refused_is_refused_with_a_reason(venue, message, said):
    (frame,) = Venue(venue, 1).ask(message).frames
    told = json.loads(frame)
    assert told["type"] == "error"
    assert said in told["message"] + told.get("reason", "")


@pytest.mark.parametrize("venue", VENUES)
def test_connection_that_asks_for_nothing_is_closed_after_five_seconds(venue):
    simulated = Venue(venue, 1)
    assert not simulated.session.tick(Moment(0, 4.0)).close[0]
    assert simulated.session.tick(Moment(0, 6.0)).close[0] == 1000


@pytest.mark.parametrize("venue", VENUES)
def test_rest_tells_instruments_and_books_as_our_wire_reads_them(venue):
    simulated, wire = Venue(venue, 4), directory.wire(venue)

    def ask(url):
        path, _, query = url.partition("?")
        asked = dict(pair.split("=") for pair in query.split("&") if pair)
        return simulated.wire.rest(Request("GET", path, asked, b"", Moment(START_NS, 1.0)))

    found = wire.instruments(ask(wire.instruments_url("")).body)
    assert (found["BTC-USD"].tick, found["SOL-USD"].lot) == (0.01, 1e-8)
    body = json.loads(ask(wire.witness_url("BTC-USD", "")[0]).body)
    best = body.get("pricebook", body)["bids"][0]
    assert truth(simulated.desks["BTC-USD"])[0][0] == (tuple(best.values()) if isinstance(best, dict) else tuple(best[:2]))
    assert ask("/nowhere").status == 404
    for _ in range(9):
        last = ask(wire.instruments_url(""))
    assert last.status == 429
    assert last.headers["Retry-After"]


def test_product_in_usdc_brings_its_twin():
    simulated = Venue("coinbase_advanced", 1)
    simulated.ask('{"type":"subscribe","product_ids":["BTC-USDC"],"channel":"level2"}')
    assert simulated.session.streams == {"level2:BTC-USD": "BTC-USD"}


@pytest.mark.parametrize("venue", VENUES)
def test_socket_shell_and_reader_agree_with_the_server(venue):
    async def body(market):
        play, stop = Play(venue, SYMBOLS), asyncio.Event()
        where = Endpoints(market.ws_url(venue), market.rest_url(venue))
        wanting = lambda: [symbol for symbol, one in play.streams.items() if one.needs_snapshot]  # noqa: E731
        async for symbol, receive_ns, frame in shell.stream(venue, SYMBOLS, where, wanting, stop):
            play.give(symbol, receive_ns, frame)
            if all(len(play.of(BOOK, symbol)) > 60 for symbol in SYMBOLS):
                stop.set()
        return play

    play = run(body, (venue,), symbols={venue: SYMBOLS}, speed=8.0)
    for symbol in SYMBOLS:
        assert [int(change["state"]) for change in play.of(CHANGE, symbol)] == [START, OK]
        assert play.streams[symbol].counts["suspects"] == play.streams[symbol].counts["unreadable"] == 0


def test_numbers_of_each_connection_begin_at_zero():
    async def body(market):
        numbers = []
        for _ in range(2):
            async with dial(market, "coinbase_advanced", "/") as socket:
                await socket.send('{"type":"subscribe","product_ids":["BTC-USD"],"channel":"level2"}')
                numbers.append([json.loads(frame)["sequence_num"] for frame in await take(socket, 10)])
        status, _, told = await get(market.rest_url("coinbase_advanced") + "/api/v3/brokerage/market/products")
        return numbers, status, told

    numbers, status, told = run(body, ("coinbase_advanced",))
    assert numbers == [list(range(10))] * 2
    assert (status, told["num_products"]) == (200, 1)
