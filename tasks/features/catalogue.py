"""Every feature declared once: name, unit, warm-up, family, source, meaning, version, and when it is missing.

The order here is the order of columns in every feature matrix.  A feature set is a list of
names under version control; models name the set and this catalogue's version.
"""

from dataclasses import dataclass
from hashlib import sha256

WINDOWS = (1, 5, 30)  # seconds
SWEEPS = (10_000, 100_000)  # quote units
PLAIN = "arithmetic"  # the source of what needs no publication


@dataclass(frozen=True)
class Feature:
    """One column of the feature matrix.

    `warmup_s` is how long a stream must have been clean before the number is defined; it is
    NaN until then.  `missing` is the rule of NaN; `source` a publication, or what the number is
    where there is none.
    """

    name: str
    unit: str
    warmup_s: float
    family: str
    source: str
    meaning: str
    version: int = 1
    missing: str = "while cold or doubtful"


def _windowed(
    stem: str, unit: str, family: str, source: str, meaning: str, windows: tuple[int, ...] = WINDOWS, extra_s: float = 0.0,
    version: int = 1,
) -> list[Feature]:  # fmt: skip
    return [Feature(f"{stem}_{w}", unit, w + extra_s, family, source, meaning.format(w=w), version) for w in windows]


def _book() -> list[Feature]:
    def f(name: str, unit: str, meaning: str, source: str = PLAIN, warmup_s: float = 0.0) -> Feature:
        return Feature(name, unit, warmup_s, "book", source, meaning)

    return [
        f("mid", "price", "half way between the best bid and the best ask"),
        f("spread_bps", "bps", "best ask less best bid"),
        *(f(f"imbalance_{k}", "[-1, 1]", f"bid less ask size over their sum, best {k} levels") for k in (1, 5, 10)),
        f("weighted_mid", "price", "touch prices weighted by the opposite sizes"),
        f("microprice", "price", "expected next mid; the weighted mid until an estimator was fitted", "Stoikov 2018"),
        f("microprice_drift_bps", "bps", "change of the microprice since the last update; NaN at the first"),
        f("spread_compression", "ratio", "spread over its mean of the last 60 s", warmup_s=60.0),
        *(f(f"depth_bid_{k}", "base", f"bid size of the best {k} levels") for k in (5, 10, 20)),
        *(f(f"depth_ask_{k}", "base", f"ask size of the best {k} levels") for k in (5, 10, 20)),
        *(f(f"depth_ratio_{k}", "log ratio", f"log of bid over ask size, best {k} levels") for k in (5, 10, 20)),
        f("pressure", "[-1, 1]", "bid less ask size over their sum, levels fading with exp(-distance / 5 bps)"),
        *(
            f(f"buy_cost_bps_{q}", "bps", f"price of buying {q} quote units at once, against mid; NaN if the 20 levels hold less")
            for q in SWEEPS
        ),
        *(
            f(f"sell_cost_bps_{q}", "bps", f"price of selling {q} quote units at once, against mid; NaN if the 20 levels hold less")
            for q in SWEEPS
        ),
        f("gap_bid_bps", "bps", "distance from the best to the second bid; NaN without one"),
        f("gap_ask_bps", "bps", "distance from the best to the second ask; NaN without one"),
    ]


def _flow() -> list[Feature]:
    cont, xu = "Cont, Kukanov and Stoikov 2014", "Xu, Gould and Howison 2019"
    return [
        *_windowed("ofi", "base", "order_flow", cont, "order-flow imbalance at the touch over {w} s"),
        *(
            f
            for i in range(1, 6)
            for f in _windowed(f"mlofi_{i}", "base", "order_flow", xu, f"order-flow imbalance at level {i} over {{w}} s")
        ),
        *_windowed("update_intensity", "1/s", "order_flow", PLAIN, "book updates a second over {w} s"),
        *_windowed(
            "trade_imbalance",
            "[-1, 1]",
            "trades",
            PLAIN,
            "bought less sold volume over their sum, {w} s, unknown aggressors left out; 0 without a trade",
            version=2,
        ),
        *_windowed("signed_volume", "base", "trades", PLAIN, "bought less sold volume over {w} s"),
        *(
            Feature(f"volume_zscore_{w}", "sigma", 301.0, "trades", PLAIN, f"volume of {w} s against the {w} s volumes of the last 300 s")
            for w in WINDOWS
        ),
        *_windowed("trade_intensity", "1/s", "trades", PLAIN, "trades a second over {w} s"),
        *_windowed(
            "effective_spread_bps",
            "bps",
            "trades",
            "Huang and Stoll 1996",
            "size-weighted cost of taking against the mid just before, both ways, over {w} s; 0 without a trade",
        ),
        *_windowed(
            "price_impact_bps",
            "bps",
            "trades",
            "Huang and Stoll 1996",
            "move of the mid in a trade's direction 5 s after it, trades that became 5 s old in the last {w} s; 0 without one",
            extra_s=5.0,
        ),
        *_windowed(
            "realized_vol",
            "log return",
            "volatility",
            "Andersen and Bollerslev 1998",
            "root of summed squared log returns of the mid over {w} s",
            (*WINDOWS, 300),
        ),
        *(
            Feature(
                f"kyle_lambda_{w}",
                "price/base",
                w + 1.0,
                "trades",
                "Kyle 1985",
                f"price move a unit of signed volume, least squares over {w} buckets of 1 s; 0 without variation",
            )
            for w in (30, 300)
        ),
        Feature(
            "amihud_300",
            "1/quote",
            301.0,
            "trades",
            "Amihud 2002",
            "mean of |return| over quote volume, 1 s buckets with a trade in the last 300 s",
            version=2,
        ),
        Feature("roll_spread_300", "price", 300.0, "trades", "Roll 1984", "spread implied by the bounce of trade prices over 300 s"),
        Feature(
            "vpin",
            "[0, 1]",
            7200.0,
            "trades",
            "Easley, Lopez de Prado and O'Hara 2012",
            "order-flow toxicity: mean imbalance of the last 50 volume buckets; a bucket is 1/50 of the last full hour's volume",
        ),
    ]


def _clock() -> list[Feature]:
    return [
        Feature("hour", "h", 0.0, "clock", "calendar", "UTC hour of the day"),
        Feature("minute", "min", 0.0, "clock", "calendar", "minute of the hour"),
        Feature("day_of_week", "d", 0.0, "clock", "calendar", "0 Monday to 6 Sunday, UTC"),
        Feature("hour_sin", "", 0.0, "clock", "calendar", "sine of the time of day"),
        Feature("hour_cos", "", 0.0, "clock", "calendar", "cosine of the time of day"),
    ]


def _regime() -> list[Feature]:
    source, since = "Adams and MacKay 2007", "while cold or doubtful; counted from the first book, or the first behind 300 s of silence"
    return [
        Feature(
            "bocpd_change_prob",
            "[0, 1]",
            306.0,
            "regime",
            source,
            "probability that the 1 s returns changed within the last five seconds",
            2,
            since,
        ),
        Feature("bocpd_run_length", "s", 301.0, "regime", source, "posterior mean of the time since the last change", 2, since),
    ]


FEATURES: tuple[Feature, ...] = (*_book(), *_flow(), *_clock(), *_regime())
NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)
REGIME = NAMES.index("bocpd_change_prob")  # its column and the next are the detectors' to fill; NaN until they did
VERSION = sha256(repr([(f.name, f.version) for f in FEATURES]).encode()).hexdigest()[:12]

_LEVELS = {"mid", "weighted_mid", "microprice"}  # price levels: a tree would learn the date from them
_APART = _LEVELS | {f.name for f in FEATURES if f.family in ("clock", "regime")}
SETS: dict[str, tuple[str, ...]] = {
    "all": NAMES,
    "l2_core": tuple(f.name for f in FEATURES if f.name not in _APART and not f.name.startswith("mlofi_1_")),
    "trades": tuple(f.name for f in FEATURES if f.family == "trades"),
}

# Of these, by definition, more is more buying pressure: a model may be held to use them that way
# round, which is worth more than any amount of fitting when there are only minutes to learn from.
BUYING = frozenset(
    name
    for name in NAMES
    if name.startswith(("imbalance_", "depth_ratio_", "ofi_", "mlofi_", "trade_imbalance_", "signed_volume_")) or name == "pressure"
)


def columns(names: tuple[str, ...]) -> list[int]:
    """Return where the named features stand in the matrix.

    Raises
    ------
    KeyError
        A name the catalogue does not hold.

    Examples
    --------
    >>> columns(("mid", "spread_bps"))
    [0, 1]
    """
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise KeyError(f"features {unknown} are not in the catalogue; it holds {len(NAMES)}, such as {NAMES[:3]}")
    return [NAMES.index(name) for name in names]
