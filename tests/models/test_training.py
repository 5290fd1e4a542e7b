from dataclasses import replace

import numpy as np
import pytest

from models.booster import ANCHOR_TREES, score
from models.errors import ShapeError, TooLittleDataError
from models.examples import Choices, Mirror, shuffled
from models.scorer import Scorer
from models.training import train
from tests.models.examples import SECOND, made_up

CHOICES = Choices(horizon_ns=SECOND, n_folds=4, embargo_ns=SECOND, n_trees=40)


@pytest.fixture(scope="module")
def examples():
    e = made_up(n=5000)
    e.doubt[1000:1100] = 2
    return e


@pytest.fixture(scope="module")
def result(examples):
    return train(examples, CHOICES)


def test_planted_signal_is_found_and_beats_the_baseline(result):
    assert result.auc.low > 0.6
    assert result.auc_gain.low > 0.02
    assert result.metrics["ic"] > result.metrics["baseline_ic"]
    assert result.metrics["break_even_bps"] > 0.1
    assert result.features[0]["name"] == "ofi_1s"
    assert result.metrics["ece"] < 0.1


def test_without_a_signal_there_is_nothing_to_find():
    result = train(made_up(n=5000, signal=0.0), CHOICES)
    assert result.auc.low < 0.5 < result.auc.high + 0.03
    gross = result.trades.gross_bps  # empty where nothing was extreme enough to trade
    assert len(gross) < 2 or abs(gross.mean()) < 4 * gross.std() / np.sqrt(len(gross))


def test_trading_limits_know_nothing_of_the_rows_that_they_are_used_on(examples, result):
    last = result.folds[-1].fold
    rows = np.flatnonzero(examples.usable)[last.test]
    x = examples.x.copy()
    x[rows] = 3 * x[rows][::-1]
    changed = train(replace(examples, x=x), CHOICES).out_of_sample
    seen, at = result.out_of_sample, result.out_of_sample.fold == len(result.folds) - 1
    assert not np.array_equal(changed.probability[at], seen.probability[at])
    for name in ("low", "high"):
        assert np.array_equal(getattr(changed, name), getattr(seen, name))


def test_shuffled_labels_are_chance(examples):
    result = train(shuffled(examples, seed=1), CHOICES)
    assert result.auc.value == pytest.approx(0.5, abs=0.03)
    assert result.auc_gain.low < 0.01


def test_rows_are_accounted_for(examples, result):
    usable = examples.usable
    assert result.lost["gap"] == 100
    assert result.lost["no label"] == int((~usable).sum()) - 100
    assert result.lost["flat"] == int((examples.direction[usable] == 0).sum())
    assert result.lost["purged"] > 0
    rows = result.out_of_sample.row
    assert usable[rows].all()
    assert (np.diff(rows) > 0).all()
    assert len(rows) == result.metrics["rows"]


def test_no_fold_trains_on_rows_whose_label_meets_its_test(examples, result):
    used = np.flatnonzero(examples.usable)
    for made in result.folds:
        train_rows, test_rows = used[made.fold.train], used[made.fold.test]
        assert examples.label_end_ns[train_rows].max() + CHOICES.embargo_ns < examples.exchange_ns[test_rows].min()


def test_same_seed_gives_the_same_model_and_another_does_not(examples, result):
    again = train(examples, CHOICES)
    assert again.text == result.text
    assert np.array_equal(again.out_of_sample.probability, result.out_of_sample.probability)
    assert again.metrics == result.metrics
    assert train(examples, replace(CHOICES, seed=1)).text != result.text


def test_the_scorer_serves_what_was_trained(examples, result):
    scorer = Scorer(result.text, result.calibration, examples.names)
    assert np.array_equal(scorer.batch(examples.x)[:, 0], score(result.model, examples.x))


def test_later_rows_change_no_earlier_fold(examples, result):
    cut = int(result.out_of_sample.row[result.out_of_sample.fold == 2][-1]) + 1
    changed = replace(examples, x=examples.x.copy(), direction=examples.direction.copy())
    changed.x[cut:] = 0.0
    changed.direction[cut:] *= -1
    again = train(changed, CHOICES)
    early = result.out_of_sample.fold <= 2
    assert np.array_equal(again.out_of_sample.raw[early], result.out_of_sample.raw[early])
    assert np.array_equal(again.out_of_sample.probability[early], result.out_of_sample.probability[early])


def test_search_counts_its_trials_and_sees_only_the_first_past(examples):
    choices = replace(CHOICES, n_trials=3, n_trees=15)
    result = train(examples, choices)
    assert result.n_trials == 3
    used = np.flatnonzero(examples.usable)
    cut = used[result.folds[0].fold.test[0]]
    changed = replace(examples, direction=examples.direction.copy())
    changed.direction[cut:] *= -1
    again = train(changed, choices)
    assert {**again.params, "n_trees": 0} == {**result.params, "n_trees": 0}


def test_every_cost_and_latency_has_its_number(result):
    nets = [tier.net_bps.value for tier in result.tiers]
    assert len(nets) >= 5
    assert nets == sorted(nets, reverse=True)
    assert nets[0] == pytest.approx(result.metrics["break_even_bps"] - result.tiers[0].cost_bps)
    assert len(result.latency_bps) >= 4


def test_too_few_rows_and_bad_shapes_are_refused(examples):
    with pytest.raises(TooLittleDataError, match="needs at least 100 rows"):
        train(made_up(n=120), CHOICES)
    with pytest.raises(ShapeError, match="bid"):
        replace(examples, bid=examples.bid[:-1])
    with pytest.raises(ShapeError, match="step back"):
        replace(examples, exchange_ns=examples.exchange_ns[::-1])


def _with_anchor(examples):
    # Odd features turn their sign in the mirror; none has a counterpart.
    n = len(examples.names)
    return replace(examples, anchor="imbalance_1", mirror=Mirror(np.arange(n), -np.ones(n)))


def test_an_anchored_model_takes_more_trees_only_for_a_reason(examples):
    choices = replace(CHOICES, n_trees=100)
    strong = train(_with_anchor(examples), choices)
    assert strong.folds[-1].n_trees > ANCHOR_TREES
    assert strong.auc_gain.low > 0.02
    alone = examples.x.copy()
    alone[:, 1] = np.random.default_rng(0).normal(size=len(alone))  # nothing but the anchor tells anything
    weak = train(replace(_with_anchor(examples), x=alone), choices)
    assert {fold.n_trees for fold in weak.folds} == {ANCHOR_TREES}
    assert weak.auc.value == pytest.approx(weak.baseline_auc.value, abs=0.02)
    assert weak.auc_gain.low > -0.03


def test_mirror_images_leave_no_trend(examples):
    result = train(_with_anchor(examples), replace(CHOICES, n_trees=100))
    assert result.calibration.b == pytest.approx(0.0, abs=1e-6)
    still = score(result.model, np.zeros((1, len(examples.names))))
    assert abs(still[0]) < 0.1


def test_thinning_keeps_the_ends_and_the_order(examples):
    few = train(examples, replace(CHOICES, max_rows=600))
    assert few.auc.low > 0.6
    assert few.folds[-1].trained_rows > 600  # what there was to train on, not what was taken
