import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import ShapeError
from models.weights import average_uniqueness, sample_weights
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
