"""Stretches that are to be left out: what a look at a day found, and what was told while it was recorded.

`findings` belongs to whoever records the stream.  What a later look finds has a table of its
own, `quarantine`, whose partition each look replaces: rows that were mended are free again.
"""

import time

import numpy as np
import pyarrow as pa

from warehouse.columns import DAY_NS, arrow_schema, day_begins
from warehouse.errors import UnknownTableError
from warehouse.expectations import CONTIGUOUS, Findings
from warehouse.lake import Lake
from warehouse.rules import LEARNT_FROM, RULES
from warehouse.schema import LEFT_OUT, QUARANTINED

_WHOLE = "the day is left out of training until this is mended: read the rows, mend them with Lake.replace, then look again"
_PART = "the stretch is left out of training"


def mark(lake: Lake, venue: str, symbol: str, day: str, found: Findings) -> int:
    """Write what was found of a partition into `quarantine` and return its rows; nothing is written if nothing changed.

    A broken rule puts the whole day there, a bound that was exceeded its stretches.
    """
    start = day_begins(day)
    marks: list[tuple[int, int, int, str, str, str]] = []
    for name, rows in sorted(found.violations.items()):
        marks.append((start, start + DAY_NS - 1, rows, *name.split("."), _WHOLE))  # type: ignore[arg-type]
    for part in sorted(found.stretches):
        first = min(max(part.start_ns, start), start + DAY_NS - 1)  # a row is in the partition of its day
        marks.append((first, max(first, part.end_ns), part.rows, part.table, part.rule, _PART))
    known = lake.manifest("quarantine", venue, symbol, day)
    manifest = {"marks": [list(entry[:5]) for entry in marks]}
    if known == manifest or (known is None and not marks):
        return len(marks)
    now = time.time_ns()
    rows_ = [
        {
            "exchange_ns": begin, "receive_ns": now, "seq": seq, "end_ns": end, "row_count": rows,
            "table_name": table, "rule": rule, "detail": f"{_meaning(table, rule)}; {rows} rows differ; {what}",
        }
        for seq, (begin, end, rows, table, rule, what) in enumerate(marks)
    ]  # fmt: skip
    lake.replace("quarantine", venue, symbol, day, pa.Table.from_pylist(rows_, arrow_schema("quarantine")), manifest)
    return len(marks)


def _meaning(table: str, rule: str) -> str:
    if table not in RULES:
        raise UnknownTableError(table, RULES)
    return CONTIGUOUS.get(rule) or RULES[table][rule].meaning


def left_out(lake: Lake, venue: str, symbol: str) -> np.ndarray:
    """Return the stretches of a stream that training leaves out: (start_ns, end_ns, kind), shape (n, 3), in order of start.

    Both ends are included; `kind` is a code in FINDINGS.  Rules of tables that nothing is learnt
    from put nothing here.

    Examples
    --------
    >>> left_out(Lake(getfixture("tmp_path")), "binance_spot", "BTC-USDT").shape
    (0, 3)
    """
    told = lake.read("findings", venue, symbol, columns=["exchange_ns", "end_ns", "kind"])
    marked = lake.read("quarantine", venue, symbol, columns=["exchange_ns", "end_ns", "table_name"])
    kinds = told["kind"].to_numpy()
    keep = np.isin(kinds, LEFT_OUT)
    counts = np.isin(marked["table_name"].to_pylist(), LEARNT_FROM)
    found = np.concatenate(
        [
            np.column_stack([told["exchange_ns"].to_numpy(), told["end_ns"].to_numpy(), kinds])[keep],
            np.column_stack([marked["exchange_ns"].to_numpy(), marked["end_ns"].to_numpy(), np.full(len(counts), QUARANTINED)])[counts],
        ]
    ).astype(np.int64)
    return found[np.argsort(found[:, 0], kind="stable")]
