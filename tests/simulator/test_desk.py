"""What a wire is given: beats, cut books and budgets."""

import numpy as np
import pytest

from simulator.desk import RECENT, Desk, View
from simulator.listings import VENUES, listing, raw_symbols
from simulator.market import DEPTH, Market
from simulator.protocol import Budget

SECOND = 1_000_000_000


def beats(desk, seconds):
    until_ns = desk.market.now_ns + int(seconds * SECOND)
    while desk.market.now_ns < until_ns:
        yield desk.advance(min(until_ns, desk.market.now_ns + 7_000_000))


@pytest.mark.parametrize("tells_pushed_out", [True, False])
@pytest.mark.parametrize("venue", ["bybit_linear", "kraken"])
def test_book_kept_from_a_views_changes_is_the_views_book(venue, tells_pushed_out):
    desk = Desk(Market(listing(venue, raw_symbols(venue, 1)[0]), 2, 0))
    view, kept, turned = View(10, tells_pushed_out), ({}, {}), 0
    for beat in beats(desk, 20):
        if beat.depth is None:
            continue
        turned += 1
        for side, changes, best_first in zip(kept, view.turn(desk), (-1, 1), strict=True):
            for tick, units in changes:
                side.pop(tick, None)
                if units:
                    side[tick] = units
            if not tells_pushed_out:  # as a Kraken client cuts its book
                for tick in sorted(side, key=lambda tick, sign=best_first: sign * tick)[10:]:
                    del side[tick]
        for side, rows in zip(kept, (view.bids, view.asks), strict=True):
            assert side == dict(rows.tolist())
    assert turned > 200


def test_beat_ends_with_its_depth_event_and_the_desk_shows_the_book_behind_it():
    desk = Desk(Market(listing("okx", "BTC-USDT"), 2, 0))
    bids, n = None, 0
    for beat in beats(desk, 5):
        kinds = beat.events["kind"].tolist()
        assert DEPTH not in kinds[:-1]
        if beat.depth is None:
            assert not len(beat.changed()[0])
            continue
        now = dict(desk.top(5_000)[0].tolist())
        if bids is not None:
            changed = dict(beat.changed()[0].tolist())
            assert {tick for tick in now.keys() | bids.keys() if now.get(tick) != bids.get(tick)} <= changed.keys()
            assert all(now.get(tick, 0) == units for tick, units in changed.items())
        bids, n = now, n + 1
    assert n == 50


def test_recent_trades_are_the_last_ones_and_stamps_are_skewed():
    desk = Desk(Market(listing("binance_usdm", "BTCUSDT"), 2, 0))
    desk.skew_ns = 7 * SECOND
    trades = [trade for beat in beats(desk, 10) for trade in beat.trades()]
    assert list(desk.recent) == trades[-RECENT:]
    assert trades[-1].exchange_ns > 16 * SECOND
    assert [trade.id for trade in trades] == list(range(trades[0].id, trades[0].id + len(trades)))


@pytest.mark.parametrize("venue", VENUES)
def test_every_venue_lists_what_it_says(venue):
    for symbol in raw_symbols(venue, 6):
        desk = Desk(Market(listing(venue, symbol), 2, 0))
        kinds = np.concatenate([beat.events["kind"].copy() for beat in beats(desk, 3)])
        bids, asks = desk.top(100)
        assert len(bids) == len(asks) == 100
        assert bids[-1, 0] > 0
        assert desk.rest_book(5).bids.tolist() == bids[:5].tolist()
        assert {0, 1, 2} == set(kinds.tolist())


def test_budget_starts_anew_with_its_window_and_bans_those_who_go_on():
    budget = Budget(10, 60.0, ban_s=100.0, patience=2)
    assert [budget.take(5, 1.0)[0] for _ in range(6)] == [200, 200, 429, 429, 418, 418]
    assert budget.take(1, 61.0) == (418, 40.0)
    assert budget.take(10, 101.5) == (200, 0.0)
    assert (budget.bans, budget.peak) == (1, 10)
