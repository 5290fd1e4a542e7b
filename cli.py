"""The command line: each command says what it will do, shows progress, and ends with an exit code that means something.

0 done; 1 done, and something is wrong with the data or the model; 2 wrong usage; 3 it could
not be done (unreadable capture, lake that cannot be written, missing server).
"""

import asyncio
import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_show_locals=False, rich_markup_mode=None)
console = Console(stderr=True)
FOUND, USAGE, FAILED = 1, 2, 3

Files = Annotated[list[Path], typer.Argument(help="captures in the order of time: lines `<receive_ns> <frame>`, plain, gzip or zstd")]
Venue = Annotated[str, typer.Option(help="such as binance_usdm, bybit_linear, coinbase_exchange, kraken, okx, hyperliquid")]
LakeRoot = Annotated[Path | None, typer.Option("--lake", help="root of the lake; else TIDEBOOK_LAKE, else ./data")]
Quiet = Annotated[bool, typer.Option("--quiet", help="no progress bars: for logs")]
Symbol = Annotated[str, typer.Option(help="our name: BTC-USDT, BTC-USDT-PERP, BTC-USD-PERP")]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON object on standard output")]


def settings(lake: Path | None) -> Any:
    """Return the settings of this machine, with the lake of this call."""
    from flows.settings import Settings

    return Settings(lake=lake) if lake else Settings()


def fail(error: BaseException, code: int = FAILED) -> "typer.Exit":
    """Say what went wrong in one line and return the exit to raise."""
    console.print(f"[bold red]{type(error).__name__}[/]: {error}", highlight=False, soft_wrap=True)
    return typer.Exit(code)


@contextmanager
def bar(title: str, total: int | None, quiet: bool, in_bytes: bool = True) -> Iterator[Any]:
    """Yield a function that advances a progress bar on standard error, or does nothing when quiet."""
    amount = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), amount, TimeElapsedColumn())
    with Progress(*columns, console=console, disable=quiet, transient=False) as progress:
        job = progress.add_task(title, total=total)

        def advance(amount: int = 0, say: str | None = None) -> None:
            progress.update(job, advance=amount, **({"description": say} if say else {}))

        yield advance


def slim(*headings: str) -> Table:
    """Return a table without rules between its columns: headings stay whole in 80 columns; the first column may fold."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for number, heading in enumerate(headings):
        table.add_column(heading, no_wrap=number > 0, justify="right" if number else "left")
    return table


def known(error: BaseException) -> bool:
    """Return whether an error is one that the project raises on purpose."""
    from models.errors import ModelError
    from tasks.replay import CaptureError
    from tasks.venues.errors import VenueError
    from warehouse.errors import WarehouseError

    return isinstance(error, (ModelError, CaptureError, VenueError, WarehouseError))


@contextmanager
def known_errors(*also: type[BaseException]) -> Iterator[None]:
    """Turn an error that the project raises on purpose into one line and exit code 3."""
    try:
        yield
    except Exception as error:
        if known(error) or isinstance(error, also):
            raise fail(error) from None
        raise


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
def sql(
    query: Annotated[str, typer.Argument(help='for example "SELECT * FROM coverage"; `SHOW TABLES` lists what there is')],
    lake: LakeRoot = None,
    output: Annotated[str, typer.Option("--format", help="table, json or csv")] = "table",
    limit: Annotated[int, typer.Option(help="rows shown as a table; 0 for all")] = 100,
) -> None:
    """Query the lake with DuckDB, the last unsealed second included."""
    from warehouse.lake import Lake

    if output not in ("table", "json", "csv"):
        raise typer.BadParameter(f"format must be table, json or csv, received {output!r}")
    with known_errors():
        rows = Lake(settings(lake).lake, create=False).sql(query)
    if output == "json":
        from serving.answers import as_json

        print(as_json(rows.column_names, [column.to_pylist() for column in rows.columns]))
        return
    frame = rows.to_pandas()
    if output == "csv":
        print(frame.to_csv(index=False), end="")
    else:
        shown = frame if limit == 0 else frame.head(limit)
        table = Table(*map(str, frame.columns))
        for row in shown.itertuples(index=False):
            table.add_row(*map(str, row))
        Console().print(table)
        if len(shown) < len(frame):
            console.print(f"{len(frame):,} rows, {len(shown)} shown; --limit 0 shows all")


@app.command()
def quality(
    lake: LakeRoot = None,
    venue: Annotated[str | None, typer.Option(help="of one venue only")] = None,
    symbol: Annotated[str | None, typer.Option(help="of one symbol only, by our name")] = None,
    since: Annotated[
        str | None, typer.Option(help="of the time since then: 90s, 15m, 6h, 2d ago, or a time UTC such as 2026-01-31T06:00")
    ] = None,
    docs: Annotated[bool, typer.Option("--docs", help="also hold every day against its rules and write Data Docs")] = False,
    limit: Annotated[int, typer.Option(help="rows shown, the newest; 0 for all")] = 50,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say what is missing or doubtful, when and why, and how much of each stream is covered; 1 if anything is doubtful."""
    from serving.quality import partitions_of, since_of
    from serving.quality import show as show_quality
    from warehouse.lake import Lake
    from warehouse.quality import quality as look_at

    try:
        since_ns = since_of(since)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    page = None
    with known_errors():
        store = Lake(settings(lake).lake, create=False)
        if docs:
            from tasks.validate import look

            partitions = partitions_of(store, venue, symbol, since_ns)
            with bar("holding days against their rules", len(partitions), quiet or as_json, in_bytes=False) as advance:
                found = look(store, partitions, progress=advance)
            page = found[0].docs if found else None
        rows, totals = look_at(store, venue, symbol, since_ns)
    show_quality(rows, totals, page, as_json, limit)
    raise typer.Exit(FOUND if any(total.doubtful for total in totals) else 0)


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

    from tasks.fetch import FetchError, Source, exchange, fetch
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
def refresh(
    lake: LakeRoot = None,
    quiet: Quiet = False,
    check: Annotated[bool, typer.Option(help="hold the recorded rows against their rules first")] = True,
    workers: Annotated[int | None, typer.Option(help="streams worked on at the same time; else TIDEBOOK_REFRESH_WORKERS")] = None,
) -> None:
    """Bring features, bars, signals and labels up to date with what was recorded; partitions that did not change are skipped."""
    from serving.steps import refresh as bring_up_to_date
    from tasks.validate import validate
    from warehouse.errors import InvalidRowsError
    from warehouse.lake import Lake

    machine = settings(lake)
    with known_errors():
        store = Lake(machine.lake, create=False)
        partitions = store.partitions("l2_snapshots")
        quarantined: list[BaseException] = []
        for partition in partitions if check else ():
            try:
                validate(store, *partition)
            except InvalidRowsError as error:
                quarantined.append(error)
        with bar("refresh", len(partitions), quiet, in_bytes=False) as advance:
            done = bring_up_to_date(store, machine, advance, workers)
    table = slim("stream", "day", "features", "bars", "signals", "labels", "doubtful", "current")
    for row in done:
        features, labels = row["features"], row["labels"]
        skipped = bool(features.get("skipped") and labels.get("skipped"))
        made = (features["rows"], features.get("bar_rows", 0), features.get("signal_rows", 0))
        counts = (*made, labels["rows"], labels.get("doubtful", 0))
        table.add_row(f"{row['venue']} {row['symbol']}", row["day"], *(f"{n:,}" for n in counts), "yes" if skipped else "no")
    console.print(table)
    for error in quarantined:
        fail(error)
    if quarantined:
        console.print("training leaves these days out: see the table quarantine")
        raise typer.Exit(FOUND)


@app.command()
def train(
    lake: LakeRoot = None,
    venue: Venue = "binance_usdm",
    symbol: Symbol = "BTC-USDT-PERP",
    trials: Annotated[int | None, typer.Option(help="hyper-parameter trials inside the first training span; else TIDEBOOK_TRIALS")] = None,
    shuffled: Annotated[
        bool, typer.Option("--shuffled", help="deal the labels out anew first: must leave no skill; registers nothing")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train walk-forward on a stream, judge out of sample against queue imbalance alone, register, promote if it earned it."""
    from dataclasses import replace

    from models.training import shuffled as deal_out
    from models.training import train as fit
    from models.verdict import Costs
    from serving.steps import choices_of, registry_of
    from tasks.promote import promote
    from tasks.train import examples_of, train_model
    from warehouse.lake import Lake

    machine = settings(lake)
    choices = choices_of(machine)
    choices = choices if trials is None else replace(choices, n_trials=trials)
    with known_errors(), bar(f"training on {venue} {symbol}", None, quiet or as_json, in_bytes=False):
        store = Lake(machine.lake, create=False)
        if shuffled:
            result, told = fit(deal_out(examples_of(store, venue, symbol), machine.seed), choices), {"shuffled": True}
        else:
            registry = registry_of(machine)
            trained = train_model(store, registry, venue, symbol, choices, costs=Costs(machine.taker_fee_bps, machine.maker_fee_bps))
            decision = promote(registry, trained.version, trained.result, trained.examples)
            result, told = trained.result, {"version": trained.version, "promoted": decision.promote, "why": decision.why}
    show_training(result, told, as_json)


def show_training(result: Any, told: dict[str, Any], as_json: bool) -> None:
    """Print what a training measured out of sample, the baseline beside it."""
    spans = {"auc": result.auc, "baseline_auc": result.baseline_auc, "auc_gain": result.auc_gain}
    measured = {**told, **{name: tuple(span) for name, span in spans.items()}, "metrics": result.metrics, "lost": result.lost}
    if as_json:
        print(json.dumps({**measured, "trials": result.n_trials}, default=float))
        return
    table = Table("out of sample", "value", title=", ".join(f"{key}: {value}" for key, value in told.items()))
    for name, span in spans.items():
        table.add_row(name, f"{span.value:.4f}  ({span.low:.4f} to {span.high:.4f})")
    for name, value in result.metrics.items():
        table.add_row(name, f"{value:,.4f}")
    table.add_row("parameter sets tried", str(result.n_trials))
    for cause, rows in result.lost.items():
        table.add_row(f"rows lost: {cause}", f"{rows:,}")
    Console().print(table)


@app.command()
def score(lake: LakeRoot = None, quiet: Quiet = False) -> None:
    """Score every recorded book that has no prediction yet with the champion; bit for bit what live would have said."""
    from tasks.score import champion_of
    from tasks.score import score as score_stream
    from warehouse.lake import Lake

    machine = settings(lake)
    with known_errors():
        store = Lake(machine.lake, create=False)
        model = champion_of(machine.tracking_uri, machine.artifacts)
        if model is None:
            from models.errors import NoChampionError

            raise NoChampionError("tidebook", "champion")
        streams = sorted({(venue, symbol) for venue, symbol, _ in store.partitions("features")})
        with bar("scoring", len(streams), quiet, in_bytes=False) as advance:
            done = []
            for stream in streams:
                done.append(score_stream(store, model, *stream))
                advance(1)
    for row in done:
        console.print(f"{row['venue']} {row['symbol']}: {row['rows']:,} books scored by version {row['version']}")


@app.command()
def report(
    what: Annotated[str, typer.Argument(help="champion, or features: one day of a stream as a picture")] = "champion",
    lake: LakeRoot = None,
    venue: Venue = "binance_usdm",
    symbol: Symbol = "BTC-USDT-PERP",
    day: Annotated[str, typer.Option(help="of the features, YYYY-MM-DD; else the newest")] = "",
    out: Annotated[Path | None, typer.Option(help="where the page goes; else report.html, or features-*.png, in the lake")] = None,
    quiet: Quiet = False,
) -> None:
    """Draw one page: verdict, book heat map, importances, ROC, calibration, equity after costs, latency; or a day's features."""
    from serving.steps import draw, draw_day
    from warehouse.lake import Lake

    if what not in ("champion", "features"):
        raise typer.BadParameter(f"what to draw is champion or features, received {what!r}")
    machine = settings(lake)
    with known_errors(), bar("report", None, quiet, in_bytes=False):
        store = Lake(machine.lake, create=False)
        page = draw(store, machine, venue, symbol, out) if what == "champion" else draw_day(store, venue, symbol, day, out)
    print(page)


@app.command()
def audit(
    lake: LakeRoot = None, venue: Venue = "binance_usdm", symbol: Symbol = "BTC-USDT-PERP", as_json: AsJson = False, quiet: Quiet = False
) -> None:
    """Look for leaks: later data cut or altered, label spans, shuffled labels, planted peeking features; 1 on a finding."""
    from serving.steps import choices_of
    from tasks.audit import audit as look
    from tasks.train import examples_of
    from warehouse.lake import Lake

    machine = settings(lake)
    with known_errors(), bar("audit", None, quiet or as_json, in_bytes=False) as advance:
        store = Lake(machine.lake, create=False)
        checks = look(
            store, venue, symbol, examples_of(store, venue, symbol), choices_of(machine), lambda name: advance(0, f"audit: {name}")
        )
    found = sum(len(check.findings) for check in checks)
    if as_json:
        print(json.dumps({"ok": not found, "checks": [check.as_dict() for check in checks]}))
    else:
        table = Table("check", "over", "found", title=f"audit of {venue} {symbol}")
        for check in checks:
            told = "; ".join(f"{finding.subject}: {finding.detail}" for finding in check.findings)
            table.add_row(check.name, check.scope, f"[red]{told}[/]" if told else "[green]nothing[/]")
        Console().print(table)
        for check in (check for check in checks if check.unchecked):
            print(f"not checked for {check.name}, too few values: {', '.join(check.unchecked)}")
    raise typer.Exit(FOUND if found else 0)


@app.command()
def up(lake: LakeRoot = None) -> None:
    """Start Prefect server, worker, deployments and the MLflow UI; Ctrl-C drains the flows and stops them."""
    from serving.errors import ServingError
    from serving.up import up as start

    try:
        raise typer.Exit(start(settings(lake), lambda line: console.print(line, highlight=False, soft_wrap=True)))
    except ServingError as error:
        raise fail(error) from None


@app.command()
def doctor(
    lake: LakeRoot = None, as_json: AsJson = False, venues: Annotated[bool, typer.Option(help="also try to reach the venues")] = False
) -> None:
    """Say what is installed, reachable and writable, and how big the lake is."""
    from serving.doctor import doctor as examine

    raise typer.Exit(examine(settings(lake), as_json, venues))


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


@app.command()
def demo(
    capture: Annotated[
        list[Path] | None, typer.Option(help="real captures of one session, in order, instead of a simulated market")
    ] = None,
    venue: Annotated[str, typer.Option(help="of the captures")] = "binance_usdm",
    lake: LakeRoot = None,
    quiet: Quiet = False,
) -> None:
    """Run the whole machine: record, features, labels, model, champion, scores, report; then say where to look."""
    from serving.demo import demo as run

    machine = settings(lake or settings(None).lake / "demo")

    def progress(title: str, total: int | None, in_bytes: bool) -> Any:
        return bar(title, total, quiet, in_bytes)

    with known_errors(FileExistsError):
        outcome = run(machine, progress, [(venue, list(capture))] if capture else ())
    table = Table("step", "built", "seconds", title="tidebook demo")
    for step, what, seconds in outcome.steps:
        table.add_row(step, what, f"{seconds:.1f}")
    Console().print(table)
    if outcome.trained:
        metrics, result = outcome.trained.result.metrics, outcome.trained.result
        span = f"{result.auc.value:.3f} ({result.auc.low:.3f} to {result.auc.high:.3f})"
        print(f"out of sample: AUC {span}, queue imbalance alone {result.baseline_auc.value:.3f}", end="; ")
        print(f"break-even {metrics['break_even_bps']:.2f} bps a trade")
    root = machine.lake
    print(f"report    {outcome.page}")
    print(f'query     tidebook sql "SELECT * FROM coverage" --lake {root}')
    print(f"duckdb    duckdb -readonly {root / 'warehouse.duckdb'}")
    print(f"servers   tidebook up --lake {root}")


@app.command()
def warm(quiet: Quiet = False) -> None:
    """Compile the kernels into the cache, so that nothing waits for it later."""
    from serving.warm import compile_kernels

    with bar("compiling kernels", None, quiet, in_bytes=False) as advance:
        compile_kernels(lambda name: advance(0, f"compiling {name}"))


def main() -> None:
    """Run the command line; an interrupt ends it in order."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
