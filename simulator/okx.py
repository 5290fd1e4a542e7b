"""OKX as a simulated venue: WebSocket v5 with numbered books, trades, and REST.

ws://host:port/ws/v5/public    http://host:port/api/v5/public/instruments?instType=SPOT    /api/v5/market/books?instId=BTC-USDT

Fields and their order are those of captured frames (2022-05 and 2026-08).
"""

import json
import math
import re
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from simulator import history_other
from simulator.desk import Beat, Desk, Trade, View
from simulator.protocol import BOOK, OTHER, TRADE, Answer, Budget, Message, Moment, Reply, Request

DEPTH = 400
_CHANNELS = ("books", "trades")
_QUIET_NS = 60_000_000_000  # without a change for so long, a message without levels is sent
_SILENCE_S, _REQUESTS, _HOUR_S = 30.0, 480, 3600.0
_UNKNOWN = "doesn't exist. Please use the correct URL, channel and parameters referring to API document."
_CLOSING = "The connection will soon be closed for a service upgrade. Please reconnect."


class _Session:
    """One connection: subscriptions, each confirmed for itself."""

    flavour = ""

    def __init__(self, desks: Mapping[str, Desk]):
        self._desks, self.streams = desks, dict[str, str]()
        self._asked: deque[float] = deque(maxlen=_REQUESTS + 1)

    def open(self, moment: Moment) -> Reply:
        return Reply()

    def seal(self, stream: str, payload: str) -> str:
        return payload

    def tick(self, moment: Moment) -> Reply:
        return Reply(close=(4004, "No data received in 30s.")) if min(moment.heard_s, moment.sent_s) > _SILENCE_S else Reply()

    def leave(self, moment: Moment) -> Reply:
        """Announce the end of the connection."""
        return Reply([f'{{"event":"notice","code":"64008","msg":"{_CLOSING}","connId":"a4d3ae55"}}'])

    def receive(self, text: str, moment: Moment) -> Reply:
        if text == "ping":
            return Reply(["pong"])
        try:
            asked = json.loads(text)
            op, args = asked["op"], [(str(arg["channel"]), str(arg["instId"])) for arg in asked["args"]]
        except (ValueError, KeyError, TypeError):
            return Reply([_error("60012", f"Illegal request: {text[:200]}")])
        if op not in ("subscribe", "unsubscribe"):
            return Reply([_error("60012", f"Illegal request: {text[:200]}")])
        self._asked.append(moment.wall_s)
        if len(self._asked) == self._asked.maxlen and moment.wall_s - self._asked[0] < _HOUR_S:
            return Reply([_error("60014", "Requests too frequent")])
        frames, named = [], {}
        for channel, name in args:
            if channel in _CHANNELS and name in self._desks:
                frames.append(f'{{"event":"{op}","arg":{{"channel":"{channel}","instId":"{name}"}},"connId":"a4d3ae55"}}')
                named[f"{channel}:{name}"] = name
            else:
                frames.append(_error("60018", f"Wrong URL or channel:{channel},instId:{name} {_UNKNOWN}"))
        if op == "unsubscribe":
            self.streams = {key: name for key, name in self.streams.items() if key not in named}
            return Reply(frames)
        new = [key for key in named if key not in self.streams]  # one that is active is confirmed, and that is all
        self.streams = self.streams | named
        return Reply(frames, snapshots=new)


class _Book:
    # One instrument's book as published, and its number.
    def __init__(self, seq: int):
        self.view, self.seq, self.ms, self.told_ns, self.starts_anew = View(DEPTH), seq, 0, 0, False


class _Wire:
    ping_s: tuple[float, float] = (0.0, 0.0)

    def __init__(self, venue: str, desks: Mapping[str, Desk]):
        self.venue, self.desks, self.budget = venue, desks, Budget(40, 2.0)
        self.spoil = {"sequence": re.compile(r'"prevSeqId":(\d+)')}
        self._books = {symbol: _Book(10**10 + desk.now_ns // 1_000_000_000) for symbol, desk in desks.items()}

    def session(self, path: str, query: Mapping[str, str]) -> _Session | None:
        return _Session(self.desks) if path == "/ws/v5/public" else None

    def book_stream(self, raw_symbol: str) -> str:
        return f"books:{raw_symbol}"

    def messages(self, beat: Beat, wanted: Collection[str]) -> Iterable[Message]:
        desk, symbol = beat.desk, beat.desk.raw_symbol
        book, stream = self._books[symbol], f"books:{symbol}"
        if f"trades:{symbol}" in wanted:
            for trade in beat.trades():
                ns = trade.exchange_ns // 1_000_000 * 1_000_000
                yield Message(f"trades:{symbol}", _trade(desk, trade, book.seq), TRADE, 0, ns)
        if stream not in wanted or (depth := beat.depth) is None:
            return
        bids, asks = book.view.turn(desk)
        ns, previous = int(depth["exchange_ns"]), book.seq
        if bids or asks:
            # Every order counts, shown or not; after maintenance the count begins anew.
            book.seq = max(1, previous // 2) if book.starts_anew else previous + 1 + len(beat.events)
            book.starts_anew, book.ms, book.told_ns = False, ns // 1_000_000, ns
            yield Message(stream, _update(desk, "update", bids, asks, book.ms, previous, book.seq), BOOK, book.seq, book.ms * 1_000_000)
        elif ns - book.told_ns >= _QUIET_NS:
            book.ms, book.told_ns = ns // 1_000_000, ns
            yield Message(stream, _update(desk, "update", [], [], book.ms, previous, previous), OTHER, previous, book.ms * 1_000_000)

    def snapshot(self, stream: str, desk: Desk, moment: Moment) -> str | None:
        book = self._books[desk.raw_symbol]
        if stream.startswith("trades:"):
            return _trade(desk, desk.recent[-1], book.seq) if desk.recent else None
        view = book.view
        if not len(view.bids) and not len(view.asks):
            view.turn(desk)
            book.ms, book.told_ns = desk.now_ns // 1_000_000, desk.now_ns
        return _update(desk, "snapshot", view.bids.tolist(), view.asks.tolist(), book.ms, -1, book.seq)

    def trade_id(self, number: int) -> int:
        return number

    def restart(self, desk: Desk) -> bool:
        self._books[desk.raw_symbol].starts_anew = True
        return True

    # -- REST -----------------------------------------------------------------------------

    def refusal(self, status: int, retry_after_s: float) -> Answer:
        return Answer(status, b'{"code":"50011","data":[],"msg":"Too Many Requests"}', {"Retry-After": str(math.ceil(retry_after_s))})

    def rest(self, request: Request) -> Answer:
        status, wait_s = self.budget.take(1, request.moment.wall_s)
        if status != 200:
            return self.refusal(status, wait_s)
        query, ms = request.query, request.moment.now_ns // 1_000_000
        match request.path:
            case "/api/v5/public/instruments":
                made = [instrument(desk) for desk in self.desks.values()]
                named = query.get("instId", "")
                return _answer([row for row in made if row["instType"] == query.get("instType") and named in ("", row["instId"])])
            case "/api/v5/market/books" if query.get("instId", "") in self.desks:
                return _answer([_rest_book(self.desks[query["instId"]], min(int(query.get("sz", "1")), DEPTH))])
            case "/api/v5/market/candles" | "/api/v5/market/history-candles" if query.get("instId", "") in self.desks:
                rows = history_other.okx(self.desks[query["instId"]], query, ms)
                return _answer([], "51000", "Parameter bar error") if rows is None else _answer(rows)
            case "/api/v5/market/books" | "/api/v5/market/candles" | "/api/v5/market/history-candles":
                return _answer([], "51001", "Instrument ID doesn't exist.")
            case "/api/v5/public/time":
                return _answer([{"ts": str(ms)}])
        return Answer(404, b'{"code":"404","data":[],"msg":"Not Found"}')


def _error(code: str, msg: str) -> str:
    return json.dumps({"event": "error", "code": code, "msg": msg, "connId": "a4d3ae55"}, separators=(",", ":"))


def _plain(text: str) -> str:
    # No zeros at the end: 64074, 0.0000102.
    return text.rstrip("0").rstrip(".") if "." in text else text


def _rows(desk: Desk, side: list[list[int]]) -> str:
    price, size = desk.price, desk.size
    return ",".join(
        [f'["{_plain(price(tick))}","{_plain(size(units)) if units else 0}","0","{1 if units else 0}"]' for tick, units in side]
    )


def _update(desk: Desk, action: str, bids: list[list[int]], asks: list[list[int]], ms: int, previous: int, seq: int) -> str:
    body = f'"asks":[{_rows(desk, asks)}],"bids":[{_rows(desk, bids)}],"ts":"{ms}","checksum":0,"prevSeqId":{previous},"seqId":{seq}'
    return f'{{"arg":{{"channel":"books","instId":"{desk.raw_symbol}"}},"action":"{action}","data":[{{{body}}}]}}'


def _trade(desk: Desk, trade: Trade, seq: int) -> str:
    name, side = desk.raw_symbol, "buy" if trade.aggressor > 0 else "sell"
    told = f'"instId":"{name}","tradeId":"{trade.id}","px":"{_plain(desk.price(trade.tick))}","sz":"{_plain(desk.size(trade.units))}"'
    told += f',"side":"{side}","ts":"{trade.exchange_ns // 1_000_000}","count":"1","source":"0","seqId":{seq}'
    return f'{{"arg":{{"channel":"trades","instId":"{name}"}},"data":[{{{told}}}]}}'


def instrument(desk: Desk) -> dict[str, Any]:
    """Return what the venue says of a market."""
    made = desk.instrument
    name, is_swap, is_inverse = made.raw_symbol, made.raw_symbol.endswith("-SWAP"), bool(made.contract_usd)
    row = {
        "instType": "SWAP" if is_swap else "SPOT", "instId": name, "uly": "", "instFamily": "", "category": "1", "baseCcy": made.base,
        "quoteCcy": made.quote, "settleCcy": "", "ctVal": "", "ctMult": "", "ctValCcy": "", "ctType": "", "optType": "", "stk": "",
        "listTime": "1548133413000", "expTime": "", "lever": "10", "tickSz": _plain(desk.price(1)), "lotSz": _plain(desk.size(1)),
        "minSz": _plain(desk.size(1)), "alias": "", "state": "live", "maxLmtSz": "99999999", "maxMktSz": "1000000",
    }  # fmt: skip
    if is_swap:
        pair = name.removesuffix("-SWAP")
        row |= {"baseCcy": "", "quoteCcy": "", "uly": pair, "instFamily": pair, "settleCcy": made.base if is_inverse else made.quote}
        row |= {"ctVal": f"{made.contract_usd or made.contract_base:g}", "ctMult": "1", "ctType": "inverse" if is_inverse else "linear"}
        row |= {"ctValCcy": "USD" if is_inverse else made.base}
    return row


def _rest_book(desk: Desk, limit: int) -> dict[str, Any]:
    book = desk.rest_book(limit)
    sides = {
        name: [[_plain(desk.price(tick)), _plain(desk.size(units)), "0", "1"] for tick, units in np.asarray(side).tolist()]
        for name, side in (("asks", book.asks), ("bids", book.bids))
    }
    return sides | {"ts": str(book.exchange_ns // 1_000_000)}


def _answer(data: list[Any], code: str = "0", msg: str = "") -> Answer:
    return Answer(200, json.dumps({"code": code, "msg": msg, "data": data}).encode())


def wire(venue: str, desks: Mapping[str, Desk]) -> _Wire:
    """Return OKX's spot and swap markets."""
    return _Wire(venue, desks)
