"""The ticker as witness: what it sees, what it must not take for a fault, and what one fault can do."""

import json
import random

import numpy as np
import pytest

from tasks.venues.events import BOOK
from tasks.venues.iso_time import iso_ns
from tests.coinbase_feed import START_NS, Naive, Play, exchange, levels_of
from tests.coinbase_frames import VENUE, played, snapshot, states, ticker, update
from warehouse.schema import GAP, OK, START


def _second(n):
    return START_NS + n * 10**9


@pytest.mark.parametrize(
    "quoted",
    [
        {"bid": ("99.40", "1.0")},  # the book holds a bid that is gone
        {"bid": ("99.60", "1.0")},  # the book lacks a bid
        {"bid": ("99.50", "3.0")},  # the book holds a wrong size
        {"ask": ("100.60", "2.0")},
        {"ask": ("100.40", "2.0")},
        {"ask": ("100.50", "2.5")},
    ],
)
def test_two_quotes_that_contradict_an_untouched_level_make_the_book_doubtful(quoted):
    play = played(snapshot())
    for n in (1, 2, 3, 4):
        play.feed(_second(n), ticker(_second(n), **quoted))
        play.feed(_second(n) + 1, update(["buy", "90.00", str(n)], ns=_second(n) + 5 * 10**8))
    assert states(play) == [START, OK, GAP]
    assert [int(row["exchange_ns"]) for row in play.of(BOOK)] == [START_NS, _second(1) + 5 * 10**8]
    stream = play.streams["BTC-USD"]
    assert stream.counts["suspects"] == 1
    assert [(begin, end) for begin, end, _ in stream.doubts] == [(START_NS, _second(2) + 5 * 10**8)]


def test_one_contradiction_between_agreements_is_a_slip():
    play = played(snapshot())
    for n in range(1, 12):
        play.feed(_second(n), ticker(_second(n), bid=("99.40", "1.0") if n % 2 else ("99.50", "1.0")))
        play.feed(_second(n) + 1, update(["buy", "90.00", str(n)], ns=_second(n) + 5 * 10**8))
    assert states(play) == [START, OK]


def test_silent_book_is_doubted_when_the_ticker_goes_on():
    play = played(snapshot())
    for n in range(1, 6):
        play.feed(_second(n), ticker(_second(n), bid=(f"{99.6 + n}", "1.0"), ask=(f"{99.7 + n}", "2")))
    assert states(play) == [START, OK, GAP]


def test_level_that_moves_around_the_quote_is_no_contradiction():
    play = played(snapshot())
    for n in range(1, 9):
        play.feed(_second(n), update(["buy", "99.50", str(n)], ns=_second(n)))
        play.feed(_second(n), ticker(_second(n) + 10**8, bid=("99.40", "1.0")))
        play.feed(_second(n), update(["buy", "99.50", "4"], ["buy", "99.40", "1"], ns=_second(n) + 2 * 10**8))
    assert states(play) == [START, OK]


def test_ticker_that_contradicts_every_fresh_book_is_not_believed_for_ever():
    play = played(snapshot())
    for n in range(1, 60):
        play.feed(_second(n), ticker(_second(n), bid=("99.40", "1.0")))
        play.feed(_second(n) + 1, update(["buy", "90.00", str(n)], ns=_second(n) + 5 * 10**8))
        if play.streams["BTC-USD"].needs_snapshot:
            play.feed(_second(n) + 2, snapshot(ns=_second(n) + 6 * 10**8))
    assert states(play) == [START, OK, *[GAP, OK] * 3]
    for n in range(60, 70):  # it is right once, and may speak again
        play.feed(_second(n), ticker(_second(n), bid=("99.50", "1.0") if n == 60 else ("99.40", "1.0")))
        play.feed(_second(n) + 1, update(["buy", "90.00", str(n)], ns=_second(n) + 5 * 10**8))
    assert states(play)[-1] == GAP


# -- faults ------------------------------------------------------------------------------------


def _told(frames):
    """Return the book behind each frame, and the row of each update time, of an undisturbed stream."""
    naive, books, rows = Naive(), [], {}
    for _, frame in frames:
        data = json.loads(frame)
        if naive.fold(data):
            rows[iso_ns(data["time"])] = naive.best()
        books.append((max(rows, default=0), [[[str(price), str(size)] for price, size in side.items()] for side in naive.sides]))
    return books, rows


def _hurt(frames, fault, rng):
    """Return `(index, receive_ns, frame)` of a stream with one fault in an update of the book."""
    updates = [i for i, (_, frame) in enumerate(frames) if b'"l2update"' in frame][5:-150]
    k = rng.randrange(len(updates) - 1)
    at, then = updates[k], updates[k + 1]
    out = [(i, *frame) for i, frame in enumerate(frames)]
    stamp, frame = frames[at]
    if fault == "drop":
        del out[at]
    elif fault == "repeat":
        out.insert(at, out[at])
    elif fault == "cut":
        out[at] = (at, stamp, frame[: rng.randrange(1, len(frame))])
    elif fault == "swap":
        out[at], out[then] = (at, stamp, frames[then][1]), (then, frames[then][0], frame)
    else:
        place = rng.choice([i for i, byte in enumerate(frame) if 48 <= byte <= 57 and i > 17])
        other = str((frame[place] - 48 + rng.randint(1, 9)) % 10).encode()
        out[at] = (at, stamp, frame[:place] + other + frame[place + 1 :])
    return out


def damage(frames, books, rows, fault, seed):
    """Return exchange times of rows told as good though wrong, of those with a wrong touch, and the stream, after one fault."""
    play, wrong, touch, waited = Play(VENUE, ["BTC-USD"]), [], [], 0
    for i, receive_ns, frame in _hurt(frames, fault, random.Random(f"{fault}{seed}")):
        for _, event, row in play.feed(receive_ns, frame):
            if event == BOOK and row["doubt"] == OK:
                ns, told = int(row["exchange_ns"]), levels_of(row)
                right = rows.get(ns)
                if right is None or not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(told, right, strict=True)):
                    wrong.append(ns)
                    if right is None or [side[0] for side in told] != [side[0] for side in right]:
                        touch.append(ns)
        waited = waited + 1 if play.streams["BTC-USD"].needs_snapshot else 0
        if waited == 8:  # by then the venue has answered the new subscription
            play.feed(receive_ns, snapshot(*books[i][1], ns=books[i][0]))
    return wrong, touch, play


@pytest.fixture(scope="module")
def market():
    frames = exchange(seconds=20, seed=9)
    return frames, *_told(frames)


@pytest.mark.parametrize("fault", ["repeat", "cut"])
def test_fault_that_shows_itself_brings_no_wrong_row(market, fault):
    frames, books, rows = market
    for seed in range(12):
        wrong, _, play = damage(frames, books, rows, fault, seed)
        assert wrong == []
        assert play.streams["BTC-USD"].counts["gaps"] == (fault == "cut")
        assert play.streams["BTC-USD"].is_live
        play.assert_numbered()


def test_swapped_updates_bring_one_row_that_is_doubted_afterwards(market):
    frames, books, rows = market
    for seed in range(12):
        wrong, _, play = damage(frames, books, rows, "swap", seed)
        assert len(wrong) <= 1
        ((begin_ns, end_ns, _),) = play.streams["BTC-USD"].doubts
        assert all(begin_ns <= ns <= end_ns for ns in wrong)


@pytest.mark.parametrize("fault", ["drop", "digit"])
def test_fault_that_nothing_shows_is_bounded_by_the_ticker(market, fault):
    frames, books, rows = market
    longest_s, doubted = 0.0, 0
    for seed in range(30):
        _, touch, play = damage(frames, books, rows, fault, seed)
        doubts = play.streams["BTC-USD"].doubts
        doubted += len(doubts)
        if touch:
            longest_s = max(longest_s, (touch[-1] - touch[0]) / 1e9)
        play.assert_numbered()
    assert longest_s < 5.0
    assert doubted > 0
