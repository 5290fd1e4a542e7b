"""A book that went wrong without a trace in the venue's numbers: the venue's own book tells."""

import asyncio

from simulator.server import serve
from tasks.feed.rest import Budget
from tasks.feed.watch import Watch
from tasks.feed.witness import Difference
from tasks.record import Recorder, record
from tasks.stream import Endpoints, Patience, Rest, rest_of, stream
from tasks.witness import tell, witness
from tests.captures import generated
from warehouse.lake import Lake
from warehouse.schema import GAP, WITNESS

VENUE, RAW, SYMBOL = "binance_spot", "SIM300USDT", "SIM300-USDT"


def forged(row):
    """Return a depth event that continues a book, and puts a size that nobody sent on ten of its levels."""
    levels = ",".join(f'["{price:.4f}","999.0"]' for price in row["bid_px"][0, 10:20])
    last, ms = int(row["update_id"][0]), int(row["exchange_ns"][0]) // 1_000_000
    return f'{{"e":"depthUpdate","E":{ms},"s":"{RAW}","U":{last + 1},"u":{last + 1},"b":[{levels}],"a":[]}}'.encode()


def test_a_wrong_size_is_found_told_and_cured(tmp_path):
    async def inside():
        async with asyncio.timeout(60), await serve([VENUE], {VENUE: [RAW]}, seed=5) as simulated:
            where, stop, rest = Endpoints(simulated.ws_url(VENUE), simulated.rest_url(VENUE)), asyncio.Event(), rest_of(VENUE)
            recorder = Recorder(Lake(tmp_path), VENUE, "live", watch=Watch())
            adapter = recorder.stream(RAW).adapter
            recorder.stream("SIM400USDT")  # its book never comes: no reason to ask for no other
            frames = stream(VENUE, [RAW], where, recorder.wanting, stop, patience=Patience(snapshot_s=0.1), rest=rest)
            running = asyncio.create_task(record(recorder, frames, stop, commit_s=0.1))

            async def until(condition):
                while not condition():
                    assert not running.done(), running.exception()
                    await asyncio.sleep(0.02)

            try:
                await until(lambda: adapter.is_live and adapter.counts["book_updates"] > 5)
                asking = asyncio.create_task(witness(recorder, where, rest, 0.3, [RAW], margin_s=0.3, again_s=0.3))
                await asyncio.sleep(2.0)
                assert adapter.counts["gaps"] == 0, "a book that is right is left alone"
                recorder.take(RAW, int(adapter.row["receive_ns"][0]), forged(adapter.row))
                assert (adapter.row["bid_sz"] == 999.0).any()
                await until(lambda: adapter.counts["gaps"] == 1)
                await until(lambda: adapter.is_live)
                assert not (adapter.row["bid_sz"] == 999.0).any()
                await asyncio.sleep(1.5)
                assert adapter.counts["gaps"] == 1, "cured, and believed again"
                asking.cancel()
            finally:
                stop.set()
                await running
        return recorder.lake

    lake = asyncio.run(inside())
    found = lake.read("findings", VENUE, SYMBOL).to_pylist()
    assert [row["kind"] for row in found] == [WITNESS]
    assert found[0]["received"] == 999.0
    assert "999.0 in the book" in found[0]["detail"]
    rows = lake.rows("l2_snapshots", VENUE, SYMBOL)
    wrong = rows["exchange_ns"][(rows["bid_sz"] == 999.0).any(axis=1)]
    assert found[0]["exchange_ns"] <= wrong.min(), "the stretch that is told holds every wrong row"
    assert found[0]["end_ns"] >= wrong.max()
    assert GAP in lake.read("coverage_changes", VENUE, SYMBOL)["state"].to_pylist()


def recording(root, symbols, venue="binance_usdm"):
    """Return a recorder whose books of all symbols are live."""
    recorder = Recorder(Lake(root), venue, "live", watch=Watch())
    for stamp, frame in generated(venue, 60):
        for symbol in symbols:
            recorder.take(symbol, stamp, frame.replace(b"btcusdt", symbol.lower().encode()).replace(b"BTCUSDT", symbol.encode()))
    assert all(recorder.stream(symbol).adapter.is_live for symbol in symbols)
    return recorder


def test_a_slow_answer_about_one_book_holds_up_no_other(tmp_path):
    symbols, asked = ["SIM1USDT", "SIM2USDT", "SIM3USDT"], []

    class Slow(Rest):
        async def get(self, url):
            asked.append(url)
            await asyncio.Event().wait()

    async def inside():
        where, rest = Endpoints("ws://127.0.0.1:9", "http://127.0.0.1:9"), Slow(Budget(0.0, 60.0), 1.0)
        asking = asyncio.create_task(witness(recording(tmp_path, symbols), where, rest, 0.1, symbols, margin_s=0.01))
        async with asyncio.timeout(10):
            while len(asked) < 3:
                await asyncio.sleep(0.01)
        asking.cancel()

    asyncio.run(inside())
    assert all(any(symbol in url for url in asked) for symbol in symbols)


def test_a_stretch_is_told_on_the_venues_clock(tmp_path):
    recorder = recording(tmp_path, ["SIM1USDT"])
    for window in range(9):  # every message seems 100 s late: our clock is ahead
        recorder.watch._clock.add(window * 2_000_000_000, 100_000_000_000, 10)
    tell(recorder, "SIM1USDT", 1_000_000_000_000, [Difference("bid", 100.0, 2.0, 1.0)])
    recorder.commit()
    (found,) = recorder.lake.read("findings").to_pylist()
    assert found["exchange_ns"] == 900_000_000_000
    assert 99e9 < found["receive_ns"] - found["end_ns"] < 101e9
    recorder.close()
