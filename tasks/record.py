"""Frames into the lake: the one path that live sockets, replays and the simulator share.

    frame -> adapter -> book row -> [features -> score] -> write-ahead, once a second -> sealed

A row is acknowledged when `commit` has returned: from then on no kill loses it.  A full disk
stops the acknowledging, not the stream: rows wait in memory and go with a later commit.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from tasks.features.fold import Features
from tasks.venues.binance import Binance, canonical_symbol
from tasks.venues.errors import NoSnapshotError
from tasks.venues.events import BOOK, CHANGE, QUOTE, TRADE, UNREADABLE
from warehouse.errors import LakeFullError
from warehouse.lake import Lake
from warehouse.raw import RawWriter
from warehouse.schema import OK, START, row_dtype

COMMIT_S, SEAL_S = 1.0, 30.0
RECORDED = ("l2_snapshots", "trades", "coverage_changes", "unreadable")
PENDING = 200_000  # rows that may wait for a commit before reading stops: back-pressure, not loss
PREDICTION = row_dtype("predictions")
Frames = AsyncIterator[tuple[str, int, bytes]]


class Model(Protocol):
    """What the recorder needs of a champion: a score of one row of features, and which version gave it."""

    version: int
    warm_ns: int

    def score(self, features: np.ndarray) -> tuple[float, float]:
        """Return raw score and probability."""
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
    keep_raw : bool
        Keep the frames themselves as well, so that today can be replayed tomorrow.
    clock : callable, optional
        Nanoseconds now, for the latency of scores; None in a replay, where it means nothing.
    """

    def __init__(
        self, lake: Lake, venue: str, session_id: str, model: Callable[[], Model | None] | None = None,
        keep_raw: bool = False, clock: Callable[[], int] | None = None,
    ):  # fmt: skip
        self.lake, self.venue, self.session_id = lake, venue, session_id
        self.writer = lake.writer()
        self.totals = Totals()
        self._model, self._keep_raw, self._clock = model, keep_raw, clock
        self.streams: dict[str, _Stream] = {}
        self._pending = 0

    def stream(self, raw_symbol: str) -> "_Stream":
        """Return the state of one symbol, opened on first use."""
        found = self.streams.get(raw_symbol)
        if found is None:
            found = self.streams[raw_symbol] = self._open(raw_symbol)
        return found

    def _open(self, raw_symbol: str) -> "_Stream":
        symbol = canonical_symbol(self.venue, raw_symbol)
        tables = RECORDED if self._model is None else (*RECORDED, "predictions")
        session = self.writer.session(self.venue, symbol, self.session_id, tables)
        base: Mapping[str, int] = {**session.base, "event": session.base_event_seq}
        adapter = Binance(self.venue, raw_symbol, base, session.since_ns)
        raw = RawWriter(self.lake.root, self.venue, symbol) if self._keep_raw else None
        return _Stream(adapter, Features(), raw, session.append, int(session.base.get("predictions", 0)))

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
                append("l2_snapshots", adapter.row)
                if self._model is not None:
                    self._score(stream, receive_ns)
            elif event == TRADE:
                append("trades", adapter.trade)
                if self._model is not None:
                    stream.features.trade(adapter.trade)
            elif event == CHANGE:
                append("coverage_changes", adapter.change)
                stream.features.change(adapter.change)
            elif event == UNREADABLE:
                append("unreadable", [adapter.unreadable])

    def _score(self, stream: "_Stream", receive_ns: int) -> None:
        features = stream.features.book(stream.adapter.row)
        model = self._model() if self._model else None
        if model is None:
            return
        out, meta = stream.prediction, stream.features.meta
        predict(model, features, meta, out)
        out["seq"] = stream.prediction_seq
        stream.prediction_seq += 1
        if self._clock is not None:
            out["latency_ns"] = self._clock() - receive_ns
        stream.append("predictions", out)

    def commit(self) -> int:
        """Acknowledge everything folded so far; on a full disk nothing is acknowledged and nothing lost."""
        try:
            rows = self.writer.commit()
            for stream in list(self.streams.values()):
                if stream.raw is not None:
                    stream.raw.flush()
        except LakeFullError:
            self.totals.full += 1
            return 0
        self._pending = 0
        self.totals.committed += rows
        return rows

    def wanting(self) -> list[str]:
        """Return the symbols whose book waits for a REST snapshot."""
        return [raw for raw, stream in self.streams.items() if stream.adapter.needs_snapshot]

    def close(self) -> None:
        """Acknowledge and seal what there is, and let the streams go."""
        for stream in self.streams.values():
            if stream.raw is not None:
                stream.raw.close()
        self.writer.close()

    def unjoined(self) -> list[NoSnapshotError]:
        """Return an error for each stream whose depth events never met a snapshot."""
        waiting = [s.adapter for s in self.streams.values() if not s.adapter.is_live and s.adapter.buffered]
        return [NoSnapshotError(adapter.symbol, adapter.buffered) for adapter in waiting]

    def counts(self) -> dict[str, dict[str, int]]:
        """Return what became of the frames of each symbol."""
        return {stream.adapter.symbol: stream.adapter.counts for stream in self.streams.values()}

    @property
    def is_behind(self) -> bool:
        """Return whether so many rows wait for a commit that reading should pause."""
        return self._pending > PENDING


@dataclass
class _Stream:
    adapter: Binance
    features: Features
    raw: RawWriter | None
    append: Callable[[str, Any], int]
    prediction_seq: int
    prediction: np.ndarray = field(default_factory=lambda: np.zeros(1, PREDICTION))


def predict(model: Model, features: np.ndarray, meta: np.ndarray, out: np.ndarray) -> None:
    """Fill a prediction of one book: NaN and the cause where the stream is doubtful or not warm.

    Parameters
    ----------
    model : Model
    features : ndarray of float64, shape (n features,)
    meta : ndarray of META, shape (1,)
    out : ndarray of the `predictions` record, shape (1,)
    """
    for name in ("exchange_ns", "receive_ns", "event_seq"):
        out[name] = meta[name]
    out["book_seq"] = meta["seq"]
    out["model_version"] = model.version
    doubt = int(meta["doubt"][0]) or (OK if meta["clean_ns"][0] >= model.warm_ns else START)
    out["doubt"] = doubt
    if doubt == OK:
        out["raw_score"], out["probability"] = model.score(features)
    else:
        out["raw_score"] = out["probability"] = np.nan


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
    done = asyncio.Event()
    keeper = asyncio.create_task(_keep(recorder, done, told, sealed, commit_s, seal_s))
    try:
        async for raw_symbol, receive_ns, frame in frames:
            recorder.take(raw_symbol, receive_ns, frame)
            if recorder.is_behind:
                await asyncio.to_thread(recorder.commit)
            if stop is not None and stop.is_set() or keeper.done():
                break
    finally:
        done.set()
        await keeper
        await asyncio.to_thread(recorder.commit)
        await asyncio.to_thread(recorder.close)
        told(recorder.totals)
    return recorder.totals


async def _keep(
    recorder: Recorder, done: asyncio.Event, told: Callable[[Totals], None], sealed: Callable[[int], None], commit_s: float, seal_s: float
) -> None:
    # One thread's work at a time: a commit never races a seal.
    last_seal = time.monotonic()
    while not done.is_set():
        try:
            await asyncio.wait_for(done.wait(), commit_s)
        except TimeoutError:
            await asyncio.to_thread(recorder.commit)
            told(recorder.totals)
            if time.monotonic() - last_seal >= seal_s:
                last_seal = time.monotonic()
                rows = await asyncio.to_thread(recorder.writer.seal)
                recorder.totals.sealed += rows or 0
                sealed(rows or 0)
