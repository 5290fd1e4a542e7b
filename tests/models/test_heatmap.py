import numpy as np
import pytest

from models.heatmap import depth, heat_map, overview
from tests.streams import START_NS, books_at, in_order, market, trades_at
from warehouse.schema import row_dtype

SECOND = 1_000_000_000


def test_depth_puts_sizes_where_their_prices_are():
    books = books_at([0, SECOND], bid=100.0, ask=101.0, levels=3, size=np.array([2.0, 4.0]))
    found = depth(books, 0, 2 * SECOND, columns=2)
    at = {round(price, 6): i for i, price in enumerate((found.price[1:] + found.price[:-1]) / 2)}
    assert [found.bid[at[price]].tolist() for price in (100.0, 99.0, 98.0)] == [[2.0, 4.0]] * 3
    assert [found.ask[at[price]].tolist() for price in (101.0, 102.0, 103.0)] == [[2.0, 4.0]] * 3
    assert np.isnan(found.bid[at[101.0]]).all()
    assert np.isnan(found.bid[0]).all()
    assert found.mid.tolist() == [100.5, 100.5]


def test_depth_is_the_mean_over_the_books_of_a_column():
    books = books_at([0, 1, 2, 3], size=np.array([1.0, 2.0, 3.0, 10.0]))
    assert np.nanmax(depth(books, 0, 4, columns=1).bid) == 4.0


def test_a_column_without_updates_shows_the_book_that_stood():
    books = books_at([0, 9 * SECOND], bid=np.array([100.0, 110.0]), ask=np.array([101.0, 111.0]))
    found = depth(books, 0, 10 * SECOND, columns=10)
    assert (found.mid == [100.5] * 9 + [110.5]).all()
    assert np.array_equal(found.bid[:, 1], found.bid[:, 8], equal_nan=True)


def test_one_far_level_does_not_empty_the_picture():
    books = books_at(np.arange(50) * SECOND)
    books["ask_px"][7, -1] = 1e6
    found = depth(books, 0, 50 * SECOND)
    assert found.price[-1] < 150


def test_many_books_become_few_cells():
    books = market(n=4500)[0]
    found = depth(books, int(books["exchange_ns"].min()), int(books["exchange_ns"].max()) + 1, columns=50, rows=40)
    assert found.bid.shape[1] == 50
    assert found.bid.shape[0] <= 42
    assert np.isfinite(found.bid).any()


def test_books_without_a_side_draw_nothing():
    books = books_at([0, 1], levels=0)
    assert np.isnan(depth(books, 0, 2).mid).all()
    assert heat_map(books, trades_at([0])).axes


def test_heat_map_shows_depth_trades_and_doubt():
    books, trades, _ = market(n=600)
    doubts = [(START_NS, START_NS + SECOND, "gap"), (0, 1, "gap")]
    above, below, _bar = heat_map(books, trades, doubts, "BTC", "USDT").axes
    assert len(above.images) == 2
    assert sum(len(dots.get_offsets()) for dots in above.collections) > 10
    assert len(below.patches) > 100
    assert sum(patch.get_hatch() == "///" for patch in above.patches) == 1
    assert "USDT" in above.get_ylabel()


def test_dots_of_one_cell_are_joined():
    books, trades, _ = in_order(books_at(np.arange(100) * SECOND), trades_at(np.full(50, 10 * SECOND), price=101.0, size=2.0))
    above = heat_map(books, trades).axes[0]
    assert [len(dots.get_offsets()) for dots in above.collections if len(dots.get_offsets())] == [1]


@pytest.mark.parametrize("n", [0, 1])
def test_few_or_no_rows_are_drawn(n):
    books, trades = books_at(np.arange(n)) if n else np.zeros(0, row_dtype("l2_snapshots")), np.zeros(0, row_dtype("trades"))
    assert heat_map(books, trades).axes
    assert overview(books["exchange_ns"], books["bid_px"][:, 0], books["ask_px"][:, 0]).axes


def test_overview_marks_what_is_shown_and_what_is_doubtful():
    books = market(n=2000)[0]
    ns = books["exchange_ns"]
    figure = overview(ns, books["bid_px"][:, 0], books["ask_px"][:, 0], [(int(ns[10]), int(ns[50]), "gap")], (int(ns[100]), int(ns[200])))
    assert len(figure.axes[0].patches) == 2
    assert len(figure.axes[0].lines[0].get_xdata()) <= 900
