"""What the features remember of a stream: running totals, rings of them, second buckets.

Windows are half open, `(t - w, t]`, on the exchange clock made monotone in arrival order, so
nothing later than a row's own moment can be in it.  Rings grow; nothing leaves a window early.
"""

import numpy as np
from numba import njit

from tasks.features.catalogue import WINDOWS

SECOND = 1_000_000_000
SPANS = np.array([*WINDOWS, 60, 300], np.int64) * SECOND  # windows kept over book updates and trades
N_SPANS = len(SPANS)
BUCKETS = 300
IMPACT_NS = 5 * SECOND
VPIN_BUCKETS = 50
HOUR = 3600 * SECOND

# Columns that are summed over windows.  Books: five levels of order flow, squared return,
# spread.  Trades: buys, sells, cost x size, size with a mid; price steps for Roll's covariance;
# what neither side is known to have taken.
N_BOOK = 7
N_TRADE = 8

# An entry holds the running totals just before it, so a window's sum is a difference of two
# totals: nothing is added up twice, and an event that leaves a window costs nothing.  Totals
# carry what rounding lost beside them; a difference is as exact as a fresh sum, for ever.
BOOK_ENTRY = np.dtype([("ns", "i8"), ("total", "f8", (N_BOOK,)), ("lost", "f8", (N_BOOK,))], align=True)
TRADE_ENTRY = np.dtype(
    [
        ("ns", "i8"),
        ("total", "f8", (N_TRADE,)),
        ("lost", "f8", (N_TRADE,)),
        ("mid", "f8"),
        ("side", "f8"),
        ("aged_total", "f8", (1,)),  # impacts of the trades before it, and how many there were
        ("aged_lost", "f8", (1,)),
        ("aged_n", "i8"),
    ],
    align=True,
)
STATE = np.dtype(
    [
        ("clock_ns", "i8"),
        ("clean_since_ns", "i8"),
        ("doubt", "i8"),
        ("seen", "i8"),  # books since the stream became clean
        ("px", "f8", (2, 5)),
        ("sz", "f8", (2, 5)),
        ("mid", "f8"),
        ("microprice", "f8"),
        ("last_trade_px", "f8"),
        ("last_step", "f8"),
        ("book_head", "i8"),
        ("book_tail", "i8", (N_SPANS,)),
        ("book_total", "f8", (N_BOOK,)),
        ("book_lost", "f8", (N_BOOK,)),
        ("trade_head", "i8"),
        ("trade_tail", "i8", (N_SPANS,)),
        ("trade_total", "f8", (N_TRADE,)),
        ("trade_lost", "f8", (N_TRADE,)),
        ("aged", "i8"),  # first trade not yet 5 s old
        ("aged_tail", "i8", (3,)),
        ("aged_total", "f8", (1,)),
        ("aged_lost", "f8", (1,)),
        ("aged_n", "i8"),
        ("second", "i8"),  # whole second the open bucket belongs to
        ("closed", "i8"),  # full buckets since clean, the first partial one not counted
        ("open_volume", "f8"),
        ("open_signed", "f8"),
        ("open_quote", "f8"),
        ("close_mid", "f8"),
        ("b_volume", "f8", (BUCKETS,)),
        ("b_signed", "f8", (BUCKETS,)),
        ("b_quote", "f8", (BUCKETS,)),
        ("b_move", "f8", (BUCKETS,)),
        ("b_return", "f8", (BUCKETS,)),
        ("per_second", "f8", (9,)),  # mean and std of w-volumes (3 windows), Kyle 30 and 300, Amihud
        ("hour", "i8"),
        ("hour_volume", "f8"),
        ("hour_whole", "i8"),
        ("vpin_bucket", "f8"),  # volume of the bucket being filled, 0 before the first
        ("vpin_next", "f8"),  # and of those to come
        ("vpin_volume", "f8"),
        ("vpin_signed", "f8"),
        ("vpin_n", "i8"),
        ("vpin_ring", "f8", (VPIN_BUCKETS,)),
        ("day_minute", "i8"),
        ("calendar", "f8", (5,)),
    ],
    align=True,
)


@njit(cache=True)
def add(total, lost, i, x):
    """Add to a running total and keep what rounding lost (two-sum)."""
    before = total[i]
    after = before + x
    part = after - before
    lost[i] += (before - (after - part)) + (x - part)
    total[i] = after


@njit(cache=True)
def since(total, lost, entry_total, entry_lost, i):
    """Return what was added to a total since an entry was made."""
    return (total[i] - entry_total[i]) + (lost[i] - entry_lost[i])


@njit(cache=True)
def restart(s, doubt, ns):
    """Forget everything but the clock: what follows a doubtful moment must not look behind it."""
    clock = max(s["clock_ns"], ns)
    minute = s["day_minute"]
    s["doubt"] = doubt
    s["seen"] = 0
    s["last_trade_px"] = np.nan
    s["last_step"] = 0.0
    s["mid"] = np.nan
    s["microprice"] = np.nan
    s["book_head"] = 0
    s["book_tail"][:] = 0
    s["book_total"][:] = 0.0
    s["book_lost"][:] = 0.0
    s["trade_head"] = 0
    s["trade_tail"][:] = 0
    s["trade_total"][:] = 0.0
    s["trade_lost"][:] = 0.0
    s["aged"] = 0
    s["aged_tail"][:] = 0
    s["aged_total"][0] = 0.0
    s["aged_lost"][0] = 0.0
    s["aged_n"] = 0
    s["closed"] = -1
    s["open_volume"] = 0.0
    s["open_signed"] = 0.0
    s["open_quote"] = 0.0
    s["close_mid"] = np.nan
    s["per_second"][:] = np.nan
    s["hour_volume"] = 0.0
    s["hour_whole"] = 0
    s["vpin_bucket"] = 0.0
    s["vpin_next"] = 0.0
    s["vpin_volume"] = 0.0
    s["vpin_signed"] = 0.0
    s["vpin_n"] = 0
    s["clock_ns"] = clock
    s["clean_since_ns"] = clock
    s["second"] = clock // SECOND
    s["hour"] = clock // HOUR
    s["day_minute"] = minute


def new_state() -> np.ndarray:
    """Return the state of a stream of which nothing is known, shape (1,)."""
    state = np.zeros(1, STATE)
    state["doubt"] = 1
    state["day_minute"] = -1
    state["mid"] = np.nan
    return state


def new_ring(entry: np.dtype, size: int = 4096) -> np.ndarray:
    """Return an empty ring; its size is a power of two."""
    return np.zeros(size, entry)


def wider_ring(ring: np.ndarray, head: int, tail: int) -> np.ndarray:
    """Return the ring in twice the room, entries at their same running numbers."""
    out = np.zeros(ring.size * 2, ring.dtype)
    number = np.arange(tail, head)
    out[number & (out.size - 1)] = ring[number & (ring.size - 1)]
    return out
