"""Messages of OKX's WebSocket v5, typed: what does not fit is no message."""

from typing import Annotated, Literal

import msgspec

from tasks.venues.errors import UnreadableFrameError

_LATEST_MS = 9_000_000_000_000  # in 2255

SeqId = Annotated[int, msgspec.Meta(ge=-1, lt=1 << 62)]
# Price, size, a dead field and how many orders; who reads the first two need not know of the others.
Row = Annotated[list[str], msgspec.Meta(min_length=2)]


class Arg(msgspec.Struct):
    """A subscription, and what a frame belongs to."""

    channel: str = ""
    instId: str = ""


class BookEntry(msgspec.Struct):
    """The book, or changes of it."""

    asks: list[Row]
    bids: list[Row]
    ts: str
    checksum: int = 0
    prevSeqId: SeqId | None = None  # not sent in 2022
    seqId: SeqId | None = None


class Books(msgspec.Struct):
    """A frame of the channel `books`."""

    arg: Arg
    action: Literal["snapshot", "update"]
    data: list[BookEntry]


class TradeEntry(msgspec.Struct):
    """Fills of one taker order at one price; `side` is the taker's, the id that of the last fill."""

    instId: str
    tradeId: str
    px: str
    sz: str
    side: Literal["buy", "sell"]
    ts: str
    count: str = "1"  # not sent in 2022


class Trades(msgspec.Struct):
    """A frame of the channel `trades`."""

    arg: Arg
    data: list[TradeEntry]


class Told(msgspec.Struct):
    """Any frame: what it is about, and what the venue says besides."""

    event: str = ""
    arg: Arg | None = None
    code: str = ""
    msg: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")


decode_books = msgspec.json.Decoder(Books).decode
decode_trades = msgspec.json.Decoder(Trades).decode
decode_told = msgspec.json.Decoder(Told).decode


def nanoseconds(milliseconds: str, frame: bytes) -> int:
    """Return a time in nanoseconds; raises UnreadableFrameError for what is none."""
    value = whole(milliseconds, frame)
    if value > _LATEST_MS:
        raise UnreadableFrameError(f"a time in milliseconds, not {milliseconds}", frame)
    return value * 1_000_000


def whole(text: str, frame: bytes) -> int:
    """Return a whole number that came as text; raises UnreadableFrameError for what is none."""
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise UnreadableFrameError(f"a whole number, not {text[:40]!r}", frame)
    return int(text)
