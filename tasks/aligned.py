"""Rows of `consolidated`, the same whoever makes them: what a row holds, which step it is of, which funding rates count.

A row's `seq` is its step of a quarter of a second since 1970: the same step has the same number
live and in batch, before and after a restart, and no step is stored twice.
"""

from collections.abc import Sequence

import numpy as np

from tasks.features.cross_catalogue import CROSS_NAMES, OWN
from tasks.features.cross_venue import STEP_NS, CrossVenue
from tasks.venues import directory
from warehouse.schema import row_dtype

ALL = "all"  # the venue that rows of all venues are stored under
_HOUR_NS = 3_600_000_000_000
_JITTER_NS = 60_000_000_000  # by which the stamp of a payment may lie behind its hour
_FETCHED_NS = 600_000_000_000  # behind the hour, what was paid in it has been fetched: that begins at five past
_FIELDS = {
    "avg_price": "avg_price",
    "price_divergence": "price_divergence",
    "funding_delta": "funding_delta",
    "arb_bps": "best_arb_opportunity_bps",
}
_AT = {name: i for i, name in enumerate(CROSS_NAMES)}
_BY_VENUE = {"mid": "mid", "mid_deviation_bps": "deviation", "lead_lag_coefficient": "lead"}

# Columns of `consolidated` behind the declared ones: the same whatever venues there are, so that files agree.
MORE = (
    *(name for name in CROSS_NAMES if name not in (*OWN, "num_venues") and name not in _FIELDS),
    *(f"{name}_{venue}" for venue in directory.VENUES for name in ("mid", *OWN)),
)
STORED = np.dtype([*row_dtype("consolidated").descr, *((name, "f8") for name in MORE)])


class NoRateError(Exception):
    """A quote currency without a rate: prices in it cannot be compared."""

    def __init__(self, symbol: str, quote: str, known: Sequence[str]):
        super().__init__(f"{symbol}: expected a quote of {', '.join(known)}, received {quote}; give it a rate in TIDEBOOK_QUOTE_RATES")


def base_and_quote(symbol: str) -> tuple[str, str]:
    """Return base asset and quote currency of our name of an instrument.

    Examples
    --------
    >>> base_and_quote("BTC-USDT-PERP")
    ('BTC', 'USDT')
    """
    base, _, rest = symbol.partition("-")
    return base, rest.partition("-")[0]


def stored(fold: CrossVenue, rows: np.ndarray) -> np.ndarray:
    """Return rows of a fold, records of ROW, as they are stored: records of STORED, numbered by their step.

    Examples
    --------
    >>> fold = CrossVenue(("kraken", "okx"), (1.0, 1.0), (0.0, 0.0))
    >>> rows = fold.row.copy()
    >>> rows["exchange_ns"], rows["best_bid_at"], rows["mid"][0, 1] = 10 * STEP_NS, 1, 7.0
    >>> out = stored(fold, rows)
    >>> int(out["seq"][0]), directory.VENUES[int(out["best_bid_venue"][0])], float(out["mid_okx"][0]), float(out["mid_bybit_spot"][0])
    (10, 'okx', 7.0, nan)
    """
    out, values = np.zeros(rows.size, STORED), rows["values"]
    for name in ("exchange_ns", "receive_ns", "late_ms", "best_bid", "best_ask"):
        out[name] = rows[name]
    out["seq"] = rows["exchange_ns"] // STEP_NS
    out["num_venues"] = values[:, _AT["num_venues"]]
    known = np.array([directory.VENUES.index(venue) if venue in directory.VENUES else -1 for venue in fold.venues] + [-1])
    out["best_bid_venue"], out["best_ask_venue"] = known[rows["best_bid_at"]], known[rows["best_ask_at"]]
    for field, name in _FIELDS.items():
        out[field] = values[:, _AT[name]]
    places = {venue: i for i, venue in enumerate(fold.venues)}
    for name in MORE[: -len(_BY_VENUE) * len(directory.VENUES)]:
        out[name] = values[:, _AT[name]]
    for venue in directory.VENUES:
        for name, field in _BY_VENUE.items():
            out[f"{name}_{venue}"] = rows[field][:, places[venue]] if venue in places else np.nan
    return out


def newest_funding(rows: np.ndarray) -> float:
    """Return the newest funding rate by time, share of the notional per 8 hours; NaN without a row.

    Venues pay every 1, 4 or 8 hours.  How often tells the least distance of the last ten payments,
    to the hour; one payment alone counts as of 8 hours.

    Examples
    --------
    >>> rows = np.zeros(3, row_dtype("funding_rates"))
    >>> rows["exchange_ns"], rows["funding_rate"] = np.array([2, 0, 1]) * _HOUR_NS, [2e-5, 9e-5, 5e-5]
    >>> round(newest_funding(rows), 9)
    0.00016
    """
    if not rows.size:
        return np.nan
    rows = rows[np.argsort(rows["exchange_ns"], kind="stable")][-10:]
    apart = np.rint(np.diff(rows["exchange_ns"]) / _HOUR_NS)
    hours = apart[apart > 0].min(initial=8.0)
    return float(rows["funding_rate"][-1] * 8.0 / hours)


def funding_hour(receive_ns: int) -> int:
    """Return the hour since 1970 whose payments count at a moment of our clock: the one that began ten minutes ago or more.

    Examples
    --------
    >>> [funding_hour(minute * 60_000_000_000) for minute in (69, 70, 129, 130)]
    [0, 1, 1, 2]
    """
    return (receive_ns - _FETCHED_NS) // _HOUR_NS


def funding_begins(hour: int) -> int:
    """Return from which moment of our clock on the payments of an hour count."""
    return hour * _HOUR_NS + _FETCHED_NS


def funding_of(rows: np.ndarray, hour: int) -> float:
    """Return the newest rate of those paid up to an hour, per 8 hours; NaN without one."""
    return newest_funding(rows[rows["exchange_ns"] < hour * _HOUR_NS + _JITTER_NS])
