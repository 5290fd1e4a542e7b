"""What becomes of a frame: book rows and trades for the lake, and scores of them, stream by stream of one venue."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tasks.feed.latency import add_book, add_trade
from tasks.feed.terms import Note
from tasks.feed.watch import TOLD, Watch
from tasks.named import Unnamed
from tasks.scored import Model, Scored, Warm
from tasks.venues import directory
from tasks.venues.errors import NoSnapshotError
from tasks.venues.events import BOOK, CHANGE, QUOTE, TRADE, UNREADABLE
from tasks.venues.ladder import Instrument
from tasks.venues.memento import restore, saved
from tasks.venues.wire import Adapter
from warehouse.errors import LakeFullError
from warehouse.lake import Lake
from warehouse.raw import RawWriter
from warehouse.schema import GAP

logger = logging.getLogger(__name__)
RECORDED = ("l2_snapshots", "trades", "coverage_changes", "unreadable")


@dataclass
class Totals:
    """What a run has done so far; printed, published and tested."""

    frames: int = 0
    committed: int = 0
    sealed: int = 0
    full: int = 0


class Recorder:
    """The streams of one venue, folded and written by one process.

    Parameters
    ----------
    lake : Lake
    venue : str
    session_id : str
        Of a replay: the same capture gets the same, so a restart continues it.  Of a live
        run: a new one.
    model : callable, optional
        Returns the champion to score with, or None; asked for every book, so that it may change.
    tables : sequence of str
        What this process writes.  A scorer that runs beside a recorder of the same stream
        writes predictions and signals only.
    warm : callable, optional
        Given a symbol, its features, its detectors and the events since the first book, brings
        both to where they would be had they run on, and leaves the events that follow; False
        while it cannot, or once its last argument says that nobody waits for it.  Called in a thread.
    keep_raw : bool
        Keep the frames themselves as well, so that today can be replayed tomorrow.
    clock : callable, optional
        Nanoseconds now, for the latency of scores; None in a replay, where it means nothing.
    watch : Watch, optional
        Also writes minutes, findings and instruments; None in a replay.

    Attributes
    ----------
    instruments : mapping of str to Instrument
        What the venue says of its instruments, by raw symbol; counts for streams opened from then on.
    waiting : int
        Rows that are not acknowledged yet.
    lost : callable, optional
        Given raw symbol and time of a book that is given up without a frame: other readers of the frames must hear of it.
    """

    def __init__(
        self, lake: Lake, venue: str, session_id: str, model: Callable[[], Model | None] | None = None, keep_raw: bool = False,
        clock: Callable[[], int] | None = None, tables: Sequence[str] = RECORDED, warm: Warm | None = None,
        watch: Watch | None = None,
    ):  # fmt: skip
        self.lake, self.venue, self.session_id = lake, venue, session_id
        self.writer = lake.writer()
        self.totals = Totals()
        self._model, self._keep_raw, self._clock = model, keep_raw, clock
        self._tables = tuple(tables) if model is None else (*tables, "predictions", "signals")
        self._tables += TOLD if watch is not None else ()
        self._records, self._warm, self.watch = "l2_snapshots" in tables, warm, watch
        self.instruments: Mapping[str, Instrument] = {}
        self.streams: dict[str, _Stream] = {}
        self.lost: Callable[[str, int], None] | None = None
        self.waiting = 0
        self._naming = threading.Lock()

    def stream(self, raw_symbol: str) -> "_Stream":
        """Return the state of one symbol, opened on first use."""
        found = self.streams.get(raw_symbol)
        if found is None:
            found = self.streams[raw_symbol] = self._open(raw_symbol)
        return found

    def _open(self, raw_symbol: str) -> "_Stream":
        symbol = directory.canonical_symbol(self.venue, raw_symbol)
        session = self.writer.session(self.venue, symbol, self.session_id, self._tables)
        base = session.start
        told = self.instruments.get(raw_symbol)
        adapter = directory.adapter(self.venue, raw_symbol, base, session.since_ns, instrument=told)
        raw = RawWriter(self.lake.root, self.venue, symbol, partial(saved, adapter), self.session_id) if self._keep_raw else None
        made = _Stream(adapter, raw, session.append)
        if self._model is not None:
            unnamed = None if self._records else Unnamed(self.lake, self.venue, symbol, session.append)
            made.scored = Scored(self.lake, self.venue, symbol, self._model, session.append, session.base, self._clock, self._warm, unnamed)
        if self.watch is not None:
            watched = self.watch.open(raw_symbol, adapter, session.append, session.base)
            made.late, made.book_words, made.trade_words = watched.late, adapter.row.view(np.int64), adapter.trade.view(np.int64)
            if told is not None:
                self.watch.instrument(raw_symbol, told, self.lake.rows("instruments", self.venue, symbol))
        return made

    def listen(self, raw_symbol: str, begin: bool) -> np.ndarray | None:
        """Keep a stream's books from now on, or return those kept; None where the stream turned meanwhile."""
        stream = self.streams[raw_symbol]
        kept, stream.heard = stream.heard, [stream.adapter.row.copy()] if begin else None
        return None if begin or kept is None else np.concatenate(kept)

    def lose(self, raw_symbol: str, receive_ns: int) -> None:
        """Give up a book of which something beside its stream says that it is wrong; it begins anew."""
        if self.lost is not None:
            self.lost(raw_symbol, receive_ns)
        self.take(raw_symbol, receive_ns, b"")

    def take_up(self, raw_symbol: str, state: bytes, since: Sequence[tuple[int, bytes]] = ()) -> None:
        """Let a stream go on from what another process's adapter knew, and the (receive_ns, frame) pairs that came since.

        Their rows are told to nobody; only that the book is good again, where it was lost.
        """
        stream = self.streams[raw_symbol]
        adapter = stream.adapter
        was_lost = adapter.state == GAP
        restore(adapter, state)
        for receive_ns, frame in since:
            for _ in adapter.receive(frame, receive_ns):
                pass
        if was_lost and adapter.is_live and stream.scored is not None:
            change = adapter.change.copy()
            change["exchange_ns"], change["state"] = adapter.row["exchange_ns"], adapter.state
            stream.scored.take(CHANGE, change, 0)

    def note(self, note: Note) -> None:
        """Keep what the feed told of, where there is a watch."""
        if self.watch is not None:
            self.watch.note(note)

    def take(self, raw_symbol: str, receive_ns: int, frame: bytes) -> None:
        """Fold one frame: the hot path.  Allocates no task, opens no file, waits for nobody."""
        stream = self.streams.get(raw_symbol) or self.stream(raw_symbol)
        adapter, append, scored = stream.adapter, stream.append, stream.scored
        self.totals.frames += 1
        if stream.raw is not None:
            stream.raw.write(receive_ns, frame)
        for event in adapter.receive(frame, receive_ns):
            if event == QUOTE:
                continue
            self.waiting += 1
            if event == BOOK:
                if self._records:
                    append("l2_snapshots", adapter.row)
                if stream.late is not None:
                    add_book(stream.book_words, stream.late)
                if stream.heard is not None:
                    stream.heard.append(adapter.row.copy())
                if scored is not None:
                    scored.take(BOOK, adapter.row, receive_ns)
            elif event == TRADE:
                if self._records:
                    append("trades", adapter.trade)
                if stream.late is not None:
                    add_trade(stream.trade_words, stream.late)
                if scored is not None:
                    scored.take(TRADE, adapter.trade, receive_ns)
            elif event == CHANGE:
                stream.heard = None  # rows from both sides of a turn are no witness's
                if self.watch is not None:
                    self.watch.tell_doubts(raw_symbol)  # before the change: no commit may have the one without the other
                if self._records:
                    append("coverage_changes", adapter.change)
                if scored is not None:
                    scored.take(CHANGE, adapter.change, receive_ns)
            elif event == UNREADABLE and self._records:
                append("unreadable", [adapter.unreadable])

    def look_ahead(self) -> None:
        """Read what fits tomorrow begins with, for streams that are scored, so that midnight opens no file."""
        for scored in self._scored():
            scored.look_ahead()

    async def warm_up(self, patience_s: float = 5.0, is_over: Callable[[], bool] = lambda: False) -> None:
        """Let streams that wait for their past have it, or start cold once their patience is over; all go on hearing meanwhile.

        `is_over` is asked now and then: whether nobody waits for it any more.
        """
        for scored in self._scored():
            await scored.warm_up(patience_s, is_over)

    def _scored(self) -> list[Scored]:
        return [stream.scored for stream in list(self.streams.values()) if stream.scored is not None]

    def _name(self, at_once: bool) -> None:
        with self._naming:  # commits may come from two threads
            for scored in self._scored():
                scored.name(at_once)

    def commit(self) -> int:
        """Acknowledge everything folded so far; on a full disk nothing is acknowledged and nothing lost."""
        for stream in list(self.streams.values()):
            if stream.raw is not None:
                with suppress(LakeFullError):  # it tries again; the rows matter more
                    stream.raw.flush()  # before their rows: a kill in between leaves frames that can be replayed
        self._name(at_once=False)
        try:
            rows = self.writer.commit()
        except LakeFullError:
            self.totals.full += 1
            return 0
        self.waiting = 0
        self.totals.committed += rows
        return rows

    def seal(self) -> int:
        """Move what was acknowledged into the tables and return the rows; on a full disk they stay acknowledged."""
        try:
            rows = self.writer.seal()
        except LakeFullError:
            self.totals.full += 1
            return 0
        self.totals.sealed += rows
        return rows

    def wanting(self) -> list[str]:
        """Return the symbols whose book waits for a REST snapshot."""
        return [raw for raw, stream in self.streams.items() if stream.adapter.needs_snapshot]

    def close(self) -> None:
        """Acknowledge and seal what there is, and let the streams go."""
        for stream in self.streams.values():
            if stream.raw is not None:
                with suppress(LakeFullError):
                    stream.raw.close()
        try:
            self._name(at_once=True)
        finally:
            left = self.writer.close()
        if left:
            logger.info("%s: %.1f MB are acknowledged and not sealed yet; the next start seals them", self.venue, left / 1e6)

    def unjoined(self) -> list[NoSnapshotError]:
        """Return an error for each stream whose depth events never met a snapshot."""
        waiting = [(s.adapter, getattr(s.adapter, "buffered", 0)) for s in self.streams.values() if not s.adapter.is_live]
        return [NoSnapshotError(adapter.symbol, buffered) for adapter, buffered in waiting if buffered]

    def counts(self) -> dict[str, dict[str, int]]:
        """Return what became of the frames of each symbol."""
        return {stream.adapter.symbol: stream.adapter.counts for stream in self.streams.values()}


@dataclass
class _Stream:
    adapter: Adapter
    raw: RawWriter | None
    append: Callable[[str, Any], int]
    scored: Scored | None = None  # where there is a model
    heard: list[np.ndarray] | None = None  # books kept for a witness
    late: np.ndarray | None = None  # latencies, where they are counted, and the views that they are read from
    book_words: np.ndarray | None = None
    trade_words: np.ndarray | None = None
