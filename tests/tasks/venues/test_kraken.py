"""Kraken v2: rows only of books whose checksum is right, whatever happens to the frames on their way."""

import json
import re

import numpy as np
import pytest

from tasks.venues.directory import adapter, canonical_symbol, raw_symbol
from tasks.venues.errors import WrongVenueError
from tasks.venues.events import BOOK, CHANGE, TRADE, UNREADABLE
from tasks.venues.kraken import Kraken
from tasks.venues.ladder import Instrument
from tests.captures import SHARED
from tests.checked_feed import START_NS, STEP_NS, KrakenFeed, NaiveKraken, iso, kraken_book, kraken_checksum, kraken_trade
from tests.damage import DAMAGES, Play, assert_told_in_order, damaged, levels_of, naive_levels
from warehouse.schema import CROSSED, GAP, OK, START

FOLDER = SHARED / "fixtures" / "kraken_v2"
REAL = {path.stem: path.read_bytes().splitlines() for path in sorted(FOLDER.glob("*.jsonl"))} if FOLDER.is_dir() else {}
BOOKS = {"generated": KrakenFeed(1, 300).frames, "thin": KrakenFeed(2, 200, levels=4).frames, **REAL}
BIDS, ASKS = [("99.0", "1.50000000"), ("98.5", "0.00005100")], [("99.5", "2.00000000"), ("100.0", "1.00000000")]


def snapshot(bids=BIDS, asks=ASKS, ns=START_NS, checksum=0):
    return kraken_book("snapshot", bids, asks, kraken_checksum(bids, asks) if checksum == 0 else checksum, ns)


def played(*frames, **given):
    play = Play(Kraken("BTC/USD", **given))
    for i, frame in enumerate(frames):
        play.feed(START_NS + i * STEP_NS, frame)
    return play


# -- whole streams -------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOOKS)
def test_every_row_equals_a_naive_book(name):
    play, naive, rows = played(), NaiveKraken(), 0
    for i, frame in enumerate(BOOKS[name]):
        told = naive.receive(frame)
        new = [row for event, row in play.feed(START_NS + i * STEP_NS, frame) if event == BOOK]
        assert len(new) == (told is not None)
        for row in new:
            np.testing.assert_array_equal(levels_of(row), naive_levels(naive.book))
            rows += 1
    counts = play.stream.counts
    assert counts["checksum_failures"] == counts["unreadable"] == counts["crossed"] == counts["old"] == 0
    snapshots = sum(frame.startswith(b'{"channel":"book","type":"snapshot"') for frame in BOOKS[name])
    assert counts["gaps"] == max(0, snapshots - 1)  # before a second one, updates may be missing
    assert naive.failures == 0
    assert naive.matches == rows == counts["book_updates"]
    play.assert_numbered()


@pytest.mark.skipif(not REAL, reason="no captures beside the project")
def test_all_checksums_of_the_capture_are_right():
    naive = NaiveKraken()
    for frame in REAL["book10_btcusd_20261006"]:
        naive.receive(frame)
    play = played(*REAL["book10_btcusd_20261006"], instrument=Instrument(0.1, 1e-8, price_decimals=1, size_decimals=8))
    assert naive.matches == len(play.of(BOOK)) == 9
    assert play.states == [START, OK, GAP, OK]
    assert [int(row["exchange_ns"]) % 10**9 for row in play.of(BOOK)][:2] == [569000, 153890000]
    trade = played(REAL["DOCSAMPLE_trade_nautilus"][0]).of(TRADE)
    assert [(int(t["trade_id"]), float(t["price"]), float(t["size"]), int(t["aggressor"])) for t in trade] == [
        (10218208, 105944.20, 0.00027625, 1),
        (10218209, 105910.50, 0.00012460, -1),
    ]


def test_one_wrong_digit_in_the_capture_is_seen_wherever_it_is():
    frames = REAL.get("book10_btcusd_20261006", KrakenFeed(3, 11).frames)
    seen = 0
    for i, frame in enumerate(frames):
        if b'"channel":"book","type"' not in frame:
            continue
        data = frame[: frame.index(b'"timestamp"')]
        for at in [match.start() for match in re.finditer(rb"\d", data)][:: 1 if i < 4 else 3]:
            digit = b"%d" % ((frame[at] - 48 + 1 + at % 9) % 10)
            if digit == frame[at : at + 1]:
                continue
            play = played(*frames[:i], frame[:at] + digit + frame[at + 1 :])
            assert play.stream.needs_snapshot
            assert not play.stream.is_live
            assert len(play.of(BOOK)) == sum(b'"channel":"book","type"' in told for told in frames[:i])
            assert OK not in play.states[-1:]
            seen += 1
    assert seen > 100


# -- damage --------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", DAMAGES)
def test_no_damage_makes_a_wrong_row_and_only_a_new_book_ends_the_doubt(damage):
    gaps = 0
    for seed in range(60):
        play, wrong, last = damaged(KrakenFeed(seed, 40), lambda: Kraken("BTC/USD"), NaiveKraken(), DAMAGES[damage], seed)
        assert wrong == []
        assert_told_in_order(play)
        np.testing.assert_array_equal(levels_of(play.of(BOOK)[-1]), levels_of(last))
        gaps += play.stream.counts["gaps"]
        assert play.stream.counts["unreadable"] >= (damage == "cut")
    assert gaps >= (20 if damage == "repeat" else 50)  # one said again at once changes nothing


def test_frames_cut_at_every_byte_are_kept_and_counted():
    feed = KrakenFeed(5, 6)
    frames = [feed.frames[0], feed.frames[3], kraken_trade([7, 8]), b'{"channel":"heartbeat"}']
    frames.append(b'{"method":"subscribe","req_id":1,"result":{"channel":"book","depth":10,"symbol":"BTC/USD"},"success":true}')
    frames += [frame for name in REAL for frame in REAL[name][:3]]
    for frame in frames:
        play, n = played(snapshot()), 0
        for n in range(1, len(frame)):
            news = play.feed(START_NS + n, frame[:n])
            assert [event for event, _ in news if event != CHANGE] == [UNREADABLE]
            assert news[-1][1]["frame"] == frame[:n].decode()
        assert play.stream.counts["unreadable"] == n
        assert play.states == [START, OK, GAP]
        play.feed(START_NS + n, snapshot())
        assert play.states[-1] == OK


def test_a_cut_trade_does_not_spoil_the_book():
    play = played(snapshot(), kraken_trade([7])[:80])
    assert play.states == [START, OK]
    assert play.stream.counts["unreadable"] == 1


# -- the book ------------------------------------------------------------------------------


def test_a_wrong_checksum_makes_a_gap_before_any_row_and_updates_wait_for_a_snapshot():
    changed = kraken_book("update", [("99.0", "7.00000000")], [], 1, START_NS + STEP_NS)
    play = played(snapshot(), changed, changed, snapshot(ns=START_NS + 5 * STEP_NS))
    assert [event for event, _ in play.told] == [CHANGE, CHANGE, BOOK, CHANGE, CHANGE, BOOK]
    assert play.states == [START, OK, GAP, OK]
    gap = play.of(CHANGE)[2]
    assert gap["exchange_ns"] == START_NS
    assert gap["received_id"] == 1
    assert gap["expected_id"] > 1
    assert play.stream.counts["checksum_failures"] == play.stream.counts["old"] == play.stream.counts["resyncs"] == 1


def test_levels_pushed_out_of_the_depth_are_forgotten():
    bids = [(f"{99 - i}.0", "1.00000000") for i in range(10)]
    better, kept = ("99.5", "3.00000000"), [("99.5", "3.00000000"), *bids[:9]]
    asks = [("101.0", "1.00000000")]
    back = [*bids[:9], ("89.0", "2.00000000")]
    play = played(
        snapshot(bids, asks),
        kraken_book("update", [better], [], kraken_checksum(kept, asks), START_NS + 1),
        kraken_book("update", [("99.5", "0.00000000"), back[-1]], [], kraken_checksum(back, asks), START_NS + 2),
    )
    assert play.states == [START, OK]
    assert play.of(BOOK)[-1]["bid_px"][:11].tolist()[8:10] == [91.0, 89.0]
    assert np.isnan(play.of(BOOK)[-1]["bid_px"][10])


def test_an_acknowledgement_tells_another_depth():
    feed = KrakenFeed(8, 60, depth=25)
    ack = b'{"method":"subscribe","result":{"channel":"book","depth":25,"snapshot":true,"symbol":"BTC/USD"},"success":true}'
    play, naive = played(ack), NaiveKraken(depth=25)
    for i, frame in enumerate(feed.frames):
        naive.receive(frame)
        play.feed(START_NS + i * STEP_NS, frame)
        np.testing.assert_array_equal(levels_of(play.of(BOOK)[-1]), naive_levels(naive.book))
    assert play.stream.counts["checksum_failures"] == 0
    assert GAP in played(*feed.frames).states  # cut to ten, it lacks levels when they come up again


def test_a_snapshot_without_checksum_waits_for_the_next_message():
    thin = kraken_book("snapshot", BIDS[:1], ASKS[:1], None, START_NS)
    assert played(thin).of(BOOK) == []
    assert not played(thin).stream.needs_snapshot
    assert played(thin, snapshot(ns=START_NS + 1)).states == [START, OK]
    update = kraken_book("update", [("99.0", "2.00000000")], [], kraken_checksum([("99.0", "2.00000000")], ASKS[:1]), START_NS + 2)
    assert len(played(thin, update).of(BOOK)) == 1
    bad = played(thin, kraken_book("update", [], [], 5, START_NS + 2))
    assert bad.of(BOOK) == []
    assert bad.stream.needs_snapshot


def test_where_the_venue_sends_no_checksums_updates_are_told():
    play = played(
        kraken_book("snapshot", BIDS, ASKS, None, START_NS), kraken_book("update", [("99.0", "2.00000000")], [], None, START_NS + 1)
    )
    assert play.of(BOOK)[0]["bid_sz"][0] == 2.0
    play = played(snapshot(), kraken_book("update", [("99.0", "2.00000000")], [], None, START_NS + 1))
    assert len(play.of(BOOK)) == 1
    assert play.states[-1] == GAP


def test_zeros_that_a_recorder_lost_are_put_back_by_the_decimals_of_the_pair():
    bids, asks = [("99", "1.5")], [("99.5", "0.000051")]
    right = kraken_checksum([("99.0", "1.50000000")], [("99.5", "0.00005100")])
    known = Instrument(price_decimals=1, size_decimals=8)
    assert len(played(snapshot(bids, asks, checksum=right), instrument=known).of(BOOK)) == 1
    assert played(snapshot(bids, asks, checksum=right)).stream.counts["checksum_failures"] == 1
    exponent = [("99", "1.5E+0")], [("99.5", "5.1e-05")]
    assert played(snapshot(*exponent, checksum=right), instrument=known).of(BOOK)[0]["ask_sz"][0] == 0.000051


def test_decimals_are_those_seen_when_nobody_told_them():
    bids, asks = [("99", "1.5"), ("98.25", "2")], [("99.5", "0.125")]
    right = kraken_checksum([("99.00", "1.500"), ("98.25", "2.000")], [("99.50", "0.125")])
    assert len(played(snapshot(bids, asks, checksum=right)).of(BOOK)) == 1


def test_a_time_that_runs_back_or_leaps_makes_the_book_doubtful():
    def at(ns):
        return kraken_book("update", [], [], kraken_checksum(BIDS, ASKS), ns)

    assert played(snapshot(), at(START_NS - 5 * 10**8)).states == [START, OK]
    assert played(snapshot(), at(START_NS - 5 * 10**9)).states == [START, OK, GAP]
    assert played(snapshot(), at(START_NS + 10**8), at(START_NS + 90 * 10**9)).states == [START, OK, GAP]
    assert played(snapshot(), at(START_NS + 90_000 * 10**9)).states == [START, OK, GAP]
    assert played(snapshot(), at(START_NS + 2), at(START_NS + 2)).stream.counts["old"] == 1


def test_a_crossed_book_is_told_as_crossed():
    bids = [("99.5", "1.00000000")]
    assert played(snapshot(bids, ASKS)).states == [START, CROSSED]


def test_something_lost_is_a_gap_until_the_next_snapshot():
    play = played(snapshot(), b"", snapshot(ns=START_NS + 3))
    assert play.states == [START, OK, GAP, OK]
    assert play.stream.is_live


@pytest.mark.parametrize(
    "frame",
    [
        b"[]",
        b"null",
        b"\xff",
        b'{"channel":"book"}',
        b'{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[{"price":"x","qty":1}],"asks":[],"checksum":1}]}',
        snapshot().replace(b"BTC/USD", b"ETH/USD"),
        snapshot().replace(b"99.0", b"-99.0"),
        snapshot().replace(b"99.0", b"0.0"),
        snapshot().replace(iso(START_NS).encode(), b"2026-13-01T00:00:00.000000Z"),
        b"[" * 5000,
    ],
)
def test_what_is_no_message_is_kept_and_spoils_the_book(frame):
    play = played(snapshot(), frame)
    assert play.states == [START, OK, GAP]
    assert play.of(UNREADABLE)[0]["frame"] == frame.decode("utf-8", "backslashreplace")


# -- trades --------------------------------------------------------------------------------


def test_trades_before_the_subscription_are_marked_and_those_told_again_are_not_told_twice():
    play = played(kraken_trade([5, 4, 6], "snapshot"), kraken_trade([7], side="sell"), b"", kraken_trade([6, 7, 8], "snapshot"))
    told = [(int(t["trade_id"]), int(t["backfill"]), int(t["aggressor"])) for t in play.of(TRADE)]
    assert told == [(4, 1, 1), (5, 1, 1), (6, 1, 1), (7, 0, -1), (8, 1, 1)]
    assert play.stream.counts["trade_id_gaps"] == 0
    assert play.stream.counts["old"] == 2


def test_a_missing_trade_is_told_between_its_neighbours():
    play = played(snapshot(), kraken_trade([7]), kraken_trade([9], ns=START_NS + STEP_NS))
    assert play.states == [START, OK, GAP, OK]
    assert [event for event, _ in play.told][-3:] == [CHANGE, CHANGE, TRADE]
    assert play.stream.is_live
    assert play.stream.counts["trade_id_gaps"] == 1


def test_first_trade_shows_what_was_lost_since_the_session_before_unless_history_brings_it():
    before = {"trade_id": 4, "trade_ns": START_NS - STEP_NS}
    play = played(snapshot(), kraken_trade([7]), base=before)
    assert play.states == [START, OK, GAP, OK]
    assert int(play.of(CHANGE)[2]["exchange_ns"]) == START_NS - STEP_NS
    play = played(snapshot(), kraken_trade([3, 4, 5, 6], "snapshot"), kraken_trade([7]), base=before)
    assert play.states == [START, OK]
    assert [int(trade["trade_id"]) for trade in play.of(TRADE)] == [5, 6, 7]


# -- names ---------------------------------------------------------------------------------


def test_names_go_there_and_back():
    for raw, symbol in (("BTC/USD", "BTC-USD"), ("DOGE/USDT", "DOGE-USDT")):
        assert canonical_symbol("kraken", raw) == symbol
        assert raw_symbol("kraken", symbol) == raw
        assert adapter("kraken", raw).symbol == symbol
    assert Kraken("XBT/USD").raw_symbol == "BTC/USD"
    for wrong in ("BTCUSD", "BTC-USD", "BTC/USD/X"):
        with pytest.raises(WrongVenueError):
            adapter("kraken", wrong)
    with pytest.raises(WrongVenueError):
        raw_symbol("kraken", "BTC-USD-PERP")


def test_frames_are_what_json_says_they_are():
    # The made-up frames are JSON as the venue's are.
    assert json.loads(snapshot())["data"][0]["checksum"] == kraken_checksum(BIDS, ASKS)
