import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.warehouse.examples import DAY_NS, NOON_NS, STREAM, rows_of, text_rows, write
from warehouse.delta import locked
from warehouse.errors import UnknownTableError
from warehouse.lake import Lake
from warehouse.raw import RawWriter
from warehouse.retention import expire, shrink, sweep, used
from warehouse.schema import SUSPECT
from warehouse.wal import Orphan, segments

HOUR_NS = 3_600_000_000_000
OTHER = ("binance_spot", "BTC-USDT")


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def _days(lake, table="trades"):
    return [day[-2:] for venue, symbol, day in lake.partitions(table) if (venue, symbol) == STREAM]


def _write_days(lake, table="trades", first=0, days=6, per_day=20):
    for day in range(days):
        at = first + day * per_day
        rows = rows_of(table, at, per_day, NOON_NS + day * DAY_NS - at * 1_000_000)
        write(lake, table, rows, f"{table} {at}")


def _now(day):
    return NOON_NS + (day - 1) * DAY_NS


def test_days_beyond_the_age_leave_and_the_newest_of_a_stream_stays(lake):
    _write_days(lake)
    write(lake, "trades", rows_of("trades", 0, 5), "other", OTHER)
    assert expire(lake._layout, {"trades": 4, "l2_snapshots": 1}, _now(6)) == {"trades": 2}
    assert _days(lake) == ["03", "04", "05", "06"]
    assert (*OTHER, "2026-01-01") in lake.partitions("trades")
    assert expire(lake._layout, {"trades": 4}, _now(6)) == {}
    assert expire(lake._layout, {"trades": 1}, _now(30)) == {"trades": 3}
    assert _days(lake) == ["06"]
    writer = lake.writer()
    assert writer.session(*STREAM, "next").base["trades"] == 120
    writer.close()


def test_a_name_that_is_no_table_is_refused(lake):
    with pytest.raises(UnknownTableError, match="bokks"):
        lake.retire({"bokks": 3})


def test_a_pinned_version_survives_its_days(lake):
    _write_days(lake)
    lake.pin({"trades": (version := lake.version("trades"))}, "model-1")
    before = lake.read("trades", version=version)
    lake.retire({"trades": 1})
    lake.compact()
    lake.vacuum(0)
    assert _days(lake) == ["06"]
    assert lake.read("trades", version=version).equals(before)
    assert lake.changed("model-1") == []
    lake.unpin("model-1")
    assert lake.vacuum(0)["trades"] == 5


def _capture(lake, hours, venue="binance_usdm"):
    for hour in hours:
        writer = RawWriter(lake.root, venue, "BTC-USDT-PERP")
        writer.write(NOON_NS + hour * HOUR_NS, os.urandom(5000))
        writer.close()


def test_captures_leave_by_age_and_the_newest_hour_of_a_venue_stays(lake):
    _capture(lake, [-13, 0, 1, 25])
    _capture(lake, [0], "kraken")
    assert expire(lake._layout, {"raw": 2}, _now(3)) == {"raw": 3}
    assert sorted(path.relative_to(lake.raw).parts[:3] for path in lake.raw.rglob("*.zst")) == [
        ("binance_usdm", "2026-01-02", "13"), ("kraken", "2026-01-01", "12"),
    ]  # fmt: skip
    assert not (lake.raw / "binance_usdm" / "2025-12-31").exists()


def test_too_large_a_lake_loses_captures_first_then_the_oldest_days(lake):
    _capture(lake, [0, 1, 30])
    _write_days(lake, "trades")
    _write_days(lake, "l2_snapshots")
    now, whole = _now(6), used(lake._layout)
    assert shrink(lake._layout, whole, now) == {}
    assert shrink(lake._layout, whole - 1, now) == {"raw": 1}
    assert shrink(lake._layout, used(lake._layout) - 5_000, now) == {"raw": 1}
    assert shrink(lake._layout, used(lake._layout) - 1, now) == {"l2_snapshots": 1, "trades": 1}, "a day leaves whole"
    assert _days(lake) == _days(lake, "l2_snapshots") == ["02", "03", "04", "05", "06"]
    size = used(lake._layout)
    lake.pin({"l2_snapshots": lake.version("l2_snapshots")}, "model-1")
    assert shrink(lake._layout, 0, now) == {"trades": 4}, "what is pinned would free nothing"
    assert used(lake._layout) < size
    assert (_days(lake), _days(lake, "l2_snapshots")) == (["06"], ["02", "03", "04", "05", "06"])


def _write_doubts(lake, days=(0, 2, 4)):
    """Write a change of coverage and a finding of half an hour on some days; the finding of the third day ends on the fifth."""
    for n, day in enumerate(days):
        change = rows_of("coverage_changes", n, 1, NOON_NS + day * DAY_NS)
        write(lake, "coverage_changes", change, f"coverage {n}")
        at = NOON_NS + day * DAY_NS
        told = {"receive_ns": at, "kind": SUSPECT, "expected": 0.0, "received": 0.0, "detail": "wrong"}
        end_ns = at + (2 * DAY_NS if day == 2 else 1_800_000_000_000)
        write(lake, "findings", [told | {"exchange_ns": at, "seq": n, "end_ns": end_ns}], f"finding {n}")


def test_what_makes_rows_doubtful_stays_as_long_as_they_do(lake):
    _write_days(lake)
    _write_days(lake, "l2_snapshots")
    _write_doubts(lake)
    days = lambda: [_days(lake, table) for table in ("l2_snapshots", "coverage_changes", "findings")]  # noqa: E731
    assert expire(lake._layout, {"coverage_changes": 1, "findings": 1}, _now(6)) == {}, "books of all days are there"
    shrink(lake._layout, used(lake._layout) - 1, _now(6))
    assert days() == [["02", "03", "04", "05", "06"], ["01", "03", "05"], ["03", "05"]], "the state before the first day stays"
    everything = dict.fromkeys(("trades", "l2_snapshots", "coverage_changes", "findings"), 2)
    expire(lake._layout, everything, _now(6))
    assert days() == [["05", "06"], ["03", "05"], ["03", "05"]], "a stretch that ends on a day that stays"
    expire(lake._layout, dict.fromkeys(everything, 1), _now(6))
    assert days() == [["06"], ["05"], ["05"]]


def test_what_left_its_table_does_not_count_and_frees_its_bytes_with_vacuum(lake):
    _write_days(lake)
    before = used(lake._layout)
    lake.retire({"trades": 1})
    assert used(lake._layout) < before
    assert lake.size() > used(lake._layout)
    lake.vacuum(0)
    assert abs(lake.size() - used(lake._layout)) < 50_000, "only the table log is not counted"


def test_sealed_segments_of_the_dead_go_and_unsealed_ones_stay(lake):
    _write_days(lake, days=1)
    folder = lake.root / "wal" / STREAM[0] / STREAM[1]
    writer = write(lake, "trades", rows_of("trades", 20, 10), "dies", seal=False)
    (segment,) = folder.glob("*.wal")
    left = segment.read_bytes()
    assert sweep(lake._layout) == 0, "its writer lives"
    writer.close()
    segment.write_bytes(left)
    (folder / "00000099.wal").write_bytes(b"")
    assert sweep(lake._layout) == 2
    assert not list(folder.glob("*.wal"))
    unsealed = write(lake, "unreadable", text_rows(0, 3), "later", seal=False)
    unsealed._streams[STREAM].close()  # as if killed: the lock is gone, the rows are only here
    assert sweep(lake._layout) == 0
    assert lake.read("unreadable").num_rows == 3


def test_what_the_dead_left_is_not_held_while_a_writer_begins(lake):
    _write_days(lake, days=1)
    folder = lake.root / "wal" / STREAM[0] / STREAM[1]
    write(lake, "unreadable", text_rows(0, 3), "killed", seal=False)._streams[STREAM].close()
    with ThreadPoolExecutor(1) as pool:
        with locked(folder / "recover.lock"):  # as a writer that begins holds it
            swept = pool.submit(sweep, lake._layout)
            with pytest.raises(TimeoutError):
                swept.result(0.3)
            (orphan,) = [Orphan.adopt(path) for path in segments(folder)]
            orphan.close()
        assert swept.result(10) == 0


@pytest.mark.slow
def test_readers_read_and_writers_write_while_days_leave(lake):
    _write_days(lake)
    lake.pin({"trades": (version := lake.version("trades"))}, "model-1")
    pinned = lake.read("trades", version=version)
    stop, failures, seen = threading.Event(), [], []

    def keep(do):
        def loop():
            while not stop.is_set():
                try:
                    do()
                except BaseException as error:
                    failures.append(error)
                    return

        return threading.Thread(target=loop)

    def reads():
        seq = lake.read("trades")["seq"].to_numpy()
        assert np.array_equal(seq, np.arange(seq[0], seq[-1] + 1)), "a hole or a double"
        assert not seen or seq[-1] >= seen[-1], "went back"
        seen.append(int(seq[-1]))
        assert lake.sql("SELECT count(*) = count(DISTINCT seq) AS whole FROM trades")["whole"].to_pylist() == [True]
        assert lake.read("trades", version=version).equals(pinned)

    def tidies():
        lake.retire({"trades": 1, "raw": 1}, 1)
        lake.compact()
        lake.publish()
        lake.vacuum(1)

    threads = [keep(reads), keep(tidies)]
    for thread in threads:
        thread.start()
    try:
        for day in range(6, 14):
            for part in range(3):
                at = day * 20 + part * 7
                n = 7 if part < 2 else 6
                write(lake, "trades", rows_of("trades", at, n, NOON_NS + day * DAY_NS - at * 1_000_000), f"more {at}")
        time.sleep(0.5)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert len(seen) > 3
    tidies()
    assert _days(lake) == ["14"]
    assert lake.read("trades")["seq"].to_pylist() == list(range(260, 280))
    assert lake.read("trades", version=version).equals(pinned)
    assert lake.changed("model-1") == []
