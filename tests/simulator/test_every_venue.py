"""Every venue over real sockets, several markets on a connection: what its adapter stores is what the ledger says."""

import asyncio
import time
from collections import defaultdict
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest

from simulator import wires
from simulator.ledger import read
from simulator.listings import raw_symbols
from simulator.protocol import Moment, Request
from simulator.server import build
from tasks.venues import directory
from tasks.venues.events import BOOK, TRADE
from tests.simulated import OPENER, dial, run

LEAST = {venue: 8 if venue == "hyperliquid" else 40 for venue in directory.VENUES}  # books of each market to wait for
SYMBOLS = {venue: list(raw_symbols(venue)) for venue in directory.VENUES} | {"okx": ["BTC-USDT", "BTC-USDT-SWAP", "BTC-USD-SWAP"]}
START_NS = 1_790_000_000_000_000_000
LEVELS = ("bid_px", "bid_sz", "ask_px", "ask_sz")


class Reader:
    """All markets of one venue, read by its own wire and adapters."""

    def __init__(self, market, venue):
        self.market, self.venue, self.wire = market, venue, directory.wire(venue)
        self.books, self.trades, self.adapters = defaultdict(dict), defaultdict(dict), {}

    def has_enough(self):
        return all(len(self.books[symbol]) > LEAST[self.venue] for symbol in SYMBOLS[self.venue]) and any(self.trades.values())

    async def fetch(self, address):
        url, _, body = address.partition("#")
        return await asyncio.to_thread(lambda: OPENER.open(url, body.encode() or None, timeout=5).read())

    async def read(self):
        rest = self.market.rest_url(self.venue)
        urls = getattr(self.wire, "instruments_urls", lambda base: [self.wire.instruments_url(base)])(rest)
        found = {}
        for url in urls:
            found |= self.wire.instruments(await self.fetch(url))
        for symbol in SYMBOLS[self.venue]:
            self.adapters[symbol] = directory.adapter(self.venue, symbol, instrument=found.get(symbol))
        lines = self.wire.lines(SYMBOLS[self.venue], self.market.ws_url(self.venue))
        await asyncio.gather(*(self.follow(line) for line in lines), self.join(rest))

    async def follow(self, line):
        async with dial(self.market, self.venue, line.url.removeprefix(self.market.ws_url(self.venue))) as socket:
            reader = self.wire.connection(line)
            for text in line.sends:
                await socket.send(text.decode())
                await asyncio.sleep(1.0 / self.wire.rules.sends_s if len(line.sends) > 3 else 0)
            while not self.has_enough():
                try:
                    frame = await asyncio.wait_for(socket.recv(decode=False), 0.5)
                except TimeoutError:
                    continue
                heard = reader.receive(frame)
                assert not heard.refused, heard.reason
                for symbol, part in heard.frames:
                    self.feed(symbol, part)
                for text in heard.send:
                    await socket.send(text.decode())

    async def join(self, rest):
        for symbol in SYMBOLS[self.venue]:
            url, _ = self.wire.snapshot_url(symbol, rest)
            while url and self.adapters[symbol].needs_snapshot:
                await asyncio.sleep(0.3)
                self.feed(symbol, await self.fetch(url))

    def feed(self, symbol, frame):
        adapter = self.adapters[symbol]
        for event in adapter.receive(frame, time.time_ns()):
            if event == BOOK:
                row = adapter.row[0]
                self.books[symbol][int(row["update_id"]), int(row["exchange_ns"])] = [row[name].copy() for name in LEVELS]
            elif event == TRADE and not adapter.trade[0]["backfill"]:
                told = adapter.trade[0]
                self.trades[symbol][int(told["trade_id"])] = [float(told[name]) for name in ("price", "size", "aggressor")]


def compile_adapter(venue):
    """Feed a venue's adapter once without sockets: who waits for a compiler, misses the market."""
    symbol, wire = SYMBOLS[venue][0], directory.wire(venue)
    desks, _ = build(venue, [symbol], 1, START_NS)
    spoken, adapter = wires.wire(venue, desks), directory.adapter(venue, symbol)
    for line in wire.lines([symbol], ""):
        moment = Moment(desks[symbol].now_ns, 0.0)
        session, reader, due = spoken.session(urlsplit(line.url).path, dict(parse_qsl(urlsplit(line.url).query))), wire.connection(line), []
        for text in line.sends:
            due += session.receive(text.decode(), moment).snapshots
        for _ in range(200):
            beat = desks[symbol].advance(desks[symbol].now_ns + 20_000_000)
            texts = [session.seal(message.stream, message.payload) for message in spoken.messages(beat, set(session.streams))]
            if beat.depth is not None and due:
                snapshots = [(stream, spoken.snapshot(stream, desks[symbol], moment)) for stream in due]
                texts, due = [session.seal(stream, payload) for stream, payload in snapshots if payload], []
            frames = [part for text in texts for _, part in reader.receive(text.encode()).frames]
            if (url := wire.snapshot_url(symbol, "")[0]) and adapter.needs_snapshot and frames:
                address = urlsplit(url)
                frames.append(spoken.rest(Request("GET", address.path, dict(parse_qsl(address.query)), b"", moment)).body)
            for frame in frames:
                for _ in adapter.receive(frame, desks[symbol].now_ns):
                    pass
    assert adapter.is_live


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    """Let all venues run at once until every market has been seen for a while."""
    root = tmp_path_factory.mktemp("ledger")
    for venue in directory.VENUES:
        compile_adapter(venue)

    async def body(market):
        readers = {venue: Reader(market, venue) for venue in directory.VENUES}
        await asyncio.gather(*(reader.read() for reader in readers.values()))
        return readers

    return run(body, directory.VENUES, symbols=SYMBOLS, speed=1.0, coupled=True, ledger=root, limit_s=120), root


@pytest.mark.parametrize("venue", directory.VENUES)
def test_stored_rows_are_the_ledgers_rows_without_a_gap(heard, venue):
    readers, root = heard
    reader = readers[venue]
    for symbol in SYMBOLS[venue]:
        told, counts = read(root, venue, symbol), reader.adapters[symbol].counts
        assert reader.adapters[symbol].is_live
        assert {name: n for name, n in counts.items() if n and name in ("gaps", "unreadable", "crossed", "stray", "trade_id_gaps")} == {}
        has_numbers = bool(told["seq"].any())
        keys = told["seq"] if has_numbers else told["exchange_ns"]
        truth = {int(key): i for i, key in enumerate(keys)}
        assert len(reader.books[symbol]) > LEAST[venue]
        depth = told["bids"].shape[1]
        for (update_id, exchange_ns), seen in reader.books[symbol].items():
            i = truth[update_id if has_numbers else exchange_ns]
            assert exchange_ns == told["exchange_ns"][i]
            for name, levels in zip(("bids", "bid_sizes", "asks", "ask_sizes"), seen, strict=True):
                np.testing.assert_allclose(levels[:depth], told[name][i], rtol=1e-12, atol=0)
        truth = {int(key): i for i, key in enumerate(told["trade_id"])}
        for trade_id, seen in reader.trades[symbol].items():
            np.testing.assert_allclose(seen, [told[name][truth[trade_id]] for name in ("price", "size", "aggressor")], rtol=1e-12)
    assert any(reader.trades.values())


@pytest.mark.parametrize("venue", directory.VENUES)
def test_every_row_between_the_first_and_the_last_is_stored(heard, venue):
    readers, root = heard
    for symbol, books in readers[venue].books.items():
        told = read(root, venue, symbol)
        at = 0 if told["seq"].any() else 1
        stored = {key[at] for key in books}
        published = (told["seq"] if at == 0 else told["exchange_ns"]).tolist()
        span = published[published.index(min(stored)) : published.index(max(stored)) + 1]
        assert set(span) == stored
