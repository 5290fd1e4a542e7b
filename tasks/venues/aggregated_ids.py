"""Trades that stand for several fills, numbered by the last one: which were told before, and which are missing."""

from collections import deque

_REMEMBERED = 1024  # ids, to know a trade that comes twice
_FITTING = 20  # trades that must have fitted for each hole, else the venue numbers otherwise than we think
_TRUSTED = 5  # holes, before that is judged


class AggregatedIds:
    """Where each trade belongs among those before it.

    A trade of n fills takes n numbers, so the one after id 10 has an id of 10 + n.  Venues do not
    promise that no number is left out, so holes are believed only where they are rare.

    Parameters
    ----------
    last : int
        The largest id of the session before, -1 where there was none.

    Attributes
    ----------
    last : int
        The largest id; -1 before the first.

    Examples
    --------
    >>> ids, places = AggregatedIds(), []
    >>> for trade_id, fills in ((7, 1), (10, 3), (10, 3), (12, 1), (11, 1)):
    ...     places.append((ids.is_new(trade_id), ids.leaves_hole(trade_id, fills)))
    ...     ids.take(trade_id)
    >>> places
    [(True, False), (True, False), (False, False), (True, True), (True, False)]
    """

    def __init__(self, last: int = -1) -> None:
        self.last = self._at = last
        self._recent: deque[int] = deque(maxlen=_REMEMBERED)
        self._fitting = self._holes = 0

    def is_new(self, trade_id: int) -> bool:
        """Return whether this trade was not told yet."""
        return trade_id > self.last or trade_id not in self._recent

    def leaves_hole(self, trade_id: int, fills: int) -> bool:
        """Return whether trades before this one did not come; ask once a trade, before it is taken."""
        before = trade_id - fills
        # Below a number that leapt, and may be wrong, trades follow the one told last, or come late.
        fits = before <= self.last if trade_id > self.last else (before <= self._at < trade_id or before in self._recent)
        if self.last < 0 or fits:
            self._fitting += 1
            return False
        self._holes += 1
        return self._holes <= _TRUSTED + self._fitting // _FITTING

    def take(self, trade_id: int) -> None:
        """Count a trade as told."""
        self._recent.append(trade_id)
        self.last, self._at = max(self.last, trade_id), trade_id
