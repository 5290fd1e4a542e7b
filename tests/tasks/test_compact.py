from tasks.compact import compact, compact_lake
from tests.warehouse.examples import DAY_NS, STREAM, rows_of, write
from warehouse.lake import Lake


def test_upkeep_merges_publishes_and_says_what_it_did(tmp_path):
    lake = Lake(tmp_path)
    for first in (0, 10, 20):
        write(lake, "trades", rows_of("trades", first, 10), f"from {first}")
    assert compact(lake) == [{"table": "trades", "merged": 3, "expired": 0, "deleted": 0}]
    assert lake.warehouse.is_file()
    assert compact_lake.fn(lake) == []
    assert lake.rows("trades", *STREAM).tobytes() == rows_of("trades", 0, 30).tobytes()


def test_what_is_too_old_or_too_much_leaves(tmp_path):
    lake = Lake(tmp_path)
    write(lake, "trades", rows_of("trades", 0, 40, step_ns=DAY_NS // 10))
    assert compact(lake, {"trades": 3}) == [{"table": "trades", "merged": 0, "expired": 4, "deleted": 0}]
    assert lake.partitions("trades") == [(*STREAM, "2026-01-05")]
    write(lake, "trades", rows_of("trades", 40, 40, step_ns=DAY_NS // 10), "more")
    assert compact(lake, limit_bytes=1)[0]["expired"] == 5
    assert lake.read("trades")["seq"].to_pylist() == list(range(75, 80))
