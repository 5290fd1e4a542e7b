"""Coinbase Advanced Trade: books equal to a naive book, numbers of a connection, trades newest first."""

import json
import random
from functools import partial

import numpy as np
import pytest

from tasks.venues import coinbase_advanced
from tasks.venues.coinbase_advanced import CoinbaseAdvanced
from tasks.venues.coinbase_advanced_wire import AdvancedWire
from tasks.venues.events import BOOK, CHANGE, QUOTE, TRADE, UNREADABLE
from tests.advanced_frames import VENUE, WHOLE, book, message, played, states, ticker, trades
from tests.captures import SHARED
from tests.coinbase_feed import START_NS, Naive, Play, advanced, iso, levels_of
from warehouse.schema import CROSSED, GAP, OK, START

FIXTURES = SHARED / "fixtures" / "coinbase_advanced"


# -- whole streams -------------------------------------------------------------------------


def test_every_row_equals_a_naive_book():
    symbols = ("BTC-USD", "ETH-USD")
    play, naive, n = Play(VENUE, symbols), {symbol: Naive() for symbol in symbols}, 0
    for receive_ns, frame in advanced(symbols, seconds=10, seed=3):
        data = json.loads(frame)
        for event in data["events"]:
            if data["channel"] == "l2_data":
                naive[event["product_id"]].fold({"channel": "l2_data", "events": [event]})
                n += 1
        for symbol, event, row in play.feed(receive_ns, frame):
            if event == BOOK:
                np.testing.assert_array_equal(levels_of(row), naive[symbol].best())
    assert n == sum(len(play.of(BOOK, symbol)) for symbol in symbols) > 300
    for symbol in symbols:
        counts = play.streams[symbol].counts
        assert states(play, symbol) == [START, OK]
        assert not any(counts[name] for name in ("gaps", "crossed", "old", "unreadable", "stray", "suspects", "trade_id_gaps"))
        ids = [int(trade["trade_id"]) for trade in play.of(TRADE, symbol)]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        assert len(play.of(QUOTE, symbol)) > 20
        play.assert_numbered(symbol)


def _lines(name):
    path = FIXTURES / name
    return path.read_bytes().splitlines() if path.is_file() else []


TRADES = _lines("market_trades_btcusd_20260812.jsonl") or [
    message("market_trades", trades("snapshot", *range(1069726291, 1069726286, -1), price="63310.25"), number=0),
    message("subscriptions", {"subscriptions": {"market_trades": ["BTC-USD"]}}, number=1),
    message("market_trades", trades("update", 1069726293, 1069726292, price="63310.25"), number=2),
]


def test_captured_trades_come_oldest_first_and_the_history_is_marked():
    play = Play(VENUE, ["BTC-USD"])
    for i, frame in enumerate(TRADES):
        play.feed(i, frame)
    told = play.of(TRADE)
    assert [int(trade["trade_id"]) for trade in told] == list(range(1069726287, 1069726294))
    assert [int(trade["backfill"]) for trade in told] == [1] * 5 + [0] * 2
    assert {float(trade["price"]) for trade in told} == {63310.25}
    assert play.streams["BTC-USD"].counts["trade_id_gaps"] == play.streams["BTC-USD"].counts["unreadable"] == 0


def test_captured_ack_after_the_data_is_heard():
    wire = AdvancedWire()
    opened = wire.connection(wire.lines(["BTC-USD"], "ws://here")[0])
    heard = [opened.receive(frame) for frame in TRADES]
    assert [list(one.acked) for one in heard] == [[], ["market_trades:BTC-USD"], []]
    assert [len(one.frames) for one in heard] == [1, 0, 1]


def test_captured_tickers_are_quotes():
    frames = _lines("ticker_btcusd_20260812.jsonl") or [message("ticker", ticker("63320.73", "63320.74", "0.12636254", "0.49679101"))]
    play = Play(VENUE, ["BTC-USD"])
    for i, frame in enumerate(frames):
        play.feed(i, frame)
    quote = play.of(QUOTE)[0]
    assert (quote["px"].tolist(), quote["sz"].tolist()) == ([63320.73, 63320.74], [0.12636254, 0.49679101])


def test_made_up_sample_with_client_id_is_read():
    frames = _lines("SYNTHETIC_l2_data_heartbeats_nautilus.jsonl")
    stream = CoinbaseAdvanced("BTC-USD")
    told = [list(stream.receive(frame, 1)) for frame in frames]  # its numbers are not those of a connection
    assert stream.counts["unreadable"] == 0
    if told:
        assert [event for events in told for event in events] == [CHANGE, CHANGE, BOOK, BOOK, TRADE, TRADE]
        assert stream.row["ask_px"][0, 0] == 68901.5


# -- one rule each ---------------------------------------------------------------------------


def test_asks_are_called_offers_and_the_time_of_a_snapshot_is_the_messages():
    (row,) = played(("l2_data", WHOLE)).of(BOOK)
    assert (row["ask_px"][0], row["ask_sz"][0], row["bid_px"][1]) == (100.5, 2.0, 99.4)
    assert row["exchange_ns"] == START_NS


def test_time_of_an_update_is_that_of_its_newest_level():
    event = book("update", ("bid", "99.60", "1"), ns=START_NS + 5_000)
    event["updates"].append({**event["updates"][0], "price_level": "99.30", "event_time": iso(START_NS + 4_000)})
    assert played(("l2_data", WHOLE), ("l2_data", event)).of(BOOK)[1]["exchange_ns"] == START_NS + 5_000


def test_every_event_of_a_message_is_applied_and_those_of_others_are_not():
    others = book("update", ("bid", "99.99", "9"), product="ETH-USD")
    play = played(("l2_data", WHOLE), ("l2_data", book("update", ("bid", "99.60", "1")), others, book("update", ("bid", "99.70", "1"))))
    assert [row["bid_px"][0] for row in play.of(BOOK)] == [99.5, 99.6, 99.7]
    assert play.streams["BTC-USD"].counts["unreadable"] == 0


def test_message_of_several_products_reaches_each():
    symbols = ("BTC-USD", "ETH-USD")
    both = (WHOLE, book("snapshot", ("bid", "5.00", "1.0"), ("offer", "6.00", "2.0"), product="ETH-USD"))
    play = played(("l2_data", *both), ("market_trades", trades("update", 1), trades("update", 1, product="ETH-USD")), symbols=symbols)
    assert [len(play.of(event, symbol)) for event in (BOOK, TRADE) for symbol in symbols] == [1, 1, 1, 1]


def test_product_in_usdc_shows_the_book_of_its_twin():
    symbols = ("BTC-USD", "BTC-USDC", "USDT-USDC")
    play = played(("l2_data", WHOLE), symbols=symbols)
    assert [len(play.of(BOOK, symbol)) for symbol in symbols] == [1, 1, 0]
    wire = AdvancedWire()
    acked = wire.connection(wire.lines(symbols, "ws://here")[0]).receive(
        message("subscriptions", {"subscriptions": {"level2": ["BTC-USD", "USDT-USDC"]}})
    )  # fmt: skip
    assert acked.acked == ["level2:BTC-USD", "level2:BTC-USDC", "level2:USDT-USDC"]


def test_aggressor_is_the_other_side_of_what_is_told_and_one_switch_turns_it(monkeypatch):
    for tells_maker, buy in ((True, -1), (False, 1)):
        monkeypatch.setattr(coinbase_advanced, "TELLS_MAKER_SIDE", tells_maker)
        play = played(("market_trades", trades("update", 1, side="BUY")), ("market_trades", trades("update", 2, side="SELL")))
        assert [int(trade["aggressor"]) for trade in play.of(TRADE)] == [buy, -buy]


def test_history_that_was_seen_is_not_told_again():
    play = played(
        ("market_trades", trades("snapshot", 5, 4, 3)),
        ("market_trades", trades("update", 7, 6)),
        ("market_trades", trades("snapshot", 8, 7, 6)),
    )
    assert [(int(trade["trade_id"]), int(trade["backfill"])) for trade in play.of(TRADE)] == [
        (3, 1),
        (4, 1),
        (5, 1),
        (6, 0),
        (7, 0),
        (8, 1),
    ]
    assert play.streams["BTC-USD"].counts["trade_id_gaps"] == 0


def test_missed_trade_is_told_before_the_next_one():
    play = played(("l2_data", WHOLE), ("market_trades", trades("update", 5)), ("market_trades", trades("update", 9, 8)))
    assert states(play) == [START, OK, GAP, OK]
    assert [int(trade["trade_id"]) for trade in play.of(TRADE)] == [5, 8, 9]


def test_crossed_book_that_stays_is_lost():
    still = [("l2_data", book("update", ("bid", "90.00", str(n)), ns=START_NS + n * 100_000_000)) for n in range(1, 9)]
    play = played(("l2_data", WHOLE), ("l2_data", book("update", ("bid", "101.00", "1"))), *still)
    assert states(play) == [START, OK, CROSSED, GAP]
    assert play.streams["BTC-USD"].needs_snapshot


def test_ticker_that_contradicts_the_touch_twice_makes_the_book_doubtful():
    play = Play(VENUE, ["BTC-USD"])
    for n in range(12):
        ns = START_NS + n * 10**9
        event = (
            ("ticker", ticker("99.40", "100.50", "3.0"))
            if n % 2
            else ("l2_data", book("update", ("bid", "90.00", "1"), ns=ns) if n else WHOLE)
        )
        play.feed(ns, message(*event, number=n, ns=ns))
    assert states(play) == [START, OK, GAP]
    assert play.streams["BTC-USD"].counts["suspects"] == len(play.streams["BTC-USD"].doubts) == 1


def test_time_that_leaps_is_no_time():
    for seconds in (-30, 900):
        play = played(
            ("l2_data", WHOLE),
            ("l2_data", book("update", ("bid", "99.60", "1"), ns=START_NS + 10**6)),
            ("l2_data", book("update", ("bid", "99.70", "1"), ns=START_NS + seconds * 10**9)),
        )
        assert states(play) == [START, OK, GAP]
        assert len(play.of(BOOK)) == 2


# -- frames that cannot be read, and faults ----------------------------------------------------


SAMPLE = [
    message("l2_data", WHOLE, number=1),
    message("l2_data", book("update", ("bid", "99.60", "1.0"), ("offer", "100.40", "0")), number=1),
    TRADES[-1],
    message("ticker", ticker("99.50", "100.50"), number=1),
    message("heartbeats", {"current_time": "2026-01-01", "heartbeat_counter": 5}, number=1),
]


@pytest.mark.parametrize("frame", SAMPLE, ids=lambda frame: json.loads(frame)["channel"])
def test_a_frame_cut_at_any_byte_is_kept_counted_and_ends_nothing(frame):
    wire = AdvancedWire()
    line = wire.lines(["BTC-USD", "ETH-USD"], "ws://here")[0]
    for at in range(1, len(frame)):
        stream, opened = CoinbaseAdvanced("BTC-USD"), wire.connection(line)
        list(stream.receive(SAMPLE[0], 1_000))
        opened.receive(message("heartbeats", {}))
        heard = opened.receive(frame[:at])
        assert heard.frames == (("BTC-USD", b""), ("ETH-USD", b""), ("BTC-USD", frame[:at]))
        events = [event for symbol, part in heard.frames if symbol == "BTC-USD" for event in stream.receive(part, 2_000)]
        assert events == [CHANGE, UNREADABLE]
        assert stream.unreadable["frame"] == frame[:at].decode()
        assert stream.state == GAP
        alone = CoinbaseAdvanced("BTC-USD")
        assert list(alone.receive(frame[:at], 1))[-1] == UNREADABLE


@pytest.mark.parametrize(
    "event",
    [
        book("update", ("ask", "99.60", "1")), book("update", ("bid", "0", "1")), book("update", ("bid", "x", "1")),
        book("update", ("bid", "99.60", "-1")), book("update", ("bid", "99.60", None)), book("", ("bid", "99.60", "1")),
        book("snapshot", ("bid", "99.6o", "1")), {"type": "update", "product_id": "BTC-USD", "updates": [{}]},
    ],
)  # fmt: skip
def test_what_may_have_been_a_change_makes_the_book_doubtful(event):
    play = Play(VENUE, ["BTC-USD"])
    play.give("BTC-USD", START_NS, message("l2_data", WHOLE))
    assert [told for told, _ in play.give("BTC-USD", START_NS + 1, message("l2_data", event))] == [CHANGE, UNREADABLE]
    assert states(play) == [START, OK, GAP]


@pytest.mark.parametrize(
    ("channel", "event"),
    [
        ("market_trades", trades("update", "x")), ("market_trades", trades("update", 10**30)), ("market_trades", trades("update", -1)),
        ("market_trades", trades("update", 5, price="0")), ("market_trades", trades("update", 5, side="UP")), ("ticker", ticker("x", "5")),
    ],
)  # fmt: skip
def test_what_cannot_have_been_a_change_leaves_the_book_alone(channel, event):
    play = played(("l2_data", WHOLE), (channel, event))
    assert len(play.of(UNREADABLE)) == 1
    assert states(play) == [START, OK]


def _hurt(frames, fault, rng):
    at = rng.randrange(20, len(frames) - 20)
    stamp, frame = frames[at]
    new = {"drop": [], "repeat": [frame, frame], "cut": [frame[: rng.randrange(1, len(frame))]], "swap": [frames[at + 1][1], frame]}[fault]
    return [*frames[:at], *((stamp, one) for one in new), *frames[at + 1 + (fault == "swap") :]], stamp


@pytest.mark.parametrize("fault", ["drop", "repeat", "cut", "swap"])
def test_any_fault_of_one_message_is_told_before_a_row(fault):
    frames = advanced(("BTC-USD", "ETH-USD"), seconds=4, seed=7)
    clean = Play(VENUE, ("BTC-USD", "ETH-USD"))
    for receive_ns, frame in frames:
        clean.feed(receive_ns, frame)
    right = {symbol: [levels_of(row) for row in clean.of(BOOK, symbol)] for symbol in clean.streams}
    for seed in range(15):
        hurt, stamp = _hurt(frames, fault, random.Random(f"{fault}{seed}"))
        play = Play(VENUE, ("BTC-USD", "ETH-USD"))
        for receive_ns, frame in hurt:
            play.feed(receive_ns, frame)
        for symbol, want in right.items():
            rows = play.of(BOOK, symbol)
            np.testing.assert_array_equal([levels_of(row) for row in rows], want[: len(rows)])
            assert states(play, symbol)[:3] == ([START, OK] if fault == "repeat" else [START, OK, GAP])
            assert set(states(play, symbol)[3:]) <= {GAP}  # of trades that were lost with it
            assert len(rows) == len(want) or (fault != "repeat" and all(row["receive_ns"] <= stamp for row in rows))


def test_typed_reading_survives_random_bytes():
    rng, stream = random.Random(11), CoinbaseAdvanced("BTC-USD")
    feed = partial(stream.receive, receive_ns=1)
    for frame in SAMPLE * 40:
        body = bytearray(frame)
        for _ in range(rng.randint(1, 4)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        list(feed(bytes(body)))
    assert stream.counts["messages"] == len(SAMPLE) * 40
