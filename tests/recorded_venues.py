"""Three venues recorded around midnight, what a live fold makes of them, and the rows of a lake that are made of the recordings."""

from contextlib import contextmanager

import numpy as np

from tasks.aligned import ALL, STORED, stored
from tasks.consolidate import Aligned, consolidate, days_due
from tasks.features.cross_venue import BOOKS, CHANGES, TRADES, CrossVenue
from tests.cross_streams import one_by_one, venue_events
from tests.streams import good
from warehouse.lake import Lake
from warehouse.schema import START, row_dtype

SYMBOLS = {"binance_spot": "BTC-USDT", "bybit_spot": "BTC-USDT", "kraken": "BTC-USD"}
RATES, FEES, HOUR = {"USDT": 1.0, "USD": 1.001}, {"": 1.0}, 3_600 * 10**9
ALIGNED = Aligned("BTC", SYMBOLS, RATES, FEES)
DAYS = ("2025-10-08", "2025-10-09")
MIDNIGHT = int(np.datetime64(DAYS[1], "ns").astype(np.int64))
TABLES = {BOOKS: "l2_snapshots", TRADES: "trades", CHANGES: "coverage_changes"}


@contextmanager
def nobody():
    yield True


@contextmanager
def somebody():
    yield False


def events_of(seed=1, seconds=90, before_s=65, **faults):
    """Return events around midnight, each stamped by our clock in the order of arrival, good from the start."""
    events = [(place, CHANGES, good(MIDNIGHT - before_s * 10**9)) for place in range(3)]
    events += venue_events(seed, seconds, start=MIDNIGHT - before_s * 10**9, **faults)
    numbers = {}
    for i, (place, kind, row) in enumerate(events):
        clock = max(events[0][2]["exchange_ns"][0], *(e[2]["exchange_ns"][0] for e in events[max(0, i - 20) : i + 1])) + i
        row["receive_ns"] = max(int(clock), int(events[i - 1][2]["receive_ns"][0]) + 1 if i else 0)
        row["event_seq"] = numbers[place] = numbers.get(place, -1) + 1
        row["seq"] = numbers[place, kind] = numbers.get((place, kind), -1) + 1
    return events


def record(lake, events, session="one", symbols=SYMBOLS):
    with lake.writer() as writer:
        for place, stream_of in enumerate(symbols.items()):
            writer.session(*stream_of, session, tuple(TABLES.values()))
            for kind, table in TABLES.items():
                rows = [row for of, what, row in events if (of, what) == (place, kind)]
                if rows:
                    writer.append(table, *stream_of, np.concatenate(rows))


def paid_lake(root):
    """Return a lake that holds what was paid and nothing else."""
    lake = Lake(root)
    pay(lake)
    return lake


def pay(lake):
    """Two venues pay every hour: what they paid at midnight is not known before ten past."""
    with lake.writer() as writer:
        for n, stream_of in enumerate(list(SYMBOLS.items())[:2]):
            rows = np.zeros(3, row_dtype("funding_rates"))
            rows["seq"], rows["exchange_ns"] = np.arange(3), MIDNIGHT + np.arange(-2, 1) * HOUR
            rows["funding_rate"] = (1e-5, 2e-5, 9e-5) if n else (1e-5, 4e-5, 1e-5)
            writer.session(*stream_of, "paid", ("funding_rates",)).append("funding_rates", rows)


def live_rows(events):
    fold = CrossVenue(tuple(SYMBOLS), (1.0, 1.0, 1.001), (1.0, 1.0, 1.0))
    for place in range(3):
        fold.turn(place, START)
    counts = next((i for i, (*_, row) in enumerate(events) if row["receive_ns"] >= MIDNIGHT + 600 * 10**9), len(events))
    rows = []
    for part, rates in ((events[:counts], (4e-5, 2e-5)), (events[counts:], (1e-5, 9e-5))):
        for place, rate in enumerate(rates):
            fold.funding(place, 8 * rate)
        rows.append(one_by_one(fold, part))
    return stored(fold, np.concatenate(rows))


def rows_of(lake):
    table = lake.read("consolidated", ALL, "BTC")
    rows = np.zeros(table.num_rows, STORED)
    for name in STORED.names:
        rows[name] = table[name].to_numpy()
    return rows


def make(lake, guard=nobody, aligned=ALIGNED, **options):
    return [consolidate(lake, aligned, day, guard, **options) for day in days_due(lake, aligned)]
