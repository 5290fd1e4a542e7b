"""Slow and obvious twins of compiled code: what the right answer is, in plain Python.

The book is a mapping from exact decimals to exact decimals; the venue's rules are applied
the way its documentation tells them.
"""

import json
from bisect import bisect_left, insort
from decimal import Decimal


class NaiveBook:
    """Price levels of two sides, keyed by exact decimals."""

    def __init__(self):
        self.sizes = ({}, {})
        self.sorted = ([], [])

    def apply(self, side, price, size):
        price, size = Decimal(price), Decimal(size)
        held, order = self.sizes[side], self.sorted[side]
        if size:
            if price not in held:
                insort(order, price)
            held[price] = size
        elif price in held:
            del held[price]
            del order[bisect_left(order, price)]

    def clear(self):
        for side in range(2):
            self.sizes[side].clear()
            self.sorted[side].clear()

    def best(self, side, n=20):
        order = self.sorted[side]
        prices = order[-n:][::-1] if side == 0 else order[:n]
        return [(price, self.sizes[side][price]) for price in prices]

    @property
    def is_crossed(self):
        return bool(self.sorted[0] and self.sorted[1] and self.sorted[0][-1] >= self.sorted[1][0])


class NaiveBinance:
    """One instrument's book by the venue's documented steps, with the joins that live streams need.

    `receive` returns the update id of the book, where a frame gave a new one; a REST snapshot
    that the waiting events continue gives several.
    """

    def __init__(self, venue):
        self.futures = venue != "binance_spot"
        self.book = NaiveBook()
        self.waiting, self.last, self.joined, self.gaps = [], None, False, 0

    def receive(self, frame):
        message = json.loads(frame)
        message = message.get("data", message)
        if "lastUpdateId" in message:
            return [] if self.joined else list(self._join(message))
        if message.get("e") != "depthUpdate":
            return []
        if self.last is None:
            self.waiting.append(message)
            return []
        return list(self._event(message))

    def _join(self, snapshot):
        self.book.clear()
        for side, name in enumerate(("bids", "asks")):
            for price, size in snapshot[name]:
                self.book.apply(side, price, size)
        self.last = snapshot["lastUpdateId"]
        waiting, self.waiting = self.waiting, []
        for message in waiting:
            if self.last is None:
                self.waiting.append(message)
            else:
                yield from self._event(message)

    def _event(self, message):
        first, last = message["U"], message["u"]
        if self.futures:
            if last < self.last or (self.joined and last == self.last):
                return
            good = message["pu"] == self.last or (not self.joined and first <= self.last <= last)
        else:
            if last <= self.last:
                return
            good = first <= self.last + 1 <= last
        if not good:
            self.gaps += self.joined
            self.last, self.joined = None, False
            self.waiting.append(message)
            return
        for side, name in enumerate("ba"):
            for price, size in message[name]:
                self.book.apply(side, price, size)
        self.last, self.joined = last, True
        yield last


def ticker_checks(books, tickers):
    """Return the checks and the ids at which a book's best prices and sizes differ from the venue's own ticker.

    A book of update id u has to show what the last ticker of an id <= u showed; whether that
    was the last is known when a ticker of a later id came too.

    Parameters
    ----------
    books, tickers : list of (update_id, (bid, bid size, ask, ask size))
    """
    checks, differing, at = 0, [], -1
    tickers = sorted(tickers, key=lambda ticker: ticker[0])
    for update_id, shown in sorted(books, key=lambda book: book[0]):
        while at + 1 < len(tickers) and tickers[at + 1][0] <= update_id:
            at += 1
        if 0 <= at < len(tickers) - 1:
            checks += 1
            if tickers[at][1] != shown:
                differing.append(update_id)
    return checks, differing
