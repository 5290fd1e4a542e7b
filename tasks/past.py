"""The past of a stream for a scorer that starts: folded from what the lake holds, as a rebuild of the day would.

Begins at what the newest finished day left, where the code and the fits are the same, or else
with the first book of the day; either way features and detectors then stand where those that
never stopped do.  A day of a busy stream takes seconds, read in pieces of 50,000 books.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tasks.detectors.fold import Detectors
from tasks.features.fold import Features
from tasks.fitted import in_force
from tasks.kept import Folds, day_before, is_outdated, kept
from tasks.named import same_book
from tasks.scored import Event, Warm
from tasks.venues.events import BOOK, CHANGE, TRADE
from warehouse.columns import DAY_NS, day_begins, day_name
from warehouse.lake import Lake
from warehouse.schema import OK

LOOK_BACK_NS = 400_000_000_000  # at least, of recorded rows, where there is nothing to begin at
_SLACK_NS = 600_000_000_000  # how far stamps of rows beside each other may lie apart
_PIECE = 50_000  # books that are in memory at once
_SETTLED_DAYS = 3  # days that left something and are looked at, newest first


@dataclass
class _Start:
    ns: int  # from which stamp on books are to be folded
    seq: int  # and from which event on all rows; 0: from the first there is
    state: bytes | None


def _index(lake: Lake, venue: str, symbol: str, since_ns: int) -> tuple[np.ndarray, np.ndarray]:
    # Number and stamp of the books since a moment, in the order of folding.
    table = lake.read("l2_snapshots", venue, symbol, since_ns, columns=["event_seq", "exchange_ns"])
    seq, ns = (table[name].to_numpy() for name in ("event_seq", "exchange_ns"))
    order = np.argsort(seq, kind="stable")
    return seq[order], ns[order]


def _start(lake: Lake, venue: str, symbol: str, joint_ns: int) -> _Start:
    day = day_name(joint_ns // DAY_NS)
    for _ in range(_SETTLED_DAYS):
        earlier = day_before(lake, venue, symbol, day)
        if earlier is None:
            break
        day, end = earlier, day_begins(earlier) + DAY_NS
        made = lake.manifest("features", venue, symbol, day) or {}
        if made.get("is_over") and not is_outdated(lake, venue, symbol, day):
            return _Start(end, int(_index(lake, venue, symbol, end)[0].min()), kept(lake, venue, symbol, day))
    since = day_begins(day_name((joint_ns - LOOK_BACK_NS) // DAY_NS))
    is_first = all((at, name) != (venue, symbol) or day_begins(day) >= since for at, name, day in lake.partitions("l2_snapshots"))
    return _Start(since, 0 if is_first else int(_index(lake, venue, symbol, since)[0].min()), None)


def _pieces(
    lake: Lake, venue: str, symbol: str, start: _Start, joint: np.void, changes: np.ndarray
) -> Iterator[tuple[str, list[np.ndarray]]]:
    # Books, trades and changes in [start, joint), a day's or less at a time.
    seq, ns = _index(lake, venue, symbol, start.ns)
    is_due = (seq >= start.seq) & (seq < joint["event_seq"])
    seq, ns = seq[is_due], ns[is_due]
    days = np.maximum.accumulate(ns // DAY_NS)
    begins = np.unique(np.concatenate([np.arange(0, seq.size, _PIECE), np.flatnonzero(np.diff(days, prepend=-1))])) if seq.size else [0]
    firsts = [start.seq, *(int(seq[i]) for i in begins[1:]), int(joint["event_seq"])]
    for n, (low, high) in enumerate(pairwise(firsts)):
        to = begins[n + 1] if n + 1 < len(begins) else seq.size
        stamps = ns[begins[n] : to] if seq.size else np.array([joint["exchange_ns"]])
        since, until = int(stamps.min()), int(stamps.max()) + 1
        after = max(until, int(ns[to] if to < seq.size else joint["exchange_ns"]))
        books = lake.rows("l2_snapshots", venue, symbol, since, until)
        trades = lake.rows("trades", venue, symbol, None if low == 0 else since - _SLACK_NS, after + _SLACK_NS)
        rows = [part[(part["event_seq"] >= low) & (part["event_seq"] < high)] for part in (books, trades, changes)]
        day = day_name(int(days[begins[n]]) if seq.size else int(joint["exchange_ns"]) // DAY_NS)
        yield day, [part[np.argsort(part["event_seq"], kind="stable")] for part in rows]


def _joint(lake: Lake, venue: str, symbol: str, first: np.void) -> np.void | None:
    # The recorded row of the scorer's first book.
    near = lake.rows("l2_snapshots", venue, symbol, int(first["exchange_ns"]), int(first["exchange_ns"]) + 1)
    met = [row for row in near[near["update_id"] == first["update_id"]] if same_book(row) == same_book(first)]
    return met[-1] if met else None


def warm_from(lake: Lake, venue: str) -> Warm:
    """Return how a scorer finds its past in the lake.

    The recorder of the stream and the scorer see the same updates: the recorded rows up to
    the scorer's first book are folded, and its own events follow without a seam.
    """

    def warm(
        symbol: str, features: Features, detectors: Detectors, pending: list[Event], is_over: Callable[[], bool] = lambda: False
    ) -> bool:
        begin = next(i for i, (event, _) in enumerate(pending) if event == BOOK)
        joint = _joint(lake, venue, symbol, pending[begin][1][0])
        if joint is None:
            return False
        changes = lake.rows("coverage_changes", venue, symbol)
        changes = changes[np.argsort(changes["event_seq"], kind="stable")]
        changes = changes[changes["event_seq"] < joint["event_seq"]]
        if not changes.size or changes[-1]["state"] != OK:
            return False
        start = _start(lake, venue, symbol, int(joint["exchange_ns"]))
        if start.state is not None:
            Folds(features, detectors).restore(start.state)
        elif start.seq:  # begins in the state the stream was in, as of the first book
            before = changes[changes["event_seq"] < start.seq][-1:].copy()
            before["exchange_ns"] = _index(lake, venue, symbol, start.ns)[1][0]
            features.batch(np.zeros(0, joint.dtype), changes=before)
        first_seq, folded = detectors.state["signals"].copy(), set()
        awaited = np.array([int(row["trade_id"][0]) for event, row in pending if event == TRADE], np.int64)
        for day, (books, trades, turns) in _pieces(lake, venue, symbol, start, joint, changes):
            if is_over():
                return False
            features.use(in_force(lake, venue, symbol, day))
            detectors.batch(*features.batch(books, trades, turns))
            features.bars()  # the rebuild of the day writes them
            folded |= set(awaited[np.isin(awaited, trades["trade_id"])].tolist())  # ids need not ascend: some venues' are hashes
        detectors.state["signals"] = first_seq  # what they said of the past is not said again
        pending[:] = [
            (event, row)
            for i, (event, row) in enumerate(pending)
            if event == BOOK or (event == TRADE and int(row["trade_id"][0]) not in folded) or (event == CHANGE and i > begin)
        ]  # what changed up to the joint is folded with the recorded rows
        return True

    return warm
