import numpy as np
import pytest

from tests.warehouse.examples import DAY_NS, NOON_NS, STREAM, rows_of, write
from warehouse.expectations import RULES, check, count
from warehouse.lake import Lake
from warehouse.schema import CROSSED, TABLES

DAY = "2026-01-01"


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
    rows = rows_of("trades", 0, 10)
    rows["aggressor"] = [1, -1, 0, 2, 1, 1, 1, 1, 1, 1]
    rows["price"][5:7] = [0.0, np.nan]
    rows["size"][8] = -1.0
    assert _broken(lake, "trades", rows) == {"aggressor_unknown": 1, "price_not_positive": 2, "size_not_positive": 1}


def test_a_missing_row_is_found_and_midnight_makes_none(lake):
    rows = rows_of("trades", 0, 20, NOON_NS + DAY_NS // 2 - 10, 1)
    rows["aggressor"] = 1
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
    trades = rows_of("trades", 0, 10)
    trades["aggressor"], trades["size"][2] = 1, 0.0
    write(lake, "trades", trades, "b")
    findings = check(lake, *STREAM, DAY, docs=True)
    assert findings.rows["l2_snapshots"] == 20
    assert findings.violations == {"trades.size_not_positive": 1}
    assert findings.docs is not None
    assert "html" in findings.docs.read_text()[:200].lower()


def test_every_rule_is_sql_over_its_table(lake):
    with lake.connect() as connection:
        for table in RULES:
            assert set(count(connection, table, *STREAM, DAY).values()) == {0}
    assert set(RULES) == {name for name in TABLES if all(c.kind != "str" for c in TABLES[name].columns)}
