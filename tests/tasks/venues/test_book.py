from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings

from tasks.venues.binance import Binance
from tasks.venues.book import LEVELS, WINDOW
from tasks.venues.events import BOOK
from tests import wire
from tests.captures import CAPTURES, THIN
from tests.naive import NaiveBinance, NaiveBook
from tests.strategies import level_streams

CONTRACT_USD = {"binance_coinm": 100.0}


def all_levels(stream, side):
    """Return every level the compiled book holds, window and far table together, as exact price -> size."""
    book, far = stream._book[0], stream._far
    bits = np.unpackbits(book["bits"][side].view(np.uint8), bitorder="little")
    slots = np.flatnonzero(bits)
    ticks = [*(book["base"][side] + slots).tolist(), *(far["key"][(far["used"] == 1) & (far["key"] & 1 == side)] >> 1).tolist()]
    sizes = [*book["sizes"][side][slots].tolist(), *far["size"][(far["used"] == 1) & (far["key"] & 1 == side)].tolist()]
    assert len(ticks) == len(set(ticks)) == book["n"][side] + book["n_far"][side]
    sign, unit = 1 - 2 * side, int(book["tick"])
    return {Decimal(sign * tick * unit).scaleb(-int(book["decimals"])): size for tick, size in zip(ticks, sizes, strict=True)}


def assert_row_shows(row, oracle, contract_usd=0.0):
    for side, name in enumerate(("bid", "ask")):
        best = oracle.best(side, LEVELS)
        prices = [float(price) for price, _ in best]
        sizes = [float(size) * contract_usd / float(price) if contract_usd else float(size) for price, size in best]
        assert row[f"{name}_px"][: len(best)].tolist() == prices
        assert row[f"{name}_sz"][: len(best)].tolist() == sizes
        assert np.isnan(row[f"{name}_px"][len(best) :]).all()
        assert not row[f"{name}_sz"][len(best) :].any()


def assert_all_levels(stream, oracle):
    for side in range(2):
        assert all_levels(stream, side) == {price: float(size) for price, size in oracle.sizes[side].items()}


def compare(capture, n_depth, every):
    stream, oracle, compared = Binance(capture.venue, capture.raw_symbol), NaiveBinance(capture.venue), 0
    for receive_ns, frame in capture.frames(n_depth):
        rows = [stream.row[0].copy() for event in stream.receive(frame, receive_ns) if event == BOOK]
        ids = oracle.receive(frame)
        assert [row["update_id"] for row in rows] == ids
        if ids:
            assert_row_shows(rows[-1], oracle.book, CONTRACT_USD.get(capture.venue, 0.0))
            compared += 1
            if compared % every == 0:
                assert_all_levels(stream, oracle.book)
    assert_all_levels(stream, oracle.book)
    return compared


@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_book_equals_exact_decimals_after_each_message(capture):
    assert compare(capture, 1500, every=100) > 350


@pytest.mark.slow
@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_book_equals_exact_decimals_to_the_end(capture):
    assert compare(capture, None, every=500) >= capture.checks


@pytest.mark.parametrize("capture", THIN, ids=str)
def test_books_of_thin_markets_join_and_equal_exact_decimals(capture):
    assert compare(capture, None, every=1) >= 1


class Fed:
    """A live stream and its oracle, fed with levels."""

    def __init__(self, venue="binance_spot"):
        self.venue, self.update_id = venue, 10
        self.stream, self.oracle = Binance(venue, wire.RAW[venue]), NaiveBook()
        assert [*self.stream.receive(wire.snapshot(venue, 10), 1)] == []

    def feed(self, message):
        """Apply `(side, price, size)` triples as one depth event; check the row."""
        self.update_id += 1
        sides = [[(price, size) for at, price, size in message if at == side] for side in range(2)]
        for side in range(2):
            for price, size in sides[side]:
                self.oracle.apply(side, price, size)
        frame = wire.depth(self.venue, self.update_id, self.update_id, *sides)
        assert [*self.stream.receive(frame, 1)][-1] == BOOK
        row = self.stream.row[0]
        assert row["update_id"] == self.update_id
        assert_row_shows(row, self.oracle, CONTRACT_USD.get(self.venue, 0.0))
        assert (row["doubt"] != 0) == self.oracle.is_crossed

    def feed_and_compare_all(self, message):
        self.feed(message)
        assert_all_levels(self.stream, self.oracle)


@given(level_streams())
@settings(max_examples=150, deadline=None)
def test_no_level_is_lost_whatever_comes(stream):
    fed = Fed()
    for message in stream:
        fed.feed_and_compare_all(message)


@pytest.mark.slow
@given(level_streams(messages=40, levels=20))
@settings(max_examples=150, deadline=None)
def test_no_level_is_lost_in_long_streams(stream):
    fed = Fed("binance_coinm")
    for message in stream:
        fed.feed_and_compare_all(message)


@pytest.mark.parametrize("leap", [WINDOW // 4, WINDOW - 1, WINDOW, WINDOW + 1, 7 * WINDOW])
@pytest.mark.parametrize("side", [0, 1])
def test_levels_that_leave_the_window_come_back(side, leap):
    fed, sign, centre = Fed(), 1 - 2 * side, 100 * WINDOW
    fed.feed_and_compare_all([(side, str(centre - sign * i), str(i + 1)) for i in range(30)])
    for _ in range(2):  # up beyond the window, down again level by level, and once more
        fed.feed_and_compare_all([(side, str(centre + sign * (leap + i)), "5") for i in range(25)])
        fed.feed_and_compare_all([(side, str(centre + sign * (leap + i)), "0") for i in range(25)])
        assert fed.stream.row["bid_px" if side == 0 else "ask_px"][0, 0] == centre


def test_thin_book_reaches_beyond_the_window_for_its_twenty_levels():
    fed = Fed()
    for i in range(1, 40):
        fed.feed_and_compare_all([(0, str(10_000_000 - i * WINDOW // 2), str(i)), (1, str(10_000_000 + i * i * WINDOW // 3), str(i))])
    assert np.isfinite(fed.stream.row["bid_px"]).all()
    for i in range(1, 40):
        fed.feed_and_compare_all([(0, str(10_000_000 - i * WINDOW // 2), "0"), (1, str(10_000_000 + i * i * WINDOW // 3), "0")])
    assert np.isnan(fed.stream.row["ask_px"]).all()


def test_finer_ticks_and_more_decimals_keep_all_levels():
    fed = Fed()
    fed.feed_and_compare_all([(0, str(60_000 - 50 * i), "1") for i in range(40)] + [(1, str(60_050 + 50 * i), "2") for i in range(40)])
    assert fed.stream._book["tick"] == 50
    for size, price in enumerate(("59995", "59999.5", "59999.75", "60000.00000000", "0.00000001", "60010.12345678")):
        fed.feed_and_compare_all([(0, price, str(size))])
    fed.feed_and_compare_all([(1, "60000.00000001", "1"), (1, "89000000.5", "1")])


def test_far_table_grows_with_the_book():
    fed, n = Fed(), 25_000
    for start in range(0, n, 5000):  # each message wider than the scanner's room, so through the JSON path too
        fed.feed([(side, str(40_000_000 + (1 - 2 * side) * -100 * i), "1.5") for i in range(start + 1, start + 5001) for side in range(2)])
    assert_all_levels(fed.stream, fed.oracle)
    assert fed.stream._far.size >= 2 * 2 * n * 0.9
    for start in range(0, n, 1000):
        fed.feed([(side, str(40_000_000 + (1 - 2 * side) * -100 * i), "0") for i in range(start + 1, start + 1001) for side in range(2)])
    assert_all_levels(fed.stream, fed.oracle)
    assert not fed.stream._far["used"].any()


def test_two_wide_sides_in_one_message_never_fill_the_table():
    fed = Fed()
    fed.feed_and_compare_all([(side, str(3_000_000_000 + (1 - 2 * side) * -20_000 * i), "1") for i in range(1, 2048) for side in range(2)])
    assert (fed.stream._book["n_far"].sum() * 2) <= fed.stream._far.size
    fed.feed_and_compare_all([(0, "7", "0"), (1, "999999", "0")])


def test_removing_what_is_not_held_changes_nothing():
    fed = Fed()
    fed.feed_and_compare_all([(0, "100.5", "0"), (1, "101", "0.000")])
    fed.feed_and_compare_all([(0, "100.5", "1"), (1, "101", "2")])
    fed.feed_and_compare_all([(side, price, "0") for side, held in ((0, "101"), (1, "100.5")) for price in ("1", "0.5", held, "90000000")])


def test_the_last_of_several_updates_of_one_price_counts():
    fed = Fed()
    fed.feed_and_compare_all([(0, "100", size) for size in "103"] + [(1, "101", size) for size in "450"])
    fed.feed_and_compare_all([(0, "100", "0"), (0, "100", "0"), *((0, str(100 + 2 * WINDOW), size) for size in "10"), (0, "100", "2")])


def test_sides_empty_and_fill_again():
    fed = Fed("binance_coinm")
    for _ in range(3):
        fed.feed_and_compare_all([(0, "50", "1"), (1, "51", "2")])
        fed.feed_and_compare_all([(0, "50", "0")])
        fed.feed_and_compare_all([(1, "51", "0")])
        fed.feed_and_compare_all([])
        fed.feed_and_compare_all([(0, str(50 * WINDOW), "1"), (1, "1", "2")])
        fed.feed_and_compare_all([(0, str(50 * WINDOW), "0"), (1, "1", "0")])


def test_books_cross_and_uncross():
    fed = Fed()
    fed.feed_and_compare_all([(0, "100", "1"), (1, "101", "1")])
    fed.feed_and_compare_all([(0, "101", "1")])
    fed.feed_and_compare_all([(0, str(101 + 3 * WINDOW), "1")])
    fed.feed_and_compare_all([(1, str(102 + 3 * WINDOW), "1"), (1, "101", "0"), (0, "101", "0")])


def test_prices_too_high_for_eight_decimals_are_still_exact():
    # BTC against a weak currency, with the eight decimals that spot always writes.
    fed = Fed()
    fed.feed_and_compare_all([(0, "89000000.00000000", "1.00000000")])
    fed.feed_and_compare_all([(1, "1700000000.50000000", "1.00000000")])
    fed.feed_and_compare_all([(0, "89000000.25000000", "2.00000000"), (1, "1700000000.50000000", "0.00000000")])
    fed.feed_and_compare_all([(0, "0.00000700", "2.00000000")])


def test_symbols_must_have_a_length_that_fits():
    for symbol in ("", "X" * 64):
        with pytest.raises(ValueError, match="symbol must have"):
            Binance("binance_spot", symbol)
