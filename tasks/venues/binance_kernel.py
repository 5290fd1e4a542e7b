"""Binance's rules as compiled code: one frame in, the book, trade or quote it made out.

The rules themselves are told in `binance.py`; here they are applied, number by number.
"""

from numba import njit

from tasks.venues import scan as sc
from tasks.venues.book import (
    TAKEN,
    apply_levels,
    at_address,
    clear,
    is_crossed,
    largest_units,
    load,
    needs_room,
    off_tick,
    retick,
)  # fmt: skip
from tasks.venues.pace import LATE_NS, LEAP_NS, is_far, reach
from tasks.venues.publish import heard_ns, number, number_row, publish, stays_crossed

# What the kernel did with a frame.
IGNORED, BOOKED, TRADED, QUOTED, OLD, WAIT, LOADED, GAPPED, ROOM = range(9)
UNUSUAL, FINER, RETICK, STRAY, VENUE, TURN, TRADE_GAP, FIRST_TRADE, UNTIMELY, STUCK = range(9, 19)
_AWAITED_NS = 30_000_000_000  # updates that were under way when a snapshot was made have come by then
_PROOF = 3
_BEHIND_NS = 5_000_000_000  # a connection does not lag further behind another: what is older was told before


@njit(cache=True)
def _depth(book, far, receive_ns, units, sizes):
    msg = book["msg"]
    if (msg["prev_id"] >= 0) != (book["futures"] == 1):
        return VENUE
    if book["synced"] == 0:
        return WAIT
    last = book["last_id"]
    exchange_ns = (msg["transact_ms"] if msg["transact_ms"] else msg["event_ms"]) * 1_000_000
    if book["futures"]:
        if msg["last_id"] < last or (msg["last_id"] == last and book["synced"] == 2):
            return _old(book, exchange_ns, receive_ns)
        follows = msg["prev_id"] == last or (book["synced"] == 1 and msg["first_id"] <= last)
        expected, received = last, msg["prev_id"]
    else:
        if msg["last_id"] <= last:
            return _old(book, exchange_ns, receive_ns)
        follows = msg["first_id"] <= last + 1
        expected, received = last + 1, msg["first_id"]
    if not follows:
        book["expected_id"] = expected
        book["received_id"] = received
        return GAPPED
    if is_far(book["book_times"], exchange_ns, heard_ns(book, receive_ns), LATE_NS):
        return UNTIMELY
    if needs_room(book, far, msg["n"][0] + msg["n"][1]):
        return ROOM
    for side in range(2):
        if off_tick(book, units[side], msg["n"][side]):
            return RETICK
    for side in range(2):
        apply_levels(book, far, side, units[side], sizes[side], msg["n"][side])
    book["turn"] = publish(book, far, exchange_ns, receive_ns, msg["last_id"])
    book["first_id"], book["misplaced"] = msg["first_id"], 0
    if stays_crossed(book):
        return STUCK
    if book["turn"]:
        return TURN  # the change of state is told, and numbered, before the row
    number_row(book)
    return BOOKED


@njit(cache=True)
def _old(book, exchange_ns, receive_ns):
    msg = book["msg"]
    # What begins within the last update of the book proves that update's last number too high, and so do, again and again,
    # updates that are later than the book and numbered before it, or that still come long behind a snapshot.
    if book["synced"] == 2:
        is_within = msg["first_id"] > book["first_id"]
        is_later = exchange_ns > book["book_ns"] + LEAP_NS
    else:
        is_within = False
        is_later = receive_ns > book["loaded_ns"] + _AWAITED_NS
    book["misplaced"] = book["misplaced"] + 1 if is_later else 0
    if not is_within and book["misplaced"] < _PROOF:
        return OLD
    book["misplaced"] = 0
    book["expected_id"] = book["last_id"]
    book["received_id"] = msg["last_id"]
    return GAPPED


@njit(cache=True)
def _snapshot(book, far, receive_ns, units, sizes):
    msg = book["msg"]
    if book["synced"] == 2:
        return IGNORED  # the book is whole; nobody asked
    if needs_room(book, far, msg["n"][0] + msg["n"][1]):
        return ROOM
    clear(book, far)
    for side in range(2):
        tick = off_tick(book, units[side], msg["n"][side])
        if tick:
            retick(book, far, tick)
    for side in range(2):
        load(book, far, side, units[side], sizes[side], msg["n"][side])
    book["last_id"] = msg["last_id"]
    book["loaded_ns"], book["loaded_crossed"] = receive_ns, is_crossed(book)
    book["misplaced"] = 0
    book["synced"] = 1
    return LOADED


@njit(cache=True)
def _trade(book, receive_ns):
    msg, row = book["msg"], book["trade"]
    number, last, before = msg["trade_id"], book["last_trade_id"], book["trade_at"]
    ns = msg["transact_ms"] * 1_000_000
    if _is_taken(book, number, ns):
        return OLD
    if msg["off_book"] and last < 0:
        return IGNORED
    times = book["trade_times"]
    if is_far(times, ns, receive_ns, LATE_NS):
        return UNTIMELY
    book["trade_before_ns"] = times["ns"]
    reach(times, ns, receive_ns)
    follows = number == last + 1 or number == before + 1 or book["taken"][(number - 1) % TAKEN]["id"] == number - 1
    slot = book["taken"][number % TAKEN]
    slot["id"], slot["ns"], slot["size"] = number, ns, msg["size"][0]
    book["last_trade_id"], book["trade_at"] = max(last, number), number
    if msg["off_book"]:
        return IGNORED
    price = msg["units"][0] / sc.POW10[book["decimals"]]
    in_base = book["contract_usd"] == 0.0 or price == 0.0
    row["exchange_ns"] = ns
    row["trade_id"] = number
    row["price"] = price
    row["size"] = msg["size"][0] if in_base else msg["size"][0] * book["contract_usd"] / price
    row["aggressor"] = -1 if msg["maker"] else 1
    row["receive_ns"] = receive_ns
    if last < 0 or not book["begun"]:
        return FIRST_TRADE
    if not follows:
        book["expected_id"] = (before if number > before else last) + 1
        book["received_id"] = number
        return TRADE_GAP
    _number_trade(book)
    return TRADED


@njit(cache=True)
def _is_taken(book, number, ns):
    # A number that leapt may be wrong, or ahead of those of another connection: what it leapt over is taken when it comes,
    # and while numbers climb, another trade of a number that was told already.
    slot = book["taken"][number % TAKEN]
    if slot["id"] != number:
        return number < book["trade_at"] and ns < book["trade"]["exchange_ns"] - _BEHIND_NS
    is_same = slot["ns"] == ns and slot["size"] == book["msg"]["size"][0]
    return is_same or number < book["trade_at"]


@njit(cache=True)
def _number_trade(book):
    row = book["trade"]
    row["seq"] = book["trade_seq"]
    book["trade_seq"] += 1
    number(row, row["receive_ns"], book)


@njit(cache=True)
def _quote(book):
    msg = book["msg"]
    quote = book["quote"]
    book["quotes"] += 1
    quote["update_id"] = msg["last_id"]
    quote["exchange_ns"] = (msg["transact_ms"] if msg["transact_ms"] else msg["event_ms"]) * 1_000_000
    for side in range(2):
        px = msg["units"][side] / sc.POW10[book["decimals"]]
        quote["px"][side] = px
        inverse = book["contract_usd"] != 0.0 and px != 0.0  # the price of an empty side is told as 0
        quote["sz"][side] = msg["size"][side] * book["contract_usd"] / px if inverse else msg["size"][side]
    return QUOTED


@njit(cache=True)
def on_message(kind, receive_ns, book, far, units, sizes):
    """Fold one decoded message, levels in `units` and `sizes`, into the book; return what it was."""
    if kind == sc.NOTHING or kind == sc.REFUSED:
        return IGNORED
    if book["msg"]["other_symbol"]:
        return STRAY
    if kind == sc.SNAPSHOT:
        return _snapshot(book, far, receive_ns, units, sizes)
    if kind == sc.DEPTH:
        return _depth(book, far, receive_ns, units, sizes)
    if kind == sc.TRADE:
        return _trade(book, receive_ns)
    return _quote(book)


@njit(cache=True)
def on_frame(frame, receive_ns, address):
    """Read one frame and fold it into the book at an address: the whole of the hot path before features."""
    book, far = at_address(address)
    state = book[0]
    state["frames"] += 1
    msg = state["msg"]
    kind, end = sc.scan(frame, 0, state["decimals"], state["symbol"], msg)
    if kind == sc.UNUSUAL or end != len(frame):
        return UNUSUAL
    if kind == sc.FINER:
        return FINER
    return on_message(kind, receive_ns, state, far, msg["level_units"], msg["level_size"])


@njit(cache=True)
def on_levels(kind, receive_ns, book, far, units, sizes):
    """Fold a message that the JSON library read; levels as wide as they came."""
    return on_message(kind, receive_ns, book[0], far, units, sizes)


@njit(cache=True)
def number_book(book):
    """Number the row of a book that turned, once the turn was told."""
    number_row(book[0])


@njit(cache=True)
def number_trade(book):
    """Number a trade that came after a gap, once the gap was told."""
    _number_trade(book[0])


@njit(cache=True)
def lose(book):
    """Mark the book as not to be trusted until a snapshot and an event that continues it."""
    book[0]["synced"] = 0
    book[0]["crossed"] = 0


@njit(cache=True)
def make_finer_tick(book, far, units, sizes):
    """Put the book on a tick that divides every price of the message as well."""
    msg = book[0]["msg"]
    for side in range(2):
        tick = off_tick(book[0], units[side], msg["n"][side])
        if tick:
            retick(book[0], far, tick)


@njit(cache=True)
def drop_decimals(book):
    """Count prices in the coarsest units that the tick allows; return whether that is coarser than now."""
    state = book[0]
    before = state["decimals"]
    while state["decimals"] and state["tick"] % 10 == 0:
        state["tick"] //= 10
        state["decimals"] -= 1
    return state["decimals"] < before


@njit(cache=True)
def add_decimals(book, far, decimals):
    """Count prices in finer units from now on; ticks and levels stay where they are.

    Return False, and change nothing, where a price of the book would no longer fit a float.
    """
    state = book[0]
    factor, largest = 1, largest_units(state, far)
    for _ in range(decimals - state["decimals"]):
        factor *= 10
        if largest * factor >= sc.EXACT or state["tick"] * factor >= sc.EXACT:
            return False
    state["tick"] *= factor
    state["decimals"] = decimals
    return True
