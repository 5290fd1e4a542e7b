import math

import matplotlib.figure
import mlflow
import numpy as np
import pytest

from models import booster
from models import registry as registry_module
from models.errors import NoChampionError, RegistryNotWritableError
from models.registry import Registry
from models.scorer import Scorer

NAMES = ["mid", "spread_bps", "imbalance_1"]


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    root = tmp_path_factory.mktemp("mlflow")
    return Registry(f"sqlite:///{root}/models/mlflow.db", root / "models" / "artifacts")


def _model(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(400, 3))
    return booster.train(x, (x[:, 2] > 0).astype(float), NAMES, n_trees=5, params={"min_data_in_leaf": 5}, seed=seed), x


def _log(registry, model):
    figure = matplotlib.figure.Figure()
    figure.subplots().plot([1, 2])
    return registry.log_training(
        model,
        NAMES,
        (1.5, -0.25),
        run_name="a training",
        params={"n_trees": 5},
        metrics={"auc": 0.6, "net_bps": math.nan},
        steps=[{"auc": 0.5}, {"auc": 0.7}],
        tags={"lake_version": 7, "catalogue": "abc", "commit": "none", "seed": 0},
        figures={"plots/line.png": figure},
        documents={"folds.json": [{"purged": 3}], "note.txt": "hello"},
    )


def test_a_champion_comes_back_as_it_was_registered(registry):
    with pytest.raises(NoChampionError, match="tidebook"):
        registry.champion()
    assert registry.champion_version() is None
    model, x = _model(0)
    run = _log(registry, model)
    version = registry.register(run, {"lake_version": 7})
    assert registry.champion_version() is None
    registry.set_champion(version, "the first")
    champion = registry.champion()
    assert (champion.version, champion.run_id) == (version, run.run_id)
    assert champion.tags == {"lake_version": "7", "why": "the first"}
    scorer = Scorer(champion.text, champion.calibration, NAMES)
    assert np.array_equal(scorer.batch(x)[:, 0], booster.score(model, x))
    assert scorer.calibration == (1.5, -0.25)
    assert champion.names == tuple(NAMES)

    other, _ = _model(1)
    second = registry.register(_log(registry, other))
    assert registry.champion_version() == version
    registry.set_champion(second, "better")
    assert registry.champion_version() == second
    registry.annotate(version, {"retired": "yes"})
    assert registry.load(version).tags["retired"] == "yes"


def test_the_run_holds_what_was_logged(registry):
    run = _log(registry, _model(2)[0])
    client = mlflow.MlflowClient(registry.uri)
    kept = client.get_run(run.run_id)
    assert kept.data.params == {"n_trees": "5"}
    assert kept.data.metrics == {"auc": 0.6, "fold_auc": 0.7}
    assert [m.value for m in client.get_metric_history(run.run_id, "fold_auc")] == [0.5, 0.7]
    assert kept.data.tags["catalogue"] == "abc"
    assert kept.info.status == "FINISHED"
    assert {f.path for f in client.list_artifacts(run.run_id)} >= {"folds.json", "note.txt", "plots"}


def test_mlflow_itself_loads_the_champion(registry, monkeypatch):
    model, x = _model(3)
    registry.set_champion(registry.register(_log(registry, model)), "for mlflow")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(registry.uri)
    try:
        loaded = mlflow.lightgbm.load_model("models:/tidebook@champion")
    finally:
        mlflow.set_tracking_uri(before)
    assert np.array_equal(loaded.predict(x), model.predict(x))


def test_a_training_that_cannot_be_logged_leaves_a_failed_run(registry):
    with pytest.raises(TypeError):
        registry.log_training(
            _model(4)[0], NAMES, (1, 0), run_name="broken", params={}, metrics={}, tags={}, figures={"plots/x.png": "no figure"}
        )
    client = mlflow.MlflowClient(registry.uri)
    runs = client.search_runs([registry.experiment()], "attributes.run_name = 'broken'")
    assert [run.info.status for run in runs] == ["FAILED"]
    assert mlflow.active_run() is None


def test_a_store_that_may_only_be_read_tells_its_champion_and_takes_no_training(registry, monkeypatch):
    registry.set_champion(registry.register(_log(registry, _model(5)[0])), "for readers")
    monkeypatch.setattr(registry_module.os, "access", lambda *_, **__: False)
    reader = Registry(registry.uri, registry.artifacts)
    assert reader.champion_version() == registry.champion_version()
    with pytest.raises(RegistryNotWritableError, match="must be writable"):
        _log(reader, _model(5)[0])


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "models").touch()
    with pytest.raises(RegistryNotWritableError, match=r"models is not"):
        Registry(f"sqlite:///{tmp_path}/models/mlflow.db", tmp_path / "models" / "artifacts")
