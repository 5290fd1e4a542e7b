"""Record and check: what comes from captures, venues and simulated venues."""

import asyncio
import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from cli.shared import FAILED, FOUND, USAGE, AsJson, Files, LakeRoot, Quiet, Venue, app, bar, console, fail, known_errors, settings, slim


@app.command()
def replay(
    files: Annotated[list[Path], typer.Argument(help="captures in the order of time, or hours of a lake's own `raw` folder")],
    venue: Venue,
    lake: LakeRoot = None,
    speed: Annotated[str, typer.Option(help="max, or a multiple of real time such as 1")] = "max",
    quiet: Quiet = False,
) -> None:
    """Record captures into the lake through the live path; again is safe, and goes on where a kill left off."""
    from tasks.order import check_order
    from tasks.record import Recorder, record
    from tasks.replay import CaptureTruncatedError, routed, symbols_of
    from tasks.replay import replay as frames_of
    from warehouse.lake import Lake
    from warehouse.raw import captures

    try:
        pace = 0.0 if speed == "max" else float(speed)
    except ValueError:
        pace = math.nan
    if not 0 <= pace < math.inf or (pace == 0 and speed != "max"):
        raise typer.BadParameter(f"speed must be 'max' or a number above 0, received {speed!r}")
    kept = captures(files)
    if kept:
        again(kept, files, venue, lake, quiet)
        return
    cut: CaptureTruncatedError | None = None
    with known_errors():
        one = venue.startswith("binance")  # a capture of one symbol; those of other venues hold whole connections
        raw_symbols, session = symbols_of(files, venue, 1 if one else 1000)
        store = Lake(settings(lake).lake)
        check_order(store, venue, files, raw_symbols, session)
        recorder = Recorder(store, venue, session)
        for raw_symbol in raw_symbols:
            recorder.stream(raw_symbol)
        with bar(f"replaying {', '.join(raw_symbols[:5])}", sum(path.stat().st_size for path in files), quiet) as advance:
            frames = frames_of(files, raw_symbols[0], pace, advance)
            try:
                asyncio.run(record(recorder, frames if one else routed(frames, venue, raw_symbols)))
            except CaptureTruncatedError as error:
                cut = error
    totals = recorder.totals
    console.print(f"{venue} into {recorder.lake.root}: {totals.frames:,} frames, {totals.committed:,} rows acknowledged", soft_wrap=True)
    table = slim("symbol", "books", "trades", "gaps", "crossed", "unreadable")
    for symbol, counts in recorder.counts().items():
        table.add_row(symbol, *(f"{counts[name]:,}" for name in ("book_updates", "trades", "gaps", "crossed", "unreadable")))
    console.print(table)
    problems: list[BaseException] = [*recorder.unjoined(), *([cut] if cut else [])]
    if recorder.totals.full:
        console.print(f"[red]the disk was full {recorder.totals.full} times; what was acknowledged is safe[/]")
    for problem in problems:
        fail(problem)
    if problems:
        raise typer.Exit(FAILED)


def again(kept: list[Any], paths: list[Path], venue: str, lake: Path | None, quiet: bool) -> None:
    """Replay what a lake captured itself: files or folders of `raw`, any hour of them."""
    from tasks.rerun import rerun
    from warehouse.lake import Lake

    with known_errors():
        store = Lake(settings(lake).lake)
        with bar("replaying captures", sum(capture.path.stat().st_size for capture in kept), quiet) as advance:
            done = rerun(store, venue, paths, advance)
    console.print(f"{venue} into {store.root}", soft_wrap=True)
    table = slim("symbol", "files", "frames", "books", "trades", "new rows", "stood on")
    for one in done:
        counts = (one.files, one.frames, one.rows["l2_snapshots"], one.rows["trades"], one.new)
        table.add_row(one.symbol, *(f"{n:,}" for n in counts), one.stood_on)
    console.print(table)
    torn = [path for one in done for path in one.torn]
    for path in torn:
        console.print(f"[yellow]- {path} is cut short: a kill left it so, or the disk; what it holds was used[/]")
    if torn:
        raise typer.Exit(FAILED)


@app.command()
def verify(
    files: Files,
    venue: Venue,
    symbol: Annotated[str, typer.Option(help="the venue's own name of the one to look at; else the first in the capture")] = "",
    as_json: AsJson = False,
    lake: LakeRoot = None,
    quiet: Quiet = False,
) -> None:
    """Replay captures and report whether book, trades, features and scores can be believed."""
    from tasks.replay import only, read_capture, symbols_of
    from tasks.score import champion_of
    from tasks.verify import verify as check

    with known_errors():
        one = venue.startswith("binance")
        raw_symbols, _ = symbols_of(files, venue, 1 if one else 1000)
        raw_symbol = symbol or raw_symbols[0]
        machine = settings(lake)
        model = champion_of(machine.tracking_uri, machine.artifacts) if lake else None
        scorer, name = (model.scorer, f"champion {model.version}") if model else (None, "")
        with bar(f"verifying {raw_symbol}", sum(path.stat().st_size for path in files), quiet or as_json) as advance:
            frames = read_capture(files, advance)
            verdict = check(frames if one else only(frames, venue, raw_symbols, raw_symbol), venue, raw_symbol, scorer, name)
    if as_json:
        print(json.dumps(verdict.as_dict()))
    else:
        table = Table("check", "value", title=f"{venue} {verdict.symbol}")
        for key, value in verdict.as_dict().items():
            if key not in ("problems", "venue", "symbol"):
                table.add_row(key, f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value))
        console.print(table)
    for problem in verdict.problems:
        console.print(f"[yellow]- {problem}[/]")
    raise typer.Exit(0 if verdict.is_good else FOUND)


@app.command()
def backfill(
    venue: Venue,
    symbol: Annotated[str, typer.Option(help="our name: BTC-USDT, BTC-USDT-PERP, BTC-USD-PERP")],
    what: Annotated[str, typer.Option(help="of ohlcv, funding and open-interest, commas between")] = "ohlcv",
    timeframe: Annotated[str, typer.Option(help="of candles and of open interest: 1m, 5m, 1h, 1d")] = "1m",
    since: Annotated[str, typer.Option(help="first day, YYYY-MM-DD, UTC; else the last 7 days")] = "",
    until: Annotated[str, typer.Option(help="day behind the last, YYYY-MM-DD, UTC; else now")] = "",
    rest_url: Annotated[str, typer.Option(help="of a server that stands for the venue, such as a simulator")] = "",
    lake: LakeRoot = None,
    quiet: Quiet = False,
) -> None:
    """Fetch candles, funding rates or open interest over REST; again is safe, and asks only for what is missing.

    tidebook backfill --venue binance_usdm --symbol BTC-USDT-PERP --what ohlcv,funding --since 2026-01-01
    """
    import time
    from datetime import UTC, datetime

    from tasks.fetch import fetch
    from tasks.history import FetchError, Source, exchange
    from warehouse.lake import Lake

    try:
        days = [int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp() * 1000) if text else 0 for text in (since, until)]
    except ValueError:
        raise typer.BadParameter(f"days must read YYYY-MM-DD, received {since or until!r}") from None
    start_ms, end_ms = days[0] or int(time.time() * 1000) - 7 * 86_400_000, days[1] or None
    table = Table("what", "rows", "pages", "whole from", "to", title=f"{venue} {symbol}")
    with known_errors(FetchError):
        store, client = Lake(settings(lake).lake), exchange(venue, rest_url)
        for kind in what.split(","):
            source = Source(client, venue, symbol, kind.strip(), timeframe)
            span_ms = (end_ms or client.milliseconds()) - start_ms
            with bar(f"{kind} of {symbol}", span_ms // 60_000, quiet, in_bytes=False) as advance:
                found = fetch(store, source, start_ms, end_ms, lambda done_ms, rows, advance=advance: advance(done_ms // 60_000))
            spoken = [f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M}" for ms in (found.start_ms, found.end_ms)]
            table.add_row(kind, f"{found.rows:,}", f"{found.pages:,}", *spoken)
    console.print(table)


@app.command()
def simulate(
    venues: Annotated[str, typer.Option(help="comma-separated, or all")] = "binance_spot,binance_usdm,binance_coinm",
    symbols: Annotated[str, typer.Option(help="how many a venue (BTC, ETH, SOL, SIM001, ...), or VENUE:RAW,VENUE:RAW")] = "3",
    port: Annotated[int, typer.Option(min=0, max=65535, help="of the first venue; the next ones follow")] = 9001,
    seed: Annotated[int, typer.Option(help="same seed, same market and same luck")] = 7,
    speed: Annotated[float, typer.Option(min=0.001, help="market seconds a second")] = 1.0,
    hidden: Annotated[bool, typer.Option(help="whether there is anything to learn in it")] = True,
    coupled: Annotated[bool, typer.Option(help="one worth an asset draws all venues, some later than others")] = True,
    faults: Annotated[str, typer.Option(help="what goes wrong, see above")] = "",
    ledger: Annotated[Path | None, typer.Option(help="folder to write what was truly published, to compare with")] = None,
) -> None:
    r"""Serve simulated venues on loopback in their own protocols, until Ctrl-C.

    \b
    Faults are told as drop=0.001,close=60s,restart=@30;90,skew_ms=-400
      NAME=0.001    of one message (or REST request) in a thousand
      NAME=60s      every 60 s in the mean, at random times
      NAME=@30;90   30 s and 90 s after the start
    of a message:    drop duplicate reorder corrupt truncate checksum sequence delay
    of a connection: silent (one stream), half_open, close
    of the venue:    restart (numbers begin anew, or connections close with 1012)
    of REST:         stale (an old book), limit (429), ban (418)
    how much:        delay_ms=200 silent_s=15 retry_s=2 ban_s=10 skew_ms=0 lifetime_s=0 close_codes=1000;1001;1006;1012;4000

    \b
    tidebook simulate --venues kraken,okx --faults drop=0.001,close=60s --ledger /tmp/ledger
    curl "http://127.0.0.1:9001/fapi/v1/depth?symbol=BTCUSDT&limit=5"
    """
    from serving.simulate import simulate_venues
    from simulator.faults import FaultSyntaxError
    from simulator.instruments import UnknownInstrumentError
    from simulator.wires import UnknownVenueError

    try:
        simulate_venues(venues, symbols, port, seed, speed, hidden, coupled, faults, ledger)
    except (FaultSyntaxError, UnknownInstrumentError, UnknownVenueError) as error:
        raise fail(error, USAGE) from None
    except OSError as error:
        raise fail(error) from None
