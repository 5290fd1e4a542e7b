"""The writing side: rows in memory, then acknowledged, then sealed.

A process has one `Writer`.  For each stream it opens a `Session`, which locks the stream's
tables, seals what an earlier process left, and says with which `seq` to begin.
"""

import fcntl
import json
import math
import os
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from warehouse.columns import extra_columns, is_packed, table_of, text_batch, to_batch
from warehouse.delta import Snapshot, locked
from warehouse.errors import (
    RowTypeError,
    SequenceGapError,
    SessionSupersededError,
    StreamBusyError,
    UnknownStreamError,
    WarehouseError,
    writing,
)
from warehouse.layout import Layout
from warehouse.read import High, high_of
from warehouse.read import rows as read_rows
from warehouse.schema import TABLES
from warehouse.seal import Marks, recover, seal
from warehouse.wal import Orphan, Part, Segment, encode, tails

_NONE: Mapping[str, int] = MappingProxyType({})
_FIRST_ROWS = 256
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
    _buffers: "dict[str, _Records | _Text]" = field(repr=False, compare=False, default_factory=dict)

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


class _Order:
    """Which `seq` must come next in one table of one stream."""

    def __init__(self, venue: str, symbol: str, table: str, following: int) -> None:
        self.venue, self.symbol, self.table, self.following = venue, symbol, table, following
        self.session_id = ""
        self.end: int | None = None  # where a newer session took over the numbers

    def skip(self, first: int, n: int) -> int:
        """Return how many of n rows from `first` are there already, or say why they do not fit."""
        last = first + n - 1
        if self.end is not None and last >= self.end:
            raise SessionSupersededError(self.venue, self.symbol, self.table, self.session_id, self.end, max(first, self.end))
        if first > self.following:
            raise SequenceGapError(self.venue, self.symbol, self.table, self.following, first)
        return min(self.following - first, n)


class _Records:
    """Packed rows waiting for the next commit, in a buffer that grows by doubling."""

    def __init__(self, order: _Order) -> None:
        self.order = order
        self._lock = threading.Lock()
        self._dtype: np.dtype | None = None
        self._width = self._seq_at = 0
        self._words = self._spare = np.empty(0, np.int64)
        self._used = 0
        self._earlier: list[pa.RecordBatch] = []

    def append(self, rows: np.ndarray) -> int:
        with self._lock:
            if not isinstance(rows, np.ndarray) or rows.ndim != 1:
                raise RowTypeError(self.order.table, "a structured array of one dimension", type(rows).__name__)
            if rows.dtype is not self._dtype:
                self._accept(rows.dtype)
            n = rows.size
            if n == 0:
                return 0
            if not rows.flags.c_contiguous:
                rows = np.ascontiguousarray(rows)
            words = rows.view(np.int64)
            first = int(words[self._seq_at])
            if n > 1:
                self._check_run(words, first)
            if first != self.order.following or self.order.end is not None:
                known = self.order.skip(first, n)
                words = words[known * self._width :]
                n -= known
            end = self._used + words.size
            if end > self._words.size:
                grown = np.empty(max(2 * end, _FIRST_ROWS * self._width), np.int64)
                grown[: self._used] = self._words[: self._used]
                self._words = grown
            self._words[self._used : end] = words
            self._used = end
            self.order.following += n
            return n

    def take(self) -> list[pa.RecordBatch]:
        """Return and forget what was appended."""
        with self._lock:
            batches, self._earlier = self._earlier, []
            words, used, dtype = self._words, self._used, self._dtype
            self._words, self._spare, self._used = self._spare, words, 0
        if used and dtype is not None:
            batches.append(to_batch(self.order.table, words[:used].view(dtype)))
        return batches

    def _accept(self, dtype: np.dtype) -> None:
        if dtype != self._dtype:
            extra_columns(self.order.table, dtype)
            if self._used and self._dtype is not None:
                self._earlier.append(to_batch(self.order.table, self._words[: self._used].view(self._dtype)))
                self._used = 0
            self._width = dtype.itemsize // 8
            self._seq_at = dtype.fields["seq"][1] // 8  # type: ignore[index]
        self._dtype = dtype

    def _check_run(self, words: np.ndarray, first: int) -> None:
        seq = words[self._seq_at :: self._width]
        wrong = np.flatnonzero(np.diff(seq) != 1)
        if wrong.size:
            order = self.order
            raise SequenceGapError(order.venue, order.symbol, order.table, int(seq[wrong[0]]) + 1, int(seq[wrong[0] + 1]))


class _Text:
    """Rows with text waiting for the next commit."""

    def __init__(self, order: _Order) -> None:
        self.order = order
        self._lock = threading.Lock()
        self._batches: list[pa.RecordBatch] = []

    def append(self, rows: Any) -> int:
        batch = text_batch(self.order.table, rows)
        with self._lock:
            if batch.num_rows == 0:
                return 0
            seq = batch["seq"].to_numpy()
            wrong = np.flatnonzero(np.diff(seq) != 1)
            if wrong.size:
                order = self.order
                raise SequenceGapError(order.venue, order.symbol, order.table, int(seq[wrong[0]]) + 1, int(seq[wrong[0] + 1]))
            known = self.order.skip(int(seq[0]), batch.num_rows)
            if known < batch.num_rows:
                self._batches.append(batch.slice(known))
                self.order.following += batch.num_rows - known
            return batch.num_rows - known

    def take(self) -> list[pa.RecordBatch]:
        """Return and forget what was appended."""
        with self._lock:
            batches, self._batches = self._batches, []
        return batches


class _Stream:
    """One stream in our hands: its locks, buffers and segments."""

    def __init__(self, layout: Layout, venue: str, symbol: str) -> None:
        self.venue, self.symbol = venue, symbol
        self.folder = layout.wal(venue, symbol)
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self.buffers: dict[str, _Records | _Text] = {}
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
        for fd in self._locks.values():
            os.close(fd)
        self._locks.clear()

    def gather(self) -> bool:
        """Move appended rows to `unacked` and return whether there is anything to acknowledge."""
        for table, buffer in self.buffers.items():
            self.unacked += [Part.of(table, batch) for batch in buffer.take()]
        return bool(self.unacked)

    def write(self) -> None:
        if self._segment is None:
            self._segment = Segment(self.folder)
        self._segment.write(encode(self.unacked))

    def sync(self) -> int:
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
        self.full = [segment for segment in self.full if segment.is_open]

    @property
    def unsealed_bytes(self) -> int:
        return sum(segment.acked_bytes for segment in self.full) + (self._segment.acked_bytes if self._segment else 0)

    def close(self) -> None:
        for segment in self.full:
            segment.close()
        if self._segment is not None:
            if self._segment.acked_bytes:
                self._segment.close()
            else:
                self._segment.unlink()
        self.unlock()


class Writer:
    """Writes any number of streams of one lake; open it with `Lake.writer`.

    `append`, `commit` and `seal` may be called from different threads.  Leaving its `with`
    block, or `close`, commits and seals.
    """

    def __init__(self, layout: Layout) -> None:
        layout.check_writable()
        layout.sweep()
        self._layout = layout
        self._streams: dict[tuple[str, str], _Stream] = {}
        self._committing = threading.Lock()
        self._sealing = threading.Lock()
        self._marks = Marks(layout)
        self._until_s = math.inf
        self._newest: dict[str, Snapshot] = {}  # of each table, while streams are opened

    def session(
        self, venue: str, symbol: str, session_id: str, tables: Sequence[str] | None = None, least: Mapping[str, int] = _NONE
    ) -> Session:
        """Lock a stream, recover what was left of it, and say where to begin.

        A session is a run of rows that can be produced again: a replay of a capture should use
        an id that names the capture, so that a restarted replay goes on where it was killed; a
        live run should use a fresh id.  Under an id seen before, `base` is what it was and rows
        up to `resume` are skipped when they come again.  Under a new id, `base` follows the last
        acknowledged row.

        Parameters
        ----------
        tables : sequence of str, optional
            The tables that this process writes, by default all.  Another process may hold the
            others of the same stream at the same time.
        least : mapping of str to int
            Table to the lowest `seq` of its first row, where a table's numbers may have holes.

        Raises
        ------
        StreamBusyError
            If another writer holds one of the tables of the stream.
        """
        wanted = tuple(table_of(table).name for table in tables or TABLES)
        with self._sealing, self._committing:
            stream = self._streams.get((venue, symbol))
            if stream and stream.session and stream.session.session_id == session_id and set(wanted) <= set(stream.buffers):
                return stream.session
            opened = stream is None
            stream = stream or _Stream(self._layout, venue, symbol)
            try:
                if not opened:
                    self._commit([stream])
                    stream.rotate()
                    seal(self._layout, [((venue, symbol), segment) for segment in stream.full], self._marks)
                    stream.forget_sealed()
                stream.lock(wanted)
                stream.full = [*recover(self._layout, venue, symbol, stream.locked, self._snapshot), *stream.full]
                session = self._register(stream, session_id, wanted, least)
            except BaseException:
                if opened:
                    stream.close()
                raise
            self._streams[venue, symbol] = stream
            return session

    def append(self, table: str, venue: str, symbol: str, rows: Any) -> int:
        """Copy rows into memory and return how many were new.

        Parameters
        ----------
        rows : ndarray of row_dtype(table), shape (n,)
            In order of `seq`, without a hole.  An open table takes further doubles behind its
            columns.  For a table with text, a list of dicts or an Arrow table instead.

        Raises
        ------
        RowTypeError, SequenceGapError, SessionSupersededError, UnknownStreamError, UnknownTableError
        """
        stream = self._streams.get((venue, symbol))
        if stream is None:
            table_of(table)
            raise UnknownStreamError(venue, symbol, "no session was opened for it")
        buffer = stream.buffers.get(table)
        if buffer is None:
            table_of(table)
            raise UnknownStreamError(venue, symbol, f"its session writes {', '.join(stream.buffers)}, not {table}")
        return buffer.append(rows)

    def commit(self) -> int:
        """Make all appended rows durable and return how many were acknowledged by that.

        A stream's rows of one commit survive together or not at all.

        Raises
        ------
        LakeFullError
            If there is no space.  The rows stay pending and are tried again at the next commit.
        """
        with self._committing:
            return self._commit(list(self._streams.values()))

    def _commit(self, streams: Sequence[_Stream]) -> int:
        written, rows, failure = [], 0, None
        for stream in streams:
            try:
                if stream.gather():
                    stream.write()
                    written.append(stream)
            except WarehouseError as error:
                failure = failure or error
        for stream in written:  # all writes first: the disk flushes them together
            try:
                rows += stream.sync()
            except WarehouseError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return rows

    def seal(self) -> int:
        """Move what was acknowledged into the tables and return the rows; one log commit a table.

        May run in a thread while rows are appended and committed.

        Raises
        ------
        LakeFullError
            If there is no space.  The rows stay acknowledged and readable, and are sealed later.
        """
        with self._sealing:
            with self._committing:
                backlog = []
                for key, stream in self._streams.items():
                    stream.rotate()
                    backlog += [(key, segment) for segment in stream.full]
            try:
                return seal(self._layout, backlog, self._marks, lambda: time.monotonic() > self._until_s)
            finally:
                with self._committing:
                    for stream in self._streams.values():
                        stream.forget_sealed()

    @property
    def unsealed_bytes(self) -> int:
        """Return the bytes acknowledged and not sealed yet."""
        return sum(stream.unsealed_bytes for stream in self._streams.values())

    def hurry(self, until_s: float) -> None:
        """Begin to seal no stream after a moment of the monotonic clock, also in a seal that is under way.

        What is left is acknowledged and readable, and the stream's next writer seals it.
        """
        self._until_s = min(self._until_s, until_s)

    def close(self) -> int:
        """Commit, seal and let go of the streams, even if one of the former fails; return the bytes left to seal."""
        try:
            self.commit()
            self.seal()
        finally:
            left = self.unsealed_bytes
            with self._sealing, self._committing:
                for stream in self._streams.values():
                    stream.close()
                self._streams.clear()
        return left

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _register(self, stream: _Stream, session_id: str, tables: Sequence[str], least: Mapping[str, int]) -> Session:
        venue, symbol = stream.venue, stream.symbol
        unsealed = tails(self._layout.wal(venue, symbol))  # read before the versions that may cover them
        highs = {table: high_of(self._snapshot(table), unsealed.get(table, ()), venue, symbol) for table in TABLES}
        path = self._layout.sessions(venue, symbol)
        with locked(self._layout.lock(f"sessions-{venue}-{symbol}")):
            entries = json.loads(path.read_text()) if path.exists() else []
            found = next((i for i, entry in enumerate(entries) if entry["session_id"] == session_id), len(entries))
            if found == len(entries):
                event_seq = max(far.event_seq for far in highs.values())
                # Rows about a stream, such as its minutes, may bear our own clock: only its events say where it ended.
                # What followed the last book is not known: books that were silent may have been lost, though trades came.
                ends = {table: far.exchange_ns for table, far in highs.items() if "event_seq" in TABLES[table].names}
                since_ns = ends.get("l2_snapshots", 0) if ends.get("l2_snapshots", 0) > 0 else max(ends.values())
                trade_id, trade_ns = self._last_trade(venue, symbol, highs["trades"])
                told = {"since_ns": since_ns, "last_trade_id": trade_id, "last_trade_ns": trade_ns}
                entries.append({"session_id": session_id, "base_event_seq": event_seq + 1, **told, "base": {}})
            entry = entries[found]
            following = {table: max(highs[table].seq + 1, int(least.get(table, 0))) for table in tables}
            for table in tables:
                entry["base"].setdefault(table, following[table])
            self._layout.save(path, json.dumps(entries).encode())
        for table in tables:
            order = _Order(venue, symbol, table, following[table])
            order.session_id = session_id
            order.end = next((later["base"][table] for later in entries[found + 1 :] if table in later["base"]), None)
            stream.buffers[table] = _Records(order) if is_packed(table) else _Text(order)
        stream.session = Session(
            venue,
            symbol,
            session_id,
            {table: entry["base"][table] for table in tables},
            entry["base_event_seq"],
            entry["since_ns"],
            entry.get("last_trade_id", -1),  # not told of sessions opened before 2026-11-21
            entry.get("last_trade_ns", 0),
            {table: highs[table].seq for table in tables},
            stream.buffers,
        )
        return stream.session

    def _snapshot(self, table: str) -> Snapshot:
        found = self._newest[table] = self._layout.log(table).again(self._newest.get(table))
        return found

    def _last_trade(self, venue: str, symbol: str, far: High) -> tuple[int, int]:
        # The next session's first trade shows by its number whether others were lost in between.
        if far.seq < 0:
            return -1, 0
        last = read_rows(self._layout, "trades", venue, symbol, far.exchange_ns)
        return (int(last["trade_id"].max()), far.exchange_ns) if last.size else (-1, 0)
