"""Trades numbered one by one: which are missing, late or told twice."""

from collections import deque
from collections.abc import Iterator

from tasks.venues.ladder import Ladder

NEXT, MISSED, LATE, AGAIN = range(4)
_REMEMBERED = 512  # ids, to know a trade that comes twice
_AWAITED = 1000  # ids that were skipped and may still come; a longer skip is a slip of the venue's or a new count


class TradeIds:
    """Where each trade belongs among those before it.

    Parameters
    ----------
    last : int
        The newest id of the session before, -1 where there was none.

    Attributes
    ----------
    last : int
        The newest id; -1 before the first.

    Examples
    --------
    >>> ids = TradeIds()
    >>> places = []
    >>> for trade_id in (7, 8, 10, 9, 10, 11):
    ...     places.append(ids.place(trade_id))
    ...     ids.take(trade_id)
    >>> places == [NEXT, NEXT, MISSED, LATE, AGAIN, NEXT]
    True
    """

    def __init__(self, last: int = -1) -> None:
        self.last, self._promised, self._told = last, -1, -1
        self._recent: deque[int] = deque(maxlen=_REMEMBERED)
        self._awaited: set[int] = set()

    def place(self, trade_id: int, backfill: bool = False) -> int:
        """Return NEXT, MISSED (others before it did not come), LATE or AGAIN."""
        last = self.last
        if trade_id == last + 1 or last < 0:
            return NEXT
        if trade_id in self._awaited:  # the skip may have been a wrong number: what is lost below it is lost
            return LATE if backfill or trade_id - 1 not in self._awaited else MISSED
        if trade_id > last:
            return NEXT if last < self._told >= trade_id - 1 else MISSED
        return AGAIN if backfill or trade_id in self._recent else MISSED

    def take(self, trade_id: int) -> None:
        """Count a trade as seen."""
        last = self.last
        self._recent.append(trade_id)
        if trade_id in self._awaited:
            self._awaited.discard(trade_id)
            return
        if 0 <= last < trade_id - 1 <= last + _AWAITED:
            self._awaited.update(range(last + 1, trade_id))
            if len(self._awaited) > 4 * _AWAITED:
                self._awaited = set(sorted(self._awaited)[-_AWAITED:])
        if trade_id != last:
            self.last = trade_id

    def promise(self, last_id: int) -> bool:
        """Take the venue's word for its newest trade; return whether it was given before and did not come.

        Streams are not ordered to each other, so the first word proves nothing.
        """
        is_late = self.last < self._promised and self._told < self._promised and self.last >= 0
        if is_late:
            self._told = self._promised
        self._promised = last_id
        return is_late


def tell_trade(
    ladder: Ladder, ids: TradeIds, trade_id: int, price: str, size: str, aggressor: int, exchange_ns: int, receive_ns: int, *,
    frame: bytes = b"", backfill: bool = False,
) -> Iterator[int]:  # fmt: skip
    """Tell a trade unless it was told before, and that others were missed before it; keep one that cannot be, as not seen."""
    place = ids.place(trade_id, backfill)
    if place == AGAIN:
        ladder.rare["old"] += 1
        return
    is_told = yield from ladder.print_trade(
        price, size, aggressor, exchange_ns, receive_ns, trade_id, frame=frame, backfill=backfill, missed=place == MISSED
    )
    if is_told:
        ids.take(trade_id)
        ladder.book["last_trade_id"] = ids.last
