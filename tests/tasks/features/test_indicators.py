"""Bar features against other people's code: TA-Lib, SciPy, arch, DuckDB's windows.  The test prints how far apart they are."""

import duckdb
import numpy as np
import pytest
import talib
from arch import arch_model
from scipy import stats

from tasks.features.bar_catalogue import BAR_NAMES
from tasks.features.indicators import SERIES, close_bar

N, SETTLED = 1500, 1000  # recursions that begin otherwise agree once that is forgotten


@pytest.fixture(scope="module")
def made():
    """Highs, lows and closes of a wandering price, and our features of every bar."""
    rng = np.random.default_rng(0)
    path = 60_000 * np.exp(np.cumsum(rng.normal(0, 2e-4, (N, 10)) * np.exp(rng.normal(0, 0.5, (N, 1)))).reshape(N, 10))
    high, low, close = path.max(1), path.min(1), path[:, -1]
    series, out = np.zeros(1, SERIES), np.full((N, len(BAR_NAMES)), np.nan)
    for i in range(N):
        close_bar(series[0], high[i], low[i], close[i], True, out[i])
    return high, low, close, dict(zip(BAR_NAMES, out.T, strict=True))


def theirs(high, low, close):
    log = np.diff(np.log(close), prepend=np.nan)
    macd = talib.MACD(close, 12, 26, 9)
    bands = talib.BBANDS(close, 20, 2, 2)
    rolled = duckdb.sql(
        "SELECT sqrt(sum(r * r) OVER w15) AS v15, sqrt(sum(r * r) OVER w60) AS v60, stddev_samp(r) OVER w60 AS s60 "
        "FROM (SELECT unnest($log) AS r, unnest(range(len($log))) AS i) "
        "WINDOW w15 AS (ORDER BY i ROWS 14 PRECEDING), w60 AS (ORDER BY i ROWS 59 PRECEDING) ORDER BY i",
        params={"log": np.nan_to_num(log).tolist()},
    ).fetchnumpy()
    # Of bar i we tell the forecast for the next: one return more, whatever it is, has arch tell it too.
    scale, params = np.nanstd(log), [0.0, 0.06, 0.94]
    garch = arch_model(np.append(log[1:], 0.0) / scale, mean="Zero", vol="GARCH", p=1, q=1, rescale=False).fix(params)
    piece = np.lib.stride_tricks.sliding_window_view(log, 60)
    pad = np.full(59, np.nan)
    return {
        "ema_12": ("TA-Lib", talib.EMA(close, 12) / close),
        "ema_50": ("TA-Lib", talib.EMA(close, 50) / close),
        "rsi_14": ("TA-Lib", talib.RSI(close, 14)),
        "macd": ("TA-Lib", macd[0] / close),
        "macd_signal": ("TA-Lib", macd[1] / close),
        "macd_histogram": ("TA-Lib", macd[2] / close),
        "bollinger_upper": ("TA-Lib", bands[0] / close),
        "bollinger_lower": ("TA-Lib", bands[2] / close),
        "atr_14": ("TA-Lib", talib.ATR(high, low, close, 14) / close),
        "return_60": ("TA-Lib", talib.ROCP(close, 60)),
        "garch_vol": ("arch", garch.conditional_volatility * scale),
        "realized_vol_15": ("DuckDB", rolled["v15"]),
        "realized_vol_60": ("DuckDB", rolled["v60"]),
        "return_std_60": ("DuckDB", rolled["s60"]),
        "return_skew_60": ("SciPy", np.concatenate([pad, stats.skew(piece, axis=1)])),
        "return_kurt_60": ("SciPy", np.concatenate([pad, stats.kurtosis(piece, axis=1)])),
    }


def test_bar_features_agree_with_independent_implementations(made, capsys):
    high, low, close, ours = made
    worst = {}
    for name, (whose, values) in theirs(high, low, close).items():
        apart = np.abs(ours[name][SETTLED:] - values[SETTLED:]) / np.maximum(np.abs(values[SETTLED:]), 1e-6)
        worst[name] = (whose, float(apart.max()))
    with capsys.disabled():
        print("\nfeature             whose    furthest apart")
        for name, (whose, apart) in worst.items():
            print(f"{name:<19} {whose:<8} {apart:.1e}")
    assert {name: apart for name, (_, apart) in worst.items() if not apart < 1e-6} == {}


def test_an_expanding_warm_up_is_the_same_as_ta_libs(made):
    _, _, close, ours = made
    np.testing.assert_allclose(ours["ema_26"][:200], talib.EMA(close, 26)[:200] / close[:200], rtol=1e-12, equal_nan=True)
    np.testing.assert_allclose(
        ours["bollinger_upper"][:200], talib.BBANDS(close, 20, 2, 2)[0][:200] / close[:200], rtol=1e-9, equal_nan=True
    )


def test_prices_on_another_scale_have_the_same_features(made):
    high, low, close, ours = made
    series, out = np.zeros(1, SERIES), np.full((N, len(BAR_NAMES)), np.nan)
    for i in range(N):
        close_bar(series[0], high[i] / 1024, low[i] / 1024, close[i] / 1024, True, out[i])
    for name, values in zip(BAR_NAMES, out.T, strict=True):
        np.testing.assert_allclose(values, ours[name], rtol=1e-6, atol=1e-9, equal_nan=True, err_msg=name)


def test_an_independent_walk_has_a_hurst_exponent_near_a_half(made):
    # Short pieces are known to read high: Anis and Lloyd (1976).
    rng, values = np.random.default_rng(1), []
    for _ in range(40):
        series, out = np.zeros(1, SERIES), np.full(len(BAR_NAMES), np.nan)
        for close in 100 * np.exp(np.cumsum(rng.normal(0, 1e-3, 101))):
            out[:] = np.nan
            close_bar(series[0], close, close, close, True, out)
        values.append(out[BAR_NAMES.index("hurst")])
    assert 0.5 < np.mean(values) < 0.68
