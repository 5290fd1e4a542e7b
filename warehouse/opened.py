"""A stream that this process writes: what its program is told, and what the writer holds of it."""

import fcntl
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from warehouse.columns import table_of
from warehouse.errors import StreamBusyError, UnknownStreamError, writing
from warehouse.layout import Layout
from warehouse.pending import Records, Text
from warehouse.wal import Orphan, Part, Segment, encode

_SEGMENT_BYTES = 64 << 20  # a segment beyond this is followed by a new one, so that a backlog can be sealed in pieces


@dataclass(frozen=True)
class Session:
    """What a program may count on after opening a stream.

    Attributes
    ----------
    base : dict
        Table to the `seq` of this session's first row; the same after every restart under the same id.
    base_event_seq : int
        `event_seq` of this session's first event, likewise.
    since_ns : int
        `exchange_ns` of the last book before this session, or of the last other event where there was no book, likewise;
        0 if there was none.
    last_trade_id, last_trade_ns : int
        The venue's number and `exchange_ns` of the last trade before this session, likewise; -1 and 0 if there was none.
    resume : dict
        Table to the highest `seq` acknowledged so far, -1 if none.  Rows up to it are skipped when appended again.
    """

    venue: str
    symbol: str
    session_id: str
    base: dict[str, int]
    base_event_seq: int
    since_ns: int
    last_trade_id: int
    last_trade_ns: int
    resume: dict[str, int]
    _buffers: dict[str, Records | Text] = field(repr=False, compare=False, default_factory=dict)

    @property
    def start(self) -> dict[str, int]:
        """Return what an adapter goes on from: the first numbers by table, of events as `event`, and the last trade."""
        return {**self.base, "event": self.base_event_seq, "trade_id": self.last_trade_id, "trade_ns": self.last_trade_ns}

    def append(self, table: str, rows: Any) -> int:
        """Copy rows into memory and return how many were new; see `Writer.append`."""
        try:
            return self._buffers[table].append(rows)
        except KeyError:
            table_of(table)
            raise UnknownStreamError(self.venue, self.symbol, f"this session writes {', '.join(self._buffers)}, not {table}") from None


class Stream:
    """One stream in our hands: its locks, buffers and segments."""

    def __init__(self, layout: Layout, venue: str, symbol: str) -> None:
        self.venue, self.symbol = venue, symbol
        self.folder = layout.wal(venue, symbol)
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self.buffers: dict[str, Records | Text] = {}
        self.session: Session | None = None
        self.unacked: list[Part] = []
        self.full: list[Segment | Orphan] = []  # oldest first
        self._segment: Segment | None = None
        self._locks: dict[str, int] = {}

    @property
    def locked(self) -> Collection[str]:
        """Return the tables that nobody else writes."""
        return self._locks.keys()

    def lock(self, tables: Sequence[str]) -> None:
        """Take tables for this process alone."""
        for table in tables:
            if table in self._locks:
                continue
            path = self.folder / f"{table}.lock"
            with writing(path):
                fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(fd, 32).decode(errors="replace").strip()
                os.close(fd)
                raise StreamBusyError(self.venue, self.symbol, table, holder) from None
            self._locks[table] = fd
            with writing(path):
                os.ftruncate(fd, 0)
                os.pwrite(fd, str(os.getpid()).encode(), 0)

    def unlock(self) -> None:
        """Let go of all tables."""
        for fd in self._locks.values():
            os.close(fd)
        self._locks.clear()

    def gather(self) -> bool:
        """Move appended rows to `unacked` and return whether there is anything to acknowledge."""
        for table, buffer in self.buffers.items():
            self.unacked += [Part.of(table, batch) for batch in buffer.take()]
        return bool(self.unacked)

    def write(self) -> None:
        """Write what is not acknowledged yet into the open segment."""
        if self._segment is None:
            self._segment = Segment(self.folder)
        self._segment.write(encode(self.unacked))

    def sync(self) -> int:
        """Make what was written durable and return its rows."""
        assert self._segment is not None, "sync follows write"
        self._segment.sync()
        rows = sum(part.batch.num_rows for part in self.unacked)
        self.unacked.clear()
        if self._segment.acked_bytes >= _SEGMENT_BYTES:
            self.rotate()
        return rows

    def rotate(self) -> None:
        """Close the segment for new rows; an empty one stays open."""
        if self._segment is not None and self._segment.acked_bytes:
            self.full.append(self._segment)
            self._segment = None

    def forget_sealed(self) -> None:
        """Keep of the full segments those that are not sealed."""
        self.full = [segment for segment in self.full if segment.is_open]

    @property
    def unsealed_bytes(self) -> int:
        """Return the bytes acknowledged and not sealed yet."""
        return sum(segment.acked_bytes for segment in self.full) + (self._segment.acked_bytes if self._segment else 0)

    def close(self) -> None:
        """Close the segments, an empty one goes, and let go of the tables."""
        for segment in self.full:
            segment.close()
        if self._segment is not None:
            if self._segment.acked_bytes:
                self._segment.close()
            else:
                self._segment.unlink()
        self.unlock()
