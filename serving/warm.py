"""Compile every kernel once, by running the whole path on a handful of made-up frames."""

from collections.abc import Callable

import numpy as np

from models import booster
from models.labels import triple_barrier, volatility_normalized_return
from models.scorer import Scorer
from tasks.features.catalogue import NAMES
from tasks.features.fold import Features
from tasks.feed.latency import add_book, add_trade, new_histogram, quantiles_ms
from tasks.venues.binance import Binance
from tasks.venues.events import BOOK, CHANGE, TRADE
from tasks.venues.ladder import Ladder

_SNAPSHOT = b'{"lastUpdateId":10,"bids":[["100.0","1.0"],["99.0","2.0"]],"asks":[["101.0","1.0"],["102.00","2.0"]]}'
_DEPTH = b'{"e":"depthUpdate","E":%d,"s":"BTCUSDT","U":%d,"u":%d,"b":[["%s","1.5"],["20.05","0"]],"a":[["500000.0","2"]]}'
_TRADE = b'{"e":"trade","E":2,"s":"BTCUSDT","t":%d,"p":"101.0","q":"1.0","T":2,"m":false,"M":true}'


def compile_kernels(told: Callable[[str], None] = lambda _: None) -> None:
    """Run books, trades, features, labels and scores through their kernels; results are thrown away."""
    told("books")
    adapter, features = Binance("binance_spot", "BTCUSDT"), Features()
    prices = (b"100.0", b"100.5", b"3.25", b"100.0")
    frames = [_SNAPSHOT, *(_DEPTH % (1000 * i, 10 + i, 10 + i, price) for i, price in enumerate(prices, 1))]
    frames += [_TRADE % 7, _TRADE % 8, _TRADE % 10, b" " + _TRADE % 11, b"", b"{"]
    books, trades, changes = [], [], []
    for frame in frames:
        for event in adapter.receive(frame, 1):
            if event == BOOK:
                books.append(adapter.row.copy())
                features.book(adapter.row)
            elif event == TRADE:
                trades.append(adapter.trade.copy())
                features.trade(adapter.trade)
            elif event == CHANGE:
                changes.append(adapter.change.copy())
                features.change(adapter.change)
    _compile_ladder()
    told("features")
    Features().batch(np.concatenate(books), np.concatenate(trades), np.concatenate(changes))
    told("labels")
    ns, price = np.arange(200) * 1_000_000_000, 100.0 + np.sin(np.arange(200.0))
    volatility_normalized_return(ns, price, 1_000_000_000)
    triple_barrier(ns, price - 0.5, price + 0.5, 1.0, 1.0, 5_000_000_000, 1.0)
    told("scores")
    rows = np.random.default_rng(0).normal(size=(400, len(NAMES)))
    scorer = Scorer(booster.text(booster.train(rows, (rows[:, 0] > 0).astype(float), NAMES, n_trees=2)))
    scorer.batch(rows)


def _compile_ladder() -> None:
    # Books of venues that a JSON library reads, and the latency of rows.
    ladder, late = Ladder("BTC/USD", "BTC-USD", depth=2), new_histogram()
    for price in ("100.5", "100.25", "3.125"):
        ladder.read([("100.0", "1"), ("99.0", "2"), (price, "1")], [("101.0", "1"), ("102.0", "2"), ("500000.0", "1")], b"")
        ladder.replace()
        for ns in (1, 10**11):
            list(ladder.publish(ns, ns, ns))
            ladder.read([("100.0", "3")], [("101.5", "1")], b"")
            ladder.apply()
        ladder.peek()
        list(ladder.gap(1))
    list(ladder.print_trade("100.0", "1", 1, 1, 1, 7))
    for late_ns in (5, 10**9, 0):
        ladder.row["receive_ns"] = ladder.row["exchange_ns"] + late_ns
        add_book(ladder.row.view(np.int64), late)
    add_trade(ladder.trade.view(np.int64), late)
    quantiles_ms(late)
