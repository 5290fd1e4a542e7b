import asyncio
import contextlib
import itertools
import json
import urllib.request
from urllib.error import HTTPError

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from simulator.server import serve

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def run(body, venues=("binance_usdm",), **options):
    async def inside():
        async with asyncio.timeout(30), await serve(venues, seed=1, **({"speed": 20.0} | options)) as market:
            return await body(market)

    return asyncio.run(inside())


def dial(market, venue, path):
    return connect(market.ws_url(venue) + path, compression=None, proxy=None, ping_interval=None)


async def get(url):
    def fetch():
        try:
            with OPENER.open(url, timeout=5) as answer:
                return answer.status, dict(answer.headers), json.loads(answer.read())
        except HTTPError as error:
            with error:
                return error.code, dict(error.headers), json.loads(error.read())

    return await asyncio.to_thread(fetch)


async def ask(socket, **message):
    await socket.send(json.dumps(message))
    while True:
        answer = json.loads(await socket.recv())
        if "stream" not in answer and "e" not in answer:
            return answer


async def until_closed(socket):
    taken = []
    with contextlib.suppress(ConnectionClosed):
        async for message in socket:
            taken.append(message)
    return taken


def test_combined_stream_wraps_and_single_stream_does_not():
    async def body(market):
        async with dial(market, "binance_spot", "/stream?streams=btcusdt@depth@100ms/btcusdt@trade") as socket:
            names = {json.loads(await socket.recv())["stream"] for _ in range(60)}
            assert names == {"btcusdt@depth@100ms", "btcusdt@trade"}
        async with dial(market, "binance_spot", "/ws/btcusdt@bookTicker") as socket:
            assert list(json.loads(await socket.recv())) == ["u", "s", "b", "B", "a", "A"]

    run(body, ["binance_spot"])


def test_requests_are_answered_by_bare_objects():
    async def body(market):
        async with dial(market, "binance_coinm", "/stream") as socket:
            assert await ask(socket, method="SUBSCRIBE", params=["btcusd_perp@trade", "btcusd_perp@depth@0ms"], id=1) == {
                "result": None,
                "id": 1,
            }
            assert json.loads(await socket.recv())["stream"].startswith("btcusd_perp@")
            assert await ask(socket, method="LIST_SUBSCRIPTIONS", id="x") == {
                "result": ["btcusd_perp@trade", "btcusd_perp@depth@0ms"],
                "id": "x",
            }
            assert await ask(socket, method="UNSUBSCRIBE", params=["btcusd_perp@depth@0ms"], id=2) == {"result": None, "id": 2}
            assert await ask(socket, method="LIST_SUBSCRIPTIONS", id=3) == {"result": ["btcusd_perp@trade"], "id": 3}
            assert await ask(socket, method="SET_PROPERTY", params=["combined", False], id=4) == {"result": None, "id": 4}
            assert json.loads(await socket.recv())["e"] == "trade"

    run(body, ["binance_coinm"])


@pytest.mark.parametrize("message", ["{", "[]", '{"method":"SHOUT","id":1}', '{"method":"SUBSCRIBE","params":"x","id":1}'])
def test_wrong_requests_get_a_code_and_words(message):
    async def body(market):
        async with dial(market, "binance_usdm", "/public/ws") as socket:
            await socket.send(message)
            answer = json.loads(await socket.recv())
            assert isinstance(answer["code"], int)
            assert answer["msg"]

    run(body)


def test_usdm_stream_on_the_wrong_route_is_acknowledged_and_silent():
    async def body(market):
        async with dial(market, "binance_usdm", "/market/stream") as socket:
            assert await ask(socket, method="SUBSCRIBE", params=["btcusdt@depth@0ms"], id=1) == {"result": None, "id": 1}
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(socket.recv(), 0.4)
            await ask(socket, method="SUBSCRIBE", params=["btcusdt@aggTrade"], id=2)
            assert json.loads(await socket.recv())["data"]["e"] == "aggTrade"

    run(body)


def test_depth_snapshot_is_of_the_stream_and_costs_weight():
    async def body(market):
        async with dial(market, "binance_usdm", "/public/stream?streams=btcusdt@depth@0ms") as socket:
            before = json.loads(await socket.recv())["data"]
            status, headers, book = await get(market.rest_url("binance_usdm") + "/fapi/v1/depth?symbol=BTCUSDT&limit=100")
            assert status == 200
            assert list(book) == ["lastUpdateId", "E", "T", "bids", "asks"]
            assert len(book["bids"]) == len(book["asks"]) == 100
            assert headers["X-MBX-USED-WEIGHT-1M"] == "5"
            while True:
                event = json.loads(await socket.recv())["data"]
                if event["u"] >= book["lastUpdateId"]:
                    break
            assert before["u"] < book["lastUpdateId"] <= event["u"]
            assert event["pu"] <= book["lastUpdateId"]

    run(body)


def test_weight_above_the_budget_is_refused_with_a_time():
    async def body(market):
        address = market.rest_url("binance_spot") + "/api/v3/depth?symbol=BTCUSDT&limit=5000"
        for _ in range(25):
            status, headers, _ = await get(address)
            if status == 429:
                break
        assert status == 429
        assert 0 < int(headers["Retry-After"]) <= 60

    run(body, ["binance_spot"])


@pytest.mark.parametrize(
    ("query", "status", "code"), [("symbol=NOPE", 400, -1121), ("", 400, -1102), ("symbol=BTCUSDT&limit=7", 400, -4021)]
)
def test_wrong_depth_requests_are_refused_in_the_venues_words(query, status, code):
    async def body(market):
        answer = await get(market.rest_url("binance_usdm") + "/fapi/v1/depth?" + query)
        assert answer[0] == status
        assert answer[2]["code"] == code

    run(body)


def test_exchange_info_tells_ticks_and_contract_sizes():
    async def body(market):
        _, _, info = await get(market.rest_url("binance_coinm") + "/dapi/v1/exchangeInfo")
        symbol = info["symbols"][0]
        assert (symbol["symbol"], symbol["contractSize"], symbol["filters"][0]["tickSize"]) == ("BTCUSD_PERP", 100, "0.1")

    run(body, ["binance_coinm"])


def test_several_venues_and_symbols_run_at_once():
    async def body(market):
        for venue, path in (("binance_spot", "/stream?streams="), ("binance_usdm", "/public/stream?streams=")):
            async with dial(market, venue, f"{path}btcusdt@trade/ethusdt@trade") as socket:
                names = {json.loads(await socket.recv())["stream"] for _ in range(200)}
                assert names == {"btcusdt@trade", "ethusdt@trade"}

    both = ["BTCUSDT", "ETHUSDT"]
    run(body, ["binance_spot", "binance_usdm"], symbols={"binance_spot": both, "binance_usdm": both})


def test_every_client_hears_the_same_frames():
    async def body(market):
        async with (
            dial(market, "binance_usdm", "/public/ws/btcusdt@trade") as one,
            dial(market, "binance_usdm", "/public/ws/btcusdt@trade") as two,
        ):
            first, second = [await one.recv() for _ in range(50)], [await two.recv() for _ in range(50)]
            shared = first[first.index(second[0]) :]
            assert shared == second[: len(shared)]

    run(body)


def test_dropped_depth_breaks_the_chain_and_disconnect_ends_it():
    async def body(market):
        server = market.venues["binance_usdm"]
        async with dial(market, "binance_usdm", "/public/ws/btcusdt@depth@0ms") as socket:
            whole = [json.loads(await socket.recv()) for _ in range(5)]
            assert all(now["pu"] == before["u"] for before, now in itertools.pairwise(whole))
            server.drop_depth()
            broken = whole[-1:] + [json.loads(await socket.recv()) for _ in range(40)]
            assert sum(now["pu"] != before["u"] for before, now in itertools.pairwise(broken)) == 1
            server.disconnect()
            await until_closed(socket)

    run(body)


def test_closing_is_announced():
    async def body(market):
        async with dial(market, "binance_spot", "/stream?streams=btcusdt@trade") as socket:
            await socket.recv()
            closing = asyncio.create_task(market.close())
            last = (await until_closed(socket))[-1]
            await closing
            assert json.loads(last)["stream"] == "!serverShutdown"

    run(body, ["binance_spot"])


def test_paths_the_venue_does_not_have_are_refused():
    async def body(market):
        with pytest.raises(InvalidStatus):
            async with dial(market, "binance_spot", "/public/stream?streams=btcusdt@trade"):
                pass

    run(body, ["binance_spot"])


def test_market_time_runs_at_the_speed_asked_for():
    async def body(market):
        book = market.venues["binance_usdm"].markets["BTCUSDT"]
        before = book.now_ns
        await asyncio.sleep(0.5)
        return (book.now_ns - before) / 1e9

    assert 0.4 < run(body, speed=1.0) < 1.5
    assert 2.0 < run(body, speed=10.0) < 12.0
