"""Captured frames, in the order and, if asked, the pace at which they came.

A capture is lines of `<receive_ns> <frame>`, plain, gzip or zstd; several files are one
session.  It yields what `tasks/stream.py` yields off a socket.
"""

import asyncio
import base64
import gzip
import io
import re
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import zstandard

from tasks.venues.directory import wire

_CHUNK, _PACKED = 1 << 20, 1 << 17
_BASE64 = b":b64"  # behind the stamp of a frame with a line break in it: see warehouse/raw.py
# Where a venue's frames name their instrument; `s` is Binance's way.
_SYMBOL = re.compile(rb'"s":"([^"]{1,60})"')
_SYMBOLS = {
    "bybit": re.compile(rb'"topic":"(?:orderbook\.\d+|publicTrade)\.([^"]{1,60})"'),
    "coinbase": re.compile(rb'"product_id":"([^"]{1,60})"'),
    "kraken": re.compile(rb'"symbol":"([^"]{1,60}/[^"]{1,60})"'),
    "okx": re.compile(rb'"instId":"([^"]{1,60})"'),
    "hyperliquid": re.compile(rb'"coin":"([^"]{1,60})"'),
}
_LOOK_AHEAD = 5_000  # lines in which a symbol must turn up


class CaptureError(Exception):
    """A capture that cannot be read, or not to its end."""


class CaptureTruncatedError(CaptureError):
    """A compressed file that stops in the middle; all lines before were handed on."""

    def __init__(self, path: Path, lines: int, reason: object):
        self.path, self.lines = path, lines
        super().__init__(f"{path}: cut off or damaged after {lines} readable lines ({reason}); those were used, the rest is lost")


class NoSymbolError(CaptureError):
    """A capture in which no frame names a symbol."""

    def __init__(self, path: Path, lines: int, first: bytes):
        wanted = "expected '<receive_ns> <frame>' lines with a symbol"
        super().__init__(f"{path}: {wanted}, found none in {lines} lines; the first is {first[:80]!r}")


def _unpacked(raw: io.BufferedReader) -> Iterator[bytes]:
    # What can be unpacked is handed on before a cut is told: a read that waits for a whole
    # megabyte would lose all it had, and zstd's own reader ends a torn frame without a word.
    magic = raw.peek(4)[:4]
    if magic[:2] == b"\x1f\x8b":
        unzipped = gzip.GzipFile(fileobj=raw)
        while chunk := unzipped.read1(_CHUNK):
            yield chunk
    elif magic == b"\x28\xb5\x2f\xfd":
        frame, is_torn = zstandard.ZstdDecompressor().decompressobj(), False
        while packed := raw.read(_PACKED):
            while packed:
                yield frame.decompress(packed)
                is_torn, packed = not frame.eof, frame.unused_data
                if frame.eof:
                    frame = zstandard.ZstdDecompressor().decompressobj()
        if is_torn:
            raise EOFError("the last zstd frame has no end")
    else:
        while chunk := raw.read(_CHUNK):
            yield chunk


def read_capture(paths: Sequence[Path], progress: Callable[[int], None] = lambda _: None) -> Iterator[tuple[int, bytes]]:
    """Yield `(receive_ns, frame)` of every line, file after file.

    A line without a stamp keeps the last one and is handed on whole: the adapter counts it
    as unreadable.

    Parameters
    ----------
    paths : sequence of Path
        In the order of time.
    progress : callable
        Told how many compressed bytes have been read since the last call.

    Raises
    ------
    CaptureTruncatedError
        Behind the last line that could be read.
    CaptureError
        A file that is not there.
    """
    stamp, lines = 0, 0
    for path in paths:
        if not path.is_file():
            raise CaptureError(f"{path}: no such capture")
        chunk: bytes | None = b""
        rest, seen = b"", 0
        with path.open("rb") as raw:
            chunks = _unpacked(raw)
            while chunk is not None:
                try:
                    chunk = next(chunks, None)
                except (EOFError, OSError, zlib.error, zstandard.ZstdError) as error:
                    raise CaptureTruncatedError(path, lines, error) from error
                at = raw.tell()
                progress(at - seen)
                seen = at
                block = (rest + (chunk or b"")).split(b"\n")
                rest = block.pop() if chunk is not None else b""
                for line in block:
                    head, space, frame = line.partition(b" ")
                    if space and head.isdigit() and len(head) < 20:
                        stamp = int(head)
                    elif space and head.endswith(_BASE64) and head[: -len(_BASE64)].isdigit():
                        stamp, frame = int(head[: -len(_BASE64)]), base64.b64decode(frame)
                    elif line:
                        frame = line
                    else:
                        continue
                    lines += 1
                    yield stamp, frame


def session_of(paths: Sequence[Path], venue: str = "binance") -> tuple[str, str]:
    """Return the venue's symbol that a capture carries, and a name for the session that the same capture gets again.

    Raises
    ------
    NoSymbolError
        If no frame near the beginning names a symbol.
    """
    symbols, session = symbols_of(paths, venue, 1)
    return symbols[0], session


def symbols_of(paths: Sequence[Path], venue: str, most: int = 1000) -> tuple[list[str], str]:
    """Return the symbols that the beginning of a capture names, in the order of coming, and a name for the session.

    Raises
    ------
    NoSymbolError
        If no frame near the beginning names a symbol.
    """
    first, digest, found = b"", sha256(), dict[str, None]()
    pattern = _SYMBOLS.get(venue.partition("_")[0], _SYMBOL)
    n = 0
    try:
        for n, (stamp, frame) in enumerate(read_capture(paths), 1):
            if n <= 3:
                digest.update(b"%d %s\n" % (stamp, frame))
                first = first or frame
            for name in pattern.findall(frame):
                text = name.decode("utf-8", "replace")
                found[text if pattern is not _SYMBOL else text.upper()] = None
            if n >= 3 and (len(found) >= most or n >= _LOOK_AHEAD):
                break
    except CaptureTruncatedError:
        if not found:  # else whoever reads the frames is told
            raise
    if not found:
        raise NoSymbolError(paths[0], n, first)
    return list(found), f"replay-{digest.hexdigest()[:16]}"


async def routed(
    frames: AsyncIterator[tuple[str, int, bytes]], venue: str, raw_symbols: Sequence[str]
) -> AsyncIterator[tuple[str, int, bytes]]:
    """Yield a captured connection's frames by the symbol that each is of, as the live shell hands them out."""
    told = wire(venue)
    opened = told.connection(told.lines(raw_symbols, "")[0])
    async for _, receive_ns, frame in frames:
        for symbol, part in opened.receive(frame).frames:
            yield symbol, receive_ns, part


def only(frames: Iterator[tuple[int, bytes]], venue: str, raw_symbols: Sequence[str], raw_symbol: str) -> Iterator[tuple[int, bytes]]:
    """Yield the frames of a captured connection that are of one symbol."""
    told = wire(venue)
    opened = told.connection(told.lines(raw_symbols, "")[0])
    for receive_ns, frame in frames:
        for symbol, part in opened.receive(frame).frames:
            if symbol == raw_symbol:
                yield receive_ns, part


async def replay(
    paths: Sequence[Path], raw_symbol: str, speed: float = 0.0, progress: Callable[[int], None] = lambda _: None
) -> AsyncIterator[tuple[str, int, bytes]]:
    """Yield `(symbol, receive_ns, frame)` of a capture.

    Parameters
    ----------
    raw_symbol : str
        The venue's symbol, from `session_of`.
    speed : float
        1 for the pace of the recording, 2 for twice that; 0 for as fast as it is taken.
    """
    started, first = time.monotonic(), 0
    for n, (receive_ns, frame) in enumerate(read_capture(paths, progress)):
        if speed:
            first = first or receive_ns
            ahead = (receive_ns - first) / 1e9 / speed - (time.monotonic() - started)
            if ahead > 0.001:
                await asyncio.sleep(ahead)
        if n % 512 == 0:  # whoever commits beside must have its turn, also when the replay runs behind
            await asyncio.sleep(0)
        yield raw_symbol, receive_ns, frame
