"""Frames into the lake: the one path that live sockets, replays and the simulator share.

    frame -> adapter -> book row -> [features -> signals, score] -> write-ahead, once a second -> sealed

A row is acknowledged when `commit` has returned: from then on no kill loses it.  A full disk
stops the acknowledging, not the stream: rows wait in memory and go with a later commit.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np

from models.fits import Fits
from tasks.detectors.fold import Detectors
from tasks.features.fold import Features
from tasks.feed.latency import add_book, add_trade
from tasks.feed.terms import Note
from tasks.feed.watch import TOLD, Watch
from tasks.fitted import DAY_NS, in_force
from tasks.named import Unnamed
from tasks.venues import directory
from tasks.venues.errors import NoSnapshotError
from tasks.venues.events import BOOK, CHANGE, QUOTE, TRADE, UNREADABLE
from tasks.venues.ladder import Instrument
from tasks.venues.memento import restore, saved
from tasks.venues.wire import Adapter
from warehouse.errors import LakeFullError
from warehouse.lake import Lake
from warehouse.raw import RawWriter
from warehouse.schema import GAP, row_dtype

COMMIT_S, SEAL_S = 0.5, 30.0
FULL_S = 0.2  # until a commit is tried again while reading waits for it
_LOOK_S = 60.0  # between looks for the fits of the day to come
END_S = 1.0  # for frames to end in order once told
RECORDED = ("l2_snapshots", "trades", "coverage_changes", "unreadable")
PENDING = 200_000  # rows that may wait for a commit before reading stops: back-pressure, not loss
PREDICTION = row_dtype("predictions")
Frames = AsyncIterator[tuple[str, int, bytes]]
Event = tuple[int, np.ndarray]
Warm = Callable[[str, Features, Detectors, list[Event]], bool]


class Model(Protocol):
    """What the recorder needs of a champion."""

    def predict(self, features: np.ndarray, meta: np.ndarray, out: np.ndarray) -> None:
        """Fill a prediction, shape (1,), from the features of one book and their meta record."""
        ...


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
        while it cannot.
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
        self._pending = 0
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
        pending: list[Event] | None = [] if self._warm is not None else None
        detectors = Detectors(first_seq=int(session.base.get("signals", 0)))
        features = Features(keeps_bars=False)
        made = _Stream(adapter, features, detectors, raw, session.append, int(session.base.get("predictions", 0)), pending)
        if self._model is not None and not self._records:
            made.unnamed = Unnamed(self.lake, self.venue, symbol, session.append)
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
        if was_lost and adapter.is_live and self._model is not None:
            change = adapter.change.copy()
            change["exchange_ns"], change["state"] = adapter.row["exchange_ns"], adapter.state
            self._on_other(stream, CHANGE, change, stream.features.change)

    def note(self, note: Note) -> None:
        """Keep what the feed told of, where there is a watch."""
        if self.watch is not None:
            self.watch.note(note)

    def take(self, raw_symbol: str, receive_ns: int, frame: bytes) -> None:
        """Fold one frame: the hot path.  Allocates no task, opens no file, waits for nobody."""
        stream = self.streams.get(raw_symbol) or self.stream(raw_symbol)
        adapter, append = stream.adapter, stream.append
        self.totals.frames += 1
        if stream.raw is not None:
            stream.raw.write(receive_ns, frame)
        for event in adapter.receive(frame, receive_ns):
            if event == QUOTE:
                continue
            self._pending += 1
            if event == BOOK:
                if self._records:
                    append("l2_snapshots", adapter.row)
                if stream.late is not None:
                    add_book(stream.book_words, stream.late)
                if stream.heard is not None:
                    stream.heard.append(adapter.row.copy())
                if self._model is not None:
                    self._on_book(stream, receive_ns)
            elif event == TRADE:
                if self._records:
                    append("trades", adapter.trade)
                if stream.late is not None:
                    add_trade(stream.trade_words, stream.late)
                if self._model is not None:
                    self._on_other(stream, event, adapter.trade, stream.features.trade)
            elif event == CHANGE:
                stream.heard = None  # rows from both sides of a turn are no witness's
                if self.watch is not None:
                    self.watch.tell_doubts(raw_symbol)  # before the change: no commit may have the one without the other
                if self._records:
                    append("coverage_changes", adapter.change)
                if self._model is not None:
                    self._on_other(stream, event, adapter.change, stream.features.change)
            elif event == UNREADABLE and self._records:
                append("unreadable", [adapter.unreadable])

    def _on_other(self, stream: "_Stream", event: int, row: np.ndarray, fold: Callable[[np.ndarray], None]) -> None:
        if stream.pending is None:
            fold(row)
        else:
            stream.pending.append((event, row.copy()))

    def _on_book(self, stream: "_Stream", receive_ns: int) -> None:
        if stream.pending is None:
            self._score(stream, stream.adapter.row, receive_ns)
        else:
            stream.pending.append((BOOK, stream.adapter.row.copy()))

    def _score(self, stream: "_Stream", row: np.ndarray, receive_ns: int) -> None:
        if row["exchange_ns"][0] >= stream.day_ends_ns:
            self._turn_day(stream, int(row["exchange_ns"][0]) // DAY_NS)
        features = stream.features.book(row)
        signal = stream.detectors.step(features, stream.features.meta)
        if signal is not None:
            self._tell(stream, "signals", signal, row)
        model = self._model() if self._model else None
        if model is None:
            return
        out = stream.prediction
        model.predict(features, stream.features.meta, out)
        out["seq"] = stream.prediction_seq
        stream.prediction_seq += 1
        if self._clock is not None:
            out["latency_ns"] = self._clock() - receive_ns
        self._tell(stream, "predictions", out, row)

    def _turn_day(self, stream: "_Stream", day: int) -> None:
        # From its first book on, a day is folded with the fits in force on it, as whoever rebuilds it will do.
        fits = stream.fits_ahead if stream.day_ends_ns == day * DAY_NS else None
        stream.features.use(fits or in_force(self.lake, self.venue, stream.adapter.symbol, str(np.datetime64(day, "D"))))
        stream.day_ends_ns, stream.fits_ahead = (day + 1) * DAY_NS, None

    def look_ahead(self) -> None:
        """Read what fits tomorrow begins with, for streams that are scored, so that midnight opens no file."""
        for stream in self.streams.values():
            if stream.day_ends_ns and time.monotonic() >= stream.look_s:
                stream.look_s = time.monotonic() + _LOOK_S
                stream.features.bars()  # a rebuild of the day writes them; here they would only pile up
                tomorrow = str(np.datetime64(stream.day_ends_ns // DAY_NS, "D"))
                stream.fits_ahead = in_force(self.lake, self.venue, stream.adapter.symbol, tomorrow)

    def _tell(self, stream: "_Stream", table: str, row: np.ndarray, book: np.ndarray) -> None:
        if stream.unnamed is None:
            stream.append(table, row)
        else:
            stream.unnamed.add(table, row, book)

    def _name(self, at_once: bool) -> None:
        with self._naming:  # commits may come from two threads
            for stream in list(self.streams.values()):
                if stream.unnamed is not None:
                    stream.unnamed.release(at_once)

    def warm_up(self, patience_s: float = 5.0) -> None:
        """Let streams that wait for their past have it, or start cold once their patience is over."""
        for stream in self.streams.values():
            if stream.pending is None or self._warm is None or not any(event == BOOK for event, _ in stream.pending):
                continue
            is_warm = self._warm(stream.adapter.symbol, stream.features, stream.detectors, stream.pending)
            if not is_warm and time.monotonic() - stream.opened_s < patience_s:
                continue
            waiting, stream.pending = stream.pending, None
            for event, row in waiting:
                if event == BOOK:
                    self._score(stream, row, int(row["receive_ns"][0]))
                elif event == TRADE:
                    stream.features.trade(row)
                else:
                    stream.features.change(row)

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
        self._pending = 0
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
            self.writer.close()

    def unjoined(self) -> list[NoSnapshotError]:
        """Return an error for each stream whose depth events never met a snapshot."""
        waiting = [(s.adapter, getattr(s.adapter, "buffered", 0)) for s in self.streams.values() if not s.adapter.is_live]
        return [NoSnapshotError(adapter.symbol, buffered) for adapter, buffered in waiting if buffered]

    def counts(self) -> dict[str, dict[str, int]]:
        """Return what became of the frames of each symbol."""
        return {stream.adapter.symbol: stream.adapter.counts for stream in self.streams.values()}

    @property
    def is_behind(self) -> bool:
        """Return whether so many rows wait for a commit that reading should pause."""
        return self._pending > PENDING


@dataclass
class _Stream:
    adapter: Adapter
    features: Features
    detectors: Detectors
    raw: RawWriter | None
    append: Callable[[str, Any], int]
    prediction_seq: int
    pending: list[Event] | None  # events that wait for their past
    unnamed: Unnamed | None = None  # where another process records the stream: what waits for its numbers
    opened_s: float = field(default_factory=time.monotonic)
    prediction: np.ndarray = field(default_factory=lambda: np.zeros(1, PREDICTION))
    day_ends_ns: int = 0  # of the day whose fits are in use
    fits_ahead: Fits | None = None  # of the day behind it, as of the last look
    look_s: float = 0.0  # when to look again, monotonic
    heard: list[np.ndarray] | None = None  # books kept for a witness
    late: np.ndarray | None = None  # latencies, where they are counted, and the views that they are read from
    book_words: np.ndarray | None = None
    trade_words: np.ndarray | None = None


async def record(
    recorder: Recorder, frames: Frames, stop: asyncio.Event | None = None,
    told: Callable[[Totals], None] = lambda _: None, sealed: Callable[[int], None] = lambda _: None,
    commit_s: float = COMMIT_S, seal_s: float = SEAL_S,
) -> Totals:  # fmt: skip
    """Fold frames until they end or `stop` is set; commit and seal beside; leave everything sealed.

    Parameters
    ----------
    recorder : Recorder
    frames : async iterator of (symbol, receive_ns, frame)
        `tasks.stream.stream` off sockets, `tasks.replay.replay` off captures.
    stop : asyncio.Event, optional
        Set it to end the run in order.
    told, sealed : callable
        Called after each commit with the totals, and after each seal with the rows sealed.

    Returns
    -------
    Totals
    """
    done, told_to_end = asyncio.Event(), stop or asyncio.Event()
    keepers = [
        asyncio.create_task(_commit_often(recorder, done, told, commit_s)),
        asyncio.create_task(_seal_often(recorder, done, sealed, seal_s)),
    ]
    feeder, ender = asyncio.create_task(_feed(recorder, frames, told_to_end)), asyncio.create_task(told_to_end.wait())
    try:
        await asyncio.wait([feeder, ender, *keepers], return_when=asyncio.FIRST_COMPLETED)  # a keeper ends early only by an error
        if ender.done():
            await asyncio.wait([feeder], timeout=END_S)
    finally:
        ender.cancel()
        feeder.cancel()
        done.set()
        try:
            await asyncio.wait([feeder, *keepers])
        finally:
            await _leave(recorder, told)
    for task in (feeder, *keepers):
        if not task.cancelled():
            task.result()  # raises what ended it
    return recorder.totals


async def _feed(recorder: Recorder, frames: Frames, stop: asyncio.Event) -> None:
    async for raw_symbol, receive_ns, frame in frames:
        recorder.take(raw_symbol, receive_ns, frame)
        while recorder.is_behind and not stop.is_set():
            await asyncio.to_thread(recorder.commit)
            if recorder.is_behind:
                await _comes(stop, FULL_S)
        if stop.is_set():
            break


async def _leave(recorder: Recorder, told: Callable[[Totals], None]) -> None:
    # Each step is owed whatever became of the one before.
    try:
        if recorder.watch is not None:
            recorder.watch.close_minute()
    finally:
        try:
            await asyncio.to_thread(recorder.commit)
        finally:
            await asyncio.to_thread(recorder.close)
            told(recorder.totals)


async def _commit_often(recorder: Recorder, done: asyncio.Event, told: Callable[[Totals], None], every_s: float) -> None:
    while not await _comes(done, every_s):
        if recorder.watch is not None:
            recorder.watch.tick()
        await asyncio.to_thread(recorder.commit)
        recorder.warm_up()
        recorder.look_ahead()
        told(recorder.totals)


async def _seal_often(recorder: Recorder, done: asyncio.Event, sealed: Callable[[int], None], every_s: float) -> None:
    # Beside the commits: with hundreds of streams a seal takes seconds, and rows must not wait so long.
    while not await _comes(done, every_s):
        rows = await asyncio.to_thread(recorder.seal)
        sealed(rows)


async def _comes(event: asyncio.Event, within_s: float) -> bool:
    with suppress(TimeoutError):
        return await asyncio.wait_for(event.wait(), within_s)
    return False
