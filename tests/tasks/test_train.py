import asyncio
import shutil

import numpy as np
import pytest
from mlflow import MlflowClient

from models.errors import FeatureSetError, TooLittleDataError
from models.examples import Choices
from models.meta import trades_of
from models.registry import Registry
from simulator.capture import frames
from tasks.featurize import featurize
from tasks.label import label
from tasks.meta import second_model
from tasks.promote import promote, rivalry
from tasks.record import Recorder, record
from tasks.train import examples_of, train_model
from warehouse.errors import UnknownStreamError
from warehouse.expectations import Findings, Stretch
from warehouse.lake import Lake
from warehouse.quarantine import mark
from warehouse.schema import RECONNECT, SUSPECT, WITNESS

VENUE, RAW, SYMBOL = "binance_usdm", "BTCUSDT", "BTC-USDT-PERP"
SECOND = 1_000_000_000
CHOICES = Choices(horizon_ns=SECOND, n_folds=3, embargo_ns=SECOND, n_trees=100, max_rows=2_500)


def _lake(root, hidden):
    """A lake with ten minutes of a simulated market, features and labels."""

    async def source():
        for receive_ns, frame in frames(VENUE, RAW, 600.0, seed=4, hidden=hidden):
            yield RAW, receive_ns, frame

    lake = Lake(root)
    asyncio.run(record(Recorder(lake, VENUE, "made"), source()))
    for venue, symbol, day in lake.partitions("l2_snapshots"):
        featurize(lake, venue, symbol, day)
        label(lake, venue, symbol, day)
    return lake


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A lake with something to learn, its registry, and what was trained from it."""
    root = tmp_path_factory.mktemp("taught")
    lake = _lake(root, hidden=True)
    registry = Registry(f"sqlite:///{root / 'models' / 'mlflow.db'}", root / "models" / "artifacts")
    return lake, registry, train_model(lake, registry, VENUE, SYMBOL, CHOICES)


@pytest.fixture(scope="module")
def again(taught):
    lake, registry, _ = taught
    return train_model(lake, registry, VENUE, SYMBOL, CHOICES)


def test_planted_signal_is_found(taught):
    _, _, trained = taught
    assert trained.result.auc.low > 0.52
    assert trained.result.metrics["ic"] > 0.05


def test_a_second_model_is_judged_on_later_trades_and_kept_with_the_run(taught):
    _, registry, trained = taught
    rows = second_model(registry, trained.run_id, trained.examples, trained.result, fee_bps=0.0)
    assert [row["share"] for row in rows] == [0.1, 0.25, 0.5, 1.0]
    whole = rows[-1]
    tested = trades_of(trained.examples, trained.result, 0.0)
    assert whole["trades"] < len(tested.paid), "the first of them only teach"
    assert whole["precision"] == whole["first_precision"]
    assert whole["recall"] == whole["first_recall"] == 1.0
    for row in rows[:-1]:
        assert row["recall"] == pytest.approx(row["trades"] * row["precision"] / (whole["trades"] * whole["precision"]))
    assert registry.document(trained.run_id, "meta.json")["rows"] == rows
    logged = MlflowClient(registry.uri).get_run(trained.run_id).data.metrics
    assert logged["meta_precision_25"] == rows[1]["precision"]
    with pytest.raises(TooLittleDataError, match="two fees of 100 bps needs at least 1 rows"):
        second_model(registry, trained.run_id, trained.examples, trained.result, fee_bps=100.0)


@pytest.mark.parametrize("name", ["bars_41", "cross_venue_15", "trades", "no_such"])
def test_sets_that_cannot_be_trained_on_are_told(tmp_path, name):
    with pytest.raises(FeatureSetError, match="all, l2_core"):
        examples_of(Lake(tmp_path), "binance_usdm", "BTC-USDT-PERP", name)


def test_without_the_hidden_state_there_is_nothing_to_find(tmp_path):
    lake = _lake(tmp_path, hidden=False)
    registry = Registry(f"sqlite:///{tmp_path / 'models' / 'mlflow.db'}", tmp_path / "models" / "artifacts")
    trained = train_model(lake, registry, VENUE, SYMBOL, CHOICES)
    auc = trained.result.auc
    assert auc.value == pytest.approx(0.5, abs=0.04)
    assert not promote(registry, trained.version, trained.result, trained.examples).promote
    assert registry.champion_version() is None


def test_doubtful_and_cold_rows_are_flagged(taught):
    lake, _, trained = taught
    examples = examples_of(lake, VENUE, SYMBOL)
    first_ns = examples.exchange_ns[0]
    assert not examples.usable[examples.exchange_ns < first_ns + 29 * SECOND].any()
    assert not examples.usable[examples.exchange_ns > examples.exchange_ns[-1] - SECOND // 2].any()
    assert trained.result.lost["start"] > 0
    assert trained.result.lost["start"] + examples.usable.sum() + trained.result.lost["no label"] == len(examples.exchange_ns)


def test_a_version_names_its_data_and_trains_again_to_the_same(taught, again):
    lake, registry, trained = taught
    model = registry.load(trained.version)
    assert model.tags["catalogue"]
    assert model.tags["seed"] == "0"
    assert int(model.tags["lake_features"]) == lake.version("features")
    assert lake.pins()[f"model-{trained.version}"]["labels"] == lake.version("labels")
    assert registry.load(again.version).text == model.text
    assert again.result.metrics == trained.result.metrics


def test_champion_serves_and_an_equal_one_does_not_replace_it(taught, again):
    _, registry, trained = taught
    decision = promote(registry, trained.version, trained.result, trained.examples)
    assert decision.promote, decision.why
    assert registry.champion().tags["why"] == decision.why
    kept = promote(registry, again.version, again.result, again.examples)
    assert not kept.promote
    assert registry.champion_version() == trained.version
    assert registry.load(again.version).tags["why"] == kept.why
    assert rivalry(registry, again.result, again.examples).moved == 0  # nothing is later than what the champion learnt from


def test_champion_and_candidate_meet_only_on_rows_that_both_had_not_seen(taught):
    lake, registry, trained = taught
    whole = trained.examples
    middle_ns = trained.result.test_start_ns + (trained.result.test_end_ns - trained.result.test_start_ns) // 2
    early = train_model(lake, registry, VENUE, SYMBOL, CHOICES, end_ns=middle_ns)
    until_ns = int(registry.load(early.version).tags["trained_until_ns"])
    assert middle_ns - 2 * SECOND < until_ns < middle_ns + SECOND
    registry.set_champion(early.version, "made")
    rival = rivalry(registry, trained.result, whole)
    rows = trained.result.out_of_sample.row
    assert rival.moved == ((whole.direction[rows] != 0) & (whole.exchange_ns[rows] > until_ns)).sum() > 200
    assert rival.champion_auc == pytest.approx(trained.result.auc.value, abs=0.05)


def test_labels_of_another_time_do_not_reach_into_rows(taught):
    lake, _, _ = taught
    whole = examples_of(lake, VENUE, SYMBOL)
    middle = int(whole.exchange_ns[len(whole.exchange_ns) // 2])
    part = examples_of(lake, VENUE, SYMBOL, end_ns=middle)
    n = len(part.exchange_ns)
    assert 0 < n < len(whole.exchange_ns)
    assert np.array_equal(part.x, whole.x[:n], equal_nan=True)
    assert np.array_equal(part.direction, whole.direction[:n])


def test_rows_whose_features_or_label_touch_a_finding_are_left_out(taught, tmp_path):
    lake = Lake(shutil.copytree(taught[0].root, tmp_path / "copy"))
    before = examples_of(lake, VENUE, SYMBOL)
    first = int(before.exchange_ns[0])
    stretches = {SUSPECT: (100, 110), WITNESS: (200, 201), RECONNECT: (300, 310)}
    writer = lake.writer()
    session = writer.session(VENUE, SYMBOL, "found", ("findings",))
    for seq, (kind, (start, end)) in enumerate(stretches.items()):
        row = {"exchange_ns": first + start * SECOND, "receive_ns": first, "seq": session.base["findings"] + seq}
        session.append(
            "findings", [row | {"end_ns": first + end * SECOND, "kind": kind, "expected": 0.0, "received": 0.0, "detail": "made"}]
        )
    writer.close()
    (day,) = (day for _, _, day in lake.partitions("labels"))
    beyond = Stretch("l2_snapshots", "price_jumped", first + 400 * SECOND, first + 405 * SECOND, 1)
    mark(
        lake,
        VENUE,
        SYMBOL,
        day,
        Findings({}, {}, {}, (beyond, beyond._replace(table="ohlcv", rule="volume_negative", start_ns=first + 500 * SECOND))),
    )
    after = examples_of(lake, VENUE, SYMBOL)
    at = (after.exchange_ns - first) / SECOND
    until = lake.read("labels", VENUE, SYMBOL)["barrier_end_ns"].to_numpy()
    for start, end in (stretches[SUSPECT], stretches[WITNESS], (400, 405)):
        touched = (at <= end + 30) & (np.maximum(until, after.label_end_ns) >= first + start * SECOND)
        assert touched.sum() > 50
        assert not after.usable[touched].any()
    lost = after.lost
    assert min(lost["suspect"], lost["witness"], lost["quarantined"]) > 50
    assert sum(lost.values()) + after.usable.sum() == len(after.exchange_ns)
    assert "reconnect" not in lost
    same = after.doubt == before.doubt
    assert same[(at > 302) & (at < 360)].all()
    assert same[at > 440].all()
    mark(lake, VENUE, SYMBOL, day, Findings({}, {"trades.seq_missing": 1}, {}))
    assert not examples_of(lake, VENUE, SYMBOL).usable.any()
    mark(lake, VENUE, SYMBOL, day, Findings({}, {}, {}))
    assert "quarantined" not in examples_of(lake, VENUE, SYMBOL).lost


def test_an_unknown_stream_is_named_with_those_that_there_are(taught):
    with pytest.raises(UnknownStreamError, match=f"{VENUE} {SYMBOL}.*tidebook refresh"):
        examples_of(taught[0], "nasdaq", SYMBOL)


def test_rows_that_came_after_the_named_versions_are_not_learnt_from(taught, tmp_path):
    lake = Lake(shutil.copytree(taught[0].root, tmp_path / "copy"))
    versions, before = lake.versions(), examples_of(lake, VENUE, SYMBOL)
    (day,) = (day for _, _, day in lake.partitions("labels"))
    rows = lake.rows("labels", VENUE, SYMBOL)[:1000]
    lake.replace("labels", VENUE, SYMBOL, day, {name: rows[name] for name in rows.dtype.names}, {"made": "shorter"})
    assert len(examples_of(lake, VENUE, SYMBOL).exchange_ns) < len(before.exchange_ns)
    assert np.array_equal(examples_of(lake, VENUE, SYMBOL, versions=versions).exchange_ns, before.exchange_ns)
