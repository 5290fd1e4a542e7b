import numpy as np
import pytest

from tests.warehouse.examples import DAY_NS, NOON_NS, STREAM, rows_of, write
from warehouse.errors import UnknownColumnError, VersionGoneError
from warehouse.lake import Lake

HALF = DAY_NS // 2


@pytest.fixture
def lake(tmp_path):
    """Two days of 10 rows a half day apart: five sealed files and a tail, in two streams."""
    lake = Lake(tmp_path / "lake")
    for stream in (STREAM, ("binance_spot", "BTC-USDT")):
        rows = rows_of("trades", 0, 10, NOON_NS, HALF)
        write(lake, "trades", rows[:4], stream=stream)
        write(lake, "trades", rows[4:7], stream=stream)
        writer = write(lake, "trades", rows[7:], stream=stream, seal=False)
        for held in writer._streams.values():
            held.close()
    return lake


def test_rows_come_by_stream_and_seq_sealed_or_not(lake):
    found = lake.read("trades", columns=["venue", "seq"])
    assert found["seq"].to_pylist() == [*range(10), *range(10)]
    assert found["venue"].to_pylist() == ["binance_spot"] * 10 + ["binance_usdm"] * 10
    assert lake.read("trades", tail=False)["seq"].to_pylist() == [*range(7), *range(7)]
    assert lake.read("trades", "binance_spot")["venue"].unique().to_pylist() == ["binance_spot"]
    assert lake.read("trades", symbol="BTC-USDT-PERP")["venue"].unique().to_pylist() == ["binance_usdm"]
    assert lake.read("trades", "binance_spot", "BTC-USDT-PERP").num_rows == 0


@pytest.mark.parametrize("first", range(0, 11))
@pytest.mark.parametrize("last", [0, 3, 7, 8, 10])
def test_a_stretch_begins_with_its_start_and_ends_before_its_end(lake, first, last):
    start, end = NOON_NS + first * HALF, NOON_NS + last * HALF
    expected = list(range(first, last))
    assert lake.rows("trades", *STREAM, start, end)["seq"].tolist() == expected
    assert lake.rows("trades", *STREAM, start + 1 - HALF, end + 1 - HALF)["seq"].tolist() == expected


def test_columns_come_as_asked_for(lake):
    found = lake.read("trades", *STREAM, columns=["day", "price", "symbol"])
    assert found.column_names == ["day", "price", "symbol"]
    assert found["day"].to_pylist()[:4] == ["2026-01-01", "2026-01-02", "2026-01-02", "2026-01-03"]
    assert lake.read("trades", columns=[]).num_columns == 0
    assert lake.read("trades").column_names[:4] == ["venue", "symbol", "day", "exchange_ns"]
    with pytest.raises(UnknownColumnError, match=r"columns of trades must be among venue, .*; received prize"):
        lake.read("trades", columns=["prize"])


def test_a_version_shows_what_was_sealed_by_then(lake):
    versions = range(1, lake.version("trades") + 1)
    assert [lake.read("trades", version=version).num_rows for version in versions][:2] == [4, 7]
    assert lake.read("trades", version=-1).num_rows == 0
    with pytest.raises(VersionGoneError, match=r"trades has no version 99"):
        lake.read("trades", version=99)
    with pytest.raises(VersionGoneError, match=r"labels has no version 3"):
        lake.read("labels", version=3)


def test_rows_are_in_order_of_seq_where_the_venues_clock_ran_back(tmp_path):
    lake = Lake(tmp_path / "lake")
    rows = rows_of("trades", 0, 100, NOON_NS + HALF - 50, 1)
    rows["exchange_ns"] = np.random.default_rng(3).permutation(rows["exchange_ns"])
    write(lake, "trades", rows)
    assert len(lake.partitions("trades")) == 2
    assert lake.rows("trades", *STREAM).tobytes() == rows.tobytes()
