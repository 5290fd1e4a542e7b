"""Streams that are subscribed and say nothing, on a connection that is alive."""

import time
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field

from tasks.feed.terms import Note
from warehouse.schema import STALL


@dataclass
class _Seen:
    begun_ns: int
    newest_ns: int = 0
    at_s: float = field(default_factory=time.monotonic)
    is_told: bool = False


class Stalls:
    """Tells of symbols from which nothing more comes, and of streams from which nothing ever came.

    A symbol's trades may rest for an hour; that is told only where the stream never spoke, and
    makes no stretch of time doubtful.

    Parameters
    ----------
    owner : mapping of hashable to str
        Raw symbol by name of stream.
    stall_s : float
        What counts as silence.
    """

    def __init__(self, owner: Mapping[Hashable, str], stall_s: float):
        self._owner, self._stall_s, now_ns = owner, stall_s, time.time_ns()
        self._symbols = {symbol: _Seen(now_ns) for symbol in owner.values()}
        self._names = {name: _Seen(now_ns) for name in owner}

    def forgive(self, now_s: float) -> None:
        """Begin to wait anew: we did not listen."""
        for seen in (*self._symbols.values(), *self._names.values()):
            seen.at_s = now_s

    def look(self, last: Mapping[Hashable, int], now_s: float, now_ns: int) -> Iterator[Note]:
        """Yield what is to be told, given the stamp of each stream's newest frame."""
        newest: dict[str, int] = {}
        for name, symbol in self._owner.items():
            newest[symbol] = max(newest.get(symbol, 0), last.get(name, 0))
        silent = [symbol for symbol, seen in self._symbols.items() if self._fell_silent(seen, newest[symbol], now_s)]
        spoke = [seen for seen in self._symbols.items() if seen[1].is_told and newest[seen[0]] != seen[1].newest_ns]
        for symbol, seen in spoke:
            yield Note(STALL, (symbol,), seen.newest_ns or seen.begun_ns, newest[symbol], f"heard again: {symbol}")
            seen.newest_ns, seen.at_s, seen.is_told = newest[symbol], now_s, False
        if silent:
            begun_ns = min(self._symbols[symbol].newest_ns or self._symbols[symbol].begun_ns for symbol in silent)
            yield Note(STALL, tuple(silent), begun_ns, now_ns, self._text(silent))
        never = [name for name, seen in self._names.items() if self._fell_silent(seen, last.get(name, 0), now_s) and not last.get(name)]
        told = [name for name in never if self._owner[name] not in silent]
        if told:
            symbols = tuple(dict.fromkeys(self._owner[name] for name in told))
            yield Note(STALL, symbols, now_ns, now_ns, self._text(told))

    def _fell_silent(self, seen: _Seen, newest_ns: int, now_s: float) -> bool:
        # True once, when the silence has lasted long enough.
        if seen.is_told:
            return False
        if newest_ns != seen.newest_ns:
            seen.newest_ns, seen.at_s = newest_ns, now_s
        seen.is_told = now_s - seen.at_s > self._stall_s
        return seen.is_told

    def _text(self, names: list[Hashable] | list[str]) -> str:
        text = " ".join(sorted(name.decode() if isinstance(name, bytes) else str(name) for name in names))
        return f"subscribed but silent for {self._stall_s:.1f} s: {text}"[:500]
