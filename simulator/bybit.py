"""Bybit v5 as it is written on the wire: spot and linear, books of depth 50 and 1, trades, instruments.

Fields and their order are those of captured frames (2026-08) of each market.
"""

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping
from uuid import UUID

import numpy as np

from simulator.desk import Beat, Desk, View
from simulator.protocol import BOOK, OTHER, TRADE, Answer, Budget, Message, Moment, Reply, Request
from tasks.venues.bybit_messages import trade_number

_CATEGORY = {"bybit_spot": "spot", "bybit_linear": "linear"}
_DEPTHS = (1, 50)
_MOST_ARGS = 10  # a request on spot


class _Session:
    """One connection: topics asked for, answered a request at a time."""

    flavour = ""

    def __init__(self, venue: str, desks: Mapping[str, Desk]):
        self._venue, self._desks = venue, desks
        self.streams: dict[str, str] = {}
        self._quiet_s = 0.0

    def open(self, moment: Moment) -> Reply:
        return Reply()

    def receive(self, text: str, moment: Moment) -> Reply:
        try:
            asked = json.loads(text)
            op, topics = asked["op"], asked.get("args", [])
        except (ValueError, KeyError, TypeError):
            return Reply(('{"success":false,"ret_msg":"Params Error","op":""}',))
        if op == "ping":
            return Reply(('{"success":true,"ret_msg":"pong","conn_id":"sim","op":"ping"}',))
        answer = {"success": True, "ret_msg": "subscribe" if self._venue == "bybit_spot" else "", "conn_id": "sim"}
        answer |= {"req_id": asked.get("req_id", ""), "op": op}
        bad = [topic for topic in topics if self._symbol(topic) is None]
        if op not in ("subscribe", "unsubscribe") or bad or len(topics) > _MOST_ARGS:
            answer |= {"success": False, "ret_msg": f"error:handler not found,topic:{bad[0]}" if bad else "args size >10"}
            return Reply((json.dumps(answer, separators=(",", ":")),))
        if op == "unsubscribe":
            self.streams = {key: symbol for key, symbol in self.streams.items() if key not in topics}
            return Reply((json.dumps(answer, separators=(",", ":")),))
        self.streams = self.streams | {topic: str(self._symbol(topic)) for topic in topics}
        return Reply((json.dumps(answer, separators=(",", ":")),), snapshots=[t for t in topics if t.startswith("orderbook")])

    def _symbol(self, topic: str) -> str | None:
        found = re.fullmatch(r"(?:orderbook\.(?:1|50)|publicTrade)\.(.+)", topic)
        return found[1] if found and found[1] in self._desks else None

    def seal(self, stream: str, payload: str) -> str:
        return payload

    def tick(self, moment: Moment) -> Reply:
        # Without a ping or a push for ten minutes the venue cuts.
        return Reply(close=(1006, "")) if min(moment.heard_s, moment.sent_s) > 600.0 else Reply()


class _Book:
    # One symbol's stream of one depth: what was published last, and its number.
    def __init__(self, depth: int):
        self.view, self.u, self.ms = View(depth), 1000, 0


class _Wire:
    ping_s = (0.0, 0.0)

    def __init__(self, venue: str, desks: Mapping[str, Desk]):
        self.venue, self.desks = venue, desks
        self.spoil = {"sequence": re.compile(r'"u":(\d+)')}
        self.budget = Budget(600.0, 5.0)
        self._books = {(symbol, depth): _Book(depth) for symbol in desks for depth in _DEPTHS}
        self._seq = {symbol: 1 + desk.now_ns // 1_000_000 for symbol, desk in desks.items()}

    def session(self, path: str, query: Mapping[str, str]) -> _Session | None:
        return _Session(self.venue, self.desks) if path == f"/v5/public/{_CATEGORY[self.venue]}" else None

    def book_stream(self, raw_symbol: str) -> str:
        return f"orderbook.50.{raw_symbol}"

    def messages(self, beat: Beat, wanted: Collection[str]) -> Iterable[Message]:
        desk, symbol = beat.desk, beat.desk.raw_symbol
        trades = beat.trades()
        if trades and f"publicTrade.{symbol}" in wanted:
            yield Message(f"publicTrade.{symbol}", self._trades(desk, trades), TRADE)
        if beat.depth is None:
            return
        self._seq[symbol] += 1 + len(beat.events)
        ms = int(beat.depth["exchange_ns"]) // 1_000_000
        for depth in _DEPTHS:
            stream = f"orderbook.{depth}.{symbol}"
            if stream not in wanted:
                continue
            book = self._books[symbol, depth]
            bids, asks = book.view.turn(desk)
            if not bids and not asks:
                continue
            book.u, book.ms = book.u + 1, ms
            if depth == 1:  # always whole since 2025-03-20
                yield Message(stream, self._book(desk, stream, "snapshot", *self._whole(book), book), OTHER)
            else:
                yield Message(stream, self._book(desk, stream, "delta", bids, asks, book), BOOK, book.u, ms * 1_000_000)

    def snapshot(self, stream: str, desk: Desk, moment: Moment) -> str | None:
        book = self._books[desk.raw_symbol, int(stream.split(".")[1])]
        if not len(book.view.bids) and not len(book.view.asks):
            book.view.turn(desk)
            book.ms = desk.now_ns // 1_000_000
        return self._book(desk, stream, "snapshot", *self._whole(book), book)

    @staticmethod
    def _whole(book: _Book) -> tuple[list[list[int]], list[list[int]]]:
        return book.view.bids.tolist(), book.view.asks.tolist()

    def _book(self, desk: Desk, stream: str, kind: str, bids: list[list[int]], asks: list[list[int]], book: _Book) -> str:
        sides = [",".join(f'["{desk.price(tick)}","{self._size(desk, units)}"]' for tick, units in side) for side in (bids, asks)]
        body = f'"data":{{"s":"{desk.raw_symbol}","b":[{sides[0]}],"a":[{sides[1]}],"u":{book.u},"seq":{self._seq[desk.raw_symbol]}}}'
        when = f'"ts":{book.ms + 2}'
        head = f'"type":"{kind}",{when}' if self.venue == "bybit_linear" else f'{when},"type":"{kind}"'
        return f'{{"topic":"{stream}",{head},{body},"cts":{book.ms}}}'

    def _size(self, desk: Desk, units: int) -> str:
        text = desk.size(units) if units else "0"
        return text.rstrip("0").rstrip(".") if self.venue == "bybit_spot" and "." in text else text

    def _trades(self, desk: Desk, trades: list) -> str:
        rows, seq = [], self._seq[desk.raw_symbol]
        for trade in trades:
            side, number = "Buy" if trade.aggressor > 0 else "Sell", self._trade_text(trade.id)
            size, ms = self._size(desk, trade.units), trade.exchange_ns // 1_000_000
            rows.append(
                f'{{"T":{ms},"s":"{desk.raw_symbol}","S":"{side}","v":"{size}","p":"{desk.price(trade.tick)}","i":"{number}",'
                f'"BT":false,"RPI":false,"seq":{seq}}}'
            )
        last_ms = trades[-1].exchange_ns // 1_000_000
        return f'{{"topic":"publicTrade.{desk.raw_symbol}","type":"snapshot","ts":{last_ms + 1},"data":[{",".join(rows)}]}}'

    def _trade_text(self, number: int) -> str:
        return str(number) if self.venue == "bybit_spot" else str(UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128)))

    def trade_id(self, number: int) -> int:
        return trade_number(self._trade_text(number))

    def restart(self, desk: Desk) -> bool:
        for depth in _DEPTHS:
            self._books[desk.raw_symbol, depth].u = 1
        return True

    def refusal(self, status: int, retry_after_s: float) -> Answer:
        body = {"retCode": 10006, "retMsg": "Too many visits. Exceeded the API Rate Limit.", "result": {}}
        return Answer(status, json.dumps(body).encode(), {"Retry-After": str(math.ceil(retry_after_s))})

    def rest(self, request: Request) -> Answer:
        status, wait_s = self.budget.take(1.0, request.moment.wall_s)
        if status != 200:
            return self.refusal(status, wait_s)
        query, ms = request.query, request.moment.now_ns // 1_000_000
        if request.path == "/v5/market/instruments-info":
            rows = [self._instrument(desk) for desk in self.desks.values()]
            result: dict[str, object] = {"category": query.get("category", ""), "list": rows, "nextPageCursor": ""}
        elif request.path == "/v5/market/orderbook" and query.get("symbol", "") in self.desks:
            limit = query.get("limit", "25")
            result = self._rest_book(self.desks[query["symbol"]], int(limit) if limit.isdecimal() else 25, ms)
        elif request.path == "/v5/market/orderbook":
            return Answer(200, json.dumps({"retCode": 10001, "retMsg": "params error: symbol invalid", "result": {}}).encode())
        else:
            return Answer(404)
        return Answer(200, json.dumps({"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": ms}).encode())

    def _rest_book(self, desk: Desk, limit: int, ms: int) -> dict[str, object]:
        book = desk.rest_book(min(limit, 1000))
        sides = [[[desk.price(t), self._size(desk, u)] for t, u in np.asarray(side).tolist()] for side in (book.bids, book.asks)]
        when = book.exchange_ns // 1_000_000
        seq = self._seq[desk.raw_symbol]
        return {"s": desk.raw_symbol, "b": sides[0], "a": sides[1], "ts": ms, "u": book.update_id, "seq": seq, "cts": when}

    def _instrument(self, desk: Desk) -> dict[str, object]:
        made, lot = desk.instrument, desk.size(1)
        row: dict[str, object] = {"symbol": desk.raw_symbol, "baseCoin": made.base, "quoteCoin": made.quote, "status": "Trading"}
        row["priceFilter"] = {"tickSize": desk.price(1)}
        if self.venue == "bybit_spot":
            return row | {"lotSizeFilter": {"basePrecision": lot, "quotePrecision": "0.0000001", "minOrderQty": lot, "maxOrderQty": "100"}}
        row |= {"contractType": "LinearPerpetual", "settleCoin": made.quote, "launchTime": "1585526400000", "deliveryTime": "0"}
        row |= {"fundingInterval": 480, "leverageFilter": {"minLeverage": "1", "maxLeverage": "100.00", "leverageStep": "0.01"}}
        return row | {"lotSizeFilter": {"qtyStep": lot, "minOrderQty": lot, "maxOrderQty": "1190"}}


def wire(venue: str, desks: Mapping[str, Desk]) -> _Wire:
    """Return a market of Bybit over its instruments."""
    return _Wire(venue, desks)
