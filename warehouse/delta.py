"""The log of one table: which Parquet files it has at which version.  Only importer of deltalake.

A stream's watermark (its highest sealed `seq`) is an application transaction in the same
commit as the files that carry it: that is what makes sealing exactly-once.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Field, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from warehouse.columns import arrow_schema
from warehouse.errors import FilesGoneError, LakeFullError, VersionGoneError, is_full, writing
from warehouse.schema import PARTITION
from warehouse.wal import sync_folder

KEYS = tuple(column.name for column in PARTITION)
STATISTICS = ("exchange_ns", "receive_ns", "seq", "event_seq")
_ATTEMPTS = 20
# A commit each half minute is 86,000 files a month, which every reader lists.  Pins know their files themselves.
_PROPERTIES = {"delta.logRetentionDuration": "interval 3 days"}


@dataclass(frozen=True)
class DataFile:
    """One Parquet file of a table; `path` is relative to the table's folder.

    `bounds` maps each column of STATISTICS that the table has to its lowest and highest value;
    it is empty for a file without rows.
    """

    path: str
    size: int
    rows: int
    venue: str
    symbol: str
    day: str
    bounds: Mapping[str, tuple[int, int]]

    def bound(self, column: str, default: int = -1) -> tuple[int, int]:
        """Return the lowest and highest value of a column, `default` twice if there are no rows."""
        return self.bounds.get(column, (default, default))


@dataclass(frozen=True)
class Snapshot:
    """One version of a table: its files in order of stream and `seq`.  Version -1 is a table never written."""

    table: str
    version: int
    files: tuple[DataFile, ...]
    _log: DeltaTable | None = field(default=None, compare=False, repr=False)

    def watermark(self, venue: str, symbol: str) -> int:
        """Return the highest `seq` of a stream that was sealed by this version, -1 if none."""
        return -1 if self._log is None else _mark(self._log, venue, symbol)

    def of(self, venue: str | None = None, symbol: str | None = None, day: str | None = None) -> list[DataFile]:
        """Return the files of one stream, day, or all."""
        return [file for file in self.files if venue in (None, file.venue) and symbol in (None, file.symbol) and day in (None, file.day)]


class Log:
    """The log of one table under `folder`; `lock` is the file that keeps this machine's commits apart."""

    def __init__(self, table: str, folder: Path, lock: Path) -> None:
        self.table = table
        self.folder = folder
        self._lock = lock

    def version(self) -> int:
        """Return the newest version, -1 if nothing was ever written."""
        table = self._open()
        return -1 if table is None else table.version()

    def snapshot(self, version: int | None = None) -> Snapshot:
        """Return the files of a version, by default the newest.

        Raises
        ------
        VersionGoneError
            If the log does not reach back, or not yet forward, to `version`.
        """
        if version == -1:
            return Snapshot(self.table, -1, ())
        table = self._open(version)
        return Snapshot(self.table, -1, ()) if table is None else Snapshot(self.table, table.version(), _files(table), table)

    def again(self, known: Snapshot | None) -> Snapshot:
        """Return the newest version, which is `known` as long as no commit followed it: a version is read in ten milliseconds."""
        if known is None or known.version < 0:
            return self.snapshot()
        # Entries leave the log after days: that the next one is not there says nothing unless this one still is.
        is_there, is_followed = ((self.folder / "_delta_log" / f"{known.version + i:020d}.json").exists() for i in (0, 1))
        return known if is_there and not is_followed else self.snapshot()

    def watermarks(self) -> Callable[[str, str], int]:
        """Return what gives the watermark of a stream, venue and symbol, as of the newest version; it lists no files."""
        table = self._open()
        return lambda venue, symbol: -1 if table is None else _mark(table, venue, symbol)

    def commit(
        self,
        added: Sequence[DataFile],
        removed: Sequence[DataFile] = (),
        watermarks: Mapping[tuple[str, str], int] | None = None,
        metadata: Mapping[str, Any] | None = None,
        extra: tuple[str, ...] = (),
        rewrites: bool = False,
    ) -> int:
        """Add and remove files in one commit and return the new version.

        `watermarks` are the streams' new highest `seq`; a commit that turns out to be in the
        log already is not repeated.  With `rewrites` the rows stay the same (compaction).

        Raises
        ------
        FilesGoneError
            If a file to remove is not in the table any more.
        LakeFullError
            If there is no space for the log.
        """
        marks = dict(watermarks or {})
        properties = CommitProperties(
            custom_metadata=dict(metadata or {}),
            app_transactions=[Transaction(f"{venue}/{symbol}", mark) for (venue, symbol), mark in marks.items()],
        )
        now_ms = time.time_ns() // 1_000_000
        actions: list[AddAction | RemoveAction] = [
            RemoveAction(file.path, not rewrites, now_ms, file.size, _keys(file)) for file in removed
        ] + [AddAction(file.path, file.size, _keys(file), now_ms, not rewrites, _statistics(file)) for file in added]
        with locked(self._lock):
            for attempt in range(_ATTEMPTS):
                table = self._ensure(extra)
                if marks and all(_mark(table, *stream) >= mark for stream, mark in marks.items()):
                    break
                if removed:
                    active = {file.path for file in _files(table)}
                    gone = [file.path for file in removed if file.path not in active]
                    if gone:
                        raise FilesGoneError(self.table, gone)
                try:
                    table.create_write_transaction(
                        actions, mode="append", schema=table.schema(), partition_by=list(KEYS), commit_properties=properties
                    )
                    break
                except CommitFailedError as error:
                    _raise_if_full(self.folder, error)
                    if attempt == _ATTEMPTS - 1:
                        raise
                    time.sleep(0.02 * (attempt + 1))
                except (DeltaError, OSError) as error:
                    _raise_if_full(self.folder, error)
                    raise
            version = self.version()
            self._sync(version)
        return version

    def stale(self, grace_hours: int) -> list[str]:
        """Return the paths of files that left the table longer ago than the grace time, pins not considered."""
        table = self._open()
        return [] if table is None else list(table.vacuum(retention_hours=grace_hours, dry_run=True, enforce_retention_duration=False))

    def _open(self, version: int | None = None) -> DeltaTable | None:
        try:
            return DeltaTable(self.folder, version=version)
        except TableNotFoundError:
            if version is not None:
                raise VersionGoneError(self.table, version, -1) from None
            return None
        except DeltaError as error:
            if version is None:
                raise
            raise VersionGoneError(self.table, version, self.version()) from error

    def _ensure(self, extra: tuple[str, ...]) -> DeltaTable:
        """Return the newest state of the table, made and widened as needed.  Only under the lock."""
        table = self._open()
        if table is None:
            schema = pa.schema([*arrow_schema(self.table, extra), *(pa.field(key, pa.string()) for key in KEYS)])
            with writing(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
            try:
                table = DeltaTable.create(self.folder, schema, mode="ignore", partition_by=list(KEYS), configuration=_PROPERTIES)
            except (DeltaError, OSError) as error:
                _raise_if_full(self.folder, error)
                raise
            sync_folder(self.folder)
            sync_folder(self.folder.parent)
        known = {column.name for column in table.schema().fields}
        missing = [Field.from_arrow(field) for field in arrow_schema(self.table, extra) if field.name not in known]
        if missing:
            table.alter.add_columns(missing)
        return table

    def _sync(self, version: int) -> None:
        """Make the log durable; the library leaves that to the system, and segments are removed on its word."""
        log = self.folder / "_delta_log"
        for entry in {version, max(version - 1, 0), 0}:
            with contextlib.suppress(FileNotFoundError), open(log / f"{entry:020d}.json", "rb") as file:
                os.fsync(file.fileno())
        sync_folder(log)


def _mark(table: DeltaTable, venue: str, symbol: str) -> int:
    found = table.transaction_version(f"{venue}/{symbol}")
    return -1 if found is None else int(found)


def _keys(file: DataFile) -> dict[str, str | None]:
    return {key: getattr(file, key) for key in KEYS}


def _statistics(file: DataFile) -> str:
    return json.dumps(
        {
            "numRecords": file.rows,
            "minValues": {name: low for name, (low, _) in file.bounds.items()},
            "maxValues": {name: high for name, (_, high) in file.bounds.items()},
            "nullCount": dict.fromkeys(file.bounds, 0),
        }
    )


def _files(table: DeltaTable) -> tuple[DataFile, ...]:
    actions = pa.table(table.get_add_actions(flatten=True))
    kept = [name for name in STATISTICS if f"min.{name}" in actions.column_names]
    files = [
        DataFile(
            row["path"],
            row["size_bytes"],
            row["num_records"],
            row["partition.venue"],
            row["partition.symbol"],
            row["partition.day"],
            {name: (row[f"min.{name}"], row[f"max.{name}"]) for name in kept if row[f"min.{name}"] is not None},
        )
        for row in actions.select(
            [
                "path",
                "size_bytes",
                "num_records",
                *(f"partition.{key}" for key in KEYS),
                *(f"{end}.{name}" for name in kept for end in ("min", "max")),
            ]
        ).to_pylist()
    ]
    return tuple(sorted(files, key=lambda file: (file.venue, file.symbol, file.bound("seq"), file.path)))


def _raise_if_full(path: Path, error: Exception) -> None:
    if is_full(str(error)):
        raise LakeFullError(path, "No space left on device") from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; waits for other processes of this machine."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
