"""Frames into the lake by the one path: what was acknowledged is there, what waits is not lost, what was kept replays."""

import asyncio
import contextlib
import resource
import time

import numpy as np
import pyarrow as pa
import pytest

from tasks import record as recording
from tasks.features.fold import Features
from tasks.feed.terms import Note
from tasks.feed.watch import Watch
from tasks.record import Recorder, record
from tasks.replay import read_capture, replay
from tests.captures import generated
from tests.coinbase_frames import START_NS, snapshot, update
from tests.streams import live, market
from warehouse.lake import Lake
from warehouse.raw import captures
from warehouse.schema import GAP, STALL, SUSPECT

VENUE, RAW, SYMBOL = "binance_usdm", "BTCUSDT", "BTC-USDT-PERP"
TABLES = ("l2_snapshots", "trades", "coverage_changes", "unreadable")


async def frames_of(pairs, pause=None):
    for n, (stamp, frame) in enumerate(pairs):
        if pause is not None:
            await pause(n)
        elif n % 64 == 0:
            await asyncio.sleep(0)
        yield RAW, stamp, frame


def rows(lake, table):
    return lake.read(table, VENUE, SYMBOL)


def same(a, b):
    """Whether two tables hold the same bits; NaN equals itself."""
    assert a.column_names == b.column_names
    for name in a.column_names:
        x, y = a[name].combine_chunks(), b[name].combine_chunks()
        if pa.types.is_floating(x.type):
            if not np.array_equal(x.to_numpy().view(np.int64), y.to_numpy().view(np.int64)):
                return False
        elif not x.equals(y):
            return False
    return True


def hour(n=600):
    """Return frames of a session with a lost connection, an unreadable frame and a turn of the hour in it."""
    pairs = generated(VENUE, n)
    at = len(pairs) // 2
    snapshot = next(frame for _, frame in pairs if frame.startswith(b'{"lastUpdateId"'))
    shift = 3_600_000_000_000 - pairs[at][0] % 3_600_000_000_000
    out = [(stamp + shift, frame) for stamp, frame in pairs]
    out[at:at] = [(out[at][0], b""), (out[at][0], snapshot), (out[at][0], b'{"stream":"btcusdt@trade","data":{"e":"tra')]
    return out


def test_an_hour_of_kept_frames_replayed_into_a_fresh_lake_gives_the_same_rows(tmp_path):
    first, again = Lake(tmp_path / "first"), Lake(tmp_path / "again")
    recorder = Recorder(first, VENUE, "live", keep_raw=True)
    asyncio.run(record(recorder, frames_of(hour()), commit_s=0.01, seal_s=0.05))
    paths = [capture.path for capture in captures([first.raw])]
    assert len(paths) == 2, "one file an hour"
    assert list(read_capture(paths)) == hour()
    asyncio.run(record(Recorder(again, VENUE, "replay"), replay(paths, RAW)))
    for table in TABLES:
        assert rows(first, table).num_rows > 0, table
        assert same(rows(first, table), rows(again, table)), table
    assert GAP in rows(first, "coverage_changes")["state"].to_pylist()


def test_everything_is_sealed_when_a_run_is_told_to_end(tmp_path):
    lake, stop = Lake(tmp_path), asyncio.Event()
    recorder = Recorder(lake, VENUE, "live", watch=Watch())

    async def pause(n):
        await asyncio.sleep(0)
        if n == 900:
            stop.set()

    began = time.monotonic()
    asyncio.run(record(recorder, frames_of(generated(VENUE, 400), pause), stop, commit_s=0.01, seal_s=0.03))
    assert time.monotonic() - began < 10.0
    assert 900 <= recorder.totals.frames <= 902
    taken = recorder.counts()[SYMBOL]
    sealed = lake.read("l2_snapshots", VENUE, SYMBOL, tail=False)
    assert sealed.num_rows == taken["book_updates"] > 50
    assert sealed["seq"].to_pylist() == list(range(sealed.num_rows))
    assert lake.read("stream_minutes", VENUE, SYMBOL, tail=False)["messages"].to_pylist() == [taken["messages"]]


def test_a_run_that_is_told_to_end_and_cannot_seal_in_time_leaves_its_rows_readable_and_the_next_start_seals_them(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "SEAL_WITHIN_S", -1.0)
    lake, stop = Lake(tmp_path), asyncio.Event()

    async def pause(n):
        await asyncio.sleep(0)
        if n == 900:
            stop.set()

    recorder = Recorder(lake, VENUE, "live", watch=Watch())
    asyncio.run(record(recorder, frames_of(generated(VENUE, 400), pause), stop))
    taken = recorder.counts()[SYMBOL]["book_updates"]
    assert lake.read("l2_snapshots", tail=False).num_rows == 0
    assert lake.sql("SELECT count(*) AS n FROM l2_snapshots")["n"].to_pylist() == [taken]
    again = Recorder(lake, VENUE, "again", watch=Watch())
    again.stream(RAW)
    again.close()
    assert lake.read("l2_snapshots", tail=False)["seq"].to_pylist() == list(range(taken))


def test_reading_pauses_while_too_many_rows_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "PENDING", 50)
    waiting = []

    class Slow(Recorder):
        def commit(self):
            waiting.append(self.waiting)
            return super().commit()

    recorder = Slow(Lake(tmp_path), VENUE, "live")
    totals = asyncio.run(record(recorder, frames_of(generated(VENUE, 400)), commit_s=60.0, seal_s=60.0))
    assert len(waiting) > 5
    assert max(waiting) < 80, "a snapshot's buffered events may go over by a few"
    assert totals.committed == sum(rows(recorder.lake, table).num_rows for table in TABLES) > 1000


def test_reading_waits_until_a_full_disk_has_room(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "PENDING", 300)
    monkeypatch.setattr(recording, "FULL_S", 0.01)
    recorder, waiting = Recorder(Lake(tmp_path), VENUE, "live"), []
    recorder.stream(RAW)

    async def run(free):
        running = asyncio.create_task(record(recorder, frames_of(generated(VENUE, 400)), commit_s=0.02, seal_s=60.0))
        while recorder.totals.full < 10:
            await asyncio.sleep(0.01)
        waiting.extend([recorder.waiting, recorder.totals.frames])
        await asyncio.sleep(0.1)
        waiting.extend([recorder.waiting, recorder.totals.frames])
        free()
        return await running

    with small_files(20_000) as free:
        totals = asyncio.run(run(free))
    assert waiting[:2] == waiting[2:], "nothing is read meanwhile"
    assert waiting[0] < 400
    assert totals.frames > waiting[1]
    assert totals.committed == sum(rows(recorder.lake, table).num_rows for table in TABLES)


def test_a_silent_venue_can_be_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "END_S", 0.05)
    recorder, ended = Recorder(Lake(tmp_path), VENUE, "live"), []

    async def silent():
        for stamp, frame in generated(VENUE, 100):
            yield RAW, stamp, frame
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("closed")

    async def run():
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.1, stop.set)
        return await asyncio.wait_for(record(recorder, silent(), stop), 20.0)

    totals = asyncio.run(run())
    assert ended == ["closed"]
    assert totals.committed == sum(recorder.lake.read(table, VENUE, SYMBOL, tail=False).num_rows for table in TABLES) > 100


def test_what_was_taken_is_sealed_although_a_keeper_fails(tmp_path):
    async def silent():
        for stamp, frame in generated(VENUE, 100):
            yield RAW, stamp, frame
        await asyncio.Event().wait()

    def told(totals):
        if totals.sealed == 0 and not recorder.closed:
            raise ValueError("nobody listens")

    class Closing(Recorder):
        closed = False

        def close(self):
            self.closed = True
            super().close()

    recorder = Closing(Lake(tmp_path), VENUE, "live")
    with pytest.raises(ValueError, match="nobody listens"):
        asyncio.run(record(recorder, silent(), told=told, commit_s=0.05))
    taken = recorder.counts()[SYMBOL]["book_updates"]
    assert recorder.lake.read("l2_snapshots", VENUE, SYMBOL, tail=False).num_rows == taken > 20


@contextlib.contextmanager
def small_files(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (before[0], before[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("keep_raw", [False, True], ids=["rows", "rows and frames"])
def test_a_full_disk_stops_acknowledging_and_not_the_stream(tmp_path, keep_raw):
    lake = Lake(tmp_path)
    recorder = Recorder(lake, VENUE, "live", keep_raw=keep_raw, watch=Watch())
    recorder.stream(RAW)
    pairs, held = generated(VENUE, 400), []

    with small_files(60_000) as free:

        async def pause(n):
            await asyncio.sleep(0.02 if n % 200 == 0 else 0)
            if n == len(pairs) - 200:
                assert recorder.totals.full > 2
                held.append((recorder.totals.frames, recorder.totals.committed))
                free()

        totals = asyncio.run(record(recorder, frames_of(pairs, pause), commit_s=0.005, seal_s=0.05))
    frames, committed = held[0]
    assert frames > 1000
    assert committed < totals.committed
    books = rows(lake, "l2_snapshots")
    assert books["seq"].to_pylist() == list(range(recorder.counts()[SYMBOL]["book_updates"]))
    if keep_raw:
        paths = [capture.path for capture in captures([lake.raw])]
        assert list(read_capture(paths)) == pairs


def test_what_the_feed_tells_becomes_findings_of_its_stream(tmp_path):
    lake = Lake(tmp_path)
    recorder = Recorder(lake, VENUE, "live", watch=Watch())
    recorder.stream(RAW)
    recorder.note(Note(STALL, (RAW,), 1_700_000_000_000_000_000, 1_700_000_060_000_000_000, "subscribed but silent for 60 s"))
    asyncio.run(record(recorder, frames_of(generated(VENUE, 50))))
    found = lake.read("findings", VENUE, SYMBOL).to_pylist()
    assert [(row["kind"], row["detail"]) for row in found] == [(STALL, "subscribed but silent for 60 s")]
    assert found[0]["end_ns"] - found[0]["exchange_ns"] == 60_000_000_000


def test_what_an_adapter_doubts_is_acknowledged_with_the_gap_and_before_any_look_at_the_clock(tmp_path):
    recorder = Recorder(Lake(tmp_path), "coinbase_exchange", "live", watch=Watch())
    back = [snapshot(), update(["buy", "99.60", "1"], ns=START_NS + 9000), update(["buy", "99.70", "1"], ns=START_NS + 8000)]
    for n, frame in enumerate(back):
        recorder.take("BTC-USD", START_NS + n, frame)
    recorder.commit()
    (found,) = Lake(tmp_path).read("findings").to_pylist()  # as after a kill: nobody closed the recorder
    assert (found["kind"], found["end_ns"]) == (SUSPECT, START_NS + 9000)
    recorder.close()


def test_a_doubt_that_is_left_at_the_end_is_told(tmp_path):
    recorder = Recorder(Lake(tmp_path), "coinbase_exchange", "live", watch=Watch())
    recorder.stream("BTC-USD").adapter.doubts.append((START_NS, START_NS + 9, "crossed"))
    recorder.watch.close_minute()
    recorder.close()
    assert Lake(tmp_path).read("findings")["detail"].to_pylist() == ["crossed"]


def test_bars_that_nobody_asks_a_live_stream_for_do_not_pile_up(tmp_path):
    tables, recorder, held = market(5, n=1500, mean_ns=500_000_000), Recorder(Lake(tmp_path), VENUE, "live", lambda: None), Features()
    features = recorder.stream(RAW).scored.features
    assert all(a.tobytes() == b.tobytes() for a, b in zip(live(tables, features), live(tables, held), strict=True))
    assert held.bars().size > 512
    assert features.bars().size == 0
    recorder.close()


def test_many_symbols_are_held_side_by_side(tmp_path):
    lake = Lake(tmp_path)
    recorder = Recorder(lake, VENUE, "live")
    symbols = [f"SIM{i:03d}USDT" for i in range(1, 21)]
    for symbol in symbols:
        recorder.stream(symbol)
    pairs = generated(VENUE, 60)

    async def frames():
        for stamp, frame in pairs:
            for symbol in symbols:
                yield symbol, stamp, frame.replace(b"btcusdt", symbol.lower().encode()).replace(b"BTCUSDT", symbol.encode())

    asyncio.run(record(recorder, frames()))
    counts = recorder.counts()
    assert len(counts) == 20
    assert len({tuple(one.values()) for one in counts.values()}) == 1
    found = lake.sql("SELECT symbol, count(*) AS n FROM l2_snapshots GROUP BY ALL").to_pylist()
    assert {row["n"] for row in found} == {counts["SIM001-USDT-PERP"]["book_updates"]}
    assert len(found) == 20
