"""Section: the features of the whole catalogue, live and in batch, beside what data-frame libraries reach."""

import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import install
import numpy as np
from contest import quantiles
from events import Events
from numba import njit
from results import Result

from tasks.detectors.fold import Detectors
from tasks.features.bar_catalogue import BAR_NAMES, SPANS_S
from tasks.features.catalogue import NAMES
from tasks.features.cross_catalogue import CROSS_NAMES
from tasks.features.cross_venue import CrossVenue
from tasks.features.fold import Features
from tasks.features.indicators import SERIES, close_bar
from tasks.features.state import BOOK_ENTRY, SPANS, TRADE_ENTRY
from tasks.venues.events import BOOK, TRADE

TITLE = f"Features, one core: {len(NAMES)} a book update, {len(BAR_NAMES)} a bar of {len(SPANS_S)} lengths, 2 of the regime"
P50_US, P99_US, ROWS_S = 8.0, 30.0, 300_000.0
# For book, flow, trade and volatility features alone.  One fold makes them with the rest: all of them are held against it.
NARROW_US, NARROW_ROWS_S = 4.0, 500_000.0
LEAST_RING = 4096
PEER = Path(__file__).resolve().parent / "peers" / "run_features.py"
VENUES = ("binance_usdm", "bybit_linear", "binance_coinm")
_BARS = 20_000


def _live(events: Events, detectors: Detectors | None) -> tuple[Features, list[int], list[int]]:
    """Return the fold and nanoseconds of each book and trade, a clock's own 0.1 us included."""
    fold, books, trades, clock = Features(keeps_bars=False), [], [], time.perf_counter_ns
    for event, k in events.order:
        if event == BOOK:
            row = events.books[k : k + 1]
            start = clock()
            out = fold.book(row)
            if detectors is not None:
                detectors.step(out, fold.meta)
            books.append(clock() - start)
        elif event == TRADE:
            row = events.trades[k : k + 1]
            start = clock()
            fold.trade(row)
            trades.append(clock() - start)
        else:
            fold.change(events.changes[k : k + 1])
    return fold, books, trades


def _batch_s(events: Events, with_detectors: bool) -> tuple[float, np.ndarray]:
    fold = Features()
    start = time.process_time()
    meta, matrix = fold.batch(events.books, events.trades, events.changes)
    fold.bars()
    if with_detectors:
        Detectors().batch(meta, matrix)
    return time.process_time() - start, matrix


def memory(fold: Features) -> int:
    """Return the bytes that the features of one stream hold."""
    kept = (fold.state, fold._bars, fold._closed, fold._book_ring, fold._trade_ring, fold.meta, fold.out, *fold._taken)
    return sum(array.nbytes for array in kept)


def bound(events: Events) -> int:
    """Return the bytes they may hold: what is fixed, and rings of at most twice the events of the busiest 300 s."""
    empty = Features()
    fixed = memory(empty) - empty._book_ring.nbytes - empty._trade_ring.nbytes
    rings = 0
    for rows, entry in ((events.books, BOOK_ENTRY), (events.trades, TRADE_ENTRY)):
        ns = np.maximum.accumulate(rows["exchange_ns"])
        most = int((np.arange(ns.size) - np.searchsorted(ns, ns - SPANS[-1] - 10**10)).max(initial=0)) + 1
        rings += max(LEAST_RING, 2 * most) * entry.itemsize
    return fixed + rings


def _ours(events: Events, rounds: int) -> tuple[list[Result], np.ndarray, float, float]:
    live, both, trades, plain_s, whole_s = [], [], [], [], []
    for turn in range(rounds + 1):
        fold, took, of_trades = _live(events, None)
        _, with_regime, _ = _live(events, Detectors())
        plain, matrix = _batch_s(events, with_detectors=False)
        whole, _ = _batch_s(events, with_detectors=True)
        if turn:  # the first is for the compiler
            live.append(quantiles(took))
            both.append(quantiles(with_regime))
            trades.append(quantiles(of_trades))
            plain_s.append(plain)
            whole_s.append(whole)
    n = len(events.books)
    same = np.array_equal(fold.row, matrix[-1], equal_nan=True)
    parity = "last row live = batch, bit for bit" if same else "WRONG: last row live differs from batch"

    def us(rows: list[dict[str, float]], q: str) -> float:
        return statistics.median(row[q] for row in rows)

    def line(who: str, what: str, value: float, unit: str, limit: float, note: str = "") -> Result:
        at_least = unit == "rows/s"
        kept = same and (value >= limit if at_least else value <= limit)
        return Result(TITLE, who, what, value, unit, None, f"{'>=' if at_least else '<='} {limit:,.0f}", kept, note)

    book_us, plain_rate, whole_rate = us(live, "p50_us"), n / statistics.median(plain_s), n / statistics.median(whole_s)
    narrow = "the whole set held against the budget of book, flow, trade and volatility features"
    results = [
        line("tidebook live", f"a book update, p50 of {n:,}", book_us, "us", P50_US, parity),
        line("tidebook live", "a book update, p99", us(live, "p99_us"), "us", P99_US),
        line("tidebook live", "a book update, p50", book_us, "us", NARROW_US, narrow),
        line("tidebook live", f"a trade, p50 of {len(events.trades):,}", us(trades, "p50_us"), "us", NARROW_US),
        line("tidebook live", "with regime and all detectors, p50", us(both, "p50_us"), "us", P50_US),
        line("tidebook live", "with regime and all detectors, p99", us(both, "p99_us"), "us", P99_US),
        line("tidebook batch", "rows with bars, regime and all detectors", whole_rate, "rows/s", ROWS_S),
        line("tidebook batch", "rows with bars", plain_rate, "rows/s", NARROW_ROWS_S, narrow),
    ]
    held, most = memory(fold), bound(events)
    note = f"bound: {most / 1e6:.2f} MB at this stream's busiest 300 s; grows with the rate of events, not with time"
    results.append(Result(TITLE, "tidebook", "memory a symbol", held / 1e6, "MB", None, "<= its bound", held <= most, note))
    return results, matrix, book_us, plain_rate


@njit(cache=True)
def _close_all(series, high, low, close, out):
    for i in range(close.size):
        close_bar(series[0], high[i], low[i], close[i], True, out)


def _bars() -> tuple[dict[str, np.ndarray], float]:
    """Return a wandering price and microseconds a closed bar."""
    path = 60_000.0 * np.exp(np.cumsum(np.random.default_rng(3).normal(0.0, 2e-4, (_BARS, 10))).reshape(_BARS, 10))
    made = {"high": path.max(1), "low": path.min(1), "close": path[:, -1].copy()}
    took = []
    for _ in range(4):
        series, out = np.zeros(1, SERIES), np.empty(len(BAR_NAMES))
        start = time.process_time()
        _close_all(series, made["high"], made["low"], made["close"], out)
        took.append(time.process_time() - start)
    return made, statistics.median(took[1:]) / _BARS * 1e6


def _venues(events: Events) -> list[Result]:
    # The stream's books on three venues, one after the other: each row is aligned over all.
    rest, aligned, clock = [], [], time.perf_counter_ns
    for turn in range(2):
        fold = CrossVenue(VENUES, (1.0,) * 3, (2.0,) * 3)
        for i in range(len(events.books)):
            row = events.books[i : i + 1]
            start = clock()
            made = list(fold.book(i % len(VENUES), row))
            took = clock() - start
            if not turn:  # the first round is for the compiler
                continue
            (aligned if made else rest).append(took / max(1, len(made)))
    tail, event = quantiles(aligned), quantiles(rest)
    what = f"an aligned row of {len(CROSS_NAMES)} features, {len(VENUES)} venues, p50"
    note = f"p99 {tail['p99_us']:.1f} us; a book between rows {event['p50_us']:.2f} us; not part of the budgets above"
    return [Result(TITLE, "tidebook, cross-venue", what, tail["p50_us"], "us", note=note)]


def _peers(events: Events, made: dict[str, np.ndarray]) -> dict[str, list]:
    python = install.peer_python("features")
    if python is None:
        return {}
    books = {f"book_{name}": events.books[name] for name in ("bid_px", "bid_sz", "ask_px", "ask_sz")}
    books |= {"book_ns": events.books["exchange_ns"], "book_seq": events.books["event_seq"]}
    trades = {"trade_ns": events.trades["exchange_ns"], "trade_seq": events.trades["event_seq"], "trade_side": events.trades["aggressor"]}
    trades |= {f"trade_{name}": events.trades[name] for name in ("price", "size")}
    with tempfile.TemporaryDirectory() as scratch:
        np.savez(Path(scratch) / "events.npz", **books, **trades, **made)
        alone = {**os.environ, "POLARS_MAX_THREADS": "1"}  # one core, as ours
        command = [str(python), str(PEER), str(Path(scratch) / "events.npz")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=alone)
    if done.returncode:
        return {"failed": [(done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:160]]}
    return json.loads(done.stdout)


def _beside(found: dict[str, list], last: np.ndarray, book_us: float, rate: float, bar_us: float) -> list[Result]:
    if "failed" in found:
        return [Result(TITLE, "peers", "did not run", np.nan, "", note=found["failed"][0])]
    out = []
    for name in (name for name in ("pandas", "polars") if name in found):
        rows_s, update_us, values = found[name]
        own = {other: float(last[NAMES.index(other)]) for other in values}
        near = sum(
            abs((values[other] if values[other] == values[other] else 0.0) - own[other]) <= 1e-6 * max(1e-9, abs(own[other]))
            for other in values
        )
        note = f"{len(values)} window sums only; {near} of the last row's as ours to 1e-6"
        out.append(Result(TITLE, f"{name} batch", "rows", rows_s, "rows/s", rate / rows_s, note=note))
        out.append(Result(TITLE, f"{name} live", "a book update from the last 30 s", update_us, "us", update_us / book_us, note=note))
    out.append(Result(TITLE, "tidebook", "a closed bar, 31 price indicators and moments", bar_us, "us"))
    if "talib" in found:
        batch_us, stream_us = found["talib"]
        note = "11 columns of EMA, RSI, MACD, bands, ATR"
        out.append(Result(TITLE, "TA-Lib batch", "a bar", batch_us, "us", batch_us / bar_us, note=note))
        out.append(Result(TITLE, "TA-Lib stream", "a bar from the last 200", stream_us, "us", stream_us / bar_us, note=note))
    return out


def measure(events: Events, rounds: int) -> list[Result]:
    """Return what a book update and a trade take live, rows a second in batch, memory, bars, venues and the peers."""
    results, matrix, book_us, rate = _ours(events, rounds)
    made, bar_us = _bars()
    return [*results, *_venues(events), *_beside(_peers(events, made), matrix[-1], book_us, rate, bar_us)]
