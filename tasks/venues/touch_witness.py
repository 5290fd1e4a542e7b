"""The venue's own best quotes as a witness of the book, where no number or checksum proves it.

Quotes and book come over streams that are not ordered to each other, and a batch of changes
hides what stood between.  So a quote is held against the book only where the book says that
nothing moved: a level untouched for `apart_ns` before and after the quote must be as quoted.
One contradiction may be the venue's slip; `ENOUGH` of them in a row are not.

What it cannot see: a wrong level that never comes to the touch.  Of 200 messages of level2_batch lost
on the simulator (2026-11), each alone, 142 left a wrong level among the best 20: the touch was wrong
for 0.4 s at most, any level for 0.8 s in the median, 13.5 s at the 90th percentile, 36 s at most; in 8
it was still wrong when the 40 s ended.  The REST book that `tasks/witness.py` asks for ends those.
"""

from collections import deque
from collections.abc import Sequence
from math import isnan

import numpy as np

APART_NS = 250_000_000  # how far two streams may run apart; batches of level2_batch come each 50 ms
PATIENCE_NS = 2_000_000_000  # a book without changes is judged after this, by the clock of other messages
ENOUGH = 2
FRUITLESS = 3  # fresh books in a row that were contradicted and never confirmed: then the quotes are wrong, not the books
_HELD = 4096  # prices of which it is known when they moved
_MOST = 256  # quotes that may wait for their verdict
Quote = tuple[int, float, float, float, float]  # time, bid, its size, ask, its size; sizes NaN where not told


class TouchWitness:
    """Remembers what moved, and judges quotes by it.

    Parameters
    ----------
    apart_ns : int
        How far the two streams may run apart.

    Attributes
    ----------
    agreed_ns : int
        Until when the book is known to have been right: a quote is not held against what moved shortly before it, so
        this is as long before the last quote that the book did not contradict.
    contradiction : str
        What the last contradiction was.

    Examples
    --------
    >>> book = np.array([[100.0, 99.0], [5.0, 1.0], [101.0, 102.0], [2.0, 1.0]])
    >>> witness = TouchWitness()
    >>> for second in (1, 2):  # the venue says that the best bid is 99: 100 must be gone
    ...     witness.hear((second * 10**9, 99.0, 1.0, 101.0, 2.0))
    >>> witness.doubts(4 * 10**9, 4 * 10**9, *book), witness.contradiction
    (True, 'bid 100.0 stood above the quoted 99.0')
    """

    def __init__(self, apart_ns: int = APART_NS) -> None:
        self._apart_ns = apart_ns
        self._moved: tuple[dict[float, int], dict[float, int]] = ({}, {})  # price to when it last moved, a side
        self._waiting: deque[Quote] = deque(maxlen=_MOST)
        self._known_ns = self._counted_ns = self.agreed_ns = self._against = 0
        self._is_confirmed, self._fruitless = False, 0
        self.contradiction = ""

    def begin(self, exchange_ns: int) -> None:
        """Start from a whole book of this time."""
        self._moved[0].clear()
        self._moved[1].clear()
        self._waiting.clear()
        self._known_ns = self.agreed_ns = self._counted_ns = exchange_ns
        self._against, self._is_confirmed = 0, False

    def move(self, exchange_ns: int, bids: Sequence[Sequence[str]], asks: Sequence[Sequence[str]]) -> None:
        """Note which levels changed: pairs of price and size as text."""
        for moved, pairs in zip(self._moved, (bids, asks), strict=True):
            for pair in pairs:
                moved[float(pair[0])] = exchange_ns
            if len(moved) > _HELD:
                self._forget(moved, exchange_ns - 8 * self._apart_ns)

    def _forget(self, moved: dict[float, int], before_ns: int) -> None:
        for price in [price for price, at_ns in moved.items() if at_ns < before_ns]:
            del moved[price]
        self._known_ns = max(self._known_ns, before_ns)

    def hear(self, quote: Quote) -> None:
        """Take a quote; one from before the book is known is of no use."""
        if quote[0] - self._apart_ns >= self._known_ns:
            self._waiting.append(quote)

    def is_due(self, book_ns: int, now_ns: int) -> bool:
        """Return whether a quote waits whose time has come; see `doubts`."""
        waiting = self._waiting
        return bool(waiting) and (waiting[0][0] + self._apart_ns <= book_ns or waiting[0][0] + PATIENCE_NS <= now_ns)

    def doubts(
        self, book_ns: int, now_ns: int, bid_px: np.ndarray, bid_sz: np.ndarray, ask_px: np.ndarray, ask_sz: np.ndarray
    ) -> bool:  # fmt: skip
        """Judge the quotes whose time has come against the book of now; return whether it must be doubted.

        Parameters
        ----------
        book_ns : int
            Time of the last change.
        now_ns : int
            Time that the venue has certainly reached.
        bid_px, bid_sz, ask_px, ask_sz : ndarray
            Best levels of the book, from the touch outward.
        """
        while self.is_due(book_ns, now_ns):
            quote = self._waiting.popleft()
            since_ns, said = quote[0] - self._apart_ns, ""
            # Most quotes are the touch of now: those need no look at what moved.
            is_bid = bid_px[0] == quote[1] and (bid_sz[0] == quote[2] or isnan(quote[2]))
            is_ask = ask_px[0] == quote[3] and (ask_sz[0] == quote[4] or isnan(quote[4]))
            if is_bid and is_ask:
                self._is_confirmed, self._fruitless = True, 0
            if not is_bid:
                said = _against("bid", quote[1], quote[2], self._moved[0], since_ns, bid_px.tolist(), bid_sz.tolist(), 1.0)
            if not said and not is_ask:
                said = _against("ask", quote[3], quote[4], self._moved[1], since_ns, ask_px.tolist(), ask_sz.tolist(), -1.0)
            if not said:
                self._against, self.agreed_ns = 0, since_ns
            elif quote[0] - self._counted_ns >= self._apart_ns:  # trades of one sweep are one witness
                self._against, self._counted_ns, self.contradiction = self._against + 1, quote[0], said
        if self._against < ENOUGH:
            return False
        if not self._is_confirmed:
            self._fruitless += 1
            if self._fruitless > FRUITLESS:
                self._against = 0
                return False
        return True


def _against(
    side: str, price: float, size: float, moved: dict[float, int], since_ns: int, prices: list[float], sizes: list[float], sign: float
) -> str:  # fmt: skip
    for level, held in zip(prices, sizes, strict=True):
        has_moved = moved.get(level, 0) >= since_ns
        if not level * sign > price * sign:
            if level == price:
                return f"{side} {price} held {held}, quoted {size}" if not isnan(size) and held != size and not has_moved else ""
            break
        if not has_moved:
            return f"{side} {level} stood {'above' if sign > 0 else 'below'} the quoted {price}"
    return "" if moved.get(price, 0) >= since_ns or price == 0.0 else f"{side} {price} is quoted and not held"
