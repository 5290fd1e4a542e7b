"""Ask the lake and the machine."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cli.shared import FOUND, AsJson, LakeRoot, Quiet, app, bar, console, known_errors, settings


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
def doctor(
    lake: LakeRoot = None, as_json: AsJson = False, venues: Annotated[bool, typer.Option(help="also try to reach the venues")] = False
) -> None:
    """Say what is installed, reachable and writable, and how big the lake is."""
    from serving.doctor import doctor as examine

    raise typer.Exit(examine(settings(lake), as_json, venues))
