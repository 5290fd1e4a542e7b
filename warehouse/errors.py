"""Everything that can go wrong in the lake, each with its facts.

WarehouseError
├── NoLakeError              no lake where one was to be read
├── LakeNotWritableError     the folder cannot be written: permissions or a read-only mount
├── LakeFullError            no space left; what was acknowledged is safe, try again after freeing some
├── StreamBusyError          another live writer holds the stream
├── SessionSupersededError   an old session wants rows that a newer session has numbered
├── SequenceGapError         rows came with a `seq` that does not follow the one before
├── UnknownTableError        no such table
├── UnknownColumnError       no such column in that table
├── UnknownStreamError       rows for a stream that this writer has no session of, or a name no path can hold
├── RowTypeError             rows, columns or days that are not what the table declares
├── FilesGoneError           a commit wants to replace files that another one has replaced already
├── VersionGoneError         a version whose log was cleaned away and that nothing pinned
└── SqlError                 a query that DuckDB refused
"""

import errno
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
# The table log's Rust errors carry the operating system's words, not its number.
_FULL_WORDS = ("No space left on device", "File too large", "Disk quota exceeded", "StorageFull", "FileTooLarge")


class WarehouseError(Exception):
    """Any fault of the lake that is not a fault of ours."""


class NoLakeError(WarehouseError):
    """There is no lake at `root`, where one was to be read; `nearby` are lakes beside or below it."""

    def __init__(self, root: Path, nearby: Iterable[Path] = ()) -> None:
        self.root, self.nearby = root, tuple(nearby)
        there = f"; lakes nearby: {', '.join(map(str, self.nearby))}" if self.nearby else ""
        super().__init__(
            f"no lake at {root}: expected a folder with `tables` in it{there}; name one with --lake or TIDEBOOK_LAKE, "
            "`tidebook replay` or `tidebook demo` makes one"
        )


class LakeNotWritableError(WarehouseError):
    """The lake, or the part of it named by `path`, cannot be written."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"the lake must be writable, but {path} is not: {reason}")
        self.path = path
        self.reason = reason


class LakeFullError(WarehouseError):
    """The disk is full.  Nothing acknowledged is lost; what was pending stays pending."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"no space left to write {path}: {reason}; acknowledged rows are safe, free some and go on")
        self.path = path
        self.reason = reason


class StreamBusyError(WarehouseError):
    """Another live writer holds one of the stream's tables."""

    def __init__(self, venue: str, symbol: str, table: str, holder: str) -> None:
        super().__init__(f"{table} of {venue} {symbol} is being written by another process (pid {holder or 'unknown'}); stop it first")
        self.venue, self.symbol, self.table, self.holder = venue, symbol, table, holder


class SessionSupersededError(WarehouseError):
    """Rows of an old session that a newer one has taken the numbers of."""

    def __init__(self, venue: str, symbol: str, table: str, session_id: str, end_seq: int, received_seq: int) -> None:
        super().__init__(
            f"session {session_id!r} of {table} {venue} {symbol} ended before seq {end_seq} because a newer session followed, "
            f"received seq {received_seq}; use a new session id"
        )
        self.venue, self.symbol, self.table, self.session_id = venue, symbol, table, session_id
        self.end_seq, self.received_seq = end_seq, received_seq


class SequenceGapError(WarehouseError):
    """Rows whose `seq` does not follow on."""

    def __init__(self, venue: str, symbol: str, table: str, expected: int, received: int) -> None:
        super().__init__(f"{table} of {venue} {symbol} must go on with seq {expected} without a hole, received {received}")
        self.venue, self.symbol, self.table, self.expected, self.received = venue, symbol, table, expected, received


class UnknownTableError(WarehouseError):
    """A table that the schema does not declare."""

    def __init__(self, table: str, known: Iterable[str]) -> None:
        self.table, self.known = table, tuple(known)
        super().__init__(f"table must be one of {', '.join(self.known)}, received {table!r}")


class UnknownColumnError(WarehouseError):
    """A column that the table does not have."""

    def __init__(self, table: str, columns: Iterable[str], known: Iterable[str]) -> None:
        self.table, self.columns, self.known = table, tuple(columns), tuple(known)
        super().__init__(f"columns of {table} must be among {', '.join(self.known)}; received {', '.join(self.columns)}")


class UnknownStreamError(WarehouseError):
    """A stream without a session, or a name that no folder can have."""

    def __init__(self, venue: str, symbol: str, reason: str) -> None:
        super().__init__(f"stream {venue!r} {symbol!r}: {reason}")
        self.venue, self.symbol, self.reason = venue, symbol, reason


class RowTypeError(WarehouseError):
    """Rows that are not of the table's type."""

    def __init__(self, table: str, expected: str, received: str) -> None:
        super().__init__(f"rows of {table} must have {expected}, received {received}")
        self.table, self.expected, self.received = table, expected, received


class FilesGoneError(WarehouseError):
    """Files that left the table while their replacement was being written."""

    def __init__(self, table: str, paths: Iterable[str]) -> None:
        self.table, self.paths = table, tuple(paths)
        super().__init__(f"{table} must still have the files to replace, gone are {', '.join(self.paths) or 'some'}")


class VersionGoneError(WarehouseError):
    """A version of a table that can no longer be read."""

    def __init__(self, table: str, version: int, newest: int) -> None:
        super().__init__(f"{table} has no version {version} any more and no pin holds it; the newest is {newest}")
        self.table, self.version, self.newest = table, version, newest


class InvalidRowsError(WarehouseError):
    """Rows of one partition that break what the table promises: rule to number of rows."""

    def __init__(self, venue: str, symbol: str, day: str, violations: Mapping[str, int]) -> None:
        self.venue, self.symbol, self.day, self.violations = venue, symbol, day, dict(violations)
        broken = ", ".join(f"{rule}: {count}" for rule, count in self.violations.items())
        super().__init__(f"{venue} {symbol} {day} must break no rule, rows that do: {broken}")


class SqlError(WarehouseError):
    """A query that DuckDB refused, with its words."""

    def __init__(self, query: str, reason: str) -> None:
        super().__init__(reason)
        self.query, self.reason = query, reason


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write `path` into ours.

    Examples
    --------
    >>> with writing(Path("lake")):
    ...     raise OSError(errno.ENOSPC, "No space left on device")
    Traceback (most recent call last):
    ...
    warehouse.errors.LakeFullError: no space left to write lake: No space left on device; acknowledged rows are safe, free some and go on
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL or is_full(str(error)):
            raise LakeFullError(path, error.strerror or str(error)) from error
        if error.errno in _FORBIDDEN:
            raise LakeNotWritableError(Path(error.filename) if error.filename else path, error.strerror or str(error)) from error
        raise


def is_full(message: str) -> bool:
    """Return whether an error's words say that the disk is full.

    Examples
    --------
    >>> is_full("Generic LocalFileSystem error: No space left on device (os error 28)")
    True
    """
    return any(words in message for words in _FULL_WORDS)
