"""Hourly: few large files instead of many small ones, and a fresh `warehouse.duckdb`."""

from prefect import flow

from flows.settings import Settings
from tasks import monitor
from tasks.compact import compact_lake
from warehouse.lake import Lake


@flow
def upkeep() -> None:
    """Merge small files, drop what no reader and no model needs, publish the catalog."""
    lake = Lake(Settings().lake)
    rows = compact_lake(lake)
    monitor.table("upkeep", rows, "files merged and deleted by table")
    monitor.flush()
