import numpy as np
import pytest

from flows import upkeep as flow
from flows.upkeep import newest
from tasks.compact import compact
from tasks.validate import look
from tests.warehouse.examples import DAY_NS, NOON_NS, STREAM, rows_of, write
from warehouse.lake import Lake
from warehouse.schema import row_dtype


def _trades(lake, day, aggressor=1):
    rows = rows_of("trades", 10 * day, 10, NOON_NS + day * DAY_NS)
    rows["price"], rows["aggressor"], rows["backfill"] = 100.0, aggressor, 0
    write(lake, "trades", rows, f"day {day}")


def test_the_newest_days_of_each_stream_are_looked_at(tmp_path):
    lake = Lake(tmp_path)
    for day in range(3):
        _trades(lake, day)
    write(lake, "stream_minutes", np.zeros(1, row_dtype("stream_minutes")), "m", ("kraken", "BTC-USD"))
    assert newest(lake, 2) == [(*STREAM, "2026-01-02"), (*STREAM, "2026-01-03"), ("kraken", "BTC-USD", "1970-01-01")]


@pytest.mark.parametrize("aggressor", [1, 7])
def test_upkeep_shows_what_is_doubtful_and_fails_where_a_day_is_quarantined(tmp_path, monkeypatch, aggressor):
    monkeypatch.setenv("TIDEBOOK_LAKE", str(tmp_path))
    monkeypatch.setenv("TIDEBOOK_LAKE_KEEP_DAYS", "trades:1")
    lake, shown, told = Lake(tmp_path), {}, []
    for day in range(3):
        _trades(lake, day, aggressor)
    monkeypatch.setattr(flow, "compact_lake", compact)
    monkeypatch.setattr(flow, "look_at_partitions", look)
    monkeypatch.setattr(flow.monitor, "table", lambda key, rows, _: shown.__setitem__(key, rows))
    monkeypatch.setattr(flow.monitor, "link", lambda key, address, *_: shown.__setitem__(key, address))
    monkeypatch.setattr(flow.notify, "partition_quarantined", lambda *words: told.append(words))
    state = flow.upkeep.fn()
    assert shown["upkeep"] == [{"table": "trades", "merged": 0, "expired": 2, "deleted": 0}]
    assert shown["data-docs"] == (tmp_path / "docs" / "index.html").as_uri()
    assert (state.is_failed(), state.message) == (aggressor == 7, f"1 partitions, {int(aggressor == 7)} quarantined")
    assert told == ([(*STREAM, "2026-01-03", "trades.aggressor_unknown: 10")] if aggressor == 7 else [])
    assert lake.read("quarantine").num_rows == len(told)
