import numpy as np
import pytest

from tasks.venues.pace import AHEAD_NS, BELIEVED, DAY_NS, FITS, LATE_NS, LEAPT, TIMES, Pace, reach

START_NS, SECOND = 1_790_000_000_000_000_000, 10**9


def heard(*times_s, back_ns=LATE_NS):
    """Return the places of the refused among messages of (time, our clock), in seconds."""
    pace = Pace(back_ns)
    return [i for i, (s, ours_s) in enumerate(times_s) if pace.fault(START_NS + round(s * SECOND), START_NS + round(ours_s * SECOND))]


def reached(*times_s):
    """Return what became of each message, and the time that was reached behind it, in seconds."""
    times = np.zeros(1, TIMES)
    return [
        (reach(times[0], START_NS + round(s * SECOND), START_NS + round(ours_s * SECOND)), (int(times["ns"][0]) - START_NS) / SECOND)
        for s, ours_s in times_s
    ]


def test_one_wrong_time_is_refused_and_none_behind_it():
    for wrong_s in (90_000.0, -90_000.0):
        assert heard((0, 0), (1, 1), (2 + wrong_s, 2), (3, 3), (4, 4)) == [2]


def test_a_clock_that_was_set_costs_one_message():
    ahead_s = AHEAD_NS / SECOND + 1
    assert heard((0, 0), (1, 1), (2 + ahead_s, 2), (3 + ahead_s, 3), (4 + ahead_s, 4)) == [2]
    assert heard((0, 0), (1, 1), (2 - 7200, 2), (3 - 7200, 3), (4 - 7200, 4)) == [2]
    assert heard((0, 0), (1, 1), (2, 2 - 900), (3, 3 - 900)) == []  # ours, in a market that is not quiet
    assert heard((0, 0), (1, 1), (2, 2 + 900), (3, 3 + 900)) == []


def test_nothing_that_came_late_is_refused_nor_makes_others_early():
    backlog = [(100.0 * i, 1000.0 + i / 1000) for i in range(10)]  # ten messages of a quiet market, read at once
    assert heard((-200, -200), (-100, -100), *backlog, (1001, 1001)) == []
    assert heard((0, 65), (70, 70), (75, 75), (150, 150)) == []  # the first waited for a slow answer
    assert heard((0, 0), (1, 1), (-600, 2), (3, 3), (4, 4)) == []
    assert heard((0, 0), (1, 1), (-90, 2), (-89, 3), (-88, 4), (5, 5)) == []  # another connection lags
    assert heard((-300, 0), (0.5, 0.5), (30, 30)) == []  # the first is dated by when it last changed


def test_the_second_message_may_be_far_from_a_first_that_was_late_but_not_another_day():
    day_s = DAY_NS / SECOND
    assert heard((0, 0), (day_s - 1, 1), (day_s, 2)) == []
    assert heard((0, 0), (day_s + 9, 1), (2, 2)) == [1]


def test_messages_in_order_may_not_run_back():
    assert heard((0, 0), (1, 1), (-0.5, 2), (3, 3), back_ns=SECOND) == [2]
    assert heard((0, 0), (1, 1), (0.5, 2), (3, 3), back_ns=SECOND) == []


def test_a_leap_moves_nothing_until_another_follows():
    assert reached((0, 0), (1, 1), (7, 2), (3, 3)) == [(FITS, 0), (FITS, 1), (LEAPT, 1), (FITS, 3)]
    assert reached((0, 0), (1, 1), (-5, 2), (3, 3)) == [(FITS, 0), (FITS, 1), (LEAPT, 1), (FITS, 3)]
    assert reached((0, 0), (1, 1), (7, 2), (8, 3), (9, 4)) == [(FITS, 0), (FITS, 1), (LEAPT, 1), (BELIEVED, 8), (FITS, 9)]
    assert reached((50, 0), (1, 1), (2, 2)) == [(FITS, 50), (BELIEVED, 1), (FITS, 2)]  # of two, the first was wrong
    assert reached((0, 0), (50, 1), (2, 2)) == [(FITS, 0), (LEAPT, 0), (FITS, 2)]


@pytest.mark.parametrize(("told_s", "date_s"), [(7.0, 2.0), (-5.0, 2.0), (2.1, 2.1), (0.9, 1.0)])
def test_what_leaps_is_dated_by_the_clocks(told_s, date_s):
    times = np.zeros(1, TIMES)
    for s, ours_s in ((0.0, 0.0), (1.0, 1.0), (told_s, 2.0)):
        reach(times[0], START_NS + round(s * SECOND), START_NS + round(ours_s * SECOND))
    assert int(times["date_ns"][0]) == START_NS + round(date_s * SECOND)


def test_nothing_is_remembered_once_forgotten():
    pace = Pace()
    assert not pace.fault(START_NS, START_NS)
    assert pace.fault(START_NS + 2 * DAY_NS, START_NS + 1)
    pace.forget()
    assert not pace.fault(START_NS + 2 * DAY_NS, START_NS + 2)
    assert pace.ns == pace.date_ns == START_NS + 2 * DAY_NS
