"""Frames into the lake: the one path that live sockets, replays and the simulator share.

    frame -> adapter -> book row -> [features -> signals, score] -> write-ahead, twice a second -> sealed

A row is acknowledged when `commit` has returned: from then on no kill loses it.  A full disk
stops the acknowledging, not the stream: rows wait in memory and go with a later commit.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from tasks.recorder import RECORDED, Recorder, Totals

__all__ = ["RECORDED", "Frames", "Recorder", "Totals", "record"]
COMMIT_S, SEAL_S = 0.5, 30.0
FULL_S = 0.2  # until a commit is tried again while reading waits for it
END_S = 1.0  # for frames to end in order once told
SEAL_WITHIN_S = 6.0  # once told, no stream is begun to be sealed after this: of hundreds some are left to the next start
PENDING = 200_000  # rows that may wait for a commit before reading stops: back-pressure, not loss
Frames = AsyncIterator[tuple[str, int, bytes]]


async def record(
    recorder: Recorder, frames: Frames, stop: asyncio.Event | None = None,
    told: Callable[[Totals], None] = lambda _: None, sealed: Callable[[int], None] = lambda _: None,
    commit_s: float = COMMIT_S, seal_s: float = SEAL_S,
) -> Totals:  # fmt: skip
    """Fold frames until they end or `stop` is set; commit and seal beside; leave everything acknowledged, and sealed.

    Told to stop, it seals for SEAL_WITHIN_S: what hundreds of streams leave after that is in the write-ahead
    log, where readers see it, and the next start seals it.

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
        asyncio.create_task(_warm_often(recorder, done, commit_s)),
    ]
    feeder, ender = asyncio.create_task(_feed(recorder, frames, told_to_end)), asyncio.create_task(told_to_end.wait())
    try:
        await asyncio.wait([feeder, ender, *keepers], return_when=asyncio.FIRST_COMPLETED)  # a keeper ends early only by an error
        if ender.done():
            recorder.writer.hurry(time.monotonic() + SEAL_WITHIN_S)
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
        while recorder.waiting > PENDING and not stop.is_set():
            await asyncio.to_thread(recorder.commit)
            if recorder.waiting > PENDING:
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
        recorder.look_ahead()
        told(recorder.totals)


async def _seal_often(recorder: Recorder, done: asyncio.Event, sealed: Callable[[int], None], every_s: float) -> None:
    # Beside the commits: with hundreds of streams a seal takes seconds, and rows must not wait so long.
    while not await _comes(done, every_s):
        rows = await asyncio.to_thread(recorder.seal)
        sealed(rows)


async def _warm_often(recorder: Recorder, done: asyncio.Event, every_s: float) -> None:
    # Beside the commits, too: the past of a busy day takes seconds.
    while not await _comes(done, every_s):
        await recorder.warm_up(is_over=done.is_set)


async def _comes(event: asyncio.Event, within_s: float) -> bool:
    with suppress(TimeoutError):
        return await asyncio.wait_for(event.wait(), within_s)
    return False
