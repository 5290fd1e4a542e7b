import numpy as np
import pytest

from tests.warehouse.examples import DAY_NS, NOON_NS, STREAM, rows_of, write
from warehouse.expectations import CONTIGUOUS, check, check_all, count
from warehouse.lake import Lake
from warehouse.rules import RULES
from warehouse.schema import CROSSED, GAP, OK, TABLES, row_dtype

DAY = "2026-01-01"
S = 1_000_000_000


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def _books(n=20):
    rows = rows_of("l2_snapshots", 0, n)
    rows["doubt"] = 0
    for side, sign in (("bid", -1), ("ask", 1)):
        rows[f"{side}_px"] = 100 + sign * (1 + np.arange(20))
        rows[f"{side}_sz"] = 1.0
        rows[f"{side}_px"][:, 15:], rows[f"{side}_sz"][:, 15:] = np.nan, 0.0
    return rows


def _trades(first=0, n=10, **times):
    rows = rows_of("trades", first, n, **times)
    rows["price"], rows["aggressor"], rows["backfill"] = 100.0, 1, 0
    return rows


def _broken(lake, table, rows):
    write(lake, table, rows)
    with lake.connect() as connection:
        found = count(connection, table, *STREAM, DAY)
    assert found.pop("n") == len(rows)
    return {rule: number for rule, number in found.items() if number}


def test_good_books_break_no_rule(lake):
    assert _broken(lake, "l2_snapshots", _books()) == {}


@pytest.mark.parametrize(
    ("rule", "spoil"),
    [
        ("touch_crossed", lambda row: row["bid_px"].__setitem__(0, 101.0)),
        ("bids_unsorted", lambda row: row["bid_px"].__setitem__(slice(4, 6), [94.0, 95.0])),
        ("asks_unsorted", lambda row: row["ask_px"].__setitem__(slice(4, 6), [105.0, 105.0])),
        ("size_not_positive", lambda row: row["ask_sz"].__setitem__(14, 0.0)),
        ("size_not_positive", lambda row: row["bid_sz"].__setitem__(3, np.nan)),
        ("event_seq_runs_back", lambda row: row.__setitem__("event_seq", 3)),
        ("price_not_positive", lambda row: row["bid_px"].__setitem__(slice(13, 15), [-1.0, -2.0])),
        ("doubt_unknown", lambda row: row.__setitem__("doubt", 17)),
    ],
)
def test_one_planted_fault_is_found(lake, rule, spoil):
    rows = _books()
    spoil(rows[10])
    assert _broken(lake, "l2_snapshots", rows) == {rule: 1}


def test_a_missing_touch_is_a_fault_only_of_a_book_that_claims_to_be_good(lake):
    rows = _books()
    rows["bid_px"][3], rows["bid_sz"][3] = np.nan, 0.0
    rows["bid_px"][4, 0] = 200.0
    rows["doubt"][4] = CROSSED
    assert _broken(lake, "l2_snapshots", rows) == {"touch_missing": 1}


def test_trades_must_have_a_price_a_size_and_a_side(lake):
    rows = _trades()
    rows["aggressor"] = [1, -1, 0, 2, 1, 1, 1, 1, 1, 1]
    rows["price"][5:7] = [np.nan, 0.0]
    rows["backfill"][7] = 1
    rows["size"][8] = -1.0
    rows["backfill"][9] = 2
    assert _broken(lake, "trades", rows) == {
        "aggressor_unknown": 1, "price_not_positive": 2, "size_not_positive": 1, "backfill_unknown": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("table", "rule", "good", "bad"),
    [
        ("ohlcv", "candle_inside_out", {"open": 2, "high": 3, "low": 1, "close": 2, "span_s": 60}, {"high": 1.5}),
        ("ohlcv", "volume_negative", {"open": 2, "high": 3, "low": 1, "close": 2, "span_s": 60}, {"volume": -1}),
        ("ohlcv", "price_not_positive", {"open": 2, "high": 3, "low": 1, "close": 2, "span_s": 60}, {"open": np.nan}),
        ("funding_rates", "rate_outside", {"funding_rate": 1e-4}, {"funding_rate": np.nan}),
        ("open_interest", "nothing_told", {"amount": 5, "value": np.nan}, {"amount": np.nan}),
        ("open_interest", "value_negative", {"amount": np.nan, "value": 1}, {"value": -1}),
        ("stream_minutes", "gaps_negative", {}, {"gaps": -1}),
        ("stream_minutes", "latency_unsorted", {"latency_p99_ms": 2.0}, {"latency_p95_ms": 3.0}),
        ("stream_minutes", "minute_unaligned", {}, {"exchange_ns": NOON_NS + 1}),
        ("signals", "kind_unknown", {}, {"kind": 5}),
        ("coverage_changes", "state_unknown", {}, {"state": -1}),
    ],
)
def test_each_table_keeps_what_its_columns_promise(lake, table, rule, good, bad):
    rows = np.zeros(4, row_dtype(table))
    rows["seq"], rows["exchange_ns"], rows["receive_ns"] = np.arange(4), NOON_NS + np.arange(4) * 60 * S, NOON_NS
    if "event_seq" in rows.dtype.names:
        rows["event_seq"] = np.arange(4)
    for name, value in good.items():
        rows[name] = value
    for name, value in bad.items():
        rows[name][2] = value
    found = _broken(lake, table, rows)
    assert found.pop(rule) == 1
    assert found == {}


@pytest.mark.parametrize(
    ("table", "rule", "spoil", "span"),
    [
        ("l2_snapshots", "price_jumped", lambda rows: _move(rows, 5, 1.2), (4, 6)),
        ("l2_snapshots", "spread_wide", lambda rows: _part(rows, 5), (5, 5)),
        ("l2_snapshots", "clocks_apart", lambda rows: rows["receive_ns"].__setitem__(5, NOON_NS + 400 * S), (5, 5)),
        ("l2_snapshots", "clocks_apart", lambda rows: rows["receive_ns"].__setitem__(5, NOON_NS - 70 * S), (5, 5)),
        ("l2_snapshots", "stale", lambda rows: rows["exchange_ns"][5:].__iadd__(700 * S), (4, 705)),
        ("l2_snapshots", "time_runs_back", lambda rows: rows["exchange_ns"][5:].__isub__(20 * S), (-15, 4)),
        ("trades", "price_jumped", lambda rows: rows["price"].__setitem__(slice(5, None), 80.0), (4, 5)),
    ],
)
def test_a_number_beyond_its_bound_costs_its_stretch_only(lake, table, rule, spoil, span):
    rows = _books() if table == "l2_snapshots" else _trades(n=20)
    rows["exchange_ns"] = rows["receive_ns"] = NOON_NS + np.arange(20) * S
    spoil(rows)
    if rule in ("stale", "time_runs_back"):
        rows["receive_ns"] = rows["exchange_ns"]
    write(lake, table, rows)
    found = check(lake, *STREAM, DAY)
    assert found.violations == {}
    assert set(found.beyond) == {f"{table}.{rule}"}
    (stretch,) = found.stretches
    assert (stretch.table, stretch.rule, stretch.rows) == (table, rule, found.beyond[f"{table}.{rule}"])
    assert ((stretch.start_ns - NOON_NS) / S, (stretch.end_ns - NOON_NS) / S) == span


def _part(rows, at):
    rows["bid_px"][at] *= 0.88
    rows["ask_px"][at] *= 1.12


def _move(rows, at, factor):
    for side in ("bid_px", "ask_px"):
        rows[side][at] *= factor


def test_what_moved_while_the_stream_was_doubtful_is_no_jump_and_no_silence(lake):
    rows = _books()
    rows["exchange_ns"] = rows["receive_ns"] = NOON_NS + np.arange(20) * S
    rows["exchange_ns"][10:] += 1000 * S
    rows["receive_ns"] = rows["exchange_ns"]
    for at in range(10, 20):
        _move(rows, at, 1.5)
    changes = np.zeros(2, row_dtype("coverage_changes"))
    changes["seq"], changes["event_seq"], changes["state"] = (0, 1), (18, 19), (GAP, OK)
    changes["exchange_ns"] = changes["receive_ns"] = NOON_NS + 10 * S
    write(lake, "coverage_changes", changes, "a")
    write(lake, "l2_snapshots", rows, "b")
    assert check(lake, *STREAM, DAY).beyond == {}


def test_history_that_was_sent_on_subscription_may_be_old(lake):
    rows = _trades()
    rows["backfill"][:5] = 1
    rows["exchange_ns"][:5] -= 3600 * S
    rows["price"][:5] = 50.0
    write(lake, "trades", rows)
    assert check(lake, *STREAM, DAY).beyond == {}


def test_a_missing_row_is_found_and_midnight_makes_none(lake):
    rows = _trades(n=20, start_ns=NOON_NS + DAY_NS // 2 - 10, step_ns=1)
    rows["exchange_ns"][3] += 100
    write(lake, "trades", rows)
    with lake.connect() as connection:
        for day in (DAY, "2026-01-02"):
            found = count(connection, "trades", *STREAM, day)
            assert (found["n"], found["seq_missing"], found["seq_doubled"]) == (9 if day == DAY else 11, 0, 0)
        connection.execute(
            "ALTER VIEW trades RENAME TO whole; CREATE VIEW trades AS FROM whole WHERE seq <> 5 UNION ALL FROM whole WHERE seq = 7"
        )
        found = count(connection, "trades", *STREAM, DAY)
        assert (found["seq_missing"], found["seq_doubled"]) == (1, 1)


def test_great_expectations_agrees_and_writes_its_docs(lake):
    write(lake, "l2_snapshots", _books(), "a")
    trades = _trades()
    trades["size"][2] = 0.0
    write(lake, "trades", trades, "b")
    later = _trades(10, start_ns=NOON_NS + DAY_NS)
    write(lake, "trades", later, "c")
    findings, clean = check_all(lake, [(*STREAM, DAY), (*STREAM, "2026-01-02")], docs=True)
    assert findings.rows["l2_snapshots"] == 20
    assert findings.violations == {"trades.size_not_positive": 1}
    assert (clean.violations, clean.beyond, clean.rows["trades"]) == ({}, {}, 10)
    page = findings.docs.read_text()
    assert "html" in page[:200].lower()
    assert f"{STREAM[0]} {STREAM[1]} {DAY}" in page
    pages = sorted(findings.docs.parent.glob("validations/**/*.html"))
    assert len(pages) == 3, "a page a table and day"
    assert len(list(findings.docs.parent.glob("expectations/*.html"))) == 2
    check(lake, *STREAM, DAY, docs=True)
    assert len(list(findings.docs.parent.glob("validations/**/*.html"))) == 2, "those of the last look only"


def test_every_rule_is_sql_over_its_table(lake):
    with lake.connect() as connection:
        for table, rules in RULES.items():
            found = count(connection, table, *STREAM, DAY)
            assert set(found) == {"n", *rules, *CONTIGUOUS}
            assert set(found.values()) == {0}
    assert set(RULES) == {name for name in TABLES if all(c.kind != "str" for c in TABLES[name].columns)}
