"""What the shell is told of Coinbase Exchange's connections."""

import json

import numpy as np
import pytest

from tasks.venues.coinbase import Coinbase, canonical_symbol, raw_symbol
from tasks.venues.coinbase_wire import CoinbaseWire
from tasks.venues.errors import WrongVenueError
from tasks.venues.events import BOOK
from tests.coinbase_feed import START_NS, Naive, Play, exchange, levels_of, text
from tests.coinbase_frames import VENUE, match, update


def _opened(*symbols):
    wire = CoinbaseWire()
    return wire.connection(wire.lines(symbols or ("BTC-USD", "ETH-USD"), "ws://here")[0])


def test_lines_hold_fifty_products_and_name_all_their_streams():
    symbols = [f"A{i}-USD" for i in range(120)]
    lines = CoinbaseWire().lines(symbols, "ws://here")
    assert [len(line.symbols) for line in lines] == [50, 50, 20]
    assert [symbol for line in lines for symbol in json.loads(line.sends[0])["product_ids"]] == symbols
    assert len(lines[0].keys) == 200


def test_acks_are_cumulative_and_use_the_other_name_of_the_batched_book():
    told = {"type": "subscriptions", "channels": [{"name": "level2_50", "product_ids": ["BTC-USD"]}, {"name": "status", "product_ids": []}]}
    assert _opened().receive(text(told)).acked == ["level2_batch:BTC-USD"]


@pytest.mark.parametrize(
    ("reason", "refused"),
    [
        ("ETH-USD is not a valid product", 4),
        ("level2_batch is not available", 2),
        ("no reason at all", 7),
    ],
)
def test_error_refuses_what_it_names_or_what_was_not_confirmed(reason, refused):
    opened = _opened()
    opened.receive(text({"type": "subscriptions", "channels": [{"name": "matches", "product_ids": ["BTC-USD"]}]}))
    heard = opened.receive(text({"type": "error", "message": "Failed to subscribe", "reason": reason}))
    assert len(heard.refused) == refused
    assert reason in heard.reason


def test_frame_that_cannot_be_routed_makes_every_book_of_the_line_doubtful():
    for frame in (b"", b"{", b'{"type":"l2update"', update(["buy", "1", "1"], ns=START_NS, product="XYZ-USD")):
        heard = _opened().receive(frame)
        assert heard.frames == (("BTC-USD", b""), ("ETH-USD", b""), ("BTC-USD", frame))


def test_frame_of_odd_spacing_finds_its_symbol():
    frame = json.dumps(json.loads(match(5))).encode()
    assert _opened().receive(frame).frames == (("BTC-USD", frame),)


def test_product_cut_short_is_not_taken_for_another():
    opened = _opened("BTC-USD", "BTC-USDT")
    frame = update(["buy", "99.5", "1"], ns=START_NS, product="BTC-USDT")
    cut = frame[: frame.index(b"USDT") + 4]
    assert opened.name_of(cut) not in opened.owner
    assert ("BTC-USDT", b"") in opened.receive(cut).frames


def test_new_subscription_gives_up_the_old_one_first():
    kinds = [json.loads(message) for message in CoinbaseWire().resync("BTC-USD")]
    assert [(told["type"], told["product_ids"]) for told in kinds] == [("unsubscribe", ["BTC-USD"]), ("subscribe", ["BTC-USD"])]
    assert kinds[0]["channels"] == ["level2_batch"]


def test_many_products_on_one_connection_keep_their_books_apart():
    frames, symbols = exchange(("BTC-USD", "ETH-USD", "SOL-USD"), seconds=5, seed=2), ("BTC-USD", "ETH-USD", "SOL-USD")
    play, naive = Play(VENUE, symbols), {symbol: Naive() for symbol in symbols}
    for receive_ns, frame in frames:
        data = json.loads(frame)
        if "product_id" in data:
            naive[data["product_id"]].fold(data)
        for symbol, event, row in play.feed(receive_ns, frame):
            if event == BOOK:
                np.testing.assert_array_equal(levels_of(row), naive[symbol].best())
    assert all(len(play.of(BOOK, symbol)) > 80 for symbol in symbols)
    assert all(play.streams[symbol].counts["suspects"] == 0 for symbol in symbols)


def test_names_are_the_venues_own():
    assert canonical_symbol(VENUE, "eth-usd") == raw_symbol(VENUE, "ETH-USD") == "ETH-USD"
    for symbol in ("BTC-USD-PERP", "BTCUSD", "BTC/USD"):
        with pytest.raises(WrongVenueError, match="coinbase_exchange"):
            raw_symbol(VENUE, symbol)
        with pytest.raises(WrongVenueError):
            Coinbase(symbol)
