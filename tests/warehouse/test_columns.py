import numpy as np
import pyarrow as pa
import pytest

from tests.warehouse.examples import rows_of, text_rows
from warehouse.columns import arrow_schema, days, is_packed, text_batch, to_batch, to_rows
from warehouse.errors import RowTypeError, UnknownTableError
from warehouse.schema import TABLES, row_dtype


@pytest.mark.parametrize("table", [name for name in TABLES if is_packed(name)])
def test_rows_become_columns_and_rows_again_bit_by_bit(table):
    rows = rows_of(table, 5, 5000)
    batch = to_batch(table, rows)
    assert batch.schema == arrow_schema(table)
    assert sum(column.null_count for column in batch.columns) == 0
    halves = pa.concat_tables([pa.table(batch.slice(0, 1)), pa.table(batch.slice(1))])
    assert to_rows(table, halves).tobytes() == rows.tobytes()


def test_levels_are_named_by_side_and_depth():
    rows = rows_of("l2_snapshots", 0, 2)
    batch = to_batch("l2_snapshots", rows)
    for field, stem in (("bid_px", "bid_px"), ("bid_sz", "bid_sz"), ("ask_px", "ask_px"), ("ask_sz", "ask_sz")):
        for level in (0, 7, 19):
            np.testing.assert_array_equal(batch[f"{stem}_{level:02d}"].to_numpy(), rows[field][:, level])


def test_strided_rows_are_taken_as_they_read():
    rows = rows_of("trades", 0, 10)[::2]
    assert to_rows("trades", pa.table(to_batch("trades", rows))).tobytes() == rows.tobytes()


def test_an_open_table_takes_further_doubles():
    base = rows_of("features", 0, 3)
    wide = np.zeros(3, np.dtype([*base.dtype.descr, ("spread_bps", "f8"), ("mid", "f8")]))
    for name in base.dtype.names:
        wide[name] = base[name]
    wide["mid"] = [1.0, np.nan, 3.0]
    batch = to_batch("features", wide)
    assert batch.schema.names[-2:] == ["spread_bps", "mid"]
    np.testing.assert_array_equal(batch["mid"].to_numpy(), wide["mid"])


@pytest.mark.parametrize(
    ("table", "dtype"),
    [
        ("trades", row_dtype("l2_snapshots")),
        ("trades", np.dtype([*row_dtype("trades").descr, ("more", "f8")])),
        ("features", np.dtype([*row_dtype("features").descr, ("more", "f4")])),
        ("features", np.dtype([*row_dtype("features").descr, ("more", "i8")])),
        ("trades", np.dtype("f8")),
    ],
)
def test_rows_of_another_type_are_refused_by_name(table, dtype):
    with pytest.raises(RowTypeError, match=rf"rows of {table} must have dtype exchange_ns <i8.*received dtype"):
        to_batch(table, np.zeros(1, dtype))


def test_text_rows_must_have_the_columns_of_the_table():
    assert text_batch("unreadable", text_rows(0, 3)).num_rows == 3
    assert text_batch("unreadable", pa.Table.from_pylist(text_rows(0, 3))).num_rows == 3
    with pytest.raises(RowTypeError, match=r"must have the columns receive_ns, seq, event_seq, reason, frame, received reason"):
        text_batch("unreadable", [{"reason": "?"}])
    with pytest.raises(RowTypeError, match=r"must have the types receive_ns int64"):
        text_batch("unreadable", [{**text_rows(0, 1)[0], "seq": "first"}])


def test_a_missing_column_is_named():
    with pytest.raises(RowTypeError, match=r"received none named price, size"):
        to_rows("trades", pa.table(to_batch("trades", rows_of("trades", 0, 1))).drop_columns(["price", "size"]))


def test_an_unknown_table_is_answered_with_the_known():
    with pytest.raises(UnknownTableError, match=r"must be one of l2_snapshots, trades, .* received 'books'"):
        arrow_schema("books")


def test_days_change_at_midnight_utc_also_before_1970():
    stamps = np.array([-1, 0, 86_399_999_999_999, 86_400_000_000_000])
    rows = np.zeros(4, row_dtype("trades"))
    rows["exchange_ns"] = stamps
    assert days("trades", to_batch("trades", rows)).tolist() == [-1, 0, 0, 1]
