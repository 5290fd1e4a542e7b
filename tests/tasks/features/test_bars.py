import io
import math

import numpy as np
import pytest
from hypothesis import Phase, given, settings

from tasks.features.bar_catalogue import BAR_NAMES, BARS_41, SPANS_S
from tasks.features.fold import Features
from tests.captures import CAPTURES
from tests.naive_bars import PRICE_NAMES, bars_of, features, impacts, of_book, of_trades
from tests.naive_features import SECOND
from tests.streams import START_NS, books_at, cut, good, in_order, live, market, recorded, streams, trades_at
from warehouse.schema import GAP, OK


def closed(tables):
    fold = Features()
    fold.batch(*tables)
    return fold.bars()


def check(tables, spans=SPANS_S, sample=1):
    rows, (_, matrix) = closed(tables), Features().batch(*tables)
    for span_s in spans:
        told = {int(row["exchange_ns"]): row for row in rows[rows["span_s"] == span_s]}
        bars = bars_of(*tables, span_s)
        assert set(told) == {bar["end"] for bar in bars if not math.isnan(bar["close"])}
        for i, bar in enumerate(bars):
            if math.isnan(bar["close"]):
                continue
            row = told[bar["end"]]
            assert [row[name] for name in ("open", "high", "low", "close")] == [bar[name] for name in ("open", "high", "low", "close")]
            assert (row["doubt"] == 0) == bar["good"]
            trades = [trade for trade, _ in bar["trades"]]
            assert row["trade_count"] == len(trades)
            assert row["volume"] == pytest.approx(math.fsum(t["size"] for t in trades))
            weights = [float(t["size"]) for t in trades]
            vwap = math.fsum(t["size"] * t["price"] for t in trades) / math.fsum(weights) if trades else math.nan
            assert row["vwap"] == pytest.approx(vwap, nan_ok=True)
            assert row["buy_volume"] == pytest.approx(math.fsum(t["size"] for t in trades if t["aggressor"] > 0))
            if i % sample and i < len(bars) - 3:
                continue
            values = dict(zip(BAR_NAMES, row["values"], strict=True))
            if not bar["good"]:
                assert np.isnan(row["values"]).all()
                continue
            expected = features(bars[: i + 1])
            for name in PRICE_NAMES:
                assert values[name] == pytest.approx(expected.get(name, math.nan), rel=1e-7, abs=1e-12, nan_ok=True), (name, i, span_s)
            for name, value in (of_book(matrix[bar["book"]]) | of_trades(bar)).items():
                assert values[name] == pytest.approx(value, abs=1e-9, nan_ok=True), (name, i, span_s)


def test_bars_and_their_features_are_those_of_the_definitions():
    check(market(3, n=6000, mean_ns=400_000_000), spans=(1, 60), sample=7)


def test_long_bars_are_those_of_the_definitions():
    check(market(4, n=3000, mean_ns=60_000_000_000), spans=(300, 900, 3600), sample=5)


@settings(max_examples=25, deadline=None, phases=(Phase.generate,))
@given(streams(events=25))
def test_bars_of_any_stream_are_those_of_the_definitions(tables):
    ns = np.concatenate([rows["exchange_ns"] for rows in tables])
    check(tables, spans=(1, 60) if np.ptp(ns) < 700 * SECOND else (60,), sample=50)


@pytest.mark.parametrize("capture", CAPTURES[:1], ids=str)
def test_bars_of_a_capture_are_those_of_the_definitions(capture):
    check(recorded(capture, 300), spans=(1,), sample=11)


def test_any_split_of_the_stream_and_one_event_at_a_time_make_the_same_bars():
    tables = market(5, n=4000, mean_ns=500_000_000)
    whole = closed(tables)
    assert (whole["span_s"] == 60).sum() > 10
    fold = Features()
    live(tables, fold)
    assert fold.bars().tobytes() == whole.tobytes()
    first, second, kept, middle = Features(), Features(), io.BytesIO(), 2345
    first.batch(*cut(tables, 0, middle))
    first.save(kept)
    kept.seek(0)
    second.restore(kept)
    second.batch(*cut(tables, middle, 1 << 62))
    assert np.concatenate([first.bars(), second.bars()]).tobytes() == whole.tobytes()


def test_changing_the_future_changes_no_bar_that_closed():
    books, trades, changes = market(6, n=3000, mean_ns=500_000_000)
    whole, at = closed((books, trades, changes)), 2000
    other = books.copy()
    later = other["event_seq"] > at
    for side in ("bid_px", "ask_px"):
        other[side][later] *= 1.5
    changed = closed((other, trades, changes))
    before = whole["event_seq"] <= at
    assert before.sum() > 100
    assert not before.all()
    assert changed[before].tobytes() == whole[before].tobytes()
    assert changed[~before].tobytes() != whole[~before].tobytes()


def test_a_gap_makes_its_bars_doubtful_and_returns_look_over_it():
    ns = START_NS // SECOND * SECOND + np.arange(200) * SECOND + SECOND // 2
    books, trades = books_at(ns, bid=100.0 + np.arange(200), ask=101.0 + np.arange(200)), trades_at(ns[:1])
    books, trades, changes = in_order(books, trades)
    for rows in (books, trades, changes):
        rows["event_seq"] *= 2
    lost, found = (good(int(ns[i]), int(books["event_seq"][i]) - 1, state) for i, state in ((100, GAP), (102, OK)))
    changes = np.concatenate([changes, lost, found])
    rows = closed((books, trades, changes))
    rows = rows[rows["span_s"] == 1]
    doubtful = rows["exchange_ns"][rows["doubt"] != 0]
    assert ns[102] // SECOND * SECOND + SECOND in doubtful
    assert ns[104] // SECOND * SECOND not in doubtful
    assert not set(doubtful[1:]) - set(range(int(ns[100]) // SECOND * SECOND, int(ns[103]) // SECOND * SECOND + 1, SECOND))
    after = rows[rows["exchange_ns"] > ns[110]][0]
    values = dict(zip(BAR_NAMES, after["values"], strict=True))
    assert math.isnan(values["ema_12"])
    assert not math.isnan(values["return_60"])


def test_the_five_layer_set_has_its_forty_one_columns():
    assert len(BARS_41) == len(set(BARS_41)) == 41
    assert set(BARS_41) <= set(BAR_NAMES)


def test_price_impact_of_a_bar_is_that_of_the_trades_that_came_of_age_in_it():
    books, trades, changes = market(6, n=3000, mean_ns=400_000_000)
    rows = closed((books, trades, changes))
    rows = rows[(rows["span_s"] == 1) & (rows["doubt"] == OK)]
    for name, expected in impacts(books, trades, rows["exchange_ns"] // SECOND).items():
        told = rows["values"][:, BAR_NAMES.index(name)]
        assert np.count_nonzero(told) > 100
        np.testing.assert_allclose(told, expected, atol=1e-9)
