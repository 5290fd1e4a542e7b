"""Each query: rows in, rows out, written out."""

import numpy as np
import pytest

from tests.warehouse.examples import DAY_NS, NOON_NS, STREAM, rows_of, write
from warehouse.expectations import Findings, Stretch
from warehouse.lake import Lake
from warehouse.quarantine import mark
from warehouse.schema import GAP, OK, RESYNC, START, SUSPECT, row_dtype

S = 1_000_000_000


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def _changes(*moments):
    rows = np.zeros(len(moments), row_dtype("coverage_changes"))
    for seq, (second, state, expected, received) in enumerate(moments):
        rows[seq] = (NOON_NS + second * S, NOON_NS + second * S, seq, seq * 10, state, expected, received)
    return rows


CHANGES = _changes((0, START, 0, 0), (2, OK, 0, 0), (10, GAP, 100, 105), (10, RESYNC, 0, 0), (11, OK, 0, 0))


@pytest.mark.parametrize("seal", [False, True])
def test_coverage_ends_each_interval_where_the_next_begins_and_the_last_with_the_stream(lake, seal):
    writer = write(lake, "coverage_changes", CHANGES, "a", seal=False)
    writer.append("trades", *STREAM, rows_of("trades", 0, 3, NOON_NS + 13 * S, S))
    writer.commit()
    if seal:
        writer.close()
    found = lake.sql("SELECT state_name, start_ns, end_ns, expected_id, received_id FROM coverage")
    rows = [
        (row["state_name"], (row["start_ns"] - NOON_NS) / S, (row["end_ns"] - NOON_NS) / S, row["expected_id"], row["received_id"])
        for row in found.to_pylist()
    ]
    assert rows == [("start", 0, 2, 0, 0), ("ok", 2, 10, 0, 0), ("gap", 10, 10, 100, 105), ("resync", 10, 11, 0, 0), ("ok", 11, 15, 0, 0)]
    writer.close()


def test_a_stream_that_is_good_is_known_to_be_so_until_its_last_book_though_trades_came(lake):
    write(lake, "l2_snapshots", rows_of("l2_snapshots", 0, 2, NOON_NS + 11 * S, S), "a")
    write(lake, "trades", rows_of("trades", 0, 3, NOON_NS + 13 * S, S), "b")
    write(lake, "coverage_changes", CHANGES, "c")
    last = lake.sql("SELECT state_name, end_ns FROM coverage ORDER BY start_ns DESC LIMIT 1").to_pylist()[0]
    assert (last["state_name"], (last["end_ns"] - NOON_NS) / S) == ("ok", 12)


def test_coverage_of_a_stream_with_nothing_else_ends_with_its_last_change(lake):
    write(lake, "coverage_changes", CHANGES[:2])
    assert lake.sql("SELECT end_ns - start_ns AS ns FROM coverage")["ns"].to_pylist() == [2 * S, 0]


def test_an_interval_never_ends_before_it_starts(lake):
    changes = _changes((5, START, 0, 0), (4, OK, 0, 0))
    write(lake, "coverage_changes", changes)
    assert lake.sql("SELECT end_ns - start_ns AS ns FROM coverage")["ns"].to_pylist() == [0, S]


def test_coverage_per_day(lake):
    write(lake, "coverage_changes", CHANGES)
    found = lake.sql("SELECT day::VARCHAR AS day, state_name, intervals, seconds FROM coverage_per_day").to_pylist()
    assert [tuple(row.values()) for row in found] == [
        ("2026-01-01", "gap", 1, 0.0),
        ("2026-01-01", "ok", 2, 8.0),
        ("2026-01-01", "resync", 1, 1.0),
        ("2026-01-01", "start", 1, 2.0),
    ]


def test_latency(lake):
    rows = rows_of("l2_snapshots", 0, 101)
    rows["receive_ns"] = rows["exchange_ns"] + np.arange(101) * 1_000_000
    write(lake, "l2_snapshots", rows)
    (found,) = lake.sql("SELECT * FROM latency").to_pylist()
    assert found == {
        "venue": STREAM[0], "symbol": STREAM[1], "day": "2026-01-01", "books": 101, "median_ms": 50.0, "p99_ms": 99.0, "max_ms": 100.0,
    }  # fmt: skip


def test_rows_per_day(lake):
    write(lake, "trades", rows_of("trades", 0, 4, NOON_NS, DAY_NS // 2))
    write(lake, "l2_snapshots", rows_of("l2_snapshots", 0, 2), "b")
    found = [tuple(row.values()) for row in lake.sql("SELECT table_name, day, n, first_seq, last_seq FROM rows_per_day").to_pylist()]
    assert found == [
        ("l2_snapshots", "2026-01-01", 2, 0, 1),
        ("trades", "2026-01-01", 1, 0, 0),
        ("trades", "2026-01-02", 2, 1, 2),
        ("trades", "2026-01-03", 1, 3, 3),
    ]


def test_quality_names_everything_missing_or_doubtful(lake):
    minutes = np.zeros(3, row_dtype("stream_minutes"))
    minutes["seq"], minutes["exchange_ns"] = np.arange(3), NOON_NS + np.arange(3) * 60 * S
    minutes["gaps"], minutes["reconnects"], minutes["messages"] = (1, 0, 0), (2, 0, 0), 100
    writer = write(lake, "coverage_changes", CHANGES, "a", seal=False)
    writer.append("stream_minutes", *STREAM, minutes)
    row = {"exchange_ns": NOON_NS + 20 * S, "receive_ns": 1, "seq": 0, "end_ns": NOON_NS + 21 * S, "kind": SUSPECT, "detail": "said so"}
    writer.append("findings", *STREAM, [row | {"expected": 0.0, "received": 1.0}])
    stamps = [NOON_NS + second * S for second in (30, 31, 90)]
    unread = [{"receive_ns": ns, "seq": seq, "event_seq": 50 + seq, "reason": f"r{seq}", "frame": "x"} for seq, ns in enumerate(stamps)]
    writer.append("unreadable", *STREAM, unread)
    writer.close()
    mark(lake, *STREAM, "2026-01-01", Findings({}, {}, {}, (Stretch("trades", "price_jumped", NOON_NS + 40 * S, NOON_NS + 42 * S, 2),)))
    found = lake.sql("SELECT * FROM quality WHERE symbol = 'BTC-USDT-PERP'").to_pylist()
    told = [((row["start_ns"] - NOON_NS) / S, row["duration_s"], row["kind"], row["count"], row["why"].split(";")[0]) for row in found]
    assert told == [
        (0, 2, "start", 1, "recording began, the book was not whole yet"),
        (0, 60, "minute", 3, "gaps 1, reconnects 2"),
        (10, 0, "gap", 1, "id 100 should have come, 105 came"),
        (10, 1, "resync", 1, "the book was being made whole again"),
        (20, 1, "suspect", 1, "said so"),
        (30, 1, "unreadable", 2, "first of them: r0"),
        (40, 2, "quarantined", 2, "trades.price_jumped: the price moves by 1000 bps at most from row to row"),
        (90, 0, "unreadable", 1, "first of them: r2"),
    ]
    assert all((row["end_time"] - row["start_time"]).total_seconds() == row["duration_s"] for row in found)
