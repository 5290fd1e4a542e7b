import random
import tracemalloc
from functools import lru_cache

import numpy as np
import pytest

from tasks.venues.binance import Binance, canonical_symbol, contract_usd
from tasks.venues.errors import UnknownVenueError, WrongVenueError
from tasks.venues.events import BOOK, CHANGE, QUOTE, TRADE, UNREADABLE
from tests import wire
from tests.captures import CAPTURES, SPOT_SESSION
from tests.naive import NaiveBinance, ticker_checks
from warehouse.schema import CROSSED, GAP, OK, RESYNC, STALE, START

FUTURES = ("binance_usdm", "binance_coinm")
TABLE = {BOOK: "l2_snapshots", TRADE: "trades", CHANGE: "coverage_changes", UNREADABLE: "unreadable"}


class Play:
    """A stream and all it told: `told` holds `(event, copy of its record)`."""

    def __init__(self, venue, **options):
        self.venue, self.told, self.now = venue, [], 1_700_000_000_000_000_000
        self.stream = Binance(venue, wire.RAW[venue], **options)

    def feed(self, frame, receive_ns=None):
        """Return what one frame told."""
        self.now = receive_ns if receive_ns is not None else self.now + 1
        views = {BOOK: self.stream.row, TRADE: self.stream.trade, CHANGE: self.stream.change, QUOTE: self.stream.quote}
        news = []
        for event in self.stream.receive(frame, self.now):
            news.append((event, dict(self.stream.unreadable) if event == UNREADABLE else views[event][0].copy()))
        self.told += news
        return news

    def of(self, event):
        return [record for told, record in self.told if told == event]

    @property
    def states(self):
        return [int(change["state"]) for change in self.of(CHANGE)]

    @property
    def ids(self):
        return [int(row["update_id"]) for row in self.of(BOOK)]

    def assert_numbered(self, **base):
        """Assert that every table counts from its base without a hole, and all tables together too."""
        for event, table in TABLE.items():
            seqs = [int(record["seq"]) for record in self.of(event)]
            assert seqs == list(range(base.get(table, 0), base.get(table, 0) + len(seqs))), table
        records = [record for event, record in self.told if event in TABLE]
        first = base.get("event", 0)
        assert sorted(int(record["event_seq"]) for record in records) == list(range(first, first + len(records)))


def depth(venue, first, last, previous=None, bid="99.5", size="1", **options):
    return wire.depth(venue, first, last, [(bid, size)], [("100.5", "2")], previous=previous, **options)


def joined(venue, **options):
    play = Play(venue, **options)
    play.feed(wire.snapshot(venue, 10, [("99.5", "5")], [("100.5", "6")]))
    play.feed(depth(venue, 11, 12, previous=10))
    assert play.stream.is_live
    return play


# --- joins ---------------------------------------------------------------------------------

JOINS = [
    # venue, (U, u, pu) of the event after a snapshot of id 10, does it continue it
    ("binance_spot", (11, 15, None), True),
    ("binance_spot", (8, 11, None), True),
    ("binance_spot", (10, 12, None), True),
    ("binance_spot", (12, 15, None), False),
    ("binance_usdm", (8, 10, 7), True),  # u == lastUpdateId
    ("binance_usdm", (10, 10, 9), True),
    ("binance_usdm", (8, 15, 7), True),
    ("binance_usdm", (10, 15, 9), True),
    ("binance_usdm", (13, 15, 10), True),  # pu == lastUpdateId, far from covering it
    ("binance_usdm", (11, 15, 9), False),
    ("binance_usdm", (13, 15, 12), False),
    ("binance_usdm", (11, 15, 11), False),
]  # fmt: skip


@pytest.mark.parametrize("waits", [True, False], ids=["buffered", "after"])
@pytest.mark.parametrize(("venue", "ids", "continues"), [*JOINS, *(("binance_coinm", *join[1:]) for join in JOINS if "usdm" in join[0])])
def test_first_event_must_continue_the_snapshot(venue, ids, continues, waits):
    play = Play(venue)
    frames = [wire.snapshot(venue, 10, [("99.5", "5")], [("100.5", "6")]), depth(venue, *ids)]
    for frame in reversed(frames) if waits else frames:
        play.feed(frame)
    assert play.stream.is_live == continues
    assert play.stream.needs_snapshot != continues
    assert play.ids == ([ids[1]] if continues else [])
    assert play.states == [START, OK] if continues else [START]
    play.assert_numbered()


@pytest.mark.parametrize(
    ("venue", "ids"), [("binance_spot", (8, 10)), ("binance_spot", (3, 9)), ("binance_usdm", (3, 9)), ("binance_coinm", (9, 9))]
)
def test_events_inside_the_snapshot_are_dropped(venue, ids):
    play = Play(venue)
    play.feed(depth(venue, *ids, bid="1.5"))
    play.feed(wire.snapshot(venue, 10, [("99.5", "5")]))
    assert not play.stream.is_live
    assert not play.stream.needs_snapshot
    play.feed(depth(venue, 11, 12, previous=10))
    assert play.ids == [12]
    assert play.of(BOOK)[0]["bid_px"][:2].tolist()[0] == 99.5
    assert np.isnan(play.of(BOOK)[0]["bid_px"][1])


@pytest.mark.parametrize("venue", wire.VENUES)
def test_snapshot_older_than_the_buffer_keeps_the_buffer_and_asks_again(venue):
    play = Play(venue)
    for first in (20, 22, 24):
        play.feed(depth(venue, first, first + 1, previous=first - 1))
    play.feed(wire.snapshot(venue, 10, [("99.5", "5")], [("100.5", "6")]))
    assert play.stream.needs_snapshot
    assert not play.stream.is_live
    assert play.stream.buffered == 3
    play.feed(wire.snapshot(venue, 22, [("99.5", "5")], [("100.5", "6")]))
    assert play.stream.is_live
    assert not play.stream.needs_snapshot
    assert play.ids == [23, 25]
    assert play.states == [START, OK]
    play.assert_numbered()


@pytest.mark.parametrize("venue", wire.VENUES)
def test_snapshot_before_any_event_waits_for_one(venue):
    play = Play(venue)
    play.feed(wire.snapshot(venue, 8, [("50", "5")]))
    play.feed(wire.snapshot(venue, 10, [("99.5", "5")]))  # asked twice: the later one counts
    assert play.told == []
    play.feed(depth(venue, 11, 12, previous=10))
    assert play.ids == [12]
    assert [int(change["exchange_ns"]) for change in play.of(CHANGE)] == [int(play.of(BOOK)[0]["exchange_ns"])] * 2
    assert np.isnan(play.of(BOOK)[0]["bid_px"][1])


@pytest.mark.parametrize("venue", wire.VENUES)
def test_snapshot_nobody_needs_changes_nothing(venue):
    play = joined(venue)
    assert play.feed(wire.snapshot(venue, 12, [("1", "5")])) == []
    play.feed(depth(venue, 13, 14, previous=12))
    assert play.of(BOOK)[-1]["bid_px"][0] == 99.5
    assert play.states == [START, OK]


def test_spot_events_that_overlap_are_applied_and_spot_ids_need_no_pu():
    play = joined("binance_spot")
    play.feed(depth("binance_spot", 12, 14))
    play.feed(depth("binance_spot", 15, 15))
    assert play.ids == [12, 14, 15]


@pytest.mark.parametrize("first", [951, 940])  # next to the last id, or covering it
@pytest.mark.parametrize("venue", FUTURES)
def test_futures_continue_by_pu_alone(venue, first):
    play = joined(venue)
    play.feed(depth(venue, 900, 950, previous=12))
    assert play.ids == [12, 950]
    play.feed(depth(venue, first, 960, previous=949))
    assert play.ids == [12, 950]
    gap = play.of(CHANGE)[-1]
    assert (gap["state"], gap["expected_id"], gap["received_id"]) == (GAP, 950, 949)


# --- gaps and resyncs -----------------------------------------------------------------------


@pytest.mark.parametrize("venue", wire.VENUES)
def test_gap_is_told_before_any_further_row_and_ends_with_a_snapshot(venue):
    play = joined(venue)
    before = play.of(BOOK)[-1]
    ((event, gap),) = play.feed(depth(venue, 15, 16, previous=14))
    assert event == CHANGE
    assert gap["state"] == GAP
    assert gap["exchange_ns"] == before["exchange_ns"]
    assert gap["event_seq"] == before["event_seq"] + 1
    assert (gap["expected_id"], gap["received_id"]) == ((13, 15) if venue == "binance_spot" else (12, 14))
    assert play.stream.needs_snapshot
    assert play.feed(depth(venue, 17, 18, previous=16)) == []
    assert play.feed(depth(venue, 19, 20, previous=18)) == []
    news = play.feed(wire.snapshot(venue, 17, [("98.5", "5")], [("100.5", "6")]))
    assert [event for event, _ in news] == [CHANGE, CHANGE, BOOK, BOOK]
    assert [int(record["state"]) for event, record in news if event == CHANGE] == [RESYNC, OK]
    assert play.ids == [12, 18, 20]
    assert not play.stream.needs_snapshot
    assert play.of(BOOK)[-1]["bid_px"][:2].tolist() == [99.5, 98.5]
    times = [int(change["exchange_ns"]) for change in play.of(CHANGE)]
    assert times[1:] == sorted(times[1:])
    assert play.stream.counts["gaps"] == play.stream.counts["resyncs"] == 1
    play.assert_numbered()


@pytest.mark.parametrize("venue", wire.VENUES)
def test_rows_out_of_the_buffer_could_be_known_no_sooner_than_the_snapshot(venue):
    play = Play(venue)
    play.feed(depth(venue, 11, 12, previous=10), 500)
    play.feed(depth(venue, 13, 14, previous=12), 700)
    play.feed(wire.snapshot(venue, 10), 600)  # receive clocks do run backwards
    assert [int(row["receive_ns"]) for row in play.of(BOOK)] == [600, 700]


@pytest.mark.parametrize("venue", wire.VENUES)
def test_lost_connection_is_a_gap_until_a_snapshot(venue):
    play = joined(venue)
    ((event, gap),) = play.feed(b"")
    assert (event, gap["state"], gap["received_id"]) == (CHANGE, GAP, 0)
    assert play.stream.needs_snapshot
    assert play.feed(b"") == []  # lost twice is lost once
    assert play.feed(depth(venue, 13, 14, previous=12)) == []  # though it would continue: who knows
    play.feed(wire.snapshot(venue, 15, [("99.5", "5")], [("100.5", "6")]))
    play.feed(depth(venue, 15, 16, previous=14))
    assert play.states == [START, OK, GAP, RESYNC, OK]
    assert play.ids == [12, 16]
    play.assert_numbered()


@pytest.mark.parametrize("venue", wire.VENUES)
def test_lost_connection_before_the_join_forgets_what_waited(venue):
    play = Play(venue)
    play.feed(depth(venue, 5, 6))
    play.feed(b"")
    assert play.stream.buffered == 0
    assert play.stream.needs_snapshot
    assert play.states == [START]


@pytest.mark.parametrize("venue", wire.VENUES)
def test_capture_without_a_snapshot_makes_no_rows(venue):
    play = Play(venue)
    for i in range(20, 40):
        play.feed(depth(venue, i, i, previous=i - 1))
    assert play.states == [START]
    assert play.stream.needs_snapshot
    assert play.stream.buffered == 20
    assert play.ids == []


@lru_cache(maxsize=8)
def _market(capture, n_depth):
    # Frames from the join on, the truth by update id, and a REST body for every 10th book.
    stream, oracle = Binance(capture.venue, capture.raw_symbol), NaiveBinance(capture.venue)
    frames, truth, bodies = [], {}, {}
    for receive_ns, frame in capture.frames(n_depth):
        for event in stream.receive(frame, receive_ns):
            if event == BOOK:
                row = stream.row[0]
                truth[int(row["update_id"])] = [row[name].tobytes() for name in ("bid_px", "bid_sz", "ask_px", "ask_sz")]
        ids = oracle.receive(frame)
        if oracle.joined:
            frames.append(frame)
            if (ids and len(truth) % 10 == 0) or len(frames) == 1:
                sides = [[(price, oracle.book.sizes[side][price]) for price in oracle.book.sorted[side]] for side in range(2)]
                bodies[len(frames) - 1] = wire.snapshot(capture.venue, oracle.last, *sides)
    return frames, truth, bodies


def _disturb(rng, frames):
    # One to three messages lost, doubled, swapped, brought late, or the line cut; mostly depth, which is what hurts.
    frames = list(enumerate(frames))
    depths = [i for i, (_, frame) in enumerate(frames) if b"@depth" in frame]
    for _ in range(rng.randint(1, 3)):
        at = rng.choice(depths[:-5]) if rng.random() < 0.8 else rng.randrange(len(frames) - 5)
        match rng.randrange(6):
            case 0:
                del frames[at : at + rng.choice((1, 1, 1, 7, 40))]
            case 1:
                frames[at:at] = frames[at : at + rng.choice((1, 1, 3, 30))]
            case 2:
                frames[at], frames[at + 1] = frames[at + 1], frames[at]
            case 3:
                frames.insert(min(len(frames), at + rng.randint(2, 60)), frames.pop(at))
            case 4:
                frames.insert(at, (frames[at][0], b""))
            case 5:
                frames.insert(at, (frames[at][0], frames[at][1][: rng.randrange(1, len(frames[at][1]))]))
        depths = [i for i, (_, frame) in enumerate(frames) if b"@depth" in frame]
    return frames


def _replay_disturbed(capture, n_depth, seed):
    frames, truth, bodies = _market(capture, n_depth)
    rng = random.Random(seed)
    stream = Binance(capture.venue, capture.raw_symbol)
    wrong = rows = last = 0
    seen, asked, events = [], None, {table: [] for table in (*TABLE, None)}
    disturbed, delay = _disturb(rng, frames), rng.choice((0, 3, 50))
    for n, (origin, frame) in enumerate([(0, bodies[0]), *disturbed]):
        due = []
        if stream.needs_snapshot and n:
            asked = n if asked is None else asked
            if n >= asked + delay:  # what REST answers may be older than what the stream told, by a little or a lot
                at = [i for i in bodies if i <= origin]
                due = [bodies[at[-1 if rng.random() < 0.7 else rng.randrange(len(at))]]]
                asked = None
        for one in (*due, frame):
            for event in stream.receive(one, n):
                record = {BOOK: stream.row, TRADE: stream.trade, CHANGE: stream.change}.get(event)
                if event in TABLE:
                    source = stream.unreadable if record is None else record[0]
                    events[event].append(int(source["seq"]))
                    events[None].append(int(source["event_seq"]))
                if event == BOOK:
                    row = stream.row[0]
                    levels = [row[name].tobytes() for name in ("bid_px", "bid_sz", "ask_px", "ask_sz")]
                    wrong += truth.get(int(row["update_id"])) != levels
                    wrong += stream.state not in (OK, CROSSED)
                    rows += 1
                    seen.append(int(row["update_id"]))
    assert all(told == list(range(len(told))) for table, told in events.items() if table is not None)
    assert sorted(events[None]) == list(range(len(events[None])))
    last = max(seen, default=0)
    return wrong, rows, stream.counts, last == max(truth)


def _assert_disturbed(capture, n_depth, times, seed=0):
    wrong = rows = whole = gaps = resyncs = 0
    for i in range(times):
        more_wrong, more_rows, counts, ended = _replay_disturbed(capture, n_depth, f"{seed}-{i}")
        wrong, rows, whole = wrong + more_wrong, rows + more_rows, whole + ended
        gaps, resyncs = gaps + counts["gaps"], resyncs + counts["resyncs"]
    assert wrong == 0
    assert gaps > times // 4
    assert resyncs > times // 8
    assert whole > times // 3  # most come back before the end
    assert rows > times * 20


@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_whatever_is_lost_doubled_or_swapped_no_row_is_wrong(capture):
    _assert_disturbed(capture, 110, 100 if capture.checks else 60)


@pytest.mark.slow
@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_three_hundred_disturbances_make_no_wrong_row(capture):
    _assert_disturbed(capture, 400, 300, seed=1)


# --- doubtful books -------------------------------------------------------------------------


@pytest.mark.parametrize("venue", wire.VENUES)
def test_crossed_books_are_told_and_flagged(venue):
    play = joined(venue)
    news = play.feed(wire.depth(venue, 13, 13, [("100.5", "1")], previous=12))
    assert [event for event, _ in news] == [CHANGE, BOOK]
    assert news[0][1]["state"] == news[1][1]["doubt"] == CROSSED
    assert play.stream.state == CROSSED
    ((_, still),) = play.feed(wire.depth(venue, 14, 14, [("101.5", "1")], previous=13))
    assert still["doubt"] == CROSSED
    news = play.feed(wire.depth(venue, 15, 15, [("100.5", "0"), ("101.5", "0")], previous=14))
    assert (news[0][1]["state"], news[1][1]["doubt"]) == (OK, OK)
    assert play.states == [START, OK, CROSSED, OK]
    assert play.stream.counts["crossed"] == 1
    play.assert_numbered()


@pytest.mark.parametrize("venue", wire.VENUES)
def test_a_book_that_stays_crossed_is_sent_anew(venue):
    play = joined(venue)
    ms = int(play.of(BOOK)[-1]["exchange_ns"]) // 1_000_000
    for number, after_ms in ((13, 100), (14, 600), (15, 601)):
        assert not play.stream.needs_snapshot
        play.feed(wire.depth(venue, number, number, [("100.5", "1")], previous=number - 1, ms=ms + after_ms))
    assert play.stream.needs_snapshot
    assert play.states == [START, OK, CROSSED, GAP]
    assert play.stream.counts["suspects"] == play.stream.counts["gaps"] == 1
    play.assert_numbered()


@pytest.mark.parametrize("stated", [14, 15, 9013])
@pytest.mark.parametrize("venue", wire.VENUES)
def test_an_update_that_stated_too_high_a_number_does_not_make_those_behind_it_old(venue, stated):
    play = joined(venue)
    ms = int(play.of(BOOK)[-1]["exchange_ns"]) // 1_000_000
    play.feed(depth(venue, 13, stated, previous=12, ms=ms + 100))
    for number in range(14, 24):
        play.feed(depth(venue, number, number, previous=number - 1, ms=ms + 10 * number))
    assert play.states == [START, OK, GAP]
    assert play.stream.needs_snapshot
    assert play.of(CHANGE)[-1]["exchange_ns"] == (ms + 100) * 1_000_000
    play.assert_numbered()


def test_a_book_that_is_sent_crossed_is_not_asked_for_again():
    play = Play("binance_spot")
    play.feed(wire.snapshot("binance_spot", 10, [("101", "1")], [("100", "1")]))
    for number in range(11, 31):
        play.feed(wire.depth("binance_spot", number, number, ms=1_700_000_000_000 + 100 * number))
    assert play.states == [START, CROSSED]
    assert not play.stream.needs_snapshot


@pytest.mark.parametrize("venue", wire.VENUES)
def test_a_snapshot_that_stated_too_high_a_number_is_asked_for_again(venue):
    play, ms = Play(venue), 1_700_000_000_000
    play.feed(wire.snapshot(venue, 9010, [("99.5", "5")], [("100.5", "6")]), ms * 1_000_000)
    for number in range(11, 61):
        assert not play.stream.needs_snapshot or number > 32
        play.feed(depth(venue, number, number, previous=number - 1, ms=ms + 1000 * number), (ms + 1000 * number) * 1_000_000)
    assert play.stream.needs_snapshot
    assert play.states == [START]


@pytest.mark.parametrize("venue", wire.VENUES)
def test_a_slow_snapshot_in_a_quiet_market_makes_no_update_early(venue):
    play, ns = Play(venue), 1_700_000_000_000_000_000
    play.feed(depth(venue, 11, 12, previous=10, ms=ns // 10**6), ns)
    play.feed(wire.snapshot(venue, 11, [("99.5", "5")], [("100.5", "6")]), ns + 65 * 10**9)
    for number, after_s in ((13, 70), (14, 140), (15, 210)):
        play.feed(depth(venue, number, number, previous=number - 1, ms=ns // 10**6 + after_s * 1000), ns + after_s * 10**9)
    assert play.ids == [12, 13, 14, 15]
    assert not play.of(UNREADABLE)


@pytest.mark.parametrize("shift_s", [120, -7200])
@pytest.mark.parametrize("venue", wire.VENUES)
def test_a_clock_that_was_set_costs_one_update_and_one_gap(venue, shift_s):
    play, ns = joined(venue), 1_700_000_000_000_000_000
    for number in range(13, 40):
        at_ns = ns + number * 100_000_000
        ms = at_ns // 10**6 + (shift_s * 1000 if number >= 20 else 0)
        play.feed(depth(venue, number, number, previous=number - 1, ms=ms), at_ns)
        if play.stream.needs_snapshot:
            play.feed(wire.snapshot(venue, number - 1, [("99.5", "5")], [("100.5", "6")]), at_ns + 1)
    assert len(play.of(UNREADABLE)) == 1
    assert play.states == [START, OK, GAP, RESYNC, OK]
    assert play.ids == [12, *range(13, 20), *range(21, 40)]


@pytest.mark.parametrize("shift_s", [10**9, -(10**9)])
@pytest.mark.parametrize("venue", wire.VENUES[1:])
def test_a_snapshot_of_a_wrong_time_does_not_date_the_end_of_a_gap(venue, shift_s):
    play, ns = joined(venue), 1_700_000_000_000_000_000
    for number in (13, 14, 16):
        at_ns = ns + number * 100_000_000
        play.feed(depth(venue, number, number, previous=number - 1, ms=at_ns // 10**6), at_ns)
    play.feed(wire.snapshot(venue, 15, [("99.5", "5")], [("100.5", "6")], ms=ns // 10**6 + shift_s * 1000), at_ns + 10**8)
    assert play.states == [START, OK, GAP, RESYNC, OK]
    gap, resync, good = (int(change["exchange_ns"]) for change in play.of(CHANGE)[-3:])
    assert gap <= resync <= good + 2 * 10**8


def test_book_that_joins_crossed_is_told_so():
    play = Play("binance_spot")
    play.feed(wire.snapshot("binance_spot", 10, [("101", "1")], [("100", "1")]))
    play.feed(wire.depth("binance_spot", 11, 11))
    assert play.states == [START, CROSSED]
    assert play.of(BOOK)[0]["doubt"] == CROSSED
    play.feed(wire.depth("binance_spot", 12, 12, [("101", "0")]))
    assert play.states == [START, CROSSED, OK]


@pytest.mark.parametrize("venue", wire.VENUES)
def test_silence_is_told_as_stale_from_when_it_began_to_be(venue):
    play = joined(venue, stale_s=2.0)
    before = play.of(BOOK)[-1]["exchange_ns"]
    ms = int(before) // 1_000_000
    play.feed(depth(venue, 13, 13, previous=12, ms=ms + 2000), (ms + 2000) * 1_000_000)
    assert play.states == [START, OK]
    news = play.feed(depth(venue, 14, 14, previous=13, ms=ms + 4001), (ms + 4001) * 1_000_000)
    assert [event for event, _ in news] == [CHANGE, CHANGE, BOOK]
    assert [int(record["state"]) for _, record in news[:2]] == [STALE, OK]
    assert news[0][1]["exchange_ns"] == (ms + 4000) * 1_000_000
    assert news[1][1]["exchange_ns"] == news[2][1]["exchange_ns"] == (ms + 4001) * 1_000_000
    play.assert_numbered()


def test_clock_of_the_venue_running_backwards_is_no_silence():
    play = joined("binance_spot", stale_s=1.0)
    ms = int(play.of(BOOK)[-1]["exchange_ns"]) // 1_000_000
    for i, at in enumerate((ms + 500, ms - 5000, ms + 1000, ms + 1400), 13):
        play.feed(depth("binance_spot", i, i, ms=at), (ms + 500 * (i - 12)) * 1_000_000)
    assert play.states == [START, OK]


# --- trades ---------------------------------------------------------------------------------


@pytest.mark.parametrize("venue", wire.VENUES)
def test_trades_say_who_was_the_taker(venue):
    play = Play(venue)
    play.feed(wire.trade(venue, 5, "100.00", "2", maker=True))
    play.feed(wire.trade(venue, 6, "100.00", "2", maker=False))
    sold, bought = play.of(TRADE)
    assert (sold["aggressor"], bought["aggressor"]) == (-1, 1)
    assert sold["price"] == 100.0
    assert sold["size"] == (2.0 * 100.0 / 100.0 if venue == "binance_coinm" else 2.0)
    assert sold["contract_size"] == contract_usd(venue, wire.RAW[venue])
    assert sold["exchange_ns"] == (1_700_000_000_000 + 5) * 1_000_000
    assert play.states == [START]
    play.assert_numbered()


@pytest.mark.parametrize("venue", wire.VENUES)
def test_missing_trade_ids_make_the_stream_doubtful_for_a_moment(venue):
    play = joined(venue)
    play.feed(wire.trade(venue, 5))
    news = play.feed(wire.trade(venue, 8))
    assert [event for event, _ in news] == [CHANGE, CHANGE, TRADE]
    assert [int(record["state"]) for _, record in news[:2]] == [GAP, OK]
    assert (news[0][1]["expected_id"], news[0][1]["received_id"]) == (6, 8)
    assert [news[i][1]["event_seq"] - news[0][1]["event_seq"] for i in range(3)] == [0, 1, 2]
    assert play.stream.counts["trade_id_gaps"] == 1
    assert play.feed(wire.trade(venue, 8)) == play.feed(wire.trade(venue, 5)) == []  # doubled
    assert [event for event, _ in play.feed(wire.trade(venue, 9))] == [TRADE]
    assert play.stream.is_live
    assert not play.stream.needs_snapshot
    play.assert_numbered()


@pytest.mark.parametrize("venue", wire.VENUES)
def test_trades_that_a_number_leapt_over_are_taken_when_they_come(venue):
    play = joined(venue)
    for trade_id in (5, 6, 8, 7, 7, 8, 9, 6, 10):  # as of two connections, one ahead of the other
        play.feed(wire.trade(venue, trade_id))
    assert [int(row["trade_id"]) for row in play.of(TRADE)] == [5, 6, 8, 7, 9, 10]
    assert play.stream.counts["trade_id_gaps"] == 1
    play.assert_numbered()


@pytest.mark.parametrize("venue", wire.VENUES)
@pytest.mark.parametrize("lost", [(), (30,)])
def test_a_number_that_is_too_high_costs_no_later_trade(venue, lost):
    play = joined(venue)
    for trade_id in [i for i in range(5, 80) if i not in lost]:
        wrong = {10: 50, 20: 65}.get(trade_id, trade_id)
        play.feed(wire.trade(venue, wrong, price=f"{100 + trade_id}.00", ms=1_700_000_000_000 + trade_id))
    told = play.of(TRADE)
    assert [int(row["price"]) - 100 for row in told] == [i for i in range(5, 80) if i not in lost]
    assert [int(row["trade_id"]) for row in told if int(row["price"]) - 100 not in (10, 20)] == [
        i for i in range(5, 80) if i not in (10, 20, *lost)
    ]
    # Each leap, what follows it where one number was never told, and what was lost.
    assert play.stream.counts["trade_id_gaps"] == 4 + len(lost)
    play.assert_numbered()


@pytest.mark.parametrize("venue", wire.VENUES)
@pytest.mark.parametrize("wrong", [{5: 9100}, {7: 9102, 12: 60, 40: 50_000}, {12: 13, 20: 19}])
def test_whatever_numbers_are_wrong_every_other_trade_is_told_once(venue, wrong):
    play = joined(venue)
    for trade_id in range(5, 80):
        frame = wire.trade(venue, wrong.get(trade_id, trade_id), price=f"{100 + trade_id}.00", ms=1_700_000_000_000 + trade_id)
        play.feed(frame)
        play.feed(frame)
    told = [int(row["price"]) - 100 for row in play.of(TRADE)]
    assert len(told) == len(set(told))
    assert set(range(5, 80)) - set(told) <= set(wrong)
    assert play.stream.counts["trade_id_gaps"] >= 1
    play.assert_numbered()


@pytest.mark.parametrize("venue", wire.VENUES)
def test_trades_long_past_are_not_told_again(venue):
    play = joined(venue)
    for trade_id in range(5, 5000):
        play.feed(wire.trade(venue, trade_id, ms=1_700_000_000_000 + 20 * trade_id))
    for trade_id in range(5, 5000):
        assert play.feed(wire.trade(venue, trade_id, ms=1_700_000_000_000 + 20 * trade_id)) == []
    assert len(play.of(TRADE)) == 4995


@pytest.mark.parametrize("venue", wire.VENUES)
def test_missing_trades_do_not_change_what_the_book_is(venue):
    play = Play(venue)
    play.feed(wire.trade(venue, 5))
    play.feed(wire.trade(venue, 7))
    assert play.states == [START, GAP, START]
    play.feed(wire.snapshot(venue, 10, [("99.5", "5")], [("100.5", "6")]))
    play.feed(wire.depth(venue, 11, 12, [("100.5", "1")], previous=10))
    assert play.states[3:] == [CROSSED]
    play.feed(wire.trade(venue, 9))
    assert play.states[4:] == [GAP, CROSSED]
    play.feed(depth(venue, 15, 16, previous=14))
    assert play.states[6:] == [GAP]
    play.feed(wire.trade(venue, 11))
    assert play.states[7:] == [GAP]
    assert play.stream.counts["resyncs"] == 0
    play.assert_numbered()


@pytest.mark.parametrize("venue", FUTURES)
@pytest.mark.parametrize("kind", ["INSURANCE_FUND", "ADL", "NA"])
def test_trades_off_the_book_are_no_rows_and_no_gaps(venue, kind):
    play = Play(venue)
    for trade_id, of_kind in ((5, "MARKET"), (6, kind), (7, "MARKET")):
        play.feed(wire.trade(venue, trade_id, kind=of_kind))
    assert [int(trade["trade_id"]) for trade in play.of(TRADE)] == [5, 7]
    assert play.states == [START]
    play.assert_numbered()


def test_aggregated_trades_count_by_their_own_id():
    play = Play("binance_usdm")
    for trade_id in (5, 6):
        play.feed(wire.trade("binance_usdm", trade_id, name="aggTrade"))
    assert [int(trade["trade_id"]) for trade in play.of(TRADE)] == [5, 6]


# --- contracts, quotes, chatter -------------------------------------------------------------


def test_contracts_become_base_units_everywhere():
    play = Play("binance_coinm")
    play.feed(wire.snapshot("binance_coinm", 10, [("50000.0", "35")], [("64000.0", "7")]))
    play.feed(wire.depth("binance_coinm", 11, 11, previous=10))
    row = play.of(BOOK)[0]
    assert (row["bid_sz"][0], row["ask_sz"][0], row["contract_size"]) == (35 * 100.0 / 50000.0, 7 * 100.0 / 64000.0, 100.0)
    play.feed(wire.ticker("binance_coinm", 11, "50000.0", "35", "64000.0", "7"))
    assert play.of(QUOTE)[0]["sz"].tolist() == [35 * 100.0 / 50000.0, 7 * 100.0 / 64000.0]
    assert contract_usd("binance_coinm", "ETHUSD_PERP") == 10.0
    assert contract_usd("binance_usdm", "BTCUSDT") == 0.0


@pytest.mark.parametrize("venue", wire.VENUES)
def test_ticker_of_an_empty_side(venue):
    play = Play(venue)
    play.feed(wire.ticker(venue, 11, "0.00", "0.00", "100.00", "1"))
    quote = play.of(QUOTE)[0]
    assert (quote["px"][0], quote["sz"][0], quote["px"][1]) == (0.0, 0.0, 100.0)


@pytest.mark.parametrize("venue", wire.VENUES)
def test_frames_of_another_symbol_are_kept_aside(venue):
    play = joined(venue)
    for bid in ("99.5", "0.000012345"):
        ((event, kept),) = play.feed(depth(venue, 13, 14, previous=12, symbol="DOGEUSDT", bid=bid))
        assert event == UNREADABLE
        assert "DOGEUSDT" in kept["frame"]
    assert play.stream.counts["stray"] == 2
    assert play.stream._book["decimals"] < 9
    play.feed(depth(venue, 13, 14, previous=12))
    assert play.ids == [12, 14]
    play.assert_numbered()


@pytest.mark.parametrize("frame", [b"no json", b"{", b'{"e":"trade"}', b"\xff\x00", b"[" * 5000, b'{"data":{"e":"depthUpdate","s":7}}'])
def test_unreadable_frames_are_kept_and_the_stream_goes_on(frame):
    play = joined("binance_spot")
    ((event, kept),) = play.feed(frame)
    assert event == UNREADABLE
    assert kept["reason"]
    assert isinstance(kept["frame"], str)
    play.feed(depth("binance_spot", 13, 14))
    assert play.ids == [12, 14]
    assert play.stream.counts["unreadable"] == 1
    play.assert_numbered()


@pytest.mark.parametrize("venue", wire.VENUES)
@pytest.mark.parametrize("price", ["1e-999999", "1e999999", "0.0000000000000000000000001", "0", "-1", "99999999999999999999"])
def test_a_poisoned_depth_event_costs_a_resync_and_nothing_more(venue, price):
    play = joined(venue)
    assert [event for event, _ in play.feed(depth(venue, 13, 14, previous=12, bid=price))] == [UNREADABLE]
    play.feed(depth(venue, 15, 16, previous=14))
    assert play.states == [START, OK, GAP]
    play.feed(wire.snapshot(venue, 17, [("99.5", "5")], [("100.5", "6")]))
    play.feed(depth(venue, 17, 18, previous=16))
    assert play.ids == [12, 18]
    assert play.of(BOOK)[-1]["bid_px"][0] == 99.5
    play.assert_numbered()


def test_chatter_is_ignored():
    play = joined("binance_spot")
    for frame in (
        b'{"result":null,"id":1}',
        b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}',
        b'{"code":2,"msg":"Invalid request"}',
        b'{"stream":"btcusdt@kline_1m","data":{"e":"kline","E":1,"s":"BTCUSDT","k":{"o":"1","x":false}}}',
        b'{"stream":"btcusdt@depth5","data":{"lastUpdateId":7,"bids":[["1.0","1.0"]],"asks":[]}}',
    ):
        assert play.feed(frame) == []
    assert play.stream.counts["unreadable"] == 0


def test_partial_depth_is_no_snapshot_to_build_on():
    play = Play("binance_spot")
    play.feed(b'{"stream":"btcusdt@depth5","data":{"lastUpdateId":10,"bids":[["1.0","1.0"]],"asks":[]}}')
    play.feed(depth("binance_spot", 11, 12))
    assert play.ids == []
    assert play.stream.needs_snapshot


@pytest.mark.parametrize(("venue", "other"), [("binance_spot", "binance_usdm"), ("binance_usdm", "binance_spot")])
def test_frames_of_another_venue_are_an_error_at_once(venue, other):
    with pytest.raises(WrongVenueError, match=f"expected frames of {venue}"):
        Play(venue).feed(depth(other, 11, 12))
    play = joined(venue)  # but one such frame in a good stream is damage
    assert [event for event, _ in play.feed(depth(other, 13, 14, previous=12))] == [UNREADABLE]


@pytest.mark.parametrize(
    ("venue", "raw"), [("binance_coinm", "BTCUSDT"), ("binance_usdm", "BTCUSD_PERP"), ("binance_spot", "BTCUSD_240927")]
)
def test_symbols_of_another_venue_are_refused(venue, raw):
    with pytest.raises(WrongVenueError):
        Binance(venue, raw)


def test_unknown_venues_are_refused():
    with pytest.raises(UnknownVenueError, match="binance_spot, binance_usdm"):
        Binance("kraken", "XBTUSD")


def test_symbols_have_one_name_with_us():
    for venue, raw, name in (
        ("binance_spot", "btcusdt", "BTC-USDT"),
        ("binance_spot", "USDT", "USDT"),
        ("binance_usdm", "BTCUSDT", "BTC-USDT-PERP"),
        ("binance_usdm", "BTCUSDT_240927", "BTC-USDT-240927"),
        ("binance_coinm", "BTCUSD_PERP", "BTC-USD-PERP"),
        ("binance_coinm", "ETHUSD_240927", "ETH-USD-240927"),
    ):
        assert canonical_symbol(venue, raw) == name


def test_numbers_go_on_from_where_an_earlier_session_ended():
    base = {"l2_snapshots": 70, "trades": 50, "coverage_changes": 3, "unreadable": 2, "event": 900}
    play = joined("binance_usdm", base=base, since_ns=5)
    play.feed(wire.trade("binance_usdm", 5))
    play.feed(b"?")
    play.feed(depth("binance_usdm", 20, 21, previous=19))
    assert play.of(CHANGE)[0]["exchange_ns"] == 5
    play.assert_numbered(**base)
    assert play.stream.counts["book_updates"] == play.stream.counts["trades"] == 1


@pytest.mark.parametrize(("first", "holes"), [(9, 0), (12, 1), (3, 0)])  # 3: numbers of a past day, played after it
def test_first_trade_shows_what_was_lost_since_the_session_before(first, holes):
    play = joined("binance_usdm", base={"trade_id": 8, "trade_ns": 700}, since_ns=900)
    play.feed(wire.trade("binance_usdm", first))
    play.feed(wire.trade("binance_usdm", first + 1))
    assert play.states == [START, OK, *[GAP, OK] * holes]
    assert play.stream.counts["trade_id_gaps"] == holes
    assert [int(trade["trade_id"]) for trade in play.of(TRADE)] == [first, first + 1]
    for gap in play.of(CHANGE)[2:3]:
        assert (gap["exchange_ns"], gap["expected_id"], gap["received_id"]) == (700, 9, first)
    play.assert_numbered()


# --- whole captures -------------------------------------------------------------------------


def _best(row):
    return float(row["bid_px"][0]), float(row["bid_sz"][0]), float(row["ask_px"][0]), float(row["ask_sz"][0])


def _compare_with_ticker(venue, raw_symbol, frames):
    stream, books, quotes, numbers = Binance(venue, raw_symbol), [], [], []
    for receive_ns, frame in frames:
        for event in stream.receive(frame, receive_ns):
            if event == BOOK:
                row = stream.row[0]
                books.append((int(row["update_id"]), _best(row)))
                numbers.append(int(row["event_seq"]))
            elif event == TRADE:
                numbers.append(int(stream.trade["event_seq"][0]))
            elif event == CHANGE:
                numbers.append(int(stream.change["event_seq"][0]))
            else:
                quote = stream.quote[0]
                px, sz = quote["px"].tolist(), quote["sz"].tolist()
                quotes.append((int(quote["update_id"]), (px[0], sz[0], px[1], sz[1])))
    assert numbers == list(range(len(numbers)))
    return stream, books, quotes


@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_every_book_shows_the_best_quote_that_the_venue_told(capture):
    stream, books, quotes = _compare_with_ticker(capture.venue, capture.raw_symbol, capture.frames())
    checks, differing = ticker_checks(books, quotes)
    assert differing == []
    assert checks == capture.checks or (not capture.checks and checks > 380)
    counts = stream.counts
    assert counts["gaps"] == counts["crossed"] == counts["trade_id_gaps"] == counts["unreadable"] == counts["stray"] == counts["stale"] == 0
    assert counts["book_updates"] == len(books)


def test_where_ticker_and_depth_of_the_venue_disagree_exact_decimals_side_with_our_book():
    # In the second spot file the ticker twice shows an order that no depth event ever told.
    frames = SPOT_SESSION()
    stream, books, quotes = _compare_with_ticker("binance_spot", "BTCUSDT", frames)
    assert stream.counts["gaps"] == 0
    checks, differing = ticker_checks(books, quotes)
    shown, oracle = dict(books), NaiveBinance("binance_spot")
    for _, frame in frames:
        for update_id in oracle.receive(frame):
            if update_id in differing:
                (bid,), (ask,) = oracle.book.best(0, 1), oracle.book.best(1, 1)
                assert shown[update_id] == tuple(float(number) for number in (*bid, *ask))
    assert len(differing) == (2 if checks == 6492 else 0)
    assert checks > 1900


# --- memory ---------------------------------------------------------------------------------


@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_receiving_frames_keeps_no_memory(capture):
    frames = capture.frames(1200)
    stream, half = Binance(capture.venue, capture.raw_symbol), len(frames) // 2
    for receive_ns, frame in frames[:half]:
        for _ in stream.receive(frame, receive_ns):
            pass
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for receive_ns, frame in frames[half:]:
            for _ in stream.receive(frame, receive_ns):
                pass
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 20_000
    assert peak - before < 1_000_000


def _resident_bytes():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096


@pytest.mark.slow
@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_replaying_again_and_again_keeps_the_process_small(capture):
    frames, resident = capture.frames(), []
    for _ in range(12):
        stream = Binance(capture.venue, capture.raw_symbol)
        for receive_ns, frame in frames:
            for _ in stream.receive(frame, receive_ns):
                pass
        resident.append(_resident_bytes())
    assert resident[-1] - resident[3] < 4_000_000
