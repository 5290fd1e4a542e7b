"""Which fits are in force on a day of a stream, and how they come to be there.

The fits of a day are made of days that ended a whole day before it.  So they are known, and kept
under their day, before that day begins: a scorer takes them over between two books, at midnight,
and who rebuilds the day later takes the same ones.  Where there is nothing to fit on, or too
little, the features say what they say without a fit.
"""

import json
from datetime import date

import numpy as np

from models.errors import TooLittleDataError
from models.fits import Fits
from models.garch import Garch, TooFewReturnsError, fit_garch
from models.labels import doubt_over
from models.microprice import Microprice, fit_microprice
from tasks.features.bar_catalogue import SPANS_S
from warehouse.columns import DAY_NS, day_begins, days_before
from warehouse.lake import Lake
from warehouse.quarantine import left_out
from warehouse.schema import OK

VERSION = "1"  # fits that other code made are not in force
LAG = 2  # days between the last one that is looked at and the day itself
FIT_DAYS = 14  # of bars that GARCH is fitted on; also how long a fit is in force where none follows
_MOST_RETURNS = 100_000  # of one length of bar, the latest
_LEVELS, _BOOKS = 5, 20_000  # that the tick is read from where the venue did not tell it
_LOOKED_AHEAD_NS = 300_000_000_000  # before midnight: scorers look each minute, and a fit takes a while


def _key(venue: str, symbol: str, day: str) -> str:
    return f"fits-{VERSION}/{venue}/{symbol}/{day}"


def in_force(lake: Lake, venue: str, symbol: str, day: str) -> Fits:
    """Return the fits that features of this day are made with: the newest kept for it or for a day shortly before."""
    for days in range(FIT_DAYS):
        content = lake.load_state(_key(venue, symbol, days_before(day, days)))
        if content is not None:
            return Fits.of(content)
    return Fits()


def fit(lake: Lake, venue: str, symbol: str, day: str) -> Fits:
    """Make the fits of a day and keep them; what there is too little for goes on as before.  Return those in force.

    They are made anew as long as their day has not begun, if rows that they were made of have
    come or were quarantined since; rows in quarantine teach nothing.
    """
    key, last = _key(venue, symbol, day), days_before(day, LAG)
    is_kept = lake.load_state(key) is not None
    if (venue, symbol, last) not in lake.partitions("l2_snapshots") or (is_kept and has_begun(lake, venue, symbol, day)):
        return in_force(lake, venue, symbol, day)
    first = days_before(day, LAG + FIT_DAYS - 1)
    inputs = _inputs(lake, venue, symbol, first, last)
    if not is_kept or lake.load_state(f"{key}.inputs") != inputs:
        older, micro = in_force(lake, venue, symbol, days_before(day, 1)), _microprice(lake, venue, symbol, last)
        garch = {**older.garch, **_garch(lake, venue, symbol, day_begins(first), day_begins(last) + DAY_NS)}
        made = Fits(micro if micro.id else older.microprice, garch, first, last)
        lake.save_state(key, made.content)
        lake.save_state(f"{key}.inputs", inputs)
    return in_force(lake, venue, symbol, day)


def has_begun(lake: Lake, venue: str, symbol: str, day: str) -> bool:
    """Return whether a scorer may hold the fits of this day by now: it looks for tomorrow's before midnight."""
    if any(found >= day for *stream, found in lake.partitions("l2_snapshots") if stream == [venue, symbol]):
        return True
    return bool(lake.read("l2_snapshots", venue, symbol, day_begins(day) - _LOOKED_AHEAD_NS, columns=["seq"]).num_rows)


def would_serve(lake: Lake, venue: str, symbol: str, day: str, later: str) -> bool:
    """Return whether fits of `day`, had they been kept, would be in force on a later day."""
    apart = (date.fromisoformat(later) - date.fromisoformat(day)).days
    return 0 < apart < FIT_DAYS and all(lake.load_state(_key(venue, symbol, days_before(later, days))) is None for days in range(apart))


def _inputs(lake: Lake, venue: str, symbol: str, first: str, last: str) -> bytes:
    end = day_begins(last) + DAY_NS
    spans = {"l2_snapshots": day_begins(last), "bars": day_begins(first)}
    stamps = {table: lake.read(table, venue, symbol, start, end, columns=["exchange_ns"])["exchange_ns"] for table, start in spans.items()}
    return json.dumps({table: int(_is_free(lake, venue, symbol, ns.to_numpy()).sum()) for table, ns in stamps.items()}).encode()


def _is_free(lake: Lake, venue: str, symbol: str, exchange_ns: np.ndarray) -> np.ndarray:
    spans = left_out(lake, venue, symbol)
    spans[:, 2] = 1
    free: np.ndarray = doubt_over(exchange_ns, exchange_ns, spans) == 0
    return free


def _microprice(lake: Lake, venue: str, symbol: str, day: str) -> Microprice:
    start, end = day_begins(day), day_begins(day) + DAY_NS
    books = lake.rows("l2_snapshots", venue, symbol, start, end)
    books = books[_is_free(lake, venue, symbol, books["exchange_ns"])]
    books = books[(books["doubt"] == OK) & (books["bid_sz"][:, 0] > 0.0) & (books["ask_sz"][:, 0] > 0.0)]
    books = books[np.argsort(books["event_seq"], kind="stable")]
    tick = _tick(lake, venue, symbol, books, end)
    if not books.size or not tick > 0.0:
        return Microprice()
    bid, ask, bid_size, ask_size = (books[name][:, 0] for name in ("bid_px", "ask_px", "bid_sz", "ask_sz"))
    turns = np.searchsorted(np.sort(lake.rows("coverage_changes", venue, symbol)["event_seq"]), books["event_seq"])
    follows = np.diff(turns, prepend=-1) == 0
    mid_ticks = np.rint((bid + ask) / tick) / 2.0
    try:
        return fit_microprice((bid_size - ask_size) / (bid_size + ask_size), np.rint((ask - bid) / tick), mid_ticks, tick, follows)
    except TooLittleDataError:
        return Microprice()


def _tick(lake: Lake, venue: str, symbol: str, books: np.ndarray, end_ns: int) -> float:
    told = lake.rows("instruments", venue, symbol, None, end_ns)
    if told.size and told["tick"][-1] > 0.0:
        return float(told["tick"][-1])
    steps = -np.diff(books["bid_px"][:_BOOKS, :_LEVELS], axis=1)
    steps = steps[steps > 0.0]
    return float(f"{steps.min():.6g}") if steps.size else 0.0


def _garch(lake: Lake, venue: str, symbol: str, start_ns: int, end_ns: int) -> dict[int, Garch]:
    bars = lake.read("bars", venue, symbol, start_ns, end_ns, columns=["exchange_ns", "span_s", "close", "doubt"])
    span, close = bars["span_s"].to_numpy(), bars["close"].to_numpy()
    ns, found = bars["exchange_ns"].to_numpy(), {}
    good = (bars["doubt"].to_numpy() == OK) & _is_free(lake, venue, symbol, ns)
    for span_s in SPANS_S:
        mine = np.flatnonzero((span == span_s) & good & (close > 0.0))[-_MOST_RETURNS:]
        returns = np.diff(np.log(close[mine]))
        returns = returns[np.diff(ns[mine]) == span_s * 1_000_000_000]  # of bars that follow each other
        try:
            found[span_s] = fit_garch(returns)
        except TooFewReturnsError:
            continue
    return found
