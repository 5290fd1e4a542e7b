"""How much of each stream can be believed: the view `quality` for a window, and totals a stream."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from warehouse.lake import Lake
from warehouse.schema import FINDINGS, LEFT_OUT, STATES

# Kinds that make a stretch doubtful; the others happened and cost no row by themselves.
DOUBTFUL = (*STATES[1:], *(FINDINGS[kind] for kind in LEFT_OUT), "unreadable")
_SPANS = (*STATES[1:], *(FINDINGS[kind] for kind in LEFT_OUT))


@dataclass(frozen=True)
class StreamQuality:
    """One stream within the window.

    Attributes
    ----------
    seconds : float
        From its first moment in the window to its last.
    covered : float
        Share of that in which nothing is doubtful; NaN for a stream of one moment.
    gaps : int
        Stretches in which it is doubtful, those that touch counted once.
    longest_gap_s : float
        The longest of them.
    doubtful : int
        Rows of `quality` that make something doubtful; the opening of the stream is none.
    """

    venue: str
    symbol: str
    seconds: float
    covered: float
    gaps: int
    longest_gap_s: float
    doubtful: int

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, NaN as None."""
        return {name: None if value != value else value for name, value in asdict(self).items()}


def notes(lake: Lake, venue: str | None = None, symbol: str | None = None, since_ns: int | None = None) -> list[dict[str, Any]]:
    """Return the rows of the view `quality` that touch a window which ends now, oldest first."""
    return _notes_and_bounds(lake, venue, symbol, since_ns)[0]


def quality(
    lake: Lake, venue: str | None = None, symbol: str | None = None, since_ns: int | None = None
) -> tuple[list[dict[str, Any]], list[StreamQuality]]:
    """Return the rows of the view `quality` in a window and what they come to, a stream."""
    found, bounds = _notes_and_bounds(lake, venue, symbol, since_ns)
    totals = []
    for (of, name), (first, last) in bounds.items():
        begin = first if since_ns is None else max(first, since_ns)
        if begin > last:
            continue
        mine = [row for row in found if (row["venue"], row["symbol"]) == (of, name)]
        doubts = [row for row in mine if row["kind"] in DOUBTFUL and not _is_opening(row, first)]
        spans = [row for row in mine if row["kind"] in _SPANS]
        starts, ends = joined((row["start_ns"], row["end_ns"]) for row in spans)
        lengths = np.clip(ends, begin, last) - np.clip(starts, begin, last)
        gaps = {row["start_ns"] for row in doubts if row["kind"] in _SPANS}
        counted = [length for start, end, length in zip(starts, ends, lengths, strict=True) if any(start <= gap <= end for gap in gaps)]
        whole = last - begin
        covered = 1.0 - float(lengths.sum()) / whole if whole else float("nan")
        totals.append(StreamQuality(of, name, whole / 1e9, covered, len(counted), max(counted, default=0) / 1e9, len(doubts)))
    return found, totals


def _is_opening(row: dict[str, Any], first_ns: int) -> bool:
    return row["kind"] == "start" and row["start_ns"] <= first_ns


def joined(spans: Iterable[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the union of intervals as starts and ends, those that touch made one.

    Examples
    --------
    >>> starts, ends = joined([(5, 7), (0, 2), (2, 3), (6, 6)])
    >>> starts.tolist(), ends.tolist()
    ([0, 5], [3, 7])
    """
    whole: list[list[int]] = []
    for start, end in sorted(spans):
        if whole and start <= whole[-1][1]:
            whole[-1][1] = max(whole[-1][1], end)
        else:
            whole.append([start, end])
    out = np.array(whole, np.int64).reshape(-1, 2)
    return out[:, 0], out[:, 1]


def _notes_and_bounds(
    lake: Lake, venue: str | None, symbol: str | None, since_ns: int | None
) -> tuple[list[dict[str, Any]], dict[tuple[str, str], tuple[int, int]]]:
    asked = {"venue": venue, "symbol": symbol, "since": -1 if since_ns is None else since_ns}
    mine = "venue = coalesce($venue, venue) AND symbol = coalesce($symbol, symbol)"
    with lake.connect(venue, symbol) as connection:
        rows = connection.execute(f"SELECT * FROM quality WHERE {mine} AND end_ns >= $since", asked).to_arrow_table().to_pylist()
        bounds = connection.execute(
            f"SELECT venue, symbol, first_ns, last_ns FROM stream_bounds WHERE {mine} AND $since >= -1 ORDER BY ALL", asked
        ).fetchall()
    # Who asks for streams means those that are recorded; what is made of several venues has no coverage.
    return rows, {(of, name): (first, last) for of, name, first, last in bounds if of != "all"}
