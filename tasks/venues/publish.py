"""How a book becomes a row, whatever the venue: its time, what the stream has become, its number.

Times are told by venues and may be wrong by one digit.  A time that leaps, ahead of what our own
clock allows or back, is believed once a second message agrees: until then the book keeps the time
it had, so that a loss behind such a message is dated when it happened, not when it was said to.
"""

from numba import njit

from tasks.venues.book import is_crossed, read_out
from tasks.venues.pace import AHEAD_NS, LATE_NS
from warehouse.schema import CROSSED, OK

JOINED, STALLED, CROSSING = 1, 2, 4  # why a book turned good or doubtful, as bits
LEAP_NS = 1_000_000_000  # servers of one venue, and a line that stood still for a moment, differ by less


@njit(cache=True)
def publish(book, far, exchange_ns, receive_ns, update_id):
    """Read the book out into its row; return why the stream turned, as bits, 0 where it did not.

    `turn_ns` of the book is when: the time of the message, unless that is behind the book's.
    """
    turn = 0
    if book["synced"] == 1:
        turn |= JOINED
    elif exchange_ns - book["book_ns"] > book["stale_ns"]:
        turn |= STALLED
    book["before_ns"] = book["book_ns"]
    reach(book, exchange_ns, receive_ns)
    book["synced"] = 2
    book["last_id"] = update_id
    row = book["row"]
    row["exchange_ns"] = exchange_ns
    row["receive_ns"] = receive_ns
    row["update_id"] = update_id
    read_out(book, far)
    crossed = is_crossed(book)
    row["doubt"] = CROSSED if crossed else OK
    if crossed != (book["crossed"] == 1):
        book["crossed"] = 1 - book["crossed"]
        book["crossed_ns"] = book["book_ns"]
        turn |= CROSSING
    return turn


@njit(cache=True)
def reach(book, exchange_ns, receive_ns):
    """Move the book's time on to that of a message, unless it is the first that leaps."""
    ahead_ns, elapsed_ns = exchange_ns - book["book_ns"], receive_ns - book["book_receive_ns"]
    leaps = book["book_ns"] != 0 and (ahead_ns < -LEAP_NS or ahead_ns - elapsed_ns > LEAP_NS)
    book["turn_ns"] = book["book_ns"] + max(elapsed_ns, 0) if ahead_ns < -LEAP_NS else exchange_ns
    if not leaps or book["leapt"]:
        if leaps or ahead_ns > 0:
            book["book_ns"] = exchange_ns
        book["book_receive_ns"] = receive_ns
    book["leapt"] = leaps


@njit(cache=True)
def is_far(ns, receive_ns, before_ns, before_receive_ns):
    """Return whether a time can not be that of a message behind one of `before_ns`."""
    ahead_ns = ns - before_ns
    leaps = ahead_ns > AHEAD_NS and ahead_ns - (receive_ns - before_receive_ns) > AHEAD_NS
    return before_ns != 0 and (leaps or ahead_ns < -LATE_NS)


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
