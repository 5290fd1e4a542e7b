"""The lake: one folder, its tables, who writes them and who reads them.

Everything outside this package goes through `Lake`; paths, file formats and the table log
stay behind it.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from warehouse import catalog, parquet, pins, read, retention, upkeep
from warehouse.columns import ARROW, arrow_schema, checked, table_of
from warehouse.errors import FilesGoneError
from warehouse.layout import Layout
from warehouse.schema import TABLES
from warehouse.session import Writer

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_MANIFEST = b"tidebook.manifest"


class Lake:
    """Order books, trades and what was derived from them, under one folder.

    Parameters
    ----------
    root : path
        Made if it does not exist.
    create : bool
        False for those who only read: a lake that is not there is an error then, not a new lake.

    Raises
    ------
    NoLakeError
        If there is no lake and none may be made.
    LakeNotWritableError
        If folders are missing and cannot be made.  A lake that exists can be read without being writable.

    Examples
    --------
    >>> from warehouse.schema import row_dtype
    >>> lake = Lake(getfixture("tmp_path"))
    >>> rows = np.zeros(2, row_dtype("trades"))
    >>> with lake.writer() as writer:
    ...     session = writer.session("binance_spot", "BTC-USDT", "first")
    ...     rows["seq"] = session.base["trades"] + np.arange(2)
    ...     _ = session.append("trades", rows)
    ...     writer.commit()
    2
    >>> lake.sql("SELECT count(*) AS n FROM trades").to_pylist()
    [{'n': 2}]
    """

    def __init__(self, root: str | os.PathLike, create: bool = True) -> None:
        self.root = Path(root).expanduser().absolute()
        self._layout = Layout(self.root)
        if create:
            self._layout.create()
        else:
            self._layout.check_exists()

    def __repr__(self) -> str:
        return f"Lake({str(self.root)!r})"

    @property
    def raw(self) -> Path:
        """Return the folder of captured frames."""
        return self._layout.raw

    @property
    def warehouse(self) -> Path:
        """Return where `publish` puts the DuckDB file with the views."""
        return self._layout.warehouse

    # Writing

    def writer(self) -> Writer:
        """Return the writing side; one a process.

        Raises
        ------
        LakeNotWritableError
            With the folder that cannot be written.
        """
        return Writer(self._layout)

    def check_writable(self) -> None:
        """Raise LakeNotWritableError, with the folder, if the lake cannot be written."""
        self._layout.check_writable()

    def replace(
        self, table: str, venue: str, symbol: str, day: str, rows: pa.Table | Mapping[str, np.ndarray], manifest: Mapping[str, Any]
    ) -> int:
        """Make `rows` the whole content of one partition and return the table's version.

        Readers see the partition as it was or as it is, nothing in between.  Doing it again
        with the same rows and manifest changes nothing.

        Parameters
        ----------
        day : str
            YYYY-MM-DD; all rows must lie in it.
        rows : pyarrow.Table or mapping of str to ndarray
            The table's columns, and further doubles if the table is open, in order of `seq`.
        manifest : mapping
            What the rows were made from, as JSON: code version, input version, counts.  Kept with
            the rows and in the log.

        Raises
        ------
        RowTypeError
            If columns, types or days are not what the table declares.
        """
        self.check_writable()
        rows = checked(table, day, rows if isinstance(rows, pa.Table) else pa.table(dict(rows)))
        text = json.dumps(dict(manifest), sort_keys=True)
        log = self._layout.log(table)
        for attempt in range(3):
            before = log.snapshot()
            old = before.of(venue, symbol, day)
            if len(old) == 1 and self._same(table, old[0].path, rows, text):
                return before.version
            schema = rows.schema.with_metadata({_MANIFEST: text.encode()})
            name = f"{upkeep.REPLACED}{os.urandom(8).hex()}.parquet"
            file = parquet.write(self._layout, table, (venue, symbol), day, name, schema, [rows])
            extra = tuple(rows.column_names[len(arrow_schema(table)) :])
            try:
                return log.commit([file], removed=old, extra=extra, metadata={"tidebook": text})
            except BaseException as error:
                if file.path not in {active.path for active in log.snapshot().files}:
                    (log.folder / file.path).unlink(missing_ok=True)
                if not isinstance(error, FilesGoneError) or attempt == 2:
                    raise
        raise AssertionError("the loop above returns or raises")

    def manifest(self, table: str, venue: str, symbol: str, day: str) -> dict[str, Any] | None:
        """Return what `replace` was told of a partition, or None if it was not made by `replace`."""
        files = self._layout.log(table).snapshot().of(venue, symbol, day)
        if len(files) != 1:
            return None
        found = (pq.read_schema(self._layout.table(table) / files[0].path).metadata or {}).get(_MANIFEST)
        return None if found is None else dict(json.loads(found))

    # Reading

    def read(
        self,
        table: str,
        venue: str | None = None,
        symbol: str | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        columns: Sequence[str] | None = None,
        version: int | None = None,
        tail: bool = True,
    ) -> pa.Table:
        """Return rows in the order of venue, symbol, `seq`; see `warehouse.read.read`."""
        return read.read(self._layout, table, venue, symbol, start_ns, end_ns, columns, version, tail)

    def rows(self, table: str, venue: str, symbol: str, start_ns: int | None = None, end_ns: int | None = None) -> np.ndarray:
        """Return one stream as packed records of `row_dtype(table)`, the form that kernels fold over."""
        table_of(table)
        return read.rows(self._layout, table, venue, symbol, start_ns, end_ns)

    def connect(self, venue: str | None = None, symbol: str | None = None) -> duckdb.DuckDBPyConnection:
        """Return a DuckDB with a view a table, up to the last acknowledged row as of now; of one stream if it is named."""
        return catalog.connect(self._layout, (venue, symbol) if venue and symbol else None)

    def sql(self, query: str) -> pa.Table:
        """Return what a query over the views gives; raise SqlError with DuckDB's words."""
        return catalog.sql(self._layout, query)

    def partitions(self, table: str) -> list[tuple[str, str, str]]:
        """Return the sealed partitions of a table that have rows or a manifest: (venue, symbol, day)."""
        table_of(table)
        return sorted({(file.venue, file.symbol, file.day) for file in self._layout.log(table).snapshot().files})

    def streams(self) -> list[tuple[str, str]]:
        """Return the streams that were ever opened: (venue, symbol)."""
        return self._layout.streams()

    def holders(self) -> list[str]:
        """Return the process ids of those who write streams of this lake now."""
        return self._layout.holders()

    def version(self, table: str) -> int:
        """Return the newest version of a table, -1 if nothing was sealed yet."""
        table_of(table)
        return self._layout.log(table).version()

    def versions(self) -> dict[str, int]:
        """Return the newest version of every table: what a model trained now should name and pin."""
        return {table: self.version(table) for table in TABLES}

    def watermark(self, table: str, venue: str, symbol: str) -> int:
        """Return the highest acknowledged `seq` of a stream, -1 if there is no row."""
        table_of(table)
        return read.high(self._layout, table, venue, symbol).seq

    def size(self) -> int:
        """Return the bytes of all files of the lake."""
        total = 0
        for folder, _, names in os.walk(self.root):
            for name in names:
                try:
                    total += os.stat(os.path.join(folder, name)).st_size
                except FileNotFoundError:
                    continue  # sealed or vacuumed since it was listed
        return total

    def damaged(self) -> list[Path]:
        """Return write-ahead segments that were set aside because bytes in them had changed."""
        return sorted(self.root.glob("wal/*/*/*.damaged"))

    def sessions(self, venue: str, symbol: str) -> list[str]:
        """Return the sessions that ever wrote a stream, oldest first."""
        path = self._layout.sessions(venue, symbol)
        return [entry["session_id"] for entry in json.loads(path.read_text())] if path.is_file() else []

    def written_since(self, table: str, venue: str, symbol: str) -> int | None:
        """Return how far the stream was, on the exchange clock, when a session first wrote this table; None if none did."""
        path = self._layout.sessions(venue, symbol)
        entries = json.loads(path.read_text()) if path.is_file() else []
        return min((int(entry["since_ns"]) for entry in entries if table in entry["base"]), default=None)

    def save_state(self, key: str, content: bytes) -> None:
        """Remember what a fold knows, under a key like `features-3/binance_spot/BTC-USDT/2026-01-01`."""
        self._layout.save(self._layout.state(key), content)

    def load_state(self, key: str) -> bytes | None:
        """Return what was remembered under a key, or None."""
        path = self._layout.state(key)
        return path.read_bytes() if path.is_file() else None

    # Upkeep

    def pin(self, versions: Mapping[str, int], name: str) -> Path:
        """Keep these versions readable, whatever vacuum does; see `warehouse.pins.pin`."""
        return pins.pin(self._layout, versions, name)

    def unpin(self, name: str) -> None:
        """Let go of a pin."""
        pins.unpin(self._layout, name)

    def pins(self) -> dict[str, dict[str, int]]:
        """Return the pins: name to table to version."""
        return pins.pins(self._layout)

    def changed(self, name: str) -> list[str]:
        """Return the files of a pin whose bytes are missing or not what they were."""
        return pins.verify(self._layout, name)

    def compact(self, target_bytes: int = upkeep.TARGET_BYTES) -> dict[str, int]:
        """Merge small files; see `warehouse.upkeep.compact`."""
        self.check_writable()
        return upkeep.compact(self._layout, target_bytes)

    def vacuum(self, grace_hours: int = 1) -> dict[str, int]:
        """Delete files that no version in use needs; see `warehouse.upkeep.vacuum`."""
        self.check_writable()
        return upkeep.vacuum(self._layout, grace_hours)

    def retire(self, keep_days: Mapping[str, int], limit_bytes: int = 0) -> dict[str, int]:
        """Take out what is too old or, with a limit, too much; see `warehouse.retention`."""
        self.check_writable()
        return retention.retire(self._layout, keep_days, limit_bytes)

    def publish(self) -> Path:
        """Bring `warehouse.duckdb` up to date and return its path."""
        self.check_writable()
        catalog.publish(self._layout)
        return self._layout.warehouse

    def _same(self, table: str, path: str, rows: pa.Table, manifest: str) -> bool:
        held = pq.ParquetFile(self._layout.table(table) / path)
        metadata = held.schema_arrow.metadata or {}
        if metadata.get(_MANIFEST) != manifest.encode() or held.metadata.num_rows != rows.num_rows:
            return False
        there = held.read()
        if there.column_names != rows.column_names:
            return False
        # NaN differs from itself for Arrow, so compare the bits.
        return all(
            np.array_equal(_bits(there[name]), _bits(rows[name])) if ARROW["str"] != rows[name].type else there[name].equals(rows[name])
            for name in rows.column_names
        )


def _bits(column: pa.ChunkedArray) -> np.ndarray:
    return column.to_numpy().view(np.int64)
