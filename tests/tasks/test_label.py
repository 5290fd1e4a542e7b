import asyncio

import numpy as np
import pyarrow.parquet as pq
import pytest

from models.labels import LIMIT, PROFIT, STOP, UNDECIDED
from models.moves import sweep_cost_bps
from simulator.capture import frames
from tasks.label import intervals_of, label, price_series
from tasks.record import Recorder, record
from tests import naive_models as naive
from tests.streams import KINDS, books_at
from tests.streams import market as market_of
from warehouse.lake import Lake
from warehouse.schema import GAP, OK, START

VENUE, RAW, SYMBOL = "binance_usdm", "BTCUSDT", "BTC-USDT-PERP"
DAY = "2026-01-01"
S = 1_000_000_000
CHOICES = {"horizon_s": 1.0, "profit_spreads": 2.0, "stop_spreads": 3.0, "limit_s": 4.0, "fee_bps": 0.02}


def _record(lake, market, session="made"):
    async def source():
        for receive_ns, frame in market:
            yield RAW, receive_ns, frame

    asyncio.run(record(Recorder(lake, VENUE, session), source()))
    return lake


@pytest.fixture(scope="module")
def market():
    return list(frames(VENUE, RAW, 30.0, seed=31))


@pytest.fixture(scope="module")
def made(market, tmp_path_factory):
    """A lake with half a minute of a market and its labels, and what `label` told of them."""
    lake = _record(Lake(tmp_path_factory.mktemp("whole")), market)
    return lake, label(lake, VENUE, SYMBOL, DAY, **CHOICES)


def _rows(lake):
    return lake.rows("l2_snapshots", VENUE, SYMBOL), lake.rows("labels", VENUE, SYMBOL)


def test_every_book_has_one_label_with_its_numbers_and_span(made):
    books, labels = _rows(made[0])
    assert labels.size == books.size == made[1]["rows"] > 400
    for name in ("exchange_ns", "seq", "event_seq"):
        np.testing.assert_array_equal(labels[name], books[name])
    np.testing.assert_array_equal(labels["label_start_ns"], books["exchange_ns"])
    np.testing.assert_array_equal(labels["label_end_ns"], books["exchange_ns"] + S)


def test_returns_and_directions_equal_those_of_the_slow_oracle(made):
    books, labels = _rows(made[0])
    ns, mid = books["exchange_ns"], (books["bid_px"][:, 0] + books["ask_px"][:, 0]) / 2
    returns = naive.horizon_return(ns, mid, S)
    np.testing.assert_allclose(labels["return_bps"], 1e4 * returns, rtol=0, atol=1e-9)
    usual = naive.sigma(ns[:200], mid[:200], 60e9, 10 * S)
    known = np.isfinite(usual) & (usual > 0)
    assert known.sum() > 5
    np.testing.assert_allclose(labels["vol_return"][:200][known], returns[:200][known] / usual[known], rtol=1e-6)
    warm = np.isfinite(labels["vol_return"])
    moved = np.abs(returns[warm]) > 1e-12  # below, the two ways of taking a logarithm round differently
    np.testing.assert_array_equal(labels["direction"][warm][moved], np.sign(returns[warm][moved]))
    assert (labels["direction"][~warm] == 0).all()
    assert {-1, 0, 1} == set(labels["direction"][warm])


def test_barriers_equal_those_of_the_slow_oracle(made):
    books, labels = _rows(made[0])
    found = naive.triple_barrier(books["exchange_ns"], books["bid_px"][:, 0], books["ask_px"][:, 0], 2.0, 3.0, 4 * S, 0.02)
    side, touched, earned, which = (np.array(column) for column in zip(*found, strict=True))
    np.testing.assert_array_equal(labels["barrier_label"], side)
    np.testing.assert_array_equal(labels["barrier_end_ns"], touched)
    np.testing.assert_allclose(labels["barrier_ret_bps"], earned, rtol=1e-9)
    np.testing.assert_array_equal(labels["barrier"], which)
    assert np.isin([-1, 1], side).all()


def test_a_barrier_that_nothing_touched_before_the_recording_ends_is_doubtful_by_itself(made, market, tmp_path):
    lake = _record(Lake(tmp_path), market)
    label(lake, VENUE, SYMBOL, DAY, **{**CHOICES, "limit_s": 30.0, "profit_spreads": 4000.0, "stop_spreads": 4000.0})
    labels = _rows(lake)[1]
    undecided = np.isnan(labels["barrier_ret_bps"])
    assert undecided.sum() > labels.size / 2
    assert (labels["barrier_doubt"][undecided] == START).all()
    assert (labels["barrier"][undecided] == UNDECIDED).all()
    assert (labels["doubt"] == OK).sum() > labels.size / 2, "its return is known"
    decided = _rows(made[0])[1]
    decided = decided[decided["barrier_doubt"] == OK]
    assert decided.size > 300
    assert np.isfinite(decided["barrier_ret_bps"]).all()
    assert set(decided["barrier"].tolist()) <= {PROFIT, LIMIT, STOP}


def test_labels_of_before_there_were_barrier_columns_are_read_on(market, tmp_path):
    lake = _record(Lake(tmp_path), market[: len(market) // 3])
    label(lake, VENUE, SYMBOL, DAY, **CHOICES)
    (path,) = tmp_path.rglob("labels/**/*.parquet")
    rows = pq.ParquetFile(path).read()
    pq.write_table(rows.drop_columns(["barrier", "barrier_doubt"]), path)
    known = lake.sql(
        "SELECT count(*) AS n, count(barrier) AS k, count(barrier_doubt) AS d, sum(barrier_label) AS s FROM labels"
    ).to_pylist()
    assert known == [{"n": rows.num_rows, "k": 0, "d": 0, "s": sum(rows["barrier_label"].to_pylist())}]
    assert lake.read("labels", VENUE, SYMBOL)["barrier"].null_count == rows.num_rows


def test_moves_that_pay_and_smoothed_ones_read_back_as_the_slow_oracle_has_them(made):
    books, labels = _rows(made[0])
    n = 300
    ns, bid, ask = (books[name][:n] for name in ("exchange_ns", "bid_px", "ask_px"))
    mid = (bid[:, 0] + ask[:, 0]) / 2
    micro = price_series(books[:n], "microprice")
    buy, sell = (sweep_cost_bps(books[f"{side}_px"][:n], books[f"{side}_sz"][:n], mid, 10_000.0) for side in ("ask", "bid"))
    bids, asks = (books[name][:n, :5].sum(axis=1) for name in ("bid_sz", "ask_sz"))
    side, weight, move = naive.microstructure(ns, micro, bid[:, 0], ask[:, 0], buy, sell, (bids - asks) / (bids + asks), S)
    known = np.isfinite(move)
    assert known.sum() > 100
    np.testing.assert_array_equal(labels["microstructure"][:n][known], np.array(side)[known])
    np.testing.assert_allclose(labels["microstructure_weight"][:n][known], np.array(weight)[known], rtol=1e-12)
    smooth, ends = naive.smoothed(ns, mid, 50)
    known = np.isfinite(smooth)
    np.testing.assert_allclose(labels["smoothed_bps"][:n][known], 1e4 * np.array(smooth)[known], atol=1e-9)
    np.testing.assert_array_equal(labels["smoothed_end_ns"][:n][known], np.array(ends)[known])
    sides = np.where(np.abs(smooth) > 2e-5, np.sign(smooth), 0)
    np.testing.assert_array_equal(labels["smoothed_direction"][:n][known], sides[known])
    assert {-1, 0, 1} >= set(labels["microstructure"])


def test_nothing_later_than_its_span_changes_a_label(made, market, tmp_path):
    lake = _record(Lake(tmp_path), market[: len(market) * 2 // 3])
    manifest = label(lake, VENUE, SYMBOL, DAY, **CHOICES)
    books, part = _rows(lake)
    _, whole = _rows(made[0])
    whole = whole[: part.size]
    ends = np.maximum(np.maximum(whole["label_end_ns"], whole["barrier_end_ns"]), whole["smoothed_end_ns"])
    settled = ends <= books["exchange_ns"][-1]
    assert settled.sum() > 200
    for name in whole.dtype.names:
        np.testing.assert_array_equal(part[name][settled], whole[name][settled])
    # The end is not known yet: flagged, not guessed.
    open_rows = part["label_end_ns"] > books["exchange_ns"][-1]
    assert np.isnan(part["return_bps"][open_rows]).all()
    assert (part["doubt"][open_rows] == START).all()
    assert open_rows.sum() > 5
    # And decided once it is recorded: the same capture goes on where it stopped.
    _record(lake, market)
    again = label(lake, VENUE, SYMBOL, DAY, **CHOICES)
    assert not again["skipped"]
    assert again["rows"] > manifest["rows"]
    assert _rows(lake)[1].tobytes() == _rows(made[0])[1].tobytes()


def test_labels_that_touch_a_gap_are_flagged_and_no_others(tmp_path):
    start_ns = int(np.datetime64(DAY, "ns").astype(np.int64))
    lost_ns = start_ns + 20 * S
    later = frames(VENUE, RAW, 20.0, seed=32, start_ns=lost_ns)
    lake = _record(Lake(tmp_path), [*frames(VENUE, RAW, 20.0, seed=31, start_ns=start_ns), (lost_ns, b""), *later])
    label(lake, VENUE, SYMBOL, DAY, **CHOICES)
    _, labels = _rows(lake)
    intervals = intervals_of(lake, VENUE, SYMBOL)
    assert {GAP, OK, START} <= set(intervals[:, 2].tolist())
    end_ns = np.maximum(labels["label_end_ns"], labels["barrier_end_ns"])
    by_oracle = np.array(naive.doubt_over(labels["label_start_ns"], end_ns, intervals.tolist()))
    known = np.isfinite(labels["return_bps"])
    np.testing.assert_array_equal(labels["doubt"][known], by_oracle[known])
    of_barrier = np.array(naive.doubt_over(labels["label_start_ns"], labels["barrier_end_ns"], intervals.tolist()))
    np.testing.assert_array_equal(
        labels["barrier_doubt"], np.where((of_barrier == OK) & (labels["barrier"] == UNDECIDED), START, of_barrier)
    )
    first_gap_ns = intervals[intervals[:, 2] == GAP][0, 0]
    across = (labels["label_start_ns"] < first_gap_ns) & (labels["label_end_ns"] > first_gap_ns)
    assert across.any()
    assert (labels["doubt"][across] != OK).all()
    assert (labels["doubt"] == OK).sum() > 200


def test_an_unchanged_partition_is_skipped_and_other_choices_are_not(made, market, tmp_path):
    lake = _record(Lake(tmp_path), market)
    first = label(lake, VENUE, SYMBOL, DAY, **CHOICES)
    version = lake.version("labels")
    assert not first["skipped"]
    assert label(lake, VENUE, SYMBOL, DAY, **CHOICES)["skipped"]
    assert lake.version("labels") == version
    wider = label(lake, VENUE, SYMBOL, DAY, **CHOICES, threshold=1.0)
    assert not wider["skipped"]
    directions = _rows(lake)[1]["direction"]
    assert 0 < np.count_nonzero(directions) < np.count_nonzero(_rows(made[0])[1]["direction"])


def test_where_days_are_cut_changes_no_label(tmp_path):
    midnight = int(np.datetime64("2026-01-02", "ns").astype(np.int64))
    found = []
    for shift_ns in (0, 40_000 * S):
        tables = market_of(3, n=2400, mean_ns=4 * S, start_ns=midnight - 5000 * S + shift_ns)
        lake = Lake(tmp_path / str(shift_ns))
        with lake.writer() as writer:
            session = writer.session(VENUE, SYMBOL, "one", KINDS)
            for table, rows in zip(KINDS, tables, strict=True):
                rows["seq"] = np.arange(rows.size)
                session.append(table, rows)
            writer.commit()
        for day in (DAY, "2026-01-02"):
            label(lake, VENUE, SYMBOL, day)
        rows = lake.rows("labels", VENUE, SYMBOL)
        for name in [name for name in rows.dtype.names if name.endswith("_ns")]:
            rows[name] -= shift_ns
        found.append(rows)
    split, whole = found
    assert 800 < (split["exchange_ns"] < midnight).sum() < split.size - 200
    for name in split.dtype.names:
        np.testing.assert_allclose(split[name], whole[name], rtol=1e-12 if name == "vol_return" else 0, err_msg=name)
    assert (split["smoothed_doubt"][split["exchange_ns"] < midnight] == OK).all()


def test_a_day_without_books_writes_nothing(made):
    lake, _ = made
    version = lake.version("labels")
    assert label(lake, VENUE, SYMBOL, "2026-01-05", **CHOICES)["rows"] == 0
    assert lake.version("labels") == version


def test_prices_are_mid_or_weighted_mid_and_nothing_where_a_side_is_empty():
    books = books_at([1, 2], bid=[100.0, 100.0], ask=[102.0, 102.0])
    books["bid_sz"][0, 0] = 3.0
    books["ask_px"][1], books["ask_sz"][1] = np.nan, 0.0
    np.testing.assert_array_equal(price_series(books, "mid"), [101.0, np.nan])
    np.testing.assert_array_equal(price_series(books, "weighted_mid"), [101.5, np.nan])
    with pytest.raises(ValueError, match="microprice, received 'last'"):
        price_series(books, "last")
