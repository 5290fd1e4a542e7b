"""How a book becomes a row, whatever the venue: its time, what the stream has become, its number.

A loss is dated by the time that the stream had reached, and that is never the time of one message
that leaps: behind a wrong digit it is told when it happened, not when it was said to have.
"""

from numba import njit

from tasks.venues import pace
from tasks.venues.book import is_crossed, read_out
from warehouse.schema import CROSSED, OK

JOINED, STALLED, CROSSING, REDATED = 1, 2, 4, 8  # why a book turned good or doubtful, as bits
CROSSED_NS = 500_000_000  # an update ends with an uncrossed book: one that stays crossed is wrong
_NEVER = 1 << 62


@njit(cache=True)
def publish(book, far, exchange_ns, receive_ns, update_id):
    """Read the book out into its row; return why the stream turned, as bits, 0 where it did not.

    `turn_ns` of the book is then since when it is, the later where two clocks disagree, and `before_ns` when the last update before it was.
    """
    row, turn = book["row"], 0
    was_ns, before_ns = row["exchange_ns"], book["book_ns"]
    how = reach(book, exchange_ns, receive_ns)
    if how == pace.BELIEVED:  # and so was the one before
        before_ns = was_ns
    if how != pace.LEAPT and exchange_ns < book["turn_ns"] - pace.BACK_NS:
        turn |= REDATED  # the time of the last turn was wrong
    if book["synced"] == 1:
        turn |= JOINED
    elif book["book_times"]["date_ns"] - before_ns > book["stale_ns"]:
        turn |= STALLED
    book["before_ns"] = before_ns
    book["synced"] = 2
    book["last_id"] = update_id
    row["exchange_ns"] = exchange_ns
    row["receive_ns"] = receive_ns
    row["update_id"] = update_id
    read_out(book, far)
    crossed = is_crossed(book)
    row["doubt"] = CROSSED if crossed else OK
    if crossed != (book["crossed"] == 1):
        book["crossed"] = 1 - book["crossed"]
        book["crossed_ns"] = _NEVER if turn & JOINED and book["loaded_crossed"] else book["book_ns"]  # sent so: no wrong level of ours
        turn |= CROSSING
    if turn:
        book["turn_ns"] = max(book["book_times"]["date_ns"], exchange_ns)
    return turn


@njit(cache=True)
def reach(book, exchange_ns, receive_ns):
    """Move the book's time on to that of a message, unless that leaps; see `pace.reach`."""
    how = pace.reach(book["book_times"], exchange_ns, heard_ns(book, receive_ns))
    book["book_ns"] = book["book_times"]["ns"]
    return how


@njit(cache=True)
def heard_ns(book, receive_ns):
    """Return when a message came first, by our clock; one that waited for a snapshot is read again later."""
    return book["heard_ns"] if book["heard_ns"] else receive_ns


@njit(cache=True)
def stays_crossed(book):
    """Return whether the book is crossed for longer than any book can be."""
    return book["crossed"] and book["book_ns"] - book["crossed_ns"] > CROSSED_NS


@njit(cache=True)
def number(row, receive_ns, book):
    """Stamp a row with the next place in the order of events."""
    row["receive_ns"] = receive_ns
    row["event_seq"] = book["event_seq"]
    row["contract_size"] = book["contract_usd"]
    book["event_seq"] += 1


@njit(cache=True)
def number_row(book):
    """Number the book's row."""
    row = book["row"]
    row["seq"] = book["seq"]
    book["seq"] += 1
    number(row, row["receive_ns"], book)
