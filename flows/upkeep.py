"""Hourly: few large files instead of many small ones, and a fresh `warehouse.duckdb`."""

from prefect import flow

from flows.settings import Settings
from tasks import monitor
from tasks.compact import compact
from warehouse.lake import Lake


@flow
def upkeep() -> None:
    """Merge small files, drop what no reader and no model needs, publish the catalog."""
    lake = Lake(Settings().lake)
    rows = compact(lake)
    monitor.table("upkeep", rows, "files and bytes by table")
    monitor.flush()
