import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from tests.warehouse.examples import DAY_NS, NOON_NS, STREAM, rows_of, text_rows, write
from warehouse.errors import (
    RowTypeError,
    SequenceGapError,
    SessionSupersededError,
    StreamBusyError,
    UnknownStreamError,
    UnknownTableError,
)
from warehouse.lake import Lake
from warehouse.schema import TABLES, row_dtype


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def _bits(lake, table="trades"):
    return lake.rows(table, *STREAM).tobytes()


def _drop(writer):
    """Let go of a writer as a kill does: nothing committed, nothing sealed."""
    for stream in writer._streams.values():
        stream.close()


def test_a_first_session_begins_at_nought(lake):
    with lake.writer() as writer:
        session = writer.session(*STREAM, "first")
        assert session.base == dict.fromkeys(TABLES, 0)
        assert session.resume == dict.fromkeys(TABLES, -1)
        assert (session.base_event_seq, session.since_ns) == (0, 0)
        assert (session.last_trade_id, session.last_trade_ns) == (-1, 0)
        assert writer.session(*STREAM, "first") is session


def test_rows_are_visible_when_committed_and_not_before(lake):
    writer = lake.writer()
    session = writer.session(*STREAM, "first")
    assert session.append("trades", rows_of("trades", 0, 3)) == 3
    assert lake.watermark("trades", *STREAM) == -1
    assert writer.commit() == 3
    assert lake.watermark("trades", *STREAM) == 2
    assert writer.commit() == 0
    assert writer.unsealed_bytes > 0
    assert writer.seal() == 3
    assert (writer.unsealed_bytes, writer.seal()) == (0, 0)
    writer.close()
    assert _bits(lake) == rows_of("trades", 0, 3).tobytes()


def test_the_same_session_skips_what_is_acknowledged_and_takes_the_rest(lake):
    write(lake, "trades", rows_of("trades", 0, 10), "replay")
    with lake.writer() as writer:
        session = writer.session(*STREAM, "replay")
        assert (session.base["trades"], session.resume["trades"]) == (0, 9)
        assert session.append("trades", rows_of("trades", 0, 4)) == 0
        assert session.append("trades", rows_of("trades", 4, 10)) == 4
        assert session.append("trades", rows_of("trades", 14, 1)) == 1
        assert writer.commit() == 5
    assert _bits(lake) == rows_of("trades", 0, 15).tobytes()


def test_a_new_session_follows_the_last_acknowledged_row(lake):
    write(lake, "trades", rows_of("trades", 0, 10), "monday")
    with lake.writer() as writer:
        session = writer.session(*STREAM, "tuesday")
        assert (session.base["trades"], session.base["l2_snapshots"]) == (10, 0)
        assert session.base_event_seq == 19
        last = rows_of("trades", 9, 1)[0]
        assert session.since_ns == session.last_trade_ns == last["exchange_ns"]
        assert session.last_trade_id == session.start["trade_id"] == last["trade_id"]
        session.append("trades", rows_of("trades", 10, 2))
    assert _bits(lake) == rows_of("trades", 0, 12).tobytes()


def test_a_session_may_leave_numbers_out_before_its_first_row(lake):
    with lake.writer() as writer:
        for least, first in ((100, 100), (50, 105), (200, 200)):
            session = writer.session(*STREAM, f"from {least}", ("trades",), {"trades": least})
            assert session.base["trades"] == first
            assert session.append("trades", rows_of("trades", first - 2, 7)) == 5  # what lies before it is there, or never will be
            with pytest.raises(SequenceGapError):
                session.append("trades", rows_of("trades", first + 6, 1))
            writer.commit()
    expected = np.concatenate([rows_of("trades", first, 5) for first in (100, 105, 200)])
    assert _bits(lake) == expected.tobytes()


def test_bases_survive_a_kill_before_the_first_commit(lake):
    write(lake, "trades", rows_of("trades", 0, 10), "monday")
    writer = lake.writer()
    before = writer.session(*STREAM, "tuesday")
    before.append("trades", rows_of("trades", 10, 4))
    writer.commit()
    _drop(writer)
    with lake.writer() as writer:
        after = writer.session(*STREAM, "tuesday")
    assert (after.start, after.since_ns) == (before.start, before.since_ns)
    assert after.last_trade_id == rows_of("trades", 9, 1)["trade_id"][0]
    assert after.resume["trades"] == 13


def test_an_old_session_repeats_itself_for_nothing_and_may_not_go_on(lake):
    write(lake, "trades", rows_of("trades", 0, 10), "monday")
    write(lake, "trades", rows_of("trades", 10, 10), "tuesday")
    with lake.writer() as writer:
        session = writer.session(*STREAM, "monday")
        assert session.append("trades", rows_of("trades", 0, 10)) == 0
        with pytest.raises(SessionSupersededError, match=r"'monday' .* ended before seq 10 .* received seq 10"):
            session.append("trades", rows_of("trades", 5, 6))
    assert _bits(lake) == rows_of("trades", 0, 20).tobytes()


def test_one_writer_may_open_session_after_session(lake):
    with lake.writer() as writer:
        writer.session(*STREAM, "a").append("trades", rows_of("trades", 0, 4))
        session = writer.session(*STREAM, "b")
        assert session.base["trades"] == 4
        session.append("trades", rows_of("trades", 4, 4))
    assert _bits(lake) == rows_of("trades", 0, 8).tobytes()


def test_a_hole_is_refused_with_both_numbers(lake):
    with lake.writer() as writer:
        session = writer.session(*STREAM, "first")
        session.append("trades", rows_of("trades", 0, 2))
        with pytest.raises(SequenceGapError, match=r"go on with seq 2 without a hole, received 3"):
            session.append("trades", rows_of("trades", 3, 1))
        with pytest.raises(SequenceGapError, match=r"go on with seq 4 without a hole, received 5"):
            session.append("trades", rows_of("trades", 2, 5)[[0, 1, 3, 4]])
        with pytest.raises(SequenceGapError, match=r"go on with seq 2 without a hole, received 4"):
            session.append("unreadable", [*text_rows(0, 2), *text_rows(4, 1)])
        session.append("trades", rows_of("trades", 2, 1))
    assert _bits(lake) == rows_of("trades", 0, 3).tobytes()


def test_wrong_rows_tables_and_streams_are_named(lake):
    with lake.writer() as writer:
        session = writer.session(*STREAM, "first", tables=["trades"])
        with pytest.raises(RowTypeError, match=r"rows of trades must have dtype"):
            session.append("trades", np.zeros(1, row_dtype("l2_snapshots")))
        with pytest.raises(RowTypeError, match=r"structured array of one dimension, received list"):
            session.append("trades", [1])
        with pytest.raises(UnknownTableError, match=r"received 'tradez'"):
            session.append("tradez", rows_of("trades", 0, 1))
        with pytest.raises(UnknownStreamError, match=r"this session writes trades, not labels"):
            session.append("labels", rows_of("labels", 0, 1))
        with pytest.raises(UnknownStreamError, match=r"no session was opened"):
            writer.append("trades", "binance_spot", "BTC-USDT", rows_of("trades", 0, 1))
        with pytest.raises(UnknownStreamError, match=r"received '\.\./x'"):
            writer.session("binance_spot", "../x", "first")


def test_a_caller_may_reuse_the_row_it_appended(lake):
    row = rows_of("l2_snapshots", 0, 1)
    with lake.writer() as writer:
        session = writer.session(*STREAM, "first")
        for seq in range(1000):
            row[:] = rows_of("l2_snapshots", seq, 1)
            session.append("l2_snapshots", row)
    assert _bits(lake, "l2_snapshots") == rows_of("l2_snapshots", 0, 1000).tobytes()


def test_feature_rows_may_gain_columns_on_the_way(lake):
    base = rows_of("features", 0, 6)
    wide = np.zeros(3, np.dtype([*base.dtype.descr, ("mid", "f8")]))
    for name in base.dtype.names:
        wide[name] = base[name][3:]
    wide["mid"] = [1.0, np.nan, 3.0]
    with lake.writer() as writer:
        session = writer.session(*STREAM, "first")
        session.append("features", base[:3])
        session.append("features", wide)
        writer.commit()
        unsealed = lake.read("features")
    sealed = lake.read("features")
    assert _bits(lake, "features") == base.tobytes()
    for found in (unsealed, sealed):
        assert found["mid"].to_pylist()[:4] == [None, None, None, 1.0]
        assert np.isnan(found["mid"][4].as_py())


def test_rows_go_to_the_day_of_their_own_stamp(lake):
    rows = rows_of("trades", 0, 10, NOON_NS + DAY_NS // 2 - 5, 1)
    rows["exchange_ns"][7] -= 100  # the venue's clock ran back over midnight
    write(lake, "trades", rows)
    assert [day for _, _, day in lake.partitions("trades")] == ["2026-01-01", "2026-01-02"]
    assert _bits(lake) == rows.tobytes()
    counts = lake.sql("SELECT day, count(*) AS n FROM trades GROUP BY day ORDER BY day")
    assert counts["n"].to_pylist() == [6, 4]


def test_a_stream_has_one_writer(lake):
    with lake.writer() as writer:
        writer.session(*STREAM, "first")
        with pytest.raises(StreamBusyError, match=r"l2_snapshots of binance_usdm BTC-USDT-PERP is being written .*pid \d+"):
            lake.writer().session(*STREAM, "second")
    with lake.writer() as writer:
        writer.session(*STREAM, "second")


def test_a_stream_that_another_process_writes_is_busy(lake):
    with lake.writer() as writer:
        writer.session(*STREAM, "first")
        rival = _ingest(lake)
        _, errors = rival.communicate()
        assert rival.returncode == 1
        assert f"StreamBusyError: l2_snapshots of {STREAM[0]} {STREAM[1]} is being written" in errors


def test_another_process_may_write_other_tables_of_the_stream(lake):
    with lake.writer() as recorder, lake.writer() as scorer:
        books = recorder.session(*STREAM, "books", tables=["l2_snapshots", "trades"])
        books.append("trades", rows_of("trades", 0, 5))
        recorder.commit()
        scores = scorer.session(*STREAM, "scores", tables=["predictions"])
        scores.append("predictions", rows_of("predictions", 0, 5))
        scorer.commit()
        assert recorder.seal() == 5
        with pytest.raises(StreamBusyError):
            lake.writer().session(*STREAM, "third")
    assert _bits(lake) == rows_of("trades", 0, 5).tobytes()
    assert _bits(lake, "predictions") == rows_of("predictions", 0, 5).tobytes()


def test_append_commit_and_seal_run_side_by_side(lake):
    writer = lake.writer()
    session = writer.session(*STREAM, "first")
    stop, failures = threading.Event(), []

    def keep(do):
        while not stop.is_set():
            try:
                do()
            except Exception as error:
                failures.append(error)
                return
            time.sleep(0.002)

    threads = [threading.Thread(target=keep, args=(do,)) for do in (writer.commit, writer.seal)]
    for thread in threads:
        thread.start()
    rows = rows_of("trades", 0, 20_000)
    for first in range(0, 20_000, 7):
        session.append("trades", rows[first : first + 7])
    stop.set()
    for thread in threads:
        thread.join()
    writer.close()
    assert failures == []
    assert _bits(lake) == rows.tobytes()


def test_a_seal_makes_one_commit_a_table_whatever_the_streams(lake):
    streams = [STREAM, ("binance_spot", "BTC-USDT"), ("binance_coinm", "BTC-USD-PERP")]
    with lake.writer() as writer:
        for stream in streams:
            writer.session(*stream, "first")
            writer.append("trades", *stream, rows_of("trades", 0, 10))
            writer.append("l2_snapshots", *stream, rows_of("l2_snapshots", 0, 10))
        writer.commit()
    assert {table: version for table, version in lake.versions().items() if version >= 0} == {"trades": 1, "l2_snapshots": 1}
    assert lake.read("trades").num_rows == 30


def _ingest(lake, total=3000, stream=STREAM, pause_ms=3):
    command = [sys.executable, "-m", "tests.warehouse.ingest", str(lake.root), *stream, str(total), str(pause_ms)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _kill_and_look(lake, process, seconds):
    """Kill a replay some time after it first acknowledged; nothing acknowledged may be missing."""
    acked = int(process.stdout.readline() or -1)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    acked = max([acked, *(int(line) for line in process.stdout.read().splitlines())])
    process.wait()
    lengths = set()
    for table in ("l2_snapshots", "trades"):
        found = lake.rows(table, *STREAM)
        assert found.tobytes() == rows_of(table, 0, len(found)).tobytes()
        lengths.add(len(found))
    assert lengths == {lake.read("unreadable").num_rows}, "the tables of one commit came apart"
    assert lengths.pop() >= acked


def _kill(lake, times, seed):
    chance = random.Random(seed)
    for _ in range(times):
        _kill_and_look(lake, _ingest(lake), chance.random() ** 2)
    last = _ingest(lake, pause_ms=0)
    last.communicate()
    assert last.returncode == 0
    for table in ("l2_snapshots", "trades"):
        assert lake.rows(table, *STREAM).tobytes() == rows_of(table, 0, 3000).tobytes()
    assert lake.read("unreadable").drop_columns(["venue", "symbol", "day"]).to_pylist() == text_rows(0, 3000)
    assert not list(lake.root.glob("wal/*/*/*.wal"))
    assert lake.damaged() == []


def test_nothing_acknowledged_is_lost_or_doubled_by_kills(lake):
    _kill(lake, 3, 1)


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_or_doubled_by_ten_kills(lake):
    _kill(lake, 10, 2)


def test_several_processes_write_their_streams_at_once(lake):
    streams = [STREAM, ("binance_spot", "BTC-USDT"), ("binance_coinm", "BTC-USD-PERP")]
    processes = [_ingest(lake, 1500, stream) for stream in streams]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    for stream in streams:
        for table in ("l2_snapshots", "trades"):
            assert lake.rows(table, *stream).tobytes() == rows_of(table, 0, 1500).tobytes()
