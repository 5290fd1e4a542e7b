"""Messages of Coinbase Exchange's feed, typed: what does not fit is no message."""

import functools
import operator
from typing import Annotated, Any, Literal

import msgspec

TradeId = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]


class Message(msgspec.Struct, tag_field="type"):
    """Anything that the feed says."""


class Snapshot(Message, tag="snapshot"):
    """The whole book."""

    product_id: str
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]
    time: str = ""  # not sent in 2021


class Update(Message, tag="l2update"):
    """Changes of levels, sizes absolute."""

    product_id: str
    changes: list[tuple[Literal["buy", "sell"], str, str]]
    time: str


class Match(Message, tag="match"):
    """A trade; `side` is the maker's."""

    product_id: str
    trade_id: TradeId
    side: Literal["buy", "sell"]
    price: str
    size: str
    time: str


class LastMatch(Match, tag="last_match"):
    """The newest trade before the subscription."""


class Ticker(Message, tag="ticker"):
    """The best prices after a trade."""

    product_id: str
    best_bid: str
    best_ask: str
    best_bid_size: str = ""  # not sent in 2021
    best_ask_size: str = ""
    sequence: TradeId = 0
    time: str = ""


class Heartbeat(Message, tag="heartbeat"):
    """Each second: the newest trade."""

    product_id: str
    last_trade_id: TradeId
    time: str


_NOT_OURS = ("subscriptions", "error", "status", "auction", "rfq_match", "received", "open", "done", "change", "activate")
_OTHERS = (msgspec.defstruct(f"_{kind}", [], bases=(Message,), tag=kind) for kind in _NOT_OURS)
_KINDS: tuple[Any, ...] = (Snapshot, Update, Match, LastMatch, Ticker, Heartbeat, *_OTHERS)
decode: Any = msgspec.json.Decoder(functools.reduce(operator.or_, _KINDS)).decode
