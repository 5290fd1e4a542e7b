"""Connections on real sockets, against a venue that has nothing but what all venues have."""

import asyncio
import logging
import time
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from tasks.feed.line import merged, retry_s
from tasks.feed.stalls import Stalls
from tasks.feed.terms import Patience
from tests.tiny_venue import QUICK, RULES, TinyWire, follow
from warehouse.schema import QUEUE_FULL, RECONNECT, REFUSED, STALL

SYMBOLS = ["A", "B", "C", "D", "E"]


def kinds(notes):
    return Counter(note.kind for note in notes)


def steps(numbers):
    return {after - before for before, after in pairwise(numbers)}


def test_every_symbol_is_subscribed_once_over_few_connections_and_comes_whole():
    async def body(venue, reader, until):
        await until(lambda: reader.all_live and all(len(seen) > 20 for seen in reader.seen.values()))
        assert venue.accepted == 3
        assert all(venue.asked["sub", symbol] == 1 for symbol in SYMBOLS)

    reader, notes, _ = follow(SYMBOLS, body, wire=TinyWire(per_line=2))
    assert not notes
    assert all(steps(seen) == {1} for seen in reader.seen.values())


def test_requests_keep_to_the_pace_of_the_venue():
    async def body(venue, reader, until):
        await until(lambda: reader.all_live)
        gaps = [b - a for a, b in pairwise(venue.sent_at)]
        assert len(gaps) == 2
        assert min(gaps) > 0.08

    follow(SYMBOLS, body, wire=TinyWire(rules=replace(RULES, sends_s=10.0)))


def test_a_connection_that_grows_old_is_replaced_without_a_lost_or_doubled_update():
    async def body(venue, reader, until):
        await until(lambda: venue.accepted >= 4)
        await until(lambda: all(len(seen) > 200 for seen in reader.seen.values()))

    reader, notes, _ = follow(SYMBOLS, body, wire=TinyWire(rules=replace(RULES, lifetime_s=0.6)))
    assert not notes
    assert not reader.lost
    assert all(reader.books[symbol] == 1 for symbol in SYMBOLS), "the book goes on: no second snapshot is handed on"
    assert all(steps(seen) == {1} for seen in reader.seen.values())


def test_a_quiet_symbol_is_handed_over_at_its_snapshot():
    async def body(venue, reader, until):
        await until(lambda: reader.all_live)
        venue.mute.add("A")
        await until(lambda: venue.accepted >= 2 and len(venue.hearers) == 1)
        venue.mute.discard("A")
        await until(lambda: len(reader.seen["B"]) > 150)

    reader, _, _ = follow(SYMBOLS, body, wire=TinyWire(rules=replace(RULES, lifetime_s=0.6)), patience=replace(QUICK, stall_s=9.0))
    assert reader.books["A"] >= 2
    assert reader.books["B"] == 1
    assert not reader.lost


def test_a_venue_that_announces_its_end_is_left_before_it():
    async def body(venue, reader, until):
        await until(lambda: reader.all_live)
        for client in list(venue.hearers):
            await client.send("bye")
        await until(lambda: venue.accepted == 2 and len(venue.hearers) == 1)
        await until(lambda: all(len(seen) > 100 for seen in reader.seen.values()))

    reader, notes, _ = follow(SYMBOLS, body)
    assert not reader.lost
    assert not notes
    assert all(steps(seen) == {1} for seen in reader.seen.values())


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1012, 1013])
def test_closed_connection_is_told_and_opened_again(code):
    async def body(venue, reader, until):
        await until(lambda: reader.all_live)
        for client in list(venue.hearers):
            if code == 1006:
                client.transport.abort()
            else:
                await client.close(code, "as the network goes")
        await until(lambda: venue.accepted == 2 and bool(reader.lost) and reader.all_live)

    reader, notes, _ = follow(SYMBOLS, body)
    assert reader.lost == dict.fromkeys(SYMBOLS, 1)
    assert kinds(notes) == {RECONNECT: 1}
    assert notes[0].raw_symbols == tuple(SYMBOLS)
    assert notes[0].begin_ns < notes[0].end_ns


def test_half_open_connection_is_cut_and_opened_again():
    async def body(venue, reader, until):
        await until(lambda: reader.all_live)
        venue.deaf = True  # the peer is there, and says nothing
        await until(lambda: bool(reader.lost))
        venue.deaf = False
        await until(lambda: reader.all_live)

    reader, notes, _ = follow(SYMBOLS, body, patience=replace(QUICK, silence_s=0.3, stall_s=9.0))
    assert kinds(notes)[RECONNECT] >= 1
    assert all(reader.lost[symbol] for symbol in SYMBOLS)


def test_stream_that_falls_silent_is_told_and_told_again_when_it_speaks(caplog):
    async def body(venue, reader, until):
        await until(lambda: reader.all_live)
        venue.mute.add("C")
        await until(lambda: any("subscribed but silent" in message for message in caplog.messages))
        venue.mute.discard("C")
        await until(lambda: any("heard again" in message for message in caplog.messages))

    with caplog.at_level(logging.WARNING, logger="tasks.feed"):
        _, notes, _ = follow(SYMBOLS, body)
    assert kinds(notes) == {STALL: 2}
    assert all(note.raw_symbols == ("C",) for note in notes)
    assert notes[1].begin_ns == notes[0].begin_ns < notes[1].end_ns


def test_stream_that_never_speaks_beside_one_that_does_is_told_and_makes_no_time_doubtful():
    stalls, second = Stalls({b"A@depth": "A", b"A@trade": "A"}, 5.0), 1_000_000_000
    began_s, found = time.monotonic(), []
    for i in range(20):
        found += stalls.look({b"A@depth": i * second + 1}, began_s + i, i * second)
    assert [(note.kind, note.raw_symbols, note.begin_ns == note.end_ns) for note in found] == [(STALL, ("A",), True)]
    assert "A@trade" in found[0].detail
    assert "A@depth" not in found[0].detail


def test_lost_update_resyncs_its_symbol_and_leaves_the_others_alone():
    async def body(venue, reader, until):
        await until(lambda: reader.all_live)
        venue.drop["B"] = 1
        await until(lambda: reader.gaps["B"] == 1 and reader.all_live)
        assert venue.accepted == 1
        assert {symbol: venue.asked["sub", symbol] for symbol in SYMBOLS} == {**dict.fromkeys(SYMBOLS, 1), "B": 2}

    reader, _, _ = follow(SYMBOLS, body)
    assert reader.books == {**dict.fromkeys(SYMBOLS, 1), "B": 2}


def test_a_book_that_is_lost_again_and_again_is_no_storm_of_requests():
    async def body(venue, reader, until):
        await until(lambda: reader.all_live)
        for _ in range(150):  # each book lives a moment
            venue.drop["B"] = 1
            await asyncio.sleep(0.01)
        assert 2 <= venue.asked["sub", "B"] <= 7

    reader, _, _ = follow(SYMBOLS, body, step_s=0.002)
    assert reader.gaps["B"] >= 3


def test_refused_subscription_is_named_and_tried_again(caplog, monkeypatch):
    monkeypatch.setattr("tasks.feed.opened.REFUSED_S", 0.1)

    async def body(venue, reader, until):
        venue.refuse["D"] = 2
        await until(lambda: reader.all_live)

    with caplog.at_level(logging.WARNING, logger="tasks.feed"):
        _, notes, _ = follow(SYMBOLS, body)
    assert kinds(notes)[REFUSED] == 2
    assert all(note.raw_symbols == ("D",) and "not now" in note.detail for note in notes if note.kind == REFUSED)
    assert any("will not serve D" in message for message in caplog.messages)


def test_subscription_that_nobody_confirms_is_told():
    async def body(venue, reader, until):
        venue.no_ack.add("E")
        await until(lambda: venue.asked["sub", "E"] > 1)
        venue.no_ack.discard("E")
        await until(lambda: reader.all_live)

    _, notes, _ = follow(SYMBOLS, body, patience=replace(QUICK, stall_s=9.0))
    assert [note.raw_symbols for note in notes if note.kind == REFUSED] == [("E",)]


def test_pings_are_sent_as_the_venue_wants_them():
    async def body(venue, reader, until):
        await until(lambda: venue.asked["ping", ""] >= 3)

    _, _, items = follow(SYMBOLS, body, wire=TinyWire(rules=replace(RULES, ping_s=0.05)))
    assert b"pong" not in [frame for _, _, frame in items]


def test_a_full_queue_is_told_and_loses_nothing():
    async def body(venue, reader, until):
        await until(lambda: reader.all_live)
        for _ in range(40):
            await asyncio.sleep(0.01)

    reader, notes, _ = follow(SYMBOLS, body, patience=replace(QUICK, queue=2), step_s=0.001)
    assert kinds(notes)[QUEUE_FULL] > 0
    assert all(steps(seen) == {1} for seen in reader.seen.values())


def test_a_frame_that_a_wire_trips_over_goes_to_the_first_symbol_and_ends_nothing():
    async def body(venue, reader, until):
        await until(lambda: reader.all_live)
        for client in list(venue.hearers):
            await client.send("trip")  # the tiny wire's reader has a bug
        n = len(reader.seen["B"])
        await until(lambda: len(reader.seen["B"]) > n + 20)

    reader, _, items = follow(SYMBOLS, body)
    assert [symbol for symbol, _, frame in items if frame == b"trip"] == ["A"]
    assert not reader.lost


def test_waits_double_up_to_the_last_and_differ():
    patience = Patience()
    assert all(0.5 <= retry_s(patience, 1) <= 1.0 for _ in range(50))
    assert all(30.0 <= retry_s(patience, 50) <= 60.0 for _ in range(50))
    assert len({retry_s(patience, 5) for _ in range(10)}) > 1


def test_handing_over_keeps_what_only_the_new_connection_brought():
    held = [("A", 1, b"book 5"), ("A", 2, b"+ 6"), ("B", 3, b"book 1"), ("A", 4, b"+ 7"), ("A", 5, b"+ 8"), ("B", 6, b"+ 2")]
    seen = {hash(b"+ 6"), hash(b"+ 7")}
    kept, fresh = merged(held, seen, bytes, lambda frame: "book", in_band=True)
    assert kept == [held[2], held[4], held[5]]
    assert fresh == {("B", "book")}
    ids, _ = merged([("A", 1, b"t5"), ("A", 2, b"t6")], {hash(b"t6")}, bytes, lambda frame: "t", in_band=False)
    assert ids == [("A", 1, b"t5")], "where ids tell what was seen, nothing is left out"


def test_handing_over_takes_no_old_book_because_another_stream_of_its_symbol_came_before_it():
    held = [("A", 1, b"tick 1"), ("A", 2, b"snap 5"), ("A", 3, b"+ 6"), ("A", 4, b"tick 2"), ("A", 5, b"+ 7")]
    both = {hash(b"tick 1"), hash(b"+ 6"), hash(b"tick 2")}

    def by_name(frame):
        return None if frame.startswith(b"snap") else frame[:1]

    kept, fresh = merged(held, both, bytes, by_name, in_band=True)
    assert kept == [held[4]]
    assert fresh == {("A", None)}


def test_handing_over_a_quiet_book_beside_a_stream_that_goes_on():
    held = [("A", 1, b"tick 1"), ("A", 2, b"book 5"), ("A", 3, b"tick 2")]
    kept, fresh = merged(held, {hash(b"tick 1")}, bytes, lambda frame: frame[:4], in_band=True)
    assert kept == held[1:]
    assert fresh == {("A", b"book")}
