import asyncio
import os
import signal
import time

import anyio
import pytest

from flows.standing import Told, drained, until_told


async def _run(seconds=None, during=lambda: None):
    written = 0
    async with until_told(seconds) as told:
        asyncio.get_running_loop().call_later(0.05, during)
        while not told.stop.is_set():
            await asyncio.sleep(0.01)
        written += 1  # what a writer still does after the signal
        await asyncio.sleep(0.05)
        written += 1
    return told, written


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_in_order(number):
    told, written = asyncio.run(_run(during=lambda: os.kill(os.getpid(), number)))
    assert written == 2
    assert told.why == number.name
    state = told.state("2 rows")
    assert state.is_cancelled()
    assert state.message == f"2 rows; ended by {number.name}"


def test_time_that_is_up_completes_the_run():
    told, written = asyncio.run(_run(seconds=0.05))
    assert written == 2
    assert told.state("done").is_completed()


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    asyncio.run(_run(seconds=0.02))
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_first_reason_counts():
    def both():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)

    told, _ = asyncio.run(_run(seconds=5.0, during=both))
    assert told.cancelled
    assert told.why in ("SIGTERM", "SIGINT")


def test_a_lost_lease_does_not_end_what_is_done():
    told, written = Told(), []

    async def work():
        while not told.stop.is_set():
            await asyncio.sleep(0.01)
            written.append(time.monotonic())
        await asyncio.sleep(0.05)
        written.append("sealed")

    async def run():
        loop = asyncio.get_running_loop()
        with anyio.CancelScope() as scope:
            loop.call_later(0.05, scope.cancel)
            loop.call_later(0.4, told.end, "state Cancelling")
            began = time.monotonic()
            await drained(work(), told)
        return scope.cancelled_caught, began

    caught, began = asyncio.run(run())
    assert caught
    assert written[-2] - began > 0.3
    assert written[-1] == "sealed"
    assert told.why == "state Cancelling"
