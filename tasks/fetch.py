"""What venues keep and serve over REST, into the lake: candles, funding rates and open interest.

What was fetched is remembered as ranges of time beside the rows, so nothing is asked for twice,
and a run that was killed goes on behind the last page that it committed.  A candle that is not
finished, or was a moment ago, is not stored.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

import numpy as np
from prefect import task

from tasks.history import KINDS, Source, exchange
from warehouse.lake import Lake

_LAST = {"kraken": 720, "hyperliquid": 5_000}  # candles that are served at all, the growing one among them
_RECENT_MS = 30 * 86_400_000 - 3_600_000  # Binance serves open interest of the last 30 days only
_LATE_MS = 3_600_000  # what is missing at the end for longer, nobody will serve


@dataclass(frozen=True)
class Fetched:
    """What a run brought: rows stored, pages asked for, and the span that is whole now, in ms."""

    rows: int
    pages: int
    start_ms: int
    end_ms: int


def missing(ranges: list[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """Return what of a span no range covers.

    Examples
    --------
    >>> missing([(10, 20), (30, 40)], 5, 35)
    [(5, 10), (20, 30)]
    """
    out = []
    for first, last in sorted(ranges):
        if first > start:
            out.append((start, min(first, end)))
        start = max(start, last)
        if start >= end:
            break
    if start < end:
        out.append((start, end))
    return [(a, b) for a, b in out if a < b]


def merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return ranges that touch as one.

    Examples
    --------
    >>> merged([(5, 10), (20, 30), (10, 20)])
    [(5, 30)]
    """
    out: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if out and first <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], last))
        else:
            out.append((first, last))
    return out


def fetch(
    lake: Lake, source: Source, since_ms: int, until_ms: int | None = None, told: Callable[[int, int], None] = lambda done_ms, rows: None
) -> Fetched:
    """Store what the lake does not have yet of a span; return what came.

    Parameters
    ----------
    since_ms, until_ms : int
        Unix milliseconds, half open; until what is final by default and at most.
    told : callable
        Called after each page with the milliseconds it covered and its rows.
    """
    venue, symbol, table, step = source.venue, source.symbol, KINDS[source.kind], source.step_ms
    now_ms, settled_ms = source.client.milliseconds(), source.settled_ms()
    end = min(until_ms or settled_ms, settled_ms)
    start = -(-since_ms // step) * step if source.kind != "funding" else since_ms
    if source.kind == "open-interest" and source.client.id.startswith("binance"):
        start = max(start, now_ms - _RECENT_MS)
        start = -(-start // step) * step
    if source.kind == "ohlcv" and source.client.id in _LAST:  # what was not served must not count as fetched
        start = max(start, (now_ms // step - _LAST[source.client.id] + 1) * step)
    end = end // step * step if source.kind != "funding" else end
    key = f"history/{table}/{venue}/{symbol}/{source.timeframe if source.kind != 'funding' else 'paid'}"
    kept = lake.load_state(key)
    ranges = [(int(a), int(b)) for a, b in json.loads(kept)] if kept else []
    known = _known(lake, table, venue, symbol, step // 1000 if source.kind == "ohlcv" else 0)
    rows = pages = 0
    with lake.writer() as writer:
        session = writer.session(venue, symbol, f"backfill-{uuid4()}", (table,))
        seq = session.base.get(table, 0)
        for first, last in missing(ranges, start, end):
            for page, whole_ms in source.pages(first, last, settled_ms - _LATE_MS):
                page = page[~np.isin(page["exchange_ns"], known)]  # committed by a run that was killed before it noted so
                page["seq"] = seq + np.arange(page.size)
                session.append(table, page)
                writer.commit()
                seq, rows, pages = seq + page.size, rows + page.size, pages + 1
                ranges = merged([*ranges, (first, whole_ms)])
                lake.save_state(key, json.dumps(ranges).encode())
                told(whole_ms - first, int(page.size))
                first = whole_ms
            if first < last:
                end = first
    return Fetched(rows, pages, start, end)


def _known(lake: Lake, table: str, venue: str, symbol: str, span_s: int) -> np.ndarray:
    stored = lake.rows(table, venue, symbol)
    if span_s and stored.size:
        stored = stored[stored["span_s"] == span_s]
    return stored["exchange_ns"]


@task(name="fetch", task_run_name="fetch {kind} {venue} {symbol}")
def fetch_history(lake: Lake, venue: str, symbol: str, kind: str, timeframe: str, since_ms: int, rest_url: str = "") -> Fetched:
    """Bring one kind of history of one instrument up to date."""
    return fetch(lake, Source(exchange(venue, rest_url), venue, symbol, kind, timeframe), since_ms)
