import json
import shutil
import subprocess
import sys
import threading
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.warehouse.examples import NOON_NS, STREAM, rows_of, text_rows, write
from warehouse.columns import to_batch
from warehouse.errors import SqlError
from warehouse.lake import Lake
from warehouse.schema import TABLES

DUCKDB = Path(sys.executable).parent / "duckdb"


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def _ask(lake, query, folder):
    """Ask the plain command line, from another folder, without a home to keep extensions in."""
    command = [DUCKDB, "-readonly", "-json", lake.warehouse, "-c", query]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env={"HOME": str(folder)})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout or "[]")


def _columns(table):
    times = [f"{end}_time" for end in ("exchange", "receive") if f"{end}_ns" in TABLES[table].names]
    return ["venue", "symbol", "day", *TABLES[table].names, *times]


@pytest.mark.parametrize("table", TABLES)
def test_empty_tables_are_empty_views_with_their_columns(lake, table):
    with lake.connect() as connection:
        result = connection.execute(f"SELECT * FROM {table}")
        assert [column[0] for column in result.description] == _columns(table)
        assert result.fetchall() == []


def test_a_connection_sees_sealed_and_unsealed_rows_of_all_streams(lake):
    write(lake, "l2_snapshots", rows_of("l2_snapshots", 0, 10))
    write(lake, "unreadable", text_rows(0, 3), stream=("binance_spot", "BTC-USDT"))
    writer = lake.writer()
    for stream, first in ((STREAM, 10), (("binance_spot", "BTC-USDT"), 0)):
        writer.session(*stream, "later")
        writer.append("l2_snapshots", *stream, rows_of("l2_snapshots", first, 5))
    writer.commit()
    found = lake.sql("SELECT venue, count(*) AS n, max(seq) AS last, max(bid_px_00) AS bid FROM l2_snapshots GROUP BY venue ORDER BY venue")
    assert found["n"].to_pylist() == [5, 15]
    assert found["last"].to_pylist() == [4, 14]
    assert found["bid"].to_pylist() == [np.sqrt(6.0), np.sqrt(16.0)]
    assert lake.sql("SELECT reason, day FROM unreadable WHERE seq = 2").to_pylist() == [{"reason": "row 2", "day": "2026-01-01"}]
    writer.close()


def test_views_and_read_agree(lake):
    rows = rows_of("l2_snapshots", 0, 300)
    write(lake, "l2_snapshots", rows[:200])
    writer = write(lake, "l2_snapshots", rows[200:], seal=False)
    names = ", ".join(TABLES["l2_snapshots"].names)
    viewed = lake.sql(f"SELECT {names} FROM l2_snapshots ORDER BY seq")
    found = lake.read("l2_snapshots")
    for name in TABLES["l2_snapshots"].names:
        np.testing.assert_array_equal(viewed[name].to_numpy(), found[name].to_numpy())
    writer.close()


def test_times_are_utc_timestamps(lake):
    write(lake, "trades", rows_of("trades", 0, 1))
    found = lake.sql("SELECT exchange_time, receive_time FROM trades").to_pylist()[0]
    assert found == {"exchange_time": datetime(2026, 1, 1, 12), "receive_time": datetime(2026, 1, 1, 12, 0, 0, 5000)}


def test_feature_columns_come_with_the_rows_that_have_them(lake):
    base = pa.table(to_batch("features", rows_of("features", 0, 2)))
    lake.replace("features", *STREAM, "2026-01-01", base.append_column("mid", pa.array([1.0, 2.0])), {})
    other = pa.table(to_batch("features", rows_of("features", 0, 2, NOON_NS + 86_400_000_000_000)))
    lake.replace("features", *STREAM, "2026-01-02", other.append_column("vpin", pa.array([3.0, 4.0])), {})
    found = lake.sql("SELECT mid, vpin FROM features ORDER BY day, seq").to_pylist()
    assert found == [{"mid": 1.0, "vpin": None}, {"mid": 2.0, "vpin": None}, {"mid": None, "vpin": 3.0}, {"mid": None, "vpin": 4.0}]
    lake.publish()


def test_a_wrong_query_gives_duckdbs_words(lake):
    with pytest.raises(SqlError, match="Table with name books does not exist") as caught:
        lake.sql("SELECT * FROM books")
    assert caught.value.query == "SELECT * FROM books"
    assert lake.sql("SET threads = 1").num_rows == 0


def test_the_plain_command_line_reads_while_a_writer_writes(lake, tmp_path):
    writer = lake.writer()
    session = writer.session(*STREAM, "first")
    session.append("trades", rows_of("trades", 0, 100))
    writer.commit()
    for sealed in (100, 150, 200):
        writer.seal()
        lake.publish()
        session.append("trades", rows_of("trades", sealed, 50))
        writer.commit()
        assert _ask(lake, "SELECT count(*) AS n, count(DISTINCT seq) AS d FROM trades", tmp_path) == [{"n": sealed, "d": sealed}]
    assert lake.sql("SELECT count(*) AS n FROM trades")["n"].to_pylist() == [250], "the tail is for Python only"
    views = _ask(lake, "SELECT table_name FROM information_schema.tables ORDER BY ALL", tmp_path)
    names = {row["table_name"] for row in views}
    assert set(TABLES) | {"coverage", "coverage_per_day", "latency", "rows_per_day"} <= names
    for name in names:
        _ask(lake, f"SELECT * FROM {name}", tmp_path)
    assert _ask(lake, "SELECT exchange_time FROM trades WHERE seq = 0", tmp_path) == [{"exchange_time": "2026-01-01 12:00:00"}]
    assert _ask(lake, "SELECT extension_name FROM duckdb_extensions() WHERE loaded AND install_mode <> 'STATICALLY_LINKED'", tmp_path) == []
    writer.close()


def test_publishing_never_shows_half_a_catalog(lake, tmp_path):
    write(lake, "trades", rows_of("trades", 0, 10))
    lake.publish()
    stop = threading.Event()

    def keep_publishing():
        while not stop.is_set():
            lake.publish()

    thread = threading.Thread(target=keep_publishing)
    thread.start()
    try:
        for _ in range(6):
            assert _ask(lake, "SELECT count(*) AS n FROM trades", tmp_path) == [{"n": 10}]
    finally:
        stop.set()
        thread.join()
    assert not list((lake.root / "tmp").iterdir())


def test_a_moved_lake_is_published_anew(lake, tmp_path):
    write(lake, "trades", rows_of("trades", 0, 10))
    lake.publish()
    moved = Lake(shutil.move(lake.root, tmp_path / "it's elsewhere"))
    moved.publish()
    assert _ask(moved, "SELECT count(*) AS n FROM trades", tmp_path) == [{"n": 10}]
    assert moved.sql("SELECT count(*) AS n FROM trades")["n"].to_pylist() == [10]
