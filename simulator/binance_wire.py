"""Binance as a simulated venue: routes, requests, REST and their limits.

ws://host:port/stream?streams=a/b    ws://host:port/ws/a    (USD-M: under /public or /market)
http://host:port/api/v3/depth        /fapi/v1/depth         /dapi/v1/depth, and exchangeInfo
"""

import json
import math
import re
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from simulator import binance
from simulator.desk import Beat, Desk
from simulator.protocol import BOOK, OTHER, TRADE, Answer, Budget, Message, Moment, Reply, Request

# Which feeds each route really delivers; the others are acknowledged and stay silent (seen 2026-09).
ROUTES = {
    "binance_spot": {"": set(binance.FEEDS)},
    "binance_usdm": {"": {"bookTicker", "trade"}, "/public": {"depth", "bookTicker", "trade"}, "/market": {"aggTrade"}},
    "binance_coinm": {"": set(binance.FEEDS)},
}
_PING_S = {"binance_spot": (20.0, 60.0), "binance_usdm": (180.0, 600.0), "binance_coinm": (180.0, 600.0)}
_REQUESTS_S = {"binance_spot": 5, "binance_usdm": 10, "binance_coinm": 10}
_MOST_STREAMS = 1024
_BAN_S = 120.0  # the shortest; repeated ones last up to three days
_KIND = {"depth": BOOK, "trade": TRADE, "aggTrade": TRADE, "bookTicker": OTHER}
_WORDS = {
    429: "Too much request weight used; please use the websocket for live updates.",
    418: "Way too much request weight used; IP banned. Please use the websocket for live updates to avoid bans.",
}


class _Session:
    # What one connection asked for.
    def __init__(self, wire: "_Wire", route: str, is_combined: bool, streams: Iterable[str]):
        self._wire, self._route, self.flavour = wire, route, is_combined
        self._asked = dict.fromkeys(streams)
        self._heard: deque[float] = deque(maxlen=_REQUESTS_S[wire.venue] + 1)
        self.streams: dict[str, str] = {}
        self._seat()

    def _seat(self) -> None:
        # Names that cannot be delivered on this route are kept, and stay silent.
        known, feeds = self._wire.feeds, ROUTES[self._wire.venue][self._route]
        self.streams = {name: known[name][0] for name in self._asked if name in known and known[name][1] in feeds}

    def open(self, moment: Moment) -> Reply:
        return Reply()

    def tick(self, moment: Moment) -> Reply:
        return Reply()

    def seal(self, stream: str, payload: str) -> str:
        return f'{{"stream":"{stream}","data":{payload}}}' if stream and self.flavour else payload

    def leave(self, moment: Moment) -> Reply:
        """Announce the end of the connection, as Binance does since 2026-05."""
        event = f'{{"e":"serverShutdown","E":{moment.now_ns // 1_000_000}}}'
        return Reply([self.seal("!serverShutdown", event)])

    def receive(self, text: str, moment: Moment) -> Reply:
        self._heard.append(moment.wall_s)
        if len(self._heard) == self._heard.maxlen and moment.wall_s - self._heard[0] < 1.0:
            return Reply(close=(1008, "Too many requests"))
        return Reply([json.dumps(self._answer(text), separators=(",", ":"))])

    def _answer(self, text: str) -> dict[str, object]:
        try:
            asked = json.loads(text)
        except ValueError as error:
            return {"code": 3, "msg": f"Invalid JSON: {error}"}
        if not isinstance(asked, dict):
            return {"code": 2, "msg": "Invalid request: expected an object"}
        id_, method, params = asked.get("id"), asked.get("method"), asked.get("params", [])
        strings = isinstance(params, list) and all(isinstance(name, str) for name in params)
        match method:
            case "SUBSCRIBE" | "UNSUBSCRIBE" if not strings or not params:
                return {"code": 2, "msg": "Invalid request: params must be an array of stream names", "id": id_}
            case "SUBSCRIBE" if len(self._asked | dict.fromkeys(params)) > _MOST_STREAMS:
                return {"code": 2, "msg": f"Invalid request: more than {_MOST_STREAMS} streams", "id": id_}
            case "SUBSCRIBE":
                self._asked |= dict.fromkeys(params)
            case "UNSUBSCRIBE":
                self._asked = {name: None for name in self._asked if name not in params}
            case "LIST_SUBSCRIPTIONS":
                return {"result": list(self._asked), "id": id_}
            case "SET_PROPERTY":
                if not isinstance(params, list) or len(params) != 2 or params[0] != "combined" or not isinstance(params[1], bool):
                    return {"code": 0, "msg": "Unknown property", "id": id_}
                self.flavour = params[1]
            case _:
                return {"code": 2, "msg": f"Invalid request: unknown variant `{method}`", "id": id_}
        self._seat()
        return {"result": None, "id": id_}


class _Wire:
    spoil: Mapping[str, re.Pattern[str]]

    def __init__(self, venue: str, desks: Mapping[str, Desk]):
        self.venue, self.desks, self.ping_s = venue, desks, _PING_S[venue]
        self.spoil = MappingProxyType({"sequence": re.compile(r'"U":(\d+)' if venue == "binance_spot" else r'"pu":(\d+)')})
        self._texts = {symbol: binance.Wire(desk.instrument) for symbol, desk in desks.items()}
        self._names = {symbol: {name: feed for feed, name in text.stream_names().items()} for symbol, text in self._texts.items()}
        self.feeds = {name: (symbol, feed) for symbol, names in self._names.items() for name, feed in names.items()}
        self.budget = Budget(binance.WEIGHT_LIMIT[venue], 60.0, _BAN_S)

    def session(self, path: str, query: Mapping[str, str]) -> _Session | None:
        route = next((route for route in ROUTES[self.venue] if route and path.startswith(route + "/")), "")
        path = path.removeprefix(route)
        if not path.startswith(("/ws", "/stream")):
            return None
        is_combined = path.startswith("/stream")
        names = query.get("streams", "") if is_combined else path.removeprefix("/ws").strip("/")
        return _Session(self, route, is_combined, filter(None, names.split("/")))

    def book_stream(self, raw_symbol: str) -> str:
        return self._texts[raw_symbol].stream_names()["depth"]

    def messages(self, beat: Beat, wanted: Collection[str]) -> Iterable[Message]:
        if not len(beat.events):
            return
        symbol = beat.desk.raw_symbol
        known = self._names[symbol]
        streams = {known[name]: name for name in wanted}
        number, stamp_ns = 0, 0
        if (depth := beat.depth) is not None:
            # The time of a book is T, of the matching engine, where there is one; spot has E alone.
            number, stamp_ns = int(depth["id"]), int(depth["exchange_ns" if self.venue == "binance_spot" else "transact_ns"])
        for exchange_ns, feed, payload in self._texts[symbol].messages(beat.events, beat.levels, streams):
            if feed == "depth":
                yield Message(streams[feed], payload, BOOK, number, stamp_ns // 1_000_000 * 1_000_000)
            else:
                yield Message(streams[feed], payload, _KIND[feed], 0, exchange_ns)

    def snapshot(self, stream: str, desk: Desk, moment: Moment) -> str | None:
        return None

    def trade_id(self, number: int) -> int:
        return number

    def restart(self, desk: Desk) -> bool:
        return False

    # -- REST -----------------------------------------------------------------------------

    def refusal(self, status: int, retry_after_s: float) -> Answer:
        body = json.dumps({"code": -1003, "msg": _WORDS.get(status, "Service unavailable.")}).encode()
        return Answer(status, body, self._headers() | {"Retry-After": str(math.ceil(retry_after_s))})

    def _headers(self) -> dict[str, str]:
        return {"X-MBX-USED-WEIGHT-1M": str(int(self.budget.used))}

    def rest(self, request: Request) -> Answer:
        try:
            weight, make = self._find(request.path, request.query)
            status, wait_s = self.budget.take(weight, request.moment.wall_s)
            if status != 200:
                return self.refusal(status, wait_s)
            return Answer(200, make(), self._headers())
        except binance.RequestError as error:
            return Answer(error.status, json.dumps({"code": error.code, "msg": error.msg}).encode(), self._headers())

    def _find(self, path: str, query: Mapping[str, str]) -> tuple[int, Any]:
        if path == binance.REST_INFO[self.venue]:
            return 20, lambda: json.dumps(binance.exchange_info(desk.instrument for desk in self.desks.values())).encode()
        if path != binance.REST_DEPTH[self.venue]:
            raise binance.RequestError(404, -1, f"no such path: {path}")
        symbol, limit, weight = binance.depth_request(self.venue, query)
        if symbol not in self.desks:
            raise binance.RequestError(400, -1121, "Invalid symbol.")

        def make() -> bytes:
            book = self.desks[symbol].rest_book(limit)
            return self._texts[symbol].snapshot(book.update_id, book.bids, book.asks, book.exchange_ns)

        return weight, make


def wire(venue: str, desks: Mapping[str, Desk]) -> _Wire:
    """Return Binance spot, USD-M or COIN-M over these markets."""
    return _Wire(venue, desks)
