"""Always, where several venues trade one asset: their best prices side by side, each quarter of a second."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.alone import alone
from flows.between import assets
from flows.recording import PATIENCE_S, endpoints_of, instruments_of
from flows.settings import Settings
from flows.standing import until_told
from tasks import monitor
from tasks.aligned import funding_hour
from tasks.normalise import Normaliser
from tasks.stream import Patience, rest_of, stream
from tasks.venues.directory import raw_symbol
from warehouse.lake import Lake

SHARE = 0.1  # of each venue's request budget
COMMIT_S, SEAL_S, SHOW_S = 0.5, 30.0, 15.0
FUNDING_S = 30.0  # before they count, funding rates are read: nobody waits for the disk then


@flow
async def normalise(base: str | None = None, seconds: float | None = None) -> State:
    """Write rows of `consolidated` for one base asset until told to stop; publish them where Redis is.

    Parameters
    ----------
    base : str, optional
        BTC; the asset that most venues trade if not given.
    seconds : float, optional
        End by itself after this long.
    """
    settings = Settings()
    known = assets(settings)
    base = base or max(known, key=lambda name: len(known[name]), default="")
    if base not in known:
        return Completed(name="NothingToAlign", message=f"no two venues of TIDEBOOK_STREAMS trade {base or 'one asset'}")
    with alone(settings.lake, f"normalise-{base}", PATIENCE_S) as first, contextlib.ExitStack() as held:
        if not first:
            return Completed(name="AlreadyRunning", message=f"another run normalises {base}")
        publish = None
        if url := settings.redis_url.get_secret_value():
            from tasks.broadcast import Broadcast

            publish = held.enter_context(Broadcast(url)).row
        async with until_told(seconds) as told:
            venues, instruments, lake = known[base], {}, Lake(settings.lake)
            feeds = {venue: (endpoints_of(settings, venue), rest_of(venue, Patience(share=SHARE))) for venue in venues}
            for venue, (where, rest) in feeds.items():
                raw = raw_symbol(venue, venues[venue])
                if made := (await instruments_of(venue, where, rest)).get(raw):
                    instruments[venue] = made
            normaliser = Normaliser(lake, base, venues, settings.quote_rates, {"": settings.taker_fee_bps}, instruments, publish)
            normaliser.look_up_funding(time.time_ns())
            await _run(normaliser, feeds, told.stop)
        return told.state(f"{normaliser.rows:,} rows of {base} over {len(venues)} venues")


async def _run(normaliser: Normaliser, feeds: dict, stop: asyncio.Event) -> None:
    queue: asyncio.Queue = asyncio.Queue(20_000)

    async def feed(venue: str) -> None:
        where, rest = feeds[venue]
        raw = raw_symbol(venue, normaliser.symbols[venue])
        frames: AsyncIterator = stream(venue, [raw], where, lambda: normaliser.wanting(venue), stop, rest=rest)
        async for _, receive_ns, frame in frames:
            await queue.put((venue, receive_ns, frame))

    jobs = [asyncio.create_task(feed(venue)) for venue in feeds]
    keeper = asyncio.create_task(_keep(normaliser, stop))
    try:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                normaliser.take(*await asyncio.wait_for(queue.get(), 0.2))
            while not queue.empty():
                normaliser.take(*queue.get_nowait())
            for job in [*jobs, keeper]:
                if job.done() and (error := job.exception()) is not None:
                    raise error
    finally:
        stop.set()
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, keeper, return_exceptions=True)
        await asyncio.to_thread(normaliser.writer.close)


async def _keep(normaliser: Normaliser, stop: asyncio.Event) -> None:
    sealed_s = shown_s = time.monotonic()
    hour = funding_hour(time.time_ns())
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), COMMIT_S)
        await asyncio.to_thread(normaliser.commit)
        now = time.monotonic()
        if now - sealed_s >= SEAL_S:
            sealed_s = now
            await asyncio.to_thread(normaliser.seal)
        soon_ns = time.time_ns() + round(FUNDING_S * 1e9)
        if funding_hour(soon_ns) > hour:
            hour = funding_hour(soon_ns)
            await asyncio.to_thread(normaliser.look_up_funding, soon_ns)
        if now - shown_s >= SHOW_S:
            shown_s = now
            fold = normaliser.fold
            there = fold.row["mid"][0][: len(fold.venues)]
            here = int((there == there).sum())
            monitor.progress(
                f"normalise-{normaliser.base}",
                100.0 * here / len(fold.venues),
                f"{here} of {len(fold.venues)} venues; {normaliser.rows:,} rows",
            )
