import dataclasses
import json
import random
import re

import pytest

from tasks.venues.directory import wire
from tasks.venues.errors import WrongVenueError
from tasks.venues.events import BOOK, CHANGE, TRADE, UNREADABLE
from tasks.venues.hyperliquid import Hyperliquid, canonical_symbol, raw_symbol
from tests.captures import SHARED
from warehouse.schema import GAP, OK, STALE, START

FIXTURES = SHARED / "fixtures" / "hyperliquid"


def book_frame(ms, bid=100.0, levels=5, seed=0):
    rng = random.Random(seed)
    sides = [
        [{"px": f"{bid + sign * (i + (sign > 0)) / 2:.1f}", "sz": f"{rng.randint(1, 9999) / 100:.2f}", "n": 1} for i in range(levels)]
        for sign in (-1, 1)
    ]
    return json.dumps(
        {"channel": "l2Book", "data": {"coin": "BTC", "time": ms, "levels": sides, "fast": True}}, separators=(",", ":")
    ).encode()


def trades_frame(*trades):
    data = [{"coin": "BTC", "side": side, "px": px, "sz": "0.5", "time": ms, "hash": "0x0", "tid": tid} for side, px, ms, tid in trades]
    return json.dumps({"channel": "trades", "data": data}).encode()


def told(sent, stream=None, first_ns=1_700_000_000_000_000_000):
    stream = stream or Hyperliquid("BTC")
    views, out = {BOOK: stream.row, TRADE: stream.trade, CHANGE: stream.change}, []
    for i, frame in enumerate(sent):
        for event in stream.receive(frame, first_ns + i * 500_000_000):
            out.append((event, views[event].copy()[0] if event in views else stream.unreadable["frame"]))
    return out, stream


def test_each_message_is_the_whole_book():
    sent = [book_frame(1_700_000_000_000 + 500 * i, 100.0 + i % 7, levels=3 + i % 3, seed=i) for i in range(50)]
    events, stream = told(sent)
    rows = [record for event, record in events if event == BOOK]
    assert [record["state"] for event, record in events if event == CHANGE] == [START, OK]
    assert not stream.needs_snapshot
    for frame, row in zip(sent, rows, strict=True):
        for side, levels in zip(("bid", "ask"), json.loads(frame)["data"]["levels"], strict=True):
            held = [(p, s) for p, s in zip(row[f"{side}_px"], row[f"{side}_sz"], strict=True) if s > 0]
            assert held == [(float(level["px"]), float(level["sz"])) for level in levels]


def test_the_first_trades_after_a_connection_are_history_and_none_is_told_twice():
    frames = [
        book_frame(1_700_000_000_000),
        trades_frame(("B", "100.5", 1_699_999_990_000, 7), ("A", "100.0", 1_699_999_980_000, 6)),
        trades_frame(("A", "100.0", 1_700_000_000_400, 8)),
        b"",
        trades_frame(("A", "100.0", 1_700_000_000_400, 8), ("B", "100.5", 1_700_000_000_500, 9)),
        trades_frame(("B", "100.5", 1_700_000_000_600, 10)),
    ]
    events, stream = told(frames)
    trades = [(int(r["trade_id"]), int(r["aggressor"]), int(r["backfill"])) for event, r in events if event == TRADE]
    assert trades == [(6, -1, 1), (7, 1, 1), (8, -1, 0), (9, 1, 1), (10, 1, 0)]
    assert [r["state"] for event, r in events if event == CHANGE] == [START, OK, GAP]
    assert stream.counts["old"] == 1


def test_history_that_the_session_before_has_stored_is_not_told_again():
    first_ms = 1_700_000_000_000
    past = [("B", "100.5", first_ms - 20, 90), ("A", "100.0", first_ms, 12), ("A", "99.5", first_ms, 11), ("B", "100.5", first_ms + 5, 7)]
    base = {"trade_id": 12, "trade_ns": first_ms * 1_000_000}
    frames = [trades_frame(*past), trades_frame(("A", "100.0", first_ms - 1, 91))]
    events, stream = told(frames, Hyperliquid("BTC", base))
    assert [(int(r["trade_id"]), int(r["backfill"])) for event, r in events if event == TRADE] == [(7, 1), (91, 0)]
    assert stream.counts["old"] == 3
    events, _ = told(frames[:1], Hyperliquid("BTC", base | {"trade_id": 13}))
    assert [int(r["trade_id"]) for event, r in events if event == TRADE] == [12, 11, 7], "others of that time"


@pytest.mark.parametrize("fault", ["drop", "double", "swap", "cut", "order"])
def test_faults_make_the_book_older_or_are_kept_but_never_make_a_wrong_row(fault):
    rng = random.Random(fault)
    for seed in range(200):
        sent = [book_frame(1_700_000_000_000 + 500 * i, 100.0 + i % 5, seed=seed + i) for i in range(12)]
        at, bad = rng.randrange(2, 10), list(sent)
        if fault == "drop":
            del bad[at]
        elif fault == "double":
            bad.insert(at, sent[at])
        elif fault == "swap":
            bad[at], bad[at + 1] = bad[at + 1], bad[at]
        elif fault == "cut":
            bad[at] = sent[at][: rng.randrange(1, len(sent[at]))]
        else:
            message = json.loads(sent[at])
            levels = message["data"]["levels"][rng.randint(0, 1)]
            levels[0], levels[2] = levels[2], levels[0]
            bad[at] = json.dumps(message).encode()
        truth = {row["exchange_ns"]: row for event, row in told(sent)[0] if event == BOOK}
        events, stream = told(bad)
        rows = [record for event, record in events if event == BOOK]
        for row in rows:
            assert row["bid_px"].tobytes() == truth[row["exchange_ns"]]["bid_px"].tobytes()
            assert row["ask_sz"].tobytes() == truth[row["exchange_ns"]]["ask_sz"].tobytes()
        assert stream.counts["unreadable"] == (fault in ("cut", "order"))
        assert len(rows) == 12 - (fault not in ("double",))


def test_silence_of_the_book_is_doubtful_from_the_last_book_on():
    first_ms = 1_700_000_000_000
    for last_ms, doubts in ((6_000, []), (10_000, [(STALE, 1_000), (OK, 10_000)])):
        events, stream = told([book_frame(first_ms + ms) for ms in (0, 500, 1_000)])
        events += told([book_frame(first_ms + last_ms)], stream, (first_ms + last_ms) * 1_000_000)[0]
        changes = [(int(row["state"]), int(row["exchange_ns"]) // 1_000_000 - first_ms) for event, row in events if event == CHANGE]
        assert changes[2:] == doubts


def test_trade_much_younger_than_the_book_says_that_books_were_lost_and_asks_for_one():
    first_ms = 1_700_000_000_000
    events, stream = told([book_frame(first_ms), trades_frame(("B", "100.5", first_ms + 4_900, 7))])
    assert stream.state == OK
    assert not stream.needs_snapshot
    events, _ = told([trades_frame(("B", "100.5", first_ms + 5_100, 8))], stream)
    assert [event for event, _ in events] == [CHANGE, TRADE]
    assert (int(events[0][1]["state"]), int(events[0][1]["exchange_ns"])) == (GAP, first_ms * 1_000_000)
    assert stream.needs_snapshot
    events, _ = told([trades_frame(("B", "100.5", first_ms + 9_000, 9)), book_frame(first_ms + 9_500)], stream)
    assert [int(row["state"]) for event, row in events if event == CHANGE] == [OK]
    assert not stream.needs_snapshot


def test_books_and_trades_are_read_on_after_our_clock_was_set_back():
    first_ms, hour_ns = 1_700_000_000_000, 3_600_000_000_000
    _, stream = told([book_frame(first_ms), book_frame(first_ms + 500)])
    later = [trades_frame(("B", "100.5", first_ms + 900, 7)), trades_frame(("B", "100.5", first_ms + 950, 8)), book_frame(first_ms + 1_000)]
    events, _ = told(later, stream, first_ms * 1_000_000 - hour_ns)
    assert [event for event, _ in events] == [TRADE, TRADE, BOOK]
    events, _ = told([book_frame(first_ms + 100_000)], stream, first_ms * 1_000_000 - hour_ns)
    assert [event for event, _ in events] == [UNREADABLE], "a leap ahead is still none"


def test_first_book_beyond_our_own_clock_is_kept_and_the_next_one_is_the_book():
    first_ms = 1_700_000_000_000
    events, stream = told([book_frame(first_ms + 100_000_000), book_frame(first_ms + 500), book_frame(first_ms + 1_000)])
    assert [event for event, _ in events] == [CHANGE, UNREADABLE, CHANGE, BOOK, BOOK]
    assert stream.counts["unreadable"] == 1


def test_books_that_go_on_behind_a_wrong_time_tell_a_gap_and_begin_anew():
    first_ms = 1_700_000_000_000
    events, stream = told([book_frame(first_ms + 10_000_000), *(book_frame(first_ms + 500 * i, seed=i) for i in range(1, 9))])
    assert [int(row["state"]) for event, row in events if event == CHANGE] == [START, OK, GAP, OK]
    books = [int(row["exchange_ns"]) // 1_000_000 - first_ms for event, row in events if event == BOOK]
    assert books == [10_000_000, 2_500, 3_000, 3_500, 4_000]
    assert (stream.counts["old"], stream.counts["gaps"], stream.needs_snapshot) == (4, 1, False)


def test_late_books_tell_no_gap_unless_they_go_on():
    first_ms = 1_700_000_000_000
    for late_ms in ([900_000] * 9, [1_000_000, 999_500, 999_000, 998_500, 998_000], [980_000 + 500 * i for i in range(9)]):
        events, stream = told([book_frame(first_ms + ms) for ms in (1_000_000, *late_ms, 1_000_500)])
        assert [int(row["state"]) for event, row in events if event == CHANGE] == [START, OK]
        assert stream.counts["gaps"] == 0


@pytest.mark.parametrize(("late_s", "set_s"), [(100, 0), (0, 120)])
def test_a_late_book_or_a_clock_that_was_set_costs_one_book(late_s, set_s):
    first_ms, stream, rows = 1_700_000_000_000, None, 0
    for i in range(40):
        ms = first_ms + 500 * i + (set_s * 1000 if i >= 20 else 0)
        at_ns = (first_ms + 500 * i + (late_s * 1000 if i == 19 else 0)) * 1_000_000
        events, stream = told([book_frame(ms)], stream, at_ns)
        rows += sum(event == BOOK for event, _ in events)
    assert rows >= 39
    assert stream.counts["unreadable"] == 40 - rows


def test_a_trade_of_a_wrong_time_is_told_by_the_next_one_and_spoils_none_beside_it():
    first_ms = 1_700_000_000_000
    events, stream = told([book_frame(first_ms), book_frame(first_ms + 500), trades_frame(("B", "100.5", first_ms + 600, 1))])
    new = trades_frame(("B", "100.5", first_ms + 10**9, 2), ("B", "100.5", first_ms + 700, 3))
    events, _ = told([new], stream, (first_ms + 1_500) * 1_000_000)
    assert [event for event, _ in events] == [UNREADABLE, CHANGE, CHANGE, TRADE]
    assert [int(record["state"]) for event, record in events if event == CHANGE] == [GAP, OK]
    assert stream.is_live


def test_slower_book_may_rest_longer():
    def slow(ms):
        return book_frame(ms).replace(b',"fast":true', b"")

    first_ms = 1_700_000_000_000
    for quiet_ms, states in ((5_100, [START, OK]), (15_100, [START, OK, STALE, OK])):
        events, stream = told([slow(first_ms)])
        events += told([slow(first_ms + quiet_ms)], stream, (first_ms + quiet_ms) * 1_000_000)[0]
        assert [int(row["state"]) for event, row in events if event == CHANGE] == states


def test_a_frame_cut_anywhere_is_kept_and_the_stream_goes_on():
    for frame in (book_frame(1_700_000_000_000), trades_frame(("B", "100.5", 1_700_000_000_000, 7))):
        stream = Hyperliquid("BTC")
        for end in range(1, len(frame)):
            events, _ = told([frame[:end]], stream)
            assert events[-1][0] == UNREADABLE
        assert stream.counts["unreadable"] == len(frame) - 1


@pytest.mark.skipif(not FIXTURES.exists(), reason="no captured frames here")
def test_captured_books_and_trades_are_read():
    lines = (FIXTURES / "btc_20250126_full.txt").read_bytes().splitlines()
    sent = [line.partition(b" ")[2] for line in lines]
    events, stream = told(sent, first_ns=int(lines[0].partition(b" ")[0]))
    rows = [record for event, record in events if event == BOOK]
    books = [json.loads(frame)["data"] for frame in sent if b'"l2Book"' in frame]
    assert len(books) == 46
    assert {int(row["exchange_ns"]) // 1_000_000 for row in rows} == {book["time"] for book in books}
    assert all((row["bid_sz"] > 0).all() and (row["ask_sz"] > 0).all() for row in rows)
    trades = [record for event, record in events if event == TRADE]
    assert len(trades) == 64
    assert sum(int(record["backfill"]) for record in trades) == 30
    assert stream.counts["crossed"] == stream.counts["unreadable"] == stream.counts["gaps"] == 0
    events, stream = told((FIXTURES / "l2book_trades_btc_20260812.jsonl").read_bytes().splitlines(), first_ns=1_786_500_000_000_000_000)
    assert stream.counts["unreadable"] == 0
    assert stream.counts["book_updates"] == 1


def test_one_subscription_a_message_answers_and_errors_belong_to_their_streams():
    told_to = wire("hyperliquid")
    line = told_to.lines(["BTC", "ETH"], "ws://here")[0]
    assert len(line.sends) == len(line.keys) == 4
    opened = told_to.connection(line)
    assert opened.receive(b"Websocket connection established.").frames == ()
    assert opened.receive(b'{"channel":"pong"}').frames == ()
    answer = {"method": "subscribe", "subscription": {"type": "l2Book", "coin": "ETH", "nSigFigs": None, "mantissa": None, "fast": True}}
    assert list(opened.receive(json.dumps({"channel": "subscriptionResponse", "data": answer}).encode()).acked) == ["l2Book:ETH"]
    error = {"channel": "error", "data": 'Invalid subscription {"type":"trades","coin":"ETH"}'}
    assert list(opened.receive(json.dumps(error).encode()).refused) == ["trades:ETH"]
    frame = book_frame(5)
    assert opened.receive(frame).frames == (("BTC", frame),)


@pytest.mark.parametrize(
    ("raw", "ours"), [("BTC", "BTC-USD-PERP"), ("kPEPE", "kPEPE-USD-PERP"), ("PURR/USDC", "PURR-USDC"), ("@107", "@107")]
)
def test_names_go_both_ways(raw, ours):
    assert canonical_symbol("hyperliquid", raw) == ours
    assert raw_symbol("hyperliquid", ours) == raw


def test_what_is_no_symbol_is_refused():
    with pytest.raises(WrongVenueError):
        Hyperliquid("BTC USD")


def test_the_slower_book_of_twenty_levels_can_be_asked_for_instead():
    told_to = dataclasses.replace(wire("hyperliquid"), is_fast=False)
    sends = [json.loads(text) for text in told_to.lines(["BTC"], "ws://here")[0].sends]
    assert [ask["subscription"] for ask in sends] == [{"type": "l2Book", "coin": "BTC"}, {"type": "trades", "coin": "BTC"}]
    assert [json.loads(text)["method"] for text in told_to.resync("BTC")] == ["unsubscribe", "subscribe"]
    assert b"fast" not in b"".join(told_to.resync("BTC"))
    frame = book_frame(1_700_000_000_000, levels=20).replace(b',"fast":true', b"")
    events, stream = told([frame])
    assert events[-1][0] == BOOK
    assert (stream.row["bid_sz"] > 0).all()


def test_what_is_subscribed_already_is_acknowledged_and_what_cannot_be_is_refused():
    told_to = wire("hyperliquid")
    opened = told_to.connection(told_to.lines(["BTC", "@1"], "ws://here")[0])
    asked = json.dumps({"type": "l2Book", "coin": "@1", "fast": True})
    heard = opened.receive(json.dumps({"channel": "error", "data": f"Already subscribed: {asked}"}).encode())
    assert (heard.acked, heard.refused) == (["l2Book:@1"], ())
    heard = opened.receive(json.dumps({"channel": "error", "data": f"Invalid subscription {asked}"}).encode())
    assert (heard.acked, heard.refused) == ((), ["l2Book:@1"])
    assert "Invalid" in heard.reason


def test_decimals_of_sizes_are_read_for_perpetuals_and_pairs_and_what_says_too_little_is_left_out():
    told_to = wire("hyperliquid")
    assert [url.partition("#")[2] for url in told_to.instruments_urls("http://here")] == ['{"type":"meta"}', '{"type":"spotMeta"}']
    found = told_to.instruments(b'{"universe":[{"name":"kPEPE","szDecimals":0},{"name":"X"},{"szDecimals":1}]}')
    assert {name: (told.lot, told.size_decimals) for name, told in found.items()} == {"kPEPE": (1.0, 0)}
    pairs = [{"name": "PURR/USDC", "tokens": [1, 0]}, {"name": "@7", "tokens": [9, 0]}, {"name": "@8", "tokens": []}]
    tokens = [{"index": 0, "szDecimals": 8}, {"index": 1, "szDecimals": 2}]
    found = told_to.instruments(json.dumps({"universe": pairs, "tokens": tokens}).encode())
    assert {name: told.lot for name, told in found.items()} == {"PURR/USDC": 0.01}


@pytest.mark.parametrize("number", ["-1", "1e3", "99999999999999999999", "9223372036854775807", "null", "true", '"7"', "0.5"])
@pytest.mark.parametrize("field", ["time", "tid"])
def test_numbers_that_cannot_be_are_kept(field, number):
    frame = trades_frame(("B", "100.5", 1_700_000_000_000, 7)) if field == "tid" else book_frame(1_700_000_000_000)
    changed = re.sub(rb'("%s":) ?[0-9]+' % field.encode(), rb"\g<1>" + number.encode(), frame, count=1)
    assert changed != frame
    events, stream = told([changed])
    assert [event for event, _ in events] == [CHANGE, UNREADABLE]
    assert stream.unreadable["frame"].encode() == changed
