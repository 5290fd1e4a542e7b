import io
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.features.catalogue import NAMES
from tasks.features.fold import Features
from tasks.features.state import BOOK_ENTRY, STATE, TRADE_ENTRY, new_ring
from tests.captures import CAPTURES
from tests.streams import SECOND, START_NS, books_at, cut, good, in_order, live, market, recorded, streams, trades_at
from warehouse.schema import CROSSED, GAP, OK, STALE


def same(a, b):
    return all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


def in_pieces(tables, cuts, one_by_one=()):
    """Fold stretches of a stream with one fold, some of them event by event."""
    features, parts = Features(), []
    edges = [0, *sorted(cuts), 1 << 62]
    for k, (start, stop) in enumerate(pairwise(edges)):
        part = cut(tables, start, stop)
        parts.append(live(part, features) if k in one_by_one else features.batch(*part))
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


@settings(max_examples=60, deadline=None)
@given(streams(), st.data())
def test_any_split_folds_to_the_whole_bit_for_bit(tables, data):
    whole = Features().batch(*tables)
    cuts = data.draw(st.lists(st.integers(0, 45), max_size=5))
    assert same(whole, in_pieces(tables, cuts))
    assert same(whole, in_pieces(tables, cuts, one_by_one=range(0, 6, 2)))
    assert same(whole, live(tables))


@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_live_is_batch_on_captures(capture):
    tables = recorded(capture, 1500)
    whole = Features().batch(*tables)
    assert same(whole, live(tables))
    end = int(tables[0]["event_seq"][-1])
    assert same(whole, in_pieces(tables, [end // 7, end // 3, end // 3 + 1, end // 2], one_by_one=(1, 3)))


def altered(tables, after, seed):
    rng = np.random.default_rng(seed)
    books, trades, changes = (rows.copy() for rows in tables)
    late = books["event_seq"] > after
    for side in ("bid", "ask"):
        books[f"{side}_sz"][late] *= rng.uniform(0.1, 9.0)
        books[f"{side}_px"][late] += rng.uniform(0.1, 5.0)
    books["exchange_ns"][late] += int(rng.integers(0, 5 * SECOND))
    late = trades["event_seq"] > after
    trades["price"][late] *= 3
    trades["size"][late] += 17
    trades["aggressor"][late] *= -1
    late = changes["event_seq"] > after
    changes["state"][late] = GAP
    return books, trades, changes


@settings(max_examples=60, deadline=None)
@given(streams(), st.integers(0, 40), st.integers(0, 9))
def test_no_later_event_changes_an_earlier_row(tables, after, seed):
    n = int((tables[0]["event_seq"] <= after).sum())
    before = tuple(part[:n] for part in Features().batch(*tables))
    assert same(before, tuple(part[:n] for part in Features().batch(*altered(tables, after, seed))))
    assert same(before, Features().batch(*cut(tables, 0, after + 1)))


def test_no_later_event_changes_an_earlier_row_of_a_busy_stream():
    tables = market(7)
    whole = Features().batch(*tables)
    for after in (1, 900, 3000, 4400):
        n = int((tables[0]["event_seq"] <= after).sum())
        for other in (altered(tables, after, after), cut(tables, 0, after + 1)):
            assert same([part[:n] for part in whole], [part[:n] for part in Features().batch(*other)])


def test_a_kept_fold_goes_on_where_it_stopped():
    tables = market(11)
    whole = Features().batch(*tables)
    first, second, kept = Features(), Features(), io.BytesIO()
    parts = [first.batch(*cut(tables, 0, 2000))]
    first.save(kept)
    kept.seek(0)
    second.restore(kept)
    parts.append(second.batch(*cut(tables, 2000, 1 << 62)))
    assert same(whole, [np.concatenate(column) for column in zip(*parts, strict=True)])


def test_a_fold_kept_by_another_version_is_refused():
    kept = io.BytesIO()
    np.savez(kept, state=np.zeros(STATE.itemsize + 8, np.uint8), books=np.zeros(0, np.uint8), trades=np.zeros(0, np.uint8))
    kept.seek(0)
    with pytest.raises(ValueError, match=rf"must have {STATE.itemsize} bytes, received {STATE.itemsize + 8}"):
        Features().restore(kept)


def crowded(n=12_000):
    # More than 4096 books, and trades, within 5 s and so within every longer window too.
    rng = np.random.default_rng(2)
    ns = START_NS + np.sort(rng.integers(0, 8 * SECOND, n))
    ns = np.concatenate([ns, [START_NS + 400 * SECOND]])
    price = 100.0 + np.cumsum(rng.integers(-1, 2, n + 1)) * 0.01
    books = books_at(ns, price - 0.01, price + 0.01, size=rng.random(n + 1) + 0.1, tick=0.01)
    trades = trades_at(ns, price, rng.random(n + 1), rng.choice((-1, 1), n + 1))
    return in_order(books, trades)


def test_growing_rings_change_nothing_and_stay_bounded():
    tables = crowded()
    wide, grown = Features(), Features()
    wide._book_ring, wide._trade_ring = new_ring(BOOK_ENTRY, 1 << 16), new_ring(TRADE_ENTRY, 1 << 16)
    want = wide.batch(*tables)
    assert same(want, grown.batch(*tables))
    assert grown._book_ring.size == grown._trade_ring.size == 16_384
    assert same(want, live(tables))


def test_rings_do_not_grow_with_the_length_of_a_stream():
    features, tables = Features(), market(4, n=4000)
    length = int(tables[1]["exchange_ns"][-1]) - START_NS + SECOND
    for k in range(30):
        for rows in tables[:2]:
            rows["exchange_ns"] += length if k else 0
        features.batch(tables[0], tables[1], tables[2] if k == 0 else tables[2][:0])
    assert features.state["book_head"][0] > 60_000
    assert (features._book_ring.size, features._trade_ring.size) == (4096, 4096)


def test_without_coverage_nothing_is_believed():
    books, trades, _ = market(1, n=100)
    meta, out = Features().batch(books, trades)
    assert np.isnan(out).all()
    assert (meta["doubt"] != OK).all()
    assert (meta["clean_ns"] == 0).all()


@pytest.mark.parametrize("state", [GAP, STALE, CROSSED])
def test_nothing_looks_behind_a_doubtful_moment(state):
    # Whatever came before the stream was good again, what follows is the same.
    tables = market(9)
    again = 2200
    at = int(tables[0]["exchange_ns"][tables[0]["event_seq"] < again].max())
    whole = []
    for seed in range(2):
        books, trades, _ = altered(tables, 0, seed)
        for rows, own in ((books, tables[0]), (trades, tables[1])):
            rows[rows["event_seq"] >= again] = own[own["event_seq"] >= again]
            rows["exchange_ns"] = own["exchange_ns"]
            rows["event_seq"] += np.where(rows["event_seq"] >= again, 10, np.where(rows["event_seq"] >= again - 50, 5, 0))
        changes = np.concatenate([good(), good(at - 10 * SECOND, again - 49, state), good(at, again + 9)])
        meta, out = Features().batch(books, trades, changes)
        spoilt = (books["event_seq"] > again - 49) & (books["event_seq"] < again + 9)
        assert spoilt.any()
        assert (meta["doubt"] == np.where(spoilt, state, OK)).all()
        assert np.isnan(out[spoilt]).all()
        whole.append(out[books["event_seq"] >= again + 9])
    assert whole[0].tobytes() == whole[1].tobytes()
    fresh = Features().batch(*cut((books, trades, good(at, again + 9)), again + 9, 1 << 62))[1]
    assert whole[1].tobytes() == fresh.tobytes()


@pytest.mark.parametrize("how", ["one-sided", "doubtful row"])
def test_a_book_without_a_mid_is_not_looked_across(how):
    books = books_at(START_NS + np.arange(10) * SECOND, 100.0 + np.arange(10))
    if how == "one-sided":
        books["ask_sz"][4], books["ask_px"][4] = 0.0, np.nan
    else:
        books["doubt"][4] = CROSSED
    meta, out = Features().batch(*in_order(books, trades_at(START_NS + 4 * SECOND + 1), good()))
    assert np.isnan(out[4]).all()
    assert meta["doubt"][4] == (OK if how == "one-sided" else CROSSED)
    assert meta["clean_ns"][[3, 4, 5]].tolist() == [3 * SECOND, 0, SECOND]
    assert np.isnan(out[5, NAMES.index("microprice_drift_bps")])
    assert out[5, NAMES.index("realized_vol_1")] == 0
    assert out[5, NAMES.index("effective_spread_bps_1")] == 0  # no mid just before that trade


def test_clock_never_runs_backwards():
    ns = START_NS + np.array([0, 10, 3, 11]) * SECOND
    books = books_at(ns)
    books["event_seq"] = [1, 2, 3, 5]
    changes = np.concatenate([good(), good(START_NS + 2 * SECOND, 4)])  # doubtful since a time long gone
    meta, out = Features().batch(books, changes=changes)
    assert meta["exchange_ns"].tolist() == ns.tolist()
    assert meta["clean_ns"].tolist() == [0, 10 * SECOND, 10 * SECOND, SECOND]
    assert out[2, NAMES.index("update_intensity_1")] == 2


def test_history_sent_on_subscription_is_not_news():
    books, trades, changes = market(2, n=300)
    trades["backfill"][::2] = 1
    whole = Features().batch(books, trades, changes)
    assert same(whole, Features().batch(books, trades[trades["backfill"] == 0], changes))
    assert same(whole, live((books, trades, changes)))
