import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from tasks.detectors.ensemble import ENSEMBLE, ensemble_restart, ensemble_step


@njit(cache=True)
def _fold(s, parts, out):
    for i in range(parts.shape[0]):
        s[0]["parts"][:] = parts[i]
        out[i, 0] = ensemble_step(s[0])
        out[i, 1] = s[0]["score"]
        out[i, 2] = s[0]["threshold"]


def fold(parts, weights=(0.25, 0.25, 0.25, 0.25), floor=0.5):
    state, out = np.zeros(1, ENSEMBLE), np.empty((len(parts), 3))
    state["weights"], state["floor"] = weights, floor
    ensemble_restart(state[0])
    _fold(state, np.ascontiguousarray(parts, np.float64), out)
    return out, state


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 40, 500, 501, 1100]), st.sampled_from([0.0, 0.5]))
def test_threshold_is_the_quantile_of_the_500_scores_before(seed, n, floor):
    rng = np.random.default_rng(seed)
    parts = rng.choice([rng.random((n, 4)), rng.integers(0, 4, (n, 4)) / 4.0])
    parts[rng.random((n, 4)) < 0.05] = math.nan
    out, state = fold(parts, floor=floor)
    known = ~np.isnan(parts).all(1)
    assert np.isnan(out[~known, 1:]).all()
    scores = out[known, 1].tolist()
    before = [max(floor, np.quantile(scores[max(0, i - 500) : i], 0.99)) if i else floor for i in range(len(scores))]
    np.testing.assert_allclose(out[known, 2], before, rtol=1e-12)
    np.testing.assert_allclose(scores, np.nansum(np.minimum(parts[known], 2.0), 1) / 4, rtol=1e-12)
    kept = min(len(scores), 500)
    assert state["ordered"][0, :kept].tolist() == sorted(scores[-500:])


def test_one_part_alone_counts_no_more_than_twice_its_threshold():
    out, _ = fold([[1e9, math.nan, 0.0, -5.0]])
    assert out[0, 1] == 0.5
    assert out[0, 0] == -1  # on the floor is not above it


def test_the_heaviest_of_those_that_passed_leads():
    weights = (0.1, 0.4, 0.3, 0.2)
    out, _ = fold([[2.0, 0.9, 1.2, 1.0]], weights, 0.1)
    assert out[0, 0] == 2  # 0.36 against 0.2 and 0.2; burst weighs as much but stands below its threshold


def test_without_a_detector_over_its_threshold_nothing_is_said():
    out, _ = fold([[0.99, 0.99, 0.99, 0.99]], floor=0.1)
    assert out[0, 0] == -1
    assert out[0, 1] > out[0, 2]


def test_a_score_must_pass_what_was_usual():
    parts = np.full((600, 4), 0.9)
    parts[::20] = 1.5  # one in twenty: the 99 % quantile is a score like theirs
    parts[-1] = 1.6
    out, _ = fold(parts)
    assert (out[200:-1, 0] == -1).all()
    assert out[-1, 0] >= 0
