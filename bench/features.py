"""Section: the features of a book update, live and in batch."""

import statistics
import time

import numpy as np
from contest import quantiles
from events import Events
from results import Result

from tasks.features.catalogue import NAMES
from tasks.features.fold import Features
from tasks.venues.events import BOOK, TRADE

TITLE = f"Features ({len(NAMES)} of them), one core"
LIVE_US, BATCH_ROWS_S = 4.0, 500_000.0


def _live(events: Events, fold: Features) -> tuple[float, float]:
    # Runs of equal events are timed as a whole: a clock around each call would cost a tenth of it.
    views = {BOOK: events.books, TRADE: events.trades}
    took = dict.fromkeys(views, 0.0)
    for event, start, stop in _runs(events.order):
        if event not in views:
            for k in range(start, stop):
                fold.change(events.changes[k : k + 1])
            continue
        rows = [views[event][k : k + 1] for k in range(start, stop)]
        call = fold.book if event == BOOK else fold.trade
        began = time.process_time()
        for row in rows:
            call(row)
        took[event] += time.process_time() - began
    return took[BOOK], took[TRADE]


def _runs(order: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    runs: list[tuple[int, int, int]] = []
    for event, k in order:
        if runs and runs[-1][0] == event:
            runs[-1] = (event, runs[-1][1], k + 1)
        else:
            runs.append((event, k, k + 1))
    return runs


def _tail(events: Events) -> dict[str, float]:
    fold, times, clock = Features(), [], time.perf_counter_ns
    for event, k in events.order:
        if event == TRADE:
            fold.trade(events.trades[k : k + 1])
        elif event == BOOK:
            row = events.books[k : k + 1]
            start = clock()
            fold.book(row)
            times.append(clock() - start)
        else:
            fold.change(events.changes[k : k + 1])
    return quantiles(times)


def measure(events: Events, rounds: int) -> list[Result]:
    """Return microseconds a book and a trade live, and rows a second in batch; live and batch are compared."""
    n, books, trades, batches = len(events.books), [], [], []
    for turn in range(rounds + 1):
        fold = Features()
        book_s, trade_s = _live(events, fold)
        start = time.process_time()
        _, matrix = Features().batch(events.books, events.trades, events.changes)
        batch_s = time.process_time() - start
        if turn:  # the first is for the compiler
            books.append(book_s / n)
            trades.append(trade_s / max(1, len(events.trades)))
            batches.append(batch_s)
    tail = _tail(events)
    same = np.array_equal(fold.row, matrix[-1], equal_nan=True)
    book_us, trade_us = statistics.median(books) * 1e6, statistics.median(trades) * 1e6
    whole_us = book_us + trade_us * len(events.trades) / n
    rate = n / statistics.median(batches)
    per_event = (n + len(events.trades)) / statistics.median(batches)
    parity = "last row live = batch, bit for bit" if same else "WRONG: last row live differs from batch"
    live, batch = f"<= {LIVE_US:.0f} us", f">= {BATCH_ROWS_S:,.0f}"
    clocked = f"p50 {tail['p50_us']:.2f}, p99 {tail['p99_us']:.2f} us"
    apiece = f"{len(events.trades) / n:.1f} trades a book update"
    return [
        Result(
            TITLE, "tidebook live", f"a book update, {n:,}", book_us, "us", None, live, same and book_us <= LIVE_US, f"{clocked}; {parity}"
        ),
        Result(TITLE, "tidebook live", f"a trade, {len(events.trades):,}", trade_us, "us", None, live, same and trade_us <= LIVE_US),
        Result(TITLE, "tidebook live", "a book update and its trades", whole_us, "us", note=apiece),
        Result(
            TITLE,
            "tidebook batch",
            "feature rows",
            rate,
            "rows/s",
            None,
            batch,
            same and rate >= BATCH_ROWS_S,
            f"{per_event:,.0f} events/s",
        ),
    ]
