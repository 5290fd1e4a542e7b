"""Recorded events of several venues in the order in which a live process would have seen them.

A live process takes frames as they come off its sockets: by our clock.  Within a stream the
order is that of `event_seq`, and receive stamps run backwards there now and then, so a stream's
place among the others is the latest stamp it has borne so far; equal ones go by the venues' order.
Where our clock was set forward and back, the stamps of between are shifted to the time they were taken at:
as the latest stamp, the furthest would stand for all that comes until the clock is as far again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.features.cross_venue import BOOKS, CHANGES, TRADES
from warehouse.columns import DAY_NS, day_begins
from warehouse.lake import Lake
from warehouse.schema import START, row_dtype

SLACK_NS = 600_000_000_000  # how far a row's own stamp may lie outside the day in which it comes
_TABLES = {BOOKS: "l2_snapshots", TRADES: "trades", CHANGES: "coverage_changes"}
_SET_NS = 1_000_000_000  # stamps that run back further show a clock that was set, not frames that overtook each other
_PIECE = 100_000  # events that are in memory at once, 70 MB
ENTRY = np.dtype([(name, "i8") for name in ("place", "kind", "event_seq", "exchange_ns", "clock_ns")])
Piece = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Day:
    """The events of one day, as places in the tables; they are read by `pieces`.

    Attributes
    ----------
    entries : ndarray of ENTRY
        In the order of folding.
    following : ndarray of ENTRY
        The event that ends the day, which is the next one's first: shape (1,) or, where none came within 10 minutes, (0,).
    before : tuple of int
        In which state each stream was.
    """

    entries: np.ndarray
    following: np.ndarray
    before: tuple[int, ...]


def day_of(lake: Lake, streams: Sequence[tuple[str, str]], day: str, since: Sequence[int] | None) -> Day:
    """Return the events of one day.

    A day begins with the first book or trade, of whichever venue, whose own stamp is past midnight.

    Parameters
    ----------
    since : sequence of int, optional
        `event_seq` of each stream from which on events are not folded yet, as of the day before; without it
        the day begins by itself.
    """
    start = day_begins(day)
    found = [_index(lake, place, *stream, start) for place, stream in enumerate(streams)]
    entries = np.concatenate(found)
    # Changes of later days have no row here to change; those of this one are known by our clock.
    moving = entries["clock_ns"][entries["kind"] != CHANGES]
    entries = entries[entries["clock_ns"] <= moving.max(initial=0)]
    entries = entries[np.lexsort((entries["event_seq"], entries["place"], entries["clock_ns"]))]
    begin = _first(entries, start) if since is None else 0
    last = _first(entries, start + DAY_NS)
    if since is None:
        before = tuple(_state(lake, *stream, entries[:begin], place) for place, stream in enumerate(streams))
        mine = entries[begin:last]
    else:
        before = ()
        mine = entries[:last]
        mine = mine[mine["event_seq"] >= np.array(since)[mine["place"]]]
    return Day(mine, entries[last : last + 1], before)


def _index(lake: Lake, place: int, venue: str, symbol: str, start: int) -> np.ndarray:
    parts = []
    for kind, table in _TABLES.items():
        bounds = (None, None) if kind == CHANGES else (start - SLACK_NS, start + DAY_NS + SLACK_NS)
        names = ["event_seq", "exchange_ns", "receive_ns", *(["backfill"] if kind == TRADES else [])]
        rows = lake.read(table, venue, symbol, *bounds, columns=names)
        part = np.zeros(rows.num_rows, ENTRY)
        part["place"], part["kind"] = place, kind
        for name, column in (("event_seq", "event_seq"), ("exchange_ns", "exchange_ns"), ("clock_ns", "receive_ns")):
            part[name] = rows[column].to_numpy()
        parts.append(part[rows["backfill"].to_numpy() == 0] if kind == TRADES else part)  # history is not news
    whole = np.concatenate(parts)
    whole = whole[np.argsort(whole["event_seq"], kind="stable")]
    whole["clock_ns"] = _running(whole["clock_ns"])
    return whole


def _running(stamps: np.ndarray) -> np.ndarray:
    # The latest stamp so far, of stamps without those that a clock bore for a while that was set forward.
    latest, soonest = np.maximum.accumulate(stamps), np.minimum.accumulate(stamps[::-1])[::-1]
    is_far, is_behind = stamps - soonest > _SET_NS, latest - stamps > _SET_NS
    if not is_far.any():
        return latest
    # A stretch that the clock's way back lies in: of the stamps far ahead and those behind them the fewer are wrong.
    stretch = np.cumsum(np.concatenate([[0], latest[:-1] <= soonest[1:]]))
    is_wrong = is_far & (np.bincount(stretch, is_far) < np.bincount(stretch, is_behind))[stretch]
    shifted = stamps.copy()
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_wrong, [False]])))
    for first, last in edges.reshape(-1, 2):
        ahead = stamps[last - 1] - soonest[last]  # one behind it is sooner, so it is not the last of all
        shifted[first:last] = np.minimum(stamps[first:last] - ahead, soonest[last])
    return np.maximum.accumulate(shifted)


def _first(entries: np.ndarray, ns: int) -> int:
    # Where the first event stands that moves the clock to a moment or past it: all of them where none does.
    is_past = (entries["exchange_ns"] >= ns) & (entries["kind"] != CHANGES)
    return int(np.argmax(is_past)) if is_past.any() else entries.size


def _state(lake: Lake, venue: str, symbol: str, earlier: np.ndarray, place: int) -> int:
    mine = earlier[(earlier["place"] == place) & (earlier["kind"] == CHANGES)]
    if not mine.size:
        return START
    changes = lake.rows("coverage_changes", venue, symbol)
    return int(changes["state"][changes["event_seq"] == mine["event_seq"][-1]][0])


def next_seqs(day: Day, since: Sequence[int] | None, n: int) -> list[int]:
    """Return the `event_seq` of each stream behind a day's events."""
    out = list(since or [0] * n)
    for place in range(n):
        mine = day.entries["event_seq"][day.entries["place"] == place]
        out[place] = int(mine.max()) + 1 if mine.size else out[place]
    return out


def pieces(lake: Lake, streams: Sequence[tuple[str, str]], entries: np.ndarray, cuts_ns: Sequence[int] = ()) -> Iterator[tuple[int, Piece]]:
    """Yield events with their rows, as `CrossVenue.batch` takes them, and our clock at the first of them.

    Parameters
    ----------
    cuts_ns : sequence of int
        Moments of our clock at which a piece ends.
    """
    cuts = np.searchsorted(entries["clock_ns"], np.asarray(cuts_ns, np.int64))
    ends = np.unique([*range(_PIECE, entries.size, _PIECE), *cuts[cuts > 0], entries.size])
    for first, last in zip([0, *ends[:-1]], ends, strict=True):
        part = entries[first:last]
        if part.size:
            yield int(part["clock_ns"][0]), _rows(lake, streams, part)


def _rows(lake: Lake, streams: Sequence[tuple[str, str]], part: np.ndarray) -> Piece:
    at, tables = np.zeros(part.size, np.int64), []
    for kind, table in _TABLES.items():
        found, n = [np.zeros(0, row_dtype(table))], 0
        for place, stream in enumerate(streams):
            mine = np.flatnonzero((part["kind"] == kind) & (part["place"] == place))
            if not mine.size:
                continue
            ns, wanted = part["exchange_ns"][mine], part["event_seq"][mine]
            rows = lake.rows(table, *stream, int(ns.min()), int(ns.max()) + 1)
            order = np.argsort(rows["event_seq"], kind="stable")
            rows = rows[order[np.searchsorted(rows["event_seq"], wanted, sorter=order)]]
            at[mine] = n + np.arange(mine.size)
            n += mine.size
            found.append(rows)
        tables.append(np.concatenate(found))
    books, trades, changes = tables
    return np.ascontiguousarray(part["kind"]), np.ascontiguousarray(part["place"]), at, books, trades, changes
