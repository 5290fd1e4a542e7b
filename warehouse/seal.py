"""From write-ahead segments to Parquet under the table log, exactly once.

The order is: files under their names, one log commit a table that also carries the streams'
watermarks, then the segments go.  Killed anywhere in between, the next seal finds the
watermark and does only what is missing.
"""

import contextlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from warehouse import parquet
from warehouse.columns import arrow_schema, day_name, days
from warehouse.delta import DataFile, Log, Snapshot, locked
from warehouse.layout import Layout
from warehouse.wal import Orphan, Part, commits, segments

Stream = tuple[str, str]
_CHUNK_BYTES = 128 << 20  # a backlog beyond this is sealed in several commits, to bound memory
_WRITERS = 4  # files written side by side
_SEALED = re.compile(r"rows-(\d+)-\d+\.parquet")


class Sealable(Protocol):
    """A segment in our hands: it can be removed once its rows are sealed."""

    path: Path

    def unlink(self) -> None:
        """Remove the segment."""


def seal(layout: Layout, backlog: Sequence[tuple[Stream, Sealable]]) -> int:
    """Seal segments, oldest first within each stream, remove them, and return the rows that became Parquet."""
    rows = 0
    chunk: list[tuple[Stream, Sealable]] = []
    size = 0
    for stream, segment in backlog:
        chunk.append((stream, segment))
        size += segment.path.stat().st_size
        if size >= _CHUNK_BYTES:
            rows += _seal_chunk(layout, chunk)
            chunk, size = [], 0
    return rows + _seal_chunk(layout, chunk)


def _seal_chunk(layout: Layout, chunk: Sequence[tuple[Stream, Sealable]]) -> int:
    parts: dict[str, dict[Stream, list[Part]]] = defaultdict(lambda: defaultdict(list))
    for stream, segment in chunk:
        for commit in commits(segment.path):
            for part in commit:
                parts[part.table][stream].append(part)
    rows = sum(_seal_table(layout, table, streams) for table, streams in parts.items())
    for _, segment in chunk:
        segment.unlink()
    return rows


def _seal_table(layout: Layout, table: str, streams: dict[Stream, list[Part]]) -> int:
    log = layout.log(table)
    before = log.snapshot()
    added: list[DataFile] = []
    marks: dict[Stream, int] = {}
    extra: tuple[str, ...] = ()

    def write(stream: Stream) -> tuple[int, list[str], list[DataFile]] | None:
        fresh = unsealed(streams[stream], before.watermark(*stream))
        if fresh is None:
            return None
        return fresh["seq"][-1].as_py(), fresh.column_names[len(arrow_schema(table)) :], _write_days(layout, table, stream, fresh)

    try:
        # A file waits for the disk most of its time: hundreds of streams one by one would outlast the patience of who stops us.
        with ThreadPoolExecutor(_WRITERS) as pool:
            jobs = {stream: pool.submit(write, stream) for stream in streams}
        for stream, job in jobs.items():  # all are done: what the others wrote is forgotten where one failed
            if job.exception() is None and (done := job.result()) is not None:
                marks[stream], extra = done[0], tuple(dict.fromkeys([*extra, *done[1]]))
                added += done[2]
        for job in jobs.values():
            job.result()
        if added:
            log.commit(added, watermarks=marks, extra=extra)
    except BaseException:
        _forget(log, added)
        raise
    return sum(file.rows for file in added)


def unsealed(parts: Iterable[Part], watermark: int) -> pa.Table | None:
    """Return the rows above a watermark, each `seq` once, or None if there are none."""
    fresh = []
    for part in sorted(parts, key=lambda part: part.lo):
        if part.hi > watermark:
            fresh.append(pa.table(part.batch.slice(max(watermark + 1 - part.lo, 0))))
            watermark = part.hi
    return pa.concat_tables(fresh, promote_options="default") if fresh else None


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


def recover(layout: Layout, venue: str, symbol: str, tables: Sequence[str]) -> int:
    """Seal what dead writers of a stream left behind and return the rows; call it with `tables` locked.

    Segments of live writers, of other tables of the stream, are left alone.
    """
    folder = layout.wal(venue, symbol)
    with locked(folder / "recover.lock"):
        for table in tables:
            _drop_unregistered(layout, layout.log(table).snapshot(), venue, symbol)
        orphans = [orphan for path in segments(folder) if (orphan := Orphan.adopt(path)) is not None]
        try:
            return seal(layout, [((venue, symbol), orphan) for orphan in orphans])
        finally:
            for orphan in orphans:
                orphan.close()


def _drop_unregistered(layout: Layout, snapshot: Snapshot, venue: str, symbol: str) -> None:
    """Remove files that were named but not committed: no version has them, for they lie above the watermark."""
    watermark = snapshot.watermark(venue, symbol)
    for path in (layout.table(snapshot.table) / layout.partition(venue, symbol, "")).parent.glob("day=*/rows-*.parquet"):
        match = _SEALED.fullmatch(path.name)
        if match and int(match[1]) > watermark:
            path.unlink(missing_ok=True)
