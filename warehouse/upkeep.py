"""What keeps a lake small and quick: fewer, larger files, and no files that nobody needs."""

import os
import time
from collections.abc import Iterator
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq

from warehouse import parquet
from warehouse.delta import DataFile
from warehouse.errors import FilesGoneError
from warehouse.layout import Layout
from warehouse.pins import pinned_files
from warehouse.retention import sweep
from warehouse.schema import TABLES

TARGET_BYTES = 128 << 20
_UNKNOWN_S = 86_400.0
REPLACED = "day-"  # files of Lake.replace carry a manifest and are alone in their partition


def compact(layout: Layout, target_bytes: int = TARGET_BYTES) -> dict[str, int]:
    """Merge small files of each partition in the order of `seq`, and return how many files went, a table.

    Rows stay as they are and so do older versions: the small files remain until `vacuum`.
    Appending goes on meanwhile.  Files of half the target or more are left alone.
    """
    return {table: sum(_compact_partition(layout, table, group) for group in _groups(layout, table, target_bytes)) for table in TABLES}


def vacuum(layout: Layout, grace_hours: int = 1) -> dict[str, int]:
    """Delete files that left their table longer ago than the grace time and that no pin holds; return how many, a table.

    The grace time is for readers that still go by an older list, `warehouse.duckdb` among them.
    Files of which the log knows nothing, left by a kill or forgotten since they were unpinned,
    go when they are a day old: younger ones may be on their way into the log.  Write-ahead
    segments that dead writers left go if their rows are sealed; they are counted as `wal`.
    """
    layout.sweep()
    return {table: _vacuum_table(layout, table, grace_hours) for table in TABLES} | {"wal": sweep(layout)}


def _vacuum_table(layout: Layout, table: str, grace_hours: int) -> int:
    log = layout.log(table)
    kept = pinned_files(layout, table) | {file.path for file in log.snapshot().files}
    left, old = set(log.stale(0)), set(log.stale(grace_hours))
    deleted = 0
    for path in log.folder.glob("venue=*/symbol=*/day=*/*.parquet"):
        name = path.relative_to(log.folder).as_posix()
        if name not in kept and (name in old or (name not in left and path.stat().st_mtime < time.time() - _UNKNOWN_S)):
            path.unlink(missing_ok=True)
            deleted += 1
    return deleted


def _groups(layout: Layout, table: str, target_bytes: int) -> Iterator[list[DataFile]]:
    partitions: dict[tuple[str, str, str], list[DataFile]] = {}
    for file in layout.log(table).snapshot().files:
        if not os.path.basename(file.path).startswith(REPLACED):
            partitions.setdefault((file.venue, file.symbol, file.day), []).append(file)
    for files in partitions.values():
        group: list[DataFile] = []
        for file in files:
            if file.size * 2 < target_bytes:
                group.append(file)
            if file.size * 2 >= target_bytes or sum(member.size for member in group) >= target_bytes:
                if len(group) > 1:
                    yield group
                group = []
        if len(group) > 1:
            yield group


def _compact_partition(layout: Layout, table: str, files: list[DataFile]) -> int:
    log = layout.log(table)
    first, low, high = files[0], files[0].bound("seq")[0], max(file.bound("seq")[1] for file in files)
    schema = pa.unify_schemas([pq.read_schema(log.folder / file.path).remove_metadata() for file in files])
    # A name of its own: it lies below the watermark and must never meet that of a sealed file.
    name = f"merged-{low:012d}-{high:012d}-{os.urandom(4).hex()}.parquet"
    merged = parquet.write(layout, table, (first.venue, first.symbol), first.day, name, schema, _ordered(layout, table, files, schema))
    try:
        log.commit([merged], removed=files, rewrites=True)
    except BaseException as error:
        if merged.path not in {file.path for file in log.snapshot().files}:
            (log.folder / merged.path).unlink(missing_ok=True)
        if isinstance(error, FilesGoneError):  # replaced, or merged by another process, while we read it
            return 0
        raise
    return len(files)


def _ordered(layout: Layout, table: str, files: list[DataFile], schema: pa.Schema) -> Iterator[pa.Table]:
    folder = layout.table(table)
    ends = [file.bound("seq") for file in files]
    if all(before[1] < after[0] for before, after in pairwise(ends)):
        for file in files:
            yield _load(folder / file.path, schema)
    else:
        whole = pa.concat_tables([_load(folder / file.path, schema) for file in files])
        yield whole.sort_by("seq")


def _load(path: os.PathLike, schema: pa.Schema) -> pa.Table:
    table = pq.ParquetFile(path).read()
    return pa.table([table[f.name] if f.name in table.column_names else pa.nulls(len(table), f.type) for f in schema], schema=schema)
