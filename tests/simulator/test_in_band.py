"""Venues that send the book over the socket: how the server brings a wire's snapshots, numbers and restarts to clients."""

import asyncio
import itertools
import json
import re

import pytest

from simulator import venue_server
from simulator.desk import View
from simulator.ledger import read
from simulator.protocol import BOOK, Answer, Message, Reply
from tests.simulated import dial, run, take

VENUE, STREAM = "okx", "book.BTC-USDT"


class Session:
    """Numbers its own messages when asked for `/numbered`."""

    def __init__(self, numbered):
        self.streams, self.flavour, self._n = {}, None if numbered else "", 0

    def open(self, moment):
        return Reply(["hello"])

    def receive(self, text, moment):
        if text == "bye":
            return Reply(["farewell"], close=(4001, "as you wish"))
        self.streams = {STREAM: "BTC-USDT"} if text == "subscribe" else {}
        return Reply(["early"], snapshots=list(self.streams), late=["late"])

    def seal(self, stream, payload):
        self._n += 1
        return f'{{"n":{self._n},"said":{json.dumps(payload) if not stream else payload}}}' if self.flavour is None else payload

    def tick(self, moment):
        return Reply(["tick"]) if moment.sent_s > 0.5 else Reply()


class Wire:
    """Ten levels a side, numbered from one, with a checksum that sums up the best prices."""

    ping_s, spoil, ledger_depth = (0.0, 0.0), {"checksum": re.compile(r'"sum":(\d+)'), "sequence": re.compile(r'"u":(\d+)')}, 10

    def __init__(self, venue, desks):
        self.venue, self.desks, self.view, self.u = venue, desks, View(10), 0

    def session(self, path, query):
        return Session(path == "/numbered") if path in ("/", "/numbered") else None

    def book_stream(self, raw_symbol):
        return STREAM

    def messages(self, beat, wanted):
        if beat.depth is not None and STREAM in wanted:
            bids, asks = self.view.turn(beat.desk)
            if bids or asks:
                self.u += 1
                yield Message(STREAM, self._text("update", bids, asks), BOOK, self.u, int(beat.depth["exchange_ns"]))

    def _text(self, kind, bids, asks):
        best = int(self.view.bids[0, 0] + self.view.asks[0, 0])
        return json.dumps({"kind": kind, "u": self.u, "b": bids, "a": asks, "sum": best}, separators=(",", ":"))

    def snapshot(self, stream, desk, moment):
        return self._text("snapshot", self.view.bids.tolist(), self.view.asks.tolist())

    def trade_id(self, number):
        return number + 1

    def restart(self, desk):
        self.u = 0
        return True

    def refusal(self, status, retry_after_s):
        return Answer(status, b"{}")

    def rest(self, request):
        return Answer(200, request.method.encode() + b" " + request.body)


@pytest.fixture(autouse=True)
def in_band(monkeypatch):
    monkeypatch.setattr(venue_server, "wire", Wire)


def replay(messages):
    """Return number to best levels, kept from a snapshot and updates; fail on a hole in the numbers."""
    books, seen, last = None, {}, 0
    for message in map(json.loads, messages):
        if message["kind"] == "snapshot":
            books = dict(message["b"]), dict(message["a"])
        else:
            assert message["u"] == last + 1
            for side, changes in zip(books, (message["b"], message["a"]), strict=True):
                for tick, units in changes:
                    side.pop(tick, None)
                    if units:
                        side[tick] = units
        last = message["u"]
        seen[last] = (max(books[0]), min(books[1]), len(books[0]))
        assert seen[last][0] + seen[last][1] == message["sum"]
    return seen


def test_snapshot_comes_between_the_acknowledgements_and_updates_follow_on_it(tmp_path):
    async def body(market):
        async with dial(market, VENUE, "/") as first:
            assert await take(first, 1) == ["hello"]
            await first.send("subscribe")
            assert await take(first, 1) == ["early"]
            messages = await take(first, 1)
            assert json.loads(messages[0])["kind"] == "snapshot"
            assert await take(first, 1) == ["late"]
            messages += await take(first, 50)
            async with dial(market, VENUE, "/") as second:  # joins a stream that others hear
                await take(second, 1)
                await second.send("subscribe")
                told = [text for text in await take(second, 60) if text.startswith("{")]
            return replay(messages), replay(told)

    one, two = run(body, [VENUE], ledger=tmp_path)
    assert len(one) == 51
    assert min(two) > 1
    told = read(tmp_path, VENUE, "BTC-USDT")
    best = {
        int(u): (round(bids[0] * 10), round(asks[0] * 10)) for u, bids, asks in zip(told["seq"], told["bids"], told["asks"], strict=True)
    }
    assert told["bids"].shape[1] == 10
    for u, (bid, ask, _) in (one | two).items():
        assert best[u] == (bid, ask)


def test_connection_that_numbers_its_messages_counts_acknowledgements_too():
    async def body(market):
        async with dial(market, VENUE, "/numbered") as socket:
            await socket.send("subscribe")
            told = [json.loads(text) for text in await take(socket, 40)]
            assert [message["n"] for message in told] == list(range(1, 41))
            assert [message["said"] for message in told if isinstance(message["said"], str)] == ["hello", "early", "late"]

    run(body, [VENUE])


def test_restart_sends_books_with_new_numbers_on_connections_that_stay():
    async def body(market):
        async with dial(market, VENUE, "/") as socket:
            await socket.send("subscribe")
            await take(socket, 30)
            market.venues[VENUE].arm("restart")
            told = [json.loads(text) for text in await take(socket, 40)]
            at = next(i for i, message in enumerate(told) if message["kind"] == "snapshot")
            assert told[at]["u"] <= 1
            replay(json.dumps(message) for message in told[at:])

    run(body, [VENUE])


@pytest.mark.parametrize(("fault", "name"), [("checksum", "sum"), ("sequence", "u")])
def test_wrong_number_is_wrong_in_one_message_to_one_client(fault, name):
    async def body(market):
        async with dial(market, VENUE, "/") as one, dial(market, VENUE, "/") as two:
            for socket in (one, two):
                await socket.send("subscribe")
                await take(socket, 10)
            market.venues[VENUE].arm(fault)
            heard = [{text for text in await take(socket, 40) if text.startswith("{")} for socket in (one, two)]
            assert market.venues[VENUE].dice.counts[fault] == 1
        strange = [json.loads(text) for text in heard[0] ^ heard[1]]
        same_but_for_it = [
            (a, b) for a, b in itertools.combinations(strange, 2) if {key for key in a if a[key] != b[key]} == {name}
        ]  # fmt: skip
        assert len(same_but_for_it) == 1

    run(body, [VENUE])


def test_ticks_and_closes_of_a_session_reach_the_client():
    async def body(market):
        async with dial(market, VENUE, "/") as socket:
            assert await take(socket, 2) == ["hello", "tick"]
            await socket.send("bye")
            assert (await take(socket, 1))[-1] == "farewell"
            await socket.wait_closed()
            assert (socket.close_code, socket.close_reason) == (4001, "as you wish")

    run(body, [VENUE])


def test_post_is_answered_as_well_as_get():
    async def body(market):
        reader, writer = await asyncio.open_connection(market.venues[VENUE].host, market.venues[VENUE].port)
        writer.write(b'POST /info HTTP/1.1\r\nHost: x\r\ncontent-length: 12\r\n\r\n{"type"')
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(b':"x"}')
        raw = await reader.read()
        writer.close()
        assert raw.startswith(b"HTTP/1.1 200 OK\r\n")
        assert raw.endswith(b'\r\n\r\nPOST {"type":"x"}')
        assert market.venues[VENUE].rest_requests == 1

    run(body, [VENUE])
