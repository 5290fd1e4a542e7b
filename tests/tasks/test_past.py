import numpy as np
import pytest

from models.fits import Fits
from models.garch import Garch
from models.microprice import Microprice
from tasks import past
from tasks.detectors.fold import Detectors
from tasks.features.catalogue import NAMES
from tasks.features.fold import Features
from tasks.featurize import feature_matrix, featurize
from tasks.past import warm_from
from tasks.venues.events import BOOK, TRADE
from tests.streams import lake_of, market, merged

VENUE, SYMBOL = "binance_usdm", "BTC-USDT-PERP"
DAY_NS = 86_400_000_000_000
DAYS = ("2026-01-01", "2026-01-02")
MIDNIGHT = int(np.datetime64(DAYS[1], "ns").astype(np.int64))


def stream(gap_ns=0, before_s=5400):
    """Return three hours of a market around midnight; what follows midnight comes later by a gap."""
    tables = market(4, n=9000, mean_ns=1_200_000_000, start_ns=MIDNIGHT - before_s * 1_000_000_000)
    for rows in tables:
        rows["seq"] = np.arange(rows.size)
        rows["exchange_ns"][rows["exchange_ns"] >= MIDNIGHT] += gap_ns
    tables[1]["trade_id"] = np.arange(tables[1].size)
    return tables


def unbroken(tables):
    """Return the rows of a fold that never stopped, with what the detectors put into them, and their signals."""
    meta, rows = Features().batch(*tables)
    signals = Detectors().batch(meta, rows)
    return rows, signals


def restarted(lake, tables, joint):
    """Return the rows and signals of a scorer whose first book is this one."""
    books = tables[0]
    events = [(BOOK if kind == 0 else TRADE, tables[kind][i : i + 1].copy()) for kind, i in merged(*tables) if kind < 2]
    begin = next(n for n, (event, row) in enumerate(events) if event == BOOK and row["event_seq"][0] == books["event_seq"][joint])
    pending = events[begin - 5 : begin + 2000]  # trades before the first book were recorded too
    pending = [(event, row) for n, (event, row) in enumerate(pending) if n >= 5 or event == TRADE]
    features, detectors = Features(), Detectors()
    assert warm_from(lake, VENUE)(SYMBOL, features, detectors, pending)
    out, signals = [], []
    for event, row in pending:
        if event == TRADE:
            features.trade(row)
            continue
        signal = detectors.step(features.book(row), features.meta)
        out.append(features.row.copy())
        signals += [] if signal is None else [signal.copy()]
    return np.array(out), np.concatenate(signals)


def differing(found, expected):
    return sorted({NAMES[k] for _, k in np.argwhere(found.view(np.int64) != np.ascontiguousarray(expected).view(np.int64))})


@pytest.mark.parametrize(("is_made", "minutes"), [(False, 66), (True, 8), (True, 66)])
def test_a_scorer_that_starts_says_what_one_that_never_stopped_says(tmp_path, monkeypatch, is_made, minutes):
    monkeypatch.setattr(past, "_PIECE", 700)
    tables = stream(before_s=5400 if is_made else -1)
    lake = lake_of(tmp_path, VENUE, SYMBOL, tables)
    if is_made:
        featurize(lake, VENUE, SYMBOL, DAYS[0])
    joint = int(np.searchsorted(tables[0]["exchange_ns"], MIDNIGHT + minutes * 60_000_000_000))
    rows, signals = unbroken(tables)
    found, told = restarted(lake, tables, joint)
    assert found.shape[0] > 400
    assert differing(found, rows[joint : joint + found.shape[0]]) == []
    if is_made and minutes > 60:
        assert np.isfinite(found[:, NAMES.index("vpin")]).all()
    expected = signals[signals["event_seq"] >= tables[0]["event_seq"][joint]][: told.size]
    assert told.size
    for name in set(told.dtype.names) - {"seq"}:
        np.testing.assert_array_equal(told[name], expected[name])


def test_what_other_fits_left_is_not_gone_on_from(tmp_path):
    tables = stream()
    lake = lake_of(tmp_path, VENUE, SYMBOL, tables)
    featurize(lake, VENUE, SYMBOL, DAYS[0])
    assert past._start(lake, VENUE, SYMBOL, MIDNIGHT + 10**9).state
    other = Fits(Microprice(0.1, np.array([[0.0, 0.0], [0.2, 0.4]])), {1: Garch(1e-10, 0.3, 0.5)})
    lake.save_state(f"fits-1/{VENUE}/{SYMBOL}/{DAYS[0]}", other.content)
    assert past._start(lake, VENUE, SYMBOL, MIDNIGHT + 10**9).state is None


def test_a_calendar_day_without_books_does_not_break_the_chain(tmp_path):
    tables = stream(gap_ns=2 * DAY_NS)
    lake = lake_of(tmp_path, VENUE, SYMBOL, tables)
    made = [featurize(lake, VENUE, SYMBOL, day) for day in (DAYS[0], "2026-01-04")]
    assert made[0]["carried"] == ""
    assert made[1]["carried"]
    rows, _ = unbroken(tables)
    assert differing(feature_matrix(lake, VENUE, SYMBOL)[1], rows) == []
