"""Binance's connections, requests and limits: what the shell of sockets must know of it.

Streams are named in the address of a connection, so nothing is sent and nothing confirmed;
the first frame of a stream is its confirmation.

https://github.com/binance/binance-spot-api-docs/blob/master/web-socket-streams.md (2026-07)
https://developers.binance.com/docs/derivatives (2026-04: routes of USD-M)
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import msgspec

from tasks.venues.ladder import Instrument
from tasks.venues.wire import Heard, Line, Rules, batches

PLACES = {
    "binance_spot": ("wss://stream.binance.com:9443", "https://api.binance.com"),
    "binance_usdm": ("wss://fstream.binance.com", "https://fapi.binance.com"),
    "binance_coinm": ("wss://dstream.binance.com", "https://dapi.binance.com"),
}
API = {"binance_spot": "/api/v3", "binance_usdm": "/fapi/v1", "binance_coinm": "/dapi/v1"}
DEPTH_STREAM = {"binance_spot": "depth@100ms", "binance_usdm": "depth@0ms", "binance_coinm": "depth@0ms"}
FEEDS = ("depth", "trade", "bookTicker")
# On the other route a stream is accepted and never comes (2026-04-23).
USDM_PUBLIC = ("depth", "bookTicker", "trade")
# What a depth request costs, deepest first: what a snapshot leaves out stays unknown until it changes.
SNAPSHOTS = {
    "binance_spot": ((5000, 250.0), (1000, 50.0), (500, 25.0), (100, 5.0)),
    "binance_usdm": ((1000, 20.0), (500, 10.0), (100, 5.0)),
    "binance_coinm": ((1000, 20.0), (500, 10.0), (100, 5.0)),
}
WITNESS = {"binance_spot": (100, 5.0), "binance_usdm": (50, 2.0), "binance_coinm": (50, 2.0)}
START_BUDGETS = 2.4  # minutes' worth of weight that a start may cost: 60 % of it a minute make all live in about three
_PER_CONNECTION = 200  # streams; the venue allows 1024 and is said to misbehave above 200
# USD-M and COIN-M are said to share one pool of 2400 since 2026.
RULES = {
    "binance_spot": Rules(lifetime_s=86_400.0, sends_s=4.0, connects_s=1.0, budget=6000.0, budget_s=60.0),
    "binance_usdm": Rules(lifetime_s=86_400.0, sends_s=8.0, connects_s=1.0, budget=2000.0, budget_s=60.0),
    "binance_coinm": Rules(lifetime_s=86_400.0, sends_s=8.0, connects_s=1.0, budget=400.0, budget_s=60.0),
}
_DECODE = msgspec.json.Decoder().decode


class Combined:
    """A connection of `/stream`: each frame begins with the name of its stream.

    Attributes
    ----------
    owner : dict of bytes to str
        Raw symbol by name of stream.

    Examples
    --------
    >>> opened = Combined(Line("", (), {"btcusdt@trade": "BTCUSDT"}))
    >>> frame = b'{"stream":"btcusdt@trade","data":{"e":"trade"}}'
    >>> opened.owner[opened.name_of(frame)]
    'BTCUSDT'
    >>> opened.receive(b'{"e":"serverShutdown","E":1}').is_closing
    True
    """

    def __init__(self, line: Line):
        self.owner = {name.encode(): symbol for name, symbol in line.keys.items()}
        self._first = line.symbols[0]

    @staticmethod
    def name_of(frame: bytes) -> bytes:
        """Return the name of the stream that a frame came over; anything, where it has none."""
        return frame[11 : frame.find(b'"', 11)]

    def receive(self, frame: bytes) -> Heard:
        """Say what a frame is; one of no stream goes to the first symbol, which keeps what it cannot read."""
        name = self.name_of(frame)
        symbol = self.owner.get(name)
        if symbol is not None:
            return Heard(((symbol, frame),))
        # Announced since 2026-05; the promise of ten minutes' notice was withdrawn on 2026-06-09.
        if name == b"!serverShutdown" or frame.startswith(b'{"e":"serverShutdown"'):
            return Heard(is_closing=True, reason="the venue shuts this server down")
        if frame.startswith(b'{"result":null'):
            return Heard()
        return Heard(((self._first, frame),))


@dataclass(frozen=True)
class BinanceWire:
    """One of Binance's three markets.

    Parameters
    ----------
    feeds : tuple of str
        Of depth, trade, bookTicker, aggTrade.
    limit, weight : int and float
        Levels a side of a snapshot, and what the request costs.

    Examples
    --------
    >>> wire = BinanceWire("binance_usdm", feeds=("depth", "aggTrade"))
    >>> [line.url for line in wire.lines(["BTCUSDT"], "ws://here")]
    ['ws://here/public/stream?streams=btcusdt@depth@0ms', 'ws://here/market/stream?streams=btcusdt@aggTrade']
    """

    venue: str
    feeds: tuple[str, ...] = FEEDS
    limit: int = 0
    weight: float = 0.0

    @property
    def ws_url(self) -> str:
        """Return where its sockets are."""
        return PLACES[self.venue][0]

    @property
    def rest_url(self) -> str:
        """Return where it answers requests."""
        return PLACES[self.venue][1]

    @property
    def rules(self) -> Rules:
        """Return how it wants its connections treated."""
        return RULES[self.venue]

    def spread(self, symbols: int) -> "BinanceWire":
        """Return the wire for so many symbols: the more, the less deep their snapshots, to be live in minutes.

        Examples
        --------
        >>> [BinanceWire("binance_spot").spread(n).limit for n in (1, 200, 400)]
        [5000, 1000, 500]
        """
        costs = SNAPSHOTS[self.venue]
        most = START_BUDGETS * self.rules.budget
        limit, weight = next((cost for cost in costs if symbols * cost[1] <= most), costs[-1])
        return replace(self, limit=limit, weight=weight)

    def lines(self, raw_symbols: Sequence[str], ws_url: str) -> list[Line]:
        """Return the connections for these symbols; books ride on the first that names them."""
        by_route: dict[str, dict[str, str]] = {}
        for symbol, feed in product(raw_symbols, self.feeds):
            route = ""
            if self.venue == "binance_usdm":
                route = "/public" if feed in USDM_PUBLIC else "/market"
            by_route.setdefault(route, {})[self._name(symbol, feed)] = symbol
        return [
            Line(f"{ws_url}{route}/stream?streams={'/'.join(part)}", (), {name: owners[name] for name in part})
            for route, owners in by_route.items()
            for part in batches(list(owners), _PER_CONNECTION)
        ]

    def _name(self, symbol: str, feed: str) -> str:
        return f"{symbol.lower()}@{DEPTH_STREAM[self.venue] if feed == 'depth' else feed}"

    def connection(self, line: Line) -> Combined:
        """Return what reads the frames of a line that was just opened."""
        return Combined(line)

    def book_key(self, raw_symbol: str) -> bytes:
        """Return the name of the stream that must be heard before a snapshot is asked for."""
        return self._name(raw_symbol, "depth").encode()

    def resync(self, raw_symbol: str) -> Sequence[bytes]:
        """Return nothing to send: REST serves the book."""
        return ()

    def snapshot_url(self, raw_symbol: str, rest_url: str) -> tuple[str, float]:
        """Return address and weight of the book that starts a stream."""
        limit, weight = (self.limit, self.weight) if self.limit else SNAPSHOTS[self.venue][0]
        return f"{rest_url}{API[self.venue]}/depth?symbol={raw_symbol}&limit={limit}", weight

    def witness_url(self, raw_symbol: str, rest_url: str) -> tuple[str, float]:
        """Return address and weight of a book to compare with."""
        limit, weight = WITNESS[self.venue]
        return f"{rest_url}{API[self.venue]}/depth?symbol={raw_symbol}&limit={limit}", weight

    def instruments_url(self, rest_url: str) -> str:
        """Return where ticks, lots and contract sizes are told."""
        return f"{rest_url}{API[self.venue]}/exchangeInfo"

    def instruments(self, body: bytes) -> dict[str, Instrument]:
        """Return instruments by raw symbol; symbols that say too little are left out."""
        found = {}
        for row in _DECODE(body)["symbols"]:
            try:
                found[str(row["symbol"])] = _instrument(row)
            except (KeyError, TypeError, ValueError):
                continue
        return found


def _instrument(row: dict) -> Instrument:
    filters = {told["filterType"]: told for told in row["filters"]}
    tick, lot = filters["PRICE_FILTER"]["tickSize"], filters["LOT_SIZE"]["stepSize"]
    return Instrument(
        tick=float(tick), lot=float(lot), contract_usd=float(row.get("contractSize", 0)),
        price_decimals=_decimals(tick), size_decimals=_decimals(lot),
    )  # fmt: skip


def _decimals(step: str) -> int:
    return len(step.rstrip("0").partition(".")[2])
