"""Captured hours into a lake again, to the same rows.

An hour of `raw` begins in the middle of a recording.  What the adapter knew there was kept beside
it; where it was not, or does not fit any more, the frames since the recording began bring the
adapter to that point, without a row.  A lake that has the recording knows its rows already and
skips them; in any other they are numbered anew.  There the stretches that the adapter itself doubts
are findings again; what was found beside its frames (a witness, a clock, a connection) is not in them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from tasks.replay import CaptureTruncatedError, read_capture
from tasks.venues import directory
from tasks.venues.events import BOOK, CHANGE, TRADE, UNREADABLE
from tasks.venues.ladder import Instrument
from tasks.venues.memento import StateError, restore
from tasks.venues.wire import Adapter
from warehouse.errors import SessionSupersededError, WarehouseError
from warehouse.lake import Lake
from warehouse.raw import Capture, captures, run_up
from warehouse.schema import SUSPECT
from warehouse.session import Session, Writer

TABLES = ("l2_snapshots", "trades", "coverage_changes", "unreadable")
_COMMIT_ROWS = 50_000


@dataclass
class Rerun:
    """What became of one run: `rows` that came, `new` that the lake did not have, `torn` files cut short."""

    symbol: str
    run: str
    files: int
    frames: int = 0
    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TABLES, 0))
    new: int = 0
    torn: list[Path] = field(default_factory=list)
    stood_on: str = "its beginning"


def rerun(lake: Lake, venue: str, paths: Sequence[Path], progress: Callable[[int], None] = lambda _: None) -> list[Rerun]:
    """Replay captured files, or all in folders, into a lake; return what became of each run, in order.

    Parameters
    ----------
    progress : callable
        Told how many compressed bytes have been read since the last call.
    """
    done = []
    with lake.writer() as writer:
        for (symbol, run), group in groupby(captures(paths), key=lambda capture: (capture.symbol, capture.run)):
            files = list(group)
            told = Rerun(symbol, run, len(files))
            done.append(told)
            _rerun(lake, writer, venue, files, told, progress)
    return done


def _rerun(lake: Lake, writer: Writer, venue: str, files: list[Capture], told: Rerun, progress: Callable[[int], None]) -> None:
    symbol, run = told.symbol, told.run
    is_known = run in lake.sessions(venue, symbol)
    tables = TABLES if is_known else (*TABLES, "findings")
    session = writer.session(venue, symbol, run if is_known else f"{run}-{files[0].first_ns}", tables)
    adapter = _taken_up(lake, venue, files[0], session, told)
    rows = _Rows(session, adapter, is_known)
    pending = 0
    try:
        for receive_ns, frame in _frames(files, told, progress):
            told.frames += 1
            for event in adapter.receive(frame, receive_ns):
                found = rows.doubts(receive_ns) if event == CHANGE else 0
                if found:
                    told.rows["findings"] = told.rows.get("findings", 0) + found
                table = rows.take(event)
                if table:
                    told.rows[table] += 1
                    pending += 1
            if pending >= _COMMIT_ROWS:
                told.new += writer.commit()
                pending = 0
    except SessionSupersededError:
        pass  # frames that were kept although the recording was killed before it acknowledged their rows
    told.new += writer.commit()
    writer.seal()


def _taken_up(lake: Lake, venue: str, first: Capture, session: Session, told: Rerun) -> Adapter:
    """Return the adapter as it was before the first line of a file."""
    raw_symbol = directory.raw_symbol(venue, first.symbol)
    base = session.start
    instrument = _instrument(lake, venue, first)
    adapter = directory.adapter(venue, raw_symbol, base, session.since_ns, instrument=instrument)
    state = first.state
    if state:
        try:
            restore(adapter, state)
            told.stood_on = "the state kept beside it"
            return adapter
        except StateError:  # of other code: the frames are of none
            adapter = directory.adapter(venue, raw_symbol, base, session.since_ns, instrument=instrument)
    before = run_up(first)
    for receive_ns, frame in _frames(before, told, lambda _: None):
        for _ in adapter.receive(frame, receive_ns):
            pass
    if before:
        told.stood_on = f"{len(before)} files before it"
    return adapter


def _instrument(lake: Lake, venue: str, first: Capture) -> Instrument | None:
    """Return what the venue had said of an instrument when a capture began, in the lake that holds the capture, else in this one."""
    beside = [path.parent for path in first.path.resolve().parents if path.name == lake.raw.name]
    for source in (*_lakes(beside), lake):
        rows = source.rows("instruments", venue, first.symbol)
        if rows.size:
            row = rows[rows["receive_ns"] <= first.first_ns][-1:] if rows["receive_ns"][0] <= first.first_ns else rows[:1]
            return Instrument(*(float(row[name][0]) for name in ("tick", "lot", "contract_usd", "contract_base")))
    return None


def _lakes(roots: Sequence[Path]) -> Iterator[Lake]:
    for root in roots:
        with suppress(WarehouseError):  # a capture may lie anywhere
            yield Lake(root, create=False)


def _frames(files: Sequence[Capture], told: Rerun, progress: Callable[[int], None]) -> Iterator[tuple[int, bytes]]:
    for number, file in enumerate(files):
        stamp = file.first_ns
        try:
            for stamp, frame in read_capture([file.path], progress):
                yield stamp, frame
        except CaptureTruncatedError:
            told.torn.append(file.path)
            if number + 1 < len(files):
                yield stamp, b""  # what is missing before the next file is a loss like any other


class _Rows:
    """Rows on their way into the lake, numbered as it wants them."""

    def __init__(self, session: Session, adapter: Adapter, is_known: bool) -> None:
        self._session = session
        self._sources: dict[int, tuple[str, Any]] = {
            BOOK: ("l2_snapshots", adapter.row), TRADE: ("trades", adapter.trade), CHANGE: ("coverage_changes", adapter.change),
        }  # fmt: skip
        self._adapter = adapter
        self._finding_seq = session.base.get("findings", -1)  # -1 in a lake that has them from the recording
        self._ahead: dict[str, int] = dict.fromkeys((*TABLES, "event"), 0) if is_known else {}

    def take(self, event: int) -> str:
        """Append the row of an event and return its table, nothing if the event has none."""
        if event == UNREADABLE:
            kept = dict(self._adapter.unreadable)
            self._number("unreadable", kept)
            self._session.append("unreadable", [kept])
            return "unreadable"
        if event not in self._sources:
            return ""
        table, row = self._sources[event]
        row = row.copy()
        self._number(table, row[0])
        self._session.append(table, row)
        return table

    def doubts(self, receive_ns: int) -> int:
        """Append the stretches that the adapter doubts since the last call as findings, and return how many."""
        waiting, told = getattr(self._adapter, "doubts", None), 0
        while waiting:
            begin_ns, end_ns, why = waiting.popleft()
            if self._finding_seq < 0:
                continue
            row = {"exchange_ns": begin_ns, "receive_ns": receive_ns, "seq": self._finding_seq, "end_ns": max(begin_ns, end_ns)}
            self._session.append("findings", [row | {"kind": SUSPECT, "expected": 0.0, "received": 0.0, "detail": why}])
            self._finding_seq, told = self._finding_seq + 1, told + 1
        return told

    def _number(self, table: str, row: Any) -> None:
        # The first row of a table and the first event of all tell how far the numbers are apart.
        ahead = self._ahead
        if table not in ahead:
            ahead[table] = int(row["seq"]) - self._session.base[table]
        if "event" not in ahead:
            ahead["event"] = int(row["event_seq"]) - self._session.base_event_seq
        row["seq"] -= ahead[table]
        row["event_seq"] -= ahead["event"]
