import math

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.features.catalogue import NAMES, WINDOWS
from tasks.features.fold import Features
from tests.captures import CAPTURES
from tests.naive_features import disagreements, pasts
from tests.streams import SECOND, START_NS, books_at, good, in_order, market, recorded, streams, trades_at

HOUR = 3600 * SECOND


def column(out, name):
    return out[:, NAMES.index(name)]


def check_against_definitions(tables, rows=None):
    """Compare rows of a fold with the definitions; return how many were compared."""
    meta, out = Features().batch(*tables)
    of, compared = pasts(*tables), 0
    for n in range(len(out)) if rows is None else rows:
        doubt, past = of[n]()
        assert meta["doubt"][n] == doubt
        if past is None:
            assert np.isnan(out[n]).all()
            assert meta["clean_ns"][n] == 0
            continue
        assert meta["clean_ns"][n] == past.t - past.since
        assert disagreements(past, out[n]) == [], f"row {n}"
        compared += 1
    return compared


def sampled(tables, n):
    """Return row numbers: half of them evenly, half from the rows for which everything but VPIN is warm."""
    meta, _ = Features().batch(*tables)
    warm = np.flatnonzero(meta["clean_ns"] >= 301 * SECOND)
    picked = [np.linspace(0, len(rows) - 1, n // 2).astype(int) for rows in (meta, warm)]
    return np.unique(np.concatenate([picked[0], warm[picked[1]] if len(warm) else picked[0]]))


@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_captured_streams_have_the_features_of_the_definitions(capture):
    tables = recorded(capture)
    assert check_against_definitions(tables, sampled(tables, 40)) > 15


@pytest.mark.slow
@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_captured_streams_have_the_features_of_the_definitions_in_many_rows(capture):
    tables = recorded(capture)
    assert check_against_definitions(tables, sampled(tables, 300)) > 140


@pytest.mark.parametrize("seed", range(3))
def test_busy_streams_have_the_features_of_the_definitions(seed):
    tables = market(seed)
    assert check_against_definitions(tables, sampled(tables, 60)) > 40


@settings(max_examples=60, deadline=None)
@given(streams(events=30))
def test_whatever_comes_has_the_features_of_the_definitions(tables):
    check_against_definitions(tables)


@pytest.mark.slow
@settings(max_examples=250, deadline=None)
@given(streams(events=80))
def test_whatever_comes_has_the_features_of_the_definitions_at_length(tables):
    n = len(tables[0])
    check_against_definitions(tables, np.unique(np.linspace(0, n - 1, min(n, 8)).astype(int)) if n else ())


def test_hours_of_buckets_have_the_features_of_the_definitions():
    tables = market(6, n=2500, mean_ns=6 * SECOND)  # four hours
    _, out = Features().batch(*tables)
    assert np.isfinite(column(out, "vpin")).sum() > 200
    assert check_against_definitions(tables, range(0, len(out), 40)) > 30


QUERY = """
with e as (
    select ns, seq, signed, bought, sold, traded, r2, ofi,
        count(*) over (partition by ns order by seq rows between 1 following and unbounded following) = 0 as final
    from events
)
select seq, final,
    sum(signed) over w as signed_volume, sum(traded) over w / {w} as trade_intensity, sqrt(sum(r2) over w) as realized_vol,
    coalesce((sum(bought) over w - sum(sold) over w) / nullif(sum(bought) over w + sum(sold) over w, 0), 0) as trade_imbalance,
    sum(ofi) over w as ofi, sum(1 - traded) over w / {w} as update_intensity
from e window w as (order by ns range between {w}::bigint * 1000000000 - 1 preceding and current row)
"""


@pytest.mark.parametrize("w", WINDOWS)
def test_rolling_sums_agree_with_sql_windows(w, capsys):
    books, trades, changes = market(8)
    meta, out = Features().batch(books, trades, changes)
    bid, ask, qb, qa = (books[name][:, 0] for name in ("bid_px", "ask_px", "bid_sz", "ask_sz"))
    ofi, r2 = np.zeros(len(books)), np.zeros(len(books))
    ofi[1:] = np.where(bid[1:] >= bid[:-1], qb[1:], 0) - np.where(bid[1:] <= bid[:-1], qb[:-1], 0)
    ofi[1:] += np.where(ask[1:] >= ask[:-1], qa[:-1], 0) - np.where(ask[1:] <= ask[:-1], qa[1:], 0)
    r2[1:] = np.diff(np.log((bid + ask) / 2)) ** 2
    size, side, nil = trades["size"], trades["aggressor"], np.zeros(len(trades))
    events = pa.table({
        "ns": np.concatenate([books["exchange_ns"], trades["exchange_ns"]]),
        "seq": np.concatenate([books["event_seq"], trades["event_seq"]]),
        "signed": np.concatenate([ofi * 0, size * side]),
        "bought": np.concatenate([ofi * 0, size * (side > 0)]),
        "sold": np.concatenate([ofi * 0, size * (side < 0)]),
        "traded": np.concatenate([ofi * 0, nil + 1]),
        "r2": np.concatenate([r2, nil]),
        "ofi": np.concatenate([ofi, nil]),
    })  # fmt: skip
    connection = duckdb.connect()
    connection.register("events", events)
    wanted = connection.sql(QUERY.format(w=w)).order("seq").fetchnumpy()
    # SQL sees all of a moment at once: compare books that are the last event of theirs.
    final = np.isin(books["event_seq"], wanted["seq"][wanted["final"]]) & (meta["clean_ns"] >= w * SECOND)
    assert final.sum() > 800
    at = np.searchsorted(wanted["seq"], books["event_seq"][final])
    worst = {}
    for name in ("signed_volume", "trade_intensity", "realized_vol", "trade_imbalance", "ofi", "update_intensity"):
        ours, theirs = column(out, f"{name}_{w}")[final], wanted[name][at]
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9, err_msg=name)
        worst[f"{name}_{w}"] = np.abs(ours - theirs).max() / np.abs(theirs).max()
    with capsys.disabled():
        print("\nfeature             whose    furthest apart, in shares of the largest")
        print("\n".join(f"{name:<19} DuckDB   {apart:.1e}" for name, apart in worst.items()))


def test_windows_are_open_at_their_old_end_and_closed_at_their_new():
    ns = START_NS + np.array([0, 2_000_000_000, 2_999_999_999, 3_000_000_000, 3_000_000_001])
    tables = in_order(books_at(ns), trades_at(START_NS + 2 * SECOND), good(START_NS))
    _, out = Features().batch(*tables)
    assert column(out, "trade_intensity_1")[1:].tolist() == [1, 1, 0, 0]
    assert column(out, "update_intensity_1")[1:].tolist() == [1, 2, 2, 3]


def test_order_flow_by_hand():
    bid = np.array([100.0, 100, 101, 101, 99])
    size = np.array([5.0, 8, 2, 1, 4])
    _, out = Features().batch(
        *in_order(books_at(START_NS + np.arange(5) * SECOND, bid, 110.0, size=size), trades_at([])[:0], good(START_NS))
    )
    # Bids: more 8 - 5, a better price 2, less 1 - 2, a worse price -1; asks of the same sizes stay where they are.
    assert column(out, "ofi_1")[1:].tolist() == [3 - 3, 2 + 6, -1 + 1, -1 - 3]
    assert np.array_equal(column(out, "ofi_5"), column(out, "mlofi_1_5"), equal_nan=True)


def test_a_level_that_comes_or_goes_is_order_flow():
    books = books_at(START_NS + np.arange(5) * SECOND, size=2.0)
    for n in (1, 3):
        books["bid_sz"][n, 2:], books["bid_px"][n, 2:] = 0.0, np.nan
    _, out = Features().batch(*in_order(books, trades_at([])[:0], good(START_NS)))
    assert column(out, "mlofi_3_1")[1:].tolist() == [-2, 2, -2, 2]
    assert column(out, "mlofi_2_1")[1:].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("age_ns", "impact"), [(5 * SECOND - 1, 0.0), (5 * SECOND, 100.0), (5 * SECOND + 1, 50.0), (6 * SECOND - 1, 50.0), (6 * SECOND, 0.0)]
)
def test_impact_is_the_move_of_the_mid_within_five_seconds(age_ns, impact):
    # The mid just before is 100; 5 s after the trade it is 100.5, unless the row of that very moment says 101.
    at = START_NS + 40 * SECOND
    ns = np.array([START_NS, at + 4 * SECOND, at + age_ns])
    mid = np.array([100.0, 100.5, 101.0])
    _, out = Features().batch(*in_order(books_at(ns, mid - 0.5, mid + 0.5), trades_at(at), good(START_NS)))
    assert column(out, "price_impact_bps_1")[-1] == pytest.approx(impact)
    assert column(out, "price_impact_bps_30")[-1] == pytest.approx(0.0 if age_ns < 5 * SECOND else impact or 50.0)


def test_a_row_at_five_seconds_sees_the_mid_so_far():
    at = START_NS + 20 * SECOND
    ns = np.array([START_NS, at + 5 * SECOND, at + 5 * SECOND, at + 5 * SECOND + 1])
    mid = np.array([100.0, 101.0, 102.0, 103.0])
    _, out = Features().batch(*in_order(books_at(ns, mid - 0.5, mid + 0.5), trades_at(at, aggressor=-1), good(START_NS)))
    assert column(out, "price_impact_bps_5")[1:] == pytest.approx([-100.0, -200.0, -200.0])


def test_trades_before_the_first_book_cost_nothing_known():
    trades = trades_at(START_NS + np.array([0, 1, 8]) * SECOND // 10, 105.0, [7.0, 5.0, 2.0])
    books = books_at(START_NS + np.array([2, 10, 60, 61]) * SECOND // 10)
    _, out = Features().batch(*in_order(books, trades, good(START_NS)))
    assert column(out, "effective_spread_bps_1")[1] == pytest.approx(2e4 * 4.5 / 100.5)  # of the third only
    assert column(out, "signed_volume_1")[1] == 7
    assert column(out, "price_impact_bps_1")[2] == 0.0


def test_an_unknown_aggressor_is_volume_without_a_side():
    ns = START_NS + np.arange(1, 4) * SECOND
    for sides, imbalance, signed in (((0, 0), 0.0, 0.0), ((0, 1), 1.0, 1.0)):
        trades = trades_at(ns[0] + np.array([1, 2]), [90.0, 110.0], [3.0, 1.0], sides)
        _, out = Features().batch(*in_order(books_at(ns), trades, good(START_NS)))
        assert column(out, "trade_imbalance_1")[1] == imbalance
        assert column(out, "signed_volume_1")[1] == signed
        assert column(out, "trade_intensity_1")[1] == 2
        assert column(out, "effective_spread_bps_1")[1] == pytest.approx(2e4 * 9.5 / 100.5 if signed else 0.0)


def test_roll_spread_of_a_bouncing_price():
    n = 400
    ns = START_NS + np.arange(n) * SECOND
    rng = np.random.default_rng(0)
    trades = trades_at(ns, 100.0 + 0.5 * rng.choice((-1, 1), n))
    _, out = Features().batch(*in_order(books_at(ns), trades, good(START_NS)))
    assert column(out, "roll_spread_300")[-1] == pytest.approx(1.0, rel=0.1)


def test_roll_spread_counts_only_trades_with_two_steps_behind_them():
    ns = START_NS + np.arange(302) * SECOND
    _, out = Features().batch(*in_order(books_at(ns), trades_at(ns[-5:], [100.0, 101, 100, 101, 100]), good(START_NS)))
    assert column(out, "roll_spread_300")[-1] == pytest.approx(2 * math.sqrt(1 - 1 / 9))  # steps 1 -1 1 -1: three pairs


def hourly(sizes, sides, hours=3, n=100):
    """Return streams of `n` evenly spaced trades an hour, the first hour whole."""
    start = (START_NS // HOUR + 1) * HOUR - SECOND
    ns = start + SECOND + np.arange(hours * n) * (HOUR // n)
    return in_order(books_at(ns), trades_at(ns, 100.5, np.resize(sizes, len(ns)), np.resize(sides, len(ns))), good(start))


@pytest.mark.parametrize(("sides", "vpin"), [([1], 1.0), ([-1], 1.0), ([1, -1], 0.0), ([1, 1, 1, -1], 0.5), ([0], 0.0)])
def test_vpin_by_hand(sides, vpin):
    _, out = Features().batch(*hourly([1.0], sides))
    told = column(out, "vpin")
    assert np.isnan(told[:200]).sum() >= 199  # an hour to measure, an hour to fill fifty buckets
    assert told[-1] == pytest.approx(vpin, abs=0.02)


def test_a_bucket_keeps_the_size_it_was_opened_with():
    # The second hour trades a hundredth, so the third opens smaller buckets with a large one half full.
    sizes = np.concatenate([np.full(100, 100.0), np.full(100, 1.0), np.full(100, 1.0)])
    for sides in ([1, 1, -1], [-1], [1] * 200 + [-1] * 100):
        _, out = Features().batch(*hourly(sizes, sides))
        told = column(out, "vpin")[np.isfinite(column(out, "vpin"))]
        assert ((told >= 0) & (told <= 1)).all()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("size", [1e6, 1e15, 1e300])
def test_one_huge_trade_fills_every_bucket_at_once(size):
    books, trades, changes = hourly([1e-6], [1, -1], hours=2)
    trades["size"][-1] = size
    _, out = Features().batch(books, trades, changes)
    assert column(out, "vpin")[-1] == 1.0


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.sampled_from((1e-8, 0.1, 1.0, 3.0, 1e5)), min_size=1, max_size=30),
    sides=st.lists(st.sampled_from((-1, 0, 1)), min_size=1, max_size=7),
)
def test_vpin_is_a_share(sizes, sides):
    _, out = Features().batch(*hourly(sizes, sides, hours=4, n=60))
    told = column(out, "vpin")[np.isfinite(column(out, "vpin"))]
    assert ((told >= 0) & (told <= 1)).all()


def test_sums_do_not_drift_over_a_million_events():
    # Sizes over 16 decades come and go; what stays in the windows must be as if summed afresh.
    features, rng, n, kept = Features(), np.random.default_rng(1), 25_000, 5_000
    step = 4_000_000
    for k in range(20):
        ns = START_NS + (k * n + np.arange(n)) * step
        price = 100.0 + rng.integers(-3, 4, n) * 0.01
        books = books_at(ns, price - 0.01, price + 0.01, tick=0.01)
        books["bid_sz"][:, :5], books["ask_sz"][:, :5] = 10.0 ** rng.uniform(-8, 8, (n, 1)), 10.0 ** rng.uniform(-8, 8, (n, 1))
        trades = trades_at(ns, price, 10.0 ** rng.uniform(-8, 8, n), rng.choice((-1, 1), n))
        if k == 19:  # a calm end: all that is huge leaves the short windows
            books["bid_sz"][-kept:], books["ask_sz"][-kept:] = rng.uniform(1e-8, 1e-7, (2, kept, 20))
            trades["size"][-kept:] = rng.uniform(1e-8, 1e-7, kept)
        books, trades, change = in_order(books, trades, good())
        _, out = features.batch(books, trades, change if k == 0 else change[:0])
    assert features.state["book_head"][0] + features.state["trade_head"][0] == 1_000_000
    last = trades[-kept:]
    for w in (1, 5):
        inside = last["exchange_ns"] > ns[-1] - w * SECOND
        signed = math.fsum((last["size"] * last["aggressor"])[inside])
        total = math.fsum(last["size"][inside])
        assert column(out, f"signed_volume_{w}")[-1] == pytest.approx(signed, rel=1e-9)
        assert column(out, f"trade_imbalance_{w}")[-1] == pytest.approx(signed / total, rel=1e-9)
        b = books[-kept:]
        bid, ask, qb, qa = (b[name][:, 0] for name in ("bid_px", "ask_px", "bid_sz", "ask_sz"))
        e = np.where(bid[1:] >= bid[:-1], qb[1:], 0) - np.where(bid[1:] <= bid[:-1], qb[:-1], 0)
        e += np.where(ask[1:] >= ask[:-1], qa[:-1], 0) - np.where(ask[1:] <= ask[:-1], qa[1:], 0)
        assert column(out, f"ofi_{w}")[-1] == pytest.approx(math.fsum(e[b["exchange_ns"][1:] > ns[-1] - w * SECOND]), rel=1e-9)
