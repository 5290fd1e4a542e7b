"""Rows and columns: the packed records that programs hold, the Arrow columns that the lake stores.

Every numeric column is 8 bytes wide, so a run of records is a matrix of 64-bit words and
turning rows into columns is one transposition of it, whatever the table.
"""

import re
from typing import Any

import numpy as np
import pyarrow as pa

from warehouse.errors import RowTypeError, UnknownTableError
from warehouse.schema import PARTITION, TABLES, Table, row_dtype

ARROW = {"i8": pa.int64(), "f8": pa.float64(), "str": pa.string()}
DAY_NS = 86_400_000_000_000
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_BLOCK = 4096  # rows transposed at a time: 88 columns of them fit in the second-level cache


def table_of(name: str) -> Table:
    """Return the declaration of a table, or say which tables there are."""
    try:
        return TABLES[name]
    except KeyError:
        raise UnknownTableError(name, TABLES) from None


def time_column(table: str) -> str:
    """Return the column that decides the day of a row: the venue's clock where the table has it.

    Examples
    --------
    >>> time_column("trades"), time_column("unreadable")
    ('exchange_ns', 'receive_ns')
    """
    return "exchange_ns" if "exchange_ns" in table_of(table).names else "receive_ns"


def arrow_schema(table: str, extra: tuple[str, ...] = ()) -> pa.Schema:
    """Return the stored columns of a table in order, `extra` ones of its open kind behind them."""
    declared = table_of(table)
    fields = [pa.field(column.name, ARROW[column.kind]) for column in declared.columns]
    return pa.schema(fields + [pa.field(name, ARROW[declared.open_kind or "f8"]) for name in extra])


def is_packed(table: str) -> bool:
    """Return whether rows of the table are packed records; text makes them Arrow rows instead."""
    return all(column.kind != "str" for column in table_of(table).columns)


def extra_columns(table: str, dtype: np.dtype) -> tuple[str, ...]:
    """Return the further columns of records of `dtype`, or say why they are not rows of the table.

    Raises
    ------
    RowTypeError
        If `dtype` is not `row_dtype(table)`, followed at most by doubles where the table is open.
    """
    expected = row_dtype(table)
    if dtype == expected:
        return ()
    names, wanted = dtype.names or (), expected.names or ()
    extra = names[len(wanted) :]
    if (
        table_of(table).open_kind
        and names[: len(wanted)] == wanted
        and dtype.itemsize == 8 * len(names)
        and all(dtype[name] == expected[name] for name in wanted)
        and all(dtype[name] == np.float64 for name in extra)
    ):
        return tuple(extra)
    raise RowTypeError(table, f"dtype {_spell(expected)}", f"dtype {_spell(dtype)}")


def _spell(dtype: np.dtype) -> str:
    if dtype.names is None:
        return str(dtype)
    return ", ".join(f"{name} {dtype[name].str if dtype[name].shape == () else dtype[name]}" for name in dtype.names)


def to_batch(table: str, rows: np.ndarray) -> pa.RecordBatch:
    """Return packed records as Arrow columns; one copy, NaN stays NaN, there are no nulls."""
    schema = arrow_schema(table, extra_columns(table, rows.dtype))
    n, width = len(rows), len(schema)
    words = np.ascontiguousarray(rows).view(np.int64).reshape(n, width)
    columns = np.empty((width, n), np.int64)
    for start in range(0, n, _BLOCK):
        columns[:, start : start + _BLOCK] = words[start : start + _BLOCK].T
    memory = pa.py_buffer(columns)
    arrays = [pa.Array.from_buffers(field.type, n, [None, memory.slice(i * n * 8, n * 8)]) for i, field in enumerate(schema)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def to_rows(table: str, columns: pa.Table) -> np.ndarray:
    """Return Arrow columns as packed records of `row_dtype(table)`; other columns are left out.

    Raises
    ------
    RowTypeError
        If a column of the table is missing.
    """
    dtype = row_dtype(table)
    names = [column.name for column in table_of(table).columns if column.kind != "str"]
    missing = [name for name in names if name not in columns.column_names]
    if missing:
        raise RowTypeError(table, f"the columns {', '.join(names)}", f"none named {', '.join(missing)}")
    words = np.empty((columns.num_rows, len(names)), np.int64)
    at = 0
    for batch in columns.select(names).to_batches():
        arrays = [column.to_numpy(zero_copy_only=False).view(np.int64) for column in batch.columns]
        for start in range(0, batch.num_rows, _BLOCK):
            block = np.stack([array[start : start + _BLOCK] for array in arrays])
            words[at + start : at + start + block.shape[1]] = block.T
        at += batch.num_rows
    return words.reshape(-1).view(dtype)


def text_batch(table: str, rows: Any) -> pa.RecordBatch:
    """Return rows that hold text, a list of dicts or an Arrow table, as one batch in stored order."""
    schema = arrow_schema(table)
    received = rows.column_names if isinstance(rows, pa.Table | pa.RecordBatch) else sorted({key for row in rows for key in row})
    if set(received) != set(schema.names):
        raise RowTypeError(table, f"the columns {', '.join(schema.names)}", ", ".join(received) or "none")
    try:
        whole = (
            pa.Table.from_pylist(list(rows), schema) if isinstance(rows, list | tuple) else pa.table(rows).select(schema.names).cast(schema)
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise RowTypeError(table, f"the types {', '.join(f'{field.name} {field.type}' for field in schema)}", str(error)) from error
    batches = whole.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema)


def days(table: str, columns: pa.Table | pa.RecordBatch) -> np.ndarray:
    """Return the day of each row as days since 1970, floor of its time column."""
    stamps: np.ndarray = columns[time_column(table)].to_numpy()
    return stamps // DAY_NS


def day_name(day: int) -> str:
    """Return a day number as YYYY-MM-DD.

    Examples
    --------
    >>> day_name(20454)
    '2026-01-01'
    """
    return str(np.datetime64(int(day), "D"))


def day_begins(day: str) -> int:
    """Return the first nanosecond of a day, YYYY-MM-DD.

    Examples
    --------
    >>> day_name(day_begins("2026-01-01") // DAY_NS)
    '2026-01-01'
    """
    return int(np.datetime64(day, "ns").astype(np.int64))


def days_before(day: str, days: int) -> str:
    """Return the day that lies so many before one, YYYY-MM-DD.

    Examples
    --------
    >>> days_before("2026-01-01", 1)
    '2025-12-31'
    """
    return day_name(day_begins(day) // DAY_NS - days)


def checked(table: str, day: str, rows: pa.Table) -> pa.Table:
    """Return rows in the table's own columns and types, if they can be the whole of one day.

    Raises
    ------
    RowTypeError
        If columns, types or days are not what the table declares, a value is null, or `seq` does not ascend.
    """
    declared = arrow_schema(table)
    if not _DAY.fullmatch(day):
        raise RowTypeError(table, "a day YYYY-MM-DD", repr(day))
    names = [name for name in rows.column_names if name not in {column.name for column in PARTITION}]
    extra = tuple(name for name in names if name not in declared.names)
    missing = [name for name in declared.names if name not in names]
    if missing or (extra and table_of(table).open_kind is None):
        lacks = f"; missing: {', '.join(missing)}" if missing else ""
        raise RowTypeError(table, f"the columns {', '.join(declared.names)}", ", ".join(names) + lacks)
    schema = arrow_schema(table, extra)
    try:
        rows = rows.select(schema.names).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise RowTypeError(table, f"the types {', '.join(f'{f.name} {f.type}' for f in schema)}", str(error)) from error
    if any(column.null_count for column in rows.columns):
        nulls = [name for name in rows.column_names if rows[name].null_count]
        raise RowTypeError(table, "no nulls (NaN where a double is unknown)", f"nulls in {', '.join(nulls)}")
    others = [day_name(number) for number in np.unique(days(table, rows)) if day_name(number) != day]
    if others:
        raise RowTypeError(table, f"rows of {day} only", f"rows of {', '.join(others)} too")
    seq = rows["seq"].to_numpy()
    if not np.all(seq[1:] > seq[:-1]):
        raise RowTypeError(table, "rows in ascending order of seq", "rows out of order or doubled")
    return rows
