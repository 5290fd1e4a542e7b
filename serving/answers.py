"""Answers of queries as JSON: whatever type DuckDB has, every value in a form that any JSON reader takes."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any


def as_json(names: Sequence[str], columns: Sequence[Sequence[Any]]) -> str:
    """Return rows as one JSON array of objects.

    Integers of any size are numbers, decimals too where a double holds them exactly, else text; what is no
    number (NaN, infinities) is null; times are ISO 8601, intervals as DuckDB counts them
    (months, days, nanoseconds), bytes hexadecimal.  A column name that comes twice gets a number.

    Parameters
    ----------
    names : sequence of str
        Of the columns.
    columns : sequence of sequence
        Python values, a sequence a column.

    Examples
    --------
    >>> as_json(["n", "n"], [[Decimal("1.5"), 2**70], [float("nan"), None]])
    '[{"n": 1.5, "n_1": null}, {"n": 1180591620717411303424, "n_1": null}]'
    """
    keys: list[str] = []
    for name in names:
        key, number = name, 0
        while key in keys:
            number += 1
            key = f"{name}_{number}"
        keys.append(key)
    rows = [dict(zip(keys, map(plain, row), strict=True)) for row in zip(*columns, strict=True)]
    return json.dumps(rows, allow_nan=False, ensure_ascii=False)


def plain(value: Any) -> Any:
    """Return a value as JSON has it.

    Examples
    --------
    >>> plain({"at": datetime(2026, 1, 31, 6), "sizes": [Decimal("0.10"), float("inf")], "raw": b"ok"})
    {'at': '2026-01-31T06:00:00', 'sizes': [0.1, None], 'raw': '6f6b'}
    """
    match value:
        case None | bool() | str() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            if value == value.to_integral_value():
                return int(value)
            return float(value) if Decimal(repr(float(value))) == value else str(value)
        case bytes() | bytearray() | memoryview():
            return bytes(value).hex()
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
    if hasattr(value, "nanoseconds") and hasattr(value, "months"):  # Arrow's interval, a tuple too
        return {"months": value.months, "days": value.days, "nanoseconds": value.nanoseconds}
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(plain(key)): plain(part) for key, part in value.items()}
    if isinstance(value, Sequence):
        return [plain(part) for part in value]
    return str(value)
