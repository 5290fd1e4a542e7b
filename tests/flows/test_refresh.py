import numpy as np
import pytest

from flows.alone import alone
from flows.refresh import runner, work
from flows.settings import Settings
from serving.steps import draw_day, refresh, refresh_stream
from tasks import featurize as featurizing
from tasks.featurize import waves
from tests.streams import KINDS, market
from warehouse.errors import UnknownStreamError
from warehouse.lake import Lake
from warehouse.schema import row_dtype

VENUE, SYMBOLS = "binance_usdm", ("ETH-USDT-PERP", "BTC-USDT-PERP", "SOL-USDT-PERP")
DAY = "2024-08-09"


@pytest.fixture
def lake(tmp_path):
    lake = Lake(tmp_path / "lake")
    with lake.writer() as writer:
        for seed, symbol in enumerate(SYMBOLS):
            session = writer.session(VENUE, symbol, "one", KINDS)
            for table, rows in zip(KINDS, market(seed, 600, start_ns=1_723_200_000_000_000_000), strict=True):
                rows["seq"] = range(rows.size)
                session.append(table, rows)
        writer.commit()
    return lake


def content(lake):
    return {
        (table, symbol): lake.manifest(table, VENUE, symbol, DAY)
        for table in ("features", "bars", "signals", "labels")
        for symbol in SYMBOLS
    }


def test_reference_streams_come_first(lake):
    first, second = waves(lake, "BTC")
    assert list(first) == [(VENUE, "BTC-USDT-PERP")]
    assert {symbol for _, symbol in second} == {"ETH-USDT-PERP", "SOL-USDT-PERP"}
    assert [len(wave) for wave in waves(lake, "")] == [3]
    assert waves(lake, "BTC", "kraken") == []


def test_days_of_other_code_are_made_anew_however_old(lake, monkeypatch):
    refresh(lake, Settings(lake=lake.root))
    assert [list(wave.values()) for wave in waves(lake, "BTC", days=0)] == [[[]], [[], []]]
    monkeypatch.setitem(featurizing.VERSIONS, "bars", "another")
    assert [list(wave.values()) for wave in waves(lake, "BTC", days=0)] == [[[DAY]], [[DAY], [DAY]]]


def test_days_of_other_labels_are_made_anew_however_old(lake, monkeypatch):
    settings = Settings(lake=lake.root)
    refresh(lake, settings)
    assert [list(wave.values()) for wave in work(lake, settings, days=0)] == [[[]], [[], []]]
    for other in ({"horizon_s": 2.0}, {"taker_fee_bps": 1.0}):
        assert [list(wave.values()) for wave in work(lake, Settings(lake=lake.root, **other), days=0)] == [[[DAY]], [[DAY], [DAY]]]
    monkeypatch.setattr("flows.refresh.VERSION", "another")
    assert [list(wave.values()) for wave in work(lake, settings, days=0)] == [[[DAY]], [[DAY], [DAY]]]


@pytest.mark.parametrize("by", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
def test_any_number_of_workers_makes_the_same(by, lake):
    settings = Settings(lake=lake.root, refresh_by=by)
    done = refresh(lake, settings, workers=2)
    assert [row["symbol"] for row in done] == sorted(SYMBOLS)
    made = content(lake)
    assert all(manifest is not None and not manifest["skipped"] for manifest in made.values())
    again = refresh(lake, Settings(lake=lake.root), workers=1)
    assert all(row["features"]["skipped"] and row["labels"]["skipped"] for row in again)
    assert content(lake) == made


def test_a_setting_says_what_works_side_by_side():
    assert type(runner(Settings(refresh_by="processes"))).__name__ == "ProcessPoolTaskRunner"
    assert type(runner(Settings())).__name__ == "ThreadPoolTaskRunner"


def test_a_day_is_drawn_or_it_says_why_not(lake, monkeypatch):
    with pytest.raises(UnknownStreamError, match="tidebook refresh"):
        draw_day(lake, VENUE, SYMBOLS[0])
    refresh_stream(Settings(lake=lake.root), VENUE, SYMBOLS[0], [DAY])
    page = draw_day(lake, VENUE, SYMBOLS[0])
    assert page.name == f"features-{VENUE}-{SYMBOLS[0]}-{DAY}.png"
    assert page.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UnknownStreamError, match="2020-01-01"):
        draw_day(lake, VENUE, SYMBOLS[0], "2020-01-01")
    monkeypatch.setattr("serving.steps.VERSION", "another")
    with pytest.raises(UnknownStreamError, match="not another"):
        draw_day(lake, VENUE, SYMBOLS[0])


def test_a_refresh_makes_the_signals_between_venues_unless_a_flow_does(lake):
    rows = np.zeros(3, row_dtype("consolidated"))
    rows["exchange_ns"], rows["seq"], rows["arb_bps"] = 1_723_200_000_000_000_000 + np.arange(3) * 10**9, np.arange(3), (0.0, 5.0, 6.0)
    with lake.writer() as writer:
        writer.session("all", "BTC", "rows", ("consolidated",)).append("consolidated", rows)
    with alone(lake.root, "normalise-BTC"):
        refresh(lake, Settings(lake=lake.root), workers=2)
    assert not lake.rows("signals", "all", "BTC").size
    refresh(lake, Settings(lake=lake.root), workers=2)
    assert lake.rows("signals", "all", "BTC")["event_seq"].tolist() == [1]
