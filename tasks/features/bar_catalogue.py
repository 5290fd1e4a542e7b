"""Every feature of bars declared once; `tasks.features.catalogue` has those of single book updates.

Bars of five lengths are made, each the same way; a column means the same on all of them.
Warm-up counts bars: a value is NaN until so many in a row were clean.
"""

from hashlib import sha256

from tasks.features.catalogue import PLAIN, Feature

SPANS_S = (1, 60, 300, 900, 3600)
RETURNS = (1, 5, 15, 60, 240, 1440)


def _f(name: str, unit: str, bars: float, layer: str, meaning: str, source: str = PLAIN) -> Feature:
    return Feature(name, unit, bars, layer, source, meaning)


BAR_FEATURES: tuple[Feature, ...] = (
    *(
        _f(f"ema_{n}", "ratio", n, "price", f"exponential mean of {n} closes over the close, begun with their plain mean")
        for n in (12, 26, 50)
    ),
    _f("rsi_14", "[0, 100]", 15, "price", "relative strength: share of rises in Wilder's mean move; 50 without a move", "Wilder 1978"),
    _f("macd", "ratio", 26, "price", "ema_12 less ema_26, over the close", "Appel 2005"),
    _f("macd_signal", "ratio", 34, "price", "exponential mean of 9 of the unscaled macd, over the close", "Appel 2005"),
    _f("macd_histogram", "ratio", 34, "price", "macd less its signal, over the close", "Appel 2005"),
    _f("bollinger_upper", "ratio", 20, "price", "mean of 20 closes plus two standard deviations, over the close", "Bollinger 1992"),
    _f("bollinger_lower", "ratio", 20, "price", "mean of 20 closes less two standard deviations, over the close", "Bollinger 1992"),
    _f(
        "bollinger_position",
        "ratio",
        20,
        "price",
        "where the close is between the bands: 0 lower, 1 upper; 0.5 where they meet",
        "Bollinger 1992",
    ),
    _f("atr_14", "ratio", 15, "volatility", "Wilder's mean true range of 14 bars, over the close", "Wilder 1978"),
    _f(
        "hurst",
        "",
        101,
        "volatility",
        "slope of log rescaled range on log length, 100 returns cut into 10, 20, 50 and 100; 0.5 without a move",
        "Mandelbrot and Wallis 1969",
    ),
    _f("parkinson_vol_20", "log return", 20, "volatility", "volatility a bar from high and low, 20 bars", "Parkinson 1980"),
    _f(
        "garch_vol",
        "log return",
        21,
        "volatility",
        "forecast of the next bar's volatility; with fitted parameters, else 0.06 and 0.94",
        "Bollerslev 1986",
    ),
    _f("realized_vol_15", "log return", 16, "volatility", "root of summed squared log returns, 15 bars"),
    _f("realized_vol_60", "log return", 61, "volatility", "root of summed squared log returns, 60 bars"),
    _f("vol_ratio", "ratio", 61, "volatility", "realized_vol_15 over realized_vol_60; 1 where nothing moved"),
    _f("max_drawdown_60", "share", 60, "volatility", "deepest fall from a running high within 60 closes"),
    _f("bars_since_high_60", "bars", 60, "volatility", "age of the highest of 60 closes; the latest where several are equal"),
    *(_f(f"return_{n}", "share", n + 1, "returns", f"close over the close {n} bars before, less 1") for n in RETURNS),
    *(_f(f"log_return_{n}", "log return", n + 1, "returns", f"log of the close over the close {n} bars before") for n in (1, 5)),
    *(_f(f"return_std_{n}", "log return", n + 1, "returns", f"standard deviation of {n} log returns") for n in (15, 60)),
    _f("return_skew_60", "", 61, "returns", "skewness of 60 log returns; 0 where nothing moved"),
    _f("return_kurt_60", "", 61, "returns", "excess kurtosis of 60 log returns; 0 where nothing moved"),
    _f("spread_bps", "bps", 1, "microstructure", "spread of the last book in the bar or before"),
    _f("imbalance_5", "[-1, 1]", 1, "microstructure", "imbalance of five levels of that book"),
    _f("depth_bid_5", "base", 1, "microstructure", "bid size of five levels of that book"),
    _f("depth_ask_5", "base", 1, "microstructure", "ask size of five levels of that book"),
    _f(
        "trade_imbalance",
        "[-1, 1]",
        1,
        "microstructure",
        "bought less sold volume over their sum, over the bar, unknown aggressors left out; 0 without a trade",
    ),
    _f("vpin", "[0, 1]", 1, "microstructure", "vpin at that book; NaN until it is warm", "Easley, Lopez de Prado and O'Hara 2012"),
    _f("effective_spread_bps", "bps", 1, "microstructure", "size-weighted cost of taking, both ways, over the bar; 0 without a trade"),
    _f(
        "price_impact_bps",
        "bps",
        1,
        "microstructure",
        "mean move 5 s after a trade, in its direction, of trades that came of that age in the bar; 0 without one",
    ),
    _f("ref_return_lag1", "share", 3, "cross_asset", "return of the reference symbol one bar before"),
    _f("ref_return_lag2", "share", 4, "cross_asset", "return of the reference symbol two bars before"),
    _f(
        "ref_corr_60",
        "[-1, 1]",
        62,
        "cross_asset",
        "correlation of 60 log returns with the reference's of the same bars, up to one bar before; 0 without a move",
    ),
    _f("ref_beta_60", "", 62, "cross_asset", "slope of those returns on the reference's; 0 without a move"),
    _f("ref_vol_ratio_60", "ratio", 62, "cross_asset", "standard deviation of those returns over the reference's; 1 where neither moved"),
    _f("funding_rate", "", 0, "cross_asset", "last funding rate paid before the bar closed"),
    _f("funding_age_s", "s", 0, "cross_asset", "time since then"),
)
BAR_NAMES: tuple[str, ...] = tuple(f.name for f in BAR_FEATURES)
# Days of bars that bear another are made anew: raise a feature's own `version` when its numbers change.
BAR_VERSION = sha256(repr((SPANS_S, [(f.name, f.version) for f in BAR_FEATURES])).encode()).hexdigest()[:12]

# The five-layer set on bars of one minute.
BARS_41: tuple[str, ...] = (
    "ema_12",
    "ema_26",
    "ema_50",
    "rsi_14",
    "macd",
    "macd_signal",
    "macd_histogram",
    "bollinger_upper",
    "bollinger_lower",
    "bollinger_position",
    "spread_bps",
    "imbalance_5",
    "depth_bid_5",
    "depth_ask_5",
    "trade_imbalance",
    "vpin",
    "effective_spread_bps",
    "price_impact_bps",
    "garch_vol",
    "realized_vol_15",
    "parkinson_vol_20",
    "max_drawdown_60",
    "bars_since_high_60",
    "vol_ratio",
    "ref_corr_60",
    "ref_return_lag1",
    "ref_return_lag2",
    "ref_vol_ratio_60",
    "funding_rate",
    *(f"return_{n}" for n in RETURNS),
    "log_return_1",
    "log_return_5",
    "return_std_15",
    "return_std_60",
    "return_skew_60",
    "return_kurt_60",
)
