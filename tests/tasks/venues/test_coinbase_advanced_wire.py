"""What the shell is told of Coinbase Advanced Trade: the numbers of a connection, and whose a message is."""

import json

import pytest

from tasks.venues.coinbase_advanced import CoinbaseAdvanced, canonical_symbol, raw_symbol
from tasks.venues.coinbase_advanced_wire import AdvancedWire
from tasks.venues.errors import WrongVenueError
from tasks.venues.events import BOOK
from tests.advanced_frames import VENUE, WHOLE, book, message, states
from tests.coinbase_feed import START_NS, Play, advanced
from warehouse.schema import GAP, OK, START


def test_hole_makes_every_book_of_the_line_doubtful_before_the_next_row():
    symbols = ("BTC-USD", "ETH-USD")
    frames = advanced(symbols, seconds=3, seed=5)
    at = next(i for i, (_, frame) in enumerate(frames) if i > 40 and b'"heartbeats"' in frame)  # of no product at all
    play = Play(VENUE, symbols)
    for receive_ns, frame in [*frames[:at], *frames[at + 1 :]]:
        play.feed(receive_ns, frame)
    for symbol in symbols:
        assert states(play, symbol) == [START, OK, GAP]
        assert play.streams[symbol].needs_snapshot
        assert all(row["receive_ns"] < frames[at][0] for row in play.of(BOOK, symbol))


def test_doubled_message_is_dropped():
    frames = advanced(seconds=2, seed=5)
    play = Play(VENUE, ["BTC-USD"])
    for receive_ns, frame in frames:
        play.feed(receive_ns, frame)
        assert play.feed(receive_ns, frame) == []
    assert states(play) == [START, OK]


def test_book_that_comes_behind_a_hole_is_whole():
    play = Play(VENUE, ["BTC-USD"])
    for number in (0, 5):
        play.feed(START_NS + number, message("l2_data", WHOLE, number=number, ns=START_NS + number))
    assert states(play) == [START, OK, GAP, OK]


@pytest.mark.parametrize("channel", ["market_trades", "ticker", "status", "heartbeats"])
def test_message_of_no_product_is_nobodys_loss(channel):
    opened = AdvancedWire().connection(AdvancedWire().lines(["BTC-USD"], "ws://here")[0])
    assert opened.receive(message(channel, {})).frames == ()


@pytest.mark.parametrize("frame", [b"{", message("l2_datb"), message("l2_data", book("update", product="BTC-USE"))])
def test_what_may_have_been_anybodys_book_is_everybodys_loss(frame):
    opened = AdvancedWire().connection(AdvancedWire().lines(["BTC-USD", "ETH-USD"], "ws://here")[0])
    assert opened.receive(frame).frames == (("BTC-USD", b""), ("ETH-USD", b""), ("BTC-USD", frame))
    assert opened.receive(message("heartbeats", {}, number=1)).frames == () or frame == b"{"


def test_error_refuses_what_it_names():
    opened = AdvancedWire().connection(AdvancedWire().lines(["BTC-USD", "ETH-USD"], "ws://here")[0])
    assert len(opened.receive(b'{"type":"error","message":"ETH-USD is no product"}').refused) == 3
    opened.receive(message("subscriptions", {"subscriptions": {"level2": ["BTC-USD"]}}))
    heard = opened.receive(b'{"type":"error","message":"rate limit exceeded"}')
    assert (len(heard.refused), heard.reason) == (5, "rate limit exceeded")


def test_mark_of_a_frame_is_the_same_on_every_connection():
    opened = AdvancedWire().connection(AdvancedWire().lines(["BTC-USD"], "ws://here")[0])
    marks = {opened.mark(message("l2_data", WHOLE, number=n, ns=START_NS + n)) for n in range(3)}
    assert len(marks) == 1
    assert opened.mark(b"{}") == b"{}"


def test_lines_ask_for_one_channel_a_message():
    lines = AdvancedWire().lines([f"A{i}-USD" for i in range(45)], "ws://here")
    assert [len(line.symbols) for line in lines] == [20, 20, 5]
    asked = [json.loads(message) for message in lines[0].sends]
    assert [one["channel"] for one in asked] == ["heartbeats", "level2", "market_trades", "ticker"]
    again = [json.loads(message) for message in AdvancedWire().resync("BTC-USD")]
    assert [(one["type"], one["channel"]) for one in again[:2]] == [("unsubscribe", "level2"), ("subscribe", "level2")]


def test_names_are_the_venues_own():
    assert canonical_symbol(VENUE, "eth-usd") == raw_symbol(VENUE, "ETH-USD") == "ETH-USD"
    for wrong in ("BTC-USD-PERP", "BTC/USD"):
        with pytest.raises(WrongVenueError):
            raw_symbol(VENUE, wrong)
        with pytest.raises(WrongVenueError):
            CoinbaseAdvanced(wrong)
