"""Coinbase Advanced Trade as a simulated venue: level2, market_trades, ticker and heartbeats, and REST.

ws://host:port/    http://host:port/api/v3/brokerage/market/products    .../product_book?product_id=BTC-USD
"""

import json
import math
import re
from collections import deque
from collections.abc import Collection, Iterable, Mapping

from simulator.coinbase import EVERYTHING, assets, levels, printed, stamp
from simulator.desk import Beat, Desk, Trade
from simulator.protocol import BOOK, OTHER, TRADE, Answer, Budget, Message, Moment, Reply, Request

CHANNELS = ("level2", "market_trades", "ticker")
_BEGIN = ("level2", "market_trades", "ticker")
_FIRST_S, _BEAT_S, _QUIET_S, _MESSAGES_S = 5.0, 1.0, 75.0, 8
_BATCH_NS = 250_000_000  # market_trades
_SENT_NS = 1_234_567  # from the engine to the socket
_MARKET = "/api/v3/brokerage/market"


class _Session:
    # What one connection asked for; its messages are numbered, whatever they are.
    flavour = None

    def __init__(self, wire: "_Wire"):
        self._wire, self.streams = wire, dict[str, str]()
        self._opened_s, self._beat_s, self._asked, self._beats, self._counter, self._number = math.nan, 0.0, False, False, 0, 0
        self._heard: deque[float] = deque(maxlen=_MESSAGES_S + 1)

    def open(self, moment: Moment) -> Reply:
        self._opened_s = moment.wall_s
        return Reply()

    def seal(self, stream: str, payload: str) -> str:
        if '"events":' not in payload:
            return payload  # errors have no number
        text = payload.replace('"events":', f'"sequence_num":{self._number},"events":', 1)
        self._number += 1
        return text

    def tick(self, moment: Moment) -> Reply:
        if not self._asked and moment.wall_s - self._opened_s > _FIRST_S:
            return Reply(close=(1000, "no subscription within 5 seconds"))
        if not self._beats:
            return Reply(close=(1000, "no updates")) if moment.sent_s > _QUIET_S else Reply()
        if moment.wall_s - self._beat_s < _BEAT_S:
            return Reply()
        self._beat_s = moment.wall_s
        self._counter += 1
        event = {"current_time": stamp(moment.now_ns, 9).replace("T", " ").replace("Z", " +0000 UTC"), "heartbeat_counter": self._counter}
        return Reply([_message("heartbeats", moment.now_ns, [event])])

    def receive(self, text: str, moment: Moment) -> Reply:
        self._heard.append(moment.wall_s)
        if len(self._heard) == self._heard.maxlen and moment.wall_s - self._heard[0] < 1.0:
            return Reply([_error("rate limit exceeded")])
        try:
            asked = json.loads(text)
            kind, channel, products = asked["type"], asked["channel"], [str(product).upper() for product in asked.get("product_ids", [])]
        except (ValueError, TypeError, KeyError):
            return Reply([_error("failure to unmarshal message")])
        if kind not in ("subscribe", "unsubscribe") or channel not in (*CHANNELS, "heartbeats"):
            return Reply([_error(f"{kind} {channel} is not a valid subscription")])
        if channel == "heartbeats":
            self._asked, self._beats = True, kind == "subscribe"
            return Reply([self._ack(moment)])
        products = [self._wire.canonical(product) for product in products]
        if unknown := [product for product in products if product not in self._wire.desks]:
            return Reply([_error(f"{unknown[0]} is not a valid product")])
        keys = {f"{channel}:{product}": product for product in products}
        if kind == "unsubscribe":
            self.streams = {key: symbol for key, symbol in self.streams.items() if key not in keys}
            return Reply([self._ack(moment)])
        new = [key for key in keys if key not in self.streams]
        self._asked, self.streams = True, self.streams | keys
        ack = [self._ack(moment)]
        return Reply(snapshots=new, late=ack) if new else Reply(ack)  # the first data come before the ack

    def _ack(self, moment: Moment) -> str:
        told = {
            channel: products
            for channel in CHANNELS
            if (products := [symbol for key, symbol in self.streams.items() if key.startswith(channel + ":")])
        }
        return _message("subscriptions", moment.now_ns, [{"subscriptions": told | ({"heartbeats": ["heartbeats"]} if self._beats else {})}])


class _Wire:
    ping_s: tuple[float, float] = (0.0, 0.0)
    spoil: Mapping[str, re.Pattern[str]] = {"sequence": re.compile(r'"sequence_num":(\d+)')}

    def __init__(self, venue: str, desks: Mapping[str, Desk]):
        self.venue, self.desks, self.budget = venue, desks, Budget(10, 1.0)
        self._waiting: dict[str, list[Trade]] = {symbol: [] for symbol in desks}
        self._flush_ns = dict.fromkeys(desks, 0)

    def session(self, path: str, query: Mapping[str, str]) -> _Session | None:
        return _Session(self) if path in ("", "/") else None

    def book_stream(self, raw_symbol: str) -> str:
        return f"level2:{raw_symbol}"

    def canonical(self, product: str) -> str:
        """Return the product whose data are sent for another: those in USDC mirror their USD twin."""
        twin = product.removesuffix("C") if product.endswith("-USDC") else product
        return twin if product not in self.desks and twin in self.desks else product

    def messages(self, beat: Beat, wanted: Collection[str]) -> Iterable[Message]:
        desk, symbol = beat.desk, beat.desk.raw_symbol
        level2, trades, ticker = (f"{channel}:{symbol}" for channel in CHANNELS)
        if ticker in wanted:
            for _, touch in printed(beat):
                if touch is not None:
                    yield Message(ticker, self._ticker("update", desk, touch[6:10], touch[1]), OTHER, 0, touch[1])
        if trades in wanted:
            yield from self._trades(beat, trades)
        if level2 in wanted and (depth := beat.depth) is not None:
            ns = int(depth["exchange_ns"]) // 1000 * 1000
            bids, asks = (rows.tolist() for rows in beat.changed())
            if bids or asks:
                yield Message(level2, self._book("update", desk, bids, asks, ns, stamp(ns)), BOOK, 0, ns)

    def _trades(self, beat: Beat, stream: str) -> Iterable[Message]:
        desk, symbol = beat.desk, beat.desk.raw_symbol
        waiting = self._waiting[symbol]
        if waiting and beat.desk.now_ns - waiting[0].exchange_ns > 10 * _BATCH_NS:
            waiting.clear()  # nobody listened meanwhile
        waiting += beat.trades()
        if waiting and desk.now_ns >= self._flush_ns[symbol]:
            self._flush_ns[symbol] = (desk.now_ns // _BATCH_NS + 1) * _BATCH_NS
            text = self._printed("update", desk, waiting, desk.now_ns)
            last_ns = waiting[-1].exchange_ns // 1000 * 1000
            waiting.clear()
            yield Message(stream, text, TRADE, 0, last_ns)

    def snapshot(self, stream: str, desk: Desk, moment: Moment) -> str | None:
        now_ns, symbol = desk.now_ns, desk.raw_symbol
        if stream.startswith("market_trades:"):
            first = self._waiting[symbol][0].id if self._waiting[symbol] else 1 << 62
            return self._printed("snapshot", desk, [trade for trade in desk.recent if trade.id < first], now_ns)
        bids, asks = (side.tolist() for side in desk.top(1 if stream.startswith("ticker:") else EVERYTHING))
        if stream.startswith("ticker:"):
            return self._ticker("snapshot", desk, [*bids[0], *asks[0]], now_ns)
        return self._book("snapshot", desk, bids, asks, now_ns, "1970-01-01T00:00:00Z")

    def _book(self, kind: str, desk: Desk, bids: list[list[int]], asks: list[list[int]], ns: int, event_time: str) -> str:
        rows = ",".join(
            f'{{"side":"{side}","event_time":"{event_time}","price_level":"{desk.price(tick)}","new_quantity":"{desk.size(units)}"}}'
            for side, levels in (("bid", bids), ("offer", asks))
            for tick, units in levels
        )
        event = f'{{"type":"{kind}","product_id":"{desk.raw_symbol}","updates":[{rows}]}}'
        sent_ns = ns + _SENT_NS if kind == "update" else ns // 1000 * 1000
        return f'{{"channel":"l2_data","timestamp":"{stamp(sent_ns, 9)}","events":[{event}]}}'

    @staticmethod
    def _printed(kind: str, desk: Desk, trades: Iterable[Trade], now_ns: int) -> str:
        rows = [_print(desk, trade) for trade in trades]
        return _message("market_trades", now_ns + _SENT_NS, [{"type": kind, "trades": rows[::-1]}])

    @staticmethod
    def _ticker(kind: str, desk: Desk, touch: list[int], ns: int) -> str:
        bid, bid_size, ask, ask_size = touch
        told = {
            "type": "ticker", "product_id": desk.raw_symbol, "price": desk.price(bid), "volume_24_h": "1000", "best_bid": desk.price(bid),
            "best_ask": desk.price(ask), "best_bid_quantity": desk.size(bid_size), "best_ask_quantity": desk.size(ask_size),
        }  # fmt: skip
        return _message("ticker", ns + _SENT_NS, [{"type": kind, "tickers": [told]}])

    def trade_id(self, number: int) -> int:
        return number

    def restart(self, desk: Desk) -> bool:
        return False

    # -- REST -----------------------------------------------------------------------------

    def refusal(self, status: int, retry_after_s: float) -> Answer:
        body = b'{"error":"rate_limit_exceeded","message":"too many requests"}'
        return Answer(status, body, {"Retry-After": str(math.ceil(retry_after_s))})

    def rest(self, request: Request) -> Answer:
        status, wait_s = self.budget.take(1, request.moment.wall_s)
        if status != 200:
            return self.refusal(status, wait_s)
        path = request.path.rstrip("/")
        if path == f"{_MARKET}/products":
            products = [_product(desk) for desk in self.desks.values()]
            return _answer({"products": products, "num_products": len(products)})
        if path == f"{_MARKET}/product_book":
            return self._rest_book(request)
        if path.startswith("/v2/currencies"):
            return _answer({"data": [{"id": name, "code": name, "name": name, "min_size": "0.01"} for name in assets(self.desks)]})
        if path == "/v2/exchange-rates":
            return _answer({"data": {"currency": "USD", "rates": {}}})
        desk = self.desks.get(path.rpartition("/")[2].upper()) if path.startswith(f"{_MARKET}/products/") else None
        return _answer(_product(desk)) if desk else _answer({"error": "NOT_FOUND", "message": f"no such path: {path}"}, 404)

    def _rest_book(self, request: Request) -> Answer:
        desk = self.desks.get(self.canonical(request.query.get("product_id", "").upper()))
        limit = request.query.get("limit", "100")
        if desk is None or not limit.isdigit():
            return _answer({"error": "INVALID_ARGUMENT", "message": "valid product_id and limit are required"}, 400)
        book = desk.rest_book(int(limit))
        sides = {
            name: [{"price": price, "size": size} for price, size in levels(desk, side)]
            for name, side in (("bids", book.bids), ("asks", book.asks))
        }
        return _answer({"pricebook": {"product_id": desk.raw_symbol, **sides, "time": stamp(book.exchange_ns)}})


def _product(desk: Desk) -> dict[str, object]:
    made, (bid, ask) = desk.instrument, (levels(desk, side)[0] for side in desk.top(1))
    return {
        "product_id": made.raw_symbol, "price": bid[0], "base_increment": desk.size(1), "quote_increment": desk.price(1),
        "price_increment": desk.price(1), "base_currency_id": made.base, "quote_currency_id": made.quote, "product_type": "SPOT",
        "status": "online", "trading_disabled": False, "is_disabled": False, "cancel_only": False, "limit_only": False, "post_only": False,
        "view_only": False, "base_min_size": desk.size(1), "base_max_size": "100000", "quote_min_size": "1", "quote_max_size": "10000000",
        "volume_24h": "1000", "price_percentage_change_24h": "0", "alias": "", "alias_to": [f"{made.base}-USDC"], "best_ask": ask[0],
        "product_venue": "CBE",
    }  # fmt: skip


def _print(desk: Desk, trade: Trade) -> dict[str, object]:
    return {
        "product_id": desk.raw_symbol, "trade_id": str(trade.id), "price": desk.price(trade.tick), "size": desk.size(trade.units),
        "time": stamp(trade.exchange_ns), "side": "SELL" if trade.aggressor > 0 else "BUY",
    }  # fmt: skip


def _message(channel: str, ns: int, events: list[dict[str, object]]) -> str:
    return json.dumps({"channel": channel, "timestamp": stamp(ns, 9), "events": events}, separators=(",", ":"))


def _error(message: str) -> str:
    return json.dumps({"type": "error", "message": message}, separators=(",", ":"))


def _answer(body: object, status: int = 200) -> Answer:
    return Answer(status, json.dumps(body, separators=(",", ":")).encode())


def wire(venue: str, desks: Mapping[str, Desk]) -> _Wire:
    """Return Coinbase Advanced Trade over these markets."""
    return _Wire(venue, desks)
