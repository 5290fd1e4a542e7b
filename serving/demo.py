"""The whole machine once, end to end, with nothing outside: what `make demo` runs.

simulated market -> captures -> lake -> features, labels -> model, judged -> champion
                 -> live sockets, scored -> report
"""

import asyncio
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from flows.settings import Settings
from models.promotion import Decision
from serving.child import running
from serving.steps import choices_of, costs_of, draw, refresh, registry_of
from simulator import frames, write_capture
from simulator.server import serve
from tasks.past import warm_from
from tasks.promote import promote
from tasks.record import Recorder, record
from tasks.replay import replay, session_of
from tasks.score import Champion, champion_of, score
from tasks.stream import Endpoints, stream
from tasks.train import Trained, train_model
from tasks.venues.binance import raw_symbol
from warehouse.lake import Lake

MARK = ".tidebook-demo"  # only a folder that bears it is ever cleared; it names the sessions that demos wrote
STREAMS = (("binance_usdm", "BTC-USDT-PERP"), ("binance_spot", "BTC-USDT"), ("binance_coinm", "BTC-USD-PERP"))
MINUTES = {"binance_usdm": 20.0, "binance_spot": 2.0, "binance_coinm": 2.0}
LIVE_S, LIVE_SPEED = 25.0, 3.0
Advance = Callable[..., None]


@dataclass
class Outcome:
    """What a demo built, by step, and where to look."""

    steps: list[tuple[str, str, float]] = field(default_factory=list)
    trained: Trained | None = None
    decision: Decision | None = None
    page: Path | None = None

    def add(self, step: str, what: str, began_s: float) -> None:
        """Note a finished step and how long it took."""
        self.steps.append((step, what, time.monotonic() - began_s))


def fresh_lake(root: Path) -> Lake:
    """Return an empty lake for a demo; a former demo's is cleared, anything else is left alone.

    Raises
    ------
    FileExistsError
        If the folder holds something that no demo made, sessions recorded into a demo's lake by others
        included, or if somebody works on it now.
    """
    if root.exists() and any(root.iterdir()):
        away = "name another folder with --lake"
        if not (root / MARK).is_file():
            raise FileExistsError(f"{root} holds something that is no demo's; {away}")
        old = Lake(root)
        ours = set((root / MARK).read_text().split())
        theirs = [f"{session} of {' '.join(stream)}" for stream in old.streams() for session in old.sessions(*stream)]
        theirs = [told for told in theirs if told.split()[0] not in ours and not told.startswith("score-")]  # scores are made again
        if theirs:
            raise FileExistsError(f"{root} holds recordings that no demo made, such as session {theirs[0]}; {away}, or delete it yourself")
        if holders := old.holders():
            raise FileExistsError(f"{root} is being written by process {', '.join(holders)}; stop it first, or {away}")
        if servers := running(root):
            raise FileExistsError(f"{root} is served by `tidebook up` ({', '.join(servers)}); stop it first, or {away}")
        shutil.rmtree(root)
    lake = Lake(root)
    (root / MARK).touch()
    return lake


def _recorder(lake: Lake, venue: str, session: str, *args: Any, **kwargs: Any) -> Recorder:
    with (lake.root / MARK).open("a") as mark:
        mark.write(f"{session}\n")
    return Recorder(lake, venue, session, *args, **kwargs)


def _simulate(lake: Lake, settings: Settings, advance: Advance) -> list[tuple[str, list[Path]]]:
    made = []
    now_ns = time.time_ns()
    for venue, symbol in STREAMS:
        advance(0, f"simulating {venue} {symbol}")
        seconds = 60.0 * MINUTES[venue]
        path = lake.root / "captures" / f"{venue}-{raw_symbol(venue, symbol).lower()}.zst"
        path.parent.mkdir(exist_ok=True)
        write_capture(path, frames(venue, raw_symbol(venue, symbol), seconds, settings.seed, start_ns=now_ns - int(seconds * 1e9)))
        made.append((venue, [path]))
        advance(1)
    return made


def _record(lake: Lake, captures: Sequence[tuple[str, list[Path]]], advance: Advance) -> tuple[int, int]:
    n_frames, n_rows = 0, 0
    for venue, files in captures:
        symbol, session = session_of(files)
        advance(0, f"recording {venue} {symbol}")
        recorder = _recorder(lake, venue, session)
        totals = asyncio.run(record(recorder, replay(files, symbol, progress=advance)))
        n_frames, n_rows = n_frames + totals.frames, n_rows + totals.committed
    return n_frames, n_rows


async def _live(lake: Lake, settings: Settings, venue: str, symbol: str, advance: Advance) -> int:
    # One process records, as `ingest` does, and another part of it scores, as `live` does; real sockets between.
    raw, stop = raw_symbol(venue, symbol), asyncio.Event()
    with Champion(settings.tracking_uri, settings.artifacts) as champion:
        async with await serve((venue,), {venue: [raw]}, seed=settings.seed + 1, speed=LIVE_SPEED) as market:
            where = Endpoints(market.ws_url(venue), market.rest_url(venue))
            recorder = _recorder(lake, venue, f"live-{uuid4()}", keep_raw=True)
            scorer = _recorder(
                lake, venue, f"score-{uuid4()}", champion.current, clock=time.time_ns, tables=(), warm=warm_from(lake, venue)
            )  # fmt: skip
            jobs = []
            for one in (recorder, scorer):
                one.stream(raw)
                jobs.append(asyncio.create_task(record(one, stream(venue, [raw], where, one.wanting, stop), stop)))
            for _ in range(int(LIVE_S)):
                await asyncio.sleep(1.0)
                advance(1, f"live: {scorer.totals.committed:,} books scored")
            stop.set()
            await asyncio.gather(*jobs)
    return scorer.totals.committed


def demo(settings: Settings, bar: Callable[..., Any], captures: Sequence[tuple[str, list[Path]]] = ()) -> Outcome:
    """Run the machine end to end and return what it built.

    Parameters
    ----------
    settings : Settings
        Of the demo's own lake.
    bar : callable
        `bar(title, total, in_bytes)` is a context manager that yields how to advance.
    captures : sequence of (venue, files)
        Real captures; without any a market is simulated and a live phase runs against it.
    """
    lake, outcome = fresh_lake(settings.lake), Outcome()
    simulated = not captures
    began = time.monotonic()
    if simulated:
        with bar("simulating", len(STREAMS), False) as advance:
            captures = _simulate(lake, settings, advance)
        size = sum(path.stat().st_size for _, files in captures for path in files)
        outcome.add("simulate", f"{len(captures)} venues, {size / 1e6:.1f} MB of frames in their own protocols", began)
    began = time.monotonic()
    with bar("recording", sum(path.stat().st_size for _, files in captures for path in files), True) as advance:
        n_frames, n_rows = _record(lake, captures, advance)
    outcome.add("record", f"{n_frames:,} frames, {n_rows:,} rows acknowledged and sealed", began)
    began = time.monotonic()
    with bar("features and labels", len(lake.partitions("l2_snapshots")), False) as advance:
        partitions = refresh(lake, settings, advance)
    outcome.add("refresh", f"{sum(p['features']['rows'] for p in partitions):,} feature rows in {len(partitions)} partitions", began)
    venue, symbol = _main_stream(partitions)
    began = time.monotonic()
    registry = registry_of(settings)
    with bar(f"training on {venue} {symbol}", None, False):
        outcome.trained = train_model(lake, registry, venue, symbol, choices_of(settings), costs=costs_of(settings))
        outcome.decision = promote(registry, outcome.trained.version, outcome.trained.result, outcome.trained.examples)
    outcome.add("train", f"version {outcome.trained.version}: {outcome.decision.why}", began)
    _score_and_report(lake, settings, outcome, venue, symbol, simulated, bar)
    return outcome


def _score_and_report(
    lake: Lake, settings: Settings, outcome: Outcome, venue: str, symbol: str, simulated: bool, bar: Callable[..., Any]
) -> None:
    began = time.monotonic()
    model = champion_of(settings.tracking_uri, settings.artifacts)
    if model is None:
        outcome.add("score", "nothing: no champion", began)
    elif simulated:
        with bar("live", int(LIVE_S), False) as advance:
            scored = asyncio.run(_live(lake, settings, venue, symbol, advance))
        outcome.add("live", f"{scored:,} books scored off a real socket by version {model.version}", began)
    else:
        with bar("scoring", None, False):
            done = score(lake, model, venue, symbol)
        outcome.add("score", f"{done['rows']:,} books by version {model.version}", began)
    began = time.monotonic()
    with bar("report", None, False):
        outcome.page = draw(lake, settings, venue, symbol)
        lake.compact()
        lake.publish()
    outcome.add("report", str(outcome.page), began)


def _main_stream(partitions: Sequence[dict[str, Any]]) -> tuple[str, str]:
    # The stream with most to learn from.
    rows: dict[tuple[str, str], int] = {}
    for p in partitions:
        key = (p["venue"], p["symbol"])
        rows[key] = rows.get(key, 0) + p["features"]["rows"]
    usdm = [key for key in rows if key[0] == "binance_usdm"]
    return usdm[0] if usdm else max(rows, key=lambda key: rows[key])
