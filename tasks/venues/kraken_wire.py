"""Kraken's connections, requests and limits: what the shell of sockets must know of it.

https://docs.kraken.com/api/docs/websocket-v2 (2026-08): one acknowledgement a symbol; a heartbeat
about once a second; a connection without a subscription lives 60 s.  New connections are said to
be limited to 150 in ten minutes an address, which waiting ever longer between them keeps to.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from tasks.venues.kraken_messages import decode_answer
from tasks.venues.ladder import Instrument
from tasks.venues.wire import Heard, Line, Rules, batches

DEPTH = 10  # levels a side: exactly those that the checksum covers, so that no wrong level can hide behind it
CHANNELS = ("book", "trade")  # a request's number is its place here, from 1
_REST_NAME = {"BTC": "XBT", "DOGE": "XDG"}
_OUR_NAME = {rest: name for name, rest in _REST_NAME.items()}
_PER_REQUEST, _PER_CONNECTION = 100, 200
_RULES = Rules(
    ping_s=30.0, ping=b'{"method":"ping"}', silence_s=10.0, sends_s=10.0, connects_s=1.0, max_size=1 << 24, budget=1.0, budget_s=1.0
)
_SYMBOL = b'"symbol":"'
_NAMED = re.compile(r"\b[A-Z0-9.]{1,20}/[A-Z0-9.]{1,20}\b")


class Feed:
    """One connection to WebSocket v2.

    Attributes
    ----------
    owner : dict of bytes to str
        Raw symbol by channel and pair.

    Examples
    --------
    >>> opened = Feed(KrakenWire().lines(["BTC/USD"], "ws://here")[0])
    >>> opened.owner[opened.name_of(b'{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[]}]}')]
    'BTC/USD'
    >>> opened.receive(b'{"method":"subscribe","result":{"channel":"book","symbol":"BTC/USD","depth":10},"success":true}').acked
    ['book:BTC/USD']
    >>> opened.receive(b'{"error":"Currency pair not supported BTC/USD","method":"subscribe","req_id":2,"success":false}').refused
    ['trade:BTC/USD']
    """

    def __init__(self, line: Line):
        self._keys, self._symbols = line.keys, line.symbols
        self._acked: set[str] = set()
        self.owner = {key.encode(): symbol for key, symbol in line.keys.items()}

    @staticmethod
    def name_of(frame: bytes) -> bytes:
        """Return channel and pair of a frame; anything, where it names none."""
        at = frame.find(_SYMBOL) + 10
        end = frame.find(b'"', at)
        return frame[12 : frame.find(b'"', 12)] + b":" + frame[at:end] if at > 9 and end > 0 else b""

    def receive(self, frame: bytes) -> Heard:
        """Say what a frame is; checksums and numbers of trades tell the other symbols if it was theirs."""
        if frame.startswith((b'{"channel":"heartbeat"', b'{"channel":"status"')) and frame.endswith(b"}"):
            return Heard()
        try:
            answer = decode_answer(frame)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pair = self.name_of(frame).partition(b":")[2]
            return Heard(((self.owner.get(b"book:" + pair, self._symbols[0]), frame),))
        if answer.method != "subscribe":
            return Heard()  # pongs, and ends of subscriptions
        told = answer.result
        channel = told.channel if told else CHANNELS[answer.req_id - 1] if 0 < answer.req_id <= len(CHANNELS) else ""
        symbol = told.symbol if told else answer.symbol
        meant = self._meant(channel, f"{symbol} {answer.error}") if symbol or answer.error else []
        if not answer.success and "already" not in answer.error.lower():
            # Trades are subscribed to again with each new book: where they flow already, that is no refusal.
            refused = [key for key in meant if not (key.startswith("trade:") and key in self._acked)]
            return Heard(refused=refused, reason=answer.error)
        acked = meant
        self._acked.update(acked)
        tells_depth = told is not None and channel == "book" and told.depth not in (0, DEPTH) and symbol in self._symbols
        return Heard(((symbol, frame),) if tells_depth else (), acked=acked)

    def _meant(self, channel: str, text: str) -> list[str]:
        # The streams of a channel whose pairs a text names; where it names none, those that wait.
        pairs = set(_NAMED.findall(text))
        keys = [key for key in self._keys if key.startswith(channel)]
        return [key for key in keys if (self._keys[key] in pairs if pairs else key not in self._acked)]


@dataclass(frozen=True)
class KrakenWire:
    """Kraken's spot market as the shell needs it.

    Parameters
    ----------
    depth : int
        Levels a side: 10, 25, 100, 500 or 1000.

    Examples
    --------
    >>> line = KrakenWire().lines(["BTC/USD", "ETH/USD"], "ws://here")[0]
    >>> line.sends[0]
    b'{"method":"subscribe","params":{"channel":"book","symbol":["BTC/USD","ETH/USD"],"snapshot":true,"depth":10},"req_id":1}'
    >>> line.keys["trade:ETH/USD"]
    'ETH/USD'
    """

    venue: str = "kraken"
    ws_url: str = "wss://ws.kraken.com"
    rest_url: str = "https://api.kraken.com"
    rules: Rules = _RULES
    depth: int = DEPTH

    def lines(self, raw_symbols: Sequence[str], ws_url: str) -> list[Line]:
        """Return the connections for these pairs."""
        return [
            Line(
                f"{ws_url}/v2",
                [self._request("subscribe", channel, part) for channel in CHANNELS for part in batches(ours, _PER_REQUEST)],
                {f"{channel}:{symbol}": symbol for symbol in ours for channel in CHANNELS},
            )
            for ours in batches(raw_symbols, _PER_CONNECTION)
        ]

    def _request(self, method: str, channel: str, symbols: Sequence[str]) -> bytes:
        params: dict[str, object] = {"channel": channel, "symbol": list(symbols)}
        if method == "subscribe":
            params["snapshot"] = True
        if channel == "book":
            params["depth"] = self.depth
        return msgspec.json.encode({"method": method, "params": params, "req_id": CHANNELS.index(channel) + 1})

    def connection(self, line: Line) -> Feed:
        """Return what reads the frames of a line that was just opened."""
        return Feed(line)

    def resync(self, raw_symbol: str) -> Sequence[bytes]:
        """Return what brings a new snapshot; trades that are subscribed to already are answered so."""
        steps = (("unsubscribe", "book"), ("subscribe", "book"), ("subscribe", "trade"))
        return tuple(self._request(method, channel, [raw_symbol]) for method, channel in steps)

    def snapshot_url(self, raw_symbol: str, rest_url: str) -> tuple[str, float]:
        """Return nothing: the socket sends the book, and a REST book could not be joined to it."""
        return "", 0.0

    def witness_url(self, raw_symbol: str, rest_url: str) -> tuple[str, float]:
        """Return address and weight of a book to compare with."""
        pair = "".join(_REST_NAME.get(part, part) for part in raw_symbol.split("/"))
        return f"{rest_url}/0/public/Depth?pair={pair}&count=100", 1.0

    def instruments_url(self, rest_url: str) -> str:
        """Return where ticks and decimals are told."""
        return f"{rest_url}/0/public/AssetPairs"

    def instruments(self, body: bytes) -> dict[str, Instrument]:
        """Return instruments by raw symbol; pairs that say too little are left out.

        Examples
        --------
        >>> told = b'{"error":[],"result":{"XXBTZUSD":{"wsname":"XBT/USD","pair_decimals":1,"lot_decimals":8,"tick_size":"0.1"},"X":{}}}'
        >>> KrakenWire().instruments(told)
        {'BTC/USD': Instrument(tick=0.1, lot=1e-08, contract_usd=0.0, contract_base=1.0, price_decimals=1, size_decimals=8)}
        """
        found = {}
        for row in msgspec.json.decode(body).get("result", {}).values():
            try:
                name = "/".join(_OUR_NAME.get(part, part) for part in row["wsname"].split("/"))
                price, lot = int(row["pair_decimals"]), int(row["lot_decimals"])
                tick = float(row.get("tick_size") or f"1e-{price}")
                found[name] = Instrument(tick, float(f"1e-{lot}"), price_decimals=price, size_decimals=lot)
            except (KeyError, TypeError, ValueError, AttributeError):
                continue
        return found
