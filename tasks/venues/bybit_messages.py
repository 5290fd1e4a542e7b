"""Messages of Bybit's feed, typed: what does not fit is no message."""

from hashlib import blake2b
from typing import Annotated, Literal

import msgspec

Number = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
Milliseconds = Annotated[int, msgspec.Meta(ge=0, lt=1 << 43)]  # until 2248; nanoseconds of later times would not fit


class Frame(msgspec.Struct):
    """What each message has around its data."""

    topic: str
    type: Literal["snapshot", "delta"]
    ts: Milliseconds
    data: msgspec.Raw
    cts: Milliseconds = 0  # the engine's; not sent before 2023


class Book(msgspec.Struct):
    """Levels of price and size, sizes absolute: of the whole book, or those that changed."""

    s: str
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]
    u: Number
    seq: Number


class Trade(msgspec.Struct):
    """A trade; `S` is the taker's side."""

    T: Milliseconds
    s: str
    S: Literal["Buy", "Sell"]
    v: str
    p: str
    i: str


decode_frame = msgspec.json.Decoder(Frame).decode
decode_book = msgspec.json.Decoder(Book).decode
decode_trades = msgspec.json.Decoder(list[Trade]).decode


def trade_number(text: str) -> int:
    """Return a trade's id as a number: itself on spot, a hash of the UUID on linear.

    Examples
    --------
    >>> trade_number("2290000001190010739"), trade_number("e799c7b7-1ccc-53d9-b84a-fb7a460397bc") > 0
    (2290000001190010739, True)
    """
    if text.isdigit() and len(text) < 20 and int(text) < 1 << 63:
        return int(text)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) >> 1
