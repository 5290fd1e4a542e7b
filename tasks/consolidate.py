"""Recorded books, trades, changes of coverage and funding of several venues into rows of `consolidated`: one base asset, one day.

The same fold in the same order as `Normaliser`, so the same rows to the bit where both saw the same
events.  Once a day is over its rows are made from what was recorded and take the place of those that
were stored live: they have no warm-up behind a restart, one version of the code made all of them, and
they can be made again.  Rows of steps that the recordings do not give stay, named in the manifest as
`live`.  A step has one number, so there is never a step twice and signals go on naming their rows.
"""

import io
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import uuid4

import numpy as np

from tasks.aligned import ALL, STORED, base_and_quote, funding_begins, funding_hour, funding_of, stored
from tasks.features.cross_venue import CROSS_VERSION, CrossVenue
from tasks.merged import SLACK_NS, Day, day_of, next_seqs, pieces
from warehouse.columns import DAY_NS, day_begins, days_before
from warehouse.lake import Lake

Guard = Callable[[], AbstractContextManager[bool]]
_HOUR_NS = 3_600_000_000_000


@dataclass(frozen=True)
class Aligned:
    """What is put side by side.

    Attributes
    ----------
    base : str
        BTC.
    symbols : mapping of str to str
        Our name of the instrument, by venue; their order is that of the fold.
    rates : mapping of str to float
        What a unit of each quote currency is worth in the common one.
    fees_bps : mapping of str to float
        Taker fee by venue; the one under "" for all others.
    """

    base: str
    symbols: Mapping[str, str]
    rates: Mapping[str, float]
    fees_bps: Mapping[str, float]

    def known(self, first_days: Mapping[tuple[str, str], str], day: str) -> "Aligned":
        """Return the same without venues of which nothing was recorded up to a day: they came later."""
        symbols = {venue: symbol for venue, symbol in self.symbols.items() if first_days.get((venue, symbol), "9") <= day}
        return Aligned(self.base, symbols, self.rates, self.fees_bps)

    def fold(self) -> CrossVenue:
        """Return the fold over them, of which nothing is known yet."""
        rates = [self.rates[base_and_quote(symbol)[1]] for symbol in self.symbols.values()]
        return CrossVenue(tuple(self.symbols), rates, [self.fees_bps.get(venue, self.fees_bps[""]) for venue in self.symbols])

    def as_list(self) -> list[list[Any]]:
        """Return venue, symbol, rate and fee of each, as manifests tell them."""
        v = self.fold().state["venue"][0]
        return [[*stream, float(v["rate"][i]), float(v["fee"][i])] for i, stream in enumerate(self.symbols.items())]


def _first_days(lake: Lake) -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], str] = {}
    for venue, symbol, day in lake.partitions("l2_snapshots"):
        found[venue, symbol] = min(day, found.get((venue, symbol), day))
    return found


def _key(base: str, day: str) -> str:
    return f"consolidated-{CROSS_VERSION}/{ALL}/{base}/{day}"


def _carried(lake: Lake, aligned: Aligned, day: str) -> bytes | None:
    # What the day before left, of the same venues.  A minute is all that counts, so an older day would tell nothing.
    kept = lake.load_state(_key(aligned.base, days_before(day, 1)))
    if kept is None:
        return None
    with np.load(io.BytesIO(kept)) as parts:
        return kept if parts["streams"].tolist() == [list(stream) for stream in aligned.symbols.items()] else None


def _name(kept: bytes | None) -> str:
    return "" if kept is None else sha256(kept).hexdigest()[:12]


def consolidate(lake: Lake, aligned: Aligned, day: str, alone: Guard, now_ns: int | None = None) -> dict[str, Any]:
    """Write the rows of one base asset and day; return the manifest of the partition.

    Skips the work when the partition was made of the same rows by the same code, when rows that it
    was made of have left the lake since, or when a live run writes rows of that day.  What a live run
    left behind that was killed is sealed first.

    Parameters
    ----------
    aligned : Aligned
    alone : callable
        Holds what a live run of this base asset holds; gives False where one runs.
    now_ns : int, optional
        Our clock; a day is over ten minutes behind its end.

    Returns
    -------
    dict
        `rows`, `cross` (version), `carried` (names the state that the day before left), `venues` (venue, symbol, rate, fee and
        the rows read of each), `is_over`, `live` (runs of steps that were recorded live alone), `skipped`.
    """
    asked, aligned = aligned, aligned.known(_first_days(lake), day)
    start = day_begins(day)
    is_over = (time.time_ns() if now_ns is None else now_ns) >= start + DAY_NS + SLACK_NS
    with alone() as first:
        if len(aligned.symbols) < 2 or not (first or is_over):
            return {"rows": 0, "skipped": True}
    known = lake.manifest("consolidated", ALL, aligned.base, day)
    kept, streams = _carried(lake, aligned, day), list(aligned.symbols.items())
    since = _since(kept)
    events = day_of(lake, streams, day, since)
    funding = [lake.rows("funding_rates", *stream) for stream in streams]
    inputs = _inputs(aligned, day, kept, events, funding)
    if known and (all(known.get(name) == value for name, value in inputs.items()) or _has_left(known, inputs, asked)):
        return {**known, "skipped": True}
    fold = aligned.fold()
    for place, state in enumerate(events.before):
        fold.turn(place, state)
    if kept is not None:
        fold.restore(io.BytesIO(_part(kept, "fold")))
    made, left = _rows(lake, streams, events, funding, fold)
    left = _kept(left, streams, next_seqs(events, since, len(streams)))
    made = made[(made["exchange_ns"] >= start) & (made["exchange_ns"] < start + DAY_NS)]
    with alone() as first:
        if first and not _is_sealed(lake, aligned.base, start):
            _seal_left(lake, aligned.base)
        known = lake.manifest("consolidated", ALL, aligned.base, day)  # another refresh may have made it meanwhile
        has_left = known is not None and _has_left(known, inputs, asked)
        if not made.size or has_left or not (first or is_over) or not _is_sealed(lake, aligned.base, start):
            return {**(known or {}), "rows": 0, "skipped": True}
        whole, live = _with_live(lake, aligned.base, start, made, known)
        manifest = {**inputs, "rows": int(whole.size), "live": live, "skipped": False}
        columns = {name: np.ascontiguousarray(whole[name]) for name in whole.dtype.names or ()}
        lake.save_state(_key(aligned.base, day), left)
        lake.replace("consolidated", ALL, aligned.base, day, columns, manifest)
    return manifest


def _part(kept: bytes, name: str) -> bytes:
    with np.load(io.BytesIO(kept)) as parts:
        return bytes(parts[name].tobytes())


def _since(kept: bytes | None) -> list[int] | None:
    return None if kept is None else np.frombuffer(_part(kept, "since"), np.int64).tolist()


def _kept(fold: bytes, streams: list[tuple[str, str]], since: list[int]) -> bytes:
    file = io.BytesIO()
    np.savez(file, fold=np.frombuffer(fold, np.uint8), streams=np.array(streams), since=np.array(since, np.int64))
    return file.getvalue()


def _inputs(aligned: Aligned, day: str, kept: bytes | None, events: Day, funding: list[np.ndarray]) -> dict[str, Any]:
    end = day_begins(day) + DAY_NS
    venues = []
    for place, venue in enumerate(aligned.as_list()):
        mine = events.entries[events.entries["place"] == place]
        n = [int((mine["kind"] == kind).sum()) for kind in range(3)]
        last = int(mine["event_seq"].max()) if mine.size else -1
        venues.append([*venue, *n, last, int((funding[place]["exchange_ns"] < end).sum())])
    following = events.following["event_seq"].tolist()
    return {"cross": CROSS_VERSION, "carried": _name(kept), "venues": venues, "is_over": bool(following), "following": following}


def _has_left(known: Mapping[str, Any], inputs: Mapping[str, Any], asked: Aligned) -> bool:
    # Retention takes recordings before what was made of them: less would be made now.
    books = dict.fromkeys(asked.symbols.items(), 0) | {tuple(venue[:2]): venue[4] for venue in inputs["venues"]}
    return any(books.get(tuple(venue[:2]), venue[4]) < venue[4] for venue in known.get("venues", ()))


def _rows(lake: Lake, streams: list[tuple[str, str]], events: Day, funding: list[np.ndarray], fold: CrossVenue) -> tuple[np.ndarray, bytes]:
    # Rows of the day, the last of which the event behind it makes, and what the fold remembers before that event.
    made, entries = [np.zeros(0, STORED)], events.entries
    hours = np.unique((entries["clock_ns"] - funding_begins(0)) // _HOUR_NS) if entries.size else []
    for entered, cuts in ((entries, [funding_begins(int(hour)) for hour in hours]), (events.following, [])):
        if entered is events.following:
            file = io.BytesIO()
            fold.save(file)
        for clock_ns, piece in pieces(lake, streams, entered, cuts):
            for place, paid in enumerate(funding):
                fold.funding(place, funding_of(paid, funding_hour(clock_ns)))
            made.append(stored(fold, fold.batch(*piece)))
    return np.concatenate(made), file.getvalue()


def _seal_left(lake: Lake, base: str) -> None:
    # Whoever opens a stream takes up what a killed run left of it, and seals it at the latest when it closes.
    with lake.writer() as writer:
        writer.session(ALL, base, f"left-{uuid4()}", ("consolidated", "signals"))


def _is_sealed(lake: Lake, base: str, start: int) -> bool:
    # What is not sealed yet would come beside the rows that take its place.
    held = [lake.read("consolidated", ALL, base, start, start + DAY_NS, columns=["seq"], tail=tail).num_rows for tail in (True, False)]
    return held[0] == held[1]


def _with_live(lake: Lake, base: str, start: int, made: np.ndarray, known: Mapping[str, Any] | None) -> tuple[np.ndarray, list[list[int]]]:
    # The day's rows and those of steps that only a live run gave, with the runs of such steps.
    table = lake.read("consolidated", ALL, base, start, start + DAY_NS)
    held = np.zeros(table.num_rows, STORED)
    for name in STORED.names or ():
        held[name] = table[name].to_numpy() if name in table.column_names else np.nan
    if known is not None:
        held = held[_within(held["seq"], np.array(known.get("live", []), np.int64).reshape(-1, 2))]
    held = held[np.unique(held["seq"], return_index=True)[1]]
    held = held[~np.isin(held["seq"], made["seq"])]
    whole = np.concatenate([made, held])
    seq = held["seq"]
    breaks = np.flatnonzero(np.diff(seq) > 1) + 1
    live = [[int(run[0]), int(run[-1])] for run in np.split(seq, breaks) if run.size]
    return whole[np.argsort(whole["seq"], kind="stable")], live


def _within(seq: np.ndarray, spans: np.ndarray) -> np.ndarray:
    at = np.searchsorted(spans[:, 0], seq, side="right") - 1
    return (at >= 0) & (seq <= spans[at, 1]) if spans.size else np.zeros(seq.size, bool)


def days_due(lake: Lake, aligned: Aligned, days: int | None = None) -> list[str]:
    """Return the days to look at, ascending: the newest, and all from the first one on that other code, venues or another day before made.

    Parameters
    ----------
    days : int, optional
        How many of the newest; all if not given.
    """
    streams, first_days = set(aligned.symbols.items()), _first_days(lake)
    found = sorted({day for venue, symbol, day in lake.partitions("l2_snapshots") if (venue, symbol) in streams})
    newest = 0 if days is None else max(0, len(found) - days)
    first = next((n for n, day in enumerate(found[:newest]) if _is_outdated(lake, aligned.known(first_days, day), day)), newest)
    return found[first:]


def _is_outdated(lake: Lake, aligned: Aligned, day: str) -> bool:
    if len(aligned.symbols) < 2:
        return False
    known = lake.manifest("consolidated", ALL, aligned.base, day)
    venues = [venue[:4] for venue in (known or {}).get("venues", [])]
    now = {"cross": CROSS_VERSION, "carried": _name(_carried(lake, aligned, day))}
    return known is None or venues != aligned.as_list() or any(known.get(name) != value for name, value in now.items())
