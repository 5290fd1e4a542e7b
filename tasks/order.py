"""Captures go into a lake in the order of time: what follows in `seq` follows on the clock too.

Coverage, features and labels are folds over what was recorded, in the order of recording.  An
older capture behind a newer one would make a stretch of coverage that runs backwards, and
windows in which two days are mixed.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from tasks.replay import CaptureError, CaptureTruncatedError, read_capture
from tasks.venues.directory import canonical_symbol
from warehouse.lake import Lake


class OutOfOrderError(CaptureError):
    """A capture that begins before what it would follow: `first_ns` before `last_ns`, both by the clock of the receiver."""

    def __init__(self, what: str, first_ns: int, follows: str, last_ns: int, way_out: str) -> None:
        self.first_ns, self.last_ns = first_ns, last_ns
        first, last = (np.datetime_as_string(np.datetime64(ns, "ns"), "ms") for ns in (first_ns, last_ns))
        super().__init__(f"{what} begins at {first} UTC, expected no earlier than {follows} at {last} UTC; {way_out}")


def check_order(lake: Lake, venue: str, paths: Sequence[Path], raw_symbols: Sequence[str], session: str) -> None:
    """Raise OutOfOrderError if files are not in the order of time, or older than what a lake holds of their symbols."""
    begins = [(path, _first_stamp(path)) for path in paths]
    stamped = [(path, first_ns) for path, first_ns in begins if first_ns]
    for (before, earlier_ns), (path, later_ns) in pairwise(stamped):
        if later_ns < earlier_ns:
            raise OutOfOrderError(str(path), later_ns, str(before), earlier_ns, "name the files in the order of time")
    for raw_symbol in raw_symbols:
        if stamped:
            check_follows(lake, venue, canonical_symbol(venue, raw_symbol), session, stamped[0][1])


def _first_stamp(path: Path) -> int:
    try:
        return next((stamp for stamp, _ in read_capture([path]) if stamp), 0)
    except CaptureTruncatedError:
        return 0  # nothing can be read of it: recording says so, behind what comes before


def check_follows(lake: Lake, venue: str, symbol: str, session: str, first_ns: int) -> None:
    """Raise OutOfOrderError if a session that a stream does not know begins before the stream's newest book or trade."""
    if session in (known := lake.sessions(venue, symbol)) or not known:
        return
    newest = "SELECT max(receive_ns) FROM (SELECT receive_ns FROM l2_snapshots UNION ALL SELECT receive_ns FROM trades)"
    with lake.connect(venue, symbol) as connection:
        (last_ns,) = connection.execute(newest).fetchone() or (None,)
    if last_ns is not None and first_ns < last_ns:
        way_out = "replay older captures first, or this one into a lake of its own (--lake)"
        raise OutOfOrderError(f"the capture of {symbol}", first_ns, "the newest row of the lake", last_ns, way_out)
