"""Every feature over venues declared once: one base asset, all its venues side by side.

A row is made at each step of a common clock, the latest exchange time that any venue told.  A
venue whose book is older than 2 s, or doubtful, is not there.
"""

from tasks.features.catalogue import PLAIN, Feature


def _f(name: str, unit: str, meaning: str, warmup_s: float = 0.0, source: str = PLAIN) -> Feature:
    return Feature(name, unit, warmup_s, "cross_venue", source, meaning, missing="with no venue there, or while cold")


CROSS_FEATURES: tuple[Feature, ...] = (
    _f("price_dispersion", "bps", "standard deviation of the mids over their mean; NaN with one venue"),
    _f("max_price_spread_bps", "bps", "highest less lowest mid over their mean; NaN with one venue"),
    _f("price_divergence", "price", "standard deviation of the mids; NaN with one venue"),
    _f("mid_deviation_bps", "bps", "own mid against the volume-weighted mean of all; plain mean while nobody traded", 60.0),
    _f("best_arb_opportunity_bps", "bps", "highest bid of one venue over the ask of another, net of both taker fees, floored at 0"),
    _f("arb_opportunity_count", "", "ordered pairs of venues for which that is above 0"),
    _f("arb_duration_ms", "ms", "how long there has been such a pair"),
    _f("vw_price_dispersion", "bps", "volume-weighted standard deviation of the mids; NaN while nobody traded", 60.0),
    _f("volume_concentration", "[0, 1]", "Herfindahl index of the volumes of 60 s; NaN while nobody traded", 60.0, "Herfindahl 1950"),
    _f(
        "price_sync_correlation",
        "[-1, 1]",
        "mean correlation of pairs of venues, 100 ms returns of 60 s; pairs that do not move left out",
        60.0,
    ),
    _f(
        "lead_lag_coefficient", "", "own returns before those of the others less after, correlations of lags to 1 s summed; > 0 leads", 60.0
    ),
    _f("depth_imbalance_ratio", "[-1, 1]", "imbalance of the ten best levels a side of all books laid into one"),
    _f("consolidated_spread_bps", "bps", "best ask over venues less best bid over venues; below 0 where they cross"),
    _f("cross_venue_vol_ratio", "ratio", "highest over lowest realised volatility of 60 s; NaN where one does not move", 61.0),
    _f("vol_dispersion", "ratio", "standard deviation of the realised volatilities of 60 s over their mean", 61.0),
    _f("avg_price", "price", "mean of the mids"),
    _f("funding_delta", "", "highest less lowest funding rate of perpetuals; NaN without two"),
    _f("price_momentum_1m", "share", "avg_price over that of a minute before, less 1", 60.0),
    _f("volatility_spread", "price", "standard deviation of price_divergence over 60 s", 60.0),
    _f("binance_bybit_ratio", "ratio", "mean mid of Binance's venues over that of Bybit's; NaN without both"),
    _f("num_venues", "", "venues that are there"),
    _f("all_venues_active", "0 or 1", "whether all of them are"),
)
CROSS_NAMES: tuple[str, ...] = tuple(feature.name for feature in CROSS_FEATURES)
OWN = ("mid_deviation_bps", "lead_lag_coefficient")  # a number a venue; the others are one for all
CROSS_VENUE_15 = CROSS_NAMES[:15]
CROSS_VENUE_10 = (
    "avg_price", "price_divergence", "funding_delta", "price_momentum_1m", "volatility_spread", "binance_bybit_ratio", "num_venues",
    "all_venues_active", "max_price_spread_bps", "best_arb_opportunity_bps",
)  # fmt: skip
