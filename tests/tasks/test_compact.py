from tasks.compact import compact, compact_lake
from tests.warehouse.examples import STREAM, rows_of, write
from warehouse.lake import Lake


def test_upkeep_merges_publishes_and_says_what_it_did(tmp_path):
    lake = Lake(tmp_path)
    for first in (0, 10, 20):
        write(lake, "trades", rows_of("trades", first, 10), f"from {first}")
    assert compact(lake) == [{"table": "trades", "merged": 3, "deleted": 0}]
    assert lake.warehouse.is_file()
    assert compact_lake.fn(lake) == []
    assert lake.rows("trades", *STREAM).tobytes() == rows_of("trades", 0, 30).tobytes()
