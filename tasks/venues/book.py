"""Order book of one instrument as compiled arrays: levels in, best 20 out, nothing ever lost.

Each side keeps a dense window of `WINDOW` ticks that holds its best prices, with a bitmap
to walk from level to level, and an open-addressing hash, `far`, for every level behind the
window.  Asks are stored under negated ticks, so both sides are "best is largest" and share
the code.  When the best price nears an edge, the window moves and levels change home.

The tick is the greatest common divisor of all prices seen; a price between ticks makes it
finer.  Prices are integers, exact; they become floats only when they are read out.
"""

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from tasks.venues.pace import TIMES
from tasks.venues.scan import MESSAGE, POW10
from warehouse.schema import LEVELS, row_dtype

WINDOW = 16384  # ticks a side that are kept dense; a power of two
_HOME = WINDOW * 3 // 4  # where a moved window puts the best price
_WORDS = WINDOW // 64
_FIRST_FAR = 4096
TAKEN = 4096  # trades that are remembered, to know one that comes twice
NONE = -(1 << 62)

L2_ROW = row_dtype("l2_snapshots")
TRADE_ROW = row_dtype("trades")
FAR = np.dtype([("key", "i8"), ("size", "f8"), ("used", "i8")], align=True)
BOOK = np.dtype(
    [
        ("row", L2_ROW),
        ("trade", TRADE_ROW),
        ("quote", [("update_id", "i8"), ("exchange_ns", "i8"), ("px", "f8", (2,)), ("sz", "f8", (2,))]),
        ("far_address", "i8"),
        ("far_size", "i8"),
        ("symbol", "u1", (64,)),  # length, then letters, as the venue writes it
        ("decimals", "i8"),
        ("tick", "i8"),  # in units of 10**-decimals; 0 before the first level
        ("base", "i8", (2,)),  # tick of slot 0, a side
        ("best", "i8", (2,)),  # slot of the best level, -1 where the window is empty
        ("n", "i8", (2,)),  # levels in the window
        ("n_far", "i8", (2,)),
        ("contract_usd", "f8"),  # quote units a contract, 0 for sizes in base units
        ("futures", "i8"),
        ("synced", "i8"),  # 0 no snapshot, 1 snapshot without a following event, 2 live
        ("last_id", "i8"),
        ("last_trade_id", "i8"),
        ("trade_at", "i8"),  # number of the trade taken last; below `last_trade_id` where numbers leapt
        ("taken", [("id", "i8"), ("ns", "i8"), ("size", "f8")], (TAKEN,)),  # recent trades, each in the slot of its number
        ("trade_before_ns", "i8"),  # exchange time that trades had reached before the one in `trade`
        ("expected_id", "i8"),
        ("received_id", "i8"),
        ("seq", "i8"),
        ("trade_seq", "i8"),
        ("event_seq", "i8"),
        ("frames", "i8"),  # read, those that were read again included
        ("quotes", "i8"),
        ("begun", "i8"),  # the stream's opening change was told
        ("book_ns", "i8"),  # exchange time that the book's updates have reached
        ("before_ns", "i8"),  # exchange time of the update before the last
        ("turn_ns", "i8"),  # since when the stream is what it is
        ("book_times", TIMES),
        ("trade_times", TIMES),
        ("crossed", "i8"),
        ("crossed_ns", "i8"),  # since when it is, or is not
        ("loaded_ns", "i8"),  # when the last snapshot came, by our clock
        ("loaded_crossed", "i8"),  # it was crossed
        ("heard_ns", "i8"),  # when a message that is read again came first; 0 for one that is new
        ("first_id", "i8"),  # of the last update in the book
        ("misplaced", "i8"),  # updates in a row that were later than the book and numbered before it
        ("stale_ns", "i8"),
        ("turn", "i8"),
        ("msg", MESSAGE),
        ("bits", "u8", (2, _WORDS)),
        ("sizes", "f8", (2, WINDOW)),
    ],
    align=True,
)


@intrinsic
def _pointer(typingctx, address):
    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), codegen


@njit(cache=True)
def at_address(address):
    """Return a book, shape (1,), and its far levels, given the address of the book.

    Unpacking an array argument costs more than reading a ticker frame; an integer costs
    nothing.  Whoever passes the address keeps the arrays alive.
    """
    book = carray(_pointer(address), (1,), BOOK)
    far = carray(_pointer(book[0]["far_address"]), (book[0]["far_size"],), FAR)
    return book, far


@intrinsic
def _leading_zeros(typingctx, word):
    def codegen(context, builder, signature, args):
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), codegen


@njit(cache=True)
def _next_below(bits, slot):
    # Highest set slot <= slot, or -1.
    if slot < 0:
        return -1
    w = slot >> 6
    word = bits[w] & (np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(63 - (slot & 63)))
    while word == np.uint64(0):
        w -= 1
        if w < 0:
            return -1
        word = bits[w]
    return (w << 6) + 63 - np.int64(_leading_zeros(word))


@njit(cache=True)
def _slot_of(far, key):
    # Where the key is, or the free slot where it would go.
    mask = far.size - 1
    h = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    i = np.int64(h >> np.uint64(20)) & mask
    while far[i]["used"] and far[i]["key"] != key:
        i = (i + 1) & mask
    return i


@njit(cache=True)
def _far_put(book, far, side, tick, size):
    i = _slot_of(far, tick * 2 + side)
    if far[i]["used"] == 0:
        far[i]["used"] = 1
        far[i]["key"] = tick * 2 + side
        book["n_far"][side] += 1
    far[i]["size"] = size


@njit(cache=True)
def _far_drop(book, far, side, tick):
    mask = far.size - 1
    i = _slot_of(far, tick * 2 + side)
    if far[i]["used"] == 0:
        return
    book["n_far"][side] -= 1
    far[i]["used"] = 0
    j = i
    while True:  # close the hole, so that probes need no tombstones
        j = (j + 1) & mask
        if far[j]["used"] == 0:
            return
        home = np.int64((np.uint64(far[j]["key"]) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20)) & mask
        if ((j - home) & mask) >= ((j - i) & mask):
            far[i]["key"] = far[j]["key"]
            far[i]["size"] = far[j]["size"]
            far[i]["used"] = 1
            far[j]["used"] = 0
            i = j


@njit(cache=True)
def _far_top(far, side, ticks, most):
    # Put the best far ticks of a side into `ticks`, best first; return how many.
    n = 0
    for i in range(far.size):
        if far[i]["used"] and (far[i]["key"] & 1) == side:
            tick = far[i]["key"] >> 1
            if n == most and tick < ticks[n - 1]:
                continue
            n = min(n + 1, most)
            k = n - 1
            while k > 0 and ticks[k - 1] < tick:
                ticks[k] = ticks[k - 1]
                k -= 1
            ticks[k] = tick
    return n


@njit(cache=True)
def _move_window(book, far, side, top):
    # Put `top` at its home slot; levels leave for `far` or come back from it.
    bits = book["bits"][side]
    sizes = book["sizes"][side]
    base = top - _HOME
    moved = np.empty(book["n"][side], np.int64)
    moved_size = np.empty(moved.size)
    slot = _next_below(bits, WINDOW - 1)
    k = 0
    while slot >= 0:
        moved[k] = book["base"][side] + slot
        moved_size[k] = sizes[slot]
        k += 1
        slot = _next_below(bits, slot - 1)
    bits[:] = 0
    book["n"][side] = 0
    book["base"][side] = base
    book["best"][side] = -1
    if book["n_far"][side]:
        back = np.empty(book["n_far"][side], np.int64)
        back_size = np.empty(back.size)
        b = 0
        for i in range(far.size):
            if far[i]["used"] and (far[i]["key"] & 1) == side:
                tick = far[i]["key"] >> 1
                if base <= tick < base + WINDOW:
                    back[b] = tick
                    back_size[b] = far[i]["size"]
                    b += 1
        for i in range(b):
            _far_drop(book, far, side, back[i])
            _dense_put(book, side, back[i] - base, back_size[i])
    for i in range(k):
        if base <= moved[i] < base + WINDOW:
            _dense_put(book, side, moved[i] - base, moved_size[i])
        else:
            _far_put(book, far, side, moved[i], moved_size[i])


@njit(cache=True)
def _dense_put(book, side, slot, size):
    word = slot >> 6
    bit = np.uint64(1) << np.uint64(slot & 63)
    if not book["bits"][side, word] & bit:
        book["bits"][side, word] |= bit
        book["n"][side] += 1
        if slot > book["best"][side]:
            book["best"][side] = slot
    book["sizes"][side, slot] = size


@njit(cache=True)
def _dense_drop(book, side, slot):
    word = slot >> 6
    bit = np.uint64(1) << np.uint64(slot & 63)
    if book["bits"][side, word] & bit:
        book["bits"][side, word] &= ~bit
        book["n"][side] -= 1
        if slot == book["best"][side]:
            book["best"][side] = _next_below(book["bits"][side], slot - 1)


@njit(cache=True)
def _settle(book, far, side):
    # The window must hold the best levels: move it when the best is low in it, or gone.
    if book["n_far"][side] and book["best"][side] < WINDOW // 4:
        if book["best"][side] >= 0:
            top = book["base"][side] + book["best"][side]
        else:
            ticks = np.empty(1, np.int64)
            _far_top(far, side, ticks, 1)
            top = ticks[0]
        _move_window(book, far, side, top)


@njit(cache=True)
def needs_room(book, far, levels):
    """Return whether `far` might overflow half its slots if every level of a message went there."""
    return (book["n_far"][0] + book["n_far"][1] + book["n"][0] + book["n"][1] + levels) * 2 > far.size


@njit(cache=True)
def off_tick(book, units, n):
    """Return a tick, in price units, that divides all prices of the book and these; 0 if the present one does."""
    tick = book["tick"]
    inverse = 1.0 / tick if tick else 0.0
    finer = tick
    for i in range(n):
        u = units[i]
        if tick and np.int64(u * inverse + 0.5) * tick == u:
            continue
        a, b = finer, u
        while b:
            a, b = b, a % b
        finer = a
    return 0 if finer == tick else finer


@njit(cache=True)
def apply_levels(book, far, side, units, sizes, n):
    """Set absolute sizes at prices, in order; size 0 removes, also what is not held (routine on real feeds).

    The caller has seen to it that there is room and that the tick divides every price.
    """
    inverse = 1.0 / book["tick"] if book["tick"] else 0.0
    sign = 1 - 2 * side
    base = book["base"][side]
    for i in range(n):
        tick = np.int64(units[i] * inverse + 0.5)
        if tick * book["tick"] != units[i]:  # beyond 2**52 half a unit is no float
            tick = units[i] // book["tick"]
        tick *= sign
        slot = tick - base
        size = sizes[i]
        if 0 <= slot < WINDOW:
            if size > 0.0:
                _dense_put(book, side, slot, size)
            else:
                _dense_drop(book, side, slot)
        elif slot < 0:
            if size > 0.0:
                _far_put(book, far, side, tick, size)
            else:
                _far_drop(book, far, side, tick)
        elif size > 0.0:  # better than anything the window can show
            _move_window(book, far, side, tick)
            base = book["base"][side]
            _dense_put(book, side, tick - base, size)
    _settle(book, far, side)


@njit(cache=True)
def drop_behind(book, far, side, depth):
    """Forget the levels of a side behind its best `depth`."""
    slot = book["best"][side]
    k = 0
    while slot >= 0 and k < depth:
        slot = _next_below(book["bits"][side], slot - 1)
        k += 1
    while slot >= 0:
        below = _next_below(book["bits"][side], slot - 1)
        _dense_drop(book, side, slot)
        slot = below
    left = depth - k
    if book["n_far"][side] > left:
        ticks = np.empty(max(left, 1), np.int64)
        last = ticks[_far_top(far, side, ticks, left) - 1] if left else -NONE
        gone = np.empty(book["n_far"][side], np.int64)
        n = 0
        for i in range(far.size):
            if far[i]["used"] and (far[i]["key"] & 1) == side and (far[i]["key"] >> 1) < last:
                gone[n] = far[i]["key"] >> 1
                n += 1
        for i in range(n):
            _far_drop(book, far, side, gone[i])


@njit(cache=True)
def largest_units(book, far):
    """Return the highest price the book holds, in its units."""
    most = 0
    for side in range(2):
        slot = _next_below(book["bits"][side], WINDOW - 1)
        while slot >= 0:
            most = max(most, abs(book["base"][side] + slot))
            slot = _next_below(book["bits"][side], slot - 1)
    for i in range(far.size):
        if far[i]["used"]:
            most = max(most, abs(far[i]["key"] >> 1))
    return most * book["tick"]


@njit(cache=True)
def clear(book, far):
    """Forget all levels; the tick and the precision stay."""
    for side in range(2):
        book["bits"][side, :] = 0
        book["n"][side] = 0
        book["n_far"][side] = 0
        book["best"][side] = -1
        book["base"][side] = 0
    for i in range(far.size):
        far[i]["used"] = 0


@njit(cache=True)
def load(book, far, side, units, sizes, n):
    """Fill an empty side from a snapshot."""
    top = NONE
    sign = 1 - 2 * side
    for i in range(n):
        tick = sign * (units[i] // book["tick"])
        if sizes[i] > 0.0 and tick > top:
            top = tick
    if top != NONE:
        book["base"][side] = top - _HOME
        apply_levels(book, far, side, units, sizes, n)


@njit(cache=True)
def retick(book, far, tick):
    """Rebuild the book on a finer tick; `tick` divides the old one."""
    factor = book["tick"] // tick if book["tick"] else 1
    total = [0, 0]
    units = np.empty((2, max(book["n"][0] + book["n_far"][0], book["n"][1] + book["n_far"][1])), np.int64)
    sizes = np.empty(units.shape)
    for side in range(2):
        slot = _next_below(book["bits"][side], WINDOW - 1)
        while slot >= 0:
            units[side, total[side]] = (book["base"][side] + slot) * factor
            sizes[side, total[side]] = book["sizes"][side, slot]
            total[side] += 1
            slot = _next_below(book["bits"][side], slot - 1)
    for i in range(far.size):
        if far[i]["used"]:
            side = far[i]["key"] & 1
            units[side, total[side]] = (far[i]["key"] >> 1) * factor
            sizes[side, total[side]] = far[i]["size"]
            total[side] += 1
    clear(book, far)
    book["tick"] = tick
    for side in range(2):
        for i in range(total[side]):
            units[side, i] *= tick * (1 - 2 * side)
        load(book, far, side, units[side], sizes[side], total[side])


@njit(cache=True)
def is_crossed(book):
    """Return whether the best bid is at or above the best ask."""
    if book["best"][0] < 0 or book["best"][1] < 0:
        return False
    return book["base"][0] + book["best"][0] >= -(book["base"][1] + book["best"][1])


@njit(cache=True)
def _put_level(price, size, k, tick, book, side, amount):
    px = tick * (1 - 2 * side) * book["tick"] / POW10[book["decimals"]]
    price[k] = px
    size[k] = amount if book["contract_usd"] == 0.0 else amount * book["contract_usd"] / px


@njit(cache=True)
def _read_side(book, far, side, price, size):
    bits = book["bits"][side]
    base = book["base"][side]
    slot = book["best"][side]
    k = 0
    while slot >= 0 and k < LEVELS:
        _put_level(price, size, k, base + slot, book, side, book["sizes"][side, slot])
        k += 1
        slot = _next_below(bits, slot - 1)
    if k < LEVELS and book["n_far"][side]:  # a thin book: levels further away than the window is wide
        ticks = np.empty(LEVELS, np.int64)
        for n in range(_far_top(far, side, ticks, LEVELS - k)):
            _put_level(price, size, k, ticks[n], book, side, far[_slot_of(far, ticks[n] * 2 + side)]["size"])
            k += 1
    while k < LEVELS:
        price[k] = np.nan
        size[k] = 0.0
        k += 1


@njit(cache=True)
def read_out(book, far):
    """Write the best 20 levels a side into `book.row`, best first, sizes in base units."""
    row = book["row"]
    _read_side(book, far, 0, row["bid_px"], row["bid_sz"])
    _read_side(book, far, 1, row["ask_px"], row["ask_sz"])


def new_book(symbol: str, futures: bool, contract_usd: float = 0.0, stale_s: float = 30.0) -> tuple[np.ndarray, np.ndarray]:
    """Return an empty book and its table of far levels.

    Parameters
    ----------
    symbol : str
        As the venue writes it; frames of other symbols are told apart by it.
    futures : bool
        Continuity by `pu` instead of `U`.
    contract_usd : float
        Quote units a contract of an inverse instrument; 0 where sizes are base units.
    stale_s : float
        A book without an update for longer was stale meanwhile.
    """
    book = np.zeros(1, BOOK)
    name = symbol.encode()
    if not 0 < len(name) < 64:
        raise ValueError(f"symbol must have 1 to 63 bytes, received {symbol!r}")
    book["symbol"][0, 0] = len(name)
    book["symbol"][0, 1 : len(name) + 1] = np.frombuffer(name, np.uint8)
    book["stale_ns"] = int(stale_s * 1e9)
    book["best"] = -1
    book["futures"] = futures
    book["contract_usd"] = contract_usd
    book["last_trade_id"] = book["trade_at"] = book["taken"]["id"] = -1
    return book, hold(book, np.zeros(_FIRST_FAR, FAR))


def wider(book: np.ndarray, far: np.ndarray) -> np.ndarray:
    """Return the same far levels in a table of twice the size, which the book now points to."""
    out = np.zeros(far.size * 2, far.dtype)
    _rehash(far, out)
    return hold(book, out)


def hold(book: np.ndarray, far: np.ndarray) -> np.ndarray:
    """Let a book point to a table of far levels, and return the table: whoever has the book must keep it."""
    book["far_address"], book["far_size"] = far.ctypes.data, far.size
    return far


@njit(cache=True)
def _rehash(far, out):
    for i in range(far.size):
        if far[i]["used"]:
            out[_slot_of(out, far[i]["key"])] = far[i]
