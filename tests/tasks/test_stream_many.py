"""Many symbols at once: books begin within the venue's budget, and a refusal stops everybody."""

import asyncio
import time
from dataclasses import replace

import pytest

from simulator.faults import FaultPlan
from simulator.server import serve
from tasks.feed.rest import AskedTooMuchError, Budget, Rest
from tasks.stream import Endpoints, Patience, stream
from tasks.venues import directory
from tasks.venues.binance_wire import RULES, BinanceWire

VENUE = "binance_usdm"
QUICK = Patience(first_retry_s=0.02, last_retry_s=0.1, snapshot_s=0.1, timeout_s=5.0)
FAST = replace(RULES[VENUE], connects_s=50.0)


class Counted(Rest):
    """Remembers when it was asked for what."""

    def __init__(self, budget):
        super().__init__(budget, 5.0)
        self.asked, self.refused = [], []

    async def get(self, url):
        self.asked.append(time.monotonic())
        try:
            return await super().get(url)
        except AskedTooMuchError as error:
            self.refused.append(error.status)
            raise


class Books:
    """The adapters of many symbols, fed by one stream."""

    def __init__(self, symbols):
        self.adapters = {symbol: directory.adapter(VENUE, symbol) for symbol in symbols}

    def wanting(self):
        return [symbol for symbol, adapter in self.adapters.items() if adapter.needs_snapshot]

    @property
    def all_live(self):
        return all(adapter.is_live for adapter in self.adapters.values())


def follow(n, body, rest):
    symbols = [f"SIM{i:03d}USDT" for i in range(1, n + 1)]

    async def inside():
        async with (
            asyncio.timeout(60),
            await serve([VENUE], {VENUE: symbols}, seed=1, faults=FaultPlan(retry_s=1.0, ban_s=1.0)) as simulated,
        ):
            server, books, stop = simulated.venues[VENUE], Books(symbols), asyncio.Event()
            where = Endpoints(simulated.ws_url(VENUE), simulated.rest_url(VENUE))

            async def read():
                wire = BinanceWire(VENUE, ("depth",)).spread(n)
                async for symbol, stamp, frame in stream(
                    VENUE, symbols, where, books.wanting, stop, wire=wire, rules=FAST, patience=QUICK, rest=rest
                ):
                    for _ in books.adapters[symbol].receive(frame, stamp):
                        pass

            async def until(condition):
                while not condition():
                    assert not reading.done(), reading.exception()
                    await asyncio.sleep(0.01)

            reading = asyncio.create_task(read())
            try:
                await body(server, books, until)
            finally:
                stop.set()
                await reading

    asyncio.run(inside())


def most_in_a_window(times, window_s):
    return max(sum(begin <= other < begin + window_s for other in times) for begin in times)


@pytest.mark.slow
def test_all_books_begin_within_the_budget_at_the_start_and_after_a_mass_disconnect():
    n, window_s, a_window = 24, 2.0, 10
    rest = Counted(Budget(20.0 * a_window, window_s))

    async def body(server, books, until):
        await until(lambda: books.all_live)
        assert len(rest.asked) == n, "no request was in vain"
        server.disconnect()
        await until(lambda: not books.all_live)
        await until(lambda: books.all_live)

    follow(n, body, rest)
    assert len(rest.asked) == 2 * n
    assert most_in_a_window(rest.asked, window_s - 0.5) <= a_window, "half a second for those that leave late"
    assert not rest.refused


@pytest.mark.parametrize("fault", ["limit", "ban"])
def test_a_refusal_stops_every_symbol_for_as_long_as_the_venue_says(fault):
    rest = Counted(Budget(0.0, 60.0))
    blocked = []

    async def body(server, books, until):
        server.arm(fault)
        await until(lambda: rest.budget.blocked_s(time.monotonic()) > 0)
        blocked.append((time.monotonic(), rest.budget.blocked_s(time.monotonic())))
        await until(lambda: books.all_live)

    follow(6, body, rest)
    (began_s, pause_s), *_ = blocked
    assert 0.0 < pause_s <= 2.0
    assert set(rest.refused) == {{"limit": 429, "ban": 418}[fault]}
    assert len(rest.refused) <= 6, "only requests that were under way with the first are refused as well"
    assert not [at for at in rest.asked if began_s + 0.05 < at < began_s + pause_s - 0.05]
