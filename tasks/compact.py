"""Keep a lake quick to read: few large files, none that nobody needs, a fresh `warehouse.duckdb`."""

from prefect import task

from warehouse.lake import Lake


def compact(lake: Lake) -> list[dict[str, str | int]]:
    """Merge small files, publish the catalog, delete what no version in use needs.

    Returns
    -------
    list of dict
        `table`, `merged` and `deleted` files, of the tables in which there were any.
    """
    merged = lake.compact()
    lake.publish()  # before files go, so that the newest catalog never lists one that is gone
    deleted = lake.vacuum()
    return [{"table": table, "merged": merged[table], "deleted": deleted[table]} for table in merged if merged[table] or deleted[table]]


compact_lake = task(compact, name="compact")
