"""Streams of several venues in the order in which a live process would have seen them."""

import numpy as np
import pytest

from tasks.features.cross_venue import BOOKS, CHANGES, TRADES
from tasks.merged import day_of, next_seqs, pieces
from warehouse.lake import Lake
from warehouse.schema import GAP, OK, START, row_dtype

DAY, NS = "2025-10-09", 10**9
MIDNIGHT = int(np.datetime64(DAY, "ns").astype(np.int64))
STREAMS = [("binance_spot", "BTC-USDT"), ("kraken", "BTC-USD")]
TABLES = ("l2_snapshots", "trades", "coverage_changes")


def record(lake, stream, *events):
    """Write events as (table, receive, exchange, options), times in seconds since midnight."""
    numbers = dict.fromkeys(TABLES, 0)
    with lake.writer() as writer:
        session = writer.session(*stream, "one", TABLES)
        for event_seq, (kind, receive_s, exchange_s, options) in enumerate(events):
            row = np.zeros(1, row_dtype(TABLES[kind]))
            row["receive_ns"], row["exchange_ns"] = MIDNIGHT + receive_s * NS, MIDNIGHT + exchange_s * NS
            row["event_seq"], row["seq"] = event_seq, numbers[TABLES[kind]]
            numbers[TABLES[kind]] += 1
            for name, value in options.items():
                row[name] = value
            session.append(TABLES[kind], row)


@pytest.fixture
def lake(tmp_path):
    lake = Lake(tmp_path / "lake")
    late = (BOOKS, 5, 4, {})  # its stamp lies before that of the one it follows
    history = (TRADES, 11, 86_400, {"backfill": 1})
    tomorrow = (CHANGES, 86_500, 86_490, {"state": GAP})
    record(
        lake,
        STREAMS[0],
        (CHANGES, -9, -9, {"state": OK}),
        (BOOKS, -8, -9, {}),
        (BOOKS, 10, 9, {}),
        late,
        (BOOKS, 20, 19, {}),
        history,
        tomorrow,
    )
    record(
        lake, STREAMS[1], (BOOKS, -1, -1, {}), (TRADES, 1, -2, {}), (BOOKS, 7, 6, {}), (CHANGES, 15, 0, {"state": GAP}), (BOOKS, 20, 21, {})
    )
    return lake


def test_streams_are_merged_by_our_clock_and_each_by_its_own_order(lake):
    day = day_of(lake, STREAMS, DAY, None)
    assert list(zip(day.entries["place"].tolist(), day.entries["event_seq"].tolist(), strict=True)) == [
        (1, 2),
        (0, 2),
        (0, 3),
        (1, 3),
        (0, 4),
        (1, 4),
    ]
    assert day.before == (OK, START)
    assert not day.following.size
    assert next_seqs(day, None, 2) == [5, 5]


def test_a_day_goes_on_where_the_one_before_it_ended(lake):
    before = day_of(lake, STREAMS, "2025-10-08", None)
    assert before.following[["place", "event_seq"]].tolist() == [(1, 2)]
    since = next_seqs(before, None, 2)
    assert since == [2, 2]
    assert day_of(lake, STREAMS, DAY, since).entries.tobytes() == day_of(lake, STREAMS, DAY, None).entries.tobytes()
    assert day_of(lake, STREAMS, DAY, [4, 5]).entries[["place", "event_seq"]].tolist() == [(0, 4)]


@pytest.mark.parametrize("ahead", [[(3600, 3610)], [(3600, 3610), (7200, 7230)], [(3600, 3601)]])
def test_a_clock_that_was_set_forward_for_a_while_leaves_the_venues_side_by_side(tmp_path, ahead):
    lake, hour = Lake(tmp_path / "lake"), 3600

    def ours(true_s):
        return true_s + hour * any(first <= true_s < last for first, last in ahead)

    for place, stream in enumerate(STREAMS):
        record(lake, stream, *((BOOKS, ours(second), second, {}) for second in range(3000 + place, 4 * hour, 5)))
    entries = day_of(lake, STREAMS, DAY, None).entries
    assert np.abs(np.diff(entries["exchange_ns"])).max() < 15 * NS
    assert entries["event_seq"][entries["place"] == 0].tolist() == list(range((4 * hour - 3000) // 5))


def test_a_clock_that_was_set_back_for_a_while_keeps_the_latest_stamp(tmp_path):
    lake = Lake(tmp_path / "lake")
    for place, stream in enumerate(STREAMS):
        record(lake, stream, *((BOOKS, second - 3600 * (second == 4000 + place), second, {}) for second in range(3000 + place, 5000, 2)))
    entries = day_of(lake, STREAMS, DAY, None).entries
    assert np.abs(np.diff(entries["exchange_ns"])).max() <= 3 * NS


def test_pieces_hold_the_rows_of_their_events_and_end_at_cuts(lake):
    entries = day_of(lake, STREAMS, DAY, None).entries
    cuts = [MIDNIGHT + second * NS for second in (1, 10, 16, 99)]
    found = list(pieces(lake, STREAMS, entries, cuts))
    assert [piece[0].size for _, piece in found] == [1, 3, 2]
    assert [(clock_ns - MIDNIGHT) // NS for clock_ns, _ in found] == [7, 10, 20]
    n = 0
    for _, (kinds, places, at, *tables) in found:
        for kind, place, k in zip(kinds, places, at, strict=True):
            assert (tables[kind]["event_seq"][k], place) == (entries["event_seq"][n], entries["place"][n])
            assert tables[kind]["exchange_ns"][k] == entries["exchange_ns"][n]
            n += 1
