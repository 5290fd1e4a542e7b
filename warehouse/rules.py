"""Which rules the rows of each table obey: those its columns imply, and those of books, trades and candles.

A rule is an SQL expression that is true of a row that breaks it.  A `broken` rule says that
software or disk failed: nothing else of that partition deserves trust either.  A rule with
`is_bound` says that a number is beyond what is plausible: only that stretch is left out.
Doubtful rows promise nothing but their place.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from warehouse.schema import FINDINGS, LEVELS, SIGNALS, STATES, TABLES

MAX_SILENCE_S = 600.0  # between two books of a stream that lost nothing; quiet markets pause for minutes
MAX_LATE_S = 300.0  # from the venue's clock to ours
MAX_EARLY_S = 60.0  # by which our clock may be behind the venue's
MAX_BACK_S = 10.0  # by which the venue's stamps may run back; real ones do by a second or two
MAX_SPREAD_BPS = 2_000.0
MAX_JUMP_BPS = 1_000.0  # of the mid, or of the price from trade to trade
MAX_FUNDING = 0.1  # a payment; venues cap it at 0.03 to 0.04

_RECORDED = ("l2_snapshots", "trades", "coverage_changes")  # what a fold reads, and so what training depends on
LEARNT_FROM = (*_RECORDED, "features", "labels")


@dataclass(frozen=True)
class Rule:
    """One rule: `meaning` is what holds of good rows; `over_time` that it looks at the row before too."""

    name: str
    breaks: str
    meaning: str
    is_bound: bool = False
    over_time: bool = False


def _unsorted(side: str, worse: str) -> str:
    pairs = ((f"{side}_px_{i:02d}", f"{side}_px_{i + 1:02d}") for i in range(LEVELS - 1))
    # DuckDB takes NaN for the greatest number; a missing level breaks no order.
    return " OR ".join(f"({deeper} {worse} {level} AND NOT isnan({deeper}) AND NOT isnan({level}))" for level, deeper in pairs)


def _any_level(wrong: str) -> str:
    names = ((f"{side}_px_{i:02d}", f"{side}_sz_{i:02d}") for side in ("bid", "ask") for i in range(LEVELS))
    return " OR ".join(f"({wrong.format(price=price, size=size)})" for price, size in names)


def _back(other: str = "true") -> Rule:
    wrong = f"{other} AND era = prev_era AND exchange_ns < prev_exchange_ns - {int(MAX_BACK_S * 1e9)}"
    return Rule("time_runs_back", wrong, f"exchange_ns runs back by {MAX_BACK_S:g} s at most", True, True)


def _apart(other: str = "true") -> Rule:
    least, most = -int(MAX_EARLY_S * 1e9), int(MAX_LATE_S * 1e9)
    wrong = f"{other} AND receive_ns - exchange_ns NOT BETWEEN {least} AND {most}"
    return Rule("clocks_apart", wrong, f"rows come at most {MAX_LATE_S:g} s late and {MAX_EARLY_S:g} s early", True)


def _jump(price: str, other: str) -> Rule:
    wrong = f"{other} AND era = prev_era AND abs({price} / prev_{price} - 1) * 1e4 > {MAX_JUMP_BPS:g} AND NOT isnan({price} / prev_{price})"
    return Rule("price_jumped", wrong, f"the price moves by {MAX_JUMP_BPS:g} bps at most from row to row", True, True)


_ORDER = Rule("event_seq_runs_back", "event_seq <= prev_event_seq", "event_seq ascends with seq", over_time=True)
_SILENT = f"doubt = 0 AND prev_doubt = 0 AND era = prev_era AND exchange_ns - prev_exchange_ns > {int(MAX_SILENCE_S * 1e9)}"
_TWO_SIDED = "NOT isnan(bid_px_00) AND NOT isnan(ask_px_00)"
_GOOD = "doubt = 0"
_INSIDE_OUT = "isfinite(open + close) AND NOT (low <= least(open, close) AND high >= greatest(open, close))"
_UNSIZED = "NOT isnan({price}) AND (isnan({size}) OR {size} <= 0)"
_FRESH = "backfill = 0 AND prev_backfill = 0"  # history that was sent on subscription is old by nature

# What else a rule over time may look at in the row and in the one before it: name to expression.
DERIVED: Mapping[str, Mapping[str, str]] = MappingProxyType({"l2_snapshots": {"mid": "(bid_px_00 + ask_px_00) / 2"}})

_OWN: dict[str, tuple[Rule, ...]] = {
    "l2_snapshots": (
        Rule("touch_missing", f"{_GOOD} AND (isnan(bid_px_00) OR isnan(ask_px_00))", "a good book has two sides"),
        Rule("touch_crossed", f"{_GOOD} AND {_TWO_SIDED} AND bid_px_00 >= ask_px_00", "the best bid is below the best ask"),
        Rule("bids_unsorted", f"{_GOOD} AND ({_unsorted('bid', '>=')})", "bids descend"),
        Rule("asks_unsorted", f"{_GOOD} AND ({_unsorted('ask', '<=')})", "asks ascend"),
        Rule("size_not_positive", f"{_GOOD} AND ({_any_level(_UNSIZED)})", "levels have sizes above 0"),
        Rule("price_not_positive", f"{_GOOD} AND ({_any_level('{price} <= 0')})", "prices are above 0"),
        _ORDER,
        _back(),
        _apart(_GOOD),
        Rule("stale", _SILENT, f"a book that lost nothing is renewed within {MAX_SILENCE_S:g} s", True, True),
        Rule(
            "spread_wide", f"{_GOOD} AND {_TWO_SIDED} AND (ask_px_00 / bid_px_00 - 1) * 1e4 > {MAX_SPREAD_BPS:g}",
            f"the spread is {MAX_SPREAD_BPS:g} bps at most", True,
        ),
        _jump("mid", f"{_GOOD} AND prev_doubt = 0"),
    ),
    "trades": (
        Rule("price_not_positive", "isnan(price) OR price <= 0", "prices are above 0"),
        Rule("size_not_positive", "isnan(size) OR size <= 0", "sizes are above 0"),
        Rule("aggressor_unknown", "aggressor NOT BETWEEN -1 AND 1", "the aggressor is -1, 0 or 1"),
        Rule("backfill_unknown", "backfill NOT BETWEEN 0 AND 1", "backfill is 0 or 1"),
        _ORDER,
        _back(_FRESH),
        _apart("backfill = 0"),
        _jump("price", _FRESH),
    ),
    "coverage_changes": (_ORDER,),
    "features": (_ORDER, Rule("clean_ns_negative", "clean_ns < 0", "clean_ns is a time that passed")),
    "labels": (_ORDER, Rule("label_ends_before_it_starts", "label_end_ns < label_start_ns", "a label ends behind its start")),
    # Predictions need not ascend: books that were left out are scored later, and -1 names none.
    "predictions": (Rule("probability_outside", f"{_GOOD} AND NOT (probability BETWEEN 0 AND 1)", "a probability is 0 to 1"),),
    "stream_minutes": (
        Rule("minute_unaligned", "exchange_ns % 60000000000 <> 0", "a row begins with a minute"),
        Rule("latency_unsorted", "latency_p50_ms > latency_p95_ms OR latency_p95_ms > latency_p99_ms", "quantiles ascend"),
    ),
    "ohlcv": (
        Rule("span_not_positive", "span_s <= 0", "a candle has a length"),
        Rule("price_not_positive", "NOT (isfinite(open) AND open > 0 AND isfinite(close) AND close > 0)", "prices are above 0"),
        Rule("candle_inside_out", _INSIDE_OUT, "low and high enclose open and close"),
        Rule("volume_missing", "NOT isfinite(volume)", "the volume is known"),
    ),
    "funding_rates": (Rule("rate_outside", f"NOT (abs(funding_rate) <= {MAX_FUNDING:g})", f"a rate is {MAX_FUNDING:g} at most"),),
    "open_interest": (Rule("nothing_told", "isnan(amount) AND isnan(value)", "amount or value is known"),),
}  # fmt: skip


def _implied(table: str) -> Iterator[Rule]:
    """Yield what the columns themselves promise: codes that exist, amounts and counts from 0 up, times since 1970."""
    codes = {"state": STATES, "finding": FINDINGS, "signal": SIGNALS}
    for column in TABLES[table].columns:
        name = column.name
        if column.unit in codes:
            last = len(codes[column.unit]) - 1
            yield Rule(f"{name}_unknown", f"{name} NOT BETWEEN 0 AND {last}", f"{name} is a code from 0 to {last}")
        elif name in ("exchange_ns", "receive_ns"):
            yield Rule(f"{name}_missing", f"{name} <= 0", f"{name} is known")
        elif table == "stream_minutes" and column.kind == "i8" and not column.unit and name != "seq":
            yield Rule(f"{name}_negative", f"{name} < 0", f"{name} is a count")
        elif column.unit in ("price", "base", "quote") and not name[-1].isdigit() and name not in ("price", "size"):
            # NaN, where a table allows it, is not below 0 for DuckDB.
            yield Rule(f"{name}_negative", f"{name} < 0", f"{name} is not below 0")


RULES: Mapping[str, Mapping[str, Rule]] = {
    table: {rule.name: rule for rule in (*_OWN.get(table, ()), *_implied(table))}
    for table, declared in TABLES.items()
    if all(column.kind != "str" for column in declared.columns)
}
