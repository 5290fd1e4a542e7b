"""From write-ahead segments to Parquet under the table log, exactly once.

The order is: files under their names, one log commit a table that also carries the streams'
watermarks, then the segments go.  Killed anywhere in between, the next seal finds the
watermark and does only what is missing.
"""

import contextlib
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from warehouse import parquet
from warehouse.columns import arrow_schema, day_name, days
from warehouse.delta import DataFile, Log, Snapshot, locked
from warehouse.layout import Layout
from warehouse.wal import Orphan, Part, commits, segments

Stream = tuple[str, str]
_CHUNK_BYTES = 128 << 20  # a backlog beyond this is sealed in several commits, to bound memory
_WRITERS = 8  # streams written side by side; they wait for the disk most of their time
_SEALED = re.compile(r"rows-(\d+)-\d+\.parquet")


class Sealable(Protocol):
    """A segment in our hands: it can be removed once its rows are sealed."""

    path: Path

    def unlink(self) -> None:
        """Remove the segment."""


class Marks:
    """The highest sealed `seq` by table and stream, for who alone seals them: each is asked of the log once."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._known: dict[tuple[str, Stream], int] = {}
        self._asked: dict[str, Callable[[str, str], int]] = {}

    def of(self, table: str, stream: Stream) -> int:
        """Return the mark of one table of a stream, -1 if nothing was sealed."""
        found = self._known.get((table, stream))
        if found is None:
            log = self._asked.get(table)
            if log is None:
                log = self._asked[table] = self._layout.log(table).watermarks()
            found = self._known[table, stream] = log(*stream)
        return found

    def put(self, table: str, marks: Mapping[Stream, int]) -> None:
        """Remember what was sealed."""
        self._known |= {(table, stream): mark for stream, mark in marks.items()}

    def forget(self) -> None:
        """Ask the logs for every mark again."""
        self._known.clear()
        self._asked.clear()

    def look_again(self) -> None:
        """Ask the logs as they are from now on, for streams that were not asked for yet."""
        self._asked.clear()


class _Fresh(NamedTuple):
    """What one stream adds to one table."""

    mark: int
    extra: list[str]
    files: list[DataFile]


def seal(
    layout: Layout, backlog: Sequence[tuple[Stream, Sealable]], marks: Marks | None = None, late: Callable[[], bool] = lambda: False
) -> int:
    """Seal segments, oldest first within each stream, remove them, and return the rows that became Parquet.

    Parameters
    ----------
    marks : Marks, optional
        What is known already, where nobody else seals these streams.
    late : callable, optional
        Once it says True it always does: streams that were not begun by then keep their segments for another time.
    """
    marks = marks or Marks(layout)
    marks.look_again()
    rows = 0
    chunk: list[tuple[Stream, Sealable]] = []
    size = 0
    for stream, segment in backlog:
        chunk.append((stream, segment))
        size += segment.path.stat().st_size
        if size >= _CHUNK_BYTES:
            rows += _seal_chunk(layout, chunk, marks, late)
            chunk, size = [], 0
    return rows + _seal_chunk(layout, chunk, marks, late)


def _seal_chunk(layout: Layout, chunk: Sequence[tuple[Stream, Sealable]], marks: Marks, late: Callable[[], bool]) -> int:
    held: dict[Stream, list[Sealable]] = defaultdict(list)
    for stream, segment in chunk:
        held[stream].append(segment)
    named: list[tuple[str, DataFile]] = []

    def write(stream: Stream) -> dict[str, _Fresh] | None:
        return None if late() else _write_stream(layout, stream, held[stream], marks, named)

    try:
        with ThreadPoolExecutor(_WRITERS) as pool:
            jobs = {stream: pool.submit(write, stream) for stream in held}
        done = {stream: fresh for stream, job in jobs.items() if (fresh := job.result()) is not None}
        rows = 0
        for table in sorted({table for fresh in done.values() for table in fresh}):
            rows += _commit(layout, table, {stream: fresh[table] for stream, fresh in done.items() if table in fresh}, marks)
    except BaseException:
        marks.forget()  # a commit may be in the log although it failed
        for table in {table for table, _ in named}:
            _forget(layout.log(table), [file for of, file in named if of == table])
        raise
    for stream in done:
        for segment in held[stream]:
            segment.unlink()
    return rows


def _write_stream(
    layout: Layout, stream: Stream, held: Iterable[Sealable], marks: Marks, named: list[tuple[str, DataFile]]
) -> dict[str, _Fresh]:
    parts: dict[str, list[Part]] = defaultdict(list)
    for segment in held:
        for commit in commits(segment.path):
            for part in commit:
                parts[part.table].append(part)
    found = {}
    for table, of_table in parts.items():
        rows = unsealed(of_table, marks.of(table, stream))
        if rows is not None:
            files = _write_days(layout, table, stream, rows)
            named += [(table, file) for file in files]
            found[table] = _Fresh(rows["seq"][-1].as_py(), rows.column_names[len(arrow_schema(table)) :], files)
    return found


def _commit(layout: Layout, table: str, fresh: Mapping[Stream, _Fresh], marks: Marks) -> int:
    added = [file for one in fresh.values() for file in one.files]
    sealed = {stream: one.mark for stream, one in fresh.items()}
    extra = tuple(dict.fromkeys(name for one in fresh.values() for name in one.extra))
    layout.log(table).commit(added, watermarks=sealed, extra=extra)
    marks.put(table, sealed)
    return sum(file.rows for file in added)


def unsealed(parts: Iterable[Part], watermark: int) -> pa.Table | None:
    """Return the rows above a watermark, each `seq` once, or None if there are none."""
    fresh: list[pa.RecordBatch] = []
    for part in sorted(parts, key=lambda part: part.lo):
        if part.hi > watermark:
            fresh.append(part.batch.slice(max(watermark + 1 - part.lo, 0)))
            watermark = part.hi
    if not fresh:
        return None
    if any(batch.schema != fresh[0].schema for batch in fresh):  # an open table may have grown a column
        return pa.concat_tables([pa.table(batch) for batch in fresh], promote_options="default")
    return pa.table(pa.concat_batches(fresh))  # whole: dozens of commits of 80 columns each cost more to write than their rows


def _write_days(layout: Layout, table: str, stream: Stream, rows: pa.Table) -> list[DataFile]:
    of_row = days(table, rows)
    written = []
    for day in np.unique(of_row):
        mine = of_row == day
        part = rows if mine.all() else rows.take(pa.array(np.flatnonzero(mine)))
        name = f"rows-{part['seq'][0].as_py():012d}-{part['seq'][-1].as_py():012d}.parquet"
        written.append(parquet.write(layout, table, stream, day_name(day), name, part.schema, [part]))
    return written


def _forget(log: Log, added: Iterable[DataFile]) -> None:
    """Remove files whose commit failed, unless it went through after all."""
    with contextlib.suppress(Exception):
        now = log.snapshot()
        for file in added:
            if now.watermark(file.venue, file.symbol) < file.bound("seq")[0]:
                (log.folder / file.path).unlink(missing_ok=True)


def recover(layout: Layout, venue: str, symbol: str, locks: Collection[str], snapshots: Callable[[str], Snapshot]) -> list[Orphan]:
    """Return what dead writers of a stream left behind, for the next seal; call it with the tables of `locks` locked.

    What holds rows of other tables is sealed at once, before somebody else writes those.  Segments of live
    writers are left alone.
    """
    folder = layout.wal(venue, symbol)
    with locked(folder / "recover.lock"):
        for table in locks:
            _drop_unregistered(layout, snapshots(table), venue, symbol)
        orphans = [orphan for path in segments(folder) if (orphan := Orphan.adopt(path)) is not None]
        try:
            if all(part.table in locks for orphan in orphans for commit in commits(orphan.path) for part in commit):
                return orphans
            seal(layout, [((venue, symbol), orphan) for orphan in orphans])
            return []
        except BaseException:
            for orphan in orphans:
                orphan.close()
            raise


def _drop_unregistered(layout: Layout, snapshot: Snapshot, venue: str, symbol: str) -> None:
    """Remove files that were named but not committed: no version has them, for they lie above the watermark."""
    folder = (layout.table(snapshot.table) / layout.partition(venue, symbol, "")).parent
    named = [(path, int(match[1])) for path in folder.glob("day=*/rows-*.parquet") if (match := _SEALED.fullmatch(path.name))]
    watermark = snapshot.watermark(venue, symbol) if named else -1
    for path, first in named:
        if first > watermark:
            path.unlink(missing_ok=True)
