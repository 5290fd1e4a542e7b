import asyncio
import threading
import time

import numpy as np
import pytest

from models import booster
from models.registry import ChampionModel
from simulator import frames
from tasks import scored
from tasks.features.catalogue import NAMES, SETS
from tasks.featurize import featurize
from tasks.past import warm_from
from tasks.record import Recorder, record
from tasks.score import LiveModel, score
from tests.captures import CAPTURES
from warehouse.lake import Lake
from warehouse.schema import GAP, row_dtype

VENUE, RAW, SYMBOL = "binance_usdm", "BTCUSDT", "BTC-USDT-PERP"


def _champion(version, seed):
    rng, names = np.random.default_rng(seed), SETS["l2_core"]
    x = rng.normal(size=(2000, len(names)))
    fitted = booster.train(x, (x[:, 0] + rng.normal(size=2000) > 0).astype(float), names, n_trees=20, seed=seed)
    return LiveModel(ChampionModel("tidebook", version, booster.text(fitted), names, (0.9, 0.05), {}, ""))


@pytest.fixture(scope="module")
def events():
    return [(RAW, *event) for event in frames(VENUE, RAW, 60.0, seed=8)]


async def _each(items):
    for item in items:
        yield item


def _predictions(lake):
    return lake.rows("predictions", VENUE, SYMBOL)


def test_live_scores_equal_batch_scores_bit_for_bit(events, tmp_path):
    model = _champion(1, 1)
    live, batch = Lake(tmp_path / "live"), Lake(tmp_path / "batch")
    asyncio.run(record(Recorder(live, VENUE, "s", lambda: model), _each(events)))
    asyncio.run(record(Recorder(batch, VENUE, "s"), _each(events)))
    for venue, symbol, day in batch.partitions("l2_snapshots"):
        featurize(batch, venue, symbol, day)
    assert score(batch, model, VENUE, SYMBOL)["rows"] == _predictions(live).size > 500
    assert _predictions(live).tobytes() == _predictions(batch).tobytes()
    assert np.isfinite(_predictions(live)["probability"]).sum() > 300
    assert score(batch, model, VENUE, SYMBOL)["rows"] == 0


def test_bars_of_a_scorer_do_not_pile_up(events, tmp_path):
    scorer = Recorder(Lake(tmp_path), VENUE, "s", lambda: None)
    for item in events:
        scorer.take(*item)
    scorer.look_ahead()
    assert scorer.stream(RAW).scored.features.bars().size == 0
    scorer.close()


def test_a_new_champion_takes_over_between_two_books(events, tmp_path):
    models, asked = [_champion(1, 1), _champion(2, 2)], []

    def current():
        asked.append(1)
        return models[len(asked) > 400]

    lake = Lake(tmp_path)
    asyncio.run(record(Recorder(lake, VENUE, "s", current), _each(events)))
    found = _predictions(lake)
    np.testing.assert_array_equal(found["seq"], np.arange(found.size))
    np.testing.assert_array_equal(found["book_seq"], lake.rows("l2_snapshots", VENUE, SYMBOL)["seq"])
    assert found["model_version"].tolist() == [1] * 400 + [2] * (found.size - 400)


def test_a_scorer_that_starts_late_continues_the_recorded_stream_without_a_seam(events, tmp_path):
    model, lake = _champion(1, 1), Lake(tmp_path / "lake")
    alone = Lake(tmp_path / "alone")
    asyncio.run(record(Recorder(alone, VENUE, "s", lambda: model), _each(events)))
    asyncio.run(record(Recorder(lake, VENUE, "s"), _each(events)))
    scorer = Recorder(lake, VENUE, "late", lambda: model, tables=(), warm=warm_from(lake, VENUE))
    snapshot = next(i for i, (_, _, frame) in enumerate(events) if b"lastUpdateId" in frame)
    # A book needs its snapshot, so the late scorer's first frames are the stream's; its features are not.
    for item in events[: snapshot + 3000]:
        scorer.take(*item)
    asyncio.run(scorer.warm_up())
    for item in events[snapshot + 3000 :]:
        scorer.take(*item)
    scorer.commit()
    scorer.close()
    expected = _predictions(alone)
    found = _predictions(lake)
    assert found.size == expected.size
    for name in ("event_seq", "book_seq", "raw_score", "probability", "doubt"):
        np.testing.assert_array_equal(found[name], expected[name])


def test_events_that_come_while_the_past_is_folded_are_neither_lost_nor_turned(events, tmp_path, monkeypatch):
    monkeypatch.setattr(scored, "_SLICE_S", 0.0)  # others have their turn after each event that waited
    model, lake, alone, goes_on = _champion(1, 1), Lake(tmp_path / "lake"), Lake(tmp_path / "alone"), threading.Event()
    asyncio.run(record(Recorder(alone, VENUE, "s", lambda: model), _each(events)))
    asyncio.run(record(Recorder(lake, VENUE, "s"), _each(events)))
    find, waited = warm_from(lake, VENUE), []

    def warm(*given):
        waited.append(goes_on.wait(20))  # for frames that can come only if nobody waits here for the loop
        return find(*given)

    scorer = Recorder(lake, VENUE, "late", lambda: model, tables=(), warm=warm)

    async def frames():
        for n, item in enumerate(events):
            yield item
            if n % 100 == 0:
                await asyncio.sleep(0.002)
            if waited or n == len(events) * 2 // 3:
                goes_on.set()
        while scorer.stream(RAW).scored.is_waiting:
            await asyncio.sleep(0.01)

    asyncio.run(record(scorer, frames(), commit_s=0.01))
    assert waited == [True]
    expected, found = _predictions(alone), _predictions(lake)
    assert found.size == expected.size
    for name in ("event_seq", "book_seq", "raw_score", "probability", "doubt"):
        np.testing.assert_array_equal(found[name], expected[name])


def test_a_scorer_can_be_stopped_while_it_looks_for_its_past(events, tmp_path):
    stop, looks = threading.Event(), []

    def warm(symbol, features, detectors, pending, is_over):
        looks.append(symbol)
        stop.set()
        while not is_over():
            time.sleep(0.01)
        return False

    scorer = Recorder(Lake(tmp_path), VENUE, "late", lambda: None, tables=(), warm=warm)

    async def frames():
        for item in events:
            yield item
            while item is events[4000] and not stop.is_set():
                await asyncio.sleep(0.01)

    asyncio.run(record(scorer, frames(), commit_s=0.01))
    assert looks == [SYMBOL]
    assert scorer.stream(RAW).scored.is_waiting


def _late(lake, model, events, missed=(), wait=3000):
    """Score a recorded stream as a process that starts late and misses some frames, by their place."""
    scorer = Recorder(lake, VENUE, "late", lambda: model, tables=(), warm=warm_from(lake, VENUE))
    snapshot = next(i for i, (_, _, frame) in enumerate(events) if b"lastUpdateId" in frame)
    for n, item in enumerate(events):
        if n == snapshot + wait:
            asyncio.run(scorer.warm_up())
        if n not in missed:
            scorer.take(*item)
    scorer.commit()
    scorer.close()
    return snapshot


def test_a_scorer_that_misses_a_trade_still_names_the_books_it_scored(events, tmp_path):
    model, lake, alone = _champion(1, 1), Lake(tmp_path / "lake"), Lake(tmp_path / "alone")
    asyncio.run(record(Recorder(alone, VENUE, "s", lambda: model), _each(events)))
    asyncio.run(record(Recorder(lake, VENUE, "s"), _each(events)))
    trade = next(n for n, (_, _, frame) in enumerate(events) if n > 4500 and b"@trade" in frame)
    _late(lake, model, events, {trade})
    books, found = lake.rows("l2_snapshots", VENUE, SYMBOL), _predictions(lake)
    named = found[found["book_seq"] >= 0]
    assert named.size == found.size == books.size
    for name in ("exchange_ns", "event_seq"):
        np.testing.assert_array_equal(named[name], books[named["book_seq"]][name])


def test_a_book_that_nobody_recorded_is_named_by_none(events, tmp_path):
    lake, half = Lake(tmp_path), len(events) // 2
    asyncio.run(record(Recorder(lake, VENUE, "s"), _each(events[:half])))
    _late(lake, _champion(1, 1), events)
    books, found = lake.rows("l2_snapshots", VENUE, SYMBOL), _predictions(lake)
    assert found.size > books.size > 100
    np.testing.assert_array_equal(found["book_seq"][: books.size], books["seq"])
    assert set(found["book_seq"][books.size :]) == set(found["event_seq"][books.size :]) == {-1}


def test_a_gap_while_a_scorer_warms_up_makes_its_books_doubtful(events, tmp_path):
    model, lake, alone = _champion(1, 1), Lake(tmp_path / "lake"), Lake(tmp_path / "alone")
    snapshot = next(i for i, (_, _, frame) in enumerate(events) if b"lastUpdateId" in frame)
    gap, again = snapshot + 1500, (RAW, events[snapshot + 1500][1], events[snapshot][2])
    lost = [*events[:gap], (RAW, events[gap][1], b""), again, *events[gap:]]
    asyncio.run(record(Recorder(alone, VENUE, "s", lambda: model), _each(lost)))
    asyncio.run(record(Recorder(lake, VENUE, "s"), _each(lost)))
    _late(lake, model, lost)
    expected, found = _predictions(alone), _predictions(lake)
    changes = lake.rows("coverage_changes", VENUE, SYMBOL)
    assert changes["event_seq"][changes["state"] == GAP].size
    for name in ("event_seq", "doubt", "raw_score"):
        np.testing.assert_array_equal(found[name], expected[name])


def test_books_before_a_scored_stretch_are_scored_too(events, tmp_path):
    model, lake = _champion(1, 1), Lake(tmp_path)
    asyncio.run(record(Recorder(lake, VENUE, "s"), _each(events)))
    for partition in lake.partitions("l2_snapshots"):
        featurize(lake, *partition)
    later = lake.rows("l2_snapshots", VENUE, SYMBOL)[300:400]
    told = np.zeros(later.size, row_dtype("predictions"))
    for name in ("exchange_ns", "receive_ns", "event_seq"):
        told[name] = later[name]
    told["seq"] = np.arange(told.size)
    with lake.writer() as writer:
        writer.session(VENUE, SYMBOL, "live", ("predictions",)).append("predictions", told)
    books = lake.rows("l2_snapshots", VENUE, SYMBOL)
    assert score(lake, model, VENUE, SYMBOL)["rows"] == books.size - 100
    np.testing.assert_array_equal(np.sort(_predictions(lake)["event_seq"]), books["event_seq"])
    assert score(lake, model, VENUE, SYMBOL)["rows"] == 0


def test_rows_of_the_whole_catalogue_are_needed(events):
    model = _champion(1, 1)
    assert model.score(np.zeros(len(NAMES)))[1] == model.batch(np.zeros((1, len(NAMES))))[0, 1]


def test_signals_as_they_happen_equal_those_of_batch_bit_for_bit(tmp_path):
    capture = next((c for c in CAPTURES if c.name.startswith("binance_usdm-")), CAPTURES[1])
    live, batch = Lake(tmp_path / "live"), Lake(tmp_path / "batch")
    frames = [(capture.raw_symbol, *frame) for frame in capture.frames()]
    asyncio.run(record(Recorder(live, capture.venue, "s", lambda: None), _each(frames)))
    asyncio.run(record(Recorder(batch, capture.venue, "s"), _each(frames)))
    for lake in (batch, live):
        for partition in lake.partitions("l2_snapshots"):
            featurize(lake, *partition)
    found = [lake.rows("signals", VENUE, SYMBOL) for lake in (live, batch)]
    assert found[0].tobytes() == found[1].tobytes()
    assert found[0].size > 0
    assert batch.manifest("signals", *batch.partitions("features")[0])
    bars = [lake.read("bars", VENUE, SYMBOL).drop_columns(["venue", "symbol", "day"]) for lake in (live, batch)]
    assert bars[0].num_rows > 300
    assert all(bars[0][name].to_numpy().tobytes() == bars[1][name].to_numpy().tobytes() for name in bars[0].column_names)
