"""What venues keep to themselves for a while is in no stretch that the lake calls good: the judge of the soak has nothing to excuse."""

import asyncio
import sys
from pathlib import Path

import pytest

from simulator.faults import FaultPlan
from simulator.ledger import faults
from simulator.listings import raw_symbols
from simulator.server import serve
from tasks.feed.terms import Patience
from tasks.record import Recorder, record
from tasks.stream import Endpoints, stream
from warehouse.lake import Lake

sys.path.append(str(Path(__file__).resolve().parents[2] / "bench"))
import soak_judge

pytestmark = pytest.mark.slow
SILENT = "silent=@0.6;2.0,silent_s=0.75"  # 15 s of market time each: it runs at twenty times the wall clock


async def recorded(venue, raw, folder, seconds):
    """Record a venue that falls silent now and then; both leave what they know in the folder."""
    plan, patience = FaultPlan.parse(SILENT, seed=1), Patience(snapshot_s=0.1)
    async with await serve([venue], {venue: [raw]}, faults=plan, ledger=folder / "ledger", seed=3, speed=20.0) as simulated:
        recorder, stop = Recorder(Lake(folder / "lake"), venue, "live"), asyncio.Event()
        where = Endpoints(simulated.ws_url(venue), simulated.rest_url(venue))
        asyncio.get_running_loop().call_later(seconds, stop.set)
        await record(recorder, stream(venue, [raw], where, recorder.wanting, stop, patience=patience), stop)


@pytest.mark.parametrize("venue", ["hyperliquid", "kraken"])
def test_silence_of_a_book_is_doubtful_from_its_first_moment_on(venue, tmp_path):
    raw = raw_symbols(venue, 1)[0]
    asyncio.run(recorded(venue, raw, tmp_path, 3.6))
    silent = [fault["stream"] for fault in faults(tmp_path / "ledger", venue)]
    assert any("book" in stream.lower() for stream in silent), silent
    found = soak_judge.compare(tmp_path, venue, raw)
    assert found["books_compared"] > 30
    assert (found["wrong_books"], found["missing_books"]) == (0, 0)
