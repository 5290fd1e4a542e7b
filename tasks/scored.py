"""One stream as a scorer sees it: its events folded into features, and what detectors and champion say of each book."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from models.fits import Fits
from tasks.detectors.fold import Detectors
from tasks.features.fold import Features
from tasks.fitted import in_force
from tasks.named import Unnamed
from tasks.venues.events import BOOK, TRADE
from warehouse.columns import DAY_NS, day_name
from warehouse.lake import Lake
from warehouse.schema import row_dtype

_LOOK_S = 60.0  # between looks for the fits of the day to come
PREDICTION = row_dtype("predictions")
Event = tuple[int, np.ndarray]
Warm = Callable[[str, Features, Detectors, list[Event], Callable[[], bool]], bool]
_SLICE_S = 0.01  # of folding what waited, before the sockets are read again
_WAITING = 10_000  # events that are kept, at least the newest, of a stream whose first book does not come


class Model(Protocol):
    """What is needed of a champion."""

    def predict(self, features: np.ndarray, meta: np.ndarray, out: np.ndarray) -> None:
        """Fill a prediction, shape (1,), from the features of one book and their meta record."""
        ...


class Scored:
    """The scores of one stream.

    Parameters
    ----------
    lake : Lake
        Where the fits of each day are.
    venue, symbol : str
    champion : callable
        Returns the model to score with, or None; asked for every book.
    append : callable
        Takes a table's name and a row, shape (1,).
    base : mapping of str to int
        First numbers of `predictions` and `signals`.
    clock : callable, optional
        Nanoseconds now, for the latency of scores.
    warm : callable, optional
        Finds the stream's past, in a thread; until then its events wait.
    unnamed : Unnamed, optional
        Where another process records the stream: what waits for its numbers.
    """

    def __init__(
        self, lake: Lake, venue: str, symbol: str, champion: Callable[[], Model | None], append: Callable[[str, Any], int],
        base: dict[str, int], clock: Callable[[], int] | None = None, warm: Warm | None = None, unnamed: Unnamed | None = None,
    ):  # fmt: skip
        self._lake, self._venue, self._symbol, self._champion, self._clock = lake, venue, symbol, champion, clock
        self.features, self.detectors = Features(keeps_bars=False), Detectors(first_seq=base.get("signals", 0))
        self._append, self._unnamed, self._warm = append, unnamed, warm
        self._pending: list[Event] | None = None if warm is None else []  # events that wait for their past
        self._has_book = False  # among them
        self._seq, self._prediction = base.get("predictions", 0), np.zeros(1, PREDICTION)
        self._opened_s = time.monotonic()
        self._day_ends_ns, self._look_s = 0, 0.0  # of the day whose fits are in use; when to look again, monotonic
        self._ahead: Fits | None = None  # of the day behind it, as of the last look

    @property
    def is_waiting(self) -> bool:
        """Return whether events wait for their past."""
        return self._pending is not None

    def take(self, event: int, row: np.ndarray, receive_ns: int) -> None:
        """Fold one event, shape (1,), and tell what is said of it, if it is a book."""
        if self._pending is None:
            self._fold(event, row, receive_ns)
        else:
            self._pending.append((event, row.copy()))
            self._has_book = self._has_book or event == BOOK
            if not self._has_book and len(self._pending) > 2 * _WAITING:
                self._drop_oldest(self._pending)

    @staticmethod
    def _drop_oldest(waiting: list[Event]) -> None:
        # A stream without a book may trade for days.  Of what is dropped only the state that it left the stream in counts.
        waiting[:-_WAITING] = [item for item in waiting[:-_WAITING] if item[0] not in (BOOK, TRADE)][-1:]

    def _fold(self, event: int, row: np.ndarray, receive_ns: int) -> None:
        if event == BOOK:
            self._score(row, receive_ns)
        elif event == TRADE:
            self.features.trade(row)
        else:
            self.features.change(row)

    def _score(self, row: np.ndarray, receive_ns: int) -> None:
        if row["exchange_ns"][0] >= self._day_ends_ns:
            self._turn_day(int(row["exchange_ns"][0]) // DAY_NS)
        features = self.features.book(row)
        signal = self.detectors.step(features, self.features.meta)
        if signal is not None:
            self._tell("signals", signal, row)
        model = self._champion()
        if model is None:
            return
        out = self._prediction
        model.predict(features, self.features.meta, out)
        out["seq"] = self._seq
        self._seq += 1
        if self._clock is not None:
            out["latency_ns"] = self._clock() - receive_ns
        self._tell("predictions", out, row)

    def _turn_day(self, day: int) -> None:
        # From its first book on, a day is folded with the fits in force on it, as whoever rebuilds it will do.
        fits = self._ahead if self._day_ends_ns == day * DAY_NS else None
        self.features.use(fits or in_force(self._lake, self._venue, self._symbol, day_name(day)))
        self._day_ends_ns, self._ahead = (day + 1) * DAY_NS, None

    def look_ahead(self) -> None:
        """Read what fits tomorrow begins with, so that midnight opens no file."""
        if self._day_ends_ns and time.monotonic() >= self._look_s:
            self._look_s = time.monotonic() + _LOOK_S
            self.features.bars()  # a rebuild of the day writes them; here they would only pile up
            tomorrow = day_name(self._day_ends_ns // DAY_NS)
            self._ahead = in_force(self._lake, self._venue, self._symbol, tomorrow)

    def _tell(self, table: str, row: np.ndarray, book: np.ndarray) -> None:
        if self._unnamed is None:
            self._append(table, row)
        else:
            self._unnamed.add(table, row, book)

    def name(self, at_once: bool) -> None:
        """Append what waited for the numbers of its books."""
        if self._unnamed is not None:
            self._unnamed.release(at_once)

    async def warm_up(self, patience_s: float, is_over: Callable[[], bool]) -> None:
        """Let events that wait have their past, or start cold once patience is over.

        The past is folded in a thread while events go on waiting; then they are folded, oldest
        first, a hundredth of a second at a time, until none waits.
        """
        waiting, warm = self._pending, self._warm
        if waiting is None or warm is None or not self._has_book:
            return
        seen = list(waiting)
        n = len(seen)
        is_warm = await asyncio.to_thread(warm, self._symbol, self.features, self.detectors, seen, is_over)
        if not is_warm and (is_over() or time.monotonic() - self._opened_s < patience_s):
            return
        if is_warm:
            waiting[:n] = seen
        while waiting:
            self._fold_some(waiting, time.monotonic() + _SLICE_S)
            await asyncio.sleep(0)
        self._pending = None

    def _fold_some(self, waiting: list[Event], until_s: float) -> None:
        n = 0
        while n < len(waiting) and (n == 0 or time.monotonic() < until_s):
            event, row = waiting[n]
            self._fold(event, row, int(row["receive_ns"][0]))
            n += 1
        del waiting[:n]
