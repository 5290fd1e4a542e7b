"""How a run that stands for days ends: in order, when told, with nothing lost.

Prefect's own handling cancels every asyncio task at once on SIGTERM, which loses what a writer
still holds; and when the server was away for a while, its cancel never arrives.  So a standing
run takes the signals itself and looks up its own state from time to time.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

import anyio
from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed

log = logging.getLogger(__name__)
LOOK_EVERY_S = 10.0
PATIENCE_S = 3.0
T = TypeVar("T")


class Told:
    """Whether and why a run was told to end."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.why = ""
        self.cancelled = False

    def end(self, why: str, cancelled: bool = True) -> None:
        """End the run, for the first reason given."""
        if not self.stop.is_set():
            self.why, self.cancelled = why, cancelled
            self.stop.set()

    def state(self, message: str) -> State:
        """Return the final state: Cancelled if somebody ended the run, else Completed."""
        if self.cancelled:
            return Cancelled(message=f"{message}; ended by {self.why}")
        return Completed(message=message)


@contextlib.asynccontextmanager
async def until_told(seconds: float | None = None) -> AsyncIterator[Told]:
    """Watch for SIGTERM, SIGINT, a cancel in the UI and the end of `seconds`."""
    told, loop = Told(), asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        loop.add_signal_handler(number, told.end, number.name)
    alarm = loop.call_later(seconds, told.end, f"{seconds} s", False) if seconds is not None else None
    watcher = asyncio.create_task(_watch_own_state(told))
    try:
        yield told
    finally:
        watcher.cancel()
        if alarm is not None:
            alarm.cancel()
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


@contextlib.asynccontextmanager
async def beside(work: Coroutine[Any, Any, None] | None) -> AsyncIterator[None]:
    """Do `work` beside the block; when it fails that is told, and the block goes on."""

    async def watched() -> None:
        try:
            if work is not None:
                await work
        except Exception:
            log.exception("what ran beside ended")

    task = asyncio.create_task(watched())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def drained(work: Coroutine[Any, Any, T], told: Told) -> T:
    """Return what `work` gives; where Prefect cancels the run, `work` goes on until told to end.

    Nobody who wants an end cancels from within: a signal or the state of the run tells that.  What
    is left is a lease that an absent server could not renew, and that must not end a recording.
    Prefect cancels whole scopes and then every await in them, those of a `finally` too; a task of
    its own is in no such scope.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not told.stop.is_set():
            log.warning("Prefect cancelled the run, for a lease that was not renewed: work goes on until told to end")
        with anyio.CancelScope(shield=True):
            await task
        raise


async def _watch_own_state(told: Told) -> None:
    run_id = runtime.flow_run.id
    while run_id and not told.stop.is_set():
        await asyncio.sleep(LOOK_EVERY_S)
        try:
            async with asyncio.timeout(PATIENCE_S), get_client() as client:
                state = (await client.read_flow_run(run_id)).state
        except Exception as error:  # a server that is away must not end a recording
            log.info("own state not readable: %s: %s", type(error).__name__, error)
            continue
        if state is not None and (state.is_cancelling() or state.is_final()):
            told.end(f"state {state.name}")
