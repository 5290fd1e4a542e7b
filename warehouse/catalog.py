"""DuckDB over the lake: a connection that sees everything, and `warehouse.duckdb` for anyone.

Views go over explicit lists of files.  A glob would see files come and go while it reads;
a list from the table log is one version of the table, whole.  Each file in `queries/`
becomes a view of its own name.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources

import duckdb
import pyarrow as pa

from warehouse.columns import arrow_schema, day_name, days
from warehouse.delta import KEYS, Snapshot, locked
from warehouse.errors import SqlError, writing
from warehouse.layout import Layout
from warehouse.read import current
from warehouse.schema import FINDINGS, STATES, TABLES
from warehouse.seal import Stream
from warehouse.wal import sync_folder

_TYPES = {"i8": "BIGINT", "f8": "DOUBLE", "str": "VARCHAR"}
# The plain command line of either major version reads this format; the newest default is not read by older ones.
_STORAGE = "v1.0.0"
_TIMES = (("exchange_ns", "exchange_time"), ("receive_ns", "receive_time"))


def connect(layout: Layout, stream: Stream | None = None) -> duckdb.DuckDBPyConnection:
    """Return an in-memory DuckDB with a view a table, up to the last acknowledged row, and one a query in `queries/`.

    It shows the lake as it was at this moment; connect again to see what came since.  With
    `stream` it shows that stream only, which is quicker where there are many.
    """
    connection = duckdb.connect()
    _fill(connection, layout, True, stream)
    return connection


def sql(layout: Layout, query: str) -> pa.Table:
    """Return what a query gives, as Arrow.

    Raises
    ------
    SqlError
        With DuckDB's own words.
    """
    with connect(layout) as connection:
        try:
            result = connection.execute(query)
            return result.to_arrow_table() if result.description is not None else pa.table({})
        except duckdb.Error as error:
            raise SqlError(query, str(error)) from error


def publish(layout: Layout) -> None:
    """Write `warehouse.duckdb` anew and put it in place of the old one in one step.

    It holds views only, over the sealed rows, and no lock on anything: sessions that have the
    old file open keep their state.  Paths in it are absolute, so it works from any folder;
    publish again after moving the lake.
    """
    temporary = layout.temporary(".duckdb.tmp")
    with locked(layout.lock("publish")), writing(layout.warehouse):
        try:
            with duckdb.connect() as connection:
                # The alias is the catalog name that DuckDB derives from the final file name.
                connection.execute(f"ATTACH {_quoted(str(temporary))} AS warehouse (STORAGE_VERSION '{_STORAGE}'); USE warehouse")
                _fill(connection, layout, tail=False)
                connection.execute("USE memory; DETACH warehouse")
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, layout.warehouse)
            sync_folder(layout.root)
        except duckdb.IOException as error:
            raise OSError(str(error)) from error
        finally:
            temporary.unlink(missing_ok=True)


def _fill(connection: duckdb.DuckDBPyConnection, layout: Layout, tail: bool, stream: Stream | None = None) -> None:
    for view, code_name, names in (("states", "state", STATES), ("finding_kinds", "kind", FINDINGS)):
        values = ", ".join(f"({code}, {_quoted(name)})" for code, name in enumerate(names))
        connection.execute(f"CREATE VIEW {view} AS SELECT * FROM (VALUES {values}) AS s({code_name}, {code_name}_name)")
    if tail:
        connection.execute("CREATE SCHEMA tail")
    found = {}
    for table in TABLES:
        snapshot, tails = current(layout, table, None if stream is None else [stream], tail=tail)
        if stream is not None:
            snapshot = replace(snapshot, files=tuple(snapshot.of(*stream)))
        found[table] = (snapshot, tails)
        _create(connection, layout, snapshot, tails)
    _bound(connection, found)
    texts = {
        file.name.removesuffix(".sql"): file.read_text()
        for file in resources.files("warehouse.queries").iterdir()
        if file.name.endswith(".sql")
    }
    for name in sorted(texts):  # a query may use those before it in the alphabet
        connection.execute(f"CREATE VIEW {name} AS {texts[name]}")


def _create(connection: duckdb.DuckDBPyConnection, layout: Layout, snapshot: Snapshot, tails: Mapping[Stream, pa.Table]) -> None:
    table = snapshot.table
    columns = [*((key, "VARCHAR") for key in KEYS), *((column.name, _TYPES[column.kind]) for column in TABLES[table].columns)]
    empty = "SELECT " + ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in columns) + " WHERE false"
    sources = []
    files = [str((layout.table(table) / file.path).resolve()) for file in snapshot.files]
    if files:
        # Only some tables have columns that come and go; comparing the footers of all files costs half a millisecond each.
        by_name = str(TABLES[table].open_kind is not None or table in GROWN).lower()
        listed = ", ".join(_quoted(path) for path in files)
        sources.append(
            f"SELECT * FROM read_parquet([{listed}], hive_partitioning = true, hive_types_autocast = false, union_by_name = {by_name})"
        )
    for number, (stream, rows) in enumerate(tails.items()):
        name = f"tail.{table}_{number}"
        held = _with_keys(table, stream, rows)
        connection.register("arriving", held)
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM arriving")
        connection.unregister("arriving")
        sources.append(f"SELECT * FROM {name}")
    union = " UNION ALL BY NAME ".join([*sources, empty])  # a column that no file has yet is null
    first = ", ".join(name for name, _ in columns)
    times = "".join(f", make_timestamp({ns} // 1000) AS {time}" for ns, time in _TIMES if ns in TABLES[table].names)
    further = f", * EXCLUDE ({first})" if sources and TABLES[table].open_kind and _has_extra(connection, union, columns) else ""
    connection.execute(f"CREATE VIEW {table} AS SELECT {first}{times}{further} FROM ({union})")


def _has_extra(connection: duckdb.DuckDBPyConnection, union: str, columns: list[tuple[str, str]]) -> bool:
    return len(connection.execute(f"DESCRIBE {union}").fetchall()) > len(columns)


def _with_keys(table: str, stream: Stream, rows: pa.Table) -> pa.Table:
    names = dict.fromkeys(arrow_schema(table).names)
    day_numbers = days(table, rows)
    day_names = {day: day_name(day) for day in set(day_numbers.tolist())}
    keys = ([stream[0]] * rows.num_rows, [stream[1]] * rows.num_rows, [day_names[day] for day in day_numbers.tolist()])
    for key, values in zip(KEYS, keys, strict=True):
        rows = rows.append_column(key, pa.array(values, pa.string()))
    return rows.select([*KEYS, *names, *(name for name in rows.column_names if name not in names and name not in KEYS)])


def _bound(connection: duckdb.DuckDBPyConnection, found: Mapping[str, tuple[Snapshot, Mapping[Stream, pa.Table]]]) -> None:
    """Create `stream_bounds`: the first and last moment known of each stream and its last book, from the log's statistics."""
    bounds: dict[Stream, tuple[int, int]] = {}
    books: dict[Stream, tuple[int, int]] = {}
    for table, (snapshot, tails) in found.items():
        if table not in HEARD:
            continue
        for file in snapshot.files:
            if file.rows:
                _widen(bounds, (file.venue, file.symbol), *file.bound("exchange_ns"))
                if table == BOOKS:
                    _widen(books, (file.venue, file.symbol), *file.bound("exchange_ns"))
        for stream, rows in tails.items():
            stamps = rows["exchange_ns"].to_numpy()
            _widen(bounds, stream, int(stamps.min()), int(stamps.max()))
            if table == BOOKS:
                _widen(books, stream, int(stamps.min()), int(stamps.max()))
    values = ", ".join(
        f"({_quoted(v)}, {_quoted(s)}, {low}::BIGINT, {high}::BIGINT, {books.get((v, s), (0, 'NULL'))[1]}::BIGINT)"
        for (v, s), (low, high) in sorted(bounds.items())
    )
    none = "SELECT NULL::VARCHAR, NULL::VARCHAR, NULL::BIGINT, NULL::BIGINT, NULL::BIGINT WHERE false"
    connection.execute(
        f"CREATE VIEW stream_bounds AS SELECT * FROM ({'VALUES ' + values if bounds else none}) "
        "AS b(venue, symbol, first_ns, last_ns, last_book_ns)"
    )


GROWN = ("labels", "predictions")  # columns were added since lakes of this kind exist
BOOKS = "l2_snapshots"
HEARD = (BOOKS, "trades", "coverage_changes")  # what is known of a stream by its own clock


def _widen(bounds: dict[Stream, tuple[int, int]], stream: Stream, low: int, high: int) -> None:
    before = bounds.get(stream, (low, high))
    bounds[stream] = (min(low, before[0]), max(high, before[1]))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
