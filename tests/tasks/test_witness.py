"""A book that went wrong without a trace in the venue's numbers: the venue's own book tells."""

import asyncio

from simulator.server import serve
from tasks.feed.watch import Watch
from tasks.record import Recorder, record
from tasks.stream import Endpoints, Patience, rest_of, stream
from tasks.witness import witness
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
