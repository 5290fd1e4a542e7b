"""Coinbase Exchange as a simulated venue: level2_batch, matches, ticker and heartbeat over one socket, and REST.

ws://host:port/    http://host:port/products    /products/BTC-USD/book?level=2    /products/BTC-USD/ticker    /currencies
"""

import json
import math
import re
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from simulator.book_kernel import TICKER, TRADE
from simulator.desk import Beat, Desk
from simulator.protocol import BOOK, OTHER, Answer, Budget, Message, Moment, Reply, Request
from simulator.protocol import TRADE as TRADES

CHANNELS = ("level2_batch", "matches", "ticker", "heartbeat")
EVERYTHING = 1 << 20  # levels: the whole book
_KEYED = ("level2", "level3", "full", "user")
_NAMES = {"level2_batch": "level2_50"}  # what acks call it
_BEGIN = ("level2_batch", "matches")
_FIRST_S, _BEAT_S, _MESSAGES_S = 5.0, 1.0, 100
_LEVELS = {"1": 1, "2": EVERYTHING, "3": EVERYTHING}


def stamp(ns: int, digits: int = 6) -> str:
    """Return a time as the venue writes it.

    Examples
    --------
    >>> stamp(1_767_225_600_123_456_789), stamp(1_767_225_600_000_000_001, 9)
    ('2026-01-01T00:00:00.123456Z', '2026-01-01T00:00:00.000000001Z')
    """
    seconds, part = divmod(ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{f'{part:09d}'[:digits]}Z"


def printed(beat: Beat) -> Iterable[tuple[list[list[int]], list[int] | None]]:
    """Yield the trades of each moment of a beat, and the touch behind them: lists of the fields of EVENT."""
    trades: list[list[int]] = []
    for event in beat.events.tolist():
        if trades and event[1] != trades[-1][1]:
            yield trades, None
            trades = []
        if event[0] == TRADE:
            trades.append(event)
        elif event[0] == TICKER and trades:
            yield trades, event
            trades = []
    if trades:
        yield trades, None


class _Session:
    # What one connection asked for.
    flavour = ""

    def __init__(self, wire: "_Wire"):
        self._wire, self.streams = wire, dict[str, str]()
        self._opened_s, self._beat_s, self._asked = math.nan, 0.0, False
        self._heard: deque[float] = deque(maxlen=_MESSAGES_S + 1)

    def open(self, moment: Moment) -> Reply:
        self._opened_s = moment.wall_s
        return Reply()

    def seal(self, stream: str, payload: str) -> str:
        return payload

    def tick(self, moment: Moment) -> Reply:
        if not self._asked and moment.wall_s - self._opened_s > _FIRST_S:
            return Reply(close=(1000, "no subscription within 5 seconds"))
        if moment.wall_s - self._beat_s < _BEAT_S:
            return Reply()
        self._beat_s = moment.wall_s
        products = [symbol for key, symbol in self.streams.items() if key.startswith("heartbeat:")]
        return Reply([self._wire.heartbeat(symbol, moment.now_ns) for symbol in products])

    def receive(self, text: str, moment: Moment) -> Reply:
        self._heard.append(moment.wall_s)
        if len(self._heard) == self._heard.maxlen and moment.wall_s - self._heard[0] < 1.0:
            return Reply(close=(1008, "rate limit exceeded"))
        try:
            asked = json.loads(text)
            kind, wanted = asked["type"], self._wanted(asked)
        except (ValueError, TypeError, KeyError, AttributeError):
            return Reply([_error("Malformed JSON", "")])
        if kind not in ("subscribe", "unsubscribe"):
            return Reply([_error("Failed to process", f"{kind} is not a valid message type")])
        for channel, product in wanted:
            if channel in _KEYED:
                return Reply([_error("Failed to subscribe", "level2, level3, and full channels now require authentication.")])
            if channel not in CHANNELS:
                return Reply([_error("Failed to subscribe", f"{channel} is not a valid channel")])
            if product not in self._wire.desks:
                return Reply([_error("Failed to subscribe", f"{product} is not a valid product")])
        keys = {f"{channel}:{product}": product for channel, product in wanted}
        if kind == "unsubscribe":
            self.streams = {key: symbol for key, symbol in self.streams.items() if key not in keys}
            return Reply([self._ack()])
        new = [key for key in keys if key not in self.streams and key.startswith(_BEGIN)]  # an active channel brings no new book
        self._asked, self.streams = True, self.streams | keys
        return Reply([self._ack()], snapshots=new)

    @staticmethod
    def _wanted(asked: dict[str, Any]) -> list[tuple[str, str]]:
        every, wanted = asked.get("product_ids", []), []
        for channel in asked["channels"]:
            name, products = (channel["name"], channel.get("product_ids", every)) if isinstance(channel, dict) else (channel, every)
            wanted += [("level2_batch" if name == "level2_50" else str(name), str(product).upper()) for product in products]
        return wanted

    def _ack(self) -> str:
        channels = [
            {"name": _NAMES.get(channel, channel), "product_ids": products}
            for channel in CHANNELS
            if (products := [symbol for key, symbol in self.streams.items() if key.startswith(channel + ":")])
        ]
        return _text({"type": "subscriptions", "channels": channels})


class _Wire:
    ping_s: tuple[float, float] = (0.0, 0.0)
    spoil: Mapping[str, re.Pattern[str]] = {}  # the book has no number and no checksum

    def __init__(self, venue: str, desks: Mapping[str, Desk]):
        self.venue, self.desks, self.budget = venue, desks, Budget(10, 1.0)
        self._sequence = dict.fromkeys(desks, 1_000_000)

    def session(self, path: str, query: Mapping[str, str]) -> _Session | None:
        return _Session(self) if path in ("", "/") else None

    def book_stream(self, raw_symbol: str) -> str:
        return f"level2_batch:{raw_symbol}"

    def heartbeat(self, raw_symbol: str, now_ns: int) -> str:
        desk = self.desks[raw_symbol]
        last = desk.recent[-1].id if desk.recent else 0
        told = {"last_trade_id": last, "product_id": raw_symbol, "sequence": self._next(raw_symbol), "time": stamp(now_ns)}
        return _text({"type": "heartbeat"} | told)

    def _next(self, raw_symbol: str) -> int:
        # The product's engine counts orders that these channels do not show.
        self._sequence[raw_symbol] += 3
        return self._sequence[raw_symbol]

    def messages(self, beat: Beat, wanted: Collection[str]) -> Iterable[Message]:
        desk, symbol = beat.desk, beat.desk.raw_symbol
        names = {channel: f"{channel}:{symbol}" for channel in CHANNELS}
        if names["matches"] in wanted or names["ticker"] in wanted:
            for trades, touch in printed(beat):
                for event in trades:
                    yield from (one for one in self._trade(desk, names, event, touch) if one.stream in wanted)
        if names["level2_batch"] in wanted and (depth := beat.depth) is not None:
            changes = [
                f'["{side}","{desk.price(tick)}","{desk.size(units)}"]'
                for side, rows in zip(("buy", "sell"), beat.changed(), strict=True)
                for tick, units in rows.tolist()
            ]
            if changes:
                ns = int(depth["exchange_ns"]) // 1000 * 1000
                told = f'{{"type":"l2update","product_id":"{symbol}","changes":[{",".join(changes)}],"time":"{stamp(ns)}"}}'
                yield Message(names["level2_batch"], told, BOOK, 0, ns)

    def _trade(self, desk: Desk, names: Mapping[str, str], event: list[int], touch: list[int] | None) -> Iterable[Message]:
        ns, sequence = event[1] // 1000 * 1000, self._next(desk.raw_symbol)
        yield Message(names["matches"], _match("match", desk, event[3], event[6], event[7], event[8], sequence, ns), TRADES, 0, ns)
        if touch is not None:
            bid, bid_size, ask, ask_size = touch[6:10]
            told = {
                "type": "ticker", "sequence": sequence, "product_id": desk.raw_symbol, "price": desk.price(event[6]),
                "best_bid": desk.price(bid), "best_bid_size": desk.size(bid_size), "best_ask": desk.price(ask),
                "best_ask_size": desk.size(ask_size), "side": "buy" if event[8] > 0 else "sell", "time": stamp(ns), "trade_id": event[3],
                "last_size": desk.size(event[7]),
            }  # fmt: skip
            yield Message(names["ticker"], _text(told), OTHER, 0, ns)

    def snapshot(self, stream: str, desk: Desk, moment: Moment) -> str | None:
        if stream.startswith("matches:"):
            if not desk.recent:
                return None
            last = desk.recent[-1]
            ns = last.exchange_ns // 1000 * 1000
            return _match("last_match", desk, last.id, last.tick, last.units, last.aggressor, self._sequence[desk.raw_symbol], ns)
        bids, asks = desk.top(EVERYTHING)
        told = {"type": "snapshot", "product_id": desk.raw_symbol, "asks": levels(desk, asks), "bids": levels(desk, bids)}
        return _text(told | {"time": stamp(desk.now_ns)})

    def trade_id(self, number: int) -> int:
        return number

    def restart(self, desk: Desk) -> bool:
        return False

    # -- REST -----------------------------------------------------------------------------

    def refusal(self, status: int, retry_after_s: float) -> Answer:
        return Answer(status, b'{"message":"Public rate limit exceeded"}', {"Retry-After": str(math.ceil(retry_after_s))})

    def rest(self, request: Request) -> Answer:
        status, wait_s = self.budget.take(1, request.moment.wall_s)
        if status != 200:
            return self.refusal(status, wait_s)
        parts = request.path.strip("/").split("/")
        if parts == ["products"]:
            return _answer([product(desk) for desk in self.desks.values()])
        if parts == ["currencies"]:
            return _answer([{"id": name, "name": name, "status": "online", "max_precision": "0.00000001"} for name in assets(self.desks)])
        if parts[0] != "products" or len(parts) > 3:
            return _answer({"message": "NotFound"}, 404)
        desk = self.desks.get(parts[1].upper())
        if desk is None:
            return _answer({"message": "NotFound"}, 404)
        match parts[2:]:
            case []:
                return _answer(product(desk))
            case ["book"]:
                return self._book(desk, request.query.get("level", "1"))
            case ["ticker"]:
                return self._ticker(desk)
        return _answer({"message": "NotFound"}, 404)

    def _book(self, desk: Desk, level: str) -> Answer:
        if level not in _LEVELS:
            return _answer({"message": "Invalid level"}, 400)
        book = desk.rest_book(_LEVELS[level])
        sides = {"bids": [[*row, 1] for row in levels(desk, book.bids)], "asks": [[*row, 1] for row in levels(desk, book.asks)]}
        return _answer(sides | {"sequence": self._sequence[desk.raw_symbol], "auction_mode": False, "time": stamp(book.exchange_ns)})

    def _ticker(self, desk: Desk) -> Answer:
        (bid, ask), last = ([levels(desk, side)[0] for side in desk.top(1)]), desk.recent[-1] if desk.recent else None
        told = {"ask": ask[0], "bid": bid[0], "volume": "1000.00000000"}
        if last is not None:
            told |= {"trade_id": last.id, "price": desk.price(last.tick), "size": desk.size(last.units), "time": stamp(last.exchange_ns)}
        return _answer(told)


def levels(desk: Desk, side: np.ndarray) -> list[list[str]]:
    """Return levels as pairs of text."""
    return [[desk.price(tick), desk.size(units)] for tick, units in side.tolist()]


def assets(desks: Mapping[str, Desk]) -> list[str]:
    """Return what the venue trades, each once."""
    return list(dict.fromkeys(name for desk in desks.values() for name in (desk.instrument.base, desk.instrument.quote)))


def product(desk: Desk) -> dict[str, object]:
    """Return what the venue says of a market."""
    made = desk.instrument
    return {
        "id": made.raw_symbol, "base_currency": made.base, "quote_currency": made.quote, "quote_increment": desk.price(1),
        "base_increment": desk.size(1), "display_name": made.raw_symbol.replace("-", "/"), "min_market_funds": "1", "margin_enabled": False,
        "post_only": False, "limit_only": False, "cancel_only": False, "status": "online", "status_message": "", "trading_disabled": False,
        "fx_stablecoin": False, "auction_mode": False,
    }  # fmt: skip


def _match(kind: str, desk: Desk, number: int, tick: int, units: int, aggressor: int, sequence: int, ns: int) -> str:
    order = f"{number:08x}-0000-4000-8000-{tick:012x}"
    told = {
        "type": kind, "trade_id": number, "maker_order_id": f"a{order[1:]}", "taker_order_id": f"b{order[1:]}",
        "side": "sell" if aggressor > 0 else "buy", "size": desk.size(units), "price": desk.price(tick), "product_id": desk.raw_symbol,
        "sequence": sequence, "time": stamp(ns),
    }  # fmt: skip
    return _text(told)


def _error(message: str, reason: str) -> str:
    return _text({"type": "error", "message": message, "reason": reason})


def _answer(body: object, status: int = 200) -> Answer:
    return Answer(status, _text(body).encode())


def _text(data: object) -> str:
    return json.dumps(data, separators=(",", ":"))


def wire(venue: str, desks: Mapping[str, Desk]) -> _Wire:
    """Return Coinbase Exchange over these markets."""
    return _Wire(venue, desks)
