import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.detectors.cusum import CUSUM, arl, cusum, h_for_arl, siegmund_arl
from tests import naive_detectors as naive

VALUES = st.lists(st.one_of(st.floats(-5, 5), st.sampled_from([math.nan, 0.5, -0.5, 100.0, -100.0])), max_size=60)


@settings(max_examples=150, deadline=None)
@given(VALUES, st.floats(0.5, 6.0))
def test_sums_are_those_of_the_definition(z, h):
    z = np.array(z)
    up, down = naive.cusum(z, h).reshape(-1, 2).T
    np.testing.assert_array_equal(cusum(z, h), np.where(up >= down, up, -down))


@settings(max_examples=60, deadline=None)
@given(VALUES, st.integers(0, 60))
def test_any_split_folds_to_the_whole(z, at):
    z, state = np.array(z), np.zeros(1, CUSUM)
    parts = np.concatenate([cusum(z[:at], 3.0, state), cusum(z[at:], 3.0, state)])
    assert parts.tobytes() == cusum(z).tobytes()


@settings(deadline=None)
@given(VALUES)
def test_falls_mirror_rises(z):
    z = np.array(z)
    fallen, risen = cusum(-z), cusum(z)
    np.testing.assert_array_equal(np.abs(fallen), np.abs(risen))
    unequal = np.abs(risen) > 0  # of two equal sums the rising one is told
    both = naive.cusum(z, 3.0).reshape(-1, 2)
    unequal &= both[:, 0] != both[:, 1]
    np.testing.assert_array_equal(fallen[unequal], -risen[unequal])


def test_an_alarm_begins_both_sums_anew():
    state = np.zeros(1, CUSUM)
    assert cusum(np.array([4.0]), 3.0, state)[0] == 3.5
    assert state[0]["up"] == state[0]["down"] == 0.0


def test_unknown_values_change_nothing():
    state = np.zeros(1, CUSUM)
    cusum(np.array([2.0]), 3.0, state)
    before = state.tobytes()
    assert np.isnan(cusum(np.full(3, np.nan), 3.0, state)).all()
    assert state.tobytes() == before


# Montgomery, "Introduction to Statistical Quality Control", table of run lengths of the two-sided
# CUSUM with k = 1/2: shift, then h = 4 and h = 5.
TEXTBOOK = [(0.0, 168, 465), (0.5, 26.6, 38.0), (1.0, 8.38, 10.4), (1.5, 4.75, 5.75), (2.0, 3.34, 4.01), (3.0, 2.19, 2.57)]


@pytest.mark.parametrize(("shift", "four", "five"), TEXTBOOK)
def test_run_lengths_are_the_textbooks(shift, four, five):
    assert arl(4.0, shift) == pytest.approx(four, rel=0.005)
    assert arl(5.0, shift) == pytest.approx(five, rel=0.005)


@pytest.mark.parametrize("h", [3.0, 4.0, 5.0])
def test_siegmunds_approximation_is_near(h):
    one_sided = 2.0 * arl(h)  # both sides are alike without a shift
    assert siegmund_arl(h) == pytest.approx(one_sided, rel=0.02)
    assert siegmund_arl(h, 1.0) == pytest.approx(arl(h, 1.0), rel=0.05)
    assert siegmund_arl(h, 0.5) == pytest.approx((h + 1.166) ** 2)


@settings(max_examples=20, deadline=None)
@given(st.floats(3.0, 1e6))
def test_threshold_and_run_length_are_inverse(target):
    assert arl(h_for_arl(target)) == pytest.approx(target, rel=1e-4)


def test_impossible_run_lengths_are_refused():
    for target in (1.0, -3.0, math.nan, 1e9):
        with pytest.raises(ValueError, match="average run length"):
            h_for_arl(target)
    with pytest.raises(ValueError, match="positive"):
        arl(0.0)
