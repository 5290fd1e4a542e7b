"""Features of one series of bars, computed at each close from the bars kept and a few recursions."""

import math

import numpy as np
from numba import njit

from tasks.features.bar_catalogue import BAR_NAMES, RETURNS

KEPT = 2048  # closes of a span that are kept: a power of two above the longest look back, 1441
_MASK = KEPT - 1
_RECENT = 128  # log returns kept, above the 100 of the Hurst exponent
_LAST = _RECENT - 1
_RETURNS = np.array(RETURNS, np.int64)
_HURST = np.array([10, 20, 50, 100], np.int64)
_RISK_METRICS = (0.0, 0.06, 0.94)  # before a fit: no long-run mean, the weights of RiskMetrics 1996

SERIES = np.dtype(
    [
        ("n", "i8"),  # bars closed
        ("clean", "i8"),  # of those, clean ones in a row up to the last
        ("close", "f8", (KEPT,)),  # NaN of a doubtful bar
        ("high", "f8", (_RECENT,)),
        ("low", "f8", (_RECENT,)),
        ("log", "f8", (_RECENT,)),  # log return of the bar, NaN where it or the bar before was doubtful
        ("ema", "f8", (3,)),
        ("signal", "f8"),
        ("rise", "f8"),
        ("fall", "f8"),
        ("range", "f8"),
        ("garch", "f8", (3,)),  # omega, alpha, beta; 0 0 0 before a fit
        ("variance", "f8"),
    ],
    align=True,
)
(
    _EMA, _RSI, _MACD, _BOLL, _ATR, _HURST_AT, _PARKINSON, _GARCH, _VOL, _RATIO, _DRAWDOWN, _SINCE, _RETURN, _LOG, _STD, _SKEW,
) = (
    BAR_NAMES.index(name)
    for name in (
        "ema_12", "rsi_14", "macd", "bollinger_upper", "atr_14", "hurst", "parkinson_vol_20", "garch_vol", "realized_vol_15",
        "vol_ratio", "max_drawdown_60", "bars_since_high_60", "return_1", "log_return_1", "return_std_15", "return_skew_60",
    )
)  # fmt: skip


@njit(cache=True)
def _sum_back(ring, last, n):
    total = 0.0
    for i in range(last - n + 1, last + 1):
        total += ring[i & (ring.size - 1)]
    return total


@njit(cache=True)
def _squares_back(ring, last, n, mean):
    total = 0.0
    for i in range(last - n + 1, last + 1):
        total += (ring[i & (ring.size - 1)] - mean) ** 2
    return total


@njit(cache=True)
def _recursions(v, last, close, out):
    clean = v["clean"]
    for k, span in enumerate((12, 26, 50)):
        if clean == span:
            v["ema"][k] = _sum_back(v["close"], last, span) / span
        elif clean > span:
            v["ema"][k] += 2.0 / (span + 1.0) * (close - v["ema"][k])
        if clean >= span:
            out[_EMA + k] = v["ema"][k] / close
    if clean >= 26:
        macd = v["ema"][0] - v["ema"][1]
        out[_MACD] = macd / close
        if clean < 34:
            v["signal"] += macd
        else:
            v["signal"] = (v["signal"] + macd) / 9.0 if clean == 34 else v["signal"] + 0.2 * (macd - v["signal"])
            out[_MACD + 1] = v["signal"] / close
            out[_MACD + 2] = (macd - v["signal"]) / close
    if clean < 2:
        v["signal"] = v["rise"] = v["fall"] = v["range"] = 0.0
        return
    before = v["close"][(last - 1) & _MASK]
    rise, fall = max(0.0, close - before), max(0.0, before - close)
    true_range = max(v["high"][last & _LAST], before) - min(v["low"][last & _LAST], before)
    if clean <= 15:
        v["rise"] += rise / 14.0
        v["fall"] += fall / 14.0
        v["range"] += true_range / 14.0
    else:
        v["rise"] += (rise - v["rise"]) / 14.0
        v["fall"] += (fall - v["fall"]) / 14.0
        v["range"] += (true_range - v["range"]) / 14.0
    if clean >= 15:
        moved = v["rise"] + v["fall"]
        out[_RSI] = 100.0 * v["rise"] / moved if moved > 0.0 else 50.0
        out[_ATR] = v["range"] / close
    if clean == 21:
        v["variance"] = _squares_back(v["log"], last, 20, 0.0) / 20.0
    elif clean > 21:
        omega, alpha, beta = v["garch"][0], v["garch"][1], v["garch"][2]
        if alpha == 0.0 and beta == 0.0:
            omega, alpha, beta = _RISK_METRICS
        v["variance"] = omega + alpha * v["log"][last & _LAST] ** 2 + beta * v["variance"]
    if clean >= 21:
        out[_GARCH] = math.sqrt(v["variance"])


@njit(cache=True)
def _bands(v, last, close, out):
    mean = _sum_back(v["close"], last, 20) / 20.0
    width = 2.0 * math.sqrt(_squares_back(v["close"], last, 20, mean) / 20.0)
    out[_BOLL] = (mean + width) / close
    out[_BOLL + 1] = (mean - width) / close
    out[_BOLL + 2] = (close - mean + width) / (2.0 * width) if width > 0.0 else 0.5
    total = 0.0
    for i in range(last - 19, last + 1):
        total += math.log(v["high"][i & _LAST] / v["low"][i & _LAST]) ** 2
    out[_PARKINSON] = math.sqrt(total / (20.0 * 4.0 * math.log(2.0)))


@njit(cache=True)
def _hurst(log, last):
    # Mean rescaled range of the pieces of each length; a piece that does not move has none.
    sx = sy = sxx = sxy = 0.0
    n = 0
    for length in _HURST:
        total = 0.0
        pieces = 0
        for first in range(last - 99, last + 2 - length, length):
            mean = 0.0
            for i in range(first, first + length):
                mean += log[i & _LAST]
            mean /= length
            walk = low = high = squares = 0.0
            for i in range(first, first + length):
                step = log[i & _LAST] - mean
                walk += step
                squares += step * step
                low, high = min(low, walk), max(high, walk)
            if squares > 1e-30 * length:
                total += (high - low) / math.sqrt(squares / length)
                pieces += 1
        if pieces:
            x, y = math.log(length), math.log(total / pieces)
            sx += x
            sy += y
            sxx += x * x
            sxy += x * y
            n += 1
    return (n * sxy - sx * sy) / (n * sxx - sx * sx) if n > 1 else 0.5


@njit(cache=True)
def _hour(v, last, out):
    # What looks back over 60 closes.
    high = v["close"][(last - 59) & _MASK]
    at = last - 59
    deepest = 0.0
    for i in range(last - 58, last + 1):
        close = v["close"][i & _MASK]
        if close >= high:
            high, at = close, i
        elif 1.0 - close / high > deepest:
            deepest = 1.0 - close / high
    out[_DRAWDOWN] = deepest
    out[_SINCE] = last - at


@njit(cache=True)
def _moments(v, last, out):
    log = v["log"]
    mean = _sum_back(log, last, 60) / 60.0
    two = three = four = 0.0
    for i in range(last - 59, last + 1):
        step = log[i & _LAST] - mean
        two += step * step
        three += step * step * step
        four += step * step * step * step
    out[_STD + 1] = math.sqrt(two / 59.0)
    two /= 60.0
    moved = two > 1e-30
    out[_SKEW] = three / 60.0 / two**1.5 if moved else 0.0
    out[_SKEW + 1] = four / 60.0 / (two * two) - 3.0 if moved else 0.0
    out[_VOL + 1] = math.sqrt(_squares_back(log, last, 60, 0.0))
    out[_RATIO] = out[_VOL] / out[_VOL + 1] if out[_VOL + 1] > 0.0 else 1.0


@njit(cache=True)
def close_bar(v, high, low, close, good, out):
    """Add a bar to its series and write the features that follow from it; NaN where not enough were clean.

    Parameters
    ----------
    v : record of SERIES
    high, low, close : float
        Of the mid.
    good : bool
        Whether the whole bar was clean.
    out : ndarray of float64, shape (n bar features,)
        Set to NaN by the caller.
    """
    last = v["n"]
    before = v["close"][(last - 1) & _MASK]
    v["n"] += 1
    v["close"][last & _MASK] = close if good else np.nan
    v["high"][last & _LAST], v["low"][last & _LAST] = high, low
    v["log"][last & _LAST] = math.log(close / before) if good and v["clean"] else np.nan
    if not good:
        v["clean"] = 0
        return
    v["clean"] += 1
    clean = v["clean"]
    _recursions(v, last, close, out)
    if clean >= 20:
        _bands(v, last, close, out)
    if clean >= 16:
        mean = _sum_back(v["log"], last, 15) / 15.0
        out[_STD] = math.sqrt(_squares_back(v["log"], last, 15, mean) / 14.0)
        out[_VOL] = math.sqrt(_squares_back(v["log"], last, 15, 0.0))
    if clean >= 60:
        _hour(v, last, out)
    if clean >= 61:
        _moments(v, last, out)
    if clean >= 101:
        out[_HURST_AT] = _hurst(v["log"], last)
    for k in range(_RETURNS.size):  # both ends must be clean, what was between them need not
        n = _RETURNS[k]
        if last >= n and not np.isnan(v["close"][(last - n) & _MASK]):
            ratio = close / v["close"][(last - n) & _MASK]
            out[_RETURN + k] = ratio - 1.0
            if k < 2:
                out[_LOG + k] = math.log(ratio)
