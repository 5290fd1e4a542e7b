"""A venue as small as it can be, in its own protocol, for what every venue has in common.

Client: `sub A B`, `unsub A`, `ping`.  Server: `ack A`, `no A reason`, `pong`, `A book 7`, `A + 8`.
The book of a symbol is a number that each update raises by one.
"""

import asyncio
import time
from collections import Counter
from contextlib import suppress

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from tasks.feed.rest import Budget, Rest
from tasks.feed.terms import Endpoints, Patience
from tasks.stream import stream
from tasks.venues.wire import Alone, Heard, Line, Rules

RULES = Rules(ping_s=0.0, ping=b"ping", silence_s=2.0, sends_s=200.0, connects_s=100.0)
QUICK = Patience(first_retry_s=0.02, last_retry_s=0.1, stall_s=0.5, ack_s=0.5, snapshot_s=0.1, overlap_s=0.15, timeout_s=1.0)


def _symbol_of(frame):
    name, _, rest = frame.decode().partition(" ")
    return name if rest.startswith(("book", "+")) else ""


def _control_of(frame):
    word, _, rest = frame.decode().partition(" ")
    if word == "ack":
        return Heard(acked=(rest,))
    if word == "no":
        return Heard(refused=(rest.split()[0],), reason=rest)
    if word == "trip":
        raise IndexError("a bug of a wire")
    if word == "bye":
        return Heard(is_closing=True, reason="maintenance")
    return Heard()


class TinyWire:
    """What the shell knows of the tiny venue; two symbols in a request, `per_line` on a connection."""

    venue, ws_url, rest_url = "tiny", "", ""

    def __init__(self, per_line=10, rules=RULES):
        self.per_line, self.rules = per_line, rules

    def lines(self, raw_symbols, ws_url):
        parts = [raw_symbols[i : i + self.per_line] for i in range(0, len(raw_symbols), self.per_line)]
        return [
            Line(ws_url, [b"sub " + " ".join(part[i : i + 2]).encode() for i in range(0, len(part), 2)], {name: name for name in part})
            for part in parts
        ]

    def connection(self, line):
        return Alone(line, _symbol_of, _control_of)

    def resync(self, raw_symbol):
        return (f"unsub {raw_symbol}".encode(), f"sub {raw_symbol}".encode())

    def snapshot_url(self, raw_symbol, rest_url):
        return "", 0.0


class TinyVenue:
    """The server: every symbol moves every few milliseconds; what was asked of it is counted."""

    def __init__(self, symbols, step_s=0.004):
        self.symbols, self.step_s = dict.fromkeys(symbols, 0), step_s
        self.hearers, self.asked, self.accepted, self.sent_at = {}, Counter(), 0, []
        self.mute, self.refuse, self.no_ack, self.drop, self.deaf = set(), {}, set(), Counter(), False

    async def __aenter__(self):
        self._server = await serve(self._talk, "127.0.0.1", 0, ping_interval=None, close_timeout=0.2)
        self.url = f"ws://127.0.0.1:{next(iter(self._server.sockets)).getsockname()[1]}"
        self._pump = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_):
        self._pump.cancel()
        self._server.close()

    async def _run(self):
        while True:
            await asyncio.sleep(self.step_s)
            for symbol in self.symbols:
                self.symbols[symbol] += 1
                if self.drop[symbol]:
                    self.drop[symbol] -= 1
                elif symbol not in self.mute and not self.deaf:
                    for client, heard in list(self.hearers.items()):
                        if symbol in heard:
                            with suppress(ConnectionClosed):
                                await client.send(f"{symbol} + {self.symbols[symbol]}")

    async def _talk(self, client):
        self.accepted += 1
        self.hearers[client] = set()
        try:
            async for message in client:
                self.sent_at.append(time.monotonic())
                word, *names = message.split()
                for name in names:
                    self.asked[word, name] += 1
                    await self._answer(client, word, name)
                if word == "ping":
                    self.asked["ping", ""] += 1
                    await client.send("pong")
        except ConnectionClosed:
            pass
        finally:
            self.hearers.pop(client, None)

    async def _answer(self, client, word, name):
        if word == "unsub":
            self.hearers[client].discard(name)
        elif self.refuse.get(name):
            self.refuse[name] -= 1
            await client.send(f"no {name} not now")
        elif word == "sub" and name not in self.no_ack:
            await client.send(f"ack {name}")
            await client.send(f"{name} book {self.symbols[name]}")
            self.hearers[client].add(name)


class Reader:
    """Folds the tiny venue's frames as an adapter does, and keeps what it saw."""

    def __init__(self, symbols):
        self.book, self.seen, self.books, self.lost, self.gaps = (
            dict.fromkeys(symbols),
            {s: [] for s in symbols},
            Counter(),
            Counter(),
            Counter(),
        )

    def wanting(self):
        return [symbol for symbol, number in self.book.items() if number is None]

    def take(self, symbol, frame):
        if not frame:
            self.book[symbol], self.lost[symbol] = None, self.lost[symbol] + 1
            return
        if frame == b"trip":
            return
        name, kind, number = frame.decode().split()
        assert name == symbol
        if kind == "book":
            self.books[symbol] += 1
            self.book[symbol] = int(number)
        elif self.book[symbol] is not None:
            if int(number) != self.book[symbol] + 1:
                self.gaps[symbol] += 1
                self.book[symbol] = None
                return
            self.book[symbol] = int(number)
            self.seen[symbol].append(int(number))

    @property
    def all_live(self):
        return not self.wanting()


def follow(symbols, body, wire=None, patience=QUICK, **venue_options):
    """Run `body(venue, reader, until)` beside a stream that is read; return reader, notes and items."""

    async def inside():
        wire_, reader, notes, items, stop = wire or TinyWire(), Reader(symbols), [], [], asyncio.Event()
        async with asyncio.timeout(20), TinyVenue(symbols, **venue_options) as venue:

            async def read():
                async for symbol, stamp, frame in stream(
                    "tiny", symbols, Endpoints(venue.url, ""), reader.wanting, stop, wire=wire_, patience=patience, told=notes.append,
                    rest=Rest(Budget(0, 60), 1.0),
                ):  # fmt: skip
                    items.append((symbol, stamp, frame))
                    reader.take(symbol, frame)

            async def until(condition):
                while not condition():
                    assert not reading.done(), reading.exception()
                    await asyncio.sleep(0.005)

            reading = asyncio.create_task(read())
            try:
                await body(venue, reader, until)
            finally:
                stop.set()
                await reading
        return reader, notes, items

    return asyncio.run(inside())
