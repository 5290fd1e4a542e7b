"""By which book a scorer's rows go: the recorded one that is the same in every bit that the venue sent.

Scorer and recorder hear a venue on sockets of their own and each numbers what it hears.  One
frame that only one of them gets, and numbers name another book from then on.  So a scorer's
rows wait until the recorder's commit has the book itself: the same time, update id and levels.
"""

import time
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

import numpy as np

from warehouse.lake import Lake

UNNAMED = -1
LOOK_S, PATIENCE_S = 1.0, 5.0
_SIDES = ("bid_px", "bid_sz", "ask_px", "ask_sz")


def same_book(row: np.void) -> tuple[int, int, int]:
    """Return what is the same of one book on every socket: time, update id, hash of the levels (within a process).

    Examples
    --------
    >>> from warehouse.schema import row_dtype
    >>> one, other = np.zeros(2, row_dtype("l2_snapshots"))
    >>> other["seq"] = 7
    >>> same_book(one) == same_book(other)
    True
    """
    return int(row["exchange_ns"]), int(row["update_id"]), hash(tuple(row[side].tobytes() for side in _SIDES))


class Unnamed:
    """Rows of one stream that wait for the numbers of the books they are about.

    Parameters
    ----------
    lake : Lake
        Where another process records the books.
    append : callable
        Takes a table's name and a row, shape (1,).
    """

    def __init__(self, lake: Lake, venue: str, symbol: str, append: Callable[[str, np.ndarray], Any]):
        self._lake, self._venue, self._symbol, self._append = lake, venue, symbol, append
        self._waiting: deque[tuple[str, np.ndarray, tuple[int, int, int], float]] = deque()
        self._next_s, self._last = 0.0, -1

    def add(self, table: str, row: np.ndarray, book: np.ndarray) -> None:
        """Keep a copy of a row, shape (1,), about a book, shape (1,)."""
        self._waiting.append((table, row.copy(), same_book(book[0]), time.monotonic()))

    def release(self, at_once: bool = False) -> None:
        """Append, in order, the rows whose books are recorded.

        `book_seq` and `event_seq` become -1 where the recorder has later books and not this
        one, where it has none for 5 s, and with `at_once`.
        """
        now_s = time.monotonic()
        waiting = list(self._waiting)
        if not waiting or (now_s < self._next_s and not at_once):
            return
        self._next_s = now_s + LOOK_S
        books = self._recorded(min(at[0] for _, _, at, _ in waiting), max(at[0] for _, _, at, _ in waiting))
        names: list[tuple[int, int] | None] = []
        for _, _, at, _ in waiting:
            # The same book may come again, where a venue sends no ids: the first one not before the last named.
            name = next((name for name in books.get(at, ()) if name[1] >= self._last), None)
            self._last = name[1] if name else self._last
            names.append(name)
        known = max((n for n, name in enumerate(names, 1) if name), default=0)
        for n, ((table, row, _, since_s), name) in enumerate(zip(waiting, names, strict=True)):
            if n >= known and not at_once and now_s - since_s < PATIENCE_S:
                break
            if "book_seq" in (row.dtype.names or ()):
                row["book_seq"] = name[0] if name else UNNAMED
            row["event_seq"] = name[1] if name else UNNAMED
            self._append(table, row)
            self._waiting.popleft()

    def _recorded(self, first_ns: int, last_ns: int) -> dict[tuple[int, int, int], list[tuple[int, int]]]:
        found = defaultdict(list)
        for row in self._lake.rows("l2_snapshots", self._venue, self._symbol, first_ns, last_ns + 1):
            found[same_book(row)].append((int(row["seq"]), int(row["event_seq"])))
        return found
