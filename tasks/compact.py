"""Keep a lake quick to read and within its disk: few large files, none too old, none that nobody needs, a fresh `warehouse.duckdb`."""

from collections.abc import Mapping
from types import MappingProxyType

from prefect import task

from warehouse.lake import Lake

NOTHING: Mapping[str, int] = MappingProxyType({})


def compact(lake: Lake, keep_days: Mapping[str, int] = NOTHING, limit_bytes: int = 0) -> list[dict[str, str | int]]:
    """Take out what is too old or too much, merge small files, publish the catalog, delete what no version in use needs.

    Parameters
    ----------
    keep_days : mapping of str to int
        Table, or `raw`, to days that stay; what is not named stays for good.
    limit_bytes : int
        What the lake may use, 0 for all there is.

    Returns
    -------
    list of dict
        `table` (or `raw`, or `wal`), and files that were `merged`, `expired` and `deleted`, where there were any.
    """
    expired = lake.retire(keep_days, limit_bytes)
    merged = lake.compact()
    lake.publish()  # before files go, so that the newest catalog never lists one that is gone
    deleted = lake.vacuum()
    done = [(name, merged.get(name, 0), expired.get(name, 0), deleted.get(name, 0)) for name in (*merged, "raw", "wal")]
    return [{"table": name, "merged": m, "expired": e, "deleted": d} for name, m, e, d in done if m or e or d]


compact_lake = task(compact, name="compact")
