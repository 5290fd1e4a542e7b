from dataclasses import replace

import numpy as np
import pytest

from models import meta
from models.errors import InSampleError, ShapeError, TooLittleDataError
from models.examples import Choices
from models.training import train
from tests.models.examples import SECOND, made_up

CHOICES = Choices(horizon_ns=SECOND, n_folds=3, embargo_ns=SECOND, n_trees=40)


@pytest.fixture(scope="module")
def examples():
    return made_up(n=3000)


@pytest.fixture(scope="module")
def result(examples):
    return train(examples, CHOICES)


def _trades(n=3000, seed=0):
    """Trades that pay when a feature says so, which the first model's conviction does not know."""
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.normal(size=(n, 3)), rng.uniform(0, 1, n)])
    net = 4.0 * x[:, 0] + rng.normal(size=n) * 3 - 1.0
    start_ns = np.arange(n) * SECOND
    paid = (net > 0).astype(np.int64)
    return meta.Trades(("told", "a", "b", "conviction"), x, x[:, 3], np.ones(n, np.int64), paid, net, start_ns, start_ns + SECOND)


def test_a_trade_pays_spread_fees_and_impact_both_ways():
    bid = np.array([100.0, 100.0, 100.3, 100.3])
    ask = bid + 0.1
    for side, gross in ((1, 1e4 * 0.2 / 100.1), (-1, -1e4 * 0.4 / 100.0)):
        for fee, impact in ((0.0, 0.0), (4.0, 0.0), (8.0, 3.0)):
            paid, net = meta.meta_labels(np.arange(4), bid, ask, np.array([side, 0, side, side]), 2, fee, impact)
            assert net[0] == pytest.approx(gross - 2 * fee - 2 * impact)
            assert paid[0] == (net[0] > 0)
            assert np.isnan(net[1:]).all()
            assert not paid[1:].any()


def test_the_longs_of_a_book_are_the_shorts_of_its_mirror_image():
    rng = np.random.default_rng(0)
    bid = 100 + np.cumsum(rng.choice([-0.1, 0.0, 0.1], 200))
    ask, side = bid + 0.05, rng.choice([-1, 0, 1], 200)
    _, net = meta.meta_labels(np.arange(200), bid, ask, side, 5, 0.0)
    _, turned = meta.meta_labels(np.arange(200), 1 / ask, 1 / bid, -side, 5, 0.0)
    np.testing.assert_allclose(net, turned, atol=0.6)  # bps of either price
    assert np.nanstd(net) > 5


def test_the_first_models_trades_are_those_of_its_unseen_scores(examples, result):
    trades = meta.trades_of(examples, result, fee_bps=0.0)
    seen = result.out_of_sample
    called = seen.row[(seen.probability >= seen.high) | (seen.probability <= seen.low)]
    assert set(trades.start_ns) <= set(examples.exchange_ns[called])
    assert len(called) - 20 <= len(trades.side) <= len(called)
    assert (trades.conviction > 0).mean() > 0.95
    all_trades = meta.trades_of(examples, result, fee_bps=0.0, margin=0.0)
    assert len(all_trades.side) > 5 * len(trades.side)
    assert trades.names == (*examples.names, meta.CONVICTION)
    assert meta.trades_of(examples, result, fee_bps=100.0).paid.sum() == 0


def test_scores_of_training_rows_are_refused(examples, result):
    seen, usable = result.out_of_sample, np.flatnonzero(examples.usable)
    row = seen.row.copy()
    row[-1] = usable[result.folds[-1].fold.train[-1]]
    with pytest.raises(InSampleError, match="1 scores of fold 2"):
        meta.trades_of(examples, replace(result, out_of_sample=replace(seen, row=row)), 0.0)
    row = seen.row.copy()
    row[seen.fold == 2] = usable[result.folds[-1].fold.train[: (seen.fold == 2).sum()]]
    with pytest.raises(InSampleError):
        meta.trades_of(examples, replace(result, out_of_sample=replace(seen, row=row)), 0.0)
    with pytest.raises(InSampleError, match="fold 9"):
        meta.trades_of(examples, replace(result, out_of_sample=replace(seen, fold=np.full_like(seen.fold, 9))), 0.0)


def test_rows_just_before_the_test_whose_labels_reach_into_training_are_refused(examples, result):
    fold = result.folds[0].fold
    trained = np.flatnonzero(examples.usable)[fold.train]
    near = int(trained[-1]) + 1  # purged: neither trained on nor tested
    seen = result.out_of_sample
    row = seen.row.copy()
    row[0] = near
    with pytest.raises(InSampleError, match="1 scores of fold 0"):
        meta.trades_of(examples, replace(result, out_of_sample=replace(seen, row=row)), 0.0)


def test_the_second_model_finds_the_trades_that_pay():
    found = meta.train_meta(_trades())
    by_share = {c.share: c for c in found.coverage}
    assert by_share[0.1].lift > 0.3
    assert by_share[0.25].lift > by_share[0.5].lift > 0.1
    assert by_share[1.0].lift == 0.0  # all of them are all of them
    assert found.purged > 0
    assert len(found.row) == len(set(found.row)) == by_share[1.0].n


def test_outcomes_dealt_out_anew_leave_no_lift():
    lifts = [c.lift for seed in range(3) for c in meta.train_meta(meta.shuffled(_trades(), seed)).coverage if c.share in (0.25, 0.5)]
    assert abs(np.mean(lifts)) < 0.05


def test_few_trades_and_odd_shapes_are_refused():
    with pytest.raises(TooLittleDataError, match="at least 100"):
        meta.train_meta(_trades(n=99))
    with pytest.raises(ShapeError):
        meta.meta_labels(np.arange(3), np.ones(3), np.ones(2), np.ones(3, np.int64), 1, 0.0)
