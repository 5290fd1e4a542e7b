"""Streams of books, trades and coverage changes: of captures, of a seed, and as Hypothesis likes them worst."""

from functools import lru_cache

import numpy as np
from hypothesis import strategies as st

from tasks.features.fold import Features
from tasks.venues.binance import Binance
from tasks.venues.events import BOOK, CHANGE, TRADE
from tests.naive_features import SECOND, merged
from warehouse.lake import Lake
from warehouse.schema import GAP, LEVELS, OK, row_dtype

START_NS = 1_723_161_599_250_000_000  # a quarter of a second into a second, soon a new hour and day
KINDS = ("l2_snapshots", "trades", "coverage_changes")


@lru_cache(maxsize=8)
def recorded(capture, n_depth=None):
    """Return the rows of a capture's three tables."""
    stream, out = Binance(capture.venue, capture.raw_symbol), {BOOK: [], TRADE: [], CHANGE: []}
    views = {BOOK: stream.row, TRADE: stream.trade, CHANGE: stream.change}
    for receive_ns, frame in capture.frames(n_depth):
        for event in stream.receive(frame, receive_ns):
            if event in out:
                out[event].append(views[event].copy())
    return tuple(np.concatenate(rows).astype(row_dtype(kind)) for rows, kind in zip(out.values(), KINDS, strict=True))


def good(exchange_ns=START_NS, event_seq=0, state=OK):
    """Return one change of coverage."""
    change = np.zeros(1, row_dtype("coverage_changes"))
    change["exchange_ns"], change["event_seq"], change["state"] = exchange_ns, event_seq, state
    return change


def books_at(ns, bid=100.0, ask=101.0, levels=LEVELS, size=1.0, tick=1.0):
    """Return books of evenly spaced levels; `ns`, `bid`, `ask` and `size` may differ from row to row."""
    ns = np.atleast_1d(ns)
    rows = np.zeros(len(ns), row_dtype("l2_snapshots"))
    rows["exchange_ns"] = rows["receive_ns"] = ns
    rows["seq"] = np.arange(len(ns))
    away = np.where(np.arange(LEVELS) < levels, np.arange(LEVELS) * tick, np.nan)
    rows["bid_px"], rows["ask_px"] = np.reshape(bid, (-1, 1)) - away, np.reshape(ask, (-1, 1)) + away
    rows["bid_sz"] = rows["ask_sz"] = np.where(np.isnan(away), 0.0, np.reshape(size, (-1, 1)))
    return rows


def trades_at(ns, price=100.5, size=1.0, aggressor=1):
    """Return trades; everything may differ from row to row."""
    ns = np.atleast_1d(ns)
    rows = np.zeros(len(ns), row_dtype("trades"))
    rows["exchange_ns"] = rows["receive_ns"] = ns
    rows["seq"] = np.arange(len(ns))
    rows["price"], rows["size"], rows["aggressor"] = price, size, aggressor
    return rows


def in_order(books, trades, change=None):
    """Number all events by time, trades before books of the same time, and return the three tables."""
    ns = np.concatenate([trades["exchange_ns"], books["exchange_ns"]])
    seq = np.empty(len(ns), np.int64)
    seq[np.argsort(ns, kind="stable")] = np.arange(1, len(ns) + 1)
    trades["event_seq"], books["event_seq"] = seq[: len(trades)], seq[len(trades) :]
    return books, trades, good(int(ns.min())) if change is None else change


def market(seed=0, n=4500, mean_ns=100_000_000, start_ns=START_NS, price=60_000.0):
    """Return a stream of a wandering price, a third of it trades, sizes of all magnitudes, many equal times."""
    rng = np.random.default_rng(seed)
    ns = start_ns + np.cumsum(rng.choice((0, 1, 5), n) * rng.exponential(mean_ns / 2, n)).astype(np.int64) // 1_000_000 * 1_000_000
    is_trade = rng.random(n) < 1 / 3
    price = price + np.cumsum(rng.integers(-2, 3, n)) * 0.5
    books = books_at(ns[~is_trade], price[~is_trade] - 0.25, price[~is_trade] + 0.25 * rng.integers(1, 4, (~is_trade).sum()), tick=0.5)
    for side in ("bid_sz", "ask_sz"):
        books[side] = np.exp(rng.normal(0, 2, books[side].shape))
    side = rng.choice((-1, 1), n)
    trades = trades_at(ns[is_trade], (price + 0.25 * side)[is_trade], np.exp(rng.normal(-2, 2, n))[is_trade], side[is_trade])
    return in_order(books, trades)


def live(tables, features=None):
    """Fold a stream event by event; return copies of the meta records and rows."""
    features = features or Features()
    take = (features.book, features.trade, features.change)
    meta, out = [], []
    for kind, i in merged(*tables):
        take[kind](tables[kind][i : i + 1])
        if kind == 0:
            meta.append(features.meta.copy())
            out.append(features.row.copy())
    return (np.concatenate(meta), np.array(out)) if meta else Features().batch(tables[0])


def cut(tables, start, stop):
    """Return the events of a stretch of `event_seq`."""
    return tuple(rows[(rows["event_seq"] >= start) & (rows["event_seq"] < stop)] for rows in tables)


_GAPS = (
    0,
    0,
    1,
    1_000_000,
    750_000_000,
    SECOND,
    SECOND,
    5 * SECOND,
    25 * SECOND,
    59 * SECOND,
    300 * SECOND,
    4000 * SECOND,
    -1,
    -2 * SECOND,
)
_SIZES = (1.0, 1.0, 2.0, 0.1, 0.3, 7.25, 1e-8, 1e9)


@st.composite
def streams(draw, events=40, changes=True):
    """Draw a stream: equal and backward times, long silences, thin and one-sided books, gaps, unknown aggressors, any size."""
    ns, tables = START_NS, ([], [], [good()] if draw(st.integers(0, 9)) else [])
    sizes, small = st.sampled_from(_SIZES), st.integers(-3, 3)
    for event_seq in range(1, draw(st.integers(1, events)) + 1):
        ns += draw(st.sampled_from(_GAPS))
        kind = draw(st.sampled_from((0, 0, 0, 1, 1, 2 if changes and draw(st.integers(0, 4)) == 0 else 1)))
        if kind == 2:
            rows = good(ns + draw(st.sampled_from((0, -10 * SECOND))), state=draw(st.sampled_from((OK, OK, GAP))))
        elif kind == 1:
            rows = trades_at(ns, 100.0 + draw(small) / 4, draw(sizes), draw(st.sampled_from((1, -1, 1, -1, 0))))
        else:
            bid = 100.0 + draw(small)
            rows = books_at(ns, bid, bid + draw(st.sampled_from((0.5, 0.5, 1.0, 3.0, 90.0))), tick=draw(st.sampled_from((0.5, 0.5, 1.0))))
            for side in ("bid", "ask"):
                n = draw(st.sampled_from((20, 20, 20, 20, 6, 2, 1, 0)))
                rows[f"{side}_sz"] = np.resize([draw(sizes) for _ in range(4)], LEVELS)
                rows[f"{side}_sz"][:, n:], rows[f"{side}_px"][:, n:] = 0.0, np.nan
            rows["doubt"] = draw(st.sampled_from((0, 0, 0, 0, 0, 0, 0, GAP)))
        rows["event_seq"] = event_seq
        tables[kind].append(rows)
    return tuple(np.concatenate([np.zeros(0, row_dtype(kind)), *rows]) for rows, kind in zip(tables, KINDS, strict=True))


def lake_of(root, venue, symbol, tables):
    """Return a lake that holds a stream's three tables."""
    lake = Lake(root)
    with lake.writer() as writer:
        session = writer.session(venue, symbol, "one", KINDS)
        for table, rows in zip(KINDS, tables, strict=True):
            session.append(table, rows)
        writer.commit()
    return lake
