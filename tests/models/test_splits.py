import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from models.errors import ShapeError, TooLittleDataError
from models.splits import PurgedKFold, WalkForward, overlaps


@st.composite
def _spans(draw):
    n = draw(st.integers(6, 80))
    start = np.array(draw(st.lists(st.integers(0, 200), min_size=n, max_size=n)))
    length = np.array(draw(st.lists(st.integers(0, 60), min_size=n, max_size=n)))
    return np.column_stack([start, start + length])


@settings(max_examples=150, deadline=None)
@given(spans=_spans(), n_folds=st.integers(2, 5), embargo=st.integers(0, 30), kind=st.sampled_from(["expanding", "rolling", "kfold"]))
def test_no_training_label_meets_a_test_label(spans, n_folds, embargo, kind):
    splitter = PurgedKFold(n_folds, embargo) if kind == "kfold" else WalkForward(n_folds, kind == "expanding", embargo_ns=embargo)
    folds = splitter.folds(spans)
    assert len(folds) == splitter.get_n_splits() == n_folds
    for fold in folds:
        for i in fold.train:
            for j in fold.test:
                assert spans[i, 1] + embargo < spans[j, 0] or spans[i, 0] > spans[j, 1] + embargo
        assert overlaps(spans, fold, embargo) == 0
        assert not set(fold.train) & set(fold.test)
    tested = np.concatenate([fold.test for fold in folds])
    assert len(tested) == len(set(tested.tolist()))
    if kind == "kfold":
        assert sorted(tested.tolist()) == list(range(len(spans)))
        assert all(len(f.train) + len(f.test) + f.purged + f.embargoed == len(spans) for f in folds)
    else:
        for fold in folds:
            assert len(fold.train) == 0 or spans[fold.train, 1].max() < spans[fold.test, 0].min()


def test_small_walk_forward_written_out():
    start = np.arange(9) * 10
    spans = np.column_stack([start, start + 14])
    folds = WalkForward(2, embargo_ns=10).folds(spans)
    assert [(f.train.tolist(), f.test.tolist(), f.purged, f.embargoed) for f in folds] == [
        ([0], [3, 4, 5], 1, 1),
        ([0, 1, 2, 3], [6, 7, 8], 1, 1),
    ]
    rolling = WalkForward(2, expanding=False, window=1).folds(spans)
    assert [f.train.tolist() for f in rolling] == [[0, 1], [3, 4]]


def test_rows_may_come_in_any_order():
    start = np.array([50, 10, 40, 0, 30, 20])
    spans = np.column_stack([start, start + 5])
    assert [f.test.tolist() for f in WalkForward(2).folds(spans)] == [[4, 5], [0, 2]]


def test_scikit_learn_takes_the_splitters():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    y = (x[:, 0] > 0).astype(int)
    spans = np.column_stack([np.arange(200), np.arange(200) + 3])
    for splitter in (WalkForward(4), PurgedKFold(4, embargo_ns=2)):
        scores = cross_val_score(LogisticRegression(), x, y, groups=spans, cv=splitter, scoring="roc_auc")
        assert len(scores) == 4
        assert scores.min() > 0.9


def test_spans_are_required_and_checked():
    with pytest.raises(ShapeError):
        WalkForward(2).split(np.zeros(10))
    with pytest.raises(ShapeError):
        PurgedKFold(2).folds(np.array([[5, 4], [6, 7]]))
    with pytest.raises(TooLittleDataError):
        WalkForward(5).folds(np.zeros((3, 2), np.int64))
