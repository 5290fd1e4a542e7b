"""Raw frames as they came: `raw/<venue>/<day>/<hour>/<symbol>-<first ns>-<run>.zst`, lines `<receive_ns> <frame>`.

The lines are those that hftbacktest's collector writes, so its files and ours interchange.  An
empty frame says that something was lost: the connection, or, when the disk was full for long,
frames themselves.  A frame with a line break in it stands as `<receive_ns>:b64 <base64>`.

A run is one recording of one stream from its beginning; its files follow each other hour by
hour.  Beside each lies what the adapter knew before its first line, `.state`, so that an hour can
be replayed without those before it.  What was flushed survives a kill; a torn end costs only itself.
"""

import base64
import os
import re
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zstandard

from warehouse.errors import LakeFullError, writing

_HOUR = 3_600_000_000_000
_NAME = re.compile(r"(?P<symbol>.+?)-(?P<first_ns>\d{16,20})-(?P<run>[A-Za-z0-9_.\-]+)\.zst")
_RUN = re.compile(r"[A-Za-z0-9_.\-]+")
_WAITING_BYTES = 8 << 20  # kept while the disk is full; beyond, the oldest go and an empty frame says so
BASE64 = b":b64"
STATE = ".state"
_Line = tuple[int, bytes, bytes | None]  # stamp, frame, and where a file begins what was known before it


class Capture(NamedTuple):
    """One file of captured frames: whose, of which run, and the stamp of its first line."""

    symbol: str
    run: str
    first_ns: int
    path: Path

    @property
    def state(self) -> bytes:
        """Return what the adapter knew before the first line, nothing if that was not kept or is damaged."""
        try:
            return zstandard.ZstdDecompressor().decompress(self.path.with_suffix(STATE).read_bytes())
        except (OSError, zstandard.ZstdError):
            return b""


class RawWriter:
    """Appends the frames of one stream, a file an hour.

    `write` only remembers; `flush`, which may run in another thread, compresses and writes.

    Parameters
    ----------
    state : callable, optional
        Returns what the adapter knows; asked before the first frame of each hour is handed to it.
    run : str
        A name of this recording, its session for instance: letters, digits, `-`, `_` and `.`.
    """

    def __init__(self, root: Path, venue: str, symbol: str, state: Callable[[], bytes] | None = None, run: str = ""):
        self._root, self._venue, self._symbol = root, venue, symbol
        self.run = run if _RUN.fullmatch(run) else uuid.uuid4().hex
        self._state = state or bytes
        self._lines: list[_Line] = []
        self._hour = -1  # of the newest line
        self._path = root
        self._file: FileIO | None = None
        self._lock = threading.Lock()

    def write(self, receive_ns: int, frame: bytes) -> None:
        """Keep one frame; it is in the file after the next `flush`."""
        hour, state = receive_ns // _HOUR, None
        if hour > self._hour:  # stamps may run back a little; only a later hour turns the page
            known = self._state()
            # Packed at once: half a megabyte a stream, and all streams turn at the same hour.
            self._hour, state = hour, zstandard.ZstdCompressor(level=1).compress(known) if known else b""
        self._lines.append((receive_ns, frame, state))

    def flush(self) -> None:
        """Write what is kept, as one zstd frame of its own a file.

        Raises
        ------
        LakeFullError
            If there is no space: what could not be written is kept and tried again.
        """
        with self._lock:
            waiting, self._lines = self._lines, []
            while waiting:
                try:
                    if self._file is None or waiting[0][2] is not None:
                        self._turn(waiting[0][0], waiting[0][2] or b"")
                        waiting[0] = (*waiting[0][:2], None)
                    n = next((i for i, (_, _, state) in enumerate(waiting) if state is not None), len(waiting))
                    self._append(b"".join(_encoded(*line[:2]) for line in waiting[:n]))
                except LakeFullError:
                    self._lines = [*_bounded(waiting), *self._lines]
                    raise
                waiting = waiting[n:]

    def close(self) -> None:
        """Flush and close; the writer opens a new file if more comes."""
        self.flush()
        with self._lock:
            self._hour = -1
            if self._file is not None:
                self._file.close()
                self._file = None

    def _turn(self, receive_ns: int, state: bytes) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        folder = hour_folder(self._root, self._venue, receive_ns)
        self._path = folder / f"{self._symbol}-{receive_ns}-{self.run}.zst"
        with writing(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            if state:
                self._path.with_suffix(STATE).write_bytes(state)
            self._file = self._path.open("ab", buffering=0)

    def _append(self, data: bytes) -> None:
        assert self._file is not None, "a page was turned before"
        view = memoryview(zstandard.ZstdCompressor(level=3).compress(data))
        end = os.fstat(self._file.fileno()).st_size
        with writing(self._path):
            try:
                while view:
                    view = view[self._file.write(view) or 0 :]
            except OSError:
                os.ftruncate(self._file.fileno(), end)
                raise


def _encoded(receive_ns: int, frame: bytes) -> bytes:
    if b"\n" in frame:
        return b"%d%s %s\n" % (receive_ns, BASE64, base64.b64encode(frame))
    return b"%d %s\n" % (receive_ns, frame)


def _bounded(lines: list[_Line]) -> list[_Line]:
    room = _WAITING_BYTES
    for i in range(len(lines) - 1, -1, -1):
        room -= len(lines[i][1])
        if room < 0:
            return [(lines[i][0], b"", None), *lines[i + 1 :]]
    return lines


def hour_folder(root: Path, venue: str, receive_ns: int) -> Path:
    """Return the folder of one venue's captures of the hour of a stamp.

    Examples
    --------
    >>> hour_folder(Path("lake"), "kraken", 1_767_268_800_000_000_000).as_posix()
    'lake/raw/kraken/2026-01-01/12'
    """
    day, clock = str(np.datetime64(receive_ns, "ns").astype("datetime64[h]")).split("T")
    return root / "raw" / venue / day / clock[:2]


def hours(root: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield the hours that were captured: venue, `YYYY-MM-DD/HH`, folder."""
    for folder in sorted((root / "raw").glob("*/????-??-??/[0-2][0-9]")):
        venue, day, hour = folder.parts[-3:]
        yield venue, f"{day}/{hour}", folder


def captures(paths: Iterable[Path]) -> list[Capture]:
    """Return the captures among files and within folders, by symbol and in the order in which they were written."""
    found = []
    for path in paths:
        for file in sorted(path.rglob("*.zst")) if path.is_dir() else [path]:
            match = _NAME.fullmatch(file.name)
            if match:
                found.append(Capture(match["symbol"], match["run"], int(match["first_ns"]), file))
    return sorted(found, key=lambda capture: (capture.symbol, capture.run, capture.first_ns))


def run_up(capture: Capture) -> list[Capture]:
    """Return the captures of the same run before this one, oldest first: what a book in it may stand on."""
    venue_folder = capture.path.parents[2]
    same = captures(venue_folder.glob(f"*/*/{capture.symbol}-*-{capture.run}.zst"))
    return [earlier for earlier in same if earlier.first_ns < capture.first_ns]
