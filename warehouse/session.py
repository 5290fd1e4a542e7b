"""The writing side: rows in memory, then acknowledged, then sealed.

A process has one `Writer`.  For each stream it opens a `Session`, which locks the stream's
tables, seals what an earlier process left, and says with which `seq` to begin.
"""

import json
import math
import threading
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from warehouse.columns import is_packed, table_of
from warehouse.delta import Snapshot, locked
from warehouse.errors import UnknownStreamError, WarehouseError
from warehouse.layout import Layout
from warehouse.opened import Session, Stream
from warehouse.pending import Order, Records, Text
from warehouse.read import High, high_of
from warehouse.read import rows as read_rows
from warehouse.schema import TABLES
from warehouse.seal import Marks, recover, seal
from warehouse.wal import tails

__all__ = ["Session", "Writer"]
_NONE: Mapping[str, int] = MappingProxyType({})


class Writer:
    """Writes any number of streams of one lake; open it with `Lake.writer`.

    `append`, `commit` and `seal` may be called from different threads.  Leaving its `with`
    block, or `close`, commits and seals.
    """

    def __init__(self, layout: Layout) -> None:
        layout.check_writable()
        layout.sweep()
        self._layout = layout
        self._streams: dict[tuple[str, str], Stream] = {}
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
            stream = stream or Stream(self._layout, venue, symbol)
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

    def _commit(self, streams: Sequence[Stream]) -> int:
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

    def _register(self, stream: Stream, session_id: str, tables: Sequence[str], least: Mapping[str, int]) -> Session:
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
            order = Order(venue, symbol, table, following[table])
            order.session_id = session_id
            order.end = next((later["base"][table] for later in entries[found + 1 :] if table in later["base"]), None)
            stream.buffers[table] = Records(order) if is_packed(table) else Text(order)
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
