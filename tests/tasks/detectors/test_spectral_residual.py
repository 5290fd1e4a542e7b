import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.detectors.spectral_residual import SPECTRAL, THRESHOLD, WINDOW, spectral_residual
from tests import naive_detectors as naive


def wave(seed, n=260):
    rng = np.random.default_rng(seed)
    kind = seed % 4
    noise = rng.normal(size=n)
    return (noise, np.cumsum(noise) + 6e4, np.abs(noise) ** 3, np.sin(np.arange(n) / 5.0) + 0.1 * noise)[kind]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(-9, 9), st.integers(130, 259))
def test_scores_are_those_of_a_plain_fourier_transform(seed, spike, at):
    x = wave(seed)
    x[at] += spike
    np.testing.assert_allclose(spectral_residual(x)[at - 3 : at + 1], naive.spectral_residuals(x)[at - 3 : at + 1], rtol=1e-6, atol=1e-7)


def test_every_point_is_scored_once_there_are_128():
    x = wave(2)
    np.testing.assert_allclose(spectral_residual(x), naive.spectral_residuals(x), rtol=1e-6, atol=1e-8)
    assert np.isnan(spectral_residual(x)[: WINDOW - 1]).all()


def test_what_does_not_move_scores_nothing():
    for x in (np.zeros(200), np.full(200, 6e4), np.full(200, 1e-300)):
        assert (spectral_residual(x)[WINDOW - 1 :] == 0.0).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 100), st.integers(-20, 20), st.floats(-1e3, 1e3))
def test_unit_and_zero_of_the_series_do_not_matter(seed, power, zero):
    x = wave(seed - seed % 4)
    x[200] += 8.0
    np.testing.assert_allclose(spectral_residual(x * 2.0**power), spectral_residual(x), rtol=1e-9)
    np.testing.assert_allclose(spectral_residual(x + zero), spectral_residual(x), rtol=1e-5, atol=1e-6)


def test_an_outlier_stands_out_and_noise_does_not():
    flagged = alarmed = 0
    for seed in range(60):
        x = np.random.default_rng(seed).normal(size=WINDOW)
        alarmed += spectral_residual(x)[-1] > THRESHOLD
        x[-1] += 8.0
        flagged += spectral_residual(x)[-1] > THRESHOLD
    assert flagged >= 57
    assert alarmed <= 3


def test_unknown_values_are_left_out_of_the_window():
    x = wave(1)
    holes = np.insert(x, [10, 140, 140, 200], math.nan)
    scores = spectral_residual(holes)
    assert np.isnan(scores[np.isnan(holes)]).all()
    np.testing.assert_array_equal(scores[~np.isnan(holes)], spectral_residual(x))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 260), st.integers(0, 260), st.integers(0, 8))
def test_any_split_folds_to_the_whole_bit_for_bit(a, b, seed):
    x, state = wave(seed), np.zeros(1, SPECTRAL)
    parts = [spectral_residual(part, state) for part in np.split(x, sorted((a, b)))]
    assert np.concatenate(parts).tobytes() == spectral_residual(x).tobytes()


def test_later_values_change_nothing_earlier():
    x = wave(0)
    changed = x.copy()
    changed[190:] = 50.0
    assert spectral_residual(x)[:190].tobytes() == spectral_residual(changed)[:190].tobytes()
