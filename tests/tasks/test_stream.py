import asyncio
import json
import logging
import time
from dataclasses import replace

import pytest

from simulator import frames
from simulator.server import serve
from tasks.feed.rest import Budget
from tasks.stream import Endpoints, Patience, Rest, SnapshotRefusedError, endpoints, stream
from tasks.venues import directory
from tasks.venues.binance import Binance
from tasks.venues.binance_wire import BinanceWire
from warehouse.schema import REFUSED

QUICK = Patience(first_retry_s=0.02, last_retry_s=0.1, silence_s=0.6, stall_s=0.5, snapshot_s=0.1, timeout_s=2.0, overlap_s=0.2)
SYMBOL = {"binance_spot": "BTCUSDT", "binance_usdm": "BTCUSDT", "binance_coinm": "BTCUSD_PERP"}


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """Compile reader and market first: minutes of market time pass meanwhile, and every clock here runs."""
    for venue, symbol in SYMBOL.items():
        reader = Binance(venue, symbol)
        for receive_ns, frame in frames(venue, symbol, 5.0, 1):
            for _ in reader.receive(frame, receive_ns):
                pass


def run(body, venue="binance_usdm", **options):
    async def inside():
        async with asyncio.timeout(30), await serve([venue], seed=1, **({"speed": 20.0} | options)) as market:
            return await body(market.venues[venue], Endpoints(market.ws_url(venue), market.rest_url(venue)))

    return asyncio.run(inside())


async def follow(endpoints, venue, until, patience=QUICK, **options):
    """Feed an adapter off the socket until a condition on it holds; return it and all frames."""
    reader, stop, taken = Binance(venue, SYMBOL[venue]), asyncio.Event(), []

    def wants():
        return [SYMBOL[venue]] if reader.needs_snapshot else []

    rules = replace(directory.wire(venue).rules, connects_s=50.0)
    async for symbol, receive_ns, frame in stream(
        venue, [SYMBOL[venue]], endpoints, wants, stop, **{"patience": patience, "rules": rules} | options
    ):
        assert symbol == SYMBOL[venue]
        taken.append((receive_ns, frame))
        for _ in reader.receive(frame, receive_ns):
            pass
        if until(reader, taken):
            stop.set()
    return reader, taken


@pytest.mark.parametrize("venue", SYMBOL)
def test_book_goes_live_off_a_socket_and_a_fetched_snapshot(venue):
    async def body(server, endpoints):
        reader, taken = await follow(
            endpoints, venue, lambda reader, _: reader.counts["book_updates"] > 200 and reader.counts["trades"] > 50
        )
        assert server.rest_requests >= 1
        assert sum(frame.startswith(b'{"lastUpdateId"') for _, frame in taken) == server.rest_requests
        return reader, taken

    reader, taken = run(body, venue)
    assert reader.is_live
    assert not any(reader.counts[bad] for bad in ("gaps", "crossed", "trade_id_gaps", "unreadable", "stray"))
    stamps = [receive_ns for receive_ns, _ in taken]
    assert stamps == sorted(stamps)
    assert abs(stamps[-1] - time.time_ns()) < 30e9


def test_lost_connection_is_told_once_and_the_book_comes_back():
    async def body(server, endpoints):
        broken = []

        def until(reader, taken):
            if reader.is_live and not broken and reader.counts["book_updates"] > 50:
                broken.append(len(taken))
                server.disconnect()
            return bool(broken) and reader.is_live and reader.counts["resyncs"] == 1 and reader.counts["book_updates"] > 150

        reader, taken = await follow(endpoints, "binance_usdm", until)
        assert server.accepted == 2
        return reader, taken

    reader, taken = run(body)
    assert [frame for _, frame in taken].count(b"") == 1
    assert reader.counts["gaps"] == 1


def test_dropped_depth_message_is_a_gap_and_a_new_snapshot():
    async def body(server, endpoints):
        dropped = []

        def until(reader, taken):
            if reader.is_live and not dropped and reader.counts["book_updates"] > 30:
                dropped.append(True)
                server.drop_depth()
            return reader.counts["resyncs"] == 1 and reader.is_live

        return await follow(endpoints, "binance_spot", until)

    reader, taken = run(body, "binance_spot")
    assert reader.counts["gaps"] == 1
    assert b"" not in [frame for _, frame in taken]
    assert sum(frame.startswith(b'{"lastUpdateId"') for _, frame in taken) >= 2


def test_refused_snapshot_waits_as_long_as_it_is_told():
    async def body(server, endpoints):
        server.refuse_rest(1, retry_after_s=1)
        began = time.monotonic()
        await follow(endpoints, "binance_usdm", lambda reader, _: reader.is_live)
        assert server.rest_requests == 2
        return time.monotonic() - began

    assert run(body) > 1.0


def test_snapshot_that_can_never_come_is_an_error():
    async def body(server, endpoints):
        wrong = Endpoints(endpoints.ws_url, endpoints.rest_url + "/nowhere")
        with pytest.raises(SnapshotRefusedError, match="404"):
            await follow(wrong, "binance_usdm", lambda *_: False)

    run(body)


class Astray(Rest):
    """Asks for what is not there, so often, before it asks for what it should."""

    astray = 2

    async def get(self, url):
        self.astray -= 1
        return await super().get(url.replace("/depth", "/nowhere") if self.astray >= 0 else url)


def test_a_book_that_is_refused_for_a_moment_is_asked_for_again_and_told():
    async def body(server, endpoints):
        notes, rest = [], Astray(Budget(0.0, 60.0), 2.0)
        reader, _ = await follow(endpoints, "binance_usdm", lambda reader, _: reader.is_live, rest=rest, told=notes.append)
        assert reader.is_live
        assert [(note.kind, note.raw_symbols) for note in notes] == [(REFUSED, ("BTCUSDT",))]
        assert "404" in notes[0].detail

    run(body)


def test_silent_connection_is_given_up():
    async def body(server, endpoints):
        hushed = []

        def until(reader, taken):
            if reader.is_live and not hushed:
                hushed.append(True)
                server.stay_silent(1.0)
            return bool(hushed) and reader.is_live and reader.counts["gaps"] == 1

        await follow(endpoints, "binance_usdm", until)
        assert server.accepted >= 2

    run(body)


def test_usdm_feeds_go_to_the_route_that_delivers_them():
    async def body(server, endpoints):
        seen = set()

        def until(_, taken):
            name = taken[-1][1][11:40]
            seen.update(feed for feed in (b"@depth", b"@aggTrade", b"@bookTicker") if feed in name)
            return len(seen) == 3

        await follow(endpoints, "binance_usdm", until, wire=BinanceWire("binance_usdm", ("depth", "bookTicker", "aggTrade")))
        assert server.accepted == 2

    run(body)


def test_stream_that_is_acknowledged_and_silent_is_told(caplog):
    async def body(server, endpoints):
        began = time.monotonic()
        await follow(
            endpoints,
            "binance_usdm",
            lambda *_: time.monotonic() - began > 1.2,
            wire=BinanceWire("binance_usdm", ("depth", "trade", "rpiDepth")),
        )

    with caplog.at_level(logging.WARNING, logger="tasks.feed"):
        run(body)
    assert any("silent" in message or "nothing came" in message for message in caplog.messages)
    assert any("rpiDepth" in message for message in caplog.messages)


def test_slow_reader_holds_the_socket_back_and_loses_nothing():
    async def body(server, endpoints):
        ids, stop = [], asyncio.Event()
        small = Patience(silence_s=0.3, queue=50)
        async for _, _, frame in stream(
            "binance_usdm", ["BTCUSDT"], endpoints, list, stop, wire=BinanceWire("binance_usdm", ("trade",)), patience=small
        ):
            assert frame, "the connection was lost"
            ids.append(json.loads(frame)["data"]["t"])
            if len(ids) == 100:
                market, held = server.markets["BTCUSDT"], 0
                while held != market.now_ns:  # buffers fill up, then the market itself has to wait
                    held = market.now_ns
                    await asyncio.sleep(0.4)
            if len(ids) == 20_000:
                stop.set()
        return ids

    ids = run(body, speed=float("inf"))
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert len(ids) >= 20_000


def test_stop_ends_the_stream_and_closes_the_socket():
    async def body(server, endpoints):
        stop, n = asyncio.Event(), 0
        async for _ in stream("binance_usdm", ["BTCUSDT"], endpoints, list, stop):
            n += 1
            if n == 20:
                began = time.monotonic()
                stop.set()
        assert time.monotonic() - began < 2.0
        await asyncio.sleep(0.1)
        assert not server.clients
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [task for task in others if "_listen" in repr(task) or "_fetch" in repr(task)]

    run(body)


def test_leaving_the_loop_early_closes_the_socket_too():
    async def body(server, endpoints):
        heard = stream("binance_usdm", ["BTCUSDT"], endpoints, list, asyncio.Event())
        await anext(heard)
        await heard.aclose()
        await asyncio.sleep(0.1)
        assert not server.clients

    run(body)


def test_server_that_is_not_there_yet_is_waited_for():
    async def inside():
        async with await serve(["binance_spot"]) as probe:
            port = probe.venues["binance_spot"].port
        endpoints, stop, got = Endpoints(f"ws://127.0.0.1:{port}", f"http://127.0.0.1:{port}"), asyncio.Event(), []

        async def read():
            async for item in stream("binance_spot", ["BTCUSDT"], endpoints, list, stop, patience=QUICK):
                got.append(item)
                stop.set()

        reading = asyncio.create_task(read())
        await asyncio.sleep(0.3)
        async with asyncio.timeout(20), await serve(["binance_spot"], port=port, speed=20.0):
            await reading
        assert got[0][2]

    asyncio.run(inside())


def test_real_venues_are_the_default():
    places = [endpoints(venue) for venue in SYMBOL]
    assert all(place.ws_url.startswith("wss://") and place.rest_url.startswith("https://") for place in places)
