"""The whole machine: servers, demo, kernels."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cli.shared import LakeRoot, Quiet, app, bar, console, fail, known_errors, settings


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
