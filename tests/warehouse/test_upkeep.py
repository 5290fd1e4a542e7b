import os
import threading
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.warehouse.examples import DAY_NS, NOON_NS, STREAM, rows_of, write
from warehouse.columns import to_batch
from warehouse.lake import Lake


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def _fill(lake, first, times, n=20, table="trades"):
    with lake.writer() as writer:
        session = writer.session(*STREAM, f"from {first}")
        for at in range(first, first + times * n, n):
            session.append(table, rows_of(table, at, n))
            writer.commit()
            writer.seal()


def _files(lake, table="trades"):
    return list((lake.root / "tables" / table).glob("venue=*/**/*.parquet"))


def test_merging_keeps_every_row_and_every_version(lake):
    _fill(lake, 0, 6)
    before = lake.version("trades")
    assert lake.compact()["trades"] == 6
    assert lake.compact()["trades"] == 0
    assert lake.rows("trades", *STREAM).tobytes() == rows_of("trades", 0, 120).tobytes()
    assert lake.read("trades", version=before).num_rows == 120
    assert len(_files(lake)) == 7
    assert lake.vacuum(0)["trades"] == 6
    (path,) = _files(lake)
    assert pq.ParquetFile(path).metadata.num_rows == 120
    assert lake.rows("trades", *STREAM).tobytes() == rows_of("trades", 0, 120).tobytes()
    _fill(lake, 120, 2)
    assert lake.compact()["trades"] == 3
    assert lake.rows("trades", *STREAM).tobytes() == rows_of("trades", 0, 160).tobytes()
    assert lake.watermark("trades", *STREAM) == 159


def test_large_files_are_left_alone(lake):
    _fill(lake, 0, 6)
    size = min(path.stat().st_size for path in _files(lake))
    assert lake.compact(target_bytes=size)["trades"] == 0
    assert lake.compact(target_bytes=int(size * 3.5))["trades"] == 6
    assert lake.rows("trades", *STREAM).tobytes() == rows_of("trades", 0, 120).tobytes()


def test_rows_that_interleave_between_files_are_merged_in_order(lake):
    rows = rows_of("trades", 0, 60, NOON_NS + DAY_NS // 2 - 30, 1)
    rows["exchange_ns"][10] += 100  # one row of the next day among this day's, in both files
    rows["exchange_ns"][40] -= 100
    write(lake, "trades", rows[:30])
    write(lake, "trades", rows[30:])
    assert lake.compact()["trades"] == 4
    lake.vacuum(0)
    assert lake.rows("trades", *STREAM).tobytes() == rows.tobytes()


def test_partitions_made_by_replace_keep_their_manifest(lake):
    for day, start in (("2026-01-01", NOON_NS), ("2026-01-02", NOON_NS + DAY_NS)):
        lake.replace("labels", *STREAM, day, pa.table(to_batch("labels", rows_of("labels", 0, 5, start))), {"day": day})
    assert lake.compact()["labels"] == 0
    lake.vacuum(0)
    assert lake.manifest("labels", *STREAM, "2026-01-01") == {"day": "2026-01-01"}


def test_a_grace_time_keeps_files_for_readers_that_have_them(lake):
    _fill(lake, 0, 3)
    lake.publish()
    lake.compact()
    with lake.connect() as connection:
        assert lake.vacuum(grace_hours=1)["trades"] == 0
        assert connection.execute("SELECT count(*) FROM trades").fetchone() == (60,)
    assert len(_files(lake)) == 4


def test_files_unknown_to_the_log_go_after_a_day(lake):
    _fill(lake, 0, 1)
    (known,) = _files(lake)
    for name, age_s in (("day-old.parquet", 90_000), ("day-new.parquet", 60)):
        (known.parent / name).write_bytes(b"")
        os.utime(known.parent / name, (time.time() - age_s,) * 2)
    os.utime(known, (0, 0))
    assert lake.vacuum()["trades"] == 1
    assert sorted(path.name for path in _files(lake)) == ["day-new.parquet", known.name]


@pytest.mark.slow
def test_a_long_log_keeps_rows_and_watermarks(lake):
    for first in range(0, 2300, 230):
        _fill(lake, first, 23, 10)
        lake.compact()
        lake.vacuum(0)
    assert list(lake.root.glob("tables/trades/_delta_log/*.checkpoint.parquet"))
    assert lake.watermark("trades", *STREAM) == 2299
    assert lake.rows("trades", *STREAM).tobytes() == rows_of("trades", 0, 2300).tobytes()


def test_readers_see_whole_tables_while_files_are_merged_and_deleted(lake):
    stop, seen, failures = threading.Event(), [0], []

    def keep_reading():
        while not stop.is_set():
            try:
                rows = lake.rows("trades", *STREAM)
                assert rows.tobytes() == rows_of("trades", 0, len(rows)).tobytes(), "not a prefix"
                assert len(rows) >= seen[-1], "went back"
                seen.append(len(rows))
            except BaseException as error:
                failures.append(error)
                return

    def keep_tidy():
        while not stop.is_set():
            try:
                lake.compact()
                lake.vacuum(0)
            except BaseException as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=do) for do in (keep_reading, keep_tidy)]
    for thread in threads:
        thread.start()
    try:
        _fill(lake, 0, 30)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert len(seen) > 3
    assert lake.rows("trades", *STREAM).tobytes() == rows_of("trades", 0, 600).tobytes()


def test_two_that_merge_at_once_double_nothing(lake):
    _fill(lake, 0, 12)
    merged = []
    threads = [threading.Thread(target=lambda: merged.append(lake.compact()["trades"])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(merged) == 12
    lake.vacuum(0)
    assert len(_files(lake)) == 1
    assert lake.rows("trades", *STREAM).tobytes() == rows_of("trades", 0, 240).tobytes()


def test_replace_while_others_read_shows_the_old_or_the_new(lake):
    lake.replace("labels", *STREAM, "2026-01-01", pa.table(to_batch("labels", rows_of("labels", 0, 100))), {"n": 100})
    stop, seen, failures = threading.Event(), set(), []

    def keep_reading():
        while not stop.is_set():
            try:
                seen.add(lake.read("labels").num_rows)
            except BaseException as error:
                failures.append(error)
                return

    thread = threading.Thread(target=keep_reading)
    thread.start()
    for n in (50, 100, 50, 100, 50):
        lake.replace("labels", *STREAM, "2026-01-01", pa.table(to_batch("labels", rows_of("labels", 0, n))), {"n": n})
        lake.vacuum(0)
    stop.set()
    thread.join()
    assert failures == []
    assert seen <= {50, 100}
    assert seen
