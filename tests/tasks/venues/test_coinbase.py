"""Coinbase Exchange: books equal to a naive book, doubt told before a row, a witness for what nobody numbers."""

import json
import re

import numpy as np
import pytest

from tasks.venues.coinbase import Coinbase
from tasks.venues.events import BOOK, CHANGE, QUOTE, TRADE, UNREADABLE
from tests.captures import SHARED, read
from tests.coinbase_feed import START_NS, Naive, Play, exchange, levels_of
from tests.coinbase_frames import VENUE, heartbeat, match, played, snapshot, states, ticker, update
from warehouse.schema import CROSSED, GAP, OK, START

CAPTURE = SHARED / "fixtures" / "coinbase_exchange" / "level2_ticker_matches_10products_20210417.txt"
_PRODUCT = re.compile(rb'"product_id":"([^"]+)"')


def captured():
    """Return the capture's frames by product, in order."""
    found = {}
    for receive_ns, frame in read(CAPTURE):
        if match := _PRODUCT.search(frame):
            found.setdefault(match[1].decode(), []).append((receive_ns, frame))
    return found


GENERATED = {"generated": ("BTC-USD", exchange(seconds=15, seed=1)[1:])}
REAL = {product: (product, frames) for product, frames in captured().items()} if CAPTURE.is_file() else {}
STREAMS = {**GENERATED, **REAL}


# -- whole streams -------------------------------------------------------------------------


@pytest.mark.parametrize("name", STREAMS)
def test_every_row_equals_a_naive_book(name):
    product, frames = STREAMS[name]
    play, naive, before_first = Play(VENUE, [product]), Naive(), 0
    for receive_ns, frame in frames:
        changed = naive.fold(json.loads(frame))
        before_first += changed and not naive.sides[0]
        rows = [record for _, event, record in play.feed(receive_ns, frame) if event == BOOK]
        assert len(rows) <= changed
        for row in rows:
            np.testing.assert_array_equal(levels_of(row), naive.best())
            assert row["doubt"] == OK
    counts = play.streams[product].counts
    assert [int(change["state"]) for change in play.of(CHANGE, product)] == [START, OK]
    assert before_first == counts["old"] == counts["gaps"] == counts["crossed"] == counts["unreadable"] == counts["suspects"] == 0
    assert counts["book_updates"] >= len([1 for _, frame in frames if b'"l2update"' in frame]) > 70
    play.assert_numbered(product)


@pytest.mark.parametrize("name", STREAMS)
def test_trades_are_contiguous_and_the_aggressor_is_not_the_maker(name):
    product, frames = STREAMS[name]
    play, told = Play(VENUE, [product]), []
    for receive_ns, frame in frames:
        data = json.loads(frame)
        if data["type"] in ("match", "last_match"):
            told.append(data)
        play.feed(receive_ns, frame)
    trades = play.of(TRADE, product)
    ids = [int(trade["trade_id"]) for trade in trades]
    assert ids == list(range(ids[0], ids[0] + len(ids))) == [data["trade_id"] for data in told]
    assert [int(trade["aggressor"]) for trade in trades] == [1 if data["side"] == "sell" else -1 for data in told]
    assert [int(trade["backfill"]) for trade in trades] == [int(data["type"] == "last_match") for data in told]
    assert [float(trade["price"]) for trade in trades] == [float(data["price"]) for data in told]
    assert play.streams[product].counts["trade_id_gaps"] == 0


def test_capture_has_the_counts_that_were_verified_on_it():
    rows = trades = quotes = 0
    for product, frames in REAL.values():
        play = Play(VENUE, [product])
        for receive_ns, frame in frames:
            play.feed(receive_ns, frame)
        rows, trades, quotes = (n + len(play.of(event, product)) for n, event in ((rows, BOOK), (trades, TRADE), (quotes, QUOTE)))
    assert (rows, trades, quotes) == ((8127, 80, 80) if REAL else (0, 0, 0))


# -- one rule each ---------------------------------------------------------------------------


def test_snapshot_without_a_time_waits_for_one_and_takes_none_of_ours():
    play = played(snapshot(ns=0), ticker(START_NS), heartbeat(START_NS + 7000, 5))
    (row,) = play.of(BOOK)
    assert row["exchange_ns"] == START_NS + 7000
    assert not play.streams["BTC-USD"].needs_snapshot


def test_update_before_the_snapshot_is_no_row():
    play = played(update(["buy", "99.00", "1"], ns=START_NS), snapshot(ns=START_NS + 5000))
    assert len(play.of(BOOK)) == 1
    assert play.streams["BTC-USD"].counts["old"] == 1


def test_levels_of_malformed_negative_size_are_left_out():
    play = played(snapshot(bids=[["99.60", "0.-10000"], ["99.50", "1.0"]], asks=[["100.50", "2.0"], ["100.60", "-1"]]))
    (row,) = play.of(BOOK)
    assert row["bid_px"][0] == 99.5
    assert np.isnan(row["ask_px"][1])


def test_time_of_the_year_one_is_the_last_valid_time():
    play = played(
        snapshot(), update(["buy", "99.60", "1.0"], ns=START_NS + 5000), update(["buy", "99.70", "0.0"], ns="0001-01-01T00:00:00.000000Z")
    )
    assert [int(row["exchange_ns"]) for row in play.of(BOOK)] == [START_NS, START_NS + 5000, START_NS + 5000]


def test_zero_removes_a_level_however_it_is_spelled():
    changes = (["buy", "99.50", size] for size in ("0", "0.0", "0.00000000"))
    for change in changes:
        play = played(snapshot(bids=[["99.50", "1"], ["99.40", "3"]]), update(change, ns=START_NS + 1000))
        assert play.of(BOOK)[-1]["bid_px"][0] == 99.4


def test_several_updates_of_one_price_apply_in_order():
    play = played(snapshot(), update(["buy", "99.60", "0"], ["buy", "99.60", "5"], ["buy", "99.60", "7"], ns=START_NS + 1000))
    assert play.of(BOOK)[-1]["bid_sz"][0] == 7.0


def test_an_update_that_runs_back_in_time_is_a_gap_before_any_row():
    play = played(snapshot(), update(["buy", "99.60", "1"], ns=START_NS + 9000), update(["buy", "99.70", "1"], ns=START_NS + 8000))
    assert states(play) == [START, OK, GAP]
    assert len(play.of(BOOK)) == 2
    stream = play.streams["BTC-USD"]
    assert stream.needs_snapshot
    assert stream.counts["suspects"] == stream.counts["gaps"] == len(stream.doubts) == 1


def test_fresh_snapshot_ends_a_gap():
    late = update(["buy", "99.70", "1"], ns=START_NS - 8000)
    fresh = snapshot(bids=[["99.80", "4"]], ns=START_NS + 10_000)
    play = played(snapshot(), update(["buy", "99.60", "1"], ns=START_NS), late, fresh)
    assert states(play) == [START, OK, GAP, OK]
    assert play.of(BOOK)[-1]["bid_px"][0] == 99.8
    assert play.streams["BTC-USD"].counts["resyncs"] == 1


def test_a_time_minutes_ahead_of_our_clock_is_no_time():
    play = played(snapshot(), update(["buy", "99.60", "1"], ns=START_NS + 5000), update(["buy", "99.70", "1"], ns=START_NS + 900 * 10**9))
    assert states(play) == [START, OK, GAP]
    assert len(play.of(UNREADABLE)) == 1


def test_a_clock_of_the_venue_that_was_set_costs_one_update():
    def at(ns):
        return START_NS + ns * 10**9 + (700 * 10**9 if ns > 5 else 0)

    play = played(snapshot())
    for second in range(1, 12):
        play.feed(START_NS + second * 10**9, update(["buy", f"99.{second + 50}", "1"], ns=at(second)))
        if second == 6:
            play.feed(START_NS + second * 10**9 + 1, snapshot(ns=at(second)))
    assert states(play) == [START, OK, GAP, OK]
    assert len(play.of(UNREADABLE)) == 1
    assert len(play.of(BOOK)) == 12


def test_a_pause_of_ours_is_no_leap_of_theirs():
    later = START_NS + 600 * 10**9
    play = played(snapshot(), update(["buy", "99.60", "1"], ns=START_NS + 5000))
    assert [event for _, event, _ in play.feed(later, update(["buy", "99.70", "1"], ns=later))][-1] == BOOK


def test_crossed_book_is_doubtful_at_once_and_lost_when_it_stays():
    crossing = update(["buy", "101.00", "1"], ns=START_NS + 1_000_000)
    still = [update(["buy", "90.00", str(n)], ns=START_NS + n * 100_000_000) for n in range(1, 9)]
    play = played(snapshot(), crossing, *still)
    assert states(play) == [START, OK, CROSSED, GAP]
    assert all(row["doubt"] == CROSSED for row in play.of(BOOK)[1:])
    assert len(play.of(BOOK)) < 9
    assert play.streams["BTC-USD"].needs_snapshot


def test_crossing_that_is_cured_by_the_next_batch_is_no_gap():
    crossing, cure = update(["buy", "101.00", "1"], ns=START_NS + 10**6), update(["buy", "101.00", "0"], ns=START_NS + 51 * 10**6)
    after = update(["buy", "99.00", "4"], ns=START_NS + 2 * 10**9)
    again = update(["buy", "101.00", "1"], ns=START_NS + 3 * 10**9)
    play = played(snapshot(), crossing, cure, after, again)
    assert states(play) == [START, OK, CROSSED, OK, CROSSED]


def test_missed_trade_is_told_before_the_next_one_and_spoils_no_book():
    play = played(snapshot(), match(5), match(6), match(9))
    assert states(play) == [START, OK, GAP, OK]
    gap = play.of(CHANGE)[2]
    assert (gap["expected_id"], gap["received_id"]) == (7, 9)
    assert play.streams["BTC-USD"].is_live


def test_late_trade_is_told_and_a_repeated_one_is_not():
    play = played(snapshot(), *(match(i) for i in (5, 6, 8, 7, 7, 8, 9)))
    assert [int(trade["trade_id"]) for trade in play.of(TRADE)] == [5, 6, 8, 7, 9]
    assert states(play) == [START, OK, GAP, OK]
    assert play.streams["BTC-USD"].counts["old"] == 2


def test_last_match_after_a_reconnection_tells_what_was_missed():
    play = played(
        match(5, kind="last_match"), snapshot(), match(6), b"", match(6, kind="last_match"), match(9, kind="last_match"), match(10)
    )
    assert [(int(trade["trade_id"]), int(trade["backfill"])) for trade in play.of(TRADE)] == [(5, 1), (6, 0), (9, 1), (10, 0)]
    assert play.streams["BTC-USD"].counts["trade_id_gaps"] == 1


def test_heartbeat_shows_missed_trades_at_its_second_word_and_once():
    beats = [heartbeat(START_NS + n * 10**9, 8) for n in range(1, 5)]
    play = played(snapshot(), match(6), *beats, match(9, ns=START_NS + 5 * 10**9))
    assert states(play) == [START, OK, GAP, OK]
    assert [play.of(CHANGE)[i]["exchange_ns"] for i in (2, 3)] == [START_NS, START_NS + 2 * 10**9]  # since the last trade that came
    assert [int(trade["trade_id"]) for trade in play.of(TRADE)] == [6, 9]


def test_heartbeat_ahead_of_its_trade_is_no_gap():
    play = played(snapshot(), match(6), heartbeat(START_NS + 10**9, 7), match(7), heartbeat(START_NS + 2 * 10**9, 7))
    assert states(play) == [START, OK]


def test_lost_connection_is_a_gap_until_the_next_snapshot():
    play = played(snapshot(), b"")
    play.give("BTC-USD", START_NS + 5, b"")
    play.feed(START_NS + 6, update(["buy", "99.60", "1"], ns=START_NS + 5000))
    assert states(play) == [START, OK, GAP]
    assert len(play.of(BOOK)) == 1


def test_ticker_is_told_as_a_quote_in_doubles_of_its_text():
    play = played(snapshot(), ticker(START_NS + 5, bid=("99.50", "1.25")))
    (quote,) = play.of(QUOTE)
    assert (quote["px"].tolist(), quote["sz"].tolist(), quote["update_id"]) == ([99.5, 100.5], [1.25, 2.0], 1)


# -- frames that cannot be read --------------------------------------------------------------


def _sample():
    frames = exchange(seconds=1.2, seed=4)
    kinds = {}
    for _, frame in frames:
        kinds.setdefault(json.loads(frame)["type"], frame)
    kinds["snapshot"] = snapshot(bids=[["99.50", "1.0"], ["99.40", "1.0"]])
    real = [frame for _, frames in REAL.values() for _, frame in frames[:40] if b"snapshot" not in frame][:3]
    return [frame for kind, frame in kinds.items() if kind != "subscriptions"] + real


@pytest.mark.parametrize("frame", _sample(), ids=lambda frame: frame[9:30].decode())
def test_a_frame_cut_at_any_byte_is_kept_counted_and_ends_nothing(frame):
    product = _PRODUCT.search(frame)[1].decode()
    for at in range(1, len(frame)):
        stream = Coinbase(product)
        list(stream.receive(snapshot(product=product), 1_000))
        events = list(stream.receive(frame[:at], 2_000))
        assert events[-1] == UNREADABLE
        assert stream.unreadable["frame"] == frame[:at].decode()
        assert stream.counts["unreadable"] == 1
        if b'"l2update"' in frame or b'"snapshot"' in frame:
            assert not stream.is_live
            assert stream.state == GAP


@pytest.mark.parametrize(
    "frame",
    [
        b"null", b"[]", b"{}", b"5", b'"x"', b"\xff\xfe", b"[" * 5000, b'{"type":"l2update"}',
        b'{"type":"l3update","product_id":"BTC-USD"}',
        update(["buy", "99.x", "1"], ns=START_NS), update(["buy", "0.00", "1"], ns=START_NS), update(["bid", "99.5", "1"], ns=START_NS),
        update(["buy", "99.5", "-1"], ns=START_NS), update(["buy", "99.5", "nan"], ns=START_NS),
        update(["buy", "99.5", "1"], ns="yesterday"),
        update(["buy", "99.5"], ns=START_NS), update(["buy", "99.5", 1.0], ns=START_NS), update(["buy", "1" * 40, "1"], ns=START_NS),
        update(["buy", "99.5", "1"], ns=START_NS, product="ETH-USD"), snapshot(bids=[["99.5"]]), snapshot(bids=[["x", "1"]]),
    ],
)  # fmt: skip
def test_what_may_have_been_a_change_makes_the_book_doubtful(frame):
    play = Play(VENUE, ["BTC-USD"])
    play.give("BTC-USD", START_NS, snapshot())
    news = play.give("BTC-USD", START_NS + 1, frame)
    assert [event for event, _ in news] == [CHANGE, UNREADABLE]
    assert states(play)[-1] == GAP


@pytest.mark.parametrize(
    "frame", [match(5, price="x"), match(5, side="up"), match(-1), match(1 << 63), match(5, size="-1"), ticker(START_NS, bid=("x", "1"))]
)
def test_what_cannot_have_been_a_change_leaves_the_book_alone(frame):
    play = Play(VENUE, ["BTC-USD"])
    play.give("BTC-USD", START_NS, snapshot())
    assert [event for event, _ in play.give("BTC-USD", START_NS + 1, frame)] == [UNREADABLE]
    assert play.streams["BTC-USD"].is_live


def test_trade_that_could_not_be_read_is_missed_by_the_next():
    play = played(snapshot(), match(5), match(6, price="x"), match(7))
    assert [int(trade["trade_id"]) for trade in play.of(TRADE)] == [5, 7]
    assert play.streams["BTC-USD"].counts["trade_id_gaps"] == 1
