"""Numbers of trades: what is lost shows also below a number that leapt because one of its digits was wrong."""

from tasks.venues.aggregated_ids import AggregatedIds
from tasks.venues.trade_ids import AGAIN, LATE, MISSED, NEXT, TradeIds

SENT = [50 if number == 10 else number for number in range(5, 60) if number != 30]


def test_a_loss_below_a_wrong_number_is_missed():
    ids, places = TradeIds(), []
    for number in SENT:
        places.append(ids.place(number))
        ids.take(number)
    assert [number for number, place in zip(SENT, places, strict=True) if place == MISSED] == [50, 11, 31]
    assert [number for number, place in zip(SENT, places, strict=True) if place == AGAIN] == [50]
    assert places[-9:] == [NEXT] * 9
    assert places.count(LATE) == len(range(12, 50)) - 2


def test_history_fills_a_hole_in_any_order():
    ids = TradeIds()
    for number in (5, 9):
        ids.take(number)
    assert [ids.place(number, backfill=True) for number in (8, 7, 6)] == [LATE] * 3


def test_a_loss_below_a_wrong_number_of_aggregated_trades_leaves_a_hole():
    ids, holes = AggregatedIds(), []
    for number in SENT:
        if ids.leaves_hole(number, 1):
            holes.append(number)
        ids.take(number)
    assert holes == [50, 11, 31]
