"""Every table and column once: name, type, unit, meaning.  Plain data, imports nothing of ours.

`seq` counts the rows of one table within one stream (venue, symbol) without a hole, except
where a table says otherwise: it proves that nothing is lost or doubled.  `event_seq` counts all events of the stream, books,
trades and coverage changes together: it is the order in which everything is folded, live
and in batch.  Receive stamps cannot serve for that, they run backwards in real captures.
"""

from dataclasses import dataclass

import numpy as np

LEVELS = 20  # book levels a side in `l2_snapshots`

# Why a stretch of a stream is doubtful.  The code is what tables store, 0 is fine.
STATES = ("ok", "start", "gap", "stale", "crossed", "resync")
OK, START, GAP, STALE, CROSSED, RESYNC = range(6)

# What was found wrong with rows that looked right when they were written.
FINDINGS = ("suspect", "witness", "quarantined", "queue_full", "clock_jump", "stall", "reconnect", "refused")
SUSPECT, WITNESS, QUARANTINED, QUEUE_FULL, CLOCK_JUMP, STALL, RECONNECT, REFUSED = range(8)
LEFT_OUT = (SUSPECT, WITNESS, QUARANTINED)  # training leaves out what these touch; the others are told

# Why a row was not learnt from: a state, or behind them a finding.
CAUSES = STATES + FINDINGS

# What a detector says.
SIGNALS = ("drift", "burst", "regime_change", "arbitrage", "funding_divergence")
DRIFT, BURST, REGIME_CHANGE, ARBITRAGE, FUNDING_DIVERGENCE = range(5)


@dataclass(frozen=True)
class Column:
    """One column: `kind` is i8, f8 or "str"; one width keeps records aligned for compiled code."""

    name: str
    kind: str
    unit: str
    meaning: str


@dataclass(frozen=True)
class Table:
    """One table, keyed by stream and `seq`, partitioned by venue, symbol and day."""

    name: str
    meaning: str
    columns: tuple[Column, ...]
    open_kind: str | None = None  # further columns of this kind are allowed (features)
    has_holes: bool = False  # `seq` ascends and no number comes twice, but there may be none for a while

    @property
    def names(self) -> tuple[str, ...]:
        """Return the column names in stored order, partition columns left out."""
        return tuple(column.name for column in self.columns)


PARTITION = (
    Column("venue", "str", "", "where it was traded, such as binance_usdm; tasks.venues.directory names them all"),
    Column("symbol", "str", "", "our name of the instrument: BTC-USDT, BTC-USDT-PERP, BTC-USD-PERP"),
    Column("day", "str", "UTC", "day of exchange_ns, YYYY-MM-DD"),
)
_EXCHANGE = Column("exchange_ns", "i8", "ns", "the venue's clock, UTC; transaction time where it sends one")
_RECEIVE = Column("receive_ns", "i8", "ns", "our clock when the row could be known, UTC")
_SEQ = Column("seq", "i8", "", "position in this table within the stream, from 0, without a hole")
_EVENT = Column("event_seq", "i8", "", "position among all events of the stream: the folding order")
_CONTRACT = Column("contract_size", "f8", "quote", "quote units a contract of an inverse instrument, 0 where sizes came in base units")
_CLEAN = Column("clean_ns", "i8", "ns", "time since the stream was last doubtful, on the exchange clock")
_DOUBT = Column("doubt", "i8", "state", "0, or the code in STATES of what makes this row doubtful")


def _levels(side: str) -> list[Column]:
    return [
        *(Column(f"{side}_px_{i:02d}", "f8", "price", f"price of {side} level {i}, NaN where the book is thinner") for i in range(LEVELS)),
        *(Column(f"{side}_sz_{i:02d}", "f8", "base", f"size at {side} level {i}, 0 where the book is thinner") for i in range(LEVELS)),
    ]


TABLES = {
    table.name: table
    for table in (
        Table(
            "l2_snapshots",
            "The best levels of the book after each update that changed it.",
            (
                _EXCHANGE,
                _RECEIVE,
                _SEQ,
                _EVENT,
                Column("update_id", "i8", "", "the venue's id of the last update in the book"),
                _CONTRACT,
                _DOUBT,
                *_levels("bid"),
                *_levels("ask"),
            ),
        ),
        Table(
            "trades",
            "Every trade the venue printed.",
            (
                _EXCHANGE,
                _RECEIVE,
                _SEQ,
                _EVENT,
                Column("trade_id", "i8", "", "the venue's id, consecutive within a symbol"),
                Column("price", "f8", "price", "price"),
                Column("size", "f8", "base", "size in base units"),
                Column("aggressor", "i8", "", "+1 the taker bought, -1 the taker sold, 0 unknown"),
                Column("backfill", "i8", "", "1 for history that the venue sent on subscription"),
                _CONTRACT,
            ),
        ),
        Table(
            "coverage_changes",
            "Each moment at which a stream became good or doubtful; the view `coverage` makes intervals of it.",
            (
                _EXCHANGE,
                _RECEIVE,
                _SEQ,
                _EVENT,
                Column("state", "i8", "state", "code in STATES, from this moment on"),
                Column("expected_id", "i8", "", "update or trade id that should have come, 0 where it does not apply"),
                Column("received_id", "i8", "", "id that came instead"),
            ),
        ),
        Table(
            "features",
            "One row a book update: everything known at that moment, by the names of the catalogue.",
            (_EXCHANGE, _RECEIVE, _SEQ, _EVENT, _CLEAN, _DOUBT),
            open_kind="f8",
        ),
        Table(
            "labels",
            "What happened after a feature row; never an input.",
            (
                _EXCHANGE,
                _SEQ,
                _EVENT,
                Column("label_start_ns", "i8", "ns", "first moment the label looks at"),
                Column("label_end_ns", "i8", "ns", "last moment the label looks at; purging uses both"),
                Column("vol_return", "f8", "sigma", "volatility-normalised return over the horizon"),
                Column("return_bps", "f8", "bps", "return of the label's price over the horizon"),
                Column("direction", "i8", "", "-1, 0, 1: vol_return against the threshold"),
                Column("barrier_label", "i8", "", "triple barrier: -1 short pays, 1 long pays, 0 neither"),
                Column("barrier_ret_bps", "f8", "bps", "what the barrier trade earned after spread and fees"),
                Column("barrier_end_ns", "i8", "ns", "when the first barrier was touched"),
                Column("barrier", "i8", "", "of that trade: 1 profit, -1 stop, 0 time limit; -2 undecided"),
                Column("barrier_doubt", "i8", "", "as doubt, of the span to barrier_end_ns; START too where it is undecided"),
                Column(
                    "microstructure", "i8", "", "-1, 0, 1: the microprice over the horizon, past half the spread and the sweep of an order"
                ),
                Column(
                    "microstructure_weight", "f8", "", "size of imbalance_5 where its sign is the label's, else 1 minus it; NaN unknown"
                ),
                Column("smoothed_direction", "i8", "", "-1, 0, 1: smoothed_bps against the threshold"),
                Column("smoothed_bps", "f8", "bps", "mean of the next mids against the mid; NaN unknown"),
                Column("smoothed_end_ns", "i8", "ns", "when the last of these mids was"),
                Column("smoothed_doubt", "i8", "", "as doubt, of the span to smoothed_end_ns"),
                _DOUBT,
            ),
        ),
        Table(
            "predictions",
            "What a registered model said of a book update.",
            (
                _EXCHANGE,
                _RECEIVE,
                _SEQ,
                _EVENT,
                Column(
                    "book_seq",
                    "i8",
                    "",
                    "seq of the book in l2_snapshots that was scored; -1, as event_seq then, where it was not recorded",
                ),
                Column("probability", "f8", "", "calibrated probability that the price goes up over the horizon"),
                Column("raw_score", "f8", "log odds", "the ensemble's sum before calibration"),
                Column("model_version", "i8", "", "version in the registry"),
                Column("latency_ns", "i8", "ns", "socket read to score on our clock; 0 in a replay"),
                _DOUBT,
            ),
        ),
        Table(
            "stream_minutes",
            "What came over a stream in one minute of our clock, and how late.",
            (
                _EXCHANGE,
                _RECEIVE,
                _SEQ,
                *(
                    Column(name, "i8", "", meaning)
                    for name, meaning in (
                        ("messages", "frames read"),
                        ("books", "book rows"),
                        ("trades", "trade rows"),
                        ("gaps", "losses that the venue's numbers showed"),
                        ("resyncs", "books made whole again"),
                        ("reconnects", "connections opened anew"),
                        ("checksum_failures", "books whose checksum was not the venue's"),
                        ("unreadable", "frames that could not be read, or state a time that cannot be"),
                        ("suspects", "books that a second witness contradicted, or that stayed crossed"),
                        ("queue_full", "times that reading waited because rows waited"),
                    )
                ),
                *(
                    Column(name, "f8", unit, meaning)
                    for name, unit, meaning in (
                        ("latency_p50_ms", "ms", "receive less exchange time, median; the clocks' offset is in it"),
                        ("latency_p95_ms", "ms", "the same, 95th percentile"),
                        ("latency_p99_ms", "ms", "the same, 99th percentile"),
                        ("offset_ms", "ms", "how far our clock is behind the venue's: least latency seen, against the transit assumed"),
                        ("drift_ppm", "ppm", "change of the offset over time"),
                    )
                ),
            ),
        ),
        Table(
            "findings",
            "Stretches that turned out doubtful after they were written; training leaves their rows out.",
            (
                _EXCHANGE,
                _RECEIVE,
                _SEQ,
                Column("end_ns", "i8", "ns", "end of the stretch that begins at exchange_ns, on the venue's clock"),
                Column("kind", "i8", "finding", "code in FINDINGS"),
                Column("expected", "f8", "", "number that should have been: the witness's price, the rows of a partition"),
                Column("received", "f8", "", "number that was"),
                Column("detail", "str", "", "what was compared, and what to do"),
            ),
        ),
        Table(
            "quarantine",
            "Stretches whose rows broke a rule when they were looked at; each look at a day replaces what the one before it found.",
            (
                _EXCHANGE,
                _RECEIVE,
                _SEQ,
                Column("end_ns", "i8", "ns", "end of the stretch that begins at exchange_ns, included"),
                Column("row_count", "i8", "", "rows that break the rule"),
                Column("table_name", "str", "", "table they are in"),
                Column("rule", "str", "", "rule of warehouse/rules.py; seq_missing and seq_doubled are of every table"),
                Column("detail", "str", "", "what holds of good rows, and what to do"),
            ),
        ),
        Table(
            "instruments",
            "What a venue says of an instrument; a row whenever it changes.",
            (
                _EXCHANGE,
                _RECEIVE,
                _SEQ,
                Column("tick", "f8", "price", "step of the price"),
                Column("lot", "f8", "base", "step of the size"),
                Column("contract_usd", "f8", "quote", "quote units a contract of an inverse instrument, else 0"),
                Column("contract_base", "f8", "base", "base units a contract of a linear instrument, else 1"),
            ),
        ),
        Table(
            "ohlcv",
            "Candles that the venue itself serves over REST.",
            (
                _EXCHANGE,
                _RECEIVE,
                _SEQ,
                Column("span_s", "i8", "s", "length of the candle, which opens at exchange_ns"),
                *(Column(name, "f8", "price", f"{name} of trades") for name in ("open", "high", "low", "close")),
                Column("volume", "f8", "base", "traded"),
            ),
        ),
        Table(
            "funding_rates",
            "Funding of perpetuals, as paid.",
            (_EXCHANGE, _RECEIVE, _SEQ, Column("funding_rate", "f8", "", "share of the notional that longs pay shorts")),
        ),
        Table(
            "open_interest",
            "Contracts outstanding.",
            (
                _EXCHANGE,
                _RECEIVE,
                _SEQ,
                Column("amount", "f8", "base", "open interest in base units, NaN where only the value is told"),
                Column("value", "f8", "quote", "open interest in quote units, NaN where only the amount is told"),
            ),
        ),
        Table(
            "consolidated",
            "All venues of one base asset side by side; venue `all`, symbol the base asset.",
            (
                _EXCHANGE,
                _RECEIVE,
                Column("seq", "i8", "250 ms", "step that ends at exchange_ns, since 1970: none twice, some left out"),
                Column("num_venues", "i8", "", "venues with a book no older than 2 s"),
                Column("late_ms", "f8", "ms", "age of the oldest book that was used"),
                Column("avg_price", "f8", "price", "mean of the mids"),
                Column("price_divergence", "f8", "price", "standard deviation of the mids"),
                Column("funding_delta", "f8", "", "highest less lowest funding rate of perpetuals, each per 8 hours, NaN without two"),
                Column("best_bid", "f8", "price", "best bid over venues"),
                Column("best_ask", "f8", "price", "best ask over venues"),
                Column("best_bid_venue", "i8", "", "place of its venue in tasks.venues.directory.VENUES"),
                Column("best_ask_venue", "i8", "", "place of its venue in tasks.venues.directory.VENUES"),
                Column("arb_bps", "f8", "bps", "best bid over best ask net of both taker fees, floored at 0"),
            ),
            open_kind="f8",
            has_holes=True,
        ),
        Table(
            "bars",
            "Bars of the mid and of trades, with the features that are made of bars.",
            (
                _EXCHANGE,
                _RECEIVE,
                _SEQ,
                _EVENT,
                Column("span_s", "i8", "s", "length of the bar, which closed at exchange_ns"),
                *(Column(name, "f8", "price", f"{name} of the mid") for name in ("open", "high", "low", "close")),
                Column("volume", "f8", "base", "traded"),
                Column("buy_volume", "f8", "base", "traded by buying takers"),
                Column("trade_count", "i8", "", "trades"),
                Column("vwap", "f8", "price", "volume-weighted price, NaN without a trade"),
                _DOUBT,
            ),
            open_kind="f8",
        ),
        Table(
            "signals",
            "What the detectors said.",
            (
                _EXCHANGE,
                _RECEIVE,
                _SEQ,
                _EVENT,
                Column("kind", "i8", "signal", "code in SIGNALS"),
                Column("side", "i8", "", "+1 up, -1 down, 0 neither"),
                Column("score", "f8", "", "of the ensemble, or of the one detector"),
                Column("threshold", "f8", "", "that it passed"),
                *(
                    Column(name, "f8", "", f"{name}'s value at that moment")
                    for name in ("cusum", "burst", "bocpd", "spectral_residual", "arb_bps", "funding_delta")
                ),
            ),
        ),
        Table(
            "unreadable",
            "Frames that no decoder could read, kept whole.",
            (
                _RECEIVE,
                _SEQ,
                _EVENT,
                Column("reason", "str", "", "what was expected and what came"),
                Column("frame", "str", "", "the frame, bytes that are not UTF-8 escaped"),
            ),
        ),
    )
}


def row_dtype(table: str) -> np.dtype:
    """Return the packed record type of one table's numeric columns, in stored order.

    Books carry their levels as four nested arrays of 20 instead of 80 fields: `bid_px`,
    `bid_sz`, `ask_px`, `ask_sz`; the bytes are the same.

    Examples
    --------
    >>> row_dtype("trades").names[:3]
    ('exchange_ns', 'receive_ns', 'seq')
    >>> row_dtype("l2_snapshots")["bid_px"].shape
    (20,)
    """
    fields: list[tuple[str, str] | tuple[str, str, tuple[int, ...]]] = []
    for column in TABLES[table].columns:
        if column.kind == "str":
            continue
        stem, _, level = column.name.rpartition("_")
        if level.isdigit() and stem in ("bid_px", "bid_sz", "ask_px", "ask_sz"):
            if level == "00":
                fields.append((stem, "f8", (LEVELS,)))
        else:
            fields.append((column.name, column.kind))
    return np.dtype(fields)
