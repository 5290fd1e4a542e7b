"""Bybit's connections, requests and limits: what the shell of sockets must know of it.

https://bybit-exchange.github.io/docs/v5/ws/connect (2026-07): 500 connections in 5 minutes, 10
topics a request and 21,000 characters of topics a connection on spot; a ping each 20 s.  A bad
topic may fail its whole request, so each request is answered for by its `req_id`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from tasks.venues.ladder import Instrument
from tasks.venues.wire import Heard, Line, Rules, batches

TOPICS = ("orderbook.50", "orderbook.1", "publicTrade")
_PER_REQUEST, _PER_CONNECTION = 10, 100  # topics, symbols
_CATEGORY = {"bybit_spot": "spot", "bybit_linear": "linear"}


class _Told(msgspec.Struct):
    topic: str = ""
    op: str = ""
    success: bool = True
    ret_msg: str = ""
    req_id: str = ""


_DECODE = msgspec.json.Decoder(_Told).decode


class Opened:
    """One connection to the feed.

    Attributes
    ----------
    owner : dict of bytes to str
        Raw symbol by topic.

    Examples
    --------
    >>> opened = Opened(BybitWire("bybit_spot").lines(["BTCUSDT"], "ws://here")[0])
    >>> opened.receive(b'{"success":true,"ret_msg":"subscribe","conn_id":"x","req_id":"0","op":"subscribe"}').acked
    ['orderbook.50.BTCUSDT', 'orderbook.1.BTCUSDT', 'publicTrade.BTCUSDT']
    """

    def __init__(self, line: Line):
        self._keys, self._symbols = line.keys, line.symbols
        self._asked = {str(i): list(part) for i, part in enumerate(batches(list(line.keys), _PER_REQUEST))}
        self.owner = {key.encode(): symbol for key, symbol in line.keys.items()}

    @staticmethod
    def name_of(frame: bytes) -> bytes:
        """Return the topic of a frame; anything, where it names none."""
        end = frame.find(b'"', 10)
        return frame[10:end] if end > 0 else b""

    def receive(self, frame: bytes) -> Heard:
        """Say what a frame is; one that cannot be read goes to the symbol whose name it holds, else to the first."""
        try:
            told = _DECODE(frame)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            symbol = self.owner.get(self.name_of(frame), self._symbols[0])
            return Heard(((symbol, frame),))
        symbol = self._keys.get(told.topic, "")
        if symbol:
            return Heard(((symbol, frame),))
        if told.op in ("ping", "pong"):
            return Heard()
        if told.op in ("subscribe", "unsubscribe"):
            keys = self._asked.get(told.req_id) or [key for key in (f"{TOPICS[0]}.{told.req_id}",) if key in self._keys]
            if told.op == "unsubscribe":
                return Heard()
            return Heard(acked=keys) if told.success else Heard(refused=keys, reason=told.ret_msg)
        return Heard(((self._symbols[0], frame),))


@dataclass(frozen=True)
class BybitWire:
    """One market of Bybit as the shell needs it.

    Examples
    --------
    >>> line = BybitWire("bybit_linear").lines(["BTCUSDT"], "ws://here")[0]
    >>> line.url, line.sends[0][:63]
    ('ws://here/v5/public/linear', b'{"req_id":"0","op":"subscribe","args":["orderbook.50.BTCUSDT","')
    """

    venue: str
    ws_url: str = "wss://stream.bybit.com"
    rest_url: str = "https://api.bybit.com"
    rules: Rules = field(
        default=Rules(ping_s=20.0, ping=b'{"op":"ping"}', silence_s=30.0, sends_s=5.0, connects_s=1.0, budget=600.0, budget_s=5.0)
    )

    def lines(self, raw_symbols: Sequence[str], ws_url: str) -> list[Line]:
        """Return the connections that carry books, best prices and trades of these symbols."""
        lines = []
        for part in batches(raw_symbols, _PER_CONNECTION):
            keys = {f"{topic}.{symbol}": symbol for symbol in part for topic in TOPICS}
            sends = [_request("subscribe", str(i), topics) for i, topics in enumerate(batches(list(keys), _PER_REQUEST))]
            lines.append(Line(f"{ws_url}/v5/public/{_CATEGORY[self.venue]}", sends, keys))
        return lines

    def connection(self, line: Line) -> Opened:
        """Return what reads the frames of a line that was just opened."""
        return Opened(line)

    def resync(self, raw_symbol: str) -> Sequence[bytes]:
        """Return what brings a new snapshot."""
        topics = [f"{TOPICS[0]}.{raw_symbol}"]
        return _request("unsubscribe", raw_symbol, topics), _request("subscribe", raw_symbol, topics)

    def snapshot_url(self, raw_symbol: str, rest_url: str) -> tuple[str, float]:
        """Return nothing: the feed sends the book, and REST numbers are of another stream."""
        return "", 0.0

    def witness_url(self, raw_symbol: str, rest_url: str) -> tuple[str, float]:
        """Return address and weight of a book to compare with."""
        return f"{rest_url}/v5/market/orderbook?category={_CATEGORY[self.venue]}&symbol={raw_symbol}&limit=50", 1.0

    def instruments_url(self, rest_url: str) -> str:
        """Return where ticks and lots are told."""
        return f"{rest_url}/v5/market/instruments-info?category={_CATEGORY[self.venue]}&limit=1000"

    def instruments(self, body: bytes) -> dict[str, Instrument]:
        """Return instruments by raw symbol; those that say too little are left out.

        Examples
        --------
        >>> told = b'{"result":{"list":[{"symbol":"BTCUSDT","priceFilter":{"tickSize":"0.10"},"lotSizeFilter":{"qtyStep":"0.001"}}]}}'
        >>> BybitWire("bybit_linear").instruments(told)["BTCUSDT"].tick
        0.1
        """
        found = {}
        for told in msgspec.json.decode(body)["result"]["list"]:
            try:
                tick, lots = told["priceFilter"]["tickSize"], told["lotSizeFilter"]
                lot = lots.get("qtyStep") or lots["basePrecision"]
                decimals = [len(step.partition(".")[2]) for step in (tick, lot)]
                found[str(told["symbol"])] = Instrument(float(tick), float(lot), price_decimals=decimals[0], size_decimals=decimals[1])
            except (KeyError, TypeError, ValueError, AttributeError):
                continue
        return found


def _request(op: str, req_id: str, topics: Sequence[str]) -> bytes:
    return msgspec.json.encode({"req_id": req_id, "op": op, "args": list(topics)})
