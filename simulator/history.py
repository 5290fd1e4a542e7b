"""Candles, funding and open interest over REST, in the shapes of Binance, Bybit and Coinbase.

What each path takes, how much it returns and in which order is the venue's own (Binance oldest first,
Bybit and Coinbase newest first).  A path that is not history is None here, and the wire's.
"""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from simulator.desk import Desk
from simulator.past import LISTED_MS, MINUTE_MS
from simulator.protocol import Answer, Request, Wire

_UNITS = {"m": 1, "h": 60, "d": 1_440}
_BYBIT = {str(n): n for n in (1, 3, 5, 15, 30, 60, 120, 240, 360, 720)} | {"D": 1_440}
_BYBIT_OI = {"5min": 5, "15min": 15, "30min": 30, "1h": 60, "4h": 240, "1d": 1_440}
_ADVANCED = {
    "ONE_MINUTE": 1, "FIVE_MINUTE": 5, "FIFTEEN_MINUTE": 15, "THIRTY_MINUTE": 30, "ONE_HOUR": 60, "TWO_HOUR": 120, "SIX_HOUR": 360,
    "ONE_DAY": 1_440,
}  # fmt: skip
_EXCHANGE = (60, 300, 900, 3_600, 21_600, 86_400)
_MONTH_MS = 30 * 86_400_000


class HistoryError(Exception):
    """A request for history that the venue refuses: HTTP status and body."""

    def __init__(self, status: int, body: object):
        self.status, self.body = status, body
        super().__init__(f"{status} {body}")


def answer(wire: Wire, request: Request) -> Answer | None:
    """Return the answer to a request for history; None for any other request."""
    for venues, pattern, weight, make in _ROUTES:
        match = pattern.fullmatch(request.path)
        if match and wire.venue.startswith(venues):
            status, wait_s = 200, 0.0
            if (budget := getattr(wire, "budget", None)) is not None:
                status, wait_s = budget.take(weight, request.moment.wall_s)
            if status != 200:
                return wire.refusal(status, wait_s)
            try:
                body = make(wire, dict(request.query) | match.groupdict(), request.moment.now_ns // 1_000_000)
            except HistoryError as error:
                status, body = error.status, error.body
            return Answer(status, json.dumps(body).encode())
    return None


def _int(query: Mapping[str, str], name: str, usual: int) -> int:
    text = query.get(name, "")
    return int(text) if text.lstrip("-").isdigit() else usual


# -- Binance --------------------------------------------------------------------------------


def _binance_desk(wire: Wire, query: Mapping[str, str]) -> Desk:
    wanted = query.get("symbol") or query.get("pair", "")
    for desk in wire.desks.values():
        if wanted in (desk.raw_symbol, desk.instrument.pair):
            return desk
    raise HistoryError(400, {"code": -1121, "msg": "Invalid symbol."})


def _binance_minutes(text: str) -> int:
    match = re.fullmatch(r"(\d+)([mhd])", text)
    if not match:
        raise HistoryError(400, {"code": -1120, "msg": "Invalid interval."})
    return int(match[1]) * _UNITS[match[2]]


def _klines(wire: Wire, query: Mapping[str, str], now_ms: int) -> Any:
    desk, step_ms = _binance_desk(wire, query), _binance_minutes(query.get("interval", "")) * MINUTE_MS
    limit = min(_int(query, "limit", 500), 1_000 if wire.venue == "binance_spot" else 1_500)
    end_ms = min(_int(query, "endTime", now_ms), now_ms)
    first_ms = _int(query, "startTime", (end_ms // step_ms - limit + 1) * step_ms)
    rows = []
    for row in desk.past.candles(first_ms, step_ms, limit, end_ms).tolist():
        ms, *prices, volume = row
        texts = [f"{price:.{desk.instrument.price_decimals}f}" for price in prices]
        quote, traded = f"{volume * prices[3]:.4f}", f"{volume:.3f}"
        if worth := desk.instrument.contract_usd:  # coin-margined: contracts, and behind them the base asset
            quote, traded = traded, f"{volume * prices[3] / worth:.0f}"
        rows.append([int(ms), *texts, traded, int(ms) + step_ms - 1, quote, int(volume * 7) + 1, f"{volume / 2:.3f}", quote, "0"])
    return rows


def _funding_rate(wire: Wire, query: Mapping[str, str], now_ms: int) -> Any:
    desk, limit = _binance_desk(wire, query), min(_int(query, "limit", 100), 1_000)
    rows = desk.past.funding(_int(query, "startTime", LISTED_MS), min(_int(query, "endTime", now_ms), now_ms))
    rows = rows[:limit] if "startTime" in query else rows[-limit:]
    return [
        {"symbol": desk.raw_symbol, "fundingTime": ms, "fundingRate": f"{rate:.8f}", "markPrice": f"{mark:.8f}"} for ms, rate, mark in rows
    ]


def _interest_hist(wire: Wire, query: Mapping[str, str], now_ms: int) -> Any:
    desk, step_ms = _binance_desk(wire, query), _binance_minutes(query.get("period", "")) * MINUTE_MS
    limit = min(_int(query, "limit", 30), 500)
    end_ms = min(_int(query, "endTime", now_ms), now_ms)
    first_ms = _int(query, "startTime", end_ms - (limit - 1) * step_ms)
    if first_ms < now_ms - _MONTH_MS:
        raise HistoryError(400, {"code": -1130, "msg": "parameter 'startTime' is invalid."})
    name = {"pair": desk.instrument.pair, "contractType": "PERPETUAL"} if wire.venue == "binance_coinm" else {"symbol": desk.raw_symbol}
    rows = desk.past.open_interest(first_ms, step_ms, limit, end_ms)
    return [name | {"sumOpenInterest": f"{n:.8f}", "sumOpenInterestValue": f"{value:.8f}", "timestamp": ms} for ms, n, value in rows]


def _interest_now(wire: Wire, query: Mapping[str, str], now_ms: int) -> Any:
    desk = _binance_desk(wire, query)
    [(_, amount, _)] = desk.past.open_interest(now_ms // MINUTE_MS * MINUTE_MS, MINUTE_MS, 1, now_ms)
    return {"symbol": desk.raw_symbol, "openInterest": f"{amount:.3f}", "time": now_ms}


def _server_time(wire: Wire, query: Mapping[str, str], now_ms: int) -> Any:
    return {"serverTime": now_ms}


# -- Bybit ----------------------------------------------------------------------------------


def _bybit_desk(wire: Wire, query: Mapping[str, str]) -> Desk:
    if query.get("category", "spot") != wire.venue.removeprefix("bybit_") or query.get("symbol") not in wire.desks:
        raise HistoryError(200, {"retCode": 10001, "retMsg": "params error: symbol invalid", "result": {}, "retExtInfo": {}, "time": 0})
    return wire.desks[query["symbol"]]


def _bybit(query: Mapping[str, str], rows: list[Any], now_ms: int, cursor: str | None = None) -> Any:
    result = {"category": query.get("category", "spot"), "symbol": query["symbol"], "list": rows}
    if cursor is not None:
        result["nextPageCursor"] = cursor
    return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": now_ms}


def _bybit_kline(wire: Wire, query: Mapping[str, str], now_ms: int) -> Any:
    desk, minutes = _bybit_desk(wire, query), _BYBIT.get(query.get("interval", ""), 0)
    if not minutes:
        raise HistoryError(200, {"retCode": 10001, "retMsg": "Invalid interval", "result": {}, "retExtInfo": {}, "time": now_ms})
    step_ms, limit = minutes * MINUTE_MS, min(_int(query, "limit", 200), 1_000)
    end_ms = min(_int(query, "end", now_ms), now_ms)
    first_ms = last_ms = (end_ms // step_ms - limit + 1) * step_ms
    if "start" in query:  # the one that contains it; with an end too, the newest before that
        first_ms = int(query["start"]) // step_ms * step_ms
        first_ms = max(first_ms, last_ms) if "end" in query else first_ms
    decimals = desk.instrument.price_decimals + desk.instrument.price_pad
    rows = [
        [str(int(ms)), *(f"{price:.{decimals}f}" for price in prices), f"{volume:.3f}", f"{volume * prices[3]:.4f}"]
        for ms, *prices, volume in desk.past.candles(first_ms, step_ms, limit, end_ms).tolist()
    ]
    return _bybit(query, rows[::-1], now_ms)


def _bybit_funding(wire: Wire, query: Mapping[str, str], now_ms: int) -> Any:
    desk = _bybit_desk(wire, query)
    if "startTime" in query and "endTime" not in query:
        raise HistoryError(
            200, {"retCode": 10001, "retMsg": "params error: endTime missing", "result": {}, "retExtInfo": {}, "time": now_ms}
        )
    rows = desk.past.funding(_int(query, "startTime", LISTED_MS), min(_int(query, "endTime", now_ms), now_ms))
    limit = min(_int(query, "limit", 200), 200)
    told = [
        {"symbol": desk.raw_symbol, "fundingRate": f"{rate:.8f}", "fundingRateTimestamp": str(ms // MINUTE_MS * MINUTE_MS)}
        for ms, rate, _ in rows[-limit:]
    ]
    return _bybit(query, told[::-1], now_ms)


def _bybit_interest(wire: Wire, query: Mapping[str, str], now_ms: int) -> Any:
    desk, minutes = _bybit_desk(wire, query), _BYBIT_OI.get(query.get("intervalTime", ""), 0)
    if not minutes:
        raise HistoryError(200, {"retCode": 10001, "retMsg": "Invalid intervalTime", "result": {}, "retExtInfo": {}, "time": now_ms})
    step_ms, limit = minutes * MINUTE_MS, min(_int(query, "limit", 50), 200)
    end_ms = min(_int(query, "endTime", now_ms), _int(query, "cursor", now_ms), now_ms)
    first_ms = (end_ms // step_ms - limit + 1) * step_ms
    earliest_ms = _int(query, "startTime", LISTED_MS) if "endTime" in query else LISTED_MS  # alone it is ignored
    rows = [row for row in desk.past.open_interest(first_ms, step_ms, limit, end_ms) if row[0] >= earliest_ms]
    # Both sides of each contract are counted; one side has its own field since 2026-06-11.
    told = [{"openInterest": f"{2 * n:.8f}", "singleOpenInterest": f"{n:.8f}", "timestamp": str(ms)} for ms, n, _ in rows]
    return _bybit(query, told[::-1], now_ms, str(first_ms - 1) if len(rows) == limit else "")


# -- Coinbase -------------------------------------------------------------------------------


def _product(wire: Wire, query: Mapping[str, str], missing: object) -> Desk:
    if query["id"] not in wire.desks:
        raise HistoryError(404, missing)
    return wire.desks[query["id"]]


def _coinbase_rows(desk: Desk, start_ms: int, end_ms: int, step_ms: int, now_ms: int) -> Any:
    n = end_ms // step_ms - -(-start_ms // step_ms) + 1
    rows = desk.past.candles(start_ms, step_ms, n, now_ms)
    return rows[~desk.past.is_quiet(rows[:, 0])][::-1].tolist()


def _iso_ms(text: str) -> int:
    if text.isdigit():
        return int(text) * 1_000
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000)


def _exchange_candles(wire: Wire, query: Mapping[str, str], now_ms: int) -> Any:
    desk, seconds = _product(wire, query, {"message": "NotFound"}), _int(query, "granularity", 60)
    if seconds not in _EXCHANGE:
        raise HistoryError(400, {"message": "Unsupported granularity"})
    step_ms = seconds * 1_000
    try:
        end_ms = _iso_ms(query["end"]) if "end" in query else now_ms
        start_ms = _iso_ms(query["start"]) if "start" in query else end_ms - 299 * step_ms
    except ValueError:
        raise HistoryError(400, {"message": "start and end must be ISO 8601 times"}) from None
    if (end_ms - start_ms) // step_ms > 300:
        raise HistoryError(
            400, {"message": "granularity too small for the requested time range. Count of aggregations requested exceeds 300"}
        )
    rows = _coinbase_rows(desk, start_ms, min(end_ms, now_ms), step_ms, now_ms)
    return [[int(ms) // 1_000, low, high, opened, close, volume] for ms, opened, high, low, close, volume in rows]


def _advanced_candles(wire: Wire, query: Mapping[str, str], now_ms: int) -> Any:
    desk = _product(wire, query, {"error": "NOT_FOUND", "error_details": "valid product_id is required", "message": ""})
    step_ms = _ADVANCED.get(query.get("granularity", ""), 0) * MINUTE_MS
    start_ms, end_ms = _int(query, "start", 0) * 1_000, _int(query, "end", 0) * 1_000
    if not step_ms or not start_ms or end_ms <= start_ms or (end_ms - start_ms) // step_ms > 350:
        raise HistoryError(
            400, {"error": "INVALID_ARGUMENT", "error_details": "number of candles requested should be less than 350", "message": ""}
        )
    rows = _coinbase_rows(desk, start_ms, min(end_ms, now_ms), step_ms, now_ms)
    names = ("open", "high", "low", "close", "volume")
    return {"candles": [{"start": str(int(ms) // 1_000)} | dict(zip(names, map(str, rest), strict=True)) for ms, *rest in rows]}


def _nothing(wire: Wire, query: Mapping[str, str], now_ms: int) -> Any:
    return []


def _no_data(wire: Wire, query: Mapping[str, str], now_ms: int) -> Any:
    return {"data": []}


def _no_rates(wire: Wire, query: Mapping[str, str], now_ms: int) -> Any:
    return {"data": {"currency": "USD", "rates": {}}}


_ROUTES: tuple[tuple[str, re.Pattern[str], int, Callable[[Wire, Mapping[str, str], int], Any]], ...] = tuple(
    (venues, re.compile(path), weight, make)
    for venues, path, weight, make in (
        ("binance_spot", "/api/v3/klines", 2, _klines),
        ("binance_usdm", "/fapi/v1/klines", 5, _klines),
        ("binance_coinm", "/dapi/v1/klines", 5, _klines),
        ("binance_usdm", "/fapi/v1/fundingRate", 1, _funding_rate),
        ("binance_coinm", "/dapi/v1/fundingRate", 1, _funding_rate),
        ("binance_", "/futures/data/openInterestHist", 0, _interest_hist),
        ("binance_usdm", "/fapi/v1/openInterest", 1, _interest_now),
        ("binance_coinm", "/dapi/v1/openInterest", 1, _interest_now),
        ("binance_", "/(?:api/v3|[fd]api/v1)/time", 1, _server_time),
        ("bybit_", "/v5/market/kline", 1, _bybit_kline),
        ("bybit_linear", "/v5/market/funding/history", 1, _bybit_funding),
        ("bybit_linear", "/v5/market/open-interest", 1, _bybit_interest),
        ("coinbase_exchange", "/products/(?P<id>[^/]+)/candles", 1, _exchange_candles),
        ("coinbase_advanced", "/api/v3/brokerage/market/products/(?P<id>[^/]+)/candles", 1, _advanced_candles),
        # What ccxt asks before its first request for history; the lists may be empty.
        ("coinbase_exchange", "/currencies", 1, _nothing),
        ("coinbase_advanced", "/v2/currencies(?:/crypto)?", 1, _no_data),
        ("coinbase_advanced", "/v2/exchange-rates", 1, _no_rates),
    )
)
