"""One stream as a scorer sees it, before its first book."""

import asyncio

import numpy as np

from tasks import scored
from tasks.venues.events import BOOK, CHANGE, TRADE
from warehouse.lake import Lake
from warehouse.schema import row_dtype


def test_trades_of_a_stream_whose_book_does_not_come_are_not_kept_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(scored, "_WAITING", 10)
    seen = []

    def warm(symbol, features, detectors, pending, is_over):
        seen.append([(event, int(row["event_seq"][0])) for event, row in pending])
        return False

    stream = scored.Scored(Lake(tmp_path), "binance_spot", "BTC-USDT", lambda: None, lambda *_: 0, {}, warm=warm)
    rows = {
        event: np.zeros(1, row_dtype(table)) for event, table in ((BOOK, "l2_snapshots"), (TRADE, "trades"), (CHANGE, "coverage_changes"))
    }

    def take(events, first):
        for n, event in enumerate(events, first):
            rows[event]["event_seq"] = n
            stream.take(event, rows[event], 0)

    take([CHANGE, TRADE, CHANGE, *[TRADE] * 997], 0)
    asyncio.run(stream.warm_up(0.0, lambda: False))
    assert seen == [], "there is no book to look for"
    assert stream.is_waiting
    take([BOOK, *[TRADE] * 99], 1000)
    asyncio.run(stream.warm_up(60.0, lambda: False))
    (waited,) = seen
    first = waited[1][1]
    assert 980 < first < 991
    assert waited[0] == (CHANGE, 2), "the state that the stream was in"
    assert waited[1:] == [(BOOK if n == 1000 else TRADE, n) for n in range(first, 1100)], "the newest, and all from the book on"
