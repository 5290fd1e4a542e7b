"""Byte scanner: one JSON frame into numbers, without a Python object a level.

It accepts the compact JSON that venues send: no white space, no escapes, plain decimals,
nothing nested but the levels and the envelope.  Anything else makes it answer UNUSUAL, and
the caller asks a JSON library instead; it never guesses.  Frames must end in a byte that no
number or string holds: the NUL that CPython keeps behind every `bytes`, or the newline of a
capture.  It is laxer than JSON in one thing: text in strings need not be valid UTF-8.
"""

import numpy as np
from numba import njit

MAX_LEVELS = 4096  # a side; a wider frame goes through the JSON library
EXACT = 1 << 53  # below it an integer is exact in float64, so mantissa / 10**d rounds as float() does
POW10 = 10.0 ** np.arange(23)  # each one exact in float64
LATEST_MS = 9_000_000_000_000  # in 2255; later is another unit, and would not fit in nanoseconds

# What a scan found.
UNUSUAL, NOTHING, DEPTH, TRADE, QUOTE, SNAPSHOT, FINER, REFUSED = range(8)

MESSAGE = np.dtype(
    [
        ("kind", "i8"),
        ("seen", "i8"),  # one bit a key of interest: a repeated key is unusual
        ("event_ms", "i8"),
        ("transact_ms", "i8"),
        ("first_id", "i8"),
        ("last_id", "i8"),
        ("prev_id", "i8"),
        ("trade_id", "i8"),
        ("maker", "i8"),  # 1 the buyer was the maker, so the taker sold
        ("off_book", "i8"),  # 1 insurance fund, ADL: no trade of the book
        ("other_symbol", "i8"),
        ("units", "i8", (2,)),  # quote prices, or the trade price in [0]
        ("size", "f8", (2,)),
        ("finest", "i8"),  # most decimals of a price in this frame
        ("n", "i8", (2,)),  # levels: bids, asks
        ("level_units", "i8", (2, MAX_LEVELS)),
        ("level_size", "f8", (2, MAX_LEVELS)),
    ],
    align=True,
)

# Bits of `seen`; the event name takes the low ones.
_E_NAME, _EVENT_MS, _TRANSACT, _FIRST, _LAST, _PREV, _SNAP, _BIDS, _ASKS, _TRADE_ID, _PRICE, _SIZE = (1 << i for i in range(12))
_MAKER, _BID, _BID_SZ, _ASK, _ASK_SZ, _AGG, _RESULT, _SYMBOL, _CODE, _KIND, _WRAPPED = (1 << i for i in range(12, 23))
_QUOTE, _COMMA, _COLON, _DOT, _OPEN, _CLOSE, _LIST, _END_LIST = 34, 44, 58, 46, 123, 125, 91, 93
_OTHER, _DEPTH_NAME, _TRADE_NAME, _AGG_NAME, _QUOTE_NAME = range(5)
_W_DEPTH, _W_TRADE, _W_AGG, _W_QUOTE = (np.frombuffer(word, np.uint8) for word in (b"depthUpdate", b"trade", b"aggTrade", b"bookTicker"))
_W_SNAP, _W_BIDS, _W_ASKS, _W_DATA = (np.frombuffer(word, np.uint8) for word in (b"lastUpdateId", b"bids", b"asks", b"data"))
_W_RESULT, _W_CODE, _W_ERROR, _W_SYMBOL = (np.frombuffer(word, np.uint8) for word in (b"result", b"code", b"error", b"symbol"))
_W_MARKET, _W_TRUE, _W_FALSE, _W_NULL = (np.frombuffer(word, np.uint8) for word in (b"MARKET", b"true", b"false", b"null"))


@njit(cache=True)
def decimal(buf, i):
    """Return where the plain decimal at `i` ends, its mantissa and its decimals; end -1 if it is none.

    At most 18 digits, so the mantissa always fits.  The value is mantissa / 10**decimals.

    Examples
    --------
    >>> decimal(b"61800.20,", 0)
    (8, 6180020, 2)
    """
    mantissa = np.int64(0)
    start = i
    c = np.int64(buf[i]) - 48
    while 0 <= c <= 9:
        mantissa = mantissa * 10 + c
        i += 1
        c = np.int64(buf[i]) - 48
    digits = i - start
    decimals = 0
    if digits and buf[i] == _DOT:
        i += 1
        first = i
        c = np.int64(buf[i]) - 48
        while 0 <= c <= 9:
            mantissa = mantissa * 10 + c
            i += 1
            c = np.int64(buf[i]) - 48
        decimals = i - first
        digits = digits + decimals if decimals else 0
    if digits == 0 or digits > 18:
        return -1, mantissa, decimals
    return i, mantissa, decimals


@njit(cache=True)
def _string_end(buf, i):
    # From behind the opening quote to the closing one; -1 on an escape, a control byte or the end.
    while buf[i] != _QUOTE:
        if buf[i] < 32 or buf[i] == 92:
            return -1
        i += 1
    return i


@njit(cache=True)
def _spells(buf, i, word):
    for k in range(word.size):  # noqa: SIM110 - compiled
        if buf[i + k] != word[k]:
            return False
    return True


@njit(cache=True)
def _skip_value(buf, i):
    # A value we do not read: text, a plain number, true, false or null.  Returns its end or -1.
    c = buf[i]
    if c == _QUOTE:
        end = _string_end(buf, i + 1)
        return end + 1 if end > 0 else -1
    if c == 116:
        return i + 4 if _spells(buf, i, _W_TRUE) else -1
    if c == 102:
        return i + 5 if _spells(buf, i, _W_FALSE) else -1
    if c == 110:
        return i + 4 if _spells(buf, i, _W_NULL) else -1
    if c == 48 and 48 <= buf[i + 1] <= 57:  # JSON has no leading zeros
        return -1
    i, _, _ = decimal(buf, i)
    return i


@njit(cache=True)
def _levels(buf, i, side, decimals, msg):
    # [["price","size"],...] from the first bracket.  Returns the end or -1.
    if buf[i] != _LIST:
        return -1
    i += 1
    n = 0
    if buf[i] == _END_LIST:
        msg["n"][side] = 0
        return i + 1
    while True:
        if buf[i] != _LIST or buf[i + 1] != _QUOTE or n == MAX_LEVELS:
            return -1
        i, mantissa, d = decimal(buf, i + 2)
        if i < 0 or not 0 < mantissa < EXACT or buf[i] != _QUOTE or buf[i + 1] != _COMMA or buf[i + 2] != _QUOTE:
            return -1
        if d != decimals:
            if d > msg["finest"]:
                msg["finest"] = d
            while d < decimals and mantissa < EXACT:
                mantissa *= 10
                d += 1
            if mantissa >= EXACT:
                return -1
        msg["level_units"][side, n] = mantissa
        i, mantissa, d = decimal(buf, i + 3)
        if i < 0 or mantissa >= EXACT or buf[i] != _QUOTE or buf[i + 1] != _END_LIST:
            return -1
        msg["level_size"][side, n] = mantissa / POW10[d]
        n += 1
        i += 2
        if buf[i] == _COMMA:
            i += 1
        elif buf[i] == _END_LIST:
            msg["n"][side] = n
            return i + 1
        else:
            return -1


@njit(cache=True)
def _quoted_price(buf, i, slot, decimals, msg):
    if buf[i] != _QUOTE:
        return -1
    i, mantissa, d = decimal(buf, i + 1)
    if i < 0 or mantissa >= EXACT or buf[i] != _QUOTE:
        return -1
    if d > msg["finest"]:
        msg["finest"] = d
    while d < decimals and mantissa < EXACT:
        mantissa *= 10
        d += 1
    if mantissa >= EXACT:
        return -1
    msg["units"][slot] = mantissa
    return i + 1


@njit(cache=True)
def _quoted_size(buf, i, slot, msg):
    if buf[i] != _QUOTE:
        return -1
    i, mantissa, d = decimal(buf, i + 1)
    if i < 0 or mantissa >= EXACT or buf[i] != _QUOTE:
        return -1
    msg["size"][slot] = mantissa / POW10[d]
    return i + 1


@njit(cache=True)
def _integer(buf, i, field, msg):
    if buf[i] == 48 and 48 <= buf[i + 1] <= 57:
        return -1
    i, mantissa, d = decimal(buf, i)
    if i < 0 or d or (buf[i] != _COMMA and buf[i] != _CLOSE):
        return -1
    msg[field] = mantissa
    return i


@njit(cache=True)
def _event_name(buf, i, end):
    n = end - i
    if n == 11 and _spells(buf, i, _W_DEPTH):
        return _DEPTH_NAME
    if n == 5 and _spells(buf, i, _W_TRADE):
        return _TRADE_NAME
    if n == 8 and _spells(buf, i, _W_AGG):
        return _AGG_NAME
    if n == 10 and _spells(buf, i, _W_QUOTE):
        return _QUOTE_NAME
    return _OTHER


@njit(cache=True)
def _same(buf, i, end, symbol):
    if symbol[0] != end - i:
        return False
    for k in range(end - i):  # noqa: SIM110 - compiled
        if buf[i + k] != symbol[k + 1]:
            return False
    return True


@njit(cache=True)
def _letter(buf, i, key, decimals, symbol, msg):
    # The value of a one-letter key, from its first byte.  Returns (end or -1, bit).
    if key == 69:  # E
        return _integer(buf, i, "event_ms", msg), _EVENT_MS
    if key == 84:  # T
        return _integer(buf, i, "transact_ms", msg), _TRANSACT
    if key == 85:  # U
        return _integer(buf, i, "first_id", msg), _FIRST
    if key == 117:  # u
        return _integer(buf, i, "last_id", msg), _LAST
    if key == 116:  # t
        return _integer(buf, i, "trade_id", msg), _TRADE_ID
    if key == 98:  # b: bids of a depth event, best bid of a quote
        if buf[i] == _LIST:
            return _levels(buf, i, 0, decimals, msg), _BIDS
        return _quoted_price(buf, i, 0, decimals, msg), _BID
    if key == 97:  # a: asks, best ask, or the id of an aggregated trade
        if buf[i] == _LIST:
            return _levels(buf, i, 1, decimals, msg), _ASKS
        if buf[i] == _QUOTE:
            return _quoted_price(buf, i, 1, decimals, msg), _ASK
        return _integer(buf, i, "trade_id", msg), _AGG
    if key == 66:  # B
        return _quoted_size(buf, i, 0, msg), _BID_SZ
    if key == 65:  # A
        return _quoted_size(buf, i, 1, msg), _ASK_SZ
    if key == 112:  # p
        return _quoted_price(buf, i, 0, decimals, msg), _PRICE
    if key == 113:  # q
        return _quoted_size(buf, i, 0, msg), _SIZE
    if key == 109:  # m
        msg["maker"] = buf[i] == 116
        if buf[i] == 116 or buf[i] == 102:
            return _skip_value(buf, i), _MAKER
        return -1, 0
    if key == 101 or key == 115 or key == 88:  # e, s, X
        if buf[i] != _QUOTE:
            return -1, 0
        end = _string_end(buf, i + 1)
        if end < 0:
            return -1, 0
        if key == 101:
            msg["kind"] = _event_name(buf, i + 1, end)
            return end + 1, _E_NAME
        if key == 115:
            msg["other_symbol"] = not _same(buf, i + 1, end, symbol)
            return end + 1, _SYMBOL
        msg["off_book"] = not (end - i == 7 and _spells(buf, i + 1, _W_MARKET))
        return end + 1, _KIND
    return _skip_value(buf, i), 0


@njit(cache=True)
def _word(buf, i, end, value, decimals, symbol, msg):
    # The value of a longer key, from its first byte.  Returns (end or -1, bit).
    n = end - i
    if n == 2 and buf[i] == 112 and buf[i + 1] == 117:  # pu
        return _integer(buf, value, "prev_id", msg), _PREV
    if n == 12 and _spells(buf, i, _W_SNAP):
        return _integer(buf, value, "last_id", msg), _SNAP
    if n == 4 and _spells(buf, i, _W_BIDS):
        return _levels(buf, value, 0, decimals, msg), _BIDS
    if n == 4 and _spells(buf, i, _W_ASKS):
        return _levels(buf, value, 1, decimals, msg), _ASKS
    end = _skip_value(buf, value)
    if n == 6 and _spells(buf, i, _W_RESULT):
        return end, _RESULT
    if (n == 4 and _spells(buf, i, _W_CODE)) or (n == 5 and _spells(buf, i, _W_ERROR)):
        return end, _CODE
    if n == 6 and _spells(buf, i, _W_SYMBOL) and not (buf[value] == _QUOTE and _same(buf, value + 1, end - 1, symbol)):
        return -1, 0  # a snapshot of another instrument
    return end, 0


@njit(cache=True)
def _object(buf, i, decimals, symbol, msg):
    # One object from its brace; an envelope's "data" is descended into.  Returns the end or -1.
    if buf[i] != _OPEN:
        return -1
    i += 1
    envelope = 0
    if buf[i] == _CLOSE:
        return i + 1
    while True:
        if buf[i] != _QUOTE:
            return -1
        key = i + 1
        end = _string_end(buf, key)
        if end < 0 or buf[end + 1] != _COLON:
            return -1
        value = end + 2
        if end - key == 4 and _spells(buf, key, _W_DATA):
            if envelope or msg["seen"] or buf[value] != _OPEN:
                return -1
            envelope = 1  # read its keys as ours, then come back for the closing brace
            msg["seen"] = _WRAPPED
            i = value + 1
            continue
        if end - key == 1:
            i, bit = _letter(buf, value, buf[key], decimals, symbol, msg)
        else:
            i, bit = _word(buf, key, end, value, decimals, symbol, msg)
        if i < 0 or msg["seen"] & bit or (envelope == 2 and bit):
            return -1
        msg["seen"] |= bit
        if envelope == 1 and buf[i] == _CLOSE:
            envelope = 2
            i += 1
        if buf[i] == _COMMA:
            i += 1
        elif buf[i] == _CLOSE:
            return i + 1 if envelope != 1 else -1
        else:
            return -1


@njit(cache=True)
def scan(buf, start, decimals, symbol, msg):
    """Return what the frame at `start` is, its numbers in `msg`, and where it ends.

    Parameters
    ----------
    buf : bytes or ndarray of uint8
        Holds the frame and at least one byte behind it.
    start : int
        First byte of the frame.
    decimals : int
        Prices come out as integers in units of 10**-decimals.
    symbol : ndarray of uint8
        Length, then letters, of the venue's own symbol that this stream carries.
    msg : record of MESSAGE
        Overwritten.

    Returns
    -------
    kind, end : int
        UNUSUAL where a JSON library must look; FINER where `msg.finest` decimals are needed.
    """
    msg["seen"] = 0
    msg["finest"] = decimals
    msg["other_symbol"] = 0
    msg["off_book"] = 0
    msg["event_ms"] = 0
    msg["transact_ms"] = 0
    msg["prev_id"] = -1
    msg["kind"] = _OTHER
    end = _object(buf, start, decimals, symbol, msg)
    if end < 0:
        return UNUSUAL, end
    kind = _kind(msg)
    if kind in (NOTHING, REFUSED, UNUSUAL):
        return kind, end
    if msg["event_ms"] > LATEST_MS or msg["transact_ms"] > LATEST_MS or (kind == TRADE and msg["units"][0] == 0):
        return UNUSUAL, end
    if msg["finest"] > decimals and not msg["other_symbol"]:
        return FINER, end
    return kind, end


@njit(cache=True)
def _kind(msg):
    # Each kind needs its keys, and none that would have written to the same numbers.
    seen = msg["seen"]
    if seen & _E_NAME:
        name = msg["kind"]
        if name == _DEPTH_NAME:
            need = _EVENT_MS | _FIRST | _LAST | _BIDS | _ASKS | _SYMBOL
            return DEPTH if seen & (need | _SNAP | _BID | _ASK | _AGG) == need else UNUSUAL
        if name == _TRADE_NAME:
            need = _TRADE_ID | _PRICE | _SIZE | _TRANSACT | _MAKER | _SYMBOL
            return TRADE if seen & (need | _AGG | _BID | _BID_SZ) == need else UNUSUAL
        if name == _AGG_NAME:
            need = _AGG | _PRICE | _SIZE | _TRANSACT | _MAKER | _SYMBOL
            return TRADE if seen & (need | _TRADE_ID | _ASK | _ASKS | _BID | _BID_SZ) == need else UNUSUAL
        if name == _OTHER:
            return NOTHING
    elif seen & _SNAP:
        if seen & _WRAPPED:
            return NOTHING  # partial depth comes in envelopes: a book must not be built on it
        need = _BIDS | _ASKS
        return SNAPSHOT if seen & (need | _LAST | _BID | _ASK | _AGG) == need else UNUSUAL
    need = _LAST | _BID | _BID_SZ | _ASK | _ASK_SZ | _SYMBOL
    if seen & (need | _PRICE | _SIZE | _SNAP | _BIDS | _ASKS | _AGG) == need:
        return QUOTE
    if seen & (_E_NAME | _LAST):
        return UNUSUAL
    if seen & _CODE:
        return REFUSED
    return NOTHING if seen & _RESULT else UNUSUAL
