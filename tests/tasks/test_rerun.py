import asyncio
import shutil

import numpy as np
import pytest

from simulator.capture import frames
from tasks.feed.watch import Watch
from tasks.record import RECORDED, Recorder, record
from tasks.rerun import rerun
from tasks.venues.ladder import Instrument
from tests.checked_feed import okx_book, okx_trade
from tests.coinbase_frames import START_NS as MADE_NS
from tests.coinbase_frames import snapshot, update
from warehouse.lake import Lake
from warehouse.raw import captures
from warehouse.schema import row_dtype

VENUE, RAW, SYMBOL = "binance_usdm", "BTCUSDT", "BTC-USDT-PERP"
STREAM = (VENUE, SYMBOL)
S = 1_000_000_000
START_NS = 1_767_268_800_000_000_000 - 90 * S  # 90 s before noon
NUMBERS = ("seq", "event_seq")


def _market():
    """Three minutes of a market around noon: a connection lost before and after, frames that nobody can read."""
    market = []
    for n in range(3):
        market += [(START_NS + n * 60 * S, b"")] if n else []
        market += frames(VENUE, RAW, 60.0, seed=5 + n, start_ns=START_NS + n * 60 * S)
    for n in range(3):
        market.insert(len(market) * (n + 1) // 4, (market[len(market) * (n + 1) // 4][0], b'{"cut\n":' + bytes([255])))
    return market


def _record(root, market, session="made", keep_raw=True):
    async def source():
        for n, (receive_ns, frame) in enumerate(market):
            if n % 500 == 0:
                await asyncio.sleep(0)
            yield RAW, receive_ns, frame

    lake = Lake(root)
    asyncio.run(record(Recorder(lake, VENUE, session, keep_raw=keep_raw), source(), commit_s=0.01))
    return lake


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    return _record(tmp_path_factory.mktemp("rerun") / "lake", _market())


def _hours(lake):
    return sorted((lake.raw / VENUE).glob("*/*"))


def _same(found, wanted, shifted=False):
    for name in wanted.dtype.names:
        got, want = found[name], wanted[name]
        if shifted and name in NUMBERS:
            got, want = got - got[0], want - want[0]
        assert got.tobytes() == want.tobytes(), name
    assert len(wanted)


def _rows(lake, table, since_ns=0):
    rows = lake.rows(table, *STREAM)
    return rows[rows["receive_ns"] >= since_ns]


def test_all_hours_give_the_same_rows_in_another_lake(recorded, tmp_path):
    lake = Lake(tmp_path)
    (told,) = rerun(lake, VENUE, _hours(recorded))
    assert (told.files, told.run, told.torn) == (2, "made", [])
    assert told.new == sum(told.rows.values()) == sum(len(recorded.read(table)) for table in RECORDED)
    for table in ("l2_snapshots", "trades", "coverage_changes"):
        _same(_rows(lake, table), _rows(recorded, table))
    assert lake.read("unreadable").equals(recorded.read("unreadable"))
    assert lake.read("unreadable").num_rows >= 3
    assert np.unique(_rows(lake, "coverage_changes")["state"]).size > 2, "a gap was among them"


@pytest.mark.parametrize("with_state", [True, False])
def test_one_hour_gives_the_rows_of_that_hour(recorded, tmp_path, with_state):
    raw = shutil.copytree(recorded.raw, tmp_path / "raw")
    if not with_state:
        for path in raw.rglob("*.state"):
            path.write_bytes(path.read_bytes()[:100])
    _, noon = sorted((raw / VENUE).glob("*/*"))
    lake = Lake(tmp_path / "lake")
    (told,) = rerun(lake, VENUE, [noon])
    assert told.stood_on == ("the state kept beside it" if with_state else "1 files before it")
    since = captures([noon])[0].first_ns
    for table in ("l2_snapshots", "trades", "coverage_changes"):
        rows = _rows(recorded, table, since)
        assert len(rows) > 0
        _same(_rows(lake, table), rows, shifted=True)
        assert lake.rows(table, *STREAM)["seq"].tolist() == list(range(len(rows)))
    kept = recorded.read("unreadable")
    assert lake.read("unreadable")["frame"].to_pylist() == kept.filter(kept["receive_ns"].to_numpy() >= since)["frame"].to_pylist()


def test_the_lake_that_has_the_recording_stays_as_it_is(recorded, tmp_path):
    lake = Lake(shutil.copytree(recorded.root, tmp_path / "lake"))
    for hours in (_hours(lake), _hours(lake)[1:]):
        (told,) = rerun(lake, VENUE, hours)
        assert told.new == 0 < told.rows["l2_snapshots"]
    for table in RECORDED:
        assert lake.read(table).equals(recorded.read(table))


def test_a_torn_file_costs_its_end_and_the_next_hour_begins_doubtful(recorded, tmp_path):
    raw = shutil.copytree(recorded.raw, tmp_path / "raw")
    first, second = captures([raw])
    first.path.write_bytes(first.path.read_bytes()[:-2000])
    lake = Lake(tmp_path / "lake")
    (told,) = rerun(lake, VENUE, [raw])
    assert told.torn == [first.path]
    rows = _rows(lake, "l2_snapshots")
    whole = _rows(recorded, "l2_snapshots")
    n = int((rows["receive_ns"] < second.first_ns).sum())
    _same(rows[:n], whole[:n])
    assert (lake.rows("coverage_changes", *STREAM)["state"] == 2).any()


def test_two_recordings_of_one_hour_stay_two(recorded, tmp_path):
    lake = Lake(shutil.copytree(recorded.root, tmp_path / "lake"))
    more = [(ns + 200 * S, frame) for ns, frame in frames(VENUE, RAW, 20.0, seed=6, start_ns=START_NS + 200 * S)]
    _record(lake.root, more, "later")
    told = rerun(lake, VENUE, _hours(lake))
    assert [one.run for one in told] == ["later", "made"]
    assert [one.new for one in told] == [0, 0]
    other = Lake(tmp_path / "other")
    rerun(other, VENUE, _hours(lake))
    found = other.rows("l2_snapshots", *STREAM)
    assert len(found) == len(lake.rows("l2_snapshots", *STREAM))
    assert row_dtype("l2_snapshots") == found.dtype


@pytest.mark.parametrize("followed", [False, True])
def test_a_killed_recording_gets_its_last_rows_back_unless_another_followed(tmp_path, followed):
    market = list(frames(VENUE, RAW, 20.0, seed=8, start_ns=START_NS))
    lake = Lake(tmp_path / "lake")
    recorder = Recorder(lake, VENUE, "killed", keep_raw=True)
    for n, (receive_ns, frame) in enumerate(market):
        recorder.take(RAW, receive_ns, frame)
        if n == len(market) // 2:
            recorder.commit()
    recorder.streams[RAW].raw.flush()
    recorder.writer._streams[STREAM].close()  # killed between frames and rows
    acknowledged = len(lake.rows("l2_snapshots", *STREAM))
    if followed:
        more = [(ns + 60 * S, frame) for ns, frame in frames(VENUE, RAW, 10.0, seed=9, start_ns=START_NS + 60 * S)]
        _record(lake.root, more, "followed", keep_raw=False)
    before = lake.rows("l2_snapshots", *STREAM)
    (told,) = rerun(lake, VENUE, [lake.raw])
    assert told.rows["l2_snapshots"] >= acknowledged
    after = lake.rows("l2_snapshots", *STREAM)
    if followed:
        assert told.new == 0
        assert after.tobytes() == before.tobytes()
    else:
        whole = _record(tmp_path / "whole", market, keep_raw=False).rows("l2_snapshots", *STREAM)
        assert len(after) > acknowledged
        assert after.tobytes() == whole.tobytes()


def test_an_hour_without_its_state_is_counted_in_the_contracts_that_the_venue_told(tmp_path):
    lake, swap = Lake(tmp_path / "lake"), "LTC-USDT-SWAP"
    frames = [
        okx_book("snapshot", [("99", "15")], [("99.5", "2")], START_NS // 10**6, swap, checksum=0, prevSeqId=-1, seqId=10),
        okx_trade(5, name=swap),
    ]

    async def source():
        for i, frame in enumerate(frames):
            yield swap, START_NS + i, frame

    recorder = Recorder(lake, "okx", "made", keep_raw=True, watch=Watch(wall_ns=lambda: START_NS - 1))
    recorder.instruments = {swap: Instrument(contract_base=0.2)}
    asyncio.run(record(recorder, source(), commit_s=0.01))
    for path in lake.raw.rglob("*.state"):
        path.unlink()
    again = Lake(tmp_path / "again")
    (told,) = rerun(again, "okx", sorted((lake.raw / "okx").glob("*/*")))
    assert told.rows["l2_snapshots"] == 1
    assert again.rows("l2_snapshots", "okx", "LTC-USDT-PERP")["bid_sz"][-1, 0] == pytest.approx(3.0)


def test_what_the_adapter_doubts_is_doubted_again_in_another_lake(tmp_path):
    recorder = Recorder(Lake(tmp_path / "first"), "coinbase_exchange", "made", keep_raw=True, watch=Watch())
    back = [snapshot(), update(["buy", "99.60", "1"], ns=MADE_NS + 9000), update(["buy", "99.70", "1"], ns=MADE_NS + 8000)]
    for n, frame in enumerate(back):
        recorder.take("BTC-USD", MADE_NS + n, frame)
    recorder.commit()
    recorder.close()
    for root in (tmp_path / "again", tmp_path / "again", tmp_path / "first"):
        lake = Lake(root)
        rerun(lake, "coinbase_exchange", [recorder.lake.raw])
        (found,), (wanted,) = (one.read("findings").to_pylist() for one in (lake, recorder.lake))
        assert {name: found[name] for name in found if name != "receive_ns"} == {
            name: wanted[name] for name in wanted if name != "receive_ns"
        }
