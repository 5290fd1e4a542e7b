"""What the other sections measure on: the events of a capture as rows, features of them, a model on those."""

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models import booster
from tasks.features.catalogue import NAMES, SETS
from tasks.features.fold import Features
from tasks.replay import read_capture
from tasks.venues.binance import Binance
from tasks.venues.events import BOOK, CHANGE, TRADE
from warehouse.schema import row_dtype

N_FEATURES, N_LEAVES, N_TREES = 60, 31, 300


@dataclass(frozen=True)
class Events:
    """A stream as rows of its tables, and the order in which they came: BOOK, TRADE or CHANGE, row number."""

    books: np.ndarray
    trades: np.ndarray
    changes: np.ndarray
    order: list[tuple[int, int]]


def record(venue: str, raw_symbol: str, files: list[Path]) -> Events:
    """Return the events of a capture."""
    stream = Binance(venue, raw_symbol)
    views = {BOOK: stream.row, TRADE: stream.trade, CHANGE: stream.change}
    rows: dict[int, list[np.ndarray]] = {event: [] for event in views}
    order = []
    for receive_ns, frame in read_capture(files):
        for event in stream.receive(frame, receive_ns):
            if event in views:
                order.append((event, len(rows[event])))
                rows[event].append(copy.copy(views[event]))
    kinds = {BOOK: "l2_snapshots", TRADE: "trades", CHANGE: "coverage_changes"}
    tables = {event: np.concatenate(rows[event]).astype(row_dtype(kind)) for event, kind in kinds.items()}
    return Events(tables[BOOK], tables[TRADE], tables[CHANGE], order)


def train(events: Events) -> tuple[object, list[int], np.ndarray]:
    """Return a booster of 300 trees x 31 leaves x 60 features, the features' columns, and the rows it was trained on.

    It learns whether the mid is higher 50 books later; how well it learns does not matter here.
    """
    _, matrix = Features().batch(events.books, events.trades, events.changes)
    filled = [name for name in SETS["l2_core"] if np.isfinite(matrix[:, NAMES.index(name)]).any()]
    rest = [name for name in SETS["l2_core"] if name not in filled]
    columns = sorted(NAMES.index(name) for name in (filled + rest)[:N_FEATURES])
    mid = matrix[:, NAMES.index("mid")]
    ahead = np.roll(mid, -50) - mid
    usable = np.isfinite(ahead) & (ahead != 0.0) & (np.arange(len(mid)) < len(mid) - 50)
    params = {"num_leaves": N_LEAVES, "min_data_in_leaf": 10, "feature_fraction": 1.0}
    names = [NAMES[column] for column in columns]
    trained = booster.train(matrix[usable][:, columns], ahead[usable] > 0.0, names, params=params, n_trees=N_TREES)
    return trained, columns, np.ascontiguousarray(matrix[:, columns])
