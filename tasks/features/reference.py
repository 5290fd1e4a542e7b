"""What a bar owes to others: the bars of a reference symbol, and the funding last paid.

Only bars of the reference that closed at least one bar before are looked at, so that nobody
needs to know the other stream's last second.  The definitions are in `bar_catalogue`.
"""

import math

import numpy as np
from numba import njit

from tasks.features.bar_catalogue import BAR_NAMES, SPANS_S
from tasks.features.state import SECOND

CLOSE = np.dtype([("exchange_ns", "i8"), ("span_s", "i8"), ("close", "f8"), ("doubt", "i8")])
LOOK_BACK = 61  # bars
_LAG, _CORR, _BETA, _RATIO = (BAR_NAMES.index(n) for n in ("ref_return_lag1", "ref_corr_60", "ref_beta_60", "ref_vol_ratio_60"))
_FUNDING = BAR_NAMES.index("funding_rate")
_STILL = 1e-30  # variance of log returns: below is rounding


@njit(cache=True)
def _against(own, ref, at, values):
    # Log closes by bar, NaN where there is none to believe; `at` says which bars to tell of, and is behind LOOK_BACK.
    n = LOOK_BACK - 1
    for i in range(at.size):
        k, out = at[i], values[i]
        out[_LAG] = math.exp(ref[k - 1] - ref[k - 2]) - 1.0
        out[_LAG + 1] = math.exp(ref[k - 2] - ref[k - 3]) - 1.0
        mean_x = (own[k - 1] - own[k - LOOK_BACK]) / n
        mean_y = (ref[k - 1] - ref[k - LOOK_BACK]) / n
        xx = yy = xy = 0.0
        for j in range(k - n, k):
            x, y = own[j] - own[j - 1] - mean_x, ref[j] - ref[j - 1] - mean_y
            xx += x * x
            yy += y * y
            xy += x * y
        if np.isnan(xy):
            continue
        own_moves, ref_moves = xx > _STILL * n, yy > _STILL * n
        out[_CORR] = max(-1.0, min(1.0, xy / math.sqrt(xx * yy))) if own_moves and ref_moves else 0.0
        out[_BETA] = xy / yy if ref_moves else 0.0
        if ref_moves:
            out[_RATIO] = math.sqrt(xx / yy)
        elif not own_moves:
            out[_RATIO] = 1.0


def _logs(closes: np.ndarray, first: int, size: int, span_ns: int) -> np.ndarray:
    out, at = np.full(size, np.nan), closes["exchange_ns"] // span_ns - first
    good = (closes["doubt"] == 0) & (at >= 0) & (at < size) & (closes["close"] > 0.0)
    out[at[good]] = np.log(closes["close"][good])
    return out


def put_reference(bars: np.ndarray, own: np.ndarray, reference: np.ndarray) -> None:
    """Fill the columns `ref_*` of bars; NaN where a bar that is needed is missing or doubtful.

    Parameters
    ----------
    bars : ndarray of BAR
        Any lengths together; their `values` are written, those of doubtful bars left alone.
    own : ndarray of CLOSE
        The same stream's bars before them, at least `LOOK_BACK` of each length where there are so many.
    reference : ndarray of CLOSE
        Bars of the reference symbol from the same time on; none for the reference itself, which has NaN.

    Examples
    --------
    >>> from tasks.features.bars import BAR
    >>> bars, reference = np.zeros(1, BAR), np.zeros(3, CLOSE)
    >>> reference["exchange_ns"], reference["close"] = [7 * SECOND, 8 * SECOND, 9 * SECOND], [100.0, 101.0, 202.0]
    >>> bars["exchange_ns"], reference["span_s"], bars["span_s"], bars["values"] = 10 * SECOND, 1, 1, np.nan
    >>> put_reference(bars, np.zeros(0, CLOSE), reference)
    >>> round(float(bars["values"][0, BAR_NAMES.index("ref_return_lag1")]), 9)
    1.0
    """
    if not reference.size:
        return
    before = np.concatenate([own, closes_of(bars)])
    for span_s in SPANS_S:
        told = np.flatnonzero((bars["span_s"] == span_s) & (bars["doubt"] == 0))
        if not told.size:
            continue
        span_ns = span_s * SECOND
        index = bars["exchange_ns"][told] // span_ns
        first = int(index.min()) - LOOK_BACK
        size = int(index.max()) - first + 1
        own_logs, ref_logs = (_logs(rows[rows["span_s"] == span_s], first, size, span_ns) for rows in (before, reference))
        values = bars["values"][told]
        _against(own_logs, ref_logs, index - first, values)
        bars["values"][told] = values


def put_funding(bars: np.ndarray, funding_ns: np.ndarray, rates: np.ndarray) -> None:
    """Fill `funding_rate` and `funding_age_s` of bars that are not doubtful; NaN before the first payment known.

    Parameters
    ----------
    bars : ndarray of BAR
    funding_ns, rates : ndarray
        When each was paid, ascending, and how much.
    """
    at = np.searchsorted(funding_ns, bars["exchange_ns"], side="right") - 1
    known = np.flatnonzero((at >= 0) & (bars["doubt"] == 0))
    bars["values"][known, _FUNDING] = rates[at[known]]
    bars["values"][known, _FUNDING + 1] = (bars["exchange_ns"][known] - funding_ns[at[known]]) / SECOND


def closes_of(bars: np.ndarray) -> np.ndarray:
    """Return what `put_reference` needs of bars."""
    out = np.zeros(bars.size, CLOSE)
    for name in CLOSE.names or ():
        out[name] = bars[name]
    return out


def reference_of(symbol: str, base: str = "BTC") -> str:
    """Return the same instrument of the reference asset, such as BTC-USDT-PERP for ETH-USDT-PERP; empty for itself.

    Examples
    --------
    >>> reference_of("ETH-USDT-PERP"), reference_of("BTC-USDT")
    ('BTC-USDT-PERP', '')
    """
    own, dash, rest = symbol.partition("-")
    return "" if not base or own == base else base + dash + rest
