"""Compile every kernel once, by running each part of the path on a handful of made-up rows.

The parts share no kernel, so each is compiled in a process of its own where there are cores for it.
"""

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from hashlib import sha256
from pathlib import Path

import numba
import numpy as np
from numba.core.registry import cpu_target

from compiled import key_cache
from warehouse.schema import row_dtype

_SNAPSHOT = b'{"lastUpdateId":10,"bids":[["100.0","1.0"],["99.0","2.0"]],"asks":[["101.0","1.0"],["102.00","2.0"]]}'
_DEPTH = b'{"e":"depthUpdate","E":%d,"s":"BTCUSDT","U":%d,"u":%d,"b":[["%s","1.5"],["20.05","0"]],"a":[["500000.0","2"]]}'
_TRADE = b'{"e":"trade","E":2,"s":"BTCUSDT","t":%d,"p":"101.0","q":"1.0","T":2,"m":false,"M":true}'


def compile_kernels(told: Callable[[str], None] = lambda _: None, processes: int | None = None) -> None:
    """Run books, trades, features, detectors, labels and scores through their kernels; results are thrown away.

    Nothing is done where the cache has all of them already, for this machine.

    Parameters
    ----------
    told : callable
        Takes the name of each part that is done.
    processes : int, optional
        How many parts compile at once; as many as there are cores where not given.
    """
    done, state = key_cache() / "whole", _state()
    if done.is_file() and done.read_text() == state:
        return
    count = min(processes or os.cpu_count() or 1, len(PARTS))
    if count == 1:
        for name, part in PARTS.items():
            part()
            told(name)
    else:
        with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
            waiting = {pool.submit(part): name for name, part in PARTS.items()}
            for ready in as_completed(waiting):
                ready.result()
                told(waiting[ready])
    done.write_text(state)


def _state() -> str:
    """Return what the kernels of a cache depend on besides the sources: Numba, the processor, and which parts are compiled."""
    machine = cpu_target.target_context.codegen().magic_tuple()
    return repr((numba.__version__, machine, sha256(Path(__file__).read_bytes()).hexdigest()))


def compile_books() -> None:
    """Compile what turns frames into books and trades, and what counts their latency."""
    from tasks.venues.binance import Binance
    from tasks.venues.book import new_book, wider

    adapter, prices = Binance("binance_spot", "BTCUSDT"), (b"100.0", b"100.5", b"3.25", b"100.0")
    frames = [_SNAPSHOT, *(_DEPTH % (1000 * i, 10 + i, 10 + i, price) for i, price in enumerate(prices, 1))]
    frames += [_TRADE % 7, _TRADE % 8, _TRADE % 10, b" " + _TRADE % 11, b"", b"{"]
    for frame in frames:
        list(adapter.receive(frame, 1))
    wider(*new_book("BTCUSDT", futures=False))


def compile_ladders() -> None:
    """Compile the books of venues that a JSON library reads, the latency of rows, and the simulated market."""
    from simulator.server import compile_market
    from tasks.feed.latency import add_book, add_trade, new_histogram, quantiles_ms
    from tasks.venues.ladder import Ladder

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
    compile_market()


def compile_features() -> None:
    """Compile the fold of features and bars, live and in batch, and what a bar owes to a reference symbol."""
    from tasks.features.bars import BAR
    from tasks.features.fold import Features
    from tasks.features.reference import CLOSE, put_reference

    books, trades, changes = (np.zeros(1, row_dtype(name)) for name in ("l2_snapshots", "trades", "coverage_changes"))
    features = Features()
    features.change(changes)
    features.book(books)
    features.trade(trades)
    features.batch(books, trades, changes)
    bars, closes = np.zeros(1, BAR), np.zeros(3, CLOSE)
    bars["exchange_ns"], bars["span_s"], closes["exchange_ns"], closes["span_s"] = 10**10, 1, [10**9, 2 * 10**9, 3 * 10**9], 1
    put_reference(bars, closes[:0], closes)


def compile_detectors() -> None:
    """Compile the detectors of a stream and of a base asset, live and in batch."""
    from tasks.detectors.divergence import Divergence
    from tasks.detectors.fold import Detectors
    from tasks.features.catalogue import NAMES
    from tasks.features.fold import META

    meta, rows = np.zeros(2, META), np.full((2, len(NAMES)), np.nan)
    Detectors().step(rows[0], meta[:1])
    Detectors().batch(meta, rows)
    Divergence().batch(np.zeros(1, row_dtype("consolidated")))


def compile_venues() -> None:
    """Compile the fold over venues, labels, scores and what judges them."""
    from models.evaluation import auc_intervals
    from models.labels import triple_barrier, volatility_normalized_return
    from models.microprice import Microprice
    from models.moves import microstructure, smoothed_direction, sweep_cost_bps
    from models.strategy import trade
    from tasks.features.cross_venue import CrossVenue

    venues = CrossVenue(("binance_usdm", "bybit_linear"), (1.0, 1.0), (1.0, 1.0))
    list(venues.book(0, np.zeros(1, row_dtype("l2_snapshots"))))
    list(venues.trade(0, np.zeros(1, row_dtype("trades"))))
    one, events = np.zeros(1, np.int64), (np.zeros(1, row_dtype(name)) for name in ("l2_snapshots", "trades", "coverage_changes"))
    venues.batch(one, one, one, *events)
    ns, price = np.arange(200) * 1_000_000_000, 100.0 + np.sin(np.arange(200.0))
    bid, ask, one = price - 0.5, price + 0.5, np.ones(200)
    volatility_normalized_return(ns, price, 1_000_000_000)
    triple_barrier(ns, bid, ask, 1.0, 1.0, 5_000_000_000, 1.0)
    books = np.zeros(200, row_dtype("l2_snapshots"))  # its columns are strided, which is a type of its own
    cost = sweep_cost_bps(books["ask_px"], books["ask_sz"], price, 10.0)
    microstructure(ns, Microprice().at(bid, ask, one, one), bid, ask, cost, cost, one, 1_000_000_000)
    smoothed_direction(ns, price, 2, 0.0)
    trade(ns, np.full(200, 0.5), bid, ask, 0.2, 0.8, 1)
    auc_intervals(price > 100.0, [price], ns, 10_000_000_000, resamples=1)


def compile_scores() -> None:
    """Compile the walk through the trees, of one row and of many."""
    from models import booster
    from models.scorer import Scorer
    from tasks.features.catalogue import NAMES

    rows = np.random.default_rng(0).normal(size=(400, len(NAMES)))
    trained = booster.train(rows, (rows[:, 0] > 0).astype(float), NAMES, n_trees=2)
    Scorer(booster.text(trained)).batch(rows)


# The longest first, so that cores are done at about the same time.
PARTS: dict[str, Callable[[], None]] = {
    "features": compile_features,
    "books": compile_books,
    "ladders": compile_ladders,
    "detectors": compile_detectors,
    "venues and labels": compile_venues,
    "scores": compile_scores,
}
