import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from tasks.detectors.baseline import baseline_add, baseline_close, baseline_dtype, baseline_restart, standardise
from tests import naive_detectors as naive

TWO = baseline_dtype(2)


@njit(cache=True)
def _fold(b, seconds, x, out):
    second = seconds[0]
    for i in range(seconds.size):
        while second < seconds[i]:
            baseline_close(b[0])
            second += 1
        for k in range(2):
            out[i, k] = standardise(b[0], k, x[i, k])
            baseline_add(b[0], k, x[i, k])


def fold(seconds, x):
    b, out = np.zeros(1, TWO), np.empty(x.shape)
    baseline_restart(b[0])
    _fold(b, seconds, x, out)
    return out


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.2, 1.0, 3.0]), st.sampled_from([0.0, 5.0, 6e4]))
def test_zscores_are_against_the_300_seconds_before(seed, rate, level):
    rng = np.random.default_rng(seed)
    seconds = 1_700_000_000 + np.cumsum(rng.poisson(1 / rate, int(700 * rate)))
    x = level + rng.normal(size=(len(seconds), 2))
    x[rng.random(x.shape) < 0.1] = math.nan
    expected = [[naive.zscore(x[i, k], seconds[i], seconds[0], seconds[:i], x[:i, k]) for k in range(2)] for i in range(len(seconds))]
    np.testing.assert_allclose(fold(seconds, x), expected, rtol=1e-6, atol=1e-6)


def test_nothing_is_usual_before_300_seconds():
    seconds = np.arange(400)
    z = fold(seconds, np.random.default_rng(0).normal(size=(400, 2)))
    assert np.isnan(z[:300]).all()
    assert not np.isnan(z[300:]).any()


def test_the_present_second_is_no_part_of_what_is_usual():
    seconds = np.append(np.arange(320), [320] * 10)
    x = np.random.default_rng(1).normal(size=(330, 2))
    x[320:] = 50.0
    z = fold(seconds, x)
    assert (z[320:] == z[320]).all()
    assert z[320, 0] > 30.0


def test_a_flat_series_is_never_far_out():
    z = fold(np.arange(350), np.full((350, 2), 7.0))
    assert (z[300:] == 0.0).all()


def test_fewer_than_30_values_tell_nothing():
    x = np.full((400, 2), math.nan)
    x[::15] = np.random.default_rng(2).normal(size=x[::15].shape)
    assert np.isnan(fold(np.arange(400), x)).all()


@pytest.mark.parametrize("days", [1, 3])
def test_nothing_drifts_however_long_it_runs(days):
    rng = np.random.default_rng(4)
    n = 4000 * days
    x = 6e4 + np.cumsum(rng.normal(size=(n, 2)), axis=0)
    whole, late = fold(np.arange(n), x), fold(np.arange(n)[-700:], x[-700:])
    np.testing.assert_array_equal(whole[-300:], late[-300:])
