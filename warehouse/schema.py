"""Every table and column once: name, type, unit, meaning.  Plain data, imports nothing of ours.

`seq` counts the rows of one table within one stream (venue, symbol) without a hole: it
proves that nothing is lost or doubled.  `event_seq` counts all events of the stream, books,
trades and coverage changes together: it is the order in which everything is folded, live
and in batch.  Receive stamps cannot serve for that, they run backwards in real captures.
"""

from dataclasses import dataclass

import numpy as np

LEVELS = 20  # book levels a side in `l2_snapshots`

# Why a stretch of a stream is doubtful.  The code is what tables store, 0 is fine.
STATES = ("ok", "start", "gap", "stale", "crossed", "resync")
OK, START, GAP, STALE, CROSSED, RESYNC = range(6)


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

    @property
    def names(self) -> tuple[str, ...]:
        """Return the column names in stored order, partition columns left out."""
        return tuple(column.name for column in self.columns)


PARTITION = (
    Column("venue", "str", "", "where it was traded: binance_spot, binance_usdm, binance_coinm"),
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
                Column("book_seq", "i8", "", "seq of the book in l2_snapshots that was scored"),
                Column("probability", "f8", "", "calibrated probability that the price goes up over the horizon"),
                Column("raw_score", "f8", "log odds", "the ensemble's sum before calibration"),
                Column("model_version", "i8", "", "version in the registry"),
                Column("latency_ns", "i8", "ns", "socket read to score on our clock; 0 in a replay"),
                _DOUBT,
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
