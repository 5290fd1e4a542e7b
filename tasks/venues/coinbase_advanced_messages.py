"""Messages of Coinbase Advanced Trade, typed: what does not fit is no message."""

from typing import Literal

import msgspec


class Level(msgspec.Struct, gc=False):
    """The size that now waits at a price."""

    side: Literal["bid", "offer"]
    price_level: str
    new_quantity: str
    event_time: str


class Trade(msgspec.Struct, gc=False):
    """A trade, numbered by product."""

    product_id: str
    trade_id: str
    price: str
    size: str
    side: Literal["BUY", "SELL"]
    time: str


class Ticker(msgspec.Struct, gc=False):
    """The best prices after a trade."""

    product_id: str
    best_bid: str = ""
    best_ask: str = ""
    best_bid_quantity: str = ""
    best_ask_quantity: str = ""


class Event(msgspec.Struct):
    """What a message says, of one product or several."""

    type: Literal["snapshot", "update", ""] = ""
    product_id: str = ""
    updates: list[Level] = []
    trades: list[Trade] = []
    tickers: list[Ticker] = []


class Message(msgspec.Struct):
    """Anything that the feed says."""

    channel: Literal["l2_data", "subscriptions", "heartbeats", "market_trades", "ticker", "ticker_batch", "status", "candles"]
    timestamp: str
    events: list[Event]
    sequence_num: int


decode = msgspec.json.Decoder(Message).decode
