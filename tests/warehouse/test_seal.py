import shutil
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from tests.warehouse.examples import STREAM, rows_of, write
from warehouse.delta import Log
from warehouse.lake import Lake
from warehouse.parquet import write as write_parquet
from warehouse.seal import unsealed
from warehouse.wal import tail


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def _crash(tmp_path, first, step):
    done = subprocess.run(
        [sys.executable, "-m", "tests.warehouse.crash_points", str(tmp_path), str(first), str(step)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return int(done.stdout)


def test_a_kill_at_file_operations_throughout_leaves_a_whole_prefix(tmp_path):
    assert _crash(tmp_path, 5, 17) >= 8


@pytest.mark.slow
def test_a_kill_at_every_third_file_operation_leaves_a_whole_prefix(tmp_path):
    assert _crash(tmp_path, 1, 3) >= 43


def test_segments_that_outlive_their_commit_are_not_sealed_twice(lake, tmp_path):
    rows = rows_of("trades", 0, 20)
    writer = write(lake, "trades", rows, seal=False)
    shutil.copytree(lake.root / "wal", tmp_path / "before")
    writer.close()
    shutil.copytree(tmp_path / "before", lake.root / "wal", dirs_exist_ok=True)
    assert lake.rows("trades", *STREAM).tobytes() == rows.tobytes()
    assert lake.sql("SELECT count(*) AS n FROM trades")["n"].to_pylist() == [20]
    version = lake.version("trades")
    with lake.writer() as again:
        assert again.session(*STREAM, "only").resume["trades"] == 19
    assert lake.version("trades") == version
    assert lake.rows("trades", *STREAM).tobytes() == rows.tobytes()


def test_a_file_without_its_commit_is_neither_read_nor_kept(lake):
    rows = rows_of("trades", 0, 20)
    writer = write(lake, "trades", rows, seal=False)
    (part,) = tail(lake._layout.wal(*STREAM), "trades")
    name = "rows-000000000000-000000000009.parquet"
    table = unsealed([part], -1).slice(0, 10)
    write_parquet(lake._layout, "trades", STREAM, "2026-01-01", name, table.schema, [table])
    assert lake.rows("trades", *STREAM).tobytes() == rows.tobytes()
    for stream in writer._streams.values():
        stream.close()
    with lake.writer() as again:
        again.session(*STREAM, "only")
    assert [path.name for path in lake.root.glob("tables/trades/venue=*/**/*.parquet")] == ["rows-000000000000-000000000019.parquet"]
    assert lake.rows("trades", *STREAM).tobytes() == rows.tobytes()


def test_rows_of_a_commit_that_fails_after_it_went_through_are_not_sealed_again(lake, monkeypatch):
    writer = write(lake, "trades", rows_of("trades", 0, 20), seal=False)

    def fails(log, version):
        raise OSError(5, "the disk answers no more")

    with monkeypatch.context() as patched:
        patched.setattr(Log, "_sync", fails)
        with pytest.raises(OSError, match="answers no more"):
            writer.seal()
    writer.append("trades", *STREAM, rows_of("trades", 20, 20))
    writer.close()
    assert lake.rows("trades", *STREAM)["seq"].tolist() == list(range(40))


def test_a_version_that_is_known_is_read_again_once_the_log_no_longer_reaches_back(lake):
    log = lake._layout.log("trades")
    assert log.again(log.snapshot()).version == -1
    write(lake, "trades", rows_of("trades", 0, 10)).close()
    known = log.snapshot()
    assert log.again(known) is known
    for n in range(1, 4):
        write(lake, "trades", rows_of("trades", 10 * n, 10), f"run {n}").close()
    DeltaTable(log.folder).create_checkpoint()
    newest = log.version()
    for version in range(newest):
        (log.folder / "_delta_log" / f"{version:020d}.json").unlink()
    assert log.again(known).version == newest
    assert log.again(log.snapshot()).watermark(*STREAM) == 39


def test_files_are_encoded_as_chosen(lake):
    write(lake, "l2_snapshots", rows_of("l2_snapshots", 0, 70_000, step_ns=100_000))
    (path,) = lake.root.glob("tables/l2_snapshots/venue=*/**/*.parquet")
    metadata = pq.ParquetFile(path).metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [61_440, 70_000 - 61_440]
    group = metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert "DELTA_BINARY_PACKED" in columns["exchange_ns"].encodings
    assert "RLE_DICTIONARY" in columns["bid_px_00"].encodings
    assert not list((lake.root / "tmp").iterdir())


def test_rows_above_a_watermark_come_once_and_in_order(lake):
    writer = write(lake, "trades", rows_of("trades", 0, 10), seal=False)
    parts = tail(lake._layout.wal(*STREAM), "trades")
    assert unsealed([*parts, *parts], -1)["seq"].to_pylist() == list(range(10))
    assert unsealed(parts, 6)["seq"].to_pylist() == [7, 8, 9]
    assert unsealed(parts, 9) is None
    writer.close()


def test_a_seal_that_is_late_leaves_whole_streams_and_the_next_writer_seals_them_once(lake):
    n = 12
    streams = [("binance_usdm", f"S{i}-USDT-PERP") for i in range(n)]
    expected = {table: rows_of(table, 0, 30).tobytes() for table in ("l2_snapshots", "trades")}
    writer = lake.writer()
    for stream in streams:
        session = writer.session(*stream, "first", tuple(expected))
        for first in (0, 10):
            for table in expected:
                session.append(table, rows_of(table, first, 10))
            writer.commit()
    asked, of = [], writer._marks.of

    def hurried(table, stream):
        asked.append(stream)
        if len(asked) == 4:
            writer.hurry(0.0)
        return of(table, stream)

    writer._marks.of = hurried  # the patience is over in the middle of a seal
    assert 0 < writer.seal() < n * 40
    for stream in streams:
        for table in expected:
            writer._streams[stream].buffers[table].append(rows_of(table, 20, 10))
    assert writer.close() > 0
    left = {path.parent for path in lake.root.glob("wal/*/*/*.wal")}
    assert 0 < len(left) <= n
    for stream in streams:
        for table, bits in expected.items():
            assert lake.rows(table, *stream).tobytes() == bits
    assert lake.sql("SELECT count(*) AS n FROM trades")["n"].to_pylist() == [n * 30]
    version = lake.version("trades")
    with lake.writer() as again:
        for stream in streams:
            assert again.session(*stream, "second", tuple(expected)).base["trades"] == 30
        assert lake.version("trades") == version, "hundreds of streams are not sealed one by one while nobody records them"
    assert lake.version("trades") == version + 1
    assert not list(lake.root.glob("wal/*/*/*.wal"))
    for stream in streams:
        for table, bits in expected.items():
            assert lake.rows(table, *stream).tobytes() == bits
            assert lake.read(table, *stream, tail=False).num_rows == 30


def test_what_a_dead_writer_left_is_sealed_at_once_where_others_write_a_part_of_its_tables(lake):
    dead = lake.writer()
    session = dead.session(*STREAM, "first", ("trades", "predictions"))
    session.append("trades", rows_of("trades", 0, 5))
    session.append("predictions", rows_of("predictions", 0, 5))
    dead.commit()
    for stream in dead._streams.values():
        stream.close()
    with lake.writer() as recorder, lake.writer() as scorer:
        recorder.session(*STREAM, "books", ("trades",))
        scores = scorer.session(*STREAM, "scores", ("predictions",))
        scores.append("predictions", rows_of("predictions", 5, 5))
        scorer.commit()
        assert scorer.seal() == 5
        assert recorder.seal() == 0
    assert lake.rows("predictions", *STREAM).tobytes() == rows_of("predictions", 0, 10).tobytes()
    assert lake.rows("trades", *STREAM).tobytes() == rows_of("trades", 0, 5).tobytes()
