import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from tasks.detectors.elementary import quick_exp, quick_log


@njit(cache=True)
def _both(x, y):
    out = np.empty((2, x.size))
    for i in range(x.size):
        out[0, i] = quick_exp(x[i])
        out[1, i] = quick_log(y[i])
    return out


def test_exponential_and_logarithm_are_right_to_the_last_places():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-699, 700, 20_000), rng.normal(0, 1e-3, 2000), [0.0, -0.0, 1.0, -700.0]])
    y = np.concatenate([np.exp(rng.uniform(-600, 600, 20_000)), 1 + np.abs(rng.normal(0, 1e-6, 2004))])
    e, log = _both(x, y)
    np.testing.assert_allclose(e, np.exp(x), rtol=5e-16)
    np.testing.assert_allclose(log, np.log(y), rtol=5e-16, atol=2e-16)


def test_ones_are_exact():
    e, log = _both(np.zeros(1), np.ones(1))
    assert e[0] == 1.0
    assert log[0] == 0.0


def test_what_is_hopelessly_small_stays_positive():
    e, _ = _both(np.array([-1e9, -math.inf]), np.ones(2))
    assert (e > 0.0).all()
    assert (e < 1e-300).all()


@settings(deadline=None)
@given(st.floats(-300, 300))
def test_plain_python_reckons_the_same(x):
    e, log = _both(np.array([x]), np.array([math.exp(x)]))
    assert getattr(quick_exp, "py_func", quick_exp)(x) == e[0]
    assert getattr(quick_log, "py_func", quick_log)(math.exp(x)) == log[0]
