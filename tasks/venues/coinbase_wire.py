"""Coinbase Exchange's connections, requests and limits: what the shell of sockets must know of it.

https://docs.cdp.coinbase.com/exchange/websocket-feed/rate-limits (2026-07): 8 connections a second
and 100 messages a second an address; a connection that does not subscribe within 5 s is cut.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from tasks.venues.ladder import Instrument
from tasks.venues.wire import Heard, Line, Rules, batches

CHANNELS = ("level2_batch", "matches", "ticker", "heartbeat")
_SAME = {"level2_50": "level2_batch", "level2": "level2_batch"}  # level2_batch is acknowledged as level2_50 (2026-09)
_KINDS = (b"l2update", b"match", b"ticker", b"heartbeat")  # of frames that go straight to their symbol
_PER_CONNECTION = 50  # products: a snapshot of a large one has megabytes
_RULES = Rules(silence_s=10.0, sends_s=20.0, connects_s=2.0, max_size=1 << 26, budget=8.0, budget_s=1.0)
_PRODUCT = b'"product_id":"'


class _Channel(msgspec.Struct):
    name: str
    product_ids: list[str] = []


class _Told(msgspec.Struct):
    type: str
    product_id: str = ""
    channels: list[_Channel] = []
    message: str = ""
    reason: str = ""


_DECODE = msgspec.json.Decoder(_Told).decode


class Feed:
    """One connection to the feed.

    Attributes
    ----------
    owner : dict of bytes to str
        Raw symbol by kind of message and product.

    Examples
    --------
    >>> opened = Feed(CoinbaseWire().lines(["BTC-USD"], "ws://here")[0])
    >>> opened.owner[opened.name_of(b'{"type":"l2update","product_id":"BTC-USD","changes":[]}')]
    'BTC-USD'
    >>> opened.receive(b'{"type":"subscriptions","channels":[{"name":"level2_50","product_ids":["BTC-USD"]}]}').acked
    ['level2_batch:BTC-USD']
    """

    def __init__(self, line: Line):
        self._keys, self._symbols = line.keys, line.symbols
        self._acked: set[str] = set()
        self.owner = {kind + b":" + symbol.encode(): symbol for symbol in self._symbols for kind in _KINDS}

    @staticmethod
    def name_of(frame: bytes) -> bytes:
        """Return kind and product of a frame; anything, where it names none."""
        at = frame.find(_PRODUCT) + 14
        end = frame.find(b'"', at)
        return frame[9 : frame.find(b'"', 9)] + b":" + frame[at:end] if end > 0 else b""  # a name cut short may be another's

    def receive(self, frame: bytes) -> Heard:
        """Say what a frame is; where none can say whose it was, every book of the line is doubtful."""
        try:
            told = _DECODE(frame)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            symbol = self.owner.get(b"match:" + self.name_of(frame).partition(b":")[2])
            return Heard(((symbol, frame),)) if symbol else self._nobodys(frame)
        if told.type == "subscriptions":
            names = ((_SAME.get(channel.name, channel.name), product) for channel in told.channels for product in channel.product_ids)
            acked = [key for key in (f"{name}:{product}" for name, product in names) if key in self._keys]
            self._acked.update(acked)
            return Heard(acked=acked)
        if told.type == "error":
            reason = f"{told.message}: {told.reason}".strip(": ")
            return Heard(refused=self._meant(reason), reason=reason)
        if told.product_id in self._symbols:
            return Heard(((told.product_id, frame),))
        return self._nobodys(frame) if told.type in ("l2update", "snapshot") or not told.product_id else Heard()

    def _nobodys(self, frame: bytes) -> Heard:
        return Heard((*((symbol, b"") for symbol in self._symbols), (self._symbols[0], frame)))

    def _meant(self, reason: str) -> list[str]:
        # "BTC-XYZ is not a valid product"; "level2, level3, and full channels now require authentication".
        words = set(re.findall(r"[\w-]+", reason))
        named = [key for key in self._keys if key.partition(":")[2] in words]
        return named or [key for key in self._keys if key.partition(":")[0] in words] or [k for k in self._keys if k not in self._acked]


@dataclass(frozen=True)
class CoinbaseWire:
    """Coinbase Exchange as the shell needs it.

    Examples
    --------
    >>> line = CoinbaseWire().lines(["BTC-USD", "ETH-USD"], "ws://here")[0]
    >>> line.sends[0][:66]
    b'{"type":"subscribe","product_ids":["BTC-USD","ETH-USD"],"channels"'
    >>> line.keys["matches:ETH-USD"]
    'ETH-USD'
    """

    venue: str = "coinbase_exchange"
    ws_url: str = "wss://ws-feed.exchange.coinbase.com"
    rest_url: str = "https://api.exchange.coinbase.com"
    rules: Rules = _RULES

    def lines(self, raw_symbols: Sequence[str], ws_url: str) -> list[Line]:
        """Return the connections for these products; the venue cuts one that does not subscribe within 5 s."""
        return [
            Line(
                ws_url, (_request("subscribe", part, CHANNELS),), {f"{channel}:{symbol}": symbol for symbol in part for channel in CHANNELS}
            )
            for part in batches(raw_symbols, _PER_CONNECTION)
        ]

    def connection(self, line: Line) -> Feed:
        """Return what reads the frames of a line that was just opened."""
        return Feed(line)

    def resync(self, raw_symbol: str) -> Sequence[bytes]:
        """Return what brings a new snapshot: a channel that is active already sends none."""
        return (_request("unsubscribe", [raw_symbol], CHANNELS[:1]), _request("subscribe", [raw_symbol], CHANNELS))

    def snapshot_url(self, raw_symbol: str, rest_url: str) -> tuple[str, float]:
        """Return nothing: the feed sends the book, and a REST book could not be joined to it."""
        return "", 0.0

    def witness_url(self, raw_symbol: str, rest_url: str) -> tuple[str, float]:
        """Return address and weight of a book to compare with."""
        return f"{rest_url}/products/{raw_symbol}/book?level=2", 1.0

    def instruments_url(self, rest_url: str) -> str:
        """Return where ticks and lots are told."""
        return f"{rest_url}/products"

    def instruments(self, body: bytes) -> dict[str, Instrument]:
        """Return instruments by raw symbol; products that say too little are left out.

        Examples
        --------
        >>> told = b'[{"id":"BTC-USD","quote_increment":"0.01","base_increment":"0.00000001"},{"id":"NEW-USD"}]'
        >>> CoinbaseWire().instruments(told)
        {'BTC-USD': Instrument(tick=0.01, lot=1e-08, contract_usd=0.0, contract_base=1.0, price_decimals=2, size_decimals=8)}
        """
        return steps(msgspec.json.decode(body), "id")


def steps(products: Sequence[dict], name: str) -> dict[str, Instrument]:
    """Return instruments by the field that names them, of products that tell both increments."""
    found = {}
    for product in products:
        try:
            tick, lot = product["quote_increment"], product["base_increment"]
            decimals = [len(step.partition(".")[2].rstrip("0")) for step in (tick, lot)]
            found[str(product[name])] = Instrument(float(tick), float(lot), price_decimals=decimals[0], size_decimals=decimals[1])
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
    return found


def _request(kind: str, products: Sequence[str], channels: Sequence[str]) -> bytes:
    return msgspec.json.encode({"type": kind, "product_ids": list(products), "channels": list(channels)})
