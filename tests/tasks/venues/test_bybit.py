import functools
import json
import operator
import random
import re

import pytest

from tasks.venues.bybit import Bybit, canonical_symbol, raw_symbol
from tasks.venues.directory import wire
from tasks.venues.errors import UnknownVenueError, WrongVenueError
from tasks.venues.events import BOOK, CHANGE, QUOTE, TRADE, UNREADABLE
from tests.bybit_frames import frames
from tests.captures import SHARED
from warehouse.schema import GAP, OK, START

FIXTURES = sorted((SHARED / "fixtures" / "bybit_v5").glob("*.jsonl"))


def told(sent, stream=None):
    """Return (event, copy of its record) of all frames, and the stream."""
    stream = stream or Bybit("bybit_linear", "BTCUSDT")
    views, out = {BOOK: stream.row, TRADE: stream.trade, QUOTE: stream.quote, CHANGE: stream.change}, []
    for i, frame in enumerate(sent):
        for event in stream.receive(frame, 1_700_000_000_000_000_000 + i * 1_000_000):
            out.append((event, views[event].copy()[0] if event in views else stream.unreadable["frame"]))
    return out, stream


def naive(sent):
    """Return the best 20 levels after each book frame, by plain dicts; by `u`."""
    book, out = [{}, {}], {}
    for frame in sent:
        message = json.loads(frame)
        if not message["topic"].startswith("orderbook.50"):
            continue
        if message["type"] == "snapshot":
            book = [{}, {}]
        for side, key in enumerate("ba"):
            for price, size in message["data"][key]:
                book[side].pop(float(price), None)
                if float(size):
                    book[side][float(price)] = float(size)
            book[side] = dict(sorted(book[side].items(), reverse=side == 0)[:50])
        out[message["data"]["u"]] = [list(side.items())[:20] for side in book]
    return out


def same(row, expected):
    return all(
        [(p, s) for p, s in zip(row[f"{side}_px"], row[f"{side}_sz"], strict=True) if s > 0] == levels
        for side, levels in zip(("bid", "ask"), expected, strict=True)
    )


def test_every_row_is_the_naive_book_and_nothing_is_doubted():
    sent = frames(800, seed=1)
    events, stream = told(sent)
    rows = [record for event, record in events if event == BOOK]
    books = naive(sent)
    assert len(rows) == len(books) == 800
    assert all(same(row, books[row["update_id"]]) for row in rows)
    assert [record["state"] for event, record in events if event == CHANGE] == [START, OK]
    assert stream.counts["suspects"] == stream.counts["gaps"] == stream.counts["unreadable"] == 0
    assert stream.counts["quotes"] == 800
    assert [row["seq"] for row in rows] == list(range(800))
    matched_ms = [json.loads(frame)["cts"] for frame in sent if b"orderbook.50" in frame]
    assert [row["exchange_ns"] for row in rows] == [ms * 1_000_000 for ms in matched_ms]


def shown(row):
    return row["update_id"], [list(zip(row[f"{side}_px"], row[f"{side}_sz"], strict=True)) for side in ("bid", "ask")]


def is_touch_of(row, expected):
    return [(row[f"{side}_px"][0], row[f"{side}_sz"][0]) for side in ("bid", "ask")] == [levels[0] for levels in expected]


@pytest.mark.parametrize("fault", ["drop", "double", "swap", "cut"])
def test_a_fault_that_numbers_show_never_makes_a_wrong_row(fault):
    rng = random.Random(fault)
    for seed in range(60):
        sent = frames(60, seed=seed)
        at = rng.choice([i for i, frame in enumerate(sent[10:-40], 10) if b"orderbook.50" in frame])
        bad = list(sent)
        if fault == "drop":
            del bad[at]
        elif fault == "double":
            bad.insert(at + rng.randint(0, 9), sent[at])
        elif fault == "swap":
            other = next(i for i in range(at + 1, len(sent)) if b"orderbook.50" in sent[i])
            bad[at], bad[other] = sent[other], sent[at]
        else:
            bad[at] = sent[at][: rng.randrange(20, len(sent[at]))]  # it says still that it is a book
        events, stream = told(bad)
        truth = naive(sent)
        assert all(same(row, truth[row["update_id"]]) for event, row in events if event == BOOK)
        lost = fault != "double"
        assert (stream.needs_snapshot, stream.counts["gaps"], stream.counts["old"] > 0) == (lost, int(lost), True)
        assert [record["state"] for event, record in events if event == CHANGE] == [START, OK, GAP][: 2 + lost]


@pytest.mark.parametrize("damage", ["cut", "time", "price"])
def test_a_trade_that_could_not_be_read_is_told_by_the_next_one(damage):
    sent = [frame for frame in frames(60, seed=1) if b"publicTrade" in frame][:3]
    message = json.loads(sent[1])
    message["data"][0]["T"] += 10**9 * (damage == "time")
    message["data"][0]["p"] = "0" if damage == "price" else message["data"][0]["p"]
    sent[1] = sent[1][:40] if damage == "cut" else json.dumps(message).encode()
    events, stream = told(sent)
    assert stream.counts["unreadable"] == 1
    before, (gap, good) = sent[0], [record for event, record in events if event == CHANGE][1:]
    assert (gap["state"], good["state"]) == (GAP, START)
    assert gap["exchange_ns"] == json.loads(before)["data"][-1]["T"] * 10**6


def touch_told(sent, truth):
    """Return the index of each book frame that tells its best bid or ask, and that level's text."""
    for i, frame in enumerate(sent):
        if b"orderbook.50" in frame and b'"delta"' in frame:
            data = json.loads(frame)["data"]
            for key, levels in zip("ba", truth[data["u"]], strict=True):
                yield from ((i, f'["{p}","{z}"]'.encode()) for p, z in data[key] if (float(p), float(z)) == levels[0])


def test_a_changed_digit_at_the_touch_is_found_by_the_best_prices_and_all_its_rows_are_doubted():
    # No number can show it.  A level behind the touch stays wrong until the venue speaks of it again, or until it is the touch.
    rng, touched, doubted = random.Random(5), 0, 0
    for seed in range(60):
        sent = frames(150, seed=seed)
        truth = naive(sent)
        at, text = rng.choice(list(touch_told(sent, truth)))
        i = rng.choice([i for i, byte in enumerate(text) if 48 <= byte <= 57])
        changed = text[:i] + bytes([48 + (text[i] - 48 + rng.randint(1, 9)) % 10]) + text[i + 1 :]
        events, stream = told([*sent[:at], sent[at].replace(text, changed), *sent[at + 1 :]])
        rows = [row for event, row in events if event == BOOK]
        wrong = [row for row in rows if not is_touch_of(row, truth[row["update_id"]])]
        good = [int(row["exchange_ns"]) for row in wrong if not row["doubt"]]
        assert not good or good[-1] - good[0] <= 1_500_000_000
        for begin_ns, end_ns, why in stream.doubts:
            assert why
            assert all(begin_ns <= ns <= end_ns for ns in good)
        touched += bool(wrong)
        doubted += bool(stream.doubts)
    assert touched == 60
    assert doubted >= 40  # of the others the venue spoke again at once


def test_a_level_that_should_be_gone_is_found_and_the_book_asked_for_again():
    sent = frames(200, seed=3)
    at = [i for i, frame in enumerate(sent) if b"orderbook.50" in frame][50]
    message = json.loads(sent[at])
    (bid, _), (ask, _) = (side[0] for side in naive(sent)[message["data"]["u"]])
    message["data"]["a"] = [[f"{ask:.2f}", "777.000"]]
    events, stream = told([*sent[:at], json.dumps(message).encode()])
    assert stream.counts["suspects"] == 0
    # The venue goes on to say that the ask is another one, and changes only bids.
    for i in range(1, 40):
        message["data"] |= {"b": [[f"{bid - 1:.2f}", f"{i}"]], "a": [], "u": message["data"]["u"] + 1, "seq": message["data"]["seq"] + 1}
        message["cts"] = message["ts"] = message["cts"] + 50
        quote = json.loads(sent[at + 1]) | {"cts": message["cts"], "ts": message["cts"]}
        quote["data"] |= {"a": [[f"{ask:.2f}", "1.000"]]}
        more, _ = told([json.dumps(message).encode(), json.dumps(quote).encode()], stream)
        events += more
        if stream.needs_snapshot:
            break
    assert (stream.counts["suspects"], stream.counts["gaps"]) == (1, 1)
    begin_ns, end_ns, why = stream.doubts[0]
    assert "777" in why
    assert any(begin_ns <= row["exchange_ns"] <= end_ns for event, row in events if event == BOOK)
    fresh, _ = told([frames(1, seed=3)[0]], stream)
    assert [event for event, _ in fresh] == [CHANGE, BOOK]


def test_fields_may_come_in_any_order_and_the_older_feed_has_no_time_of_matching():
    sent = frames(40, seed=8)
    turned = [json.dumps({**(m := json.loads(frame)), "data": m["data"]}, sort_keys=True).encode() for frame in sent]
    assert turned[0] != sent[0]
    rows = [[shown(row) for event, row in told(some)[0] if event == BOOK] for some in (sent, turned)]
    assert repr(rows[0]) == repr(rows[1])
    message = json.loads(sent[0])
    del message["cts"]
    events, _ = told([json.dumps(message).encode()])
    assert events[-1][1]["exchange_ns"] == message["ts"] * 1_000_000
    opened = wire("bybit_linear").connection(wire("bybit_linear").lines(["BTCUSDT"], "ws://here")[0])
    assert all(opened.receive(frame).frames == (("BTCUSDT", frame),) for frame in turned)


def test_every_trade_of_a_message_is_told_once_also_those_inside_the_spread_and_of_blocks():
    data = [
        {"T": 1_700_000_000_000 + i, "s": "BTCUSDT", "S": side, "v": "0.1", "p": price, "L": "PlusTick", "seq": 9,
         "RPI": i == 1, "BT": i == 2, "i": f"e799c7b7-1ccc-53d9-b84a-fb7a4603970{i}"}
        for i, (side, price) in enumerate((("Buy", "6000.1"), ("Sell", "6000.05"), ("Sell", "5000")))
    ]  # fmt: skip
    frame = json.dumps({"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": 1_700_000_000_005, "data": data}).encode()
    events, stream = told([frame, frame])
    trades = [record for event, record in events if event == TRADE]
    assert [(t["price"], t["aggressor"], t["exchange_ns"] % 1_000_000_000) for t in trades] == [
        (6000.1, 1, 0), (6000.05, -1, 1_000_000), (5000.0, -1, 2_000_000)
    ]  # fmt: skip
    assert len({int(t["trade_id"]) for t in trades}) == 3
    assert all(0 < t["trade_id"] < 1 << 63 for t in trades)
    assert stream.counts["old"] == 3


def test_a_full_side_that_runs_short_is_asked_for_again_and_a_thin_one_is_not():
    for held, lost in ((50, True), (25, False)):
        message = json.loads(frames(1, seed=1)[0])
        message["data"]["b"] = message["data"]["b"][:held]
        _, stream = told([json.dumps(message).encode()])
        gone = [[price, "0"] for price, _ in message["data"]["b"][19:]]
        message["type"], message["data"] = "delta", message["data"] | {"b": gone, "a": [], "u": message["data"]["u"] + 1}
        events, _ = told([json.dumps(message).encode()], stream)
        assert [event for event, _ in events] == ([CHANGE] if lost else [BOOK])
        assert stream.needs_snapshot is lost


def test_an_older_snapshot_is_left_and_numbers_that_begin_again_are_a_gap():
    sent = [frame for frame in frames(30, seed=2) if b"orderbook.50" in frame]
    _, stream = told(sent)
    assert told(sent[:1], stream)[0] == []
    message = json.loads(sent[-1])
    for number in (1, message["data"]["u"] - 1000):
        _, stream = told(sent)
        message["data"]["u"] = number
        events, _ = told([json.dumps(message).encode()], stream)
        assert [record["state"] for _, record in events] == [GAP]


def test_a_snapshot_heals_and_one_of_a_restart_counts_anew():
    sent = frames(30, seed=4)
    _, stream = told([*sent[:20], *sent[26:]])
    assert stream.needs_snapshot
    message = json.loads(sent[0])
    message["data"]["u"], message["cts"] = 1, message["cts"] + 30_000
    events, _ = told([json.dumps(message).encode()], stream)
    assert [event for event, _ in events] == [CHANGE, BOOK]
    message["type"], message["data"]["u"], message["data"]["seq"] = "delta", 2, message["data"]["seq"] + 1
    events, _ = told([json.dumps(message).encode()], stream)
    assert [event for event, _ in events] == [BOOK]
    assert stream.counts["resyncs"] == 1


@pytest.mark.parametrize("kind", ["snapshot", "delta"])
def test_a_wrong_number_is_a_gap_at_the_next_update_at_the_latest(kind):
    sent = [frame for frame in frames(60, seed=6) if b"orderbook.50" in frame]
    books, at = list(naive(sent).values()), 0 if kind == "snapshot" else 20
    for off in (-1000, -999, -9, -2, -1, 1, 2, 7, 40, 999, 1000):
        message = json.loads(sent[at])
        message["data"]["u"] += off
        events, stream = told([*sent[:at], json.dumps(message).encode(), *sent[at + 1 :]])
        rows = [row for event, row in events if event == BOOK]
        assert all(same(row, book) for row, book in zip(rows, books, strict=False))
        assert (len(rows), stream.counts["gaps"], stream.needs_snapshot) == (at + (kind == "snapshot"), 1, True)


def test_a_lost_connection_is_a_gap():
    _, stream = told(frames(10, seed=5))
    events, _ = told([b""], stream)
    assert [(event, record["state"]) for event, record in events] == [(CHANGE, GAP)]


def test_a_frame_cut_anywhere_is_kept_and_the_stream_goes_on():
    sent = frames(6, seed=6)
    for frame in (sent[0], sent[2], next(f for f in frames(60, seed=6) if b"publicTrade" in f)):
        stream = told(sent)[1]
        for end in range(1, len(frame)):
            events, _ = told([frame[:end]], stream)
            assert [event for event, _ in events][-1] == UNREADABLE
        assert stream.counts["unreadable"] == len(frame) - 1


@pytest.mark.parametrize("path", FIXTURES, ids=lambda p: p.stem)
def test_captured_frames_are_read(path):
    venue = "bybit_spot" if "spot" in path.name else "bybit_linear"
    sent = [line for line in path.read_bytes().splitlines() if (b"tickers" not in line and b'BTCUSDT"' in line) or b'"success"' in line]
    events, stream = told(sent, Bybit(venue, "BTCUSDT"))
    assert stream.counts["unreadable"] == stream.counts["gaps"] == stream.counts["crossed"] == 0
    trades = [trade for frame in sent if b"publicTrade" in frame for trade in json.loads(frame)["data"]]
    got = [record for event, record in events if event == TRADE]
    assert [(t["price"], t["size"], t["aggressor"]) for t in got] == [
        (float(t["p"]), float(t["v"]), 1 if t["S"] == "Buy" else -1) for t in trades
    ]
    assert sum(b"orderbook.50" in frame for frame in sent) == stream.counts["book_updates"]
    assert len({int(t["trade_id"]) for t in got}) == len(got)


def test_requests_are_batched_and_answers_belong_to_their_topics():
    told_to = wire("bybit_spot")
    line = told_to.lines([f"S{i:03d}USDT" for i in range(40)], "ws://here")[0]
    asked = [json.loads(text)["args"] for text in line.sends]
    assert max(map(len, asked)) == 10
    assert sorted(functools.reduce(operator.iadd, asked, [])) == sorted(line.keys)
    opened = told_to.connection(line)
    refused = opened.receive(b'{"success":false,"ret_msg":"error:handler not found","conn_id":"x","req_id":"1","op":"subscribe"}')
    assert list(refused.refused) == asked[1]
    assert opened.receive(b'{"success":true,"ret_msg":"pong","conn_id":"x","op":"ping"}').frames == ()
    frame = b'{"topic":"orderbook.50.S001USDT","type":"delta"}'
    assert opened.receive(frame).frames == (("S001USDT", frame),)


@pytest.mark.parametrize(
    ("venue", "raw", "ours"),
    [("bybit_spot", "ETHUSDC", "ETH-USDC"), ("bybit_linear", "ETHUSDT", "ETH-USDT-PERP"), ("bybit_linear", "ETHPERP", "ETH-USDC-PERP")],
)
def test_names_go_both_ways(venue, raw, ours):
    assert canonical_symbol(venue, raw) == ours
    assert raw_symbol(venue, ours) == raw


def test_what_is_no_symbol_of_the_market_is_refused():
    with pytest.raises(WrongVenueError):
        Bybit("bybit_spot", "BTC-26DEC26")
    with pytest.raises(UnknownVenueError):
        Bybit("bybit", "BTCUSDT")


@pytest.mark.parametrize("number", ["-1", "1e3", "99999999999999999999", "9223372036854775807", "null", "true", '"7"', "0.5"])
@pytest.mark.parametrize("field", ["T", "ts", "cts", "u", "seq"])
def test_numbers_that_cannot_be_are_kept(field, number):
    frame = next(f for f in frames(60, seed=6) if (b"publicTrade" if field == "T" else b"orderbook.50") in f)
    changed = re.sub(rb'("%s":) ?[0-9]+' % field.encode(), rb"\g<1>" + number.encode(), frame, count=1)
    assert changed != frame
    events, stream = told([changed])
    assert [event for event, _ in events] == [CHANGE, UNREADABLE]
    assert stream.unreadable["frame"].encode() == changed
