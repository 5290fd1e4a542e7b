"""Where things lie in a lake.  The only place that spells a path.

wal/<venue>/<symbol>/00000000.wal, <table>.lock      what is not sealed yet, and who writes it
tables/<table>/_delta_log, venue=../symbol=../day=.. the tables
sessions/<venue>/<symbol>.json                       which session numbered which rows
pins/<name>.json                                     versions that vacuum keeps
locks/, tmp/, raw/                                   commit locks, files not yet named, captured frames
warehouse.duckdb                                     views for anyone with DuckDB
"""

import fcntl
import os
import re
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from warehouse.columns import table_of
from warehouse.delta import Log
from warehouse.errors import LakeNotWritableError, NoLakeError, UnknownStreamError, writing
from warehouse.schema import TABLES
from warehouse.wal import sync_folder

_FOLDERS = ("wal", "tables", "sessions", "pins", "state", "locks", "tmp", "raw")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")
_ABANDONED_S = 3600.0


@dataclass(frozen=True)
class Layout:
    """The paths under one root."""

    root: Path

    @property
    def warehouse(self) -> Path:
        """Return the DuckDB file with the views."""
        return self.root / "warehouse.duckdb"

    @property
    def raw(self) -> Path:
        """Return the folder of captured frames."""
        return self.root / "raw"

    def wal(self, venue: str, symbol: str) -> Path:
        """Return the folder of a stream's write-ahead segments."""
        return self.root / "wal" / _name(venue, symbol, venue) / _name(venue, symbol, symbol)

    def sessions(self, venue: str, symbol: str) -> Path:
        """Return the file that says which session numbered which rows."""
        return self.root / "sessions" / _name(venue, symbol, venue) / f"{_name(venue, symbol, symbol)}.json"

    def table(self, table: str) -> Path:
        """Return the folder of a table."""
        return self.root / "tables" / table_of(table).name

    def log(self, table: str) -> Log:
        """Return the log of a table."""
        return Log(table, self.table(table), self.lock(f"table-{table}"))

    def lock(self, name: str) -> Path:
        """Return a lock file."""
        return self.root / "locks" / f"{name}.lock"

    def pin(self, name: str) -> Path:
        """Return the file of a pin."""
        if not _NAME.fullmatch(name):
            raise ValueError(f"the name of a pin must be letters, digits, '_', '-' or '.', received {name!r}")
        return self.root / "pins" / f"{name}.json"

    def state(self, key: str) -> Path:
        """Return the file of a remembered state; `/` in a key makes folders."""
        if not all(_NAME.fullmatch(part) for part in key.split("/")):
            raise ValueError(f"a key must be names of letters, digits, '_', '-' or '.' with '/' between, received {key!r}")
        return self.root / "state" / key

    def save(self, path: Path, content: bytes) -> None:
        """Write a small file durably and in one step: it is there as it was or as it is."""
        temporary = self.temporary()
        with writing(path):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with open(temporary, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
                sync_folder(path.parent)
            finally:
                temporary.unlink(missing_ok=True)

    def temporary(self, suffix: str = ".tmp") -> Path:
        """Return a path that nobody else uses, on the same disk as the tables; never a name that a glob for Parquet finds."""
        return self.root / "tmp" / f"{uuid.uuid4().hex}{suffix}"

    def partition(self, venue: str, symbol: str, day: str) -> str:
        """Return a partition's folder within its table."""
        return f"venue={_name(venue, symbol, venue)}/symbol={_name(venue, symbol, symbol)}/day={day}"

    def streams(self) -> list[tuple[str, str]]:
        """Return the streams that have a write-ahead folder or a partition."""
        found = {path.relative_to(self.root / "wal").parts for path in self.root.glob("wal/*/*") if path.is_dir()}
        for table in TABLES:
            for path in self.table(table).glob("venue=*/symbol=*"):
                venue, symbol = path.relative_to(self.table(table)).parts
                found.add((venue.removeprefix("venue="), symbol.removeprefix("symbol=")))
        return sorted((venue, symbol) for venue, symbol in found)

    def create(self) -> None:
        """Make the folders that are missing."""
        for name in _FOLDERS:
            path = self.root / name
            if not path.is_dir():
                with writing(path):
                    path.mkdir(parents=True, exist_ok=True)

    def check_exists(self) -> None:
        """Raise NoLakeError, with the lakes beside and below, if there is no lake."""
        if not (self.root / "tables").is_dir():
            found = {path.parent for folder in (self.root, self.root.parent) for path in folder.glob("*/tables") if path.is_dir()}
            raise NoLakeError(self.root, sorted(found))

    def holders(self) -> list[str]:
        """Return the process ids, as text, of the writers that hold streams now, by stream and table; empty if nobody records."""
        found = []
        for path in sorted(self.root.glob("wal/*/*/*.lock")):
            with path.open() as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    found.append(lock.read(32).strip() or "unknown")
        return sorted(set(found))

    def check_writable(self) -> None:
        """Try to write where writers write.

        Raises
        ------
        LakeNotWritableError
            With the first folder that refuses.
        """
        for name in _FOLDERS:
            path = self.root / name
            if not os.access(path, os.W_OK | os.X_OK, effective_ids=True):
                raise LakeNotWritableError(path, "read-only file system" if _is_read_only(path) else "permission denied")

    def sweep(self) -> None:
        """Remove temporary files that a dead process left an hour ago or earlier."""
        for path in (self.root / "tmp").iterdir():
            try:
                if path.stat().st_mtime < time.time() - _ABANDONED_S:
                    path.unlink()
            except OSError:
                continue  # another process swept it first, or it is not ours to sweep


def _is_read_only(path: Path) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _name(venue: str, symbol: str, part: str) -> str:
    if not _NAME.fullmatch(part):
        raise UnknownStreamError(venue, symbol, f"names must be letters, digits, '_', '-' or '.', received {part!r}")
    return part
