"""Frames on standard input through the recorder at full speed; memory on standard output.

    memory_run.py VENUE RAW_SYMBOL LAKE MODEL

The recorder is the live one: adapter, book, features, score, write-ahead, seals.  Each line
out is JSON: minutes of market time, megabytes resident, frames, rows acknowledged.
"""

import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from model import live_model  # noqa: E402

from tasks.record import Recorder  # noqa: E402
from warehouse.lake import Lake  # noqa: E402

COMMIT_NS, SEAL_NS, TELL_NS = 1_000_000_000, 60_000_000_000, 60_000_000_000  # of market time


def resident_mb() -> float:
    """Return the memory this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    """Read to the end of the input."""
    venue, raw_symbol, lake, saved = sys.argv[1:]
    champion = live_model(Path(saved).read_text())
    recorder = Recorder(Lake(Path(lake)), venue, "memory", model=lambda: champion)
    first = commit_at = seal_at = tell_at = 0
    for n, line in enumerate(sys.stdin.buffer, 1):
        stamp, _, frame = line.rstrip(b"\n").partition(b" ")
        now = int(stamp)
        if not first:
            first, commit_at, seal_at, tell_at = now, now + COMMIT_NS, now + SEAL_NS, now + TELL_NS
        recorder.take(raw_symbol, now, frame)
        if now >= commit_at:
            commit_at = now + COMMIT_NS
            recorder.commit()
        if now >= seal_at:
            seal_at = now + SEAL_NS
            recorder.writer.seal()
        if now >= tell_at:
            tell_at = now + TELL_NS
            told = {"minute": (now - first) / 6e10, "mb": resident_mb(), "frames": n, "rows": recorder.totals.committed}
            print(json.dumps(told), flush=True)
    recorder.close()


if __name__ == "__main__":
    main()
