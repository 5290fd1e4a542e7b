"""Kraken as a simulated venue: WebSocket v2 with books under a checksum, and REST.

ws://host:port/v2    http://host:port/0/public/AssetPairs    /0/public/Depth?pair=XBTUSD    /0/public/Assets

Fields and their order are those of captured frames (2026-08 and 2026-10).
"""

import json
import math
import re
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from typing import Any
from zlib import crc32

import numpy as np

from simulator import history_other
from simulator.coinbase import stamp
from simulator.desk import Beat, Desk, Trade, View
from simulator.protocol import BOOK, OTHER, TRADE, Answer, Budget, Message, Moment, Reply, Request

DEPTHS = (10, 25, 100, 500, 1000)
_CHECKED, _HISTORY = 10, 50
_BEAT_S, _IDLE_S, _MESSAGES_S = 1.0, 60.0, 50
_CLASSIC = {"BTC": "XXBT", "ETH": "XETH", "DOGE": "XXDG", "USD": "ZUSD", "EUR": "ZEUR"}
_ALTNAME = {"BTC": "XBT", "DOGE": "XDG"}


class _Session:
    """One connection: pairs asked for, answered one by one."""

    flavour = ""

    def __init__(self, desks: Mapping[str, Desk]):
        self._desks, self.streams = desks, dict[str, str]()
        self._bare_s = math.inf  # since when nothing is subscribed to
        self._heard: deque[float] = deque(maxlen=_MESSAGES_S + 1)

    def open(self, moment: Moment) -> Reply:
        self._bare_s = moment.wall_s
        told = '"version":"2.0.10","system":"online","api_version":"v2","connection_id":17430426584990712345'
        return Reply([f'{{"channel":"status","type":"update","data":[{{{told}}}]}}'])

    def seal(self, stream: str, payload: str) -> str:
        return payload

    def tick(self, moment: Moment) -> Reply:
        if self.streams:
            self._bare_s = moment.wall_s
        elif moment.wall_s - self._bare_s > _IDLE_S:
            return Reply(close=(1000, "no subscription"))
        return Reply(['{"channel":"heartbeat"}'] if self.streams and moment.sent_s > _BEAT_S else ())

    def receive(self, text: str, moment: Moment) -> Reply:
        self._heard.append(moment.wall_s)
        when = f'"time_in":"{stamp(moment.now_ns)}","time_out":"{stamp(moment.now_ns)}"'
        try:
            asked = json.loads(text)
            method, params, number = asked["method"], asked.get("params", {}), asked.get("req_id")
            channel, pairs = params.get("channel", ""), params.get("symbol", [])
            depth, history = int(params.get("depth", 10)), params.get("snapshot", True)
        except (ValueError, KeyError, TypeError, AttributeError):
            return Reply([f'{{"error":"Malformed request","success":false,{when}}}'])
        if number is not None:
            when = f'"req_id":{json.dumps(number)},{when}'
        if method == "ping":
            return Reply([f'{{"method":"pong",{when}}}'])

        def refuse(error: str, pair: str = "") -> str:
            named = f'"symbol":{json.dumps(pair)},' if pair else ""
            return f'{{"error":{json.dumps(error)},"method":{json.dumps(method)},"success":false,{named}{when}}}'

        if len(self._heard) == self._heard.maxlen and moment.wall_s - self._heard[0] < 1.0:
            return Reply([refuse("Exceeded msg rate")])
        if method not in ("subscribe", "unsubscribe") or channel not in ("book", "trade"):
            return Reply([refuse("Unsupported channel" if method.endswith("subscribe") else "Unsupported method")])
        if depth not in DEPTHS:
            return Reply([refuse("Depth not in accepted range")])
        frames, new = [], []
        for pair in pairs:
            key, told = f"trade:{pair}", f'"channel":"{channel}"'
            if channel == "book":
                key, told = f"book-{depth}:{pair}", f'{told},"depth":{depth}'
            if pair not in self._desks:
                frames.append(refuse(f"Currency pair not supported {pair}", pair))
            elif (key in self.streams) == (method == "subscribe"):
                frames.append(refuse("Already subscribed" if key in self.streams else "Subscription Not Found", pair))
            else:
                told += f',"snapshot":{json.dumps(history)}' if method == "subscribe" else ""
                frames.append(f'{{"method":"{method}","result":{{{told},"symbol":"{pair}"}},"success":true,{when}}}')
                new.append((key, pair))
        if method == "unsubscribe":
            self.streams = {key: pair for key, pair in self.streams.items() if (key, pair) not in new}
            return Reply(frames)
        self.streams = self.streams | dict(new)
        return Reply(frames, snapshots=[key for key, _ in new] if history else ())


class _Wire:
    ping_s: tuple[float, float] = (0.0, 0.0)
    ledger_depth = 10

    def __init__(self, venue: str, desks: Mapping[str, Desk]):
        self.venue, self.desks, self.budget = venue, desks, Budget(60, 60.0)
        self.spoil = {"checksum": re.compile(r'"checksum":(\d+)')}
        self._views = {(symbol, depth): View(depth, tells_pushed_out=False) for symbol in desks for depth in DEPTHS}
        self._stamp_ns = dict.fromkeys(desks, 0)
        self._pads = {symbol: ("0" * desk.instrument.price_pad, "0" * desk.instrument.size_pad) for symbol, desk in desks.items()}

    def session(self, path: str, query: Mapping[str, str]) -> _Session | None:
        return _Session(self.desks) if path == "/v2" else None

    def book_stream(self, raw_symbol: str) -> str:
        return f"book-10:{raw_symbol}"

    def messages(self, beat: Beat, wanted: Collection[str]) -> Iterable[Message]:
        desk, symbol = beat.desk, beat.desk.raw_symbol
        if f"trade:{symbol}" in wanted and (trades := beat.trades()):
            yield Message(f"trade:{symbol}", _trades(desk, trades, "update"), TRADE, 0, trades[-1].exchange_ns // 1000 * 1000)
        if beat.depth is None:
            return
        ns = int(beat.depth["exchange_ns"]) // 1000 * 1000
        for depth in DEPTHS:
            stream = f"book-{depth}:{symbol}"
            if stream in wanted:
                view = self._views[symbol, depth]
                bids, asks = view.turn(desk)
                if bids or asks:
                    self._stamp_ns[symbol] = ns
                    yield Message(stream, self._book(desk, view, "update", bids, asks, ns), BOOK if depth == 10 else OTHER, 0, ns)

    def snapshot(self, stream: str, desk: Desk, moment: Moment) -> str | None:
        if stream.startswith("trade:"):
            return _trades(desk, list(desk.recent)[-_HISTORY:], "snapshot") if desk.recent else None
        view = self._views[desk.raw_symbol, int(stream.partition(":")[0].removeprefix("book-"))]
        if not len(view.bids) and not len(view.asks):
            view.turn(desk)
        ns = self._stamp_ns[desk.raw_symbol] or desk.now_ns // 1000 * 1000
        return self._book(desk, view, "snapshot", view.bids.tolist(), view.asks.tolist(), ns)

    def _book(self, desk: Desk, view: View, kind: str, bids: list[list[int]], asks: list[list[int]], ns: int) -> str:
        price, size = desk.price, desk.size
        sides = [",".join([f'{{"price":{price(tick)},"qty":{size(units)}}}' for tick, units in side]) for side in (bids, asks)]
        told = f'"symbol":"{desk.raw_symbol}","bids":[{sides[0]}],"asks":[{sides[1]}],"checksum":{self.checksum(desk, view)}'
        return f'{{"channel":"book","type":"{kind}","data":[{{{told},"timestamp":"{stamp(ns)}"}}]}}'

    def checksum(self, desk: Desk, view: View) -> int:
        """Return the checksum of what a stream shows: whole ticks and units are numbers without dot and leading zeros."""
        ends = self._pads[desk.raw_symbol]
        rows = view.asks[:_CHECKED].tolist() + view.bids[:_CHECKED].tolist()
        return crc32("".join([f"{tick}{ends[0]}{units}{ends[1]}" for tick, units in rows]).encode())

    def trade_id(self, number: int) -> int:
        return number

    def restart(self, desk: Desk) -> bool:
        return False

    # -- REST -----------------------------------------------------------------------------

    def refusal(self, status: int, retry_after_s: float) -> Answer:
        return Answer(status, b'{"error":["EGeneral:Too many requests"]}', {"Retry-After": str(math.ceil(retry_after_s))})

    def rest(self, request: Request) -> Answer:
        status, wait_s = self.budget.take(1, request.moment.wall_s)
        if status != 200:
            return self.refusal(status, wait_s)
        desks = self._named(request.query.get("pair", ""))
        match request.path:
            case "/0/public/AssetPairs":
                return _answer({_rest_name(desk): pair(desk) for desk in desks or self.desks.values()})
            case "/0/public/Assets":
                names = dict.fromkeys(n for desk in self.desks.values() for n in (desk.instrument.base, desk.instrument.quote))
                made = {"aclass": "currency", "decimals": 10, "display_decimals": 5, "status": "enabled"}
                return _answer({_CLASSIC.get(name, name): {"altname": _ALTNAME.get(name, name)} | made for name in names})
            case "/0/public/Depth" if len(desks) == 1:
                count = int(request.query.get("count", "100"))
                return _answer({_rest_name(desks[0]): _rest_book(desks[0], min(count, 500))})
            case "/0/public/OHLC" if len(desks) == 1:
                found = history_other.kraken(desks[0], request.query, request.moment.now_ns // 1_000_000)
                if found is None:
                    return _answer({}, "EGeneral:Invalid arguments")
                return _answer({_rest_name(desks[0]): found[0], "last": found[1]})
            case "/0/public/Depth" | "/0/public/OHLC":
                return _answer({}, "EQuery:Unknown asset pair")
        return _answer({}, "EGeneral:Unknown method")

    def _named(self, names: str) -> list[Desk]:
        asked = {name.upper() for name in names.split(",")}
        return [desk for desk in self.desks.values() if asked & {desk.raw_symbol, _rest_name(desk), _altname(desk)}]


def _trades(desk: Desk, trades: list[Trade], kind: str) -> str:
    rows = [
        f'{{"symbol":"{desk.raw_symbol}","side":"{"buy" if trade.aggressor > 0 else "sell"}","price":{desk.price(trade.tick)},'
        f'"qty":{desk.size(trade.units)},"ord_type":"market","trade_id":{trade.id},"timestamp":"{stamp(trade.exchange_ns)}"}}'
        for trade in trades
    ]
    return f'{{"channel":"trade","type":"{kind}","data":[{",".join(rows)}]}}'


def _altname(desk: Desk) -> str:
    return "".join(_ALTNAME.get(name, name) for name in (desk.instrument.base, desk.instrument.quote))


def _rest_name(desk: Desk) -> str:
    names = desk.instrument.base, desk.instrument.quote
    return "".join(_CLASSIC[name] for name in names) if all(name in _CLASSIC for name in names) else _altname(desk)


def pair(desk: Desk) -> dict[str, object]:
    """Return what the venue says of a market."""
    made = desk.instrument
    base, quote = made.base, made.quote
    return {
        "altname": _altname(desk), "wsname": f"{_ALTNAME.get(base, base)}/{quote}", "aclass_base": "currency", "lot": "unit",
        "base": _CLASSIC.get(base, base), "aclass_quote": "currency", "quote": _CLASSIC.get(quote, quote), "cost_decimals": 5,
        "pair_decimals": made.price_decimals + made.price_pad, "lot_decimals": made.size_decimals + made.size_pad, "lot_multiplier": 1,
        "leverage_buy": [], "leverage_sell": [], "fees": [[0, 0.4]], "fees_maker": [[0, 0.25]], "fee_volume_currency": "ZUSD",
        "margin_call": 80, "margin_stop": 40, "ordermin": desk.size(1), "costmin": "0.5", "tick_size": desk.price(1), "status": "online",
    }  # fmt: skip


def _rest_book(desk: Desk, count: int) -> dict[str, Any]:
    book = desk.rest_book(count)
    when = book.exchange_ns // 1_000_000_000
    return {
        name: [[desk.price(tick), desk.size(units), when] for tick, units in np.asarray(side).tolist()]
        for name, side in (("asks", book.asks), ("bids", book.bids))
    }


def _answer(result: dict[str, Any], error: str = "") -> Answer:
    return Answer(200, json.dumps({"error": [error] if error else []} | ({} if error else {"result": result})).encode())


def wire(venue: str, desks: Mapping[str, Desk]) -> _Wire:
    """Return Kraken's spot market over its pairs."""
    return _Wire(venue, desks)
