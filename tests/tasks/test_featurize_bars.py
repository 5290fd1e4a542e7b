import numpy as np
import pyarrow as pa
import pytest

from tasks import featurize as featurizing
from tasks.detectors.fold import Detectors
from tasks.features.bar_catalogue import BAR_NAMES, SPANS_S
from tasks.features.fold import Features
from tasks.features.reference import closes_of, put_funding, put_reference
from tasks.featurize import featurize
from tests.streams import KINDS, cut, live, market
from warehouse.lake import Lake
from warehouse.schema import row_dtype

VENUE, BTC, ETH = "binance_usdm", "BTC-USDT-PERP", "ETH-USDT-PERP"
MIDNIGHT = int(np.datetime64("2026-01-02", "ns").astype(np.int64))
DAYS = ("2026-01-01", "2026-01-02")
REFERENCE = [i for i, name in enumerate(BAR_NAMES) if name.startswith("ref_")]


def stream(seed):
    """Return twenty minutes of a market around midnight, a calm before it and bursts of volume, as rows of the three tables."""
    tables = market(seed, n=5000, mean_ns=200_000_000, start_ns=MIDNIGHT - 600_000_000_000)
    tables[1]["size"][::97] *= 40.0
    quiet = [rows["exchange_ns"] > MIDNIGHT - 3_700_000_000 for rows in tables]
    tables = [rows[~late | (rows["exchange_ns"] > MIDNIGHT + 1_300_000_000)] for rows, late in zip(tables, quiet, strict=True)]
    for rows in tables:
        rows["seq"] = np.arange(rows.size)
    return tables


def written(root, streams, until=1 << 62):
    lake = Lake(root)
    with lake.writer() as writer:
        for symbol, tables in streams.items():
            session = writer.session(VENUE, symbol, "one", (*KINDS, "funding_rates"))
            for table, rows in zip(KINDS, cut(tables, 0, until), strict=True):
                session.append(table, rows)
            session.append("funding_rates", funding())
        writer.commit()
    return lake


def funding():
    rows = np.zeros(2, row_dtype("funding_rates"))
    rows["exchange_ns"] = rows["receive_ns"] = MIDNIGHT + np.array([-100, 50]) * 1_000_000_000
    rows["seq"], rows["funding_rate"] = [0, 1], [1e-4, -2e-4]
    return rows


@pytest.fixture(scope="module")
def streams():
    return {BTC: stream(1), ETH: stream(2)}


@pytest.fixture(scope="module")
def lake(streams, tmp_path_factory):
    lake = written(tmp_path_factory.mktemp("bars"), streams)
    for symbol in streams:
        for day in DAYS:
            featurize(lake, VENUE, symbol, day)
    return lake


def bars_of(lake, symbol):
    table = lake.read("bars", VENUE, symbol)
    return table, np.column_stack([table[name].to_numpy() for name in BAR_NAMES])


def content(lake, symbol):
    tables = (lake.read(name, VENUE, symbol) for name in ("features", "bars", "signals"))
    return [
        {name: table[name].to_numpy().tobytes() for name in table.column_names if table[name].type in (pa.int64(), pa.float64())}
        for table in tables
    ]


def folded(tables):
    fold = Features()
    meta, out = fold.batch(*tables)
    return fold.bars(), Detectors().batch(meta, out)


def test_bars_by_day_equal_one_fold_over_midnight(lake, streams):
    reference = folded(streams[BTC])[0]
    for symbol, tables in streams.items():
        whole = folded(tables)[0]
        put_reference(whole, closes_of(whole[:0]), closes_of(reference) if symbol == ETH else closes_of(whole[:0]))
        put_funding(whole, funding()["exchange_ns"], funding()["funding_rate"])
        table, values = bars_of(lake, symbol)
        assert values.tobytes() == whole["values"].tobytes()
        for name in table.column_names:
            if name in whole.dtype.names:
                np.testing.assert_array_equal(table[name].to_numpy(), whole[name])
        np.testing.assert_array_equal(table["seq"].to_numpy(), np.arange(whole.size))
        assert set(table["span_s"].to_pylist()) == set(SPANS_S)
        assert np.isnan(values[:, REFERENCE]).all() == (symbol == BTC)
        closed = table["exchange_ns"].to_numpy()
        assert MIDNIGHT in closed
        assert MIDNIGHT - 1_000_000_000 in closed, "the last second of a day is known when the next one's first book came"


def test_signals_by_day_equal_one_fold_over_midnight(lake, streams):
    for symbol, tables in streams.items():
        whole = folded(tables)[1]
        found = lake.rows("signals", VENUE, symbol)
        assert found.tobytes() == whole.tobytes()
        assert (whole["exchange_ns"] < MIDNIGHT).any()
        assert (whole["exchange_ns"] > MIDNIGHT).any()


def test_one_event_at_a_time_gives_the_bars_and_signals_of_the_lake(lake, streams):
    fold, detectors, said = Features(), Detectors(), []
    meta, out = live(streams[BTC], fold)
    for i in range(meta.size):
        if (signal := detectors.step(out[i], meta[i : i + 1])) is not None:
            said.append(signal.copy())
    assert lake.rows("signals", VENUE, BTC).tobytes() == np.concatenate(said).tobytes()
    bars, (_, values) = fold.bars(), bars_of(lake, BTC)
    put_funding(bars, funding()["exchange_ns"], funding()["funding_rate"])
    assert bars["values"].tobytes() == values.tobytes()


def test_a_day_that_grew_is_made_anew_and_ends_as_if_made_once(lake, streams, tmp_path):
    middle = int(streams[BTC][0]["event_seq"][900])
    growing = written(tmp_path, streams, until=middle)
    first = featurize(growing, VENUE, BTC, DAYS[0])
    assert featurize(growing, VENUE, BTC, DAYS[0])["skipped"]
    with growing.writer() as writer:
        for symbol, tables in streams.items():
            session = writer.session(VENUE, symbol, "two", KINDS)
            for table, rows in zip(KINDS, cut(tables, middle, 1 << 62), strict=True):
                session.append(table, rows)
        writer.commit()
    for symbol in streams:
        for day in DAYS:
            assert not featurize(growing, VENUE, symbol, day)["skipped"]
            assert featurize(growing, VENUE, symbol, day)["skipped"]
        assert content(growing, symbol) == content(lake, symbol)
    assert first["rows"] < growing.manifest("features", VENUE, BTC, DAYS[0])["rows"]


@pytest.mark.parametrize("table", ["bars", "signals", "features"])
def test_a_killed_run_is_taken_up_where_it_ended(table, lake, streams, tmp_path, monkeypatch):
    torn, whole = written(tmp_path, {BTC: streams[BTC]}), Lake.replace

    def killed(self, name, *rest):
        if name == table:
            raise KeyboardInterrupt
        return whole(self, name, *rest)

    monkeypatch.setattr(Lake, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        featurize(torn, VENUE, BTC, DAYS[0])
    monkeypatch.setattr(Lake, "replace", whole)
    assert [featurize(torn, VENUE, BTC, day)["skipped"] for day in DAYS] == [False, False]
    assert content(torn, BTC) == content(lake, BTC)


@pytest.mark.parametrize("changed", ["catalogue", "bars", "detectors"])
def test_another_version_of_the_code_makes_days_anew(changed, streams, tmp_path, monkeypatch):
    old = written(tmp_path, {BTC: streams[BTC]})
    featurize(old, VENUE, BTC, DAYS[0])
    monkeypatch.setitem(featurizing.VERSIONS, changed, "another")
    assert not featurize(old, VENUE, BTC, DAYS[0])["skipped"]
    assert old.manifest("signals", VENUE, BTC, DAYS[0])[changed] == "another"


def test_signals_that_were_written_as_they_happened_stay(streams, tmp_path):
    said = written(tmp_path, {BTC: streams[BTC]})
    rows = np.zeros(1, row_dtype("signals"))
    rows["exchange_ns"], rows["score"] = MIDNIGHT - 5, 9.0
    with said.writer() as writer:
        writer.session(VENUE, BTC, "live", ("signals",)).append("signals", rows)
        writer.commit()
    for day in DAYS:
        featurize(said, VENUE, BTC, day)
    assert said.rows("signals", VENUE, BTC).tobytes() == rows.tobytes()
    assert said.manifest("features", VENUE, BTC, DAYS[1])["signal_rows"] > 0
