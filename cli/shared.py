"""What the commands share: options, progress, tables, errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

HELP = """The command line: each command says what it will do, shows progress, and ends with an exit code that means something.

0 done; 1 done, and something is wrong with the data or the model; 2 wrong usage; 3 it could
not be done (unreadable capture, lake that cannot be written, missing server).
"""
app = typer.Typer(help=HELP, no_args_is_help=True, pretty_exceptions_show_locals=False, rich_markup_mode=None)
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
