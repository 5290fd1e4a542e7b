import dataclasses

import numpy as np
import pytest

from models import booster
from models.errors import NoChampionError
from models.registry import Registry
from tasks.judge import judge
from tests.models.examples import made_up


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A store whose champion learnt from other examples of the same market."""
    root = tmp_path_factory.mktemp("mlflow")
    registry = Registry(f"sqlite:///{root}/mlflow.db", root / "artifacts")
    with pytest.raises(NoChampionError):
        judge(registry, made_up(500))
    seen = made_up(3000, seed=1)
    rows = np.flatnonzero(seen.usable & (seen.direction != 0))
    model = booster.train(seen.x[rows], (seen.direction[rows] > 0).astype(float), seen.names, n_trees=30, seed=0)
    run = registry.log_training(model, seen.names, (1.0, 0.0), run_name="a", params={}, metrics={}, tags={})
    registry.set_champion(registry.register(run), "first")
    return registry


def test_the_champion_is_judged_beside_the_baseline(registry):
    found = judge(registry, made_up(3000, seed=2))
    assert found["version"] == 1
    assert found["auc"] > found["baseline_auc"] > 0.5
    assert found["rows"] > 2000


def test_columns_may_come_in_another_order(registry):
    examples = made_up(3000, seed=2)
    order = [3, 0, 5, 1, 4, 2]
    shuffled = dataclasses.replace(examples, x=examples.x[:, order], names=tuple(examples.names[i] for i in order))
    assert judge(registry, shuffled) == judge(registry, examples)


def test_doubtful_rows_do_not_count(registry):
    examples = made_up(3000, seed=2)
    doubt = np.zeros(3000, np.int64)
    doubt[:2000] = 2
    assert judge(registry, dataclasses.replace(examples, doubt=doubt))["rows"] <= 1000
