"""Messages of Kraken's WebSocket v2, typed; numbers stay the text that was sent."""

from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec

from tasks.venues.errors import UnreadableFrameError

Checksum = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
Pair = tuple[str, str]  # price and size as text
TradeId = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]


class Level(msgspec.Struct):
    """A price and what rests there."""

    price: msgspec.Raw
    qty: msgspec.Raw


class BookEntry(msgspec.Struct):
    """The book of one pair, or changes of it."""

    symbol: str
    bids: list[Level] = []
    asks: list[Level] = []
    checksum: Checksum | None = None
    timestamp: str = ""


class TradeEntry(msgspec.Struct):
    """A trade; `side` is the taker's."""

    symbol: str
    side: Literal["buy", "sell"]
    price: msgspec.Raw
    qty: msgspec.Raw
    trade_id: TradeId
    timestamp: str


class Message(msgspec.Struct, tag_field="channel"):
    """Anything that comes over a channel."""


class Book(Message, tag="book"):
    """Books: whole ones first, then changes."""

    type: Literal["snapshot", "update"]
    data: list[BookEntry]


class Trades(Message, tag="trade"):
    """Trades: those before the subscription first, then each as it happens."""

    type: Literal["snapshot", "update"]
    data: list[TradeEntry]


class Heartbeat(Message, tag="heartbeat"):
    """About once a second when nothing else comes."""


class Status(Message, tag="status"):
    """What the exchange says of itself."""


class Ticker(Message, tag="ticker"):
    """Not subscribed to."""


class Candles(Message, tag="ohlc"):
    """Not subscribed to."""


class Pairs(Message, tag="instrument"):
    """Not subscribed to."""


class Channel(msgspec.Struct):
    """What a request was about."""

    channel: str = ""
    symbol: str = ""
    depth: int = 0


class Answer(msgspec.Struct):
    """The answer to a request: one for each symbol of it."""

    method: str
    success: bool = True
    result: Channel | None = None
    error: str = ""
    symbol: str = ""
    req_id: int = 0


decode: Any = msgspec.json.Decoder(Book | Trades | Heartbeat | Status | Ticker | Candles | Pairs).decode
decode_answer = msgspec.json.Decoder(Answer).decode


def text(number: msgspec.Raw, frame: bytes) -> str:
    """Return a number as it was written, without an exponent; raises UnreadableFrameError for what is none."""
    written = bytes(number)
    if not written.isascii():
        raise UnreadableFrameError("a number", frame)
    if b"e" not in written and b"E" not in written:
        return written.decode()
    try:
        return format(Decimal(written.decode()), "f")
    except ArithmeticError:
        raise UnreadableFrameError("a number", frame) from None


def pairs(levels: list[Level], frame: bytes) -> list[Pair]:
    """Return price and size of levels as they were written."""
    return [(text(level.price, frame), text(level.qty, frame)) for level in levels]


def digits(number: str, decimals: int) -> str:
    """Return a number as checksums have it: all decimals of the pair, without the dot and leading zeros.

    Examples
    --------
    >>> digits("0.000051", 8), digits("85592.0", 1)
    ('5100', '855920')
    """
    whole, _, fraction = number.partition(".")
    return (whole + fraction.ljust(decimals, "0")).lstrip("0")
