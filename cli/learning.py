"""From rows to a champion: refresh, train, score, report, audit."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cli.shared import FOUND, AsJson, LakeRoot, Quiet, Symbol, Venue, app, bar, console, fail, known_errors, settings, slim


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
    meta: Annotated[bool, typer.Option("--meta", help="also train a second model that says which trades to take, and judge it")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train walk-forward on a stream, judge out of sample against queue imbalance alone, register, promote if it earned it."""
    from dataclasses import replace

    from models.errors import TooLittleDataError
    from models.examples import shuffled as deal_out
    from models.training import train as fit
    from models.verdict import Costs
    from serving.steps import choices_of, registry_of
    from tasks.meta import second_model
    from tasks.promote import promote
    from tasks.train import examples_of, train_model
    from warehouse.lake import Lake

    if shuffled and meta:
        raise typer.BadParameter("--meta is kept with a registered version, and --shuffled registers none: ask for one of them")
    machine = settings(lake)
    choices, rows = choices_of(machine), []
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
            try:
                rows = second_model(registry, trained.run_id, trained.examples, result, machine.taker_fee_bps) if meta else []
            except TooLittleDataError as error:
                told["meta"] = str(error)
    show_training(result, told, as_json, rows)


def show_training(result: Any, told: dict[str, Any], as_json: bool, meta: list[dict[str, float]]) -> None:
    """Print what a training measured out of sample, the baseline beside it."""
    spans = {"auc": result.auc, "baseline_auc": result.baseline_auc, "auc_gain": result.auc_gain}
    measured = {**told, **{name: tuple(span) for name, span in spans.items()}, "metrics": result.metrics, "lost": result.lost}
    if as_json:
        print(json.dumps({**measured, **({"meta": meta} if meta else {}), "trials": result.n_trials}, default=float))
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
    if meta:
        table = Table("share taken", "trades", "precision", "first model's", "recall", "first model's", title="trades that made money")
        for row in meta:
            measured = [f"{row[name]:.1%}" for name in ("precision", "first_precision", "recall", "first_recall")]
            table.add_row(f"{row['share']:.0%}", f"{row['trades']:,}", *measured)
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
