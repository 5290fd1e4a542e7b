import pytest

from tasks.validate import validate
from tests.warehouse.examples import DAY_NS, NOON_NS, STREAM, rows_of, write
from warehouse.errors import InvalidRowsError
from warehouse.lake import Lake

DAY = "2026-01-01"


def _trades(first, n):
    rows = rows_of("trades", first, n)
    rows["price"], rows["aggressor"], rows["backfill"] = 100.0, 1, 0
    return rows


def _quarantined(lake):
    columns = ["exchange_ns", "end_ns", "row_count", "table_name", "rule"]
    return [tuple(row.values()) for row in lake.read("quarantine", columns=columns).to_pylist()]


def test_good_rows_are_counted_and_bad_ones_refused_with_their_number(tmp_path):
    lake = Lake(tmp_path)
    write(lake, "trades", _trades(0, 10), "good")
    assert validate(lake, *STREAM, DAY)["trades"] == 10
    assert lake.version("quarantine") == -1
    rows = _trades(10, 5)
    rows["aggressor"] = 9
    write(lake, "trades", rows, "bad")
    with pytest.raises(InvalidRowsError, match=r"2026-01-01 must break no rule, rows that do: trades.aggressor_unknown: 5"):
        validate(lake, *STREAM, DAY)
    midnight = NOON_NS - DAY_NS // 2
    assert _quarantined(lake) == [(midnight, midnight + DAY_NS - 1, 5, "trades", "aggressor_unknown")]


def test_looking_again_at_the_same_rows_writes_nothing_and_mended_rows_are_free(tmp_path):
    lake = Lake(tmp_path)
    rows = _trades(0, 10)
    rows["price"][4:] = 50.0
    write(lake, "trades", rows)
    for _ in range(2):
        assert validate(lake, *STREAM, DAY)["trades"] == 10
        assert lake.version("quarantine") == 1
    ((start, end, n, table, rule),) = _quarantined(lake)
    assert (start, end) == (rows["exchange_ns"][3], rows["exchange_ns"][4])
    assert (n, table, rule) == (1, "trades", "price_jumped")
    rows["price"] = 100.0
    columns = {name: rows[name] for name in rows.dtype.names}
    lake.replace("trades", *STREAM, DAY, columns, {"mended": True})
    validate(lake, *STREAM, DAY)
    assert _quarantined(lake) == []
