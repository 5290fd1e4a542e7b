"""Hyperliquid as it is written on the wire: whole books, trades with history first, instruments.

Fields are those of captured frames (2025-01, 2026-08).
"""

import json
import math
from collections.abc import Collection, Iterable, Mapping

import numpy as np

from simulator import history_other
from simulator.desk import Beat, Desk, Trade, View
from simulator.protocol import BOOK, TRADE, Answer, Budget, Message, Moment, Reply, Request

_FAST, _PLAIN = 5, 20  # levels of the two kinds of book
_PLAIN_NS = 5_000_000_000  # cadence of the plain book since 2026-07-25
_HISTORY = 30  # trades sent on subscription


class _Session:
    """One connection; a subscription a message."""

    flavour = ""

    def __init__(self, desks: Mapping[str, Desk]):
        self._desks = desks
        self.streams: dict[str, str] = {}

    def open(self, moment: Moment) -> Reply:
        return Reply(("Websocket connection established.",))

    def receive(self, text: str, moment: Moment) -> Reply:
        try:
            asked = json.loads(text)
            method = asked["method"]
            if method == "ping":
                return Reply(('{"channel":"pong"}',))
            told = asked["subscription"]
            kind, coin = told["type"], told["coin"]
        except (ValueError, KeyError, TypeError):
            return Reply((_error(f"Error parsing JSON into valid websocket request: {text}"),))
        if kind not in ("l2Book", "trades") or coin not in self._desks or method not in ("subscribe", "unsubscribe"):
            return Reply((_error(f"Invalid subscription {json.dumps(told, separators=(',', ':'))}"),))
        is_fast = bool(told.get("fast"))
        stream = f"l2Book.{'fast' if is_fast else 'plain'}.{coin}" if kind == "l2Book" else f"trades.{coin}"
        normal = {"type": kind, "coin": coin} | ({"nSigFigs": None, "mantissa": None, "fast": is_fast} if kind == "l2Book" else {})
        answer = json.dumps({"channel": "subscriptionResponse", "data": {"method": method, "subscription": normal}}, separators=(",", ":"))
        if method == "unsubscribe":
            self.streams = {key: symbol for key, symbol in self.streams.items() if key != stream}
            return Reply((answer,))
        if stream in self.streams:
            return Reply((_error(f"Already subscribed: {json.dumps(normal, separators=(',', ':'))}"),))
        self.streams = self.streams | {stream: coin}
        return Reply((answer,), snapshots=(stream,))

    def seal(self, stream: str, payload: str) -> str:
        return payload

    def tick(self, moment: Moment) -> Reply:
        return Reply(close=(1000, "Inactive")) if moment.sent_s > 60.0 else Reply()


class _Wire:
    ping_s, ledger_depth = (0.0, 0.0), _FAST
    spoil: Mapping = {}  # no number and no checksum to damage

    def __init__(self, venue: str, desks: Mapping[str, Desk]):
        self.venue, self.desks = venue, desks
        self.budget = Budget(1200.0, 60.0)
        self._views = {(symbol, depth): View(depth) for symbol in desks for depth in (_FAST, _PLAIN)}
        self._ms = dict.fromkeys(self._views, 0)

    def session(self, path: str, query: Mapping[str, str]) -> _Session | None:
        return _Session(self.desks) if path == "/ws" else None

    def book_stream(self, raw_symbol: str) -> str:
        return f"l2Book.fast.{raw_symbol}"

    def messages(self, beat: Beat, wanted: Collection[str]) -> Iterable[Message]:
        desk, symbol = beat.desk, beat.desk.raw_symbol
        trades = beat.trades()
        if trades and f"trades.{symbol}" in wanted:
            yield Message(f"trades.{symbol}", self._trades(desk, trades), TRADE)
        if beat.depth is None:
            return
        ms = int(beat.depth["exchange_ns"]) // 1_000_000
        for name, depth in (("fast", _FAST), ("plain", _PLAIN)):
            stream, key = f"l2Book.{name}.{symbol}", (symbol, depth)
            if stream not in wanted or (name == "plain" and (ms - self._ms[key]) * 1_000_000 < _PLAIN_NS):
                continue
            self._views[key].turn(desk)
            self._ms[key] = ms
            yield Message(stream, self._book(desk, depth), BOOK, ms, ms * 1_000_000)

    def snapshot(self, stream: str, desk: Desk, moment: Moment) -> str | None:
        if stream.startswith("trades"):
            return self._trades(desk, list(desk.recent)[: -_HISTORY - 1 : -1]) if desk.recent else None
        depth = _FAST if ".fast." in stream else _PLAIN
        key = desk.raw_symbol, depth
        if not self._ms[key]:
            self._views[key].turn(desk)
            self._ms[key] = desk.now_ns // 1_000_000
        return self._book(desk, depth)

    def _book(self, desk: Desk, depth: int) -> str:
        view, is_fast = self._views[desk.raw_symbol, depth], "true" if depth == _FAST else "false"
        sides = ",".join(f"[{_levels(desk, side)}]" for side in (view.bids, view.asks))
        when = self._ms[desk.raw_symbol, depth]
        return f'{{"channel":"l2Book","data":{{"coin":"{desk.raw_symbol}","time":{when},"levels":[{sides}],"fast":{is_fast}}}}}'

    def _trades(self, desk: Desk, trades: list[Trade]) -> str:
        rows = ",".join(
            f'{{"coin":"{desk.raw_symbol}","side":"{"B" if trade.aggressor > 0 else "A"}","px":"{_short(desk.price(trade.tick))}",'
            f'"sz":"{_short(desk.size(trade.units))}","time":{trade.exchange_ns // 1_000_000},"hash":"0x{trade.id:064x}",'
            f'"tid":{self.trade_id(trade.id)},"users":["0x{1:040x}","0x{2:040x}"]}}'
            for trade in trades
        )
        return f'{{"channel":"trades","data":[{rows}]}}'

    def trade_id(self, number: int) -> int:
        return number * 0x2545F4914F6CDD1D % (1 << 50)  # neither ordered nor contiguous

    def restart(self, desk: Desk) -> bool:
        return False

    def refusal(self, status: int, retry_after_s: float) -> Answer:
        return Answer(status, b"null", {"Retry-After": str(math.ceil(retry_after_s))})

    def rest(self, request: Request) -> Answer:
        if request.path != "/info":
            return Answer(404)
        try:
            asked = json.loads(request.body)
            kind = asked["type"]
        except (ValueError, KeyError, TypeError):
            return Answer(422, b"Failed to deserialize the JSON body into the target type")
        status, wait_s = self.budget.take(2.0 if kind == "l2Book" else 20.0, request.moment.wall_s)
        if status != 200:
            return self.refusal(status, wait_s)
        if kind in ("meta", "metaAndAssetCtxs"):
            listed = [
                {"name": desk.raw_symbol, "szDecimals": desk.instrument.size_decimals, "maxLeverage": 40} for desk in self.desks.values()
            ]
            meta = {"universe": listed}
            marks = [{"markPx": _short(desk.price(desk.market.best()[0]))} for desk in self.desks.values()]
            return Answer(200, json.dumps(meta if kind == "meta" else [meta, marks]).encode())
        if kind in _BARE:
            return Answer(200, _BARE[kind])
        if kind == "l2Book" and asked.get("coin") in self.desks:
            desk = self.desks[asked["coin"]]
            book = desk.rest_book(_PLAIN)
            sides = ",".join(f"[{_levels(desk, side)}]" for side in (book.bids, book.asks))
            body = f'{{"coin":"{desk.raw_symbol}","time":{book.exchange_ns // 1_000_000},"levels":[{sides}]}}'
            return Answer(200, body.encode())
        wanted = asked.get("req") if kind == "candleSnapshot" else asked if kind == "fundingHistory" else None
        if isinstance(wanted, dict) and wanted.get("coin") in self.desks:
            return Answer(200, history_other.hyperliquid(self.desks[wanted["coin"]], wanted, request.moment.now_ns // 1_000_000))
        return Answer(500, b"null")


# What there is none of here: spot markets, and markets of others.
_BARE = {"spotMeta": b'{"universe":[],"tokens":[]}', "spotMetaAndAssetCtxs": b'[{"universe":[],"tokens":[]},[]]', "perpDexs": b"[null]"}


def _error(text: str) -> str:
    return json.dumps({"channel": "error", "data": text}, separators=(",", ":"))


def _short(text: str) -> str:
    # Trailing zeros are not written, but for one decimal of a whole price.
    return text.rstrip("0").rstrip(".") if "." in text else text


def _levels(desk: Desk, side: np.ndarray) -> str:
    return ",".join(f'{{"px":"{_short(desk.price(tick))}","sz":"{_short(desk.size(units))}","n":1}}' for tick, units in side.tolist())


def wire(venue: str, desks: Mapping[str, Desk]) -> _Wire:
    """Return Hyperliquid over its instruments."""
    return _Wire(venue, desks)
