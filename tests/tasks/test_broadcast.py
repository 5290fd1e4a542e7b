"""Frames and rows through a real Redis: what comes out is what went in, or it is said."""

import asyncio
import json
import time
import zlib

import numpy as np
import pytest
import redis

from tasks.broadcast import MOST, NORMALIZED, RAW, Broadcast, published
from tasks.record import Recorder
from tasks.relayed import NoStateError, frames
from tasks.stream import Endpoints, stream
from tasks.venues.binance import Binance
from tasks.venues.events import BOOK
from tasks.venues.memento import restore, saved
from tests.captures import generated
from tests.redis_server import served
from tests.simulated import run
from warehouse.lake import Lake

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
        async for symbol, receive_ns, frame in frames(server.url, VENUE, [SYMBOL], stop, lambda _, state, since: restore(second, state)):
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


def test_a_frame_that_found_no_room_is_followed_by_an_empty_one_and_told(monkeypatch, caplog):
    monkeypatch.setattr("tasks.broadcast._WAITING", 10)
    with served() as server, Broadcast(server.url) as out:
        server.stop()
        for i in range(25):
            out.frame(VENUE, "AB"[i % 2], i, b"x")
        assert out.lost == 15
        assert [record.message for record in caplog.records if "lost so far" in record.message] == [
            "redis: no room for more than 10 entries; 1 lost so far"
        ]
        server.start()
        client = redis.Redis.from_url(server.url)
        wait_until(lambda: client.xlen(RAW) == 12, 30.0)
        out.frame(VENUE, "A", 99, b"after")
        wait_until(lambda: client.xlen(RAW) == 13)
        told = [(f[b"symbol"], int(f[b"receive_ns"]), f[b"frame"]) for _, f in client.xrange(RAW)]
        assert told[10:] == [(b"A", 10, b""), (b"B", 11, b""), (b"A", 99, b"after")]


def test_the_state_of_a_quiet_symbol_is_kept_fresh(server, client):
    async def source():
        for symbol in ("QUIET", *["BUSY"] * 5):
            yield symbol, 1, b"x"

    async def write(out):
        async for _ in published(source(), VENUE, out, str.encode, state_s=0.0):
            await asyncio.to_thread(wait_until, lambda: not out._waiting)

    with Broadcast(server.url) as out:
        asyncio.run(write(out))
    (_, *_, (last, _)) = client.xrange(RAW)
    assert client.hget(f"tidebook:state:{VENUE}:QUIET", "entry") == last


def put(client, symbol, frame, state=None):
    entry = client.xadd(RAW, {"venue": VENUE, "symbol": symbol, "receive_ns": 1, "frame": frame})
    if state:
        client.hset(f"tidebook:state:{VENUE}:{symbol}", mapping={"entry": entry, "state": zlib.compress(state)})


def test_a_quiet_symbol_whose_entry_was_trimmed_holds_up_no_other(server, client):
    put(client, "QUIET", b"old", b"q1")
    put(client, "BUSY", b"old")
    client.xtrim(RAW, maxlen=0)
    put(client, "BUSY", b"1", b"b1")
    put(client, "BUSY", b"2")
    began, seen, stop = [], [], asyncio.Event()

    async def read():
        async for symbol, _, frame in frames(server.url, VENUE, ["QUIET", "BUSY"], stop, lambda symbol, state, since: began.append(state)):
            seen.append((symbol, frame))
            if frame == b"2":
                await asyncio.to_thread(put, client, "QUIET", b"3", b"q2")
            if began[-1] == b"q2":
                stop.set()
            elif symbol == "BUSY" and frame:
                await asyncio.sleep(0.05)
                await asyncio.to_thread(put, client, "BUSY", b"more")

    asyncio.run(asyncio.wait_for(read(), 10.0))
    assert seen[:3] == [("QUIET", b""), ("BUSY", b""), ("BUSY", b"2")]
    assert began == [b"q1", b"b1", b"b1", b"q2"]


class Breaks(Broadcast):
    """Loses the answer to the next entries that Redis took."""

    breaking = False

    def _send(self, batch):
        done = super()._send(batch)
        if self.breaking:
            self.breaking = False
            raise redis.ConnectionError("cut")
        return done


def test_entries_that_were_sent_again_are_told_once(server, client):
    seen, stop, whole = [], asyncio.Event(), [b"%d" % i for i in range(20)]

    async def read():
        async for _, _, frame in frames(server.url, VENUE, [SYMBOL], stop, lambda *_: None):
            seen.append(frame)
            if frame == whole[-1]:
                stop.set()

    with Breaks(server.url) as out:
        out.frame(VENUE, SYMBOL, 0, b"first")
        out.state(VENUE, SYMBOL, b"state")
        wait_until(lambda: client.exists(f"tidebook:state:{VENUE}:{SYMBOL}"))
        out.breaking = True
        for i, frame in enumerate(whole):
            out.frame(VENUE, SYMBOL, i, frame)
        wait_until(lambda: out.sent == 22)
    assert client.xlen(RAW) > 21
    asyncio.run(asyncio.wait_for(read(), 10.0))
    assert seen == whole


def test_a_stream_that_nobody_publishes_is_told(server, client):
    async def read():
        async for _ in frames(server.url, VENUE, ["NONE"], asyncio.Event(), lambda *_: None):
            pass

    with pytest.raises(NoStateError, match="binance_usdm NONE"):
        asyncio.run(read())


class Loses(Broadcast):
    """Loses the next frames that hold a text, as a full queue does."""

    losing = b""

    def frame(self, venue, raw_symbol, receive_ns, frame):
        if not self.losing or self.losing not in frame:
            super().frame(venue, raw_symbol, receive_ns, frame)


class Score:
    """Notes which books were scored, and whether the features held them for good."""

    def __init__(self):
        self.good = []

    def predict(self, features, meta, out):
        self.good.append((int(meta["exchange_ns"][0]), int(meta["doubt"][0]) == 0))


@pytest.mark.parametrize("fault", ["entry", "given up"])
def test_a_book_that_live_lost_begins_anew_from_what_redis_keeps(server, client, tmp_path, fault):
    score, stop, lost = Score(), asyncio.Event(), []
    ingest = Recorder(Lake(tmp_path / "a"), VENUE, "ingest")
    live = Recorder(Lake(tmp_path / "b"), VENUE, "live", lambda: score, tables=())
    adapters = [recorder.stream(SYMBOL).adapter for recorder in (ingest, live)]

    async def reads():
        async for item in frames(server.url, VENUE, [SYMBOL], stop, live.take_up, 10.0, live.wanting):
            live.take(*item)
            lost.append(bool(live.wanting()))

    async def publishes(market, out):
        ingest.lost = lambda symbol, receive_ns: out.frame(VENUE, symbol, receive_ns, b"")
        where = Endpoints(market.ws_url(VENUE), market.rest_url(VENUE))
        source = stream(VENUE, [SYMBOL], where, ingest.wanting, stop)
        async for item in published(source, VENUE, out, lambda symbol: saved(adapters[0]), state_s=1.0):
            ingest.take(*item)

    async def until(true):
        while not true():
            await asyncio.sleep(0.01)

    async def body(market):
        with Loses(server.url) as out:
            jobs = [asyncio.create_task(publishes(market, out)), asyncio.create_task(reads())]
            await until(lambda: adapters[1].is_live)
            before = len(lost)
            if fault == "entry":
                out.losing = b"depthUpdate"
                await asyncio.sleep(0.3)
                out.losing = b""
            else:
                ingest.lose(SYMBOL, time.time_ns())
            await until(lambda: any(lost[before:]))
            await until(lambda: adapters[1].is_live)
            known = len(score.good)
            await until(lambda: len(score.good) > known + 20)
            stop.set()
            await asyncio.gather(*jobs)
        return known

    known = run(body, speed=2.0)
    assert all(good for _, good in score.good[known:])
    assert adapters[0].counts["gaps"] == (fault == "given up")  # who publishes asks for nothing where only an entry was lost
    ingest.commit()
    told = {int(ns) for ns in ingest.lake.rows("l2_snapshots", VENUE, "BTC-USDT-PERP")["exchange_ns"]}
    assert {ns for ns, _ in score.good} <= told
