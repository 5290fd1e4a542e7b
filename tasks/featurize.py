"""Recorded rows into features, bars and signals: one stream, one day, in exactly the order the live path saw.

A day is the stretch of `event_seq` from its first book to the next day's first book, so a
trade that arrives a moment after midnight is folded where it came, not where its stamp says.
What the folds remember at the end of a day is kept, and the next day starts from it.
"""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import numpy as np
from prefect import task

from tasks.detectors.fold import Detectors
from tasks.features.bar_catalogue import BAR_NAMES, SPANS_S
from tasks.features.bars import BAR
from tasks.features.catalogue import NAMES
from tasks.features.fold import META, Features
from tasks.features.reference import CLOSE, LOOK_BACK, put_funding, put_reference, reference_of
from tasks.fitted import fit, has_begun, in_force, would_serve
from tasks.kept import VERSIONS, Folds, carried, day_before, is_outdated, keep, kept
from warehouse.columns import DAY_NS, day_begins
from warehouse.lake import Lake

_SLACK_NS = 600_000_000_000  # how far a row's own stamp may lie outside the day it is folded in
_LAST = np.iinfo(np.int64).max
_LOOK_BACK_NS = (LOOK_BACK + 3) * 1_000_000_000  # of a bar's length in seconds


def _bounds(day: str) -> tuple[int, int]:
    start = day_begins(day)
    return start, start + DAY_NS


def events_of(lake: Lake, venue: str, symbol: str, day: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the books, trades and coverage changes of a day, each in folding order, and the next day's first book."""
    start, end = _bounds(day)
    books = lake.rows("l2_snapshots", venue, symbol, start, end)
    after = _first_book(lake, venue, symbol, end)
    first = int(books["event_seq"].min()) if books.size else _LAST
    earlier = lake.rows("l2_snapshots", venue, symbol, start - DAY_NS, start)
    if not earlier.size and not _is_later(lake, venue, symbol, day):
        first = 0  # nothing before: the opening changes and trades are this day's
    last, until = (int(after["event_seq"][0]), int(after["exchange_ns"][0]) + _SLACK_NS) if after.size else (_LAST, None)
    out = [books]
    trades = lake.rows("trades", venue, symbol, start - DAY_NS if first == 0 else start - _SLACK_NS, until)
    # All changes there are: a session's opening bears the stamp of where the one before it ended.
    for rows in (trades, lake.rows("coverage_changes", venue, symbol)):
        out.append(rows[(rows["event_seq"] >= first) & (rows["event_seq"] < last)])
    books, trades, changes = (rows[np.argsort(rows["event_seq"], kind="stable")] for rows in out)
    return books, trades, changes, after


def _is_later(lake: Lake, venue: str, symbol: str, day: str) -> bool:
    # Whether the stream has an earlier day, be it not the one before.
    return any((at, name) == (venue, symbol) and known < day for at, name, known in lake.partitions("l2_snapshots"))


def _first_book(lake: Lake, venue: str, symbol: str, since_ns: int) -> np.ndarray:
    # The first book from a midnight on, be it days later; shape (1,) or (0,).
    books = lake.rows("l2_snapshots", venue, symbol, since_ns, since_ns + _SLACK_NS)
    if not books.size:
        days = [_bounds(day)[0] for *stream, day in lake.partitions("l2_snapshots") if stream == [venue, symbol]]
        until = min((start for start in days if start >= since_ns), default=None)
        known = lake.read(
            "l2_snapshots", venue, symbol, since_ns, None if until is None else until + DAY_NS, columns=["exchange_ns", "event_seq"]
        )
        if not known.num_rows:
            return books
        at = int(known["exchange_ns"].to_numpy()[np.argmin(known["event_seq"].to_numpy())])
        books = lake.rows("l2_snapshots", venue, symbol, at, at + 1)
    return books[[np.argmin(books["event_seq"])]]


def _next_seq(lake: Lake, table: str, venue: str, symbol: str, start_ns: int) -> int:
    known = lake.read(table, venue, symbol, end_ns=start_ns, columns=["seq"])["seq"].to_numpy()
    return int(known.max()) + 1 if known.size else 0


def _day_after(day: str) -> str:
    return str(date.fromisoformat(day) + timedelta(days=1))


def featurize(lake: Lake, venue: str, symbol: str, day: str, reference: str = "BTC") -> dict[str, Any]:
    """Write features, bars and signals of one stream and day; return the manifest of the partition.

    Skips the work when the partition was built from the same rows by the same code.  Features
    are written last: a run that was killed before is done again, and gives the same.

    Parameters
    ----------
    reference : str
        Base asset whose bars at the same venue the others' are held against; its days come first.

    Returns
    -------
    dict
        `rows`, `warm_rows` (no NaN by doubt), `catalogue`, `carried` (names the state that the day before left), `fits`,
        `last_event_seq`, `bar_rows`, `signal_rows`, `skipped`.
    """
    start, end = _bounds(day)
    books, trades, changes, following = events_of(lake, venue, symbol, day)
    if not books.size:
        return {"rows": 0, **VERSIONS, "skipped": False}
    funding = lake.rows("funding_rates", venue, symbol, None, end)
    against = reference_of(symbol, reference)
    beside = (lake.manifest("bars", venue, against, day) if against else None) or {}
    for each in (day, _day_after(day)):
        if _may_fit(lake, venue, symbol, each):
            fit(lake, venue, symbol, each)
    fits = in_force(lake, venue, symbol, day)
    inputs = {
        **VERSIONS, "fits": fits.id, "carried": carried(lake, venue, symbol, day),
        "rows": int(books.size), "trades": int(trades.size), "changes": int(changes.size),
        "first_event_seq": int(books["event_seq"][0]), "last_event_seq": int(books["event_seq"][-1]),
        "is_over": bool(following.size), "funding": int(funding.size),
        "reference": [against, *(beside.get(key, 0) for key in ("bars", "rows", "trades", "changes", "last_event_seq", "is_over"))],
    }  # fmt: skip
    known = lake.manifest("features", venue, symbol, day)
    if known and all(known.get(key) == value for key, value in inputs.items()):
        return {**known, "skipped": True}
    folds = Folds(Features(fits), Detectors(first_seq=_next_seq(lake, "signals", venue, symbol, start)))
    before = kept(lake, venue, symbol, day_before(lake, venue, symbol, day))
    if before is None:
        folds.n_bars = _next_seq(lake, "bars", venue, symbol, start)
    else:
        folds.restore(before)
    meta, out = folds.features.batch(books, trades, changes)
    signals = folds.detectors.batch(meta, out)
    seq, today = _split(folds, start, end)
    keep(lake, venue, symbol, day, folds)
    bars = _bars(folds, today, end, following)
    put_reference(bars, _closes(lake, venue, symbol, start, start), _closes(lake, venue, against, start, end))
    put_funding(bars, *_paid(funding))
    manifest = {
        **inputs,
        "warm_rows": int((meta["doubt"] == 0).sum()),
        "bar_rows": bars.size,
        "signal_rows": signals.size,
        "skipped": False,
    }
    lake.replace("bars", venue, symbol, day, _bar_columns(bars, seq), manifest)
    if not _is_live(lake, venue, symbol, day):
        lake.replace("signals", venue, symbol, day, {name: signals[name] for name in signals.dtype.names or ()}, manifest)
    lake.replace("features", venue, symbol, day, _columns(meta, out), manifest)
    return manifest


def _split(folds: Folds, start: int, end: int) -> tuple[int, np.ndarray]:
    # The day's bars so far and the first one's seq; those of the next day stay with the folds.
    bars = np.concatenate([folds.carried, folds.features.bars()])
    seq = folds.n_bars + int((bars["exchange_ns"] < start).sum())
    bars = bars[bars["exchange_ns"] >= start]
    today = bars[bars["exchange_ns"] < end]
    folds.carried, folds.n_bars = bars[today.size :], seq + today.size
    return seq, today


def _bars(folds: Folds, today: np.ndarray, end: int, following: np.ndarray) -> np.ndarray:
    # A bar that only the next day's first book closes is of the day in which it ends.
    if not following.size:
        return today
    folds.features.batch(following)
    late = folds.features.bars()
    return np.concatenate([today, late[late["exchange_ns"] < end]])


def _is_live(lake: Lake, venue: str, symbol: str, day: str) -> bool:
    # Signals that were written as they happened stay what they were, and so do the numbers that a
    # running scorer counts on: from the day of its first session on, signals are the scorer's.
    start, end = _bounds(day)
    since = lake.written_since("signals", venue, symbol)
    if since is not None and since < end:
        return True
    if lake.manifest("signals", venue, symbol, day) is not None:
        return False
    return bool(lake.read("signals", venue, symbol, start, end, columns=["seq"]).num_rows)


def _may_fit(lake: Lake, venue: str, symbol: str, day: str) -> bool:
    # Never of a day that a scorer has begun, nor of one that the scorer's first day would look back to: it went on without.
    if has_begun(lake, venue, symbol, day) and _is_live(lake, venue, symbol, day):
        return False
    since = lake.written_since("signals", venue, symbol)
    return since is None or not would_serve(lake, venue, symbol, day, str(np.datetime64(since, "ns").astype("M8[D]")))


def _closes(lake: Lake, venue: str, symbol: str, start: int, end: int) -> np.ndarray:
    if not symbol:
        return np.zeros(0, CLOSE)
    table = lake.read("bars", venue, symbol, start - SPANS_S[-1] * _LOOK_BACK_NS, end, columns=list(CLOSE.names or ()))
    out = np.zeros(table.num_rows, CLOSE)
    for name in CLOSE.names or ():
        out[name] = table[name].to_numpy()
    return out[out["exchange_ns"] >= start - out["span_s"] * _LOOK_BACK_NS]


def _paid(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = rows[np.argsort(rows["exchange_ns"], kind="stable")]
    return rows["exchange_ns"], rows["funding_rate"]


def _bar_columns(bars: np.ndarray, seq: int) -> dict[str, np.ndarray]:
    columns = {name: np.ascontiguousarray(bars[name]) for name in BAR.names or () if name != "values"}
    columns["seq"] = np.arange(seq, seq + bars.size)
    columns.update(zip(BAR_NAMES, np.ascontiguousarray(bars["values"].T), strict=True))
    return columns


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


def waves(
    lake: Lake, reference: str, venue: str | None = None, symbols: list[str] | None = None, days: int | None = None,
    labels: Mapping[str, Any] | None = None,
) -> list[dict[tuple[str, str], list[str]]]:  # fmt: skip
    """Return what to refresh: (venue, symbol) to days, ascending; first the reference assets' streams, then the others.

    Parameters
    ----------
    venue, symbols : optional
        All that the lake holds if not given.
    days : int, optional
        How many of each stream's newest days, and all from the first one on that other code, other fits or another day
        before it made.  All if not given.
    labels : mapping, optional
        What their manifest must say: a day whose labels are of other code, or of another horizon, is outdated too.
    """
    held: dict[tuple[str, str], list[str]] = {}
    for found, symbol, day in lake.partitions("l2_snapshots"):
        if venue in (None, found) and (symbols is None or symbol in symbols):
            held.setdefault((found, symbol), []).append(day)
    out: list[dict[tuple[str, str], list[str]]] = [{}, {}]
    for stream, all_days in held.items():
        newest = 0 if days is None else max(0, len(all_days) - days)
        # What a day leaves goes into all that follow it: from the first one that is outdated on, each is looked at.
        first = next((n for n, day in enumerate(all_days[:newest]) if _is_old(lake, *stream, day, labels)), newest)
        out[bool(reference_of(stream[1], reference))][stream] = all_days[first:]
    return [wave for wave in out if wave]


def _is_old(lake: Lake, venue: str, symbol: str, day: str, labels: Mapping[str, Any] | None) -> bool:
    if is_outdated(lake, venue, symbol, day):
        return True
    known = lake.manifest("labels", venue, symbol, day)
    return labels is not None and (known is None or any(known.get(key) != value for key, value in labels.items()))
