import numpy as np
import pytest

from tasks.feed.witness import RestBook, UnreadableBookError, differences, read_book
from tests.captures import SHARED
from warehouse.schema import row_dtype


def rows_of(*books, update_ids=None, contract_size=0.0):
    """Return book rows from pairs of {price: size} of bids and asks."""
    rows = np.zeros(len(books), row_dtype("l2_snapshots"))
    rows["bid_px"], rows["ask_px"], rows["contract_size"] = np.nan, np.nan, contract_size
    for row, sides in zip(rows, books, strict=True):
        for side, levels, sign in (("bid", sides[0], -1), ("ask", sides[1], 1)):
            for i, price in enumerate(sorted(levels, key=lambda price: price * sign)):
                row[f"{side}_px"][i], row[f"{side}_sz"][i] = price, levels[price]
    if update_ids:
        rows["update_id"] = update_ids
    return rows


BOOK = ({100.0: 2.0, 99.0: 1.0, 98.0: 4.0}, {101.0: 1.0, 102.0: 3.0, 103.0: 5.0})


def said(rows, bids, asks, **options):
    return {(one.side, one.price) for one in differences(rows, RestBook(bids, asks, options.pop("update_id", 0)), **options)}


def test_the_same_book_is_no_difference():
    assert not said(rows_of(BOOK, BOOK), *BOOK)


def test_a_wrong_size_a_ghost_and_a_missing_level_are_each_told():
    bids, asks = {100.0: 2.0, 99.0: 1.5, 98.0: 4.0}, {102.0: 3.0, 102.5: 1.0, 103.0: 5.0}
    assert said(rows_of(BOOK, BOOK), bids, asks) == {("bid", 99.0), ("ask", 101.0), ("ask", 102.5)}


def test_what_moved_meanwhile_proves_nothing():
    later = ({100.0: 2.0, 99.0: 7.0, 98.0: 4.0}, {101.5: 1.0, 102.0: 3.0, 103.0: 5.0})
    bids, asks = {100.0: 2.0, 99.0: 3.0, 98.0: 4.0}, {101.2: 9.0, 102.0: 3.0, 103.0: 5.0}
    assert said(rows_of(BOOK, later), bids, asks) == {("ask", 101.2)}


def test_behind_what_both_show_nothing_is_known():
    assert not said(rows_of(BOOK), {100.0: 2.0}, {101.0: 1.0, 102.0: 3.0, 103.0: 5.0, 104.0: 8.0})


def test_a_book_with_the_id_of_a_row_is_held_against_that_row_alone():
    moved = ({100.0: 6.0, 99.0: 1.0, 98.0: 4.0}, BOOK[1])
    rows = rows_of(BOOK, moved, BOOK, update_ids=[7, 8, 9])
    assert not said(rows, *moved, update_id=8)
    assert said(rows, *BOOK, update_id=8) == {("bid", 100.0)}
    between = rows_of(BOOK, moved, update_ids=[7, 9])
    assert not said(between, {100.0: 5.0, 99.0: 1.0, 98.0: 4.0}, BOOK[1], update_id=8), (
        "a level that moved between the rows may be anything"
    )
    assert said(between, {100.0: 5.0, 99.0: 2.0, 98.0: 4.0}, BOOK[1], update_id=8) == {("bid", 99.0)}


def test_sizes_in_contracts_are_compared_in_base_units():
    base = ({100.0: 2.0}, {200.0: 1.0})
    assert not said(rows_of(base, contract_size=100.0), {100.0: 2.0}, {200.0: 2.0})
    assert not said(rows_of(base), {100.0: 200.0}, {200.0: 100.0}, contract_base=0.01)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"bids":1}', b'{"bids":[["x","1"]],"asks":[]}', b"\xff"])
def test_what_is_no_book_is_said_to_be_none(body):
    with pytest.raises(UnreadableBookError):
        read_book(body)


@pytest.mark.skipif(not (SHARED / "fixtures" / "rest").is_dir(), reason="the shared fixtures are not here")
def test_every_recorded_rest_book_is_read():
    recorded = ("bybit/orderbook_docsample", "coinbase_advanced/product_book", "hyperliquid/l2Book", "kraken/Depth_XBTUSDT")
    for name in recorded:
        book = read_book((SHARED / "fixtures" / "rest" / f"{name}.json").read_bytes())
        assert book.bids, name
        assert book.asks, name
        assert max(book.bids) < min(book.asks), name
