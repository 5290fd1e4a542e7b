"""Bars of five lengths, each made of the one below it: seconds of updates and trades, minutes of seconds, and so on.

A bar of span s holds what happened in [k s, (k + 1) s) of the exchange clock and closes when
that clock passes its end.  A bar in which the stream was doubtful for a moment is doubtful; a
bar in which nothing happened repeats the close before it.
"""

import numpy as np
from numba import njit

from tasks.features.bar_catalogue import BAR_NAMES, SPANS_S
from tasks.features.indicators import SERIES, close_bar
from tasks.features.state import SECOND

N_SPANS = len(SPANS_S)
WIDTH = len(BAR_NAMES)
_SPAN_NS = np.array(SPANS_S, np.int64) * SECOND
_RATIO = np.array([s // before for s, before in zip(SPANS_S[1:], SPANS_S, strict=False)], np.int64)

BAR = np.dtype(
    [
        ("exchange_ns", "i8"), ("receive_ns", "i8"), ("event_seq", "i8"), ("span_s", "i8"),
        ("open", "f8"), ("high", "f8"), ("low", "f8"), ("close", "f8"),
        ("volume", "f8"), ("buy_volume", "f8"), ("trade_count", "i8"), ("vwap", "f8"), ("doubt", "i8"), ("values", "f8", (WIDTH,)),
    ],
    align=True,
)  # fmt: skip
_OPEN = np.dtype(
    [
        ("begun", "i8"),  # something was put into it
        ("doubt", "i8"),
        ("open", "f8"), ("high", "f8"), ("low", "f8"), ("close", "f8"),
        ("volume", "f8"), ("bought", "f8"), ("sold", "f8"), ("quote", "f8"), ("trades", "i8"),
        ("cost", "f8"), ("costed", "f8"), ("impact", "f8"), ("aged", "i8"),
    ],
    align=True,
)  # fmt: skip
BARS = np.dtype(
    [
        ("second", "i8"),  # end of the open one-second bar, in seconds; 0 before the first event
        ("doubt", "i8"),  # of the stream now
        ("book", "f8", (5,)),  # spread, imbalance, depths and vpin of the last book
        ("mid", "f8"),
        ("impact", "f8"),  # running totals of the fold when the open second began
        ("aged", "i8"),
        ("closed", "i8"),  # rows that wait to be taken
        ("bar", _OPEN, (N_SPANS,)),
        ("series", SERIES, (N_SPANS,)),
    ],
    align=True,
)
_MICRO, _TRADE, _VPIN, _COST = (BAR_NAMES.index(n) for n in ("spread_bps", "trade_imbalance", "vpin", "effective_spread_bps"))
_START = 1


@njit(cache=True)
def _empty(bar, doubt):
    bar["begun"] = 0
    bar["doubt"] = doubt
    bar["open"] = bar["high"] = bar["low"] = bar["close"] = np.nan
    bar["volume"] = bar["bought"] = bar["sold"] = bar["quote"] = 0.0
    bar["cost"] = bar["costed"] = bar["impact"] = 0.0
    bar["trades"] = 0
    bar["aged"] = 0


@njit(cache=True)
def doubt_bars(b, doubt):
    """Make the open bars doubtful: the stream turned, or its past was cut."""
    b["doubt"] = doubt
    b["mid"] = np.nan
    why = doubt if doubt else _START
    for k in range(N_SPANS):
        b["bar"][k]["doubt"] = why
    b["impact"] = 0.0
    b["aged"] = 0


@njit(cache=True)
def book_bar(b, mid, spread, imbalance, bid, ask, vpin):
    """Put one book into the open second."""
    bar = b["bar"][0]
    if bar["begun"] == 0:
        bar["begun"] = 1
        bar["open"] = bar["high"] = bar["low"] = mid
    elif mid > bar["high"]:
        bar["high"] = mid
    elif mid < bar["low"]:
        bar["low"] = mid
    bar["close"] = mid
    b["mid"] = mid
    b["book"][0] = spread
    b["book"][1] = imbalance
    b["book"][2] = bid
    b["book"][3] = ask
    b["book"][4] = vpin


@njit(cache=True)
def trade_bar(b, price, size, side, mid):
    """Put one trade into the open second; `mid` is the one just before it, NaN where unknown."""
    bar = b["bar"][0]
    if side != 0.0 and not np.isnan(mid):
        bar["cost"] += size * 2e4 * side * (price - mid) / mid
        bar["costed"] += size
    bar["volume"] += size
    bar["quote"] += size * price
    bar["trades"] += 1
    if side > 0:
        bar["bought"] += size
    elif side < 0:
        bar["sold"] += size


@njit(cache=True)
def _merge(into, bar):
    if bar["doubt"]:
        into["doubt"] = bar["doubt"]
    if bar["begun"]:  # a second that only repeats the close before it is no price of the longer bar
        if into["begun"] == 0:
            into["begun"] = 1
            into["open"], into["high"], into["low"] = bar["open"], bar["high"], bar["low"]
        else:
            into["high"], into["low"] = max(into["high"], bar["high"]), min(into["low"], bar["low"])
        into["close"] = bar["close"]
    into["volume"] += bar["volume"]
    into["bought"] += bar["bought"]
    into["sold"] += bar["sold"]
    into["quote"] += bar["quote"]
    into["trades"] += bar["trades"]
    into["cost"] += bar["cost"]
    into["costed"] += bar["costed"]
    into["impact"] += bar["impact"]
    into["aged"] += bar["aged"]


@njit(cache=True)
def _write(b, k, end_s, receive_ns, event_seq, out):
    bar, values = b["bar"][k], out["values"]
    values[:] = np.nan
    good = bar["doubt"] == 0 and not np.isnan(bar["close"])
    if good:
        for i in range(4):
            values[_MICRO + i] = b["book"][i]
        traded = bar["bought"] + bar["sold"]
        values[_TRADE] = (bar["bought"] - bar["sold"]) / traded if traded > 0.0 else 0.0
        values[_VPIN] = b["book"][4]
        values[_COST] = bar["cost"] / bar["costed"] if bar["costed"] > 0.0 else 0.0
        values[_COST + 1] = bar["impact"] / bar["aged"] if bar["aged"] else 0.0
    close_bar(b["series"][k], bar["high"], bar["low"], bar["close"], good, values)
    out["exchange_ns"] = end_s * SECOND
    out["receive_ns"] = receive_ns
    out["event_seq"] = event_seq
    out["span_s"] = _SPAN_NS[k] // SECOND
    out["open"], out["high"], out["low"], out["close"] = bar["open"], bar["high"], bar["low"], bar["close"]
    out["volume"] = bar["volume"]
    out["buy_volume"] = bar["bought"]
    out["trade_count"] = bar["trades"]
    out["vwap"] = bar["quote"] / bar["volume"] if bar["volume"] > 0.0 else np.nan
    out["doubt"] = bar["doubt"] if bar["doubt"] else (0 if good else _START)


@njit(cache=True)
def close_second(b, impact, aged, receive_ns, event_seq, out):
    """Close the open second, and each longer bar that ends with it.

    Parameters
    ----------
    b : record of BARS
    impact, aged : float and int
        Running totals of the fold as of the end of the second.
    receive_ns, event_seq : int
        Of the event that showed that the second is over.
    out : ndarray of BAR
        Rows are added behind the `closed` that wait; there must be room for one a span.  A doubtful
        bar without a book is no row.
    """
    end_s = b["second"]
    second = b["bar"][0]
    second["impact"], second["aged"] = impact - b["impact"], aged - b["aged"]
    b["impact"], b["aged"] = impact, aged
    for k in range(N_SPANS):
        if k and end_s % (_SPAN_NS[k] // SECOND):
            break
        bar = b["bar"][k]
        if bar["begun"] == 0 and bar["doubt"] == 0:
            bar["open"] = bar["high"] = bar["low"] = bar["close"] = b["mid"]
        _write(b, k, end_s, receive_ns, event_seq, out[b["closed"]])
        if not np.isnan(bar["close"]):
            b["closed"] += 1
        if k + 1 < N_SPANS:
            _merge(b["bar"][k + 1], bar)
        _empty(bar, b["doubt"])
    b["second"] += 1


@njit(cache=True)
def begin(b, second):
    """Open the first bars, or those behind a silence too long to be told second by second: all of them doubtful."""
    fresh = b["second"] == 0
    b["second"] = second + 1
    b["mid"] = np.nan
    for k in range(N_SPANS):
        _empty(b["bar"][k], _START)
        if not fresh:
            v = b["series"][k]
            v["n"] = 0
            v["clean"] = 0


def new_bars() -> np.ndarray:
    """Return bars of a stream of which nothing is known, shape (1,): about 100 KB."""
    return np.zeros(1, BARS)
