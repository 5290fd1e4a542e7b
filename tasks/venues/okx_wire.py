"""OKX's connections, requests and limits: what the shell of sockets must know of it.

https://www.okx.com/docs-v5/en/#overview-websocket (2026-08): one acknowledgement an argument; 480
requests to subscribe or unsubscribe an hour and connection; 3 new connections a second; fewer than
30 books of 400 levels a connection are advised; a connection is cut after 30 s without a push,
unless the text `ping` is sent, which is answered `pong`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from tasks.venues.ladder import Instrument
from tasks.venues.okx_messages import decode_told
from tasks.venues.wire import Heard, Line, Rules, batches

CHANNELS = ("books", "trades")
KINDS = ("SPOT", "SWAP", "FUTURES")
_PER_CONNECTION = 25  # symbols, each with one book
_RULES = Rules(ping_s=15.0, ping=b"ping", silence_s=30.0, sends_s=10.0, connects_s=1.0, max_size=1 << 24, budget=120.0, budget_s=20.0)
_CLOSING = "64008"  # a minute before the service is upgraded
_ABOUT = re.compile(r"channel:\s*([\w-]+),\s*instId:\s*([\w-]+)")


class Feed:
    """One connection to the public WebSocket.

    Attributes
    ----------
    owner : dict of bytes to str
        Raw symbol by the subscription as frames repeat it.

    Examples
    --------
    >>> opened = Feed(OkxWire().lines(["BTC-USDT"], "ws://here")[0])
    >>> opened.owner[opened.name_of(b'{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update","data":[]}')]
    'BTC-USDT'
    >>> opened.receive(b'{"event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"},"connId":"a"}').acked
    ('books:BTC-USDT',)
    >>> opened.receive(b'{"event":"notice","code":"64008","msg":"The connection will soon be closed"}').is_closing
    True
    """

    def __init__(self, line: Line):
        self._keys, self._symbols = line.keys, line.symbols
        self._acked: set[str] = set()
        self.owner = {
            b'"channel":"%s","instId":"%s"' % tuple(part.encode() for part in key.split(":")): symbol for key, symbol in line.keys.items()
        }

    @staticmethod
    def name_of(frame: bytes) -> bytes:
        """Return the subscription that a frame repeats; anything, where it repeats none."""
        return frame[8 : frame.find(b"}", 8)]

    def receive(self, frame: bytes) -> Heard:
        """Say what a frame is; the numbers of books and trades tell the other symbols if one of theirs is missing."""
        if frame == b"pong":
            return Heard()
        try:
            told = decode_told(frame)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return Heard(((self._named(frame), frame),))
        arg = told.arg
        key = f"{arg.channel}:{arg.instId}" if arg else ""
        if told.event == "subscribe" and key in self._keys:
            self._acked.add(key)
            # When trades were subscribed to tells which of them are history.
            return Heard(((self._keys[key], frame),) if key.startswith("trades:") else (), acked=(key,))
        if told.event == "error" or told.event.endswith("-error"):
            return Heard(refused=self._meant(key, told.msg), reason=f"{told.code} {told.msg}".strip())
        if told.event == "notice":
            return Heard(reason=f"{told.code} {told.msg}", is_closing=told.code == _CLOSING)
        if told.event:
            return Heard()
        return Heard(((self._keys.get(key, self._symbols[0]), frame),))

    def _named(self, frame: bytes) -> str:
        # Of a frame that breaks off, the subscription may be there.
        return self.owner.get(self.name_of(frame), self._symbols[0])

    def _meant(self, key: str, text: str) -> Sequence[str]:
        # "Wrong URL or channel:books,instId:XYZ-USDT doesn't exist. ..."
        named = [key, *(":".join(about) for about in _ABOUT.findall(text))]
        return [name for name in named if name in self._keys] or [name for name in self._keys if name not in self._acked]


@dataclass(frozen=True)
class OkxWire:
    """OKX's spot and contracts as the shell needs them.

    Examples
    --------
    >>> line = OkxWire().lines(["BTC-USDT"], "ws://here")[0]
    >>> line.sends[0]
    b'{"op":"subscribe","args":[{"channel":"books","instId":"BTC-USDT"},{"channel":"trades","instId":"BTC-USDT"}]}'
    """

    venue: str = "okx"
    ws_url: str = "wss://ws.okx.com:8443"
    rest_url: str = "https://www.okx.com"
    rules: Rules = _RULES

    def lines(self, raw_symbols: Sequence[str], ws_url: str) -> list[Line]:
        """Return the connections for these instruments."""
        return [
            Line(
                f"{ws_url}/ws/v5/public",
                (_request("subscribe", part, CHANNELS),),
                {f"{channel}:{symbol}": symbol for symbol in part for channel in CHANNELS},
            )
            for part in batches(raw_symbols, _PER_CONNECTION)
        ]

    def connection(self, line: Line) -> Feed:
        """Return what reads the frames of a line that was just opened."""
        return Feed(line)

    def resync(self, raw_symbol: str) -> Sequence[bytes]:
        """Return what brings a new snapshot: only a new subscription does; one that is active is confirmed again."""
        return (_request("unsubscribe", [raw_symbol], CHANNELS[:1]), _request("subscribe", [raw_symbol], CHANNELS))

    def snapshot_url(self, raw_symbol: str, rest_url: str) -> tuple[str, float]:
        """Return nothing: the socket sends the book."""
        return "", 0.0

    def witness_url(self, raw_symbol: str, rest_url: str) -> tuple[str, float]:
        """Return address and weight of a book to compare with."""
        return f"{rest_url}/api/v5/market/books?instId={raw_symbol}&sz=400", 1.0

    def instruments_url(self, rest_url: str) -> str:
        """Return where ticks and lots of the spot market are told."""
        return self.instruments_urls(rest_url)[0]

    def instruments_urls(self, rest_url: str) -> Sequence[str]:
        """Return where ticks, lots and contract sizes are told: one address a kind."""
        return [f"{rest_url}/api/v5/public/instruments?instType={kind}" for kind in KINDS]

    def instruments(self, body: bytes) -> dict[str, Instrument]:
        """Return instruments by raw symbol; those that say too little are left out.

        Examples
        --------
        >>> OkxWire().instruments(
        ...     b'{"code":"0","data":[{"instId":"BTC-USD-SWAP","tickSz":"0.1","lotSz":"1","ctType":"inverse","ctVal":"100","ctMult":"1"}]}'
        ... )
        {'BTC-USD-SWAP': Instrument(tick=0.1, lot=1.0, contract_usd=100.0, contract_base=1.0, price_decimals=1, size_decimals=0)}
        """
        found = {}
        for row in msgspec.json.decode(body).get("data", []):
            try:
                tick, lot = row["tickSz"], row["lotSz"]
                worth = float(row.get("ctVal") or 1.0) * float(row.get("ctMult") or 1.0)
                kind, decimals = row.get("ctType", ""), [len(step.partition(".")[2].rstrip("0")) for step in (tick, lot)]
                found[str(row["instId"])] = Instrument(
                    float(tick),
                    float(lot),
                    worth if kind == "inverse" else 0.0,
                    worth if kind == "linear" else 1.0,
                    decimals[0],
                    decimals[1],
                )
            except (KeyError, TypeError, ValueError, AttributeError):
                continue
        return found


def _request(kind: str, symbols: Sequence[str], channels: Sequence[str]) -> bytes:
    args = [{"channel": channel, "instId": symbol} for symbol in symbols for channel in channels]
    return msgspec.json.encode({"op": kind, "args": args})
