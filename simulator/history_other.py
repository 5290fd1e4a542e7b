"""Candles over REST in the shapes of Kraken, OKX and Hyperliquid.

Kraken gives the last 720 and nothing older, Hyperliquid the last 5,000, OKX 300 a page, newest first.
(2026-07: https://docs.kraken.com/api/docs/rest-api/get-ohlc-data, https://www.okx.com/docs-v5/en/#order-book-trading-market-data-get-candlesticks-history,
https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/info-endpoint#candle-snapshot)
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from simulator.desk import Desk
from simulator.past import FUNDING_MS, LISTED_MS, MINUTE_MS

KRAKEN_LAST, HYPERLIQUID_LAST, OKX_PAGE = 720, 5_000, 300
_KRAKEN = (1, 5, 15, 30, 60, 240, 1_440, 10_080, 21_600)
_UNITS = {"m": 1, "h": 60, "H": 60, "d": 1_440, "D": 1_440}


def minutes_of(text: str) -> int:
    """Return the minutes of an interval such as 5m, 1H or 1Dutc; 0 where it is none.

    Examples
    --------
    >>> minutes_of("5m"), minutes_of("4H"), minutes_of("1Dutc"), minutes_of("x")
    (5, 240, 1440, 0)
    """
    text = text.removesuffix("utc")
    return int(text[:-1]) * _UNITS.get(text[-1:], 0) if text[:-1].isdigit() else 0


def _texts(desk: Desk, numbers: Iterable[float]) -> list[str]:
    return [f"{number:.{desk.instrument.price_decimals}f}" for number in numbers]


def kraken(desk: Desk, query: Mapping[str, str], now_ms: int) -> tuple[list[Any], int] | None:
    """Return candles from after `since`, and the time of the last finished one; None for an interval that there is not."""
    text = query.get("interval", "1")
    if not text.isdigit() or int(text) not in _KRAKEN:
        return None
    step_ms = int(text) * MINUTE_MS
    rows = desk.past.candles((now_ms // step_ms - KRAKEN_LAST + 1) * step_ms, step_ms, KRAKEN_LAST, now_ms).tolist()
    told = []
    for ms, opened, high, low, close, volume in rows:
        if ms // 1_000 > int(query.get("since", 0)):
            mean = (high + low + close) / 3.0
            told.append([int(ms) // 1_000, *_texts(desk, (opened, high, low, close, mean)), f"{volume:.8f}", int(volume * 7) + 1])
    return told, (now_ms // step_ms - 1) * step_ms // 1_000


def okx(desk: Desk, query: Mapping[str, str], now_ms: int) -> list[list[str]] | None:
    """Return candles between `before` and `after`, both left out, newest first; None for a bar that there is not."""
    step_ms = minutes_of(query.get("bar", "1m")) * MINUTE_MS
    if not step_ms:
        return None
    limit = min(int(query.get("limit", 100)), OKX_PAGE)
    last_ms = min(int(query.get("after", now_ms + 1)) - 1, now_ms) // step_ms * step_ms
    first_ms = max(last_ms - (limit - 1) * step_ms, (int(query.get("before", -1)) // step_ms + 1) * step_ms)
    n, out = (last_ms - first_ms) // step_ms + 1, []
    for ms, opened, high, low, close, volume in desk.past.candles(first_ms, step_ms, max(n, 0), now_ms).tolist():
        quote, is_done = f"{volume * close:.4f}", str(int(ms + step_ms <= now_ms))
        out.append([str(int(ms)), *_texts(desk, (opened, high, low, close)), f"{volume:.3f}", f"{volume:.3f}", quote, is_done])
    return out[::-1]


def hyperliquid(desk: Desk, asked: Mapping[str, Any], now_ms: int) -> bytes:
    """Return the answer to `candleSnapshot` or `fundingHistory`, oldest first; `null` for an interval that there is not."""
    first_ms, end_ms = int(asked.get("startTime", LISTED_MS)), min(int(asked.get("endTime", now_ms)), now_ms)
    coin = desk.raw_symbol
    if "interval" not in asked:
        paid = desk.past.funding(max(first_ms, end_ms - 500 * FUNDING_MS), end_ms)[:500]
        return json.dumps([{"coin": coin, "fundingRate": f"{rate:.10f}", "premium": "0.0", "time": ms} for ms, rate, _ in paid]).encode()
    step_ms = minutes_of(str(asked["interval"])) * MINUTE_MS
    if not step_ms:
        return b"null"
    first_ms = max(first_ms, (now_ms // step_ms - HYPERLIQUID_LAST + 1) * step_ms)
    n, told = (end_ms - first_ms) // step_ms + 1, []
    for ms, *prices, volume in desk.past.candles(first_ms // step_ms * step_ms, step_ms, max(n, 0), now_ms).tolist():
        opened, high, low, close = _texts(desk, prices)
        told.append(
            {"t": int(ms), "T": int(ms) + step_ms - 1, "s": coin, "i": asked["interval"], "o": opened, "c": close, "h": high, "l": low}
            | {"v": f"{volume:.3f}", "n": int(volume * 7) + 1}
        )  # fmt: skip
    return json.dumps(told).encode()
