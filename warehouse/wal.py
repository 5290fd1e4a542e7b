"""Write-ahead segments: what is acknowledged is here until it is sealed into Parquet.

A stream (venue, symbol) has a folder of numbered segments.  A segment is a run of commits, each

    magic "TBW1" | crc32 u32 | header length u32 | body length u64 | header | body

The header is JSON: one entry a table with its rows, first and last `seq`, highest
`event_seq` and bytes.  The body holds one Arrow IPC stream a table, in that order.  The crc
covers the lengths, the header and the body, so a commit is there wholly or not at all, all
its tables together: Arrow alone accepts a zeroed page as data.

A segment is locked (flock) as long as its writer lives and until it is sealed.  One that is
not locked was left by a process that died.
"""

import fcntl
import json
import os
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from warehouse.errors import writing

_HEAD = struct.Struct("<4sIIQ")
_LENGTHS = struct.Struct("<IQ")
_MAGIC = b"TBW1"
SUFFIX = ".wal"


@dataclass(frozen=True)
class Part:
    """The rows of one table in one commit: `batch` in stored columns, `seq` from lo to hi."""

    table: str
    lo: int
    hi: int
    event_hi: int
    batch: pa.RecordBatch

    @classmethod
    def of(cls, table: str, batch: pa.RecordBatch) -> "Part":
        """Return a part for a batch of at least one row, its `seq` consecutive."""
        lo = batch["seq"][0].as_py()
        event_hi = int(batch["event_seq"].to_numpy().max()) if "event_seq" in batch.schema.names else -1
        return cls(table, lo, lo + batch.num_rows - 1, event_hi, batch)


def encode(parts: list[Part]) -> bytes:
    """Return one commit as the bytes a segment holds."""
    bodies = []
    for part in parts:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, part.batch.schema) as stream:
            stream.write_batch(part.batch)
        bodies.append(sink.getvalue())
    header = json.dumps(
        [
            {"table": part.table, "rows": part.batch.num_rows, "lo": part.lo, "hi": part.hi, "event_hi": part.event_hi, "bytes": body.size}
            for part, body in zip(parts, bodies, strict=True)
        ]
    ).encode()
    lengths = (len(header), sum(body.size for body in bodies))
    crc = zlib.crc32(header, zlib.crc32(_LENGTHS.pack(*lengths)))
    for body in bodies:
        crc = zlib.crc32(body, crc)
    return b"".join([_HEAD.pack(_MAGIC, crc, *lengths), header, *bodies])


class Segment:
    """A segment being written: open, locked, and as long as what was acknowledged.

    Whatever fails on the way cuts the file back to the last acknowledged byte, for a reader
    stops at the first commit that is not whole.
    """

    def __init__(self, folder: Path) -> None:
        number = max((_number(path) for path in segments(folder)), default=-1) + 1
        with writing(folder):
            while True:
                self.path = folder / f"{number:08d}{SUFFIX}"
                try:
                    self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
                except FileExistsError:  # another writer, of other tables of this stream, took the number
                    number += 1
                    continue
                fcntl.flock(self._fd, fcntl.LOCK_EX)
                if os.fstat(self._fd).st_nlink:
                    break
                os.close(self._fd)  # taken for an orphan, and removed, before it was locked
            sync_folder(folder)
        self.acked_bytes = 0
        self._written = 0

    def write(self, commit: bytes) -> None:
        """Hand one commit to the system; it counts only after `sync`."""
        with writing(self.path):
            view = memoryview(commit)
            try:
                while view:
                    view = view[os.write(self._fd, view) :]
            except OSError:
                self.cut()
                raise
            self._written += len(commit)

    def sync(self) -> None:
        """Make what was written durable."""
        with writing(self.path):
            try:
                os.fdatasync(self._fd)
            except OSError:
                self.cut()
                raise
            self.acked_bytes = self._written

    def cut(self) -> None:
        """Forget what was not acknowledged."""
        os.ftruncate(self._fd, self.acked_bytes)
        os.lseek(self._fd, self.acked_bytes, os.SEEK_SET)
        self._written = self.acked_bytes

    def unlink(self) -> None:
        """Remove the segment, once its rows are sealed."""
        self.path.unlink(missing_ok=True)
        self.close()

    @property
    def is_open(self) -> bool:
        """Return whether the segment is ours still; its number may be another's after that."""
        return self._fd >= 0

    def close(self) -> None:
        """Give up the lock; the file stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Orphan:
    """A segment that a dead process left: locked by us now, so that nobody else seals it."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd
        self.acked_bytes = os.fstat(fd).st_size

    @classmethod
    def adopt(cls, path: Path) -> "Orphan | None":
        """Return the segment if its writer is gone, None if it lives or the segment is sealed already."""
        try:
            fd = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink:  # else its sealer removed it between our open and our lock
                return cls(path, fd)
        except BlockingIOError:
            pass
        os.close(fd)
        return None

    @property
    def is_open(self) -> bool:
        """Return whether the segment is ours still."""
        return self._fd >= 0

    def unlink(self) -> None:
        """Remove the segment; one whose bytes were damaged is kept aside as `.damaged`."""
        _, good, total, torn = scan(self.path)
        if good < total and not torn:
            self.path.rename(self.path.with_name(f"{self.path.stem}-{time.time_ns()}.damaged"))
        else:
            self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Give up the lock; the file stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def commits(path: Path) -> Iterator[list[Part]]:
    """Yield the whole commits of a segment, oldest first, up to the first byte that is wrong.

    A segment that is growing is read up to where it is whole now; one that vanished was
    sealed meanwhile and yields nothing.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below, a generator may be left early
    except FileNotFoundError:
        return
    with file:
        size = os.fstat(file.fileno()).st_size
        while (found := _next(file, size)) is not None:
            yield found


def scan(path: Path) -> tuple[int, int, int, bool]:
    """Return a segment's whole commits, their bytes, its bytes, and whether the rest is merely cut short.

    Cut short means that the last commit reaches beyond the end of the file, as a kill in the
    middle of a write leaves it; anything else was damaged later.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        count = good = 0
        while _next(file, size) is not None:
            count, good = count + 1, file.tell()
        file.seek(good)
        head = file.read(_HEAD.size)
        torn = len(head) < _HEAD.size or (head[:4] == _MAGIC and good + len(head) + sum(_HEAD.unpack(head)[2:]) > size)
        return count, good, size, torn


def _next(file, size: int) -> list[Part] | None:  # type: ignore[no-untyped-def]
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    magic, crc, header_bytes, body_bytes = _HEAD.unpack(head)
    if magic != _MAGIC or file.tell() + header_bytes + body_bytes > size:
        return None
    header = file.read(header_bytes)
    body = file.read(body_bytes)  # by itself, for Arrow wants its columns to begin on 8 bytes
    if len(body) < body_bytes or zlib.crc32(body, zlib.crc32(header, zlib.crc32(head[8:]))) != crc:
        return None
    parts, at, memory = [], 0, pa.py_buffer(body)
    for entry in json.loads(header):
        with pa.ipc.open_stream(memory.slice(at, entry["bytes"])) as stream:
            batch = stream.read_next_batch()
        parts.append(Part(entry["table"], entry["lo"], entry["hi"], entry["event_hi"], batch))
        at += entry["bytes"]
    return parts


def segments(folder: Path) -> list[Path]:
    """Return the segments of a stream, oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}"), key=_number) if folder.is_dir() else []


def _number(path: Path) -> int:
    return int(path.stem)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: a file is not safe before its name is."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def tails(folder: Path) -> dict[str, list[Part]]:
    """Return the unsealed rows of a stream by table, in the order of `seq`; see `tail`."""
    found: dict[str, list[Part]] = {}
    for part in (part for path in segments(folder) for commit in commits(path) for part in commit):
        found.setdefault(part.table, []).append(part)
    return {table: sorted(parts, key=lambda part: part.lo) for table, parts in found.items()}


def tail(folder: Path, table: str) -> list[Part]:
    """Return the unsealed rows of one table of a stream, in the order of `seq`.

    Read it before the table's snapshot and drop what the snapshot covers: in the other order
    rows sealed in between would be missed.
    """
    parts = [part for path in segments(folder) for commit in commits(path) for part in commit if part.table == table]
    return sorted(parts, key=lambda part: part.lo)
