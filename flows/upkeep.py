"""Hourly: few large files instead of many small ones, nothing too old, rows held against their rules, a fresh `warehouse.duckdb`."""

import time

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.settings import Settings
from tasks import monitor, notify
from tasks.compact import compact_lake
from tasks.validate import look_at_partitions
from warehouse.columns import DAY_NS
from warehouse.expectations import Partition
from warehouse.lake import Lake
from warehouse.quality import quality
from warehouse.rules import RULES

_SHOWN = 200  # rows of an artifact


@flow
def upkeep(days: int = 1) -> State:
    """Merge small files, drop what is too old or too much, publish the catalog, say what is missing or doubtful.

    Parameters
    ----------
    days : int
        How many of each stream's newest days are held against their rules.
    """
    settings = Settings()
    lake = Lake(settings.lake)
    rows = compact_lake(lake, settings.lake_keep_days, settings.lake_bytes)
    monitor.table("upkeep", rows, "files merged, expired and deleted by table")
    partitions = newest(lake, days)
    found = look_at_partitions(lake, partitions)
    broken = {at: one.violations for at, one in zip(partitions, found, strict=True) if one.violations}
    for at, violations in broken.items():
        notify.partition_quarantined(*at, ", ".join(f"{rule}: {n}" for rule, n in violations.items()))
    if found and found[0].docs is not None:
        monitor.link("data-docs", found[0].docs.as_uri(), "Data Docs", f"{len(partitions)} partitions, {len(broken)} quarantined")
    notes, totals = quality(lake, since_ns=time.time_ns() - DAY_NS)
    monitor.table("quality", [total.as_dict() for total in totals], "the last 24 hours by stream")
    told = [{name: str(row[name]) for name in ("venue", "symbol", "start_time", "duration_s", "kind", "count", "why")} for row in notes]
    monitor.table("quality-notes", told[-_SHOWN:], f"what is missing or doubtful of the last 24 hours, the newest of {len(told)} rows")
    monitor.flush()
    summary = f"{len(partitions)} partitions, {len(broken)} quarantined"
    return Failed(message=summary) if broken else Completed(message=summary)


def newest(lake: Lake, days: int) -> list[Partition]:
    """Return the newest days of each stream that have rows with rules."""
    held: dict[tuple[str, str], set[str]] = {}
    for venue, symbol, day in (at for table in RULES for at in lake.partitions(table)):
        held.setdefault((venue, symbol), set()).add(day)
    return [(*stream, day) for stream, found in sorted(held.items()) for day in sorted(found)[-days:]]
