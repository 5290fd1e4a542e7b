"""Recorded rows into features: one stream, one day, in exactly the order the live path saw.

A day is the stretch of `event_seq` from its first book to the next day's first book, so a
trade that arrives a moment after midnight is folded where it came, not where its stamp says.
What the fold remembers at the end of a day is kept, and the next day starts from it.
"""

import io
from datetime import date, timedelta
from typing import Any

import numpy as np
from prefect import task

from tasks.features.catalogue import NAMES, VERSION
from tasks.features.fold import META, Features
from warehouse.lake import Lake

DAY_NS = 86_400_000_000_000
_SLACK_NS = 600_000_000_000  # how far a row's own stamp may lie outside the day it is folded in
_LAST = np.iinfo(np.int64).max


def _bounds(day: str) -> tuple[int, int]:
    start = int(np.datetime64(day, "ns").astype(np.int64))
    return start, start + DAY_NS


def events_of(lake: Lake, venue: str, symbol: str, day: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the books, trades and coverage changes that belong to a day, each in folding order."""
    start, end = _bounds(day)
    books = lake.rows("l2_snapshots", venue, symbol, start, end)
    after = lake.rows("l2_snapshots", venue, symbol, end, end + _SLACK_NS)
    first = int(books["event_seq"].min()) if books.size else _LAST
    earlier = lake.rows("l2_snapshots", venue, symbol, start - DAY_NS, start)
    if not earlier.size:
        first = 0  # nothing before: the opening changes and trades are this day's
    last = int(after["event_seq"].min()) if after.size else _LAST
    out = [books]
    trades = lake.rows("trades", venue, symbol, start - DAY_NS if first == 0 else start - _SLACK_NS, end + _SLACK_NS)
    # All changes there are: a session's opening bears the stamp of where the one before it ended.
    for rows in (trades, lake.rows("coverage_changes", venue, symbol)):
        out.append(rows[(rows["event_seq"] >= first) & (rows["event_seq"] < last)])
    books, trades, changes = (rows[np.argsort(rows["event_seq"], kind="stable")] for rows in out)
    return books, trades, changes


def _state_key(venue: str, symbol: str, day: str) -> str:
    return f"features-{VERSION}/{venue}/{symbol}/{day}"


def featurize(lake: Lake, venue: str, symbol: str, day: str) -> dict[str, Any]:
    """Write the features of one stream and day; return the manifest of the partition.

    Skips the work when the partition was built from the same rows by the same catalogue.

    Returns
    -------
    dict
        `rows`, `warm_rows` (no NaN by doubt), `catalogue`, `last_event_seq`, `skipped`.
    """
    books, trades, changes = events_of(lake, venue, symbol, day)
    if not books.size:
        return {"rows": 0, "catalogue": VERSION, "skipped": False}
    inputs = {
        "catalogue": VERSION, "rows": int(books.size), "trades": int(trades.size), "changes": int(changes.size),
        "first_event_seq": int(books["event_seq"][0]), "last_event_seq": int(books["event_seq"][-1]),
    }  # fmt: skip
    known = lake.manifest("features", venue, symbol, day)
    if known and all(known.get(key) == value for key, value in inputs.items()):
        return {**known, "skipped": True}
    features = Features()
    before = lake.load_state(_state_key(venue, symbol, str(date.fromisoformat(day) - timedelta(days=1))))
    if before is not None:
        features.restore(io.BytesIO(before))
    meta, out = features.batch(books, trades, changes)
    manifest = {**inputs, "warm_rows": int((meta["doubt"] == 0).sum()), "skipped": False}
    lake.replace("features", venue, symbol, day, _columns(meta, out), manifest)
    kept = io.BytesIO()
    features.save(kept)
    lake.save_state(_state_key(venue, symbol, day), kept.getvalue())
    return manifest


def _columns(meta: np.ndarray, out: np.ndarray) -> dict[str, np.ndarray]:
    columns = {name: meta[name] for name in META.names or ()}
    columns.update(zip(NAMES, np.ascontiguousarray(out.T), strict=True))
    return columns


def feature_matrix(
    lake: Lake, venue: str, symbol: str, start_ns: int | None = None, end_ns: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the stored features of a stream: meta records and the matrix in catalogue order."""
    table = lake.read("features", venue, symbol, start_ns, end_ns)
    meta = np.zeros(table.num_rows, META)
    for name in META.names or ():
        meta[name] = table[name].to_numpy()
    out = np.empty((table.num_rows, len(NAMES)))
    for i, name in enumerate(NAMES):
        out[:, i] = table[name].to_numpy()
    return meta, out


featurize_partition = task(featurize, name="featurize", task_run_name="featurize {venue} {symbol} {day}")
