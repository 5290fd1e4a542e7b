"""A simulated market as a recorder would have captured it."""

import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import zstandard

from simulator.binance import FEEDS, Wire, envelope
from simulator.instruments import Instrument, instrument
from simulator.market import Market

START_NS = 1_767_225_600_000_000_000  # 2026-01-01 00:00 UTC
JOINS = ("inside", "boundary", "next")
_LATENCY_NS, _JITTER_NS = 3_000_000, 400_000
_STEP_NS = 200_000_000


def frames(
    venue: str,
    raw_symbol: str,
    seconds: float,
    seed: int,
    hidden: bool = True,
    start_ns: int = START_NS,
    *,
    join: str | None = None,
    feeds: Iterable[str] = FEEDS[:3],
    clock_offset_ns: int = 0,
    made: Instrument | None = None,
) -> Iterator[tuple[int, bytes]]:
    """Yield `(receive_ns, frame)` of one connection and one REST snapshot.

    Parameters
    ----------
    venue, raw_symbol : str
        A key of `INSTRUMENTS`.
    seconds : float
        Market time.
    seed : int
        Same seed and arguments, same bytes.
    hidden : bool
        Whether there is anything to learn; see `simulator.market`.
    start_ns : int
        Exchange time of the opening.
    join : {'inside', 'boundary', 'next'}, optional
        Where the snapshot's `lastUpdateId` falls: inside a depth message, on the last id of
        one (spot: the next has `U == lastUpdateId + 1`), or on the last id before the first
        message (futures: `pu == lastUpdateId`, and nothing precedes it).  None: the seed's choice.
    feeds : iterable of str
        Which of depth, trade, bookTicker, aggTrade.
    clock_offset_ns : int
        Local clock minus exchange clock; may be negative, as in real captures.
    made : Instrument, optional
        Another market than the listed one.

    Yields
    ------
    tuple of int and bytes
        `receive_ns` never decreases: frames of one connection arrive in the order they were sent.
    """
    if join not in (None, *JOINS):
        raise ValueError(f"join must be one of {JOINS}, received {join!r}")
    made = made or instrument(venue, raw_symbol)
    market, wire = Market(made, seed, start_ns, hidden), Wire(made)
    names, feeds = wire.stream_names(), tuple(feeds)
    chance = np.random.default_rng([seed, 7])
    join = join or JOINS[chance.choice(3, p=(0.5, 0.4, 0.1))]
    end_ns, last_ns = start_ns + int(seconds * 1e9), 0

    def sent(until_ns: int, stop_at_depth: bool = False) -> Iterator[tuple[int, bytes]]:
        nonlocal last_ns
        events, levels = market.advance(until_ns, stop_at_depth)
        delays = iter((chance.exponential(_JITTER_NS, 2 * len(events)) + _LATENCY_NS + clock_offset_ns).astype(np.int64).tolist())
        for exchange_ns, feed, payload in wire.messages(events, levels, feeds):
            last_ns = max(last_ns, exchange_ns + next(delays))
            yield last_ns, envelope(names[feed], payload)

    if join == "next":  # nothing that went before is seen
        market.advance(end_ns, stop_at_depth=True)
    else:
        yield from sent(start_ns + int((3.2 + chance.random()) * made.depth_ms * 1e6))
    if join == "boundary":
        yield from sent(end_ns, stop_at_depth=True)
    body: bytes | None = wire.snapshot(market.update_id, *market.snapshot(), market.now_ns)
    due_ns = market.now_ns + clock_offset_ns + int(chance.uniform(40e6, 160e6))
    while market.now_ns < end_ns:
        for receive_ns, frame in sent(min(market.now_ns + _STEP_NS, end_ns)):
            if body and receive_ns >= due_ns:
                yield due_ns, body
                body = None
            yield receive_ns, frame
    if body:
        yield max(due_ns, last_ns), body


def write_capture(path: Path | str, frames: Iterable[tuple[int, bytes]]) -> int:
    """Write frames as `<receive_ns> <frame>` lines and return how many.

    Parameters
    ----------
    path : Path or str
        Ends in `.gz` (same frames, same bytes), `.zst`, or anything else for plain text.
    frames : iterable of tuple of int and bytes
        What `frames`, or a recorder, yields.
    """
    path, n = Path(path), 0
    with path.open("wb") as raw:
        if path.suffix == ".gz":
            out = gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=3, mtime=0)
        elif path.suffix == ".zst":
            out = zstandard.ZstdCompressor(level=3).stream_writer(raw, closefd=False)
        else:
            out = raw
        lines: list[bytes] = []
        for receive_ns, frame in frames:
            lines.append(b"%d %b\n" % (receive_ns, frame))
            n += 1
            if len(lines) == 2_000:
                out.write(b"".join(lines))
                lines.clear()
        out.write(b"".join(lines))
        if out is not raw:
            out.close()
    return n
