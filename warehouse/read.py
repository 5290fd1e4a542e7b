"""The reading side for Python: a table as of now, the unsealed tail included, or as of a version."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from warehouse.columns import arrow_schema, day_name, days, is_packed, table_of, time_column, to_rows
from warehouse.delta import KEYS, DataFile, Snapshot
from warehouse.errors import RowTypeError, UnknownColumnError
from warehouse.layout import Layout
from warehouse.pins import snapshot_of
from warehouse.schema import row_dtype
from warehouse.seal import Stream, unsealed
from warehouse.wal import Part
from warehouse.wal import tail as wal_tail

_KEY = pa.dictionary(pa.int32(), pa.string())
_ATTEMPTS = 5


class High(NamedTuple):
    """How far one table of a stream has come; -1, and 0 for the time, if it has no row."""

    seq: int
    event_seq: int
    exchange_ns: int


def high(layout: Layout, table: str, venue: str, symbol: str) -> High:
    """Return the highest `seq`, `event_seq` and `exchange_ns` acknowledged in one table of a stream."""
    parts = wal_tail(layout.wal(venue, symbol), table)
    return high_of(layout.log(table).snapshot(), parts, venue, symbol)


def high_of(snapshot: Snapshot, parts: Sequence[Part], venue: str, symbol: str) -> High:
    """Return how far a stream has come in a version of a table and the unsealed parts of it that were read before."""
    files, table = snapshot.of(venue, symbol), snapshot.table
    clock = time_column(table) == "exchange_ns"
    return High(
        max([snapshot.watermark(venue, symbol), *(file.bound("seq")[1] for file in files), *(part.hi for part in parts)]),
        max([-1, *(file.bound("event_seq")[1] for file in files), *(part.event_hi for part in parts)]),
        max([0, *(file.bound("exchange_ns", 0)[1] for file in files), *(_last_ns(part.batch) for part in parts if clock)]),
    )


def _last_ns(batch: pa.RecordBatch) -> int:
    return int(batch["exchange_ns"].to_numpy().max())


def current(
    layout: Layout, table: str, streams: Iterable[Stream] | None = None, version: int | None = None, tail: bool = True
) -> tuple[Snapshot, dict[Stream, pa.Table]]:
    """Return one consistent state of a table: a version's files, and each stream's rows that are not in them yet."""
    found = layout.streams() if streams is None else streams
    parts = {stream: wal_tail(layout.wal(*stream), table) for stream in found} if tail and version is None else {}
    snapshot = snapshot_of(layout, table, version)
    tails = {stream: unsealed(held, snapshot.watermark(*stream)) for stream, held in parts.items()}
    return snapshot, {stream: rows for stream, rows in tails.items() if rows is not None}


def read(
    layout: Layout,
    table: str,
    venue: str | None = None,
    symbol: str | None = None,
    start_ns: int | None = None,
    end_ns: int | None = None,
    columns: Sequence[str] | None = None,
    version: int | None = None,
    tail: bool = True,
) -> pa.Table:
    """Return rows of a table in the order of venue, symbol, `seq`.

    Parameters
    ----------
    start_ns, end_ns : int, optional
        Bounds on the row's time column, `exchange_ns` where there is one: start included, end left out.
    columns : sequence of str, optional
        By default venue, symbol, day and the stored ones.
    version : int, optional
        A version of the table; by default the newest, with the rows that are not sealed yet unless `tail` is False.

    Raises
    ------
    UnknownTableError, UnknownColumnError, VersionGoneError
    """
    table_of(table)
    for attempt in range(_ATTEMPTS):
        try:
            return _read(layout, table, venue, symbol, start_ns, end_ns, columns, version, tail)
        except FileNotFoundError:  # compacted and vacuumed since we took the snapshot; the next one has its rows elsewhere
            if version is not None or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("the loop above returns or raises")


def rows(layout: Layout, table: str, venue: str, symbol: str, start_ns: int | None = None, end_ns: int | None = None) -> np.ndarray:
    """Return rows of one stream as packed records of `row_dtype(table)`, in the order of `seq`."""
    if not is_packed(table):
        raise RowTypeError(table, "numbers only to be read as records", "a table with text; use read")
    names = arrow_schema(table).names
    found = read(layout, table, venue, symbol, start_ns, end_ns, columns=names)
    return to_rows(table, found) if found.num_rows else np.empty(0, row_dtype(table))


def _read(
    layout: Layout,
    table: str,
    venue: str | None,
    symbol: str | None,
    start_ns: int | None,
    end_ns: int | None,
    columns: Sequence[str] | None,
    version: int | None,
    tail: bool,
) -> pa.Table:
    streams = [(venue, symbol)] if venue and symbol else [s for s in layout.streams() if venue in (None, s[0]) and symbol in (None, s[1])]
    snapshot, tails = current(layout, table, streams, version, tail)
    time = time_column(table)
    files = [file for file in snapshot.of(venue, symbol) if _overlaps(file, time, start_ns, end_ns)]
    schema = _schema(layout, table, files, tails.values())
    wanted = list(columns) if columns is not None else [*KEYS, *schema.names]
    unknown = [name for name in wanted if name not in schema.names and name not in KEYS]
    if unknown and table_of(table).open_kind and not files and not tails:
        schema, unknown = arrow_schema(table, tuple(unknown)), []
    if unknown:
        raise UnknownColumnError(table, unknown, [*KEYS, *schema.names])
    stored = list(dict.fromkeys([*(name for name in wanted if name not in KEYS), "seq", time]))
    found = []
    for stream in sorted({(file.venue, file.symbol) for file in files} | set(tails)):
        mine = [file for file in files if (file.venue, file.symbol) == stream]
        pieces = [_scan(layout, table, mine, schema, stored, start_ns, end_ns)] if mine else []
        if stream in tails:
            rest = pa.table([_column(tails[stream], field) for field in schema], schema=schema)
            pieces.append(_within(rest, time, start_ns, end_ns).select(stored))
        whole = _in_order(pa.concat_tables(pieces))
        found.append(whole.select([]) if not wanted else pa.table([_pick(whole, table, stream, name) for name in wanted], names=wanted))
    if found:
        return pa.concat_tables(found).unify_dictionaries()
    return pa.schema([pa.field(name, _KEY if name in KEYS else schema.field(name).type) for name in wanted]).empty_table()


def _overlaps(file: DataFile, time: str, start_ns: int | None, end_ns: int | None) -> bool:
    low, high = file.bound(time)
    return file.rows > 0 and (start_ns is None or high >= start_ns) and (end_ns is None or low < end_ns)


def _schema(layout: Layout, table: str, files: Sequence[DataFile], tails: Iterable[pa.Table]) -> pa.Schema:
    """Return the stored columns, with those further ones of an open table that these rows really have."""
    if not table_of(table).open_kind:
        return arrow_schema(table)
    base = len(arrow_schema(table))
    names = [name for file in files for name in pq.read_schema(layout.table(table) / file.path).names[base:]]
    names += [name for rows in tails for name in rows.column_names[base:]]
    return arrow_schema(table, tuple(dict.fromkeys(names)))


def _scan(
    layout: Layout, table: str, files: Sequence[DataFile], schema: pa.Schema, columns: list[str], start_ns: int | None, end_ns: int | None
) -> pa.Table:
    time = time_column(table)
    condition = None
    if start_ns is not None and min(file.bound(time)[0] for file in files) < start_ns:
        condition = pc.field(time) >= start_ns
    if end_ns is not None and max(file.bound(time)[1] for file in files) >= end_ns:
        condition = pc.field(time) < end_ns if condition is None else condition & (pc.field(time) < end_ns)
    paths = [str(layout.table(table) / file.path) for file in files]
    return ds.dataset(paths, schema=schema, format="parquet").to_table(columns=columns, filter=condition)


def _within(rows: pa.Table, time: str, start_ns: int | None, end_ns: int | None) -> pa.Table:
    stamps = rows[time].to_numpy()
    keep = np.ones(len(stamps), bool)
    if start_ns is not None:
        keep &= stamps >= start_ns
    if end_ns is not None:
        keep &= stamps < end_ns
    return rows if keep.all() else rows.filter(pa.array(keep))


def _in_order(rows: pa.Table) -> pa.Table:
    # Files follow each other in seq, except around midnight where the venue's clock ran back.
    seq = rows["seq"].to_numpy()
    return rows if np.all(seq[1:] > seq[:-1]) else rows.take(pa.array(np.argsort(seq, kind="stable")))


def _column(rows: pa.Table, field: pa.Field) -> pa.ChunkedArray | pa.Array:
    return rows[field.name] if field.name in rows.column_names else pa.nulls(rows.num_rows, field.type)


def _pick(rows: pa.Table, table: str, stream: Stream, name: str) -> pa.ChunkedArray | pa.Array:
    if name not in KEYS:
        return rows[name]
    if name == "day":
        unique, index = np.unique(days(table, rows), return_inverse=True)
        names = [day_name(day) for day in unique]
    else:
        index, names = np.zeros(rows.num_rows, np.int32), [stream[KEYS.index(name)]]
    return pa.DictionaryArray.from_arrays(pa.array(index.astype(np.int32)), pa.array(names, pa.string()))
