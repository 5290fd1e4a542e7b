import pytest

from tasks.validate import validate
from tests.warehouse.examples import STREAM, rows_of, write
from warehouse.errors import InvalidRowsError
from warehouse.lake import Lake


def test_good_rows_are_counted_and_bad_ones_refused_with_their_number(tmp_path):
    lake = Lake(tmp_path)
    rows = rows_of("trades", 0, 10)
    rows["aggressor"] = 1
    write(lake, "trades", rows, "good")
    assert validate(lake, *STREAM, "2026-01-01")["trades"] == 10
    rows = rows_of("trades", 10, 5)
    rows["aggressor"] = 9
    write(lake, "trades", rows, "bad")
    with pytest.raises(InvalidRowsError, match=r"2026-01-01 must break no rule, rows that do: trades.aggressor_unknown: 5"):
        validate(lake, *STREAM, "2026-01-01")
