"""What `tidebook quality` understands and prints."""

import json
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from warehouse.expectations import Partition
from warehouse.lake import Lake
from warehouse.quality import DOUBTFUL, StreamQuality
from warehouse.rules import RULES

_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def since_of(text: str | None, now_ns: int | None = None) -> int | None:
    """Return a moment as nanoseconds since 1970: a time UTC, or so long ago.

    Examples
    --------
    >>> since_of("2h", now_ns=7_200_000_000_005)
    5
    >>> since_of("1970-01-01T00:00:01"), since_of(None)
    (1000000000, None)
    """
    if text is None:
        return None
    ago = _AGO.fullmatch(text)
    if ago:
        return (time.time_ns() if now_ns is None else now_ns) - int(float(ago[1]) * _SECONDS[ago[2]] * 1e9)
    try:
        then = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"since must be like 90s, 15m, 6h, 2d or 2026-01-31T06:00, received {text!r}") from None
    return int((then if then.tzinfo else then.replace(tzinfo=UTC)).timestamp()) * 1_000_000_000


def partitions_of(lake: Lake, venue: str | None, symbol: str | None, since_ns: int | None) -> list[Partition]:
    """Return the sealed partitions that rules hold for and that reach into a window."""
    first = "" if since_ns is None else datetime.fromtimestamp(since_ns / 1e9, UTC).date().isoformat()
    found = {partition for table in RULES for partition in lake.partitions(table)}
    return sorted(at for at in found if venue in (None, at[0]) and symbol in (None, at[1]) and at[2] >= first)


def show(rows: list[dict[str, Any]], totals: list[StreamQuality], page: Path | None, as_json: bool, limit: int) -> None:
    """Print the rows of `quality` and the totals, as tables or as one JSON object."""
    if as_json:
        plain = [{name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()} for row in rows]
        doubtful = any(total.doubtful for total in totals)
        print(json.dumps({"ok": not doubtful, "streams": [t.as_dict() for t in totals], "rows": plain, "docs": page and str(page)}))
        return
    console = Console(width=None if sys.stdout.isatty() else 180)
    shown = sorted(rows, key=lambda row: row["start_ns"])[-limit if limit else 0 :]
    told = Table("venue", "symbol", "from, UTC", "seconds", "kind", "count", "why", title="missing or doubtful")
    for row in shown:
        kind = f"[red]{row['kind']}[/]" if row["kind"] in DOUBTFUL else str(row["kind"])
        moment = row["start_time"].strftime("%Y-%m-%d %H:%M:%S")
        told.add_row(row["venue"], row["symbol"], moment, f"{row['duration_s']:,.1f}", kind, f"{row['count']:,}", row["why"])
    if rows:
        console.print(told)
    if len(shown) < len(rows):
        console.print(f"{len(rows):,} rows, the newest {len(shown)} shown; --limit 0 shows all")
    sums = Table("venue", "symbol", "recorded", "covered", "gaps", "longest gap", "doubtful rows of quality", title="streams")
    for total in totals:
        covered = "-" if total.covered != total.covered else f"{100 * total.covered:.4f} %"
        numbers = (f"{total.seconds:,.0f} s", covered, f"{total.gaps:,}", f"{total.longest_gap_s:,.1f} s", f"{total.doubtful:,}")
        sums.add_row(total.venue, total.symbol, *numbers)
    console.print(sums)
    if page is not None:
        print(f"docs      {page}")
