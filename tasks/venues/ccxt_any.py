"""Any venue that ccxt.pro watches: our own frames of its books and trades in, events out.

ccxt.pro owns the sockets, so a frame here is what `tasks/watch.py` makes of what it returns:

    {"kind":"book","symbol":"BTC/USDT","timestamp_ms":1767225600000,"nonce":5,"bids":[["99.5","1"]],"asks":[["100.5","2"]]}
    {"kind":"trades","symbol":"BTC/USDT","trades":[{"id":"7","timestamp_ms":1767225600000,"price":"99.5","amount":"0.1","side":"buy","backfill":false}]}

A book is whole each time, cut to its best levels.  What this cannot promise, for ccxt does not
tell it: that no update is missing, that each update is a row (several between two looks become
one), when a frame was read off the socket, and which trades are history.

https://docs.ccxt.com (2026-10, 4.5.90)
"""

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec

from tasks.venues.errors import UnreadableFrameError, WrongVenueError
from tasks.venues.ladder import Instrument, Ladder
from tasks.venues.on_ladder import OnLadder
from tasks.venues.pace import Pace
from tasks.venues.wire import Alone, Line, Rules

_NAME = re.compile(r"([A-Z0-9$.]+)/([A-Z0-9$.]+)(?::([A-Z0-9$.]+)(?:-(\d{6}))?)?")
_RULES = Rules()
_REMEMBERED = 2000  # ids of trades, to know one that comes twice
_Time = Annotated[int, msgspec.Meta(ge=0, lt=9_000_000_000_000)] | None
_Id = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)] | None


class Trade(msgspec.Struct):
    """One trade as ccxt tells it; `side` is the taker's, where it is known."""

    price: str
    amount: str
    side: Literal["buy", "sell"] | None = None
    id: str | None = None
    timestamp_ms: _Time = None
    backfill: bool = False


class Book(msgspec.Struct, tag_field="kind", tag="book"):
    """The best levels, from the touch outward; a nonce of None where the venue has none."""

    symbol: str
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]
    timestamp_ms: _Time = None
    nonce: _Id = None


class Trades(msgspec.Struct, tag_field="kind", tag="trades"):
    """Trades, oldest first."""

    symbol: str
    trades: list[Trade]


_DECODE = msgspec.json.Decoder(Book | Trades).decode
encode = msgspec.json.encode


def text_of(number: float | int | str) -> str:
    """Return a plain decimal, as short as it can be told exactly.

    Examples
    --------
    >>> text_of(1e-07), text_of(63310.25), text_of(5)
    ('0.0000001', '63310.25', '5')
    """
    text = str(number)
    return text if "e" not in text else f"{Decimal(text):f}"


def canonical_symbol(venue: str, raw: str) -> str:
    """Return our name of what ccxt calls by its unified symbol.

    Raises
    ------
    WrongVenueError
        An option, or no unified symbol.

    Examples
    --------
    >>> [canonical_symbol("ccxt_okx", raw) for raw in ("BTC/USDT", "BTC/USDT:USDT", "BTC/USD:BTC", "BTC/USD:BTC-220527")]
    ['BTC-USDT', 'BTC-USDT-PERP', 'BTC-USD-PERP', 'BTC-USD-220527']
    """
    match = _NAME.fullmatch(raw.upper())
    if match is None:
        raise WrongVenueError(venue, f"symbol {raw}, where ccxt writes BTC/USDT, BTC/USDT:USDT or BTC/USD:BTC-220527")
    base, quote, settle, expiry = match.groups()
    return f"{base}-{quote}" + (f"-{expiry or 'PERP'}" if settle else "")


def raw_symbol(venue: str, symbol: str) -> str:
    """Return ccxt's unified symbol; contracts quoted in USD are taken to be settled in the base asset.

    Examples
    --------
    >>> [raw_symbol("ccxt_okx", symbol) for symbol in ("BTC-USDT", "BTC-USDT-PERP", "BTC-USD-PERP", "BTC-USD-220527")]
    ['BTC/USDT', 'BTC/USDT:USDT', 'BTC/USD:BTC', 'BTC/USD:BTC-220527']
    """
    base, _, rest = symbol.upper().partition("-")
    quote, _, expiry = rest.partition("-")
    if not expiry:
        return f"{base}/{quote}"
    settle = base if quote == "USD" else quote
    return f"{base}/{quote}:{settle}" + ("" if expiry == "PERP" else f"-{expiry}")


def instrument_of(market: Mapping[str, Any]) -> Instrument:
    """Return what ccxt's market structure says of steps and contract size; steps are told as numbers, not decimals.

    Examples
    --------
    >>> told = {"precision": {"price": 0.1, "amount": 1.0}, "contract": True, "linear": True, "contractSize": 0.01}
    >>> instrument_of(told).contract_base, instrument_of(told).tick, instrument_of(told).price_decimals
    (0.01, 0.1, 1)
    """
    precision = market.get("precision") or {}
    tick, lot = (float(precision.get(name) or 0.0) for name in ("price", "amount"))
    size = float(market.get("contractSize") or 1.0) if market.get("contract") else 1.0
    decimals = [len(text_of(step).partition(".")[2].rstrip("0")) if step else -1 for step in (tick, lot)]
    if market.get("inverse"):
        return Instrument(tick, lot, contract_usd=size, price_decimals=decimals[0], size_decimals=decimals[1])
    return Instrument(tick, lot, contract_base=size, price_decimals=decimals[0], size_decimals=decimals[1])


class CcxtAny(OnLadder):
    """One instrument's stream of a venue that ccxt watches.

    Attributes
    ----------
    row, trade, quote, change : ndarray, shape (1,)
        Views of the event being handled; valid until the next one.

    Examples
    --------
    >>> from tasks.venues.events import BOOK
    >>> stream = CcxtAny("ccxt_kraken", "BTC/USD")
    >>> frame = b'{"kind":"book","symbol":"BTC/USD","timestamp_ms":5,"nonce":7,"bids":[["99.5","1"]],"asks":[["100.5","2"]]}'
    >>> [stream.row["ask_px"][0, 0] for event in stream.receive(frame, 1_000) if event == BOOK]
    [np.float64(100.5)]
    """

    def __init__(
        self, venue: str, raw_symbol: str, base: Mapping[str, int] = MappingProxyType({}), since_ns: int = 0, stale_s: float = 30.0,
        instrument: Instrument | None = None,
    ):  # fmt: skip
        self.venue, self.raw_symbol, self.symbol = venue, raw_symbol, canonical_symbol(venue, raw_symbol)
        self._ladder = ladder = Ladder(raw_symbol, self.symbol, base, since_ns, 0, stale_s, instrument)
        self.row, self.trade, self.quote, self.change = ladder.row, ladder.trade, ladder.quote, ladder.change
        self._seen: deque[int] = deque(maxlen=_REMEMBERED)
        self._last, self._pace = (-1, -1), Pace()  # time and nonce of the last book

    def receive(self, frame: bytes, receive_ns: int) -> Iterator[int]:
        """Return the events in one frame, oldest first; an empty frame says that ccxt lost its connection."""
        if not frame:
            self._pace.forget()
            self._last = (-1, -1)
            yield from self._ladder.gap(receive_ns)
            return
        self._ladder.messages += 1
        try:
            message = _DECODE(frame)
            if message.symbol != self.raw_symbol:
                self._ladder.rare["stray"] += 1
                raise UnreadableFrameError(f"a frame of {self.raw_symbol}", frame)
            yield from self._book(message, frame, receive_ns) if type(message) is Book else self._trades(message, frame, receive_ns)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            yield from self._ladder.keep(UnreadableFrameError(f"a frame of books or trades ({error})", frame), receive_ns)
        except UnreadableFrameError as error:
            yield from self._ladder.keep(error, receive_ns)

    def _book(self, book: Book, frame: bytes, receive_ns: int) -> Iterator[int]:
        ladder, now = self._ladder, (book.timestamp_ms or 0, book.nonce or 0)
        if now[0] and (why := self._pace.fault(now[0] * 1_000_000, receive_ns)):
            self._last = (-1, -1)
            yield from ladder.gap(receive_ns)
            raise UnreadableFrameError(f"a book ({why})", frame)
        is_older = now[0] < self._last[0] if now[0] else now[1] < self._last[1]
        if is_older or not (book.bids or book.asks):  # ccxt's own cache is empty before the venue's first message
            ladder.rare["old"] += 1
            return
        ladder.read(book.bids, book.asks, frame)
        ladder.replace()
        self._last = now
        yield from ladder.publish(now[0] * 1_000_000 or receive_ns, receive_ns, now[1])

    def _trades(self, message: Trades, frame: bytes, receive_ns: int) -> Iterator[int]:
        for trade in message.trades:
            number = _number(trade)
            if number in self._seen:
                self._ladder.rare["old"] += 1
                continue
            aggressor = {"buy": 1, "sell": -1, None: 0}[trade.side]
            exchange_ns = (trade.timestamp_ms or 0) * 1_000_000 or receive_ns
            is_told = yield from self._ladder.print_trade(
                trade.price, trade.amount, aggressor, exchange_ns, receive_ns, number, frame=frame, backfill=trade.backfill
            )
            if is_told:
                self._seen.append(number)


def _number(trade: Trade) -> int:
    # The venue's number, or one made of its text; of the trade itself where it has none.
    if trade.id and trade.id.isascii() and trade.id.isdigit() and len(trade.id) <= 18:
        return int(trade.id)
    told = trade.id or f"{trade.timestamp_ms} {trade.price} {trade.amount} {trade.side}"
    return int.from_bytes(blake2b(told.encode(), digest_size=8).digest(), "big") >> 1


@dataclass(frozen=True)
class CcxtWire:
    """Nothing for a shell of sockets to do: ccxt opens its own; see `tasks/watch.py`."""

    venue: str
    ws_url: str = ""
    rest_url: str = ""
    rules: Rules = _RULES

    def lines(self, raw_symbols: Sequence[str], ws_url: str) -> list[Line]:
        """Return no connection."""
        return []

    def connection(self, line: Line) -> Alone:
        """Return what gives every frame to the line's only symbol."""
        return Alone(line, lambda frame: line.symbols[0])

    def resync(self, raw_symbol: str) -> Sequence[bytes]:
        """Return nothing: the next book is whole."""
        return ()

    def snapshot_url(self, raw_symbol: str, rest_url: str) -> tuple[str, float]:
        """Return nothing."""
        return "", 0.0

    def witness_url(self, raw_symbol: str, rest_url: str) -> tuple[str, float]:
        """Return nothing."""
        return "", 0.0

    def instruments_url(self, rest_url: str) -> str:
        """Return nothing; see `instrument_of`."""
        return ""

    def instruments(self, body: bytes) -> dict[str, Instrument]:
        """Return nothing."""
        return {}


def adapter(venue: str, raw_symbol: str, base: Mapping[str, int], since_ns: int, stale_s: float, instrument: Instrument | None) -> CcxtAny:
    """Return the stream of one instrument."""
    return CcxtAny(venue, raw_symbol, base, since_ns, stale_s, instrument)


def wire(venue: str) -> CcxtWire:
    """Return what tells a shell that there is nothing to open."""
    return CcxtWire(venue)
