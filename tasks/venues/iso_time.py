"""Times as venues write them in text, to nanoseconds."""

from calendar import timegm
from functools import lru_cache

_LATEST_YEAR = 2200  # nanoseconds of later years do not fit 64 bits


@lru_cache(maxsize=4096)
def _minute_ns(text: str) -> int:
    # "2021-04-17T16:43" to the nanosecond at which that minute began.
    if len(text) != 16 or text[4] != "-" or text[7] != "-" or text[10] not in "T " or text[13] != ":" or not text.isascii():
        raise ValueError(f"time {text!r}")
    parts = text[:4], text[5:7], text[8:10], text[11:13], text[14:16]
    if not all(part.isdigit() for part in parts):
        raise ValueError(f"time {text!r}")
    year, month, day, hour, minute = map(int, parts)
    if year > _LATEST_YEAR or not 1 <= month <= 12 or not 1 <= day <= 31 or hour > 23 or minute > 59:
        raise ValueError(f"time {text!r}")
    return timegm((year, month, day, hour, minute, 0)) * 1_000_000_000 if year >= 1970 else -1


def iso_ns(text: str) -> int:
    """Return an RFC 3339 time of UTC in unix nanoseconds; 0 for times before 1970, which venues send for "not known".

    Raises
    ------
    ValueError
        No such time, one of another zone, or one after 2200.

    Examples
    --------
    >>> iso_ns("2021-04-17T16:43:37.075687Z"), iso_ns("0001-01-01T00:00:00.000000Z")
    (1618677817075687000, 0)
    >>> iso_ns("2026-08-12T19:27:48.098821666Z") % 1_000_000_000
    98821666
    """
    minute_ns = _minute_ns(text[:16])
    seconds, fraction = text[17:19], text[20:-1]
    if text[16:17] != ":" or not seconds.isdigit() or len(seconds) != 2 or seconds > "60" or text[-1] != "Z" or not text.isascii():
        raise ValueError(f"time {text!r}")
    if len(text) > 20:
        if text[19] != "." or not fraction.isdigit() or len(fraction) > 9:
            raise ValueError(f"time {text!r}")
    elif len(text) != 20:
        raise ValueError(f"time {text!r}")
    if minute_ns < 0:
        return 0
    return minute_ns + int(seconds) * 1_000_000_000 + (int(fraction) * 10 ** (9 - len(fraction)) if fraction else 0)
