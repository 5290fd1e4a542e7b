import asyncio
import os
import signal

import pytest

from flows.standing import until_told


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
