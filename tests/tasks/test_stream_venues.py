"""Every venue through the one shell: live, handed over without a hole, whole again after a cut, and as its own witness says."""

import asyncio
from dataclasses import replace

import pytest

from simulator.server import serve
from tasks.feed.terms import Patience
from tasks.feed.watch import Watch
from tasks.record import Recorder, record
from tasks.stream import Endpoints, instruments, rest_of, stream
from tasks.venues.directory import VENUES, raw_symbol, wire
from tasks.witness import ask
from warehouse.lake import Lake
from warehouse.schema import RECONNECT

pytestmark = pytest.mark.slow
SYMBOLS = {
    "binance_usdm": ("BTC-USDT-PERP", "ETH-USDT-PERP"), "binance_coinm": ("BTC-USD-PERP", "ETH-USD-PERP"),
    "bybit_linear": ("BTC-USDT-PERP", "ETH-USDT-PERP"), "okx": ("BTC-USDT", "ETH-USDT-PERP"),
    "coinbase_exchange": ("BTC-USD", "ETH-USD"), "coinbase_advanced": ("BTC-USD", "ETH-USD"), "kraken": ("BTC-USD", "ETH-USD"),
    "hyperliquid": ("BTC-USD-PERP", "ETH-USD-PERP"),
}  # fmt: skip
BAD = ("gaps", "crossed", "trade_id_gaps", "unreadable", "stray", "checksum_failures", "suspects")
QUICK = Patience(first_retry_s=0.02, last_retry_s=0.1, snapshot_s=0.1, overlap_s=0.5, timeout_s=30.0)


def books(recorder):
    return min(counts["book_updates"] for counts in recorder.counts().values())


def all_live(recorder):
    return all(stream.adapter.is_live for stream in recorder.streams.values())


def run(venue, folder, body, lifetime_s=0.0):
    """Record a simulated venue while `body` does things to it; return the recorder and what the feed told."""
    raw = [raw_symbol(venue, symbol) for symbol in SYMBOLS.get(venue, ("BTC-USDT", "ETH-USDT"))]

    async def inside():
        async with asyncio.timeout(150), await serve([venue], {venue: raw}, seed=3) as simulated:
            where, stop, notes = Endpoints(simulated.ws_url(venue), simulated.rest_url(venue)), asyncio.Event(), []
            recorder, rest = Recorder(Lake(folder), venue, "live", watch=Watch()), rest_of(venue, QUICK)
            recorder.instruments = await instruments(venue, where, rest)
            assert set(raw) <= set(recorder.instruments)
            for symbol in raw:
                recorder.stream(symbol)
            rules = replace(wire(venue).rules, lifetime_s=lifetime_s, connects_s=20.0)
            frames = stream(venue, raw, where, recorder.wanting, stop, rules=rules, patience=QUICK, told=notes.append, rest=rest)
            running = asyncio.create_task(record(recorder, frames, stop, commit_s=0.1, seal_s=5.0))

            async def until(condition):
                while not condition():
                    assert not running.done(), running.exception()
                    await asyncio.sleep(0.02)

            try:
                await until(lambda: all_live(recorder) and books(recorder) > 3)
                await body(simulated.venues[venue], recorder, until, where, rest, raw)
            finally:
                stop.set()
                await running
            return recorder, notes

    return asyncio.run(inside())


@pytest.mark.parametrize("venue", VENUES)
def test_connections_are_replaced_without_a_hole(venue, tmp_path):
    async def body(server, recorder, until, where, rest, raw):
        accepted, n = server.accepted, books(recorder)
        await until(lambda: server.accepted > accepted and books(recorder) > n + 4)
        await asyncio.sleep(0.8)  # the old connection goes, and the new one carries on
        assert all_live(recorder)

    recorder, notes = run(venue, tmp_path, body, lifetime_s=2.0)
    assert not notes
    for symbol, counts in recorder.counts().items():
        assert not {name: counts[name] for name in BAD if counts.get(name)}, symbol
        changes = recorder.lake.read("coverage_changes", venue, symbol)["state"].to_pylist()
        assert len(changes) == 2, "it began, and was good from then on"
        rows = recorder.lake.read("trades", venue, symbol).to_pandas()
        fresh = rows[rows["backfill"] == 0]
        assert not fresh["trade_id"].duplicated().any(), symbol


async def _asked(recorder, rest, symbol, url):
    while (differences := await ask(recorder, rest, symbol, url, 1.0, 0.5)) is None:
        await asyncio.sleep(0.2)  # the budget of this second is spent
    return differences


@pytest.mark.parametrize("venue", VENUES)
def test_books_come_back_after_a_cut_and_agree_with_the_venues_own(venue, tmp_path):
    found = []

    async def body(server, recorder, until, where, rest, raw):
        server.disconnect()
        await until(lambda: not all_live(recorder))
        n = books(recorder)
        await until(lambda: all_live(recorder) and books(recorder) > n + 3)
        for symbol in raw:
            url, _ = wire(venue).witness_url(symbol, where.rest_url)
            twice = [await _asked(recorder, rest, symbol, url) for _ in range(2)]
            differences = [one for one in twice[0] if one in twice[1]]  # once may be a level that came and went between
            found.append((symbol, differences))

    recorder, notes = run(venue, tmp_path, body)
    assert {note.kind for note in notes} == {RECONNECT}
    assert all(counts["gaps"] == 1 for counts in recorder.counts().values())
    assert found
    assert all(differences == [] for _, differences in found), found
