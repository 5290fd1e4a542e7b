import functools
import json
import operator
import random

import numpy as np
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


@pytest.mark.parametrize("fault", ["drop", "double", "swap", "cut", "digit"])
def test_a_fault_never_makes_a_wrong_row_that_is_called_good_for_long(fault):
    rng, wrong, longest_ms, seen = random.Random(fault), 0, 0, 0
    for seed in range(100):
        sent = frames(60, seed=seed)
        at = rng.choice([i for i, frame in enumerate(sent[10:-40], 10) if b"orderbook.50" in frame])
        bad = list(sent)
        if fault == "drop":
            del bad[at]
        elif fault == "double":
            bad.insert(at, sent[at])
        elif fault == "swap":
            other = next(i for i in range(at + 1, len(sent)) if b"orderbook.50" in sent[i])
            bad[at], bad[other] = sent[other], sent[at]
        elif fault == "cut":
            bad[at] = sent[at][: rng.randrange(1, len(sent[at]))]
        else:
            digits = [i for i, byte in enumerate(sent[at]) if 48 <= byte <= 57]
            i = rng.choice(digits)
            bad[at] = sent[at][:i] + bytes([48 + (sent[at][i] - 47) % 10]) + sent[at][i + 1 :]
        events, stream = told(bad)
        truth = naive(sent)
        bad_rows = [
            row for event, row in events if event == BOOK and not (row["update_id"] in truth and same(row, truth[row["update_id"]]))
        ]
        wrong += len(bad_rows)
        if bad_rows:
            seen += 1
            longest_ms = max(longest_ms, int(bad_rows[-1]["exchange_ns"] - bad_rows[0]["exchange_ns"]) // 1_000_000)
        if fault in ("drop", "swap", "cut"):
            assert stream.needs_snapshot
            assert stream.counts["gaps"] == 1
            assert [r["state"] for e, r in events if e == CHANGE][-1] == GAP
    if fault != "digit":  # a changed digit is no fault that a number could show: the best prices show it once it is at the touch
        assert wrong == 0
    else:
        assert seen < 60


def test_a_wrong_touch_is_found_by_the_best_prices_and_the_book_is_asked_for_again():
    sent = frames(200, seed=3)
    books = [i for i, frame in enumerate(sent) if b"orderbook.50" in frame]
    message = json.loads(sent[books[50]])
    touch = naive(sent)[message["data"]["u"]][0][0][0]
    message["data"]["b"].append([f"{touch:.2f}", "777.000"])
    bad = [*sent[: books[50]], json.dumps(message, separators=(",", ":")).encode(), *sent[books[50] + 1 :]]
    _, stream = told(bad)
    if stream.counts["suspects"]:
        assert stream.needs_snapshot
        assert stream.doubts[0][2]
    fresh, _ = told([*bad, frames(1, seed=3)[0]], stream)
    assert any(event == BOOK for event, _ in fresh)


def test_a_snapshot_heals_and_one_of_a_restart_counts_anew():
    sent = frames(30, seed=4)
    _, stream = told([*sent[:20], *sent[26:]])
    assert stream.needs_snapshot
    message = json.loads(sent[0])
    message["data"]["u"] = 1
    events, _ = told([json.dumps(message).encode()], stream)
    assert [event for event, _ in events] == [CHANGE, BOOK]
    message["type"], message["data"]["u"], message["data"]["seq"] = "delta", 2, message["data"]["seq"] + 1
    events, _ = told([json.dumps(message).encode()], stream)
    assert [event for event, _ in events] == [BOOK]
    assert stream.counts["resyncs"] == 1


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
    assert np.isnan(Bybit("bybit_spot", "BTCUSDT").row["bid_px"]).sum() == 0
