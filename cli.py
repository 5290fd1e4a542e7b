"""The command line: each command says what it will do, shows progress, and ends with an exit code that means something.

0 done; 1 done, and something is wrong with the data or the model; 2 wrong usage; 3 it could
not be done (unreadable capture, lake that cannot be written, missing server).
"""

import asyncio
import json
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
Venue = Annotated[str, typer.Option(help="binance_spot, binance_usdm or binance_coinm")]
LakeRoot = Annotated[Path | None, typer.Option("--lake", help="root of the lake; else TIDEBOOK_LAKE, else ./data")]
Quiet = Annotated[bool, typer.Option("--quiet", help="no progress bars: for logs")]
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


def known(error: BaseException) -> bool:
    """Return whether an error is one that the project raises on purpose."""
    from models.errors import ModelError
    from tasks.replay import CaptureError
    from tasks.venues.errors import VenueError
    from warehouse.errors import WarehouseError

    return isinstance(error, (ModelError, CaptureError, VenueError, WarehouseError))


@app.command()
def replay(
    files: Files,
    venue: Venue,
    lake: LakeRoot = None,
    speed: Annotated[str, typer.Option(help="max, or a multiple of real time such as 1")] = "max",
    quiet: Quiet = False,
) -> None:
    """Record captures into the lake through the live path; again is safe, and goes on where a kill left off."""
    from tasks.record import Recorder, record
    from tasks.replay import CaptureTruncatedError, session_of
    from tasks.replay import replay as frames_of
    from warehouse.lake import Lake

    try:
        pace = 0.0 if speed == "max" else float(speed)
    except ValueError:
        raise typer.BadParameter(f"speed must be 'max' or a number, received {speed!r}") from None
    cut: CaptureTruncatedError | None = None
    recorder = None
    try:
        raw_symbol, session = session_of(files)
        recorder = Recorder(Lake(settings(lake).lake), venue, session)
        recorder.stream(raw_symbol)
        with bar(f"replaying {raw_symbol}", sum(path.stat().st_size for path in files), quiet) as advance:
            try:
                asyncio.run(record(recorder, frames_of(files, raw_symbol, pace, advance)))
            except CaptureTruncatedError as error:
                cut = error
    except Exception as error:
        if known(error):
            raise fail(error) from None
        raise
    table = Table("symbol", "frames", "books", "trades", "gaps", "crossed", "unreadable", "acknowledged rows", title=f"{venue} into {recorder.lake.root}")
    for symbol, counts in recorder.counts().items():
        shown = [recorder.totals.frames, *(counts[k] for k in ("book_updates", "trades", "gaps", "crossed", "unreadable")), recorder.totals.committed]
        table.add_row(symbol, *(f"{value:,}" for value in shown))
    console.print(table)
    problems: list[BaseException] = [*recorder.unjoined(), *([cut] if cut else [])]
    if recorder.totals.full:
        console.print(f"[red]the disk was full {recorder.totals.full} times; what was acknowledged is safe[/]")
    for problem in problems:
        fail(problem)
    if problems:
        raise typer.Exit(FAILED)


@app.command()
def verify(
    files: Files,
    venue: Venue,
    as_json: AsJson = False,
    lake: LakeRoot = None,
    quiet: Quiet = False,
) -> None:
    """Replay captures and report whether book, trades, features and scores can be believed."""
    from tasks.replay import read_capture, session_of
    from tasks.score import champion_of
    from tasks.verify import verify as check

    try:
        raw_symbol, _ = session_of(files)
        model = champion_of(settings(lake).tracking_uri) if lake else None
        with bar(f"verifying {raw_symbol}", sum(path.stat().st_size for path in files), quiet or as_json) as advance:
            scorer, name = (model.scorer, f"champion {model.version}") if model else (None, "")
            verdict = check(read_capture(files, advance), venue, raw_symbol, scorer, name)
    except Exception as error:
        if known(error):
            raise fail(error) from None
        raise
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
    try:
        rows = Lake(settings(lake).lake).sql(query)
    except Exception as error:
        if known(error):
            raise fail(error) from None
        raise
    frame = rows.to_pandas()
    if output == "json":
        print(frame.to_json(orient="records", date_format="iso"))
    elif output == "csv":
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
