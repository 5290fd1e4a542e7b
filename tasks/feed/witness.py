"""A venue's REST book held against the rows that its stream made, where neither moved.

A REST book says what stood at some moment between asking and answering, and on most venues
not at which.  But a level whose size was the same in every row from well before the question
to well after the answer must be in it with that size; and a level that no row had must not.
Where the book bears an id like those of the rows, only the rows around it are asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

_DECODE = msgspec.json.Decoder().decode
_SAME = 1e-9  # relative: sizes that were converted from contracts
_NAMES = (("bids", "asks"), ("b", "a"))


class UnreadableBookError(Exception):
    """A REST answer that is no book."""

    def __init__(self, body: bytes):
        super().__init__(f"expected JSON with bids and asks, received {len(body)} bytes: {body[:120]!r}")


@dataclass(frozen=True)
class RestBook:
    """Levels of a REST answer: price to size as the venue counts it, and the id of its last update, 0 where it has none."""

    bids: dict[float, float]
    asks: dict[float, float]
    update_id: int = 0


@dataclass(frozen=True)
class Difference:
    """One level about which stream and witness disagree; a size of 0 means that it is not there."""

    side: str
    price: float
    ours: float
    theirs: float

    def __str__(self) -> str:
        return f"{self.side} {self.price}: {self.ours} in the book, {self.theirs} in the venue's"


def read_book(body: bytes) -> RestBook:
    """Return the book in a REST answer of any venue here.

    Raises
    ------
    UnreadableBookError

    Examples
    --------
    >>> read_book(b'{"result":{"XXBTZUSD":{"bids":[["9.5","2",1]],"asks":[["10.0","0.5",1]]}}}').bids
    {9.5: 2.0}
    >>> read_book(b'{"levels":[[{"px":"9.5","sz":"2","n":1}],[]]}')
    RestBook(bids={9.5: 2.0}, asks={}, update_id=0)
    """
    try:
        data = _DECODE(body)
        found = _find(data)
        if found is None:
            raise UnreadableBookError(body)
        update_id = int(data.get("lastUpdateId", 0)) if isinstance(data, dict) else 0
        return RestBook(_levels(found[0]), _levels(found[1]), update_id)
    except (msgspec.DecodeError, UnicodeDecodeError, StopIteration, RuntimeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise UnreadableBookError(body) from error


def _find(data: Any) -> tuple[Any, Any] | None:
    # The two sides, wherever the venue hides them.
    if isinstance(data, dict):
        for bids, asks in _NAMES:
            if isinstance(data.get(bids), list) and isinstance(data.get(asks), list):
                return data[bids], data[asks]
        levels = data.get("levels")
        if isinstance(levels, list) and len(levels) == 2:
            return levels[0], levels[1]
        data = list(data.values())
    if isinstance(data, list):
        for part in data:
            if isinstance(part, (dict, list)) and (found := _find(part)) is not None:
                return found
    return None


def _levels(rows: Sequence[Any]) -> dict[float, float]:
    levels = {}
    for row in rows:
        if isinstance(row, dict):
            price, size = (next(row[name] for name in names if name in row) for names in (("price", "px"), ("size", "sz", "qty")))
            levels[float(price)] = float(size)
        else:
            levels[float(row[0])] = float(row[1])
    return levels


def differences(rows: np.ndarray, book: RestBook, contract_base: float = 1.0) -> list[Difference]:
    """Return the levels at which a REST book and a stream cannot both be right.

    Parameters
    ----------
    rows : ndarray of row_dtype("l2_snapshots"), shape (n,)
        Every book from a second or more before the question until as long after the answer, the one
        that stood at the beginning included.
    book : RestBook
    contract_base : float
        Base units that a size of 1 stands for on this venue; inverse contracts are known from the rows.
    """
    before, after = rows[rows["update_id"] <= book.update_id][-1:], rows[rows["update_id"] >= book.update_id][:1]
    if book.update_id and before.size and after.size:
        rows = np.concatenate([before, after])
    contract_usd = float(rows["contract_size"][-1])
    found = []
    for side, theirs, sign in (("bid", book.bids, -1.0), ("ask", book.asks, 1.0)):
        prices, sizes = rows[f"{side}_px"], rows[f"{side}_sz"]
        shown = np.isfinite(prices)
        if not theirs or not shown.any(axis=1).all():
            continue
        # As far as every row and the witness look; behind that nothing is known.
        worst = min(np.where(shown, prices * sign, -np.inf).max(axis=1).min(), max(price * sign for price in theirs))
        candidates = {*prices[shown].tolist(), *theirs}
        for price in sorted(price for price in candidates if price * sign <= worst):
            held = np.where(prices == price, sizes, 0.0).sum(axis=1)
            if held.min() != held.max():
                continue
            told = theirs.get(price, 0.0)
            told = told * contract_usd / price if contract_usd else told * contract_base
            if abs(told - held[0]) > _SAME * max(told, held[0]):
                found.append(Difference(side, price, float(held[0]), told))
    return found
