import asyncio

import numpy as np
import pytest

from simulator import frames
from tasks.detectors.fold import Detectors
from tasks.features.fold import META, Features
from tasks.featurize import feature_matrix, featurize
from tasks.label import label
from tasks.record import Recorder, record
from warehouse.lake import Lake

VENUE, RAW, SYMBOL = "binance_usdm", "BTCUSDT", "BTC-USDT-PERP"
MIDNIGHT = int(np.datetime64("2026-01-02", "ns").astype(np.int64))


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    made = Lake(tmp_path_factory.mktemp("midnight"))

    async def events():
        for receive_ns, frame in frames(VENUE, RAW, 90.0, seed=6, start_ns=MIDNIGHT - 50_000_000_000):
            yield RAW, receive_ns, frame

    asyncio.run(record(Recorder(made, VENUE, "one night"), events()))
    return made


@pytest.fixture(scope="module")
def manifests(lake):
    return {day: featurize(lake, venue, symbol, day) for venue, symbol, day in lake.partitions("l2_snapshots")}


def test_features_by_day_equal_one_fold_over_midnight(lake, manifests):
    assert len(manifests) == 2
    meta, matrix = feature_matrix(lake, VENUE, SYMBOL)
    books, trades, changes = (lake.rows(table, VENUE, SYMBOL) for table in ("l2_snapshots", "trades", "coverage_changes"))
    whole_meta, whole = Features().batch(books, trades, changes)
    Detectors().batch(whole_meta, whole)
    assert matrix.tobytes() == whole.tobytes()
    for name in META.names:
        np.testing.assert_array_equal(meta[name], whole_meta[name])


def test_an_unchanged_partition_is_skipped(lake, manifests):
    for day in manifests:
        assert featurize(lake, VENUE, SYMBOL, day)["skipped"]


def test_labels_of_the_last_second_of_a_day_look_into_the_next(lake, manifests):
    first = sorted(manifests)[0]
    label(lake, VENUE, SYMBOL, first)
    labels = lake.rows("labels", VENUE, SYMBOL)
    last = labels[labels["exchange_ns"] < MIDNIGHT][-1]
    assert last["label_end_ns"] > MIDNIGHT
    assert np.isfinite(last["return_bps"])
    assert last["doubt"] == 0
