"""Frames that the byte scanner would not read, through a JSON library, to the same numbers."""

import re
from decimal import Decimal

import msgspec
import numpy as np

from tasks.venues import scan as sc
from tasks.venues.errors import UnreadableFrameError, WidePriceError

_DECODE = msgspec.json.Decoder().decode
_DECIMAL = re.compile(r"[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?|\.[0-9]+([eE][+-]?[0-9]{1,3})?")
_MOST = 18  # decimals of a price, as the scanner
_LONGEST = 64  # digits of a number, more is no price
_NAMES = {"depthUpdate": sc.DEPTH, "trade": sc.TRADE, "aggTrade": sc.TRADE, "bookTicker": sc.QUOTE}


def read_json(frame: bytes, book: np.ndarray) -> tuple[int, np.ndarray, np.ndarray, int]:
    """Return a frame's kind, its levels and the decimals its prices need; header numbers go into `book.msg`.

    Returns
    -------
    kind : int
        As `scan.scan` names them.
    units, sizes : ndarray, shape (2, n)
        Levels of bids and asks, in units of 10**-decimals of the book.
    finest : int
        Most decimals of a price; where the book has fewer, the levels are not to be used.

    Raises
    ------
    UnreadableFrameError
        No JSON, or no message of the protocol.
    WidePriceError
        A price too long for the units that the book counts in.
    """
    try:
        data = _DECODE(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableFrameError(f"JSON ({error})", frame) from None
    wrapped = isinstance(data, dict) and isinstance(data.get("data"), dict)
    if wrapped:
        data = data["data"]
    if not isinstance(data, dict):
        raise UnreadableFrameError("a JSON object", frame)
    try:
        return _read(data, book, wrapped)
    except OverflowError as error:
        raise WidePriceError(str(error), frame) from None
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise UnreadableFrameError(f"a message of the protocol ({type(error).__name__} {error})", frame) from None


def _read(data: dict, book: np.ndarray, wrapped: bool) -> tuple[int, np.ndarray, np.ndarray, int]:
    msg, decimals = book["msg"], int(book["decimals"][0])
    empty = np.zeros((2, 0), np.int64), np.zeros((2, 0))
    kind = _NAMES.get(data["e"], sc.NOTHING) if "e" in data else _nameless(data, wrapped)
    if kind in (sc.NOTHING, sc.REFUSED):
        return kind, *empty, decimals
    msg["event_ms"], msg["transact_ms"] = _milliseconds(data.get("E", 0)), _milliseconds(data.get("T", 0))
    msg["prev_id"], msg["off_book"] = -1, 0
    own = book["symbol"][0, 1 : book["symbol"][0, 0] + 1].tobytes().decode()
    if kind == sc.SNAPSHOT:
        # -1 is what a new listing answers, before the first order (tardis-node, src/mappers/binance.ts).
        msg["last_id"] = -1 if data["lastUpdateId"] == -1 else _whole(data["lastUpdateId"])
        msg["other_symbol"] = data.get("symbol", own) != own  # COIN-M names it
        return kind, *_levels(data["bids"], data["asks"], msg, decimals)
    if not isinstance(data["s"], str):
        raise TypeError("s")
    msg["other_symbol"] = data["s"] != own
    if kind == sc.DEPTH:
        msg["event_ms"] = _milliseconds(data["E"])
        msg["first_id"], msg["last_id"] = _whole(data["U"]), _whole(data["u"])
        msg["prev_id"] = _whole(data["pu"]) if "pu" in data else -1
        return kind, *_levels(data["b"], data["a"], msg, decimals)
    if kind == sc.TRADE:
        msg["trade_id"] = _whole(data["a"] if data["e"] == "aggTrade" else data["t"])
        msg["transact_ms"] = _milliseconds(data["T"])
        if not isinstance(data["m"], bool):
            raise TypeError("m")
        msg["maker"], msg["off_book"] = data["m"], data.get("X", "MARKET") != "MARKET"
        finest = _price(msg, 0, data["p"], decimals)
        msg["size"][0, 0] = size_of(data["q"])
        return kind, *empty, finest
    msg["last_id"] = _whole(data["u"])
    finest = max(_price(msg, 0, data["b"], decimals, zero=True), _price(msg, 1, data["a"], decimals, zero=True))
    msg["size"][0] = size_of(data["B"]), size_of(data["A"])
    return kind, *empty, finest


def _nameless(data: dict, wrapped: bool) -> int:
    if "lastUpdateId" in data:
        return sc.NOTHING if wrapped else sc.SNAPSHOT  # partial depth comes in envelopes
    if "b" in data and "u" in data:
        return sc.QUOTE
    if "code" in data or "error" in data:
        return sc.REFUSED
    if "result" in data:
        return sc.NOTHING
    raise KeyError("none of e, lastUpdateId, u, result, code")


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 62:
        raise TypeError(f"whole number expected, received {value!r}")
    return value


def _milliseconds(value: object) -> int:
    ms = _whole(value)
    if ms > sc.LATEST_MS:
        raise ValueError(f"milliseconds expected, received {ms}")
    return ms


def _decimal(text: object) -> str:
    # What a float or Decimal takes is far more than a venue may say: signs, NaN, 1_000, other scripts' digits.
    if not isinstance(text, str) or len(text) > _LONGEST or not _DECIMAL.fullmatch(text):
        raise ValueError(f"decimal text expected, received {text!r}")
    return text


def price_units(text: object, decimals: int, zero: bool = False) -> tuple[int, int]:
    """Return a price in units of 10**-decimals, and the decimals it needs when trailing zeros are gone.

    Where it needs more than it was given, the units are of what it needs.

    Raises
    ------
    ValueError
        No plain decimal, or zero where `zero` does not allow it.
    OverflowError
        Longer than a float is exact.

    Examples
    --------
    >>> price_units("61837.6300", 4)
    (618376300, 2)
    """
    _, digits, power = Decimal(_decimal(text)).as_tuple()
    units, exponent = int("".join(map(str, digits))), int(power)
    if units == 0 and zero:
        return 0, 0
    while units and units % 10 == 0:
        units //= 10
        exponent += 1
    needed = max(0, -exponent)
    if units == 0 or needed > _MOST or exponent > _MOST:
        raise ValueError(f"price {text!r}")
    units *= 10 ** (exponent + max(decimals, needed))
    if units >= sc.EXACT:
        raise OverflowError(f"a price of 15 digits, counted in 10**-{max(decimals, needed)}; {text} is longer")
    return units, needed


def _price(msg: np.ndarray, slot: int, text: object, decimals: int, zero: bool = False) -> int:
    units, needed = price_units(text, decimals, zero)
    msg["units"][0, slot] = units
    return needed


def size_of(text: object) -> float:
    """Return a size, not negative; raises ValueError for anything but a plain decimal."""
    size = float(_decimal(text))
    if size == float("inf"):
        raise ValueError(f"size {text!r}")
    return size


def _levels(bids: object, asks: object, msg: np.ndarray, decimals: int) -> tuple[np.ndarray, np.ndarray, int]:
    if not isinstance(bids, list) or not isinstance(asks, list):
        raise TypeError("levels must be lists")
    units, sizes = np.zeros((2, max(len(bids), len(asks))), np.int64), np.zeros((2, max(len(bids), len(asks))))
    finest = decimals
    for side, levels in enumerate((bids, asks)):
        msg["n"][0, side] = len(levels)
        for i, level in enumerate(levels):
            if not isinstance(level, list) or len(level) < 2:
                raise TypeError("a level must be a list of price and size")
            units[side, i], needed = price_units(level[0], decimals)
            sizes[side, i] = size_of(level[1])
            finest = max(finest, needed)
    return units, sizes, finest
