"""Raw frames as they came: `raw/<venue>/<symbol>/<day>/<hour>-<first ns>.zst`, lines `<receive_ns> <frame>`.

The format is the one that hftbacktest's collector writes, so its files and ours interchange.
An empty frame stands for a lost connection.
"""

from pathlib import Path
from typing import BinaryIO

import numpy as np
import zstandard

_HOUR = 3_600_000_000_000
_DAY = 24 * _HOUR


class RawWriter:
    """Appends the frames of one stream, a file an hour; what was flushed survives a kill."""

    def __init__(self, root: Path, venue: str, symbol: str):
        self._folder = root / "raw" / venue / symbol
        self._hour = -1
        self._file: BinaryIO | None = None
        self._lines: list[bytes] = []

    def write(self, receive_ns: int, frame: bytes) -> None:
        """Keep one frame; it is in the file after the next `flush`."""
        self._lines.append(b"%d %s\n" % (receive_ns, frame))
        if receive_ns // _HOUR != self._hour:
            self._turn(receive_ns)

    def _turn(self, receive_ns: int) -> None:
        last = self._lines.pop()
        self.flush()
        self.close()
        self._lines = [last]
        self._hour = receive_ns // _HOUR
        day = str(np.datetime64(receive_ns, "ns").astype("datetime64[D]"))
        path = self._folder / day / f"{self._hour % 24:02d}-{receive_ns}.zst"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("xb")

    def flush(self) -> None:
        """Write what is kept as one zstd frame of its own, so that a torn end costs only itself."""
        if self._lines and self._file is not None:
            data = b"".join(self._lines)
            self._file.write(zstandard.ZstdCompressor(level=3).compress(data))
            self._file.flush()
            self._lines = []

    def close(self) -> None:
        """Flush and close; the writer opens a new file if more comes."""
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None
            self._hour = -1
