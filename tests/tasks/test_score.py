import asyncio

import numpy as np
import pytest

from models import booster
from models.registry import ChampionModel
from simulator import frames
from tasks.features.catalogue import NAMES, SETS
from tasks.featurize import featurize
from tasks.record import Recorder, record
from tasks.score import LiveModel, score, warm_from
from warehouse.lake import Lake

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
    scorer.warm_up()
    for item in events[snapshot + 3000 :]:
        scorer.take(*item)
    scorer.commit()
    scorer.close()
    expected = _predictions(alone)
    found = _predictions(lake)
    assert found.size == expected.size
    for name in ("event_seq", "book_seq", "raw_score", "probability", "doubt"):
        np.testing.assert_array_equal(found[name], expected[name])


def test_rows_of_the_whole_catalogue_are_needed(events):
    model = _champion(1, 1)
    assert model.score(np.zeros(len(NAMES)))[1] == model.batch(np.zeros((1, len(NAMES))))[0, 1]
