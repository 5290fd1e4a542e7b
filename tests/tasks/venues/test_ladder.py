import contextlib
import math
import random
import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.venues.errors import UnreadableFrameError
from tasks.venues.events import BOOK, CHANGE, QUOTE, TRADE, UNREADABLE
from tasks.venues.ladder import Instrument, Ladder
from tests.naive import NaiveBook
from tests.strategies import decimal_texts, level_streams, odd_numbers
from warehouse.schema import CROSSED, GAP, LEVELS, OK, STALE, START

SECOND = 1_000_000_000
T0 = 1_700_000_000 * SECOND
BIDS, ASKS = [("100.1", "2"), ("100.0", "1")], [("100.2", "0.5"), ("100.4", "3")]


def told(ladder, events):
    """Return (event, copy of its record) of each event."""
    views = {BOOK: ladder.row, TRADE: ladder.trade, QUOTE: ladder.quote, CHANGE: ladder.change}
    return [(event, views[event].copy()[0] if event in views else dict(ladder.unreadable)) for event in events]


def states(events):
    return [int(record["state"]) for event, record in events if event == CHANGE]


def whole(ladder, ns=T0, bids=BIDS, asks=ASKS, number=1):
    ladder.read(bids, asks, b"")
    ladder.replace()
    return told(ladder, ladder.publish(ns, ns, number))


def changed(ladder, ns, bids=(), asks=(), number=2):
    ladder.read(bids, asks, b"")
    ladder.apply()
    return told(ladder, ladder.publish(ns, ns, number))


def assert_shows(row, naive, scale=1.0, contract_usd=0.0):
    for side, name in enumerate(("bid", "ask")):
        best = naive.best(side, LEVELS)
        prices = [float(price) for price, _ in best]
        sizes = [float(size) * contract_usd / float(price) if contract_usd else float(size) * scale for price, size in best]
        assert row[f"{name}_px"][: len(best)].tolist() == prices
        assert row[f"{name}_sz"][: len(best)].tolist() == sizes
        assert np.isnan(row[f"{name}_px"][len(best) :]).all()
        assert not row[f"{name}_sz"][len(best) :].any()


def cut(naive, depth):
    for side in range(2):
        for price in list(naive.sizes[side]):
            if price not in {held for held, _ in naive.best(side, depth)}:
                naive.apply(side, str(price), "0")


def sides_of(message):
    return [[(price, size) for at, price, size in message if at == side] for side in range(2)]


@pytest.mark.parametrize("depth", [0, 3, 25])
@settings(max_examples=60, deadline=None)
@given(stream=level_streams(), data=st.data())
def test_levels_are_those_of_exact_decimals_whatever_comes(depth, stream, data):
    ladder, naive, numbers = Ladder("X", "X-Y", depth=depth), NaiveBook(), []
    for i, message in enumerate(stream):
        sides, is_whole = sides_of(message), i == 0 or data.draw(st.integers(0, 5)) == 0
        if is_whole:
            naive.clear()
        for side, pairs in enumerate(sides):
            for price, size in pairs:
                naive.apply(side, price, size)
        events = whole(ladder, T0 + i, *sides, i) if is_whole else changed(ladder, T0 + i, *sides, i)
        if depth and not is_whole:
            cut(naive, depth)
        event, row = events[-1]
        assert event == BOOK
        assert_shows(row, naive)
        assert (row["doubt"] == CROSSED) == naive.is_crossed
        numbers += [int(record["event_seq"]) for _, record in events]
    assert numbers == list(range(len(numbers)))
    assert ladder.counts["book_updates"] == len(stream)


@settings(max_examples=150, deadline=None)
@given(
    levels=st.lists(
        st.tuples(st.integers(0, 1), st.one_of(decimal_texts(), odd_numbers()), st.one_of(decimal_texts(), odd_numbers())), max_size=6
    )
)
@example([(0, "50000000000.00001", "1")])  # half a unit more is no float
def test_a_text_is_read_exactly_or_refused_and_what_is_refused_changes_nothing(levels):
    ladder, naive = Ladder("X", "X-Y"), NaiveBook()
    whole(ladder)
    for side, pairs in enumerate((BIDS, ASKS)):
        for price, size in pairs:
            naive.apply(side, price, size)
    sides = sides_of(levels)
    with contextlib.suppress(UnreadableFrameError):
        ladder.read(*sides, b"")
        ladder.apply()
        for side, pairs in enumerate(sides):
            for price, size in pairs:
                assert re.fullmatch(r"[0-9.]+([eE][+-]?[0-9]+)?,[0-9.]+([eE][+-]?[0-9]+)?", f"{price},{size}")
                naive.apply(side, price, size if float(size) else "0")
    (row,) = [record for event, record in told(ladder, ladder.publish(T0 + 1, T0 + 1, 2)) if event == BOOK]
    assert_shows(row, naive)


@pytest.mark.parametrize("text", ["5\0", "5\0junk", "5,6", "1,2,3", "5\0,6", "5 ", "٥", ""])
@pytest.mark.parametrize("place", [0, 1])
def test_what_parts_or_ends_the_joined_texts_is_no_number(text, place):
    level = ["7", "7"]
    level[place] = text
    for bids, asks in (([level], []), ([], [level]), ([("9", "9"), level], [("10", "1")]), ([level], [("10", "1")])):
        ladder = Ladder("X", "X-Y")
        with pytest.raises(UnreadableFrameError):
            ladder.read(bids, asks, b"")


def test_decimals_grow_in_the_middle_and_no_level_moves():
    ladder, naive = Ladder("X", "X-Y"), NaiveBook()
    bids = [("100000", "1"), ("3", "2"), ("99999.5", "1")]
    whole(ladder, bids=bids, asks=[])
    steps = ["100000.25", "99999.50000", "0.00001", "2.99999", "100000.000001", "12"]
    for price, size in bids:
        naive.apply(0, price, size)
    for i, price in enumerate(steps):
        naive.apply(0, price, "4.5")
        ((_, row),) = changed(ladder, T0 + i, [(price, "4.5")], number=i)
        assert_shows(row, naive)
    for i, price in enumerate(steps):
        naive.apply(0, price, "0")
        ((_, row),) = changed(ladder, T0 + 100 + i, [(price, "0.000")], number=i)
        assert_shows(row, naive)


def test_thousands_of_levels_far_apart_are_held_and_cut():
    rng = random.Random(7)
    for depth in (0, 400):
        ladder, naive = Ladder("X", "X-Y", depth=depth), NaiveBook()
        whole(ladder)
        for side, pairs in enumerate((BIDS, ASKS)):
            for price, size in pairs:
                naive.apply(side, price, size)
        for i in range(8):
            sides = [
                [(f"{rng.choice((rng.uniform(99, 100), rng.uniform(1, 100), 0.5)):.4f}", rng.choice(("0", "1", "2"))) for _ in range(700)],
                [(f"{rng.choice((rng.uniform(101, 102), rng.uniform(102, 90_000))):.4f}", rng.choice(("0", "1", "2"))) for _ in range(700)],
            ]
            for side, pairs in enumerate(sides):
                for price, size in pairs:
                    naive.apply(side, price, size)
            if depth:
                cut(naive, depth)
            ((_, row),) = changed(ladder, T0 + i, *sides, number=i)
            assert_shows(row, naive)
        held = [int(ladder.book["n"][0, side] + ladder.book["n_far"][0, side]) for side in range(2)]
        assert held == [len(naive.sizes[side]) for side in range(2)]
        for i in range(30):  # the best are taken away: what was far comes to the touch
            best = [[(str(price), "0") for price, _ in naive.best(side, 10)] for side in range(2)]
            for side, pairs in enumerate(best):
                for price, size in pairs:
                    naive.apply(side, price, size)
            ((_, row),) = changed(ladder, T0 + 100 + i, *best, number=i)
            assert_shows(row, naive)


@pytest.mark.parametrize(("instrument", "size"), [(Instrument(contract_usd=100.0), 200.0 / 100.1), (Instrument(contract_base=0.01), 0.02)])
def test_contracts_are_told_in_base_units_in_books_quotes_and_trades(instrument, size):
    ladder = Ladder("X", "X-Y", instrument=instrument)
    *_, (_, row) = whole(ladder)
    assert math.isclose(row["bid_sz"][0], size)
    ((_, quote),) = told(ladder, ladder.tell_quote(T0, 5, BIDS[0], ASKS[0]))
    assert math.isclose(quote["sz"][0], size)
    ((_, trade),) = told(ladder, ladder.print_trade("100.1", "2", 1, T0, T0, 5))
    assert math.isclose(trade["size"], size)


def test_a_stream_opens_where_the_recording_before_it_ended_and_goes_on_counting():
    base = {"l2_snapshots": 10, "trades": 20, "coverage_changes": 30, "unreadable": 40, "event": 50}
    ladder = Ladder("X", "X-Y", base=base, since_ns=T0 - SECOND)
    events = told(ladder, ladder.keep(UnreadableFrameError("a book", b"\xff{"), T0))
    assert [event for event, _ in events] == [CHANGE, UNREADABLE]
    assert int(events[0][1]["exchange_ns"]) == T0 - SECOND
    assert events[1][1] == {"receive_ns": T0, "seq": 40, "event_seq": 51, "reason": "a book", "frame": "\\xff{"}
    events += told(ladder, ladder.print_trade("100", "1", -1, T0, T0, 7))
    events += whole(ladder)
    events += changed(ladder, T0 + 1)
    assert [int(record["event_seq"]) for _, record in events] == list(range(50, 56))
    assert [(event, int(record["seq"])) for event, record in events] == [
        (CHANGE, 30), (UNREADABLE, 40), (TRADE, 20), (CHANGE, 31), (BOOK, 10), (BOOK, 11)
    ]  # fmt: skip
    assert states(events) == [START, OK]
    assert (ladder.counts["book_updates"], ladder.counts["trades"], ladder.counts["unreadable"]) == (2, 1, 1)


def test_a_gap_is_told_once_from_the_last_update_on_and_the_next_whole_book_ends_it():
    ladder = Ladder("X", "X-Y")
    assert told(ladder, ladder.gap(T0)) == []  # nothing was there to be lost
    whole(ladder, T0)
    changed(ladder, T0 + 5, [("100.1", "9")])
    ((event, change),) = told(ladder, ladder.gap(T0 + 50, 3, 8))
    assert (event, change["state"], change["exchange_ns"], change["receive_ns"]) == (CHANGE, GAP, T0 + 5, T0 + 50)
    assert (change["expected_id"], change["received_id"]) == (3, 8)
    assert told(ladder, ladder.gap(T0 + 60)) == []
    assert ladder.needs_snapshot
    assert not ladder.is_live
    events = whole(ladder, T0 + 90, number=12)
    assert [event for event, _ in events] == [CHANGE, BOOK]
    assert states(events) == [OK]
    assert ladder.is_live
    assert not ladder.needs_snapshot
    assert (ladder.counts["gaps"], ladder.counts["resyncs"], ladder.last_id) == (1, 1, 12)


def test_a_crossed_book_is_marked_before_its_row_and_unmarked_when_it_is_right_again():
    ladder = Ladder("X", "X-Y")
    whole(ladder)
    events = changed(ladder, T0 + 1, [("100.2", "1")])
    assert [event for event, _ in events] == [CHANGE, BOOK]
    assert states(events) == [CROSSED]
    assert events[1][1]["doubt"] == CROSSED
    assert states(changed(ladder, T0 + 2)) == []
    events = changed(ladder, T0 + 3, [("100.2", "0")])
    assert states(events) == [OK]
    assert events[1][1]["doubt"] == OK
    assert ladder.counts["crossed"] == 1


def test_a_long_silence_was_stale_from_its_limit_on():
    ladder = Ladder("X", "X-Y", stale_s=2.0)
    whole(ladder, T0)
    assert states(changed(ladder, T0 + 2 * SECOND)) == []
    events = changed(ladder, T0 + 5 * SECOND)
    assert states(events) == [STALE, OK]
    assert int(events[0][1]["exchange_ns"]) == T0 + 4 * SECOND
    assert ladder.counts["stale"] == 1


def test_lost_trades_leave_the_state_of_the_book_as_it_was():
    ladder = Ladder("X", "X-Y")
    whole(ladder)
    told(ladder, ladder.print_trade("100.1", "1", 1, T0, T0, 5))
    events = told(ladder, ladder.print_trade("100.1", "1", 1, T0 + 1, T0 + 1, 9, missed=True))
    assert [event for event, _ in events] == [CHANGE, CHANGE, TRADE]
    assert states(events) == [GAP, OK]
    assert (events[0][1]["expected_id"], events[0][1]["received_id"]) == (6, 9)
    assert ladder.is_live
    told(ladder, ladder.gap(T0 + 2))
    events = told(ladder, ladder.print_trade("100.1", "1", 1, T0 + 3, T0 + 3, 12, missed=True))
    assert states(events) == [GAP]  # it was one already and stays one


@pytest.mark.parametrize(
    ("price", "size"), [("0", "1"), ("-1", "1"), ("1e-999", "1"), ("0x1", "1"), ("1", "nan"), ("", "1"), ("1", ""), ("9" * 20, "1")]
)
def test_a_trade_without_price_or_size_is_refused_before_anything_is_numbered(price, size):
    ladder = Ladder("X", "X-Y")
    events = told(ladder, ladder.print_trade(price, size, 1, T0, T0, 5, frame=b"a trade"))
    assert [event for event, _ in events] == [CHANGE, UNREADABLE]
    assert ladder.unreadable["frame"] == "a trade"
    assert ladder.counts["trades"] == 0
    assert [int(record["event_seq"]) for _, record in whole(ladder)] == [2, 3]
    events = told(ladder, ladder.print_trade("100.1", "1", 1, T0 + 9, T0 + 9, 6))
    assert [int(record["state"]) for event, record in events if event == CHANGE] == [GAP, OK]


def test_a_trade_of_another_day_is_kept_and_the_next_one_tells_that_it_is_missing():
    ladder, second = Ladder("X", "X-Y"), 10**9
    whole(ladder)
    for i in range(3):
        told(ladder, ladder.print_trade("100.1", "1", 1, T0 + i * second, T0 + i * second, i))
    events = told(ladder, ladder.print_trade("100.1", "1", 1, T0 + 90_003 * second, T0 + 3 * second, 3))
    assert [event for event, _ in events] == [UNREADABLE]
    (gap, good, trade) = (record for _, record in told(ladder, ladder.print_trade("100.1", "1", 1, T0 + 4 * second, T0 + 4 * second, 4)))
    assert (gap["state"], gap["exchange_ns"], good["state"], good["exchange_ns"]) == (GAP, T0 + 2 * second, OK, T0 + 4 * second)
    assert trade["seq"] == 3


def test_a_late_trade_makes_none_behind_it_early():
    ladder, second = Ladder("X", "X-Y"), 10**9
    whole(ladder)
    for i, late_s in enumerate((0, 0, 120, 0, 600, 0)):
        told(ladder, ladder.print_trade("100.1", "1", 1, T0 + (i - late_s) * second, T0 + i * second, i))
    assert ladder.counts["trades"] == 6
    assert ladder.counts["unreadable"] == 0


def test_a_look_at_the_book_numbers_nothing():
    ladder = Ladder("X", "X-Y")
    whole(ladder)
    ladder.read([("100.1", "7")], [], b"")
    ladder.apply()
    assert ladder.peek()["bid_sz"][0, 0] == 7.0
    ((_, row),) = told(ladder, ladder.publish(T0 + 1, T0 + 1, 2))
    assert (row["seq"], row["bid_sz"][0]) == (1, 7.0)
