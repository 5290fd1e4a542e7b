"""Each fault on real sockets: it happens to one message, connection or request, and is told."""

import asyncio
import contextlib
import itertools
import json
import time

import pytest

from simulator.faults import MESSAGE, Dice, FaultPlan, FaultSyntaxError
from simulator.ledger import faults
from tests.simulated import dial, get, run, take, until_closed

USDM, DEPTH = "binance_usdm", "/public/ws/btcusdt@depth@0ms"
MANY = 60


async def heard_with(market, fault):
    """Return depth messages of which one meets with a fault, and how many faults were counted."""
    async with dial(market, USDM, DEPTH) as socket:
        taken = await take(socket, 5)
        market.venues[USDM].arm(fault)
        taken += await take(socket, MANY)
        return taken, market.venues[USDM].dice.counts[fault]


def chain(messages):
    """Return how often a message does not follow on the one before."""
    return sum(json.loads(now)["pu"] != json.loads(before)["u"] for before, now in itertools.pairwise(messages))


async def until_silent(socket, seconds):
    """Read until nothing came for so long; fail if something keeps coming."""
    with contextlib.suppress(TimeoutError):
        for _ in range(10_000):
            await asyncio.wait_for(socket.recv(), seconds)
        pytest.fail("it never fell silent")


def parsed(messages):
    found = []
    for message in messages:
        try:
            found.append(json.loads(message))
        except ValueError:
            found.append(None)
    return found


def test_undisturbed_messages_follow_each_other():
    async def body(market):
        async with dial(market, USDM, DEPTH) as socket:
            assert chain(await take(socket, MANY)) == 0

    run(body)


@pytest.mark.parametrize(("fault", "breaks"), [("drop", 1), ("duplicate", 1), ("reorder", 3), ("sequence", 1), ("delay", 0)])
def test_order_is_disturbed_once_and_only_so(fault, breaks):
    async def body(market):
        taken, counted = await heard_with(market, fault)
        assert chain(taken) == breaks
        assert counted == 1
        ids = [json.loads(message)["u"] for message in taken]
        assert len(ids) - len(set(ids)) == (fault == "duplicate")

    run(body)


def test_corrupt_message_differs_in_one_digit_and_a_cut_one_ends_early(tmp_path):
    async def body(market):
        taken, counted = await heard_with(market, "truncate")
        assert counted == 1
        assert sum(message is None for message in parsed(taken)) == 1
        async with dial(market, USDM, DEPTH) as spoilt, dial(market, USDM, DEPTH) as whole:
            await take(spoilt, 1)
            await take(whole, 1)
            server = market.venues[USDM]
            server.arm("corrupt")
            one, two = set(await take(spoilt, MANY)), set(await take(whole, MANY))
            assert server.dice.counts["corrupt"] == 1
        strange = sorted(one ^ two, key=len)
        pairs = [(a, b) for a, b in itertools.combinations(strange, 2) if len(a) == len(b)]
        assert any(sum(x != y for x, y in zip(a, b, strict=True)) == 1 for a, b in pairs)

    run(body, ledger=tmp_path)
    told = faults(tmp_path, USDM)
    assert [fault["fault"] for fault in told] == ["truncate", "corrupt"]
    assert {fault["raw_symbol"] for fault in told} == {"BTCUSDT"}
    assert all("->" in fault["detail"] for fault in told)


def test_message_is_late_and_nothing_overtakes_it():
    async def body(market):
        async with dial(market, USDM, DEPTH) as socket:
            await take(socket, 3)
            market.venues[USDM].arm("delay")
            waits, taken = [], []
            for _ in range(MANY):
                began = time.monotonic()
                taken.append(await socket.recv())
                waits.append(time.monotonic() - began)
            assert max(waits) > 0.2
            assert chain(taken) == 0

    run(body, faults=FaultPlan(delay_ms=300.0))


@pytest.mark.parametrize("code", [1000, 1001, 1012, 4000, 1006])
def test_connections_close_with_the_code_of_the_plan(code):
    async def body(market):
        async with dial(market, USDM, DEPTH) as socket:
            await take(socket, 1)
            market.venues[USDM].arm("close")
            await until_closed(socket)
            assert socket.close_code == code

    run(body, faults=FaultPlan(close_codes=(code,)))


def test_half_open_connection_stands_and_does_not_even_answer_a_ping():
    async def body(market):
        async with dial(market, USDM, DEPTH) as deaf:
            await take(deaf, 1)
            market.venues[USDM].arm("half_open")
            await until_silent(deaf, 0.4)
            pong = await deaf.ping()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(pong, 0.3)
            assert deaf.close_code is None
            async with dial(market, USDM, DEPTH) as other:
                await take(other, 2)

    run(body)


def test_one_stream_falls_silent_for_a_while_and_the_others_go_on():
    async def body(market):
        async with dial(market, USDM, "/public/stream?streams=btcusdt@depth@0ms/btcusdt@trade/btcusdt@bookTicker") as socket:
            await take(socket, 10)
            market.venues[USDM].arm("silent")
            while not (silent := next((client.silent for client in market.venues[USDM].clients), {})):
                await socket.recv()
            name = next(iter(silent))
            rest = [json.loads(message)["stream"] for message in await take(socket, 800)]
            assert name not in rest[400:]
            assert len(set(rest[400:])) == 2
            while json.loads(await socket.recv())["stream"] != name:
                pass

    run(body, faults=FaultPlan(silent_s=1.0))


def test_restart_of_a_venue_without_reset_closes_all_connections():
    async def body(market):
        async with dial(market, USDM, DEPTH) as one, dial(market, USDM, DEPTH) as two:
            await take(one, 1)
            market.venues[USDM].arm("restart")
            await until_closed(one)
            await until_closed(two)
            assert one.close_code == two.close_code == 1012

    run(body)


def test_old_book_is_served_once_and_refusals_say_how_long():
    async def body(market):
        server, address = market.venues[USDM], market.rest_url(USDM) + "/fapi/v1/depth?symbol=BTCUSDT&limit=100"
        await asyncio.sleep(0.2)
        server.arm("stale")
        await get(market.rest_url(USDM) + "/fapi/v1/exchangeInfo")  # has no book that could be old
        old, new = (await get(address))[2], (await get(address))[2]
        assert new["E"] - old["E"] > 1_000
        server.arm("limit")
        status, headers, _ = await get(address)
        assert (status, headers["Retry-After"]) == (429, "3")
        assert (await get(address))[0] == 200
        server.arm("ban")
        answers = [(await get(address))[0] for _ in range(2)]
        assert answers == [418, 418]
        await asyncio.sleep(1.1)
        assert (await get(address))[0] == 200
        assert server.dice.counts == {"stale": 1, "limit": 1, "ban": 1}

    run(body, faults=FaultPlan(retry_s=3.0, ban_s=1.0))


def test_those_who_go_on_after_being_refused_are_banned():
    async def body(market):
        address = market.rest_url("binance_spot") + "/api/v3/depth?symbol=BTCUSDT&limit=5000"
        answers = []
        while 418 not in answers and len(answers) < 100:
            answers.append((await get(address))[0])
        assert answers[-1] == 418
        assert answers.count(429) >= 5
        assert answers.count(200) <= 2 * 24  # twice, should the minute change
        assert market.venues["binance_spot"].wire.budget.bans == 1
        assert market.venues["binance_spot"].wire.budget.peak <= 6000

    run(body, ["binance_spot"])


def test_skewed_clock_shows_in_the_venues_stamps():
    async def body(market):
        async with dial(market, USDM, DEPTH) as socket:
            event = json.loads(await socket.recv())
            ahead_ms = event["E"] - time.time() * 1e3
            assert 9_000 < ahead_ms < 10_500
            assert event["E"] - 100 < event["T"] <= event["E"]

    run(body, speed=1.0, faults=FaultPlan(skew_ms=10_000.0))


def test_connection_is_cut_at_the_age_of_the_plan():
    async def body(market):
        began = time.monotonic()
        async with dial(market, USDM, DEPTH) as socket:
            await until_closed(socket)
            assert socket.close_code == 1001
        assert time.monotonic() - began > 0.5

    run(body, faults=FaultPlan(lifetime_s=0.5))


def test_rates_befall_as_many_messages_as_they_say():
    async def body(market):
        names = "/".join(f"{s}@{f}" for s in ("btcusdt", "ethusdt") for f in ("depth@0ms", "trade", "bookTicker"))
        async with dial(market, USDM, f"/public/stream?streams={names}") as socket:
            await take(socket, 6_000)
        return market.venues[USDM].dice.counts

    counts = run(body, symbols={USDM: ["BTCUSDT", "ETHUSDT"]}, faults=FaultPlan.parse("drop=0.02,duplicate=0.02,corrupt=0.02,close=1000s"))
    assert all(60 < counts[name] < 300 for name in ("drop", "duplicate", "corrupt"))
    assert set(counts) == {"drop", "duplicate", "corrupt"}


def test_same_seed_has_the_same_luck_and_each_venue_its_own():
    def luck(seed, venue):
        dice = Dice(FaultPlan.parse("drop=0.1,corrupt=0.05,close=5s", seed), venue)
        drawn = []
        for i in range(300):
            dice.turn(i / 10)
            drawn.append((dice.message(), dice.take("close")))
        return drawn

    assert luck(1, "okx") == luck(1, "okx")
    assert luck(1, "okx") != luck(2, "okx")
    assert luck(1, "okx") != luck(1, "kraken")


def test_fault_a_venue_cannot_have_waits_for_ever():
    dice = Dice(FaultPlan.parse("checksum=@0,drop=@0"), "binance_spot")
    dice.turn(0.0)
    may = {name: None for name in MESSAGE if name != "checksum"}
    assert [dice.message(may) for _ in range(3)] == ["drop", "", ""]


@pytest.mark.parametrize("text", ["dorp=0.1", "drop=often", "close=@soon", "drop", "delay_ms=x"])
def test_plan_that_cannot_be_read_says_what_can(text):
    with pytest.raises(FaultSyntaxError, match="drop, duplicate, reorder"):
        FaultPlan.parse(text)


def test_closing_with_a_half_open_client_does_not_hang():
    async def body(market):
        async with dial(market, USDM, DEPTH) as socket:
            await take(socket, 1)
            market.venues[USDM].arm("half_open")
            await asyncio.sleep(0.1)
            await asyncio.wait_for(market.close(), 5)
            await until_closed(socket)
            assert socket.close_code == 1006

    run(body)
