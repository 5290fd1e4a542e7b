"""Coinbase Advanced Trade's connections and limits: what the shell of sockets must know of it.

Every message of a connection, whatever its channel, acks included, is numbered: a hole means that
something of some product was lost, so every book of the line is doubtful.

https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket (2026-07): 8 messages a
second unauthenticated; a connection that does not subscribe within 5 s is cut; channels without
an update for 60 to 90 s are closed unless heartbeats are subscribed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from tasks.venues.coinbase_wire import steps
from tasks.venues.ladder import Instrument
from tasks.venues.wire import Heard, Line, Rules, batches

CHANNELS = ("level2", "market_trades", "ticker")
_PER_CONNECTION = 20  # products: a hole in the numbers begins all of them anew
# The book of BTC-USD is larger than clients commonly accept: ccxt/ccxt#23597.
_RULES = Rules(silence_s=10.0, sends_s=4.0, connects_s=2.0, max_size=1 << 26, budget=8.0, budget_s=1.0)
_NOT_MIRRORED = ("USDT-USDC", "EURC-USDC")
_EVENTS = b'"events":'
_BOOKLESS = ("heartbeats", "market_trades", "ticker", "ticker_batch", "status", "candles")


class _Row(msgspec.Struct):
    product_id: str = ""


class _Event(msgspec.Struct):
    product_id: str = ""
    trades: list[_Row] = []
    tickers: list[_Row] = []
    subscriptions: dict[str, list[str]] = {}


class _Told(msgspec.Struct):
    channel: str = ""
    sequence_num: int = -1
    events: list[_Event] = []
    type: str = ""
    message: str = ""


_DECODE = msgspec.json.Decoder(_Told).decode


def mirrored(raw_symbol: str) -> str:
    """Return the product whose data a subscription brings: those in USDC show the book of their USD twin.

    Examples
    --------
    >>> mirrored("BTC-USDC"), mirrored("ETH-BTC"), mirrored("USDT-USDC")
    ('BTC-USD', 'ETH-BTC', 'USDT-USDC')
    """
    return raw_symbol[:-1] if raw_symbol.endswith("-USDC") and raw_symbol not in _NOT_MIRRORED else raw_symbol


class Numbered:
    """One connection: checks the numbers of its messages and says whose each is.

    Examples
    --------
    >>> opened = Numbered(AdvancedWire().lines(["BTC-USD", "ETH-USD"], "ws://here")[0])
    >>> beat = b'{"channel":"heartbeats","sequence_num":%d,"events":[]}'
    >>> opened.receive(beat % 0).frames, opened.receive(beat % 2).frames
    ((), (('BTC-USD', b''), ('ETH-USD', b'')))
    """

    def __init__(self, line: Line):
        self._keys, self._symbols = line.keys, line.symbols
        self._acked: set[str] = set()
        self._last, self._last_frame = -1, b""
        self._named: dict[str, list[str]] = {}
        for symbol in self._symbols:
            for product in {symbol, mirrored(symbol)}:
                self._named.setdefault(product, []).append(symbol)

    @staticmethod
    def mark(frame: bytes) -> bytes:
        """Return what of a frame is the same on every connection: not its number, nor when it was sent."""
        return frame[max(0, frame.find(_EVENTS)) :]

    def receive(self, frame: bytes) -> Heard:
        """Say what a frame is; one that cannot be read took a number, and may have been anybody's."""
        try:
            told = _DECODE(frame)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._last += self._last >= 0
            return Heard((*self._lost(), (self._symbols[0], frame)))
        if told.type == "error":
            return self._error(told.message)
        if told.sequence_num == self._last and frame == self._last_frame:
            return Heard()  # doubled on its way
        is_whole = told.sequence_num == self._last + 1 or (self._last < 0 and told.sequence_num >= 0)
        self._last, self._last_frame = told.sequence_num, frame
        lost = () if is_whole else self._lost()
        if told.channel == "subscriptions":
            return Heard(lost, acked=self._confirmed(told.events))
        names = {
            row.product_id: 0 for event in told.events for row in (*event.trades, *event.tickers, event) if row.product_id in self._named
        }  # fmt: skip
        whose = [symbol for name in names for symbol in self._named[name]]
        if not whose and told.channel not in _BOOKLESS:
            # A book of no product that was asked for, or a channel of no known name: either may be damage.
            return Heard((*self._lost(), (self._symbols[0], frame)))
        return Heard((*lost, *((symbol, frame) for symbol in whose)))

    def _lost(self) -> tuple[tuple[str, bytes], ...]:
        return tuple((symbol, b"") for symbol in self._symbols)

    def _confirmed(self, events: list[_Event]) -> list[str]:
        acked = [
            f"{channel}:{symbol}"
            for event in events for channel, products in event.subscriptions.items()
            for product in products for symbol in self._named.get(product, ())
        ]  # fmt: skip
        acked = [key for key in dict.fromkeys(acked) if key in self._keys]
        self._acked.update(acked)
        return acked

    def _error(self, reason: str) -> Heard:
        words = set(reason.replace(",", " ").replace(".", " ").replace('"', " ").split())
        named = [key for key in self._keys if key.partition(":")[2] in words or key.partition(":")[0] in words]
        return Heard(refused=named or [key for key in self._keys if key not in self._acked], reason=reason)


@dataclass(frozen=True)
class AdvancedWire:
    """Coinbase Advanced Trade as the shell needs it.

    Examples
    --------
    >>> for message in AdvancedWire().lines(["BTC-USD"], "ws://here")[0].sends:
    ...     print(message.decode())
    {"type":"subscribe","channel":"heartbeats"}
    {"type":"subscribe","channel":"level2","product_ids":["BTC-USD"]}
    {"type":"subscribe","channel":"market_trades","product_ids":["BTC-USD"]}
    {"type":"subscribe","channel":"ticker","product_ids":["BTC-USD"]}
    """

    venue: str = "coinbase_advanced"
    ws_url: str = "wss://advanced-trade-ws.coinbase.com"
    rest_url: str = "https://api.coinbase.com"
    rules: Rules = _RULES

    def lines(self, raw_symbols: Sequence[str], ws_url: str) -> list[Line]:
        """Return the connections for these products, one request a channel."""
        return [
            Line(
                ws_url,
                (_request("subscribe", "heartbeats"), *(_request("subscribe", channel, part) for channel in CHANNELS)),
                {f"{channel}:{symbol}": symbol for symbol in part for channel in CHANNELS},
            )
            for part in batches(raw_symbols, _PER_CONNECTION)
        ]

    def connection(self, line: Line) -> Numbered:
        """Return what reads the frames of a line that was just opened."""
        return Numbered(line)

    def resync(self, raw_symbol: str) -> Sequence[bytes]:
        """Return what brings a new book, and the channels that were refused."""
        again = (_request("subscribe", channel, [raw_symbol]) for channel in CHANNELS)
        return (_request("unsubscribe", CHANNELS[0], [raw_symbol]), *again)

    def snapshot_url(self, raw_symbol: str, rest_url: str) -> tuple[str, float]:
        """Return nothing: the socket sends the book."""
        return "", 0.0

    def witness_url(self, raw_symbol: str, rest_url: str) -> tuple[str, float]:
        """Return address and weight of a book to compare with."""
        return f"{rest_url}/api/v3/brokerage/market/product_book?product_id={raw_symbol}&limit=100", 1.0

    def instruments_url(self, rest_url: str) -> str:
        """Return where ticks and lots are told."""
        return f"{rest_url}/api/v3/brokerage/market/products"

    def instruments(self, body: bytes) -> dict[str, Instrument]:
        """Return instruments by raw symbol; products that say too little are left out.

        Examples
        --------
        >>> told = b'{"products":[{"product_id":"BTC-USD","price_increment":"0.01","quote_increment":"0.01","base_increment":"0.001"}]}'
        >>> AdvancedWire().instruments(told)["BTC-USD"].size_decimals
        3
        """
        products = msgspec.json.decode(body)["products"]
        return steps(
            [{**told, "quote_increment": told.get("price_increment", told.get("quote_increment"))} for told in products], "product_id"
        )


def _request(kind: str, channel: str, products: Sequence[str] = ()) -> bytes:
    return msgspec.json.encode({"type": kind, "channel": channel} | ({"product_ids": list(products)} if products else {}))
