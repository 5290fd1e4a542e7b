"""Hyperliquid's connections, requests and limits: what the shell of sockets must know of it.

https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/rate-limits-and-user-limits
(2026-08): 1000 subscriptions and 2000 messages a minute an address, one subscription a message,
cut after 60 s without a message to us; REST weight 1200 a minute.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from tasks.venues.ladder import Instrument
from tasks.venues.wire import Heard, Line, Rules, batches

CHANNELS = ("l2Book", "trades")
_PER_CONNECTION = 100  # symbols
_RULES = Rules(
    ping_s=10.0, ping=b'{"method":"ping"}', silence_s=20.0, sends_s=20.0, connects_s=1.0, budget=1200.0, budget_s=60.0
)  # fmt: skip


class _Asked(msgspec.Struct):
    type: str = ""
    coin: str = ""


class _Answer(msgspec.Struct):
    method: str = ""
    subscription: _Asked | None = None


class _Told(msgspec.Struct):
    channel: str
    data: msgspec.Raw = msgspec.Raw(b"{}")


class _Coin(msgspec.Struct):
    coin: str = ""


_TOLD = msgspec.json.Decoder(_Told).decode
_ANSWER = msgspec.json.Decoder(_Answer).decode
_COIN = msgspec.json.Decoder(_Coin).decode
_COINS = msgspec.json.Decoder(list[_Coin]).decode


class Opened:
    """One connection to the feed.

    Examples
    --------
    >>> opened = Opened(HyperliquidWire().lines(["BTC"], "ws://here")[0])
    >>> asked = b'{"method":"subscribe","subscription":{"type":"trades","coin":"BTC"}}'
    >>> opened.receive(b'{"channel":"subscriptionResponse","data":' + asked + b"}").acked
    ['trades:BTC']
    """

    def __init__(self, line: Line):
        self._keys, self._symbols = line.keys, line.symbols
        self._known = frozenset(self._symbols)

    def receive(self, frame: bytes) -> Heard:
        """Say what a frame is; one that cannot be read goes to the first symbol, and no book is the worse for it."""
        if frame.startswith(b"Websocket"):
            return Heard()
        try:
            told = _TOLD(frame)
            if told.channel == "l2Book":
                return self._of(_COIN(told.data).coin, frame)
            if told.channel == "trades":
                trades = _COINS(told.data)
                return self._of(trades[0].coin, frame) if trades else Heard()
            if told.channel == "subscriptionResponse":
                answer = _ANSWER(told.data)
                asked = answer.subscription or _Asked()
                key = f"{asked.type}:{asked.coin}"
                return Heard(acked=[key] if answer.method == "subscribe" and key in self._keys else ())
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return Heard(((self._symbols[0], frame),))
        if told.channel == "error":
            reason = bytes(told.data).decode("utf-8", "replace")
            named = [key for key, symbol in self._keys.items() if f'"{symbol}"' in reason.replace("\\", "") and key.split(":")[0] in reason]
            if reason.startswith('"Already subscribed'):
                return Heard(acked=named)
            return Heard(refused=named, reason=reason)
        return Heard()

    def _of(self, coin: str, frame: bytes) -> Heard:
        return Heard(((coin if coin in self._known else self._symbols[0], frame),))


@dataclass(frozen=True)
class HyperliquidWire:
    """Hyperliquid as the shell needs it.

    Attributes
    ----------
    is_fast : bool
        Ask for 5 levels each 0.5 s; else for 20 levels each 5 s.  Not both: they come on one
        channel, and each message is the whole book.

    Examples
    --------
    >>> for text in HyperliquidWire().lines(["BTC"], "ws://here")[0].sends:
    ...     print(text.decode())
    {"method":"subscribe","subscription":{"type":"l2Book","coin":"BTC","fast":true}}
    {"method":"subscribe","subscription":{"type":"trades","coin":"BTC"}}
    """

    venue: str = "hyperliquid"
    ws_url: str = "wss://api.hyperliquid.xyz"
    rest_url: str = "https://api.hyperliquid.xyz"
    rules: Rules = _RULES
    is_fast: bool = True

    def lines(self, raw_symbols: Sequence[str], ws_url: str) -> list[Line]:
        """Return the connections that carry books and trades of these symbols."""
        return [
            Line(
                f"{ws_url}/ws",
                [self._request("subscribe", channel, symbol) for symbol in part for channel in CHANNELS],
                {f"{channel}:{symbol}": symbol for symbol in part for channel in CHANNELS},
            )
            for part in batches(raw_symbols, _PER_CONNECTION)
        ]

    def connection(self, line: Line) -> Opened:
        """Return what reads the frames of a line that was just opened."""
        return Opened(line)

    def resync(self, raw_symbol: str) -> Sequence[bytes]:
        """Return what brings a book at once; the next message would be one too."""
        return self._request("unsubscribe", CHANNELS[0], raw_symbol), self._request("subscribe", CHANNELS[0], raw_symbol)

    def snapshot_url(self, raw_symbol: str, rest_url: str) -> tuple[str, float]:
        """Return nothing: the feed sends whole books."""
        return "", 0.0

    def witness_url(self, raw_symbol: str, rest_url: str) -> tuple[str, float]:
        """Return address and weight of a book to compare with."""
        return f'{rest_url}/info#{{"type":"l2Book","coin":"{raw_symbol}"}}', 2.0

    def instruments_url(self, rest_url: str) -> str:
        """Return where the decimals of sizes are told."""
        return f'{rest_url}/info#{{"type":"meta"}}'

    def instruments_urls(self, rest_url: str) -> list[str]:
        """Return where the decimals of sizes are told: of perpetuals, and of spot pairs."""
        return [self.instruments_url(rest_url), f'{rest_url}/info#{{"type":"spotMeta"}}']

    def instruments(self, body: bytes) -> dict[str, Instrument]:
        """Return instruments by raw symbol; a price has five significant figures, so there is no tick.

        Examples
        --------
        >>> HyperliquidWire().instruments(b'{"universe":[{"name":"BTC","szDecimals":5}]}')["BTC"].lot
        1e-05
        >>> pair = b'{"universe":[{"name":"@1","tokens":[2,0]}],"tokens":[{"index":0,"szDecimals":8},{"index":2,"szDecimals":1}]}'
        >>> HyperliquidWire().instruments(pair)["@1"].lot
        0.1
        """
        told = msgspec.json.decode(body)
        tokens = {token["index"]: token for token in told.get("tokens", [])}
        found = {}
        for market in told.get("universe", []):
            try:
                decimals = int((tokens[market["tokens"][0]] if tokens else market)["szDecimals"])
                found[str(market["name"])] = Instrument(lot=10.0**-decimals, size_decimals=decimals)
            except (KeyError, IndexError, TypeError, ValueError):
                continue
        return found

    def _request(self, method: str, channel: str, coin: str) -> bytes:
        asked: dict[str, object] = {"type": channel, "coin": coin}
        if channel == CHANNELS[0] and self.is_fast:
            asked["fast"] = True
        return msgspec.json.encode({"method": method, "subscription": asked})
