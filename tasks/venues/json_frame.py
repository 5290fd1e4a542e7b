"""Frames that the byte scanner would not read, through a JSON library, to the same numbers."""

from decimal import Decimal, InvalidOperation

import msgspec
import numpy as np

from tasks.venues import scan as sc
from tasks.venues.errors import UnreadableFrameError

_DECODE = msgspec.json.Decoder().decode
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
    """
    try:
        data = _DECODE(frame)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableFrameError(f"JSON ({error})", frame) from None
    if isinstance(data, dict) and isinstance(data.get("data"), dict):
        data = data["data"]
    if not isinstance(data, dict):
        raise UnreadableFrameError("a JSON object", frame)
    try:
        return _read(data, book)
    except (KeyError, TypeError, ValueError, InvalidOperation, OverflowError) as error:
        raise UnreadableFrameError(f"a message of the protocol ({type(error).__name__} {error})", frame) from None


def _read(data: dict, book: np.ndarray) -> tuple[int, np.ndarray, np.ndarray, int]:
    msg, decimals = book["msg"], int(book["decimals"][0])
    empty = np.zeros((2, 0), np.int64), np.zeros((2, 0))
    kind = _NAMES.get(data.get("e", ""), sc.NOTHING) if "e" in data else _nameless(data)
    if kind in (sc.NOTHING, sc.REFUSED):
        return kind, *empty, decimals
    msg["event_ms"], msg["transact_ms"] = _whole(data.get("E", 0)), _whole(data.get("T", 0))
    msg["prev_id"], msg["off_book"] = -1, 0
    if kind == sc.SNAPSHOT:
        msg["last_id"] = _whole(data["lastUpdateId"])
        return kind, *_levels(data["bids"], data["asks"], msg, decimals)
    msg["other_symbol"] = data["s"].encode() != book["symbol"][0, 1 : book["symbol"][0, 0] + 1].tobytes()
    if kind == sc.DEPTH:
        msg["event_ms"] = _whole(data["E"])
        msg["first_id"], msg["last_id"] = _whole(data["U"]), _whole(data["u"])
        msg["prev_id"] = _whole(data["pu"]) if "pu" in data else -1
        return kind, *_levels(data["b"], data["a"], msg, decimals)
    if kind == sc.TRADE:
        msg["trade_id"] = _whole(data["a"] if data["e"] == "aggTrade" else data["t"])
        msg["transact_ms"] = _whole(data["T"])
        if not isinstance(data["m"], bool):
            raise TypeError("m")
        msg["maker"], msg["off_book"] = data["m"], data.get("X", "MARKET") != "MARKET"
        finest = _price(msg, 0, data["p"], decimals)
        msg["size"][0, 0] = _size(data["q"])
        return kind, *empty, finest
    msg["last_id"] = _whole(data["u"])
    finest = max(_price(msg, 0, data["b"], decimals), _price(msg, 1, data["a"], decimals))
    msg["size"][0] = _size(data["B"]), _size(data["A"])
    return kind, *empty, finest


def _nameless(data: dict) -> int:
    if "lastUpdateId" in data:
        return sc.SNAPSHOT
    if "b" in data and "u" in data:
        return sc.QUOTE
    if "code" in data or "error" in data:
        return sc.REFUSED
    if "result" in data:
        return sc.NOTHING
    raise KeyError("none of e, lastUpdateId, u, result, code")


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"integer expected, received {value!r}")
    return value


def _units(text: object, decimals: int) -> tuple[int, int]:
    # Price in units of 10**-decimals, and the decimals it needs when trailing zeros are gone.
    if not isinstance(text, str):
        raise TypeError(f"decimal text expected, received {text!r}")
    value = Decimal(text).normalize()
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or value < 0:
        raise ValueError(f"price {text!r}")
    needed = max(0, -exponent)
    units = int(value.scaleb(max(decimals, needed)))
    if units >= sc.EXACT:
        raise ValueError(f"price {text!r} has more digits than a float holds")
    return units, needed


def _price(msg: np.ndarray, slot: int, text: object, decimals: int) -> int:
    units, needed = _units(text, decimals)
    msg["units"][0, slot] = units
    return needed


def _size(text: object) -> float:
    if not isinstance(text, str):
        raise TypeError(f"decimal text expected, received {text!r}")
    size = float(text)
    if not 0.0 <= size < float("inf"):
        raise ValueError(f"size {text!r}")
    return size


def _levels(bids: list, asks: list, msg: np.ndarray, decimals: int) -> tuple[np.ndarray, np.ndarray, int]:
    if not isinstance(bids, list) or not isinstance(asks, list):
        raise TypeError("levels must be lists")
    units, sizes = np.zeros((2, max(len(bids), len(asks))), np.int64), np.zeros((2, max(len(bids), len(asks))))
    finest = decimals
    for side, levels in enumerate((bids, asks)):
        msg["n"][0, side] = len(levels)
        for i, (price, size, *_) in enumerate(levels):
            units[side, i], needed = _units(price, decimals)
            sizes[side, i] = _size(size)
            finest = max(finest, needed)
    return units, sizes, finest
