"""Streams of several venues as Hypothesis likes them worst: late, doubtful, crossed, silent, with times that run backwards."""

import numpy as np
from hypothesis import strategies as st

from tasks.features.cross_venue import BOOKS, CHANGES, TRADES
from tests.streams import books_at, good, trades_at
from warehouse.schema import GAP, OK

VENUES = ("binance_spot", "bybit_spot", "kraken", "okx")
START = 1_760_000_000_000_000_000
NS = 1_000_000_000


def venue_events(seed, seconds=75, n=3, a_second=4, late=0.1, doubtful=0.01, crossed=True, silent=True, hole_s=0, start=START):
    """Return (place, kind, row of shape (1,)) in the order of arrival.

    Parameters
    ----------
    late : float
        Share of books that bear a stamp up to 3 s older than they should.
    doubtful : float
        Share of events behind which a venue's stream is doubtful for a while; half as many rows are by themselves.
    crossed, silent : bool
        Whether the second venue's prices lie above the first's, and the last venue says nothing for a third of the time.
    hole_s : int
        Length of a silence of all of them in the middle.
    """
    rng = np.random.default_rng(seed)
    times, out = [], []
    for place in range(n):
        ns = np.cumsum(rng.exponential(NS / a_second, int(seconds * a_second)).astype(np.int64))
        if silent and place == n - 1:
            ns = ns[(ns < seconds * NS // 3) | (ns > seconds * NS * 2 // 3)]
        times += [(int(t + (t > seconds * NS // 2) * hole_s * NS), place) for t in ns]
    fair = 60_000.0 + np.cumsum(rng.normal(0, 1.0, len(times)))
    doubt_until = [0] * n
    for i, (t, place) in enumerate(sorted(times)):
        ns = start + t
        if doubt_until[place] and i >= doubt_until[place]:
            doubt_until[place] = 0
            out.append((place, CHANGES, good(ns, state=OK)))
        if rng.random() < doubtful:
            doubt_until[place] = i + int(rng.integers(1, 40))
            out.append((place, CHANGES, good(ns - int(rng.integers(0, NS)), state=GAP)))
        if rng.random() < 0.3:
            row = trades_at([ns + int(rng.integers(-NS // 5, NS // 5))], price=60_000.0, size=float(rng.uniform(0.1, 2.0)))
            row["backfill"] = rng.random() < 0.1
            out.append((place, TRADES, row))
            continue
        bid = fair[max(0, i - 2 * place)] + (3.0 if crossed and place == 1 else 0.0) * (rng.random() < 0.9)
        stamp = ns - (int(rng.integers(0, 3 * NS)) if rng.random() < late else 0)
        row = books_at([stamp], bid=bid, ask=bid + float(rng.uniform(0.5, 2.0)), size=float(rng.uniform(1, 5)))
        row["receive_ns"], row["doubt"] = ns, GAP if rng.random() < doubtful / 2 else OK
        if rng.random() < 0.01:
            row["ask_sz"], row["ask_px"] = 0.0, np.nan
        out.append((place, BOOKS, row))
    return out


def streams_of_venues(seconds=75):
    """Return a strategy for what `venue_events` takes; a seed is quicker to draw, and to read, than a thousand events."""
    return st.fixed_dictionaries(
        {
            "seed": st.integers(0, 2**32 - 1),
            "seconds": st.just(seconds),
            "n": st.integers(1, len(VENUES)),
            "a_second": st.sampled_from((1, 4, 9)),
            "late": st.sampled_from((0.0, 0.1, 0.5)),
            "doubtful": st.sampled_from((0.0, 0.002, 0.05)),
            "crossed": st.booleans(),
            "silent": st.booleans(),
            "hole_s": st.sampled_from((0, 0, 1, 30, 599, 700)),
        }
    )


def one_by_one(fold, events):
    """Fold events as they come, as a live process does; return the rows."""
    made = [fold.row[:0].copy()]
    for place, kind, row in events:
        if kind == CHANGES:
            fold.turn(place, int(row["state"][0]))
        else:
            made += [each.copy() for each in (fold.book if kind == BOOKS else fold.trade)(place, row)]
    return np.concatenate(made)


def at_once(fold, events):
    """Fold events as a rebuild of a day does; return the rows."""
    kinds, places = (np.array([event[k] for event in events], np.int64) for k in (1, 0))
    tables, at = [], np.zeros(len(events), np.int64)
    for kind, empty in ((BOOKS, books_at([])), (TRADES, trades_at([])), (CHANGES, good()[:0])):
        mine = np.flatnonzero(kinds == kind)
        at[mine] = np.arange(mine.size)
        tables.append(np.concatenate([empty, *(events[e][2] for e in mine)]))
    return fold.batch(kinds, places, at, *tables)
