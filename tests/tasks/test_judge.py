import dataclasses

import numpy as np
import pytest

from models import booster
from models.errors import NoChampionError
from models.registry import TRAINED_UNTIL, Registry
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


def test_rows_that_the_champion_was_trained_on_do_not_count(registry):
    examples = made_up(3000, seed=2)
    version, cut = registry.champion_version(), int(examples.exchange_ns[2000])
    whole = judge(registry, examples)
    registry.annotate(version, {TRAINED_UNTIL: cut})
    newer = judge(registry, examples)
    registry.annotate(version, {TRAINED_UNTIL: int(examples.exchange_ns[-1])})
    nothing = judge(registry, examples)
    registry.annotate(version, {TRAINED_UNTIL: 0})
    assert newer["rows"] == (examples.usable & (examples.exchange_ns > cut)).sum() < whole["rows"]
    assert nothing["rows"] == 0
    assert np.isnan(nothing["auc"])


def test_bounds_count_blocks_of_time_and_not_overlapping_rows(registry):
    examples = made_up(3000, seed=2)
    found = judge(registry, examples)
    assert found["auc_low"] < found["auc"] < found["auc_high"]
    assert 20 < found["blocks"] < 40  # 5 minutes, 10 s each
    often = np.repeat(np.arange(3000), 5)  # the same rows five times: five times the rows, and nothing more is known
    names = ("x", "exchange_ns", "label_end_ns", "direction", "vol_return", "return_bps", "bid", "ask", "baseline", "doubt")
    repeated = judge(registry, dataclasses.replace(examples, **{name: getattr(examples, name)[often] for name in names}))
    assert repeated["rows"] == 5 * found["rows"]
    assert (repeated["auc_low"], repeated["auc_high"]) == pytest.approx((found["auc_low"], found["auc_high"]))


def test_doubtful_rows_do_not_count(registry):
    examples = made_up(3000, seed=2)
    doubt = np.zeros(3000, np.int64)
    doubt[:2000] = 2
    assert judge(registry, dataclasses.replace(examples, doubt=doubt))["rows"] <= 1000
