"""What every contestant shares: the capture in memory, one pinned core, rounds on request.

Standard library only, because each peer imports this in an interpreter of its own.

A contestant answers one line of standard input with one line of JSON:

`round depth|all`      a timed pass over the frames with a fresh book: frames, seconds of its
                       own processor time, so that a stranger on the core is not billed to it
`quantiles depth|all`  the same with a clock around each frame: microseconds at p50, p99, max
`check depth|all`      an untimed pass: SHA-256 of the best bid and ask after every book
                       update, how many there were, and 20 levels a side at the end

The snapshot is loaded before the clock starts, everywhere; depth events that it holds
are dropped by each contestant's own rule.
"""

import contextlib
import gc
import gzip
import hashlib
import json
import os
import statistics
import struct
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

LEVELS = 20
Frame = tuple[int, bytes]  # receive_ns, what came off the socket
Quote = tuple[float, float, float, float]  # bid price, bid size, ask price, ask size
Level = tuple[float, float]


@dataclass(frozen=True)
class Capture:
    """One instrument's frames: the first REST snapshot apart, the stream in order."""

    venue: str
    raw_symbol: str
    snapshot: bytes
    snapshot_ns: int
    frames: list[Frame]

    def select(self, which: str) -> list[Frame]:
        """Return the frames of a discipline: `depth` for book events alone, `all` for everything."""
        return self.frames if which == "all" else [frame for frame in self.frames if b'"depthUpdate"' in frame[1]]


def load(paths: list[str], venue: str) -> Capture:
    """Return the capture in `paths`, several files being one session."""
    snapshot, snapshot_ns, frames = b"", 0, []
    for path in paths:
        with gzip.open(path) as lines:
            for line in lines:
                stamp, _, frame = line.rstrip(b"\n").partition(b" ")
                if frame.startswith(b'{"lastUpdateId"'):
                    if not snapshot:
                        snapshot, snapshot_ns = frame, int(stamp)
                else:
                    frames.append((int(stamp), frame))
    symbol = next(json.loads(frame)["data"]["s"] for _, frame in frames if b'"depthUpdate"' in frame)
    return Capture(venue, symbol, snapshot, snapshot_ns, frames)


class Contestant(Protocol):
    """One way from frames to books."""

    def prepare(self, frame: bytes) -> bytes:
        """Return the frame as this contestant wants it; before any clock starts."""

    def begin(self) -> None:
        """Forget the last round and load the snapshot."""

    def feed(self, frames: list[Frame]) -> float:
        """Fold the frames, reading 20 levels a side out after each book update; return its processor seconds."""

    def feed_one(self, frame: Frame) -> None:
        """Fold one frame the same way; what the quantiles are taken of."""

    def best(self) -> Quote:
        """Return the best bid and ask of the book read out last."""

    def top(self) -> tuple[list[Level], list[Level]]:
        """Return 20 bids and asks as read out last, best first."""

    def updates(self) -> int:
        """Return how many books were read out since `begin`."""


def quantiles(times_ns: Iterable[int]) -> dict[str, float]:
    """Return p50, p90, p99 and the largest of some durations, in microseconds."""
    ordered = sorted(times_ns)
    at = {"p50_us": 0.5, "p90_us": 0.9, "p99_us": 0.99, "max_us": 1.0}
    return {name: ordered[min(len(ordered) - 1, int(q * len(ordered)))] / 1e3 for name, q in at.items()}


def typical(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Return the median over rounds of each quantile, so that one disturbed round does not speak for all."""
    return {name: statistics.median(found[name] for found in rounds) for name in rounds[0]}


def _one_by_one(contestant: Contestant, frames: list[Frame]) -> dict[str, float]:
    clock, one, times = time.perf_counter_ns, contestant.feed_one, []
    for frame in frames:
        start = clock()
        one(frame)
        times.append(clock() - start)
    return quantiles(times)


def _check(contestant: Contestant, frames: list[Frame]) -> dict[str, object]:
    digest, seen = hashlib.sha256(), 0
    for frame in frames:
        contestant.feed_one(frame)
        if contestant.updates() > seen:
            seen = contestant.updates()
            digest.update(struct.pack("<4d", *contestant.best()))
    bids, asks = contestant.top()
    return {"updates": seen, "quotes_sha256": digest.hexdigest(), "bids": bids, "asks": asks}


def answer(contestant: Contestant, capture: Capture) -> None:
    """Serve the requests on standard input until it ends."""
    chosen = {which: [(ns, contestant.prepare(frame)) for ns, frame in capture.select(which)] for which in ("depth", "all")}
    capture.frames.clear()
    gc.collect()
    gc.freeze()  # the capture is ours, not the contestant's: its collector shall not walk it
    replies = os.fdopen(os.dup(1), "w")
    with contextlib.redirect_stdout(sys.stderr):
        for line in sys.stdin:
            verb, which = line.split()
            frames = chosen[which]
            contestant.begin()
            if verb == "round":
                reply: dict[str, object] = {"frames": len(frames), "seconds": contestant.feed(frames)}
            else:
                measure: Callable[[Contestant, list[Frame]], dict] = _check if verb == "check" else _one_by_one
                reply = measure(contestant, frames)
            replies.write(json.dumps(reply) + "\n")
            replies.flush()


def main(make: Callable[[Capture], Contestant]) -> None:
    """Run a contestant: arguments are core, venue and the capture's files."""
    core, venue, *paths = sys.argv[1:]
    if int(core) >= 0 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core)})
    capture = load(paths, venue)
    answer(make(capture), capture)
