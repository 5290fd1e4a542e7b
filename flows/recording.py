"""What `ingest` and `live` share: one venue's sockets into a recorder, until told to stop."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import uuid4

from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.alone import alone
from flows.settings import LOOPBACK, Settings
from flows.standing import beside, drained, until_told
from tasks import monitor, notify
from tasks.record import Frames, Recorder, Totals, record
from tasks.stream import Endpoints, Patience, Rest, endpoints, instruments, rest_of, stream
from tasks.venues.directory import raw_symbol
from tasks.venues.ladder import Instrument
from tasks.venues.memento import saved
from tasks.witness import witness
from warehouse.lake import Lake

if TYPE_CHECKING:
    from tasks.broadcast import Broadcast

log = logging.getLogger(__name__)
PATIENCE_S = 20.0  # for a run that was closed and is about to let go
PUBLISHED_S = 180.0  # for the first state of a book in Redis: `ingest` starts at the same time
SHOW_S = 15.0
FLUSH_S = 6.0  # for the last artifacts: everything is sealed by then
CCXT = "ccxt_"  # how venues begin that ccxt.pro watches for us
SHARE = {"ingest": 0.6, "live": 0.3}  # of the venue's request budget: both may start at once, and neither knows of the other


async def recording(
    settings: Settings,
    job: str,
    venue: str,
    symbols: list[str] | None,
    seconds: float | None,
    recorder_for: Callable[[Lake, str], Recorder],
) -> State:
    """Feed one venue's frames to a recorder and return the run's final state.

    Parameters
    ----------
    job : str
        What is done to the venue; only one process does it at a time.
    recorder_for : callable
        Returns the recorder for a lake and a session.
    """
    wanted = tuple(symbols or settings.streams[venue])
    with alone(settings.lake, f"{job}-{venue}", PATIENCE_S) as first:
        if not first:
            return Completed(name="AlreadyRunning", message=f"another run does {job} of {venue}")
        recorder = recorder_for(Lake(settings.lake), f"{job}-{uuid4()}")
        async with until_told(seconds) as told:
            raw, where = [raw_symbol(venue, symbol) for symbol in wanted], endpoints_of(settings, venue)
            rest = rest_of(venue, Patience(share=SHARE[job]))
            recorder.instruments = await instruments_of(venue, where, rest)
            for symbol in raw:
                recorder.stream(symbol)  # a stream that another process writes fails here, not at its first frame
            frames, announce = _source(settings, job, recorder, raw, where, rest, told.stop), _announce(venue, wanted, settings.refresh_s)
            every_s = settings.witness_s if recorder.watch is not None else 0.0
            async with beside(witness(recorder, where, rest, every_s, raw) if every_s else None):
                totals = await drained(record(recorder, frames, told.stop, _show(recorder, job), announce, seal_s=settings.seal_s), told)
        rows = [{"symbol": symbol, **counts} for symbol, counts in recorder.counts().items()]
        monitor.table(f"{job}-{venue}-counts", rows, "frames by what became of them")
        monitor.flush(FLUSH_S)
        return told.state(f"{totals.frames:,} frames, {totals.committed:,} rows acknowledged")


def _source(settings: Settings, job: str, recorder: Recorder, raw: list[str], where: Endpoints, rest: Rest, stop: asyncio.Event) -> Frames:
    # Sockets, or what another process published off them; what is recorded is published where Redis is.
    url = settings.redis_url.get_secret_value()
    if not url or (job == "live" and not settings.live_from_redis):
        return frames_of(recorder, raw, where, rest, stop, settings.ccxt_silence_s)
    from tasks.broadcast import Broadcast  # only those who have Redis need its client
    from tasks.relayed import frames

    if job == "live":
        return frames(url, recorder.venue, raw, stop, recorder.take_up, PUBLISHED_S, recorder.wanting)
    return _publishing(Broadcast(url), recorder, frames_of(recorder, raw, where, rest, stop, settings.ccxt_silence_s))


async def _publishing(out: "Broadcast", recorder: Recorder, frames: Frames) -> Frames:
    from tasks.broadcast import published

    with out:
        recorder.lost = lambda symbol, receive_ns: out.frame(recorder.venue, symbol, receive_ns, b"")
        async for item in published(frames, recorder.venue, out, lambda symbol: saved(recorder.streams[symbol].adapter)):
            yield item
    if out.lost:
        log.warning("%d entries did not reach Redis", out.lost)


def frames_of(recorder: Recorder, raw: list[str], where: Endpoints, rest: Rest, stop: asyncio.Event, ccxt_silence_s: float) -> Frames:
    """Return the frames of a venue's sockets."""
    if recorder.venue.startswith(CCXT):
        from tasks.watch import watch  # ccxt takes seconds to import, and few need it

        return watch(recorder.venue, raw, stop, silence_s=ccxt_silence_s, told=recorder.note)
    return stream(recorder.venue, raw, where, recorder.wanting, stop, told=recorder.note, rest=rest)


async def instruments_of(venue: str, where: Endpoints, rest: Rest) -> Mapping[str, Instrument]:
    """Return what the venue says of its instruments, by raw symbol; empty where it does not answer."""
    if venue.startswith(CCXT):
        from tasks.watch import instruments as told_by_ccxt

        return await told_by_ccxt(venue)
    return await instruments(venue, where, rest)


def endpoints_of(settings: Settings, venue: str) -> Endpoints:
    """Return where a venue listens: the simulator where the settings say so."""
    if not settings.simulator_port:
        return endpoints(venue)
    address = f"{LOOPBACK}:{settings.simulator_port + list(settings.streams).index(venue)}"
    return Endpoints(f"ws://{address}{urlsplit(endpoints(venue).ws_url).path}", f"http://{address}")


def _show(recorder: Recorder, job: str) -> Callable[[Totals], None]:
    """Show, now and then, how many books are live and what was written, and each minute what it was."""
    next_s, shown = 0.0, [] if recorder.watch is None else recorder.watch.minutes

    def show(totals: Totals) -> None:
        nonlocal next_s
        if time.monotonic() < next_s:
            return
        next_s = time.monotonic() + SHOW_S
        adapters = [stream.adapter for stream in recorder.streams.values()]
        live = sum(adapter.is_live for adapter in adapters)
        rows = f"{totals.committed:,} rows acknowledged, {totals.sealed:,} sealed"
        text = f"{live} of {len(adapters)} books live; {totals.frames:,} frames; {rows}"
        monitor.progress(f"{job}-{recorder.venue}", 100.0 * live / max(len(adapters), 1), text)
        show_minutes()

    def show_minutes() -> None:
        nonlocal shown
        if recorder.watch is not None and recorder.watch.minutes is not shown:
            shown = recorder.watch.minutes
            monitor.table(f"{job}-{recorder.venue}-minutes", shown, "the last minute, stream by stream")

    return show


def _announce(venue: str, symbols: tuple[str, ...], every_s: float) -> Callable[[int], None]:
    """Say, not more often than `every_s`, that a partition has grown: it asks for a refresh."""
    next_s, grown = 0.0, 0

    def announce(rows: int) -> None:
        nonlocal next_s, grown
        grown += rows
        if grown and time.monotonic() >= next_s:
            for symbol in symbols:
                notify.partition_sealed(venue, symbol, datetime.now(UTC).date().isoformat(), grown)
            next_s, grown = time.monotonic() + every_s, 0

    return announce
