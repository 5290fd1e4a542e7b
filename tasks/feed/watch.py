"""What is known of streams beside their rows: a row a minute each, and findings when something happened."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tasks.feed.clocks import Clock, Steady
from tasks.feed.latency import least, new_histogram, quantiles_ms
from tasks.feed.terms import Note
from tasks.venues.ladder import Instrument
from tasks.venues.wire import Adapter
from warehouse.schema import CLOCK_JUMP, QUEUE_FULL, RECONNECT, SUSPECT, TABLES, row_dtype

logger = logging.getLogger(__name__)
TOLD = ("stream_minutes", "findings", "instruments")  # the tables that a watch writes
_MINUTE_NS = 60_000_000_000
_COUNTED = {
    "messages": "messages", "books": "book_updates", "trades": "trades", "gaps": "gaps", "resyncs": "resyncs",
    "checksum_failures": "checksum_failures", "unreadable": "unreadable", "suspects": "suspects",
}  # fmt: skip
Append = Callable[[str, Any], int]


@dataclass
class Watched:
    """One stream under watch; `late` counts the latency of its rows."""

    adapter: Adapter
    append: Append
    seq: dict[str, int]
    late: np.ndarray = field(default_factory=new_histogram)
    before: dict[str, int] = field(default_factory=dict)
    events: dict[int, int] = field(default_factory=dict)  # finding code to how often this minute


class Watch:
    """The streams of one venue as seen from beside.

    Parameters
    ----------
    wall_ns, monotonic_ns : callable
        Our clocks.

    Attributes
    ----------
    minutes : list of dict
        The rows of the last minute, for people.
    """

    def __init__(self, wall_ns: Callable[[], int] = time.time_ns, monotonic_ns: Callable[[], int] = time.monotonic_ns):
        self._wall_ns, self._monotonic_ns = wall_ns, monotonic_ns
        self._clock, self._steady = Clock(), Steady()
        self._streams: dict[str, Watched] = {}
        self._minute = 0
        self.minutes: list[dict[str, Any]] = []

    def open(self, raw_symbol: str, adapter: Adapter, append: Append, base: Mapping[str, int]) -> Watched:
        """Watch a stream from now on; `base` holds the first numbers of `TOLD`."""
        made = self._streams[raw_symbol] = Watched(adapter, append, {table: base[table] for table in TOLD})
        return made

    def find(
        self, raw_symbol: str, kind: int, begin_ns: int, end_ns: int, detail: str, expected: float = 0.0, received: float = 0.0
    ) -> None:
        """Write a finding about one stream; the stretch is on the venue's clock."""
        watched = self._streams[raw_symbol]
        row = {
            "exchange_ns": begin_ns, "receive_ns": self._wall_ns(), "seq": watched.seq["findings"], "end_ns": max(begin_ns, end_ns),
            "kind": kind, "expected": expected, "received": received, "detail": detail,
        }  # fmt: skip
        watched.append("findings", [row])
        watched.seq["findings"] += 1
        watched.events[kind] = watched.events.get(kind, 0) + 1

    def note(self, note: Note) -> None:
        """Write what the feed told of; a full queue is counted and told once a minute."""
        ahead_ns = self.ahead_ns()
        for symbol in note.raw_symbols:
            watched = self._streams.get(symbol)
            if watched is None:
                continue
            if note.kind == QUEUE_FULL and watched.events.get(QUEUE_FULL):
                watched.events[QUEUE_FULL] += 1
            else:
                self.find(symbol, note.kind, note.begin_ns + ahead_ns, note.end_ns + ahead_ns, note.detail)

    def tick(self) -> None:
        """Look at the clocks, and once a minute write a row a stream; call it every second or so."""
        now_ns = self._wall_ns()
        self._look_at_clocks(now_ns)
        for raw_symbol in self._streams:
            self.tell_doubts(raw_symbol)
        minute = now_ns // _MINUTE_NS
        if minute != self._minute:
            if self._minute:
                self.close_minute()
            self._minute = minute

    def tell_doubts(self, raw_symbol: str) -> None:
        """Write which stretches an adapter doubts, where it holds its book against a second stream."""
        doubts = getattr(self._streams[raw_symbol].adapter, "doubts", None)
        while doubts:
            begin_ns, end_ns, why = doubts.popleft()
            self.find(raw_symbol, SUSPECT, begin_ns, end_ns, why)

    def _look_at_clocks(self, now_ns: int) -> None:
        set_by = self._steady.step(now_ns, self._monotonic_ns())
        if set_by:
            self._tell_jump(now_ns, set_by, "our clock was set")
        found = [least(watched.late) for watched in self._streams.values()]
        floors = [late for late, n in found if n]
        if floors:
            jump = self._clock.add(now_ns, min(floors), sum(n for _, n in found))
            if jump:
                self._tell_jump(now_ns, jump, "our clock or the venue's was set, or the way between them changed")

    def _tell_jump(self, now_ns: int, jump_ns: int, what: str) -> None:
        logger.warning("%s: by %+.0f ms", what, jump_ns / 1e6)
        ahead_ns = self.ahead_ns()
        for symbol in self._streams:
            self.find(symbol, CLOCK_JUMP, now_ns + ahead_ns, now_ns + ahead_ns, f"{what}: {jump_ns / 1e6:+.0f} ms", 0.0, jump_ns / 1e6)

    def ahead_ns(self) -> int:
        """Return how far the venue's clock is ahead of ours, at least; 0 before anything is known."""
        offset_ns = self._clock.offset_ns
        return 0 if math.isnan(offset_ns) else int(offset_ns)

    def close_minute(self) -> None:
        """Write what the minute was, a row a stream."""
        now_ns = self._wall_ns()
        begin_ns = (self._minute or now_ns // _MINUTE_NS) * _MINUTE_NS
        self.minutes = []
        for raw_symbol, watched in self._streams.items():
            self.tell_doubts(raw_symbol)
            row = np.zeros(1, row_dtype("stream_minutes"))
            counts = watched.adapter.counts
            row["exchange_ns"], row["receive_ns"], row["seq"] = begin_ns, now_ns, watched.seq["stream_minutes"]
            for name, counted in _COUNTED.items():
                row[name] = counts.get(counted, 0) - watched.before.get(counted, 0)
            row["reconnects"], row["queue_full"] = watched.events.get(RECONNECT, 0), watched.events.get(QUEUE_FULL, 0)
            row["latency_p50_ms"], row["latency_p95_ms"], row["latency_p99_ms"] = quantiles_ms(watched.late)
            row["offset_ms"], row["drift_ppm"] = self._clock.offset_ns / 1e6, self._clock.drift_ppm
            watched.append("stream_minutes", row)
            watched.seq["stream_minutes"] += 1
            watched.before, watched.events = dict(counts), {}
            names = [name for name in TABLES["stream_minutes"].names if name not in ("exchange_ns", "receive_ns", "seq")]
            self.minutes.append({"symbol": watched.adapter.symbol} | {name: _plain(row[name][0]) for name in names})

    def instrument(self, raw_symbol: str, told: Instrument, known: np.ndarray) -> bool:
        """Write what a venue says of an instrument, unless it is what the last row of `known` says already."""
        watched = self._streams[raw_symbol]
        row = np.zeros(1, row_dtype("instruments"))
        row["exchange_ns"] = row["receive_ns"] = self._wall_ns()
        row["seq"] = watched.seq["instruments"]
        row["tick"], row["lot"], row["contract_usd"], row["contract_base"] = told.tick, told.lot, told.contract_usd, told.contract_base
        names = ["tick", "lot", "contract_usd", "contract_base"]
        if known.size and known[names][-1] == row[names][0]:
            return False
        watched.append("instruments", row)
        watched.seq["instruments"] += 1
        return True


def _plain(value: Any) -> int | float | None:
    # A table that people see takes no NaN.
    number = value.item()
    return None if isinstance(number, float) and math.isnan(number) else round(number, 3)
