"""OKX v5: books by their numbers, or by their checksums where a recording has them; contracts in base units."""

import json
import re

import numpy as np
import pytest

from tasks.venues.events import BOOK, CHANGE, TRADE, UNREADABLE
from tasks.venues.okx import Okx
from tests.captures import SHARED
from tests.checked_feed import START_NS, STEP_NS, NaiveOkx, OkxFeed, okx_book, okx_trade
from tests.damage import DAMAGES, Play, assert_told_in_order, corrupt, damaged, levels_of, naive_levels
from warehouse.schema import CROSSED, GAP, OK, STALE, START

CAPTURE = SHARED / "fixtures" / "okx_v5" / "books_trades_tickers_20220513.txt"
NAMES = ("BTC-USD-220527", "UNI-USD-SWAP", "BTC-USDT")
UNIT = {"BTC-USD-220527": 100.0, "UNI-USD-SWAP": 10.0}
BIDS, ASKS = [("99", "1.5"), ("98.5", "2")], [("99.5", "2"), ("100", "1")]
MS = START_NS // 10**6


def _captured():
    found = {name: [] for name in NAMES}
    for line in CAPTURE.read_bytes().splitlines():
        stamp, _, frame = line.partition(b" ")
        found[re.search(rb'"instId":"([^"]+)"', frame)[1].decode()].append((int(stamp), frame))
    return found


REAL = _captured() if CAPTURE.is_file() else {}
STREAMS = {
    "numbered": ("BTC-USDT", [(START_NS + i * STEP_NS, f) for i, f in enumerate(OkxFeed(1, 300).frames)]),
    "checked": ("BTC-USDT", [(START_NS + i * STEP_NS, f) for i, f in enumerate(OkxFeed(2, 300, numbered=False).frames)]),
    "thin": ("BTC-USDT", [(START_NS + i * STEP_NS, f) for i, f in enumerate(OkxFeed(3, 100, False, levels=4).frames)]),
    **{name: (name, frames) for name, frames in REAL.items()},
}


def snapshot(seq=10, ms=MS, bids=BIDS, asks=ASKS, **told):
    return okx_book("snapshot", bids, asks, ms, checksum=0, prevSeqId=-1, seqId=seq, **told)


def update(previous, seq, bids=(), asks=(), ms=MS + 100, **told):
    return okx_book("update", bids, asks, ms, checksum=0, prevSeqId=previous, seqId=seq, **told)


def played(*frames, name="BTC-USDT", **given):
    play = Play(Okx(name, **given))
    for i, frame in enumerate(frames):
        play.feed(START_NS + i * STEP_NS, frame)
    return play


# -- whole streams -------------------------------------------------------------------------


@pytest.mark.parametrize("name", STREAMS)
def test_every_row_equals_a_naive_book(name):
    symbol, frames = STREAMS[name]
    play, naive, rows = played(name=symbol), NaiveOkx(), 0
    for receive_ns, frame in frames:
        ms = naive.receive(frame)
        new = [row for event, row in play.feed(receive_ns, frame) if event == BOOK]
        assert len(new) == (ms is not None)
        for row in new:
            expected = naive_levels(naive.book)
            if symbol in UNIT:
                expected[1::2] *= UNIT[symbol] / np.where(np.isnan(expected[::2]), 1.0, expected[::2])
            np.testing.assert_allclose(levels_of(row), expected, rtol=1e-15)
            assert row["exchange_ns"] == int(ms) * 10**6
            rows += 1
    counts = play.stream.counts
    assert play.states == [START, OK]
    assert counts["book_updates"] == rows > 50
    assert counts["checksum_failures"] == counts["unreadable"] == counts["old"] == naive.failures == 0
    assert name == "numbered" or naive.matches == rows
    play.assert_numbered()


@pytest.mark.skipif(not REAL, reason="no captures beside the project")
def test_all_checksums_of_the_capture_are_right_and_its_trades_whole():
    plays = {name: played(name=name) for name in NAMES}
    for name, frames in REAL.items():
        for receive_ns, frame in frames:
            plays[name].feed(receive_ns, frame)
    assert sum(len(play.of(BOOK)) for play in plays.values()) == 290
    assert sum(play.stream.counts["trade_id_gaps"] for play in plays.values()) == 0
    for name, play in plays.items():
        told = [t for _, f in REAL[name] if b'"channel":"trades"' in f for t in json.loads(f).get("data", [])]
        trades = play.of(TRADE)
        assert [int(trade["trade_id"]) for trade in trades] == [int(t["tradeId"]) for t in told]
        assert [int(trade["aggressor"]) for trade in trades] == [1 if t["side"] == "buy" else -1 for t in told]
        sizes = [float(t["sz"]) * (UNIT[name] / float(t["px"]) if name in UNIT else 1.0) for t in told]
        np.testing.assert_allclose([float(trade["size"]) for trade in trades], sizes, rtol=1e-15)
        # Each began with the last trade before the subscription, seconds old.
        assert [int(trade["backfill"]) for trade in trades] == [1] + [0] * (len(trades) - 1)


@pytest.mark.skipif(not REAL, reason="no captures beside the project")
def test_samples_of_2026_are_read():
    folder = CAPTURE.parent
    for name, sizes in (("BTC-USDT-SWAP", [0.01, 0.3495]), ("BTC-USDT", [0.00240857, 0.06681896])):
        frames = [f for f in (folder / "trades_20260812.jsonl").read_bytes().splitlines() if b'"%s"' % name.encode() in f]
        play = played(*frames, name=name)
        np.testing.assert_allclose([float(trade["size"]) for trade in play.of(TRADE)], sizes, rtol=1e-15)
        assert play.states == [START]
    other = [f for f in (folder / "books5_20260812.jsonl").read_bytes().splitlines() if b'"BTC-USDT"' in f]
    assert played(*other).told == []  # another channel
    sample = (folder / "DOCSAMPLE_books_seqid_bbo_nautilus.jsonl").read_bytes().splitlines()
    numbered = [re.sub(rb'"checksum":-?\d+', b'"checksum":0', frame) for frame in sample]
    assert [int(row["update_id"]) for row in played(*numbered).of(BOOK)] == [123456, 123457]
    assert played(*sample).stream.counts["checksum_failures"] == 1  # that of the sample is made up


# -- damage --------------------------------------------------------------------------------


def _captured_with_numbers():
    # What the venue sends today of the book it sent in 2022.
    name, frames = "BTC-USDT", [frame for _, frame in REAL["BTC-USDT"] if b'"action"' in frame]
    feed, naive = OkxFeed(0, 1), NaiveOkx()
    feed.frames, feed.whole = [], []
    for i, frame in enumerate(frames):
        numbers = b'"checksum":0,"prevSeqId":%d,"seqId":%d' % (1000 + 3 * i - 3 if i else -1, 1000 + 3 * i)
        feed.frames.append(re.sub(rb'"checksum":-?\d+', numbers, frame))
        naive.receive(frame)
        sides = [[naive.texts[side, price] for price, _ in naive.book.best(side, 400)] for side in range(2)]
        feed.whole.append(snapshot(1000 + 3 * i, int(json.loads(frame)["data"][0]["ts"]), *sides, name=name))
    return feed


@pytest.mark.parametrize("name", [name for name in DAMAGES if name != "corrupt"])
def test_no_damage_to_numbered_books_makes_a_wrong_row(name):
    gaps, feeds = 0, [OkxFeed(seed, 40) for seed in range(10)] + ([_captured_with_numbers()] if REAL else [])
    for seed in range(80):
        play, wrong, last = damaged(feeds[seed % len(feeds)], lambda: Okx("BTC-USDT"), NaiveOkx(), DAMAGES[name], seed)
        assert wrong == []
        assert_told_in_order(play)
        np.testing.assert_array_equal(levels_of(play.of(BOOK)[-1]), levels_of(last))
        gaps += play.stream.counts["gaps"]
        assert name != "repeat" or play.stream.counts["old"] == 1
    assert gaps == 0 if name == "repeat" else gaps >= 80


@pytest.mark.parametrize("name", ["prevSeqId", "seqId"])
def test_a_wrong_digit_in_a_number_breaks_the_chain(name):
    def damage(frames, i, rng):
        corrupt(frames, i, rng, rb'"%s":\d+' % name.encode())

    for seed in range(60):
        play, wrong, _ = damaged(OkxFeed(seed, 40), lambda: Okx("BTC-USDT"), NaiveOkx(), damage, seed)
        assert wrong == []
        assert_told_in_order(play)
        assert play.stream.counts["gaps"] == 1


@pytest.mark.parametrize("name", DAMAGES)
def test_no_damage_to_books_with_checksums_makes_a_wrong_row(name):
    gaps = 0
    for seed in range(60):
        play, wrong, last = damaged(OkxFeed(seed, 40, numbered=False), lambda: Okx("BTC-USDT"), NaiveOkx(), DAMAGES[name], seed)
        assert wrong == []
        assert_told_in_order(play)
        np.testing.assert_array_equal(levels_of(play.of(BOOK)[-1]), levels_of(last))
        gaps += play.stream.counts["gaps"]
    assert gaps > 20


def test_frames_cut_at_every_byte_are_kept_and_counted():
    frames = [snapshot(), update(10, 12, [("99", "1")]), okx_trade(5), b"pong"]
    frames.append(b'{"event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"},"connId":"a5ee8533"}')
    frames += [frame for _, frame in REAL.get("BTC-USDT", [])[6:12]]
    for frame in frames:
        play, n = played(snapshot()), 0
        for n in range(1, min(len(frame), 2500)):
            news = play.feed(START_NS + n, frame[:n])
            assert [event for event, _ in news if event != CHANGE] == [UNREADABLE]
            assert news[-1][1]["frame"] == frame[:n].decode()
        assert play.stream.counts["unreadable"] == n
        assert play.states == [START, OK, GAP]
        play.feed(START_NS + n, snapshot(20))
        assert play.states[-1] == OK


# -- numbers of the book ---------------------------------------------------------------------


def test_a_gap_is_told_before_any_row_and_updates_wait_for_a_snapshot():
    frames = snapshot(10), update(10, 12, [("99", "3")]), update(13, 15, [("99", "4")]), update(15, 16), snapshot(40, MS + 400)
    play = played(*frames, update(40, 41))
    assert play.states == [START, OK, GAP, OK]
    assert [int(row["update_id"]) for row in play.of(BOOK)] == [10, 12, 40, 41]
    gap = play.of(CHANGE)[2]
    assert (gap["expected_id"], gap["received_id"]) == (12, 13)
    assert gap["exchange_ns"] == (MS + 100) * 10**6
    assert play.stream.counts["old"] == play.stream.counts["resyncs"] == 1
    assert not play.stream.needs_snapshot


def test_an_empty_update_with_equal_numbers_keeps_the_book_alive():
    frames = [(0, snapshot(10)), (25_000, update(10, 10, ms=MS + 25_000)), (50_000, update(10, 14, [("99", "3")], ms=MS + 50_000))]
    play, silent = Play(Okx("BTC-USDT")), Play(Okx("BTC-USDT"))
    for ms, frame in frames:
        play.feed(START_NS + ms * 10**6, frame)
    for ms, frame in frames[::2]:
        silent.feed(START_NS + ms * 10**6, frame)
    assert play.states == [START, OK]
    assert [int(row["update_id"]) for row in play.of(BOOK)] == [10, 14]
    assert silent.states == [START, OK, STALE, OK]


def test_numbers_may_begin_anew_after_maintenance():
    play = played(snapshot(10), update(10, 3, [("99", "3")]), update(3, 5, [("99", "4")]))
    assert play.states == [START, OK]
    assert [int(row["update_id"]) for row in play.of(BOOK)] == [10, 3, 5]


def test_an_update_told_again_is_dropped_and_so_is_a_snapshot():
    first, second = update(10, 12, [("99", "3")]), update(12, 13, [("99", "4")])
    play = played(snapshot(10), first, second, first, second, snapshot(10), update(13, 14))
    assert play.states == [START, OK]
    assert len(play.of(BOOK)) == 4
    assert play.stream.counts["old"] == 3


def test_a_number_that_is_missing_where_others_had_one_is_no_message():
    assert played(snapshot(10), okx_book("update", [("99", "3")], [], MS, checksum=0)).states == [START, OK, GAP]


def test_a_level_that_is_not_held_may_be_removed():
    play = played(snapshot(10), update(10, 12, [("90", "0"), ("99", "0")], [("100", "0")]))
    assert play.of(BOOK)[1]["bid_px"][0] == 98.5
    assert play.stream.counts["unreadable"] == 0


def test_a_book_that_an_update_crossed_and_that_stays_so_is_not_kept():
    crossing = update(10, 11, [("99.7", "1")], ms=MS + 10)
    play = played(snapshot(10), crossing, update(11, 12, ms=MS + 900), update(12, 13, ms=MS + 2000), update(13, 14, ms=MS + 2100))
    assert play.states == [START, OK, CROSSED, GAP]
    assert play.stream.counts["suspects"] == 1
    cured = played(snapshot(10), crossing, update(11, 12, [("99.7", "0")], ms=MS + 900), update(12, 13, ms=MS + 5000))
    assert cured.states == [START, OK, CROSSED, OK]


def test_a_book_may_be_crossed_before_trading_opens():
    frames = [snapshot(10, bids=[("99.7", "1")]), *(update(10 + i, 11 + i, ms=MS + 900 * i) for i in range(5))]
    assert played(*frames).states == [START, CROSSED]


def test_something_lost_is_a_gap_until_the_next_snapshot():
    play = played(snapshot(10), b"", update(10, 11), snapshot(10))
    assert play.states == [START, OK, GAP, OK]


@pytest.mark.parametrize(
    "frame",
    [
        b"[]",
        b"null",
        b"\xff",
        b"{}",
        snapshot(name="ETH-USDT"),
        snapshot().replace(b"99.5", b"-99"),
        snapshot().replace(b'"99.5","2"', b'"99.5"').replace(b',"0","1"]', b"]"),
        snapshot().replace(b'"ts":"', b'"ts":"9999'),
        update(10, 11, ms=MS - 60_000),
        b"[" * 5000,
    ],
)
def test_what_is_no_message_is_kept_and_spoils_the_book(frame):
    play = played(snapshot(), frame)
    assert play.states == [START, OK, GAP]
    assert play.of(UNREADABLE)[0]["frame"] == frame.decode("utf-8", "backslashreplace")


def test_frames_of_another_writer_of_json_are_read_too():
    spaced = [json.dumps(json.loads(frame)).encode() for frame in (snapshot(10), update(10, 11), okx_trade(5))]
    play = played(*spaced)
    assert len(play.of(BOOK)) == 2
    assert len(play.of(TRADE)) == 1
