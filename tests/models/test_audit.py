import numpy as np

from models.audit import check_alteration, check_plausible, check_shuffled, check_spans, check_truncation
from models.examples import Choices
from models.splits import Fold, WalkForward
from tests.models.examples import SECOND, made_up


def _features(price, peek):
    mean = np.cumsum(price) / np.arange(1, len(price) + 1)
    ahead = np.append(price[1:], price[-1]) if peek else price
    return np.column_stack([price, mean, ahead])


NAMES = ["price", "mean", "ahead"]


def test_truncation_finds_the_planted_peek_and_nothing_else():
    price = np.random.default_rng(0).normal(size=300)
    assert check_truncation(lambda n: _features(price[:n], False), 300, NAMES, [10, 100, 299]) == []
    found = check_truncation(lambda n: _features(price[:n], True), 300, NAMES, [10, 100, 299])
    assert [(f.check, f.subject) for f in found] == [("truncation", "ahead")]
    assert "cut at event 10: row 9" in found[0].detail


def test_alteration_finds_what_knew_the_future():
    price = np.random.default_rng(0).normal(size=300)
    other = price.copy()
    other[200:] += 5
    assert check_alteration(_features(price, False), _features(other, False), NAMES, 200) == []
    found = check_alteration(_features(price, True), _features(other, True), NAMES, 200)
    assert [f.subject for f in found] == ["ahead"]


def test_scaling_by_the_whole_sample_is_found():
    price = np.random.default_rng(0).normal(size=100)
    assert check_truncation(lambda n: price[:n, None] - price[:n].mean(), 100, ["scaled"], [50])


def test_missing_values_are_no_difference():
    x = np.full((50, 1), np.nan)
    assert check_truncation(lambda n: x[:n], 50, ["unknown"], [20]) == []


def test_a_feature_too_good_to_be_true_is_named():
    e = made_up(n=3000)
    assert check_plausible(e.x, e.names, e.direction, e.return_bps) == []
    peek = np.column_stack([e.x, e.return_bps + np.random.default_rng(0).normal(size=3000) * 0.05])
    found = check_plausible(peek, (*e.names, "peek"), e.direction, e.return_bps)
    assert [f.subject for f in found] == ["peek"]
    assert [f.subject for f in check_plausible(-peek, (*e.names, "peek"), e.direction, e.return_bps)] == ["peek"]


def test_spans_that_meet_are_counted():
    spans = np.column_stack([np.arange(20) * 10, np.arange(20) * 10 + 15])
    assert check_spans(spans, WalkForward(3, embargo_ns=5).folds(spans), 5) == []
    careless = Fold(np.arange(10), np.arange(10, 20), 0, 0, 100, 205)
    assert check_spans(spans, [careless])[0].detail.startswith("1 training labels")


def test_shuffled_labels_leave_chance():
    assert check_shuffled(made_up(n=3000), Choices(horizon_ns=SECOND, n_folds=3, n_trees=20), repeats=2) == []


def test_machinery_that_knows_the_answer_is_caught(monkeypatch):
    # Features that carry the shuffled label itself, as a join gone wrong would.
    import models.audit as audit

    def leaking(examples, seed):
        dealt = audit_shuffled(examples, seed)
        return type(dealt)(**{**vars(dealt), "x": np.column_stack([dealt.x[:, :-1], dealt.return_bps])})

    audit_shuffled = audit.shuffled
    monkeypatch.setattr(audit, "shuffled", leaking)
    found = audit.check_shuffled(made_up(n=2000), Choices(horizon_ns=SECOND, n_folds=3, n_trees=20), repeats=1)
    assert [f.check for f in found] == ["shuffled labels"]
