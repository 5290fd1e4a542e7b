"""Frames and rows through a real Redis: what comes out is what went in, or it is said."""

import asyncio
import json
import time

import numpy as np
import pytest
import redis

from tasks.broadcast import MOST, NORMALIZED, RAW, Broadcast, NoStateError, frames, published
from tasks.venues.binance import Binance
from tasks.venues.events import BOOK
from tasks.venues.memento import restore, saved
from tests.captures import generated
from tests.redis_server import served

VENUE, SYMBOL = "binance_usdm", "BTCUSDT"


@pytest.fixture(scope="module")
def server():
    with served() as running:
        yield running


@pytest.fixture
def client(server):
    client = redis.Redis.from_url(server.url)
    client.flushall()
    return client


def rows_of(adapter, sent):
    out = []
    for receive_ns, frame in sent:
        out += [adapter.row.copy() for event in adapter.receive(frame, receive_ns) if event == BOOK]
    return out


def wait_until(true, within_s=10.0):
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_reader_that_comes_in_the_middle_has_the_same_books(server, client):
    sent, middle = generated(VENUE, 300), 500
    whole = rows_of(Binance(VENUE, SYMBOL), sent)
    first, second, stop, late = Binance(VENUE, SYMBOL), Binance(VENUE, SYMBOL), asyncio.Event(), []

    async def source(pairs):
        for receive_ns, frame in pairs:
            yield SYMBOL, receive_ns, frame

    async def write(pairs, out):
        async for _, receive_ns, frame in published(source(pairs), VENUE, out, lambda symbol: saved(first), state_s=0.0):
            list(first.receive(frame, receive_ns))

    async def read():
        async for symbol, receive_ns, frame in frames(server.url, VENUE, [SYMBOL], stop, lambda _, state: restore(second, state)):
            assert symbol == SYMBOL
            late.extend(second.row.copy() for event in second.receive(frame, receive_ns) if event == BOOK)

    async def run():
        with Broadcast(server.url) as out:
            await write(sent[:middle], out)
            await asyncio.to_thread(wait_until, lambda: client.exists(f"tidebook:state:{VENUE}:{SYMBOL}"))
            reading = asyncio.create_task(read())
            await write(sent[middle:], out)
            await asyncio.to_thread(wait_until, lambda: client.xlen(RAW) == len(sent))
            while len(late) < 20 or late[-1]["seq"] != whole[-1]["seq"]:
                await asyncio.sleep(0.05)
            stop.set()
            await reading

    asyncio.run(asyncio.wait_for(run(), 60))
    assert np.concatenate(late).tobytes() == np.concatenate(whole[-len(late) :]).tobytes()


def test_streams_are_trimmed_and_rows_are_json_with_null_for_unknown(server, client):
    with Broadcast(server.url) as out:
        for i in range(MOST + 3_000):
            out.frame(VENUE, SYMBOL, i, b"x")
        out.row("BTC", {"exchange_ns": 5, "receive_ns": 6, "avg_price": 1.5, "funding_delta": float("nan")})
    assert MOST <= client.xlen(RAW) < MOST + 1_000
    (_, fields), *_ = client.xrange(NORMALIZED)
    assert fields[b"base"] == b"BTC"
    assert json.loads(fields[b"row"]) == {"exchange_ns": 5, "receive_ns": 6, "avg_price": 1.5, "funding_delta": None}
    assert out.lost == 0


def test_a_redis_that_goes_away_holds_nobody_up_and_gets_what_waited():
    with served() as server, Broadcast(server.url) as out:
        out.frame(VENUE, SYMBOL, 1, b"before")
        wait_until(lambda: out.sent == 1)
        server.stop()
        began = time.monotonic()
        for i in range(1000):
            out.frame(VENUE, SYMBOL, i, b"meanwhile")
        assert time.monotonic() - began < 1.0
        server.start()
        wait_until(lambda: redis.Redis.from_url(server.url).xlen(RAW) == 1000, 30.0)
        assert out.lost == 0


def test_entries_beyond_what_may_wait_are_counted(monkeypatch):
    monkeypatch.setattr("tasks.broadcast._WAITING", 10)
    out = Broadcast("redis://127.0.0.1:9/0")
    for i in range(25):
        out.frame(VENUE, SYMBOL, i, b"x")
    out.close()
    assert out.lost == 25


def test_a_stream_that_nobody_publishes_is_told(server, client):
    async def read():
        async for _ in frames(server.url, VENUE, ["NONE"], asyncio.Event(), lambda *_: None):
            pass

    with pytest.raises(NoStateError, match="binance_usdm NONE"):
        asyncio.run(read())
