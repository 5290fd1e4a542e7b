import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import ShapeError
from models.weights import average_uniqueness, sample_weights, time_decay
from tests import naive_models as naive


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12)), min_size=1, max_size=40))
def test_uniqueness_equals_counting_at_every_moment(spans):
    start = np.array([s for s, _ in spans])
    end = np.array([s + d for s, d in spans])
    got = average_uniqueness(start, end)
    np.testing.assert_allclose(got, naive.average_uniqueness(start.tolist(), end.tolist()), rtol=1e-12)
    assert (got > 0).all()
    assert (got <= 1 + 1e-12).all()


def test_labels_that_never_meet_are_wholly_their_own():
    start = np.arange(5) * 10
    assert average_uniqueness(start, start + 9).tolist() == [1.0] * 5


def test_weights_average_one_and_fade_with_age():
    start = np.arange(3) * 100
    weight = sample_weights(start, start + 1, half_life_ns=100)
    np.testing.assert_allclose(weight, np.array([0.25, 0.5, 1.0]) * 3 / 1.75)


def test_returns_that_are_all_zero_leave_even_weights():
    start = np.arange(3)
    assert sample_weights(start, start, returns=np.zeros(3)).tolist() == [1.0] * 3


def test_span_that_ends_before_it_starts_is_refused():
    with pytest.raises(ShapeError):
        average_uniqueness(np.array([2]), np.array([1]))


# Three labels over six bars: the first holds bars 0 to 2, the second 2 and 3, the third 4 and 5.
# Bars 0, 1, 3, 4, 5 hold one label, bar 2 two; so 1, 1, 1/2 | 1/2, 1 | 1, 1.
START, END = np.array([0, 2, 4]), np.array([2, 3, 5])
UNIQUE = [(1 + 1 + 1 / 2) / 3, (1 / 2 + 1) / 2, 1.0]


def test_a_written_out_example_over_bars():
    np.testing.assert_allclose(average_uniqueness(START, END, np.arange(6)), UNIQUE, rtol=1e-15)
    np.testing.assert_allclose(average_uniqueness(START, END), [(1 + 1 / 2) / 2, 1 / 2, 1.0], rtol=1e-15)


def test_a_written_out_example_of_decay_by_uniqueness():
    total = sum(UNIQUE)
    share = np.array([UNIQUE[0], UNIQUE[0] + UNIQUE[1], total]) / total
    for oldest, expected in (
        (1.0, np.ones(3)),
        (0.5, 0.5 + 0.5 * share),
        (0.0, share),
        (-0.5, np.maximum(0, 1 - 2 * (1 - share))),  # reaches 0 where half of all uniqueness is still to come
    ):
        np.testing.assert_allclose(time_decay(START, np.array(UNIQUE), oldest), expected, rtol=1e-12)
    assert time_decay(START, np.array(UNIQUE), -0.5)[0] == 0.0
    shuffled = np.array([2, 0, 1])
    np.testing.assert_allclose(time_decay(START[shuffled], np.array(UNIQUE)[shuffled], 0.0), share[shuffled], rtol=1e-12)


def test_a_written_out_weight_is_uniqueness_times_return_times_decay():
    returns = np.array([-0.02, 0.01, 0.03])
    unique = np.array([0.75, 0.5, 1.0])
    share = np.array([0.75, 1.25, 2.25]) / 2.25
    by_hand = unique * np.array([0.02, 0.01, 0.03]) * (0.25 + 0.75 * share)
    np.testing.assert_allclose(sample_weights(START, END, returns, oldest=0.25), by_hand * 3 / by_hand.sum(), rtol=1e-12)


@pytest.mark.parametrize("oldest", [-1.0, 1.5, float("nan")])
def test_a_decay_that_is_none_is_refused(oldest):
    with pytest.raises(ShapeError, match="above -1"):
        time_decay(START, np.ones(3), oldest)


def test_a_span_without_a_moment_is_refused():
    with pytest.raises(ShapeError, match="row 1"):
        average_uniqueness(np.array([0, 5]), np.array([3, 6]), np.array([0, 1, 2]))
