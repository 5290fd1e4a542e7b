"""The ladder's numbers as compiled code: levels in, a numbered row out."""

from numba import njit

from tasks.venues import publish as publishing
from tasks.venues import scan as sc
from tasks.venues.binance_kernel import ROOM, add_decimals, drop_decimals, lose, number_book
from tasks.venues.book import apply_levels, clear, drop_behind, load, needs_room, off_tick, read_out, retick
from tasks.venues.publish import CROSSING, JOINED, STALLED
from warehouse.schema import OK

__all__ = [
    "CROSSING",
    "JOINED",
    "ROOM",
    "STALLED",
    "add_decimals",
    "cut",
    "drop_decimals",
    "lose",
    "number_book",
    "parse",
    "peek",
    "publish",
    "reach",
]
UNUSUAL = -1


@njit(cache=True)
def parse(text, n, decimals, units, sizes):
    """Read n pairs `price,size`, commas between, a NUL behind; return the decimals needed, or -1.

    Where more decimals are needed than given, the units are not to be used.
    """
    i, finest = 0, decimals
    for k in range(n):
        end, mantissa, places = sc.decimal(text, i)
        if end < 0 or mantissa == 0 or text[end] != 44:
            return UNUSUAL
        while places > decimals and mantissa % 10 == 0:
            mantissa //= 10
            places -= 1
        if places > finest:
            finest = places
        for _ in range(decimals - places):
            mantissa *= 10
            if mantissa >= sc.EXACT:
                return UNUSUAL
        if mantissa >= sc.EXACT:
            return UNUSUAL
        units[k] = mantissa
        end, mantissa, places = sc.decimal(text, end + 1)
        if end < 0 or mantissa >= sc.EXACT or text[end] != (44 if k < n - 1 else 0):
            return UNUSUAL
        if k == n - 1 and end + 1 != len(text):  # a NUL that the venue wrote
            return UNUSUAL
        sizes[k] = mantissa / sc.POW10[places]
        i = end + 1
    return finest


@njit(cache=True)
def replace(book, far, units, sizes, n_bids, n_asks):
    """Make the levels the whole book: bids first in the arrays, asks behind them."""
    b = book[0]
    n = n_bids + n_asks
    clear(b, far)
    if needs_room(b, far, n):
        return ROOM
    tick = off_tick(b, units, n)
    if tick:
        retick(b, far, tick)
    load(b, far, 0, units[:n_bids], sizes[:n_bids], n_bids)
    load(b, far, 1, units[n_bids:n], sizes[n_bids:n], n_asks)
    b["synced"] = max(b["synced"], 1)
    return OK


@njit(cache=True)
def update(book, far, units, sizes, n_bids, n_asks):
    """Set the sizes of levels."""
    b = book[0]
    n = n_bids + n_asks
    if needs_room(b, far, n):
        return ROOM
    tick = off_tick(b, units, n)
    if tick:
        retick(b, far, tick)
    apply_levels(b, far, 0, units[:n_bids], sizes[:n_bids], n_bids)
    apply_levels(b, far, 1, units[n_bids:n], sizes[n_bids:n], n_asks)
    return OK


@njit(cache=True)
def cut(book, far, depth):
    """Forget what lies behind the best `depth` levels of a side."""
    for side in range(2):
        if book[0]["n"][side] + book[0]["n_far"][side] > depth:
            drop_behind(book[0], far, side, depth)


@njit(cache=True)
def peek(book, far):
    """Read the best levels out without numbering them."""
    read_out(book[0], far)


@njit(cache=True)
def publish(book, far, exchange_ns, receive_ns, update_id):
    """Read the book out; number the row, unless the stream turned: then return why, as bits."""
    turn = publishing.publish(book[0], far, exchange_ns, receive_ns, update_id)
    if turn == 0:
        publishing.number_row(book[0])
    return turn


@njit(cache=True)
def reach(book, exchange_ns, receive_ns):
    """Take note of a time at which nothing changed: the book is as good as new."""
    publishing.reach(book[0], exchange_ns, receive_ns)
