"""How numbers read in text, pictures and tables: one way for all of them."""

import math
from collections.abc import Sequence

import numpy as np


def number(value: float, digits: int, sign: str = "") -> str:
    """Return a number with a true minus and thousands apart; a dash where it is not known.

    Examples
    --------
    >>> number(-1234.567, 1), number(0.5, 2, "+"), number(float("nan"), 2)
    ('−1,234.6', '+0.50', '–')
    """
    return f"{value:{sign},.{digits}f}".replace("-", "−") if math.isfinite(value) else "–"


def count(value: float) -> str:
    """Return a whole number, thousands apart."""
    return number(value, 0)


def share(value: float, digits: int = 1) -> str:
    """Return a share as a percentage.

    Examples
    --------
    >>> share(0.1234)
    '12.3%'
    """
    return f"{number(100 * value, digits)}%" if math.isfinite(value) else "–"


def bounds(interval: Sequence[float], digits: int, sign: str = "") -> str:
    """Return `low to high` of `[estimate, low, high]`.

    Examples
    --------
    >>> bounds([0.5, 0.4, 0.6], 2)
    '0.40 to 0.60'
    """
    return f"{number(interval[1], digits, sign)} to {number(interval[2], digits, sign)}" if math.isfinite(interval[1]) else "–"


def utc(ns: int) -> str:
    """Return a moment to the second.

    Examples
    --------
    >>> utc(1_723_161_256_505_000_000)
    '2024-08-08 23:54:16'
    """
    return str(np.datetime64(int(ns), "ns").astype("datetime64[s]")).replace("T", " ")


def duration(seconds: float) -> str:
    """Return a stretch of time in the unit that suits it.

    Examples
    --------
    >>> duration(90), duration(7200), duration(200_000)
    ('1.5 minutes', '2.0 hours', '2.3 days')
    """
    for unit, length in (("days", 86_400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} seconds"
