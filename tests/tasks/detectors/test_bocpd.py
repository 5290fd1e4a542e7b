import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.detectors.bocpd import HAZARD, MAX_RUN, RECENT, THRESHOLD, bocpd, new_bocpd
from tests import naive_detectors as naive

STREAMS = st.lists(st.one_of(st.floats(-4, 4), st.sampled_from([0.0, 1e3, -1e5, 1e-9])), min_size=1, max_size=40).map(np.array)


def posterior(state):
    """Return the masses by run length."""
    s = state[0]
    runs = np.arange(min(int(s["seen"]), MAX_RUN) + 1)
    return s["mass"][(s["seen"] - runs) & 511]


@settings(max_examples=30, deadline=None)
@given(STREAMS)
def test_posterior_is_that_of_log_space(x):
    state = new_bocpd()
    out = bocpd(x, state)
    near, runs = naive.regime(x)
    np.testing.assert_allclose(out[:, 0], near, atol=1e-9)
    np.testing.assert_allclose(out[:, 1], runs, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(posterior(state), naive.bocpd(x)[-1], atol=1e-9)


def test_posterior_at_every_value_is_that_of_the_densities_of_whole_runs():
    # Within 1e-10 of each mass and each probability, and 1e-10 of the expected run.
    rng = np.random.default_rng(7)
    x = np.concatenate([rng.normal(mean, 1.0, n) for mean, n in ((0.0, 60), (5.0, 40), (-3.0, 45), (0.0, 15))])
    state, likeliest = new_bocpd(), []
    for n, masses in enumerate(naive.run_lengths(x)):
        change, run = bocpd(x[n : n + 1], state)[0]
        np.testing.assert_allclose(posterior(state), masses, rtol=0, atol=1e-10, err_msg=f"value {n}")
        assert change == pytest.approx(masses[: RECENT + 1].sum() if n >= RECENT else math.nan, abs=1e-10, nan_ok=True)
        assert run == pytest.approx(masses @ np.arange(n + 2), rel=1e-10)
        likeliest.append(int(masses.argmax()))
    assert [likeliest[i] for i in (59, 99, 144)] == pytest.approx([60, 40, 45], abs=1)


def test_posterior_beyond_500_keeps_its_mass():
    rng = np.random.default_rng(3)
    x = np.concatenate([rng.normal(0, 1, 620), rng.normal(1.5, 2, 60)])
    state = new_bocpd()
    out = bocpd(x, state)
    near, runs = naive.regime(x)
    np.testing.assert_allclose(out[:, 0], near, atol=1e-9)
    np.testing.assert_allclose(out[:, 1], runs, rtol=1e-8)
    assert posterior(state).sum() == pytest.approx(1.0, abs=1e-12)
    assert out[610, 1] > 350.0  # one run of 610 is a run of "500 or more"


def test_mass_stays_whole_for_ever():
    rng, state = np.random.default_rng(5), new_bocpd()
    for scale in (1.0, 30.0, 1e-4, 1.0):
        bocpd(scale * rng.standard_t(2, 3000), state)
        assert posterior(state).sum() == pytest.approx(1.0, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(STREAMS)
def test_run_of_no_value_has_the_hazard_whatever_the_data(x):
    # Why a change is told by runs of up to five values: the newest hypothesis never gains or loses.
    state = new_bocpd()
    bocpd(x, state)
    assert posterior(state)[0] == HAZARD


def test_first_values_tell_nothing():
    out = bocpd(np.zeros(20))
    assert np.isnan(out[:RECENT, 0]).all()
    assert not np.isnan(out[RECENT:, 0]).any()
    assert not np.isnan(out[:, 1]).any()


def test_probability_of_a_quiet_series_lies_between_one_hazard_and_six():
    # The six youngest runs have at most their prior share each, and the newest always has it.
    out = bocpd(np.tile([1.0, -1.0], 400))
    assert (out[100:, 0] > HAZARD).all()
    assert (out[100:, 0] < 6 * HAZARD).all()


def found(shift, seed, spread=1.0):
    """Return after how many values a planted change was told within ten, or None."""
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.normal(size=300), rng.normal(shift, spread, 10)])
    over = np.flatnonzero(bocpd(x)[300:, 0] >= THRESHOLD)
    return int(over[0]) + 1 if len(over) else None


def test_a_change_must_be_plain_within_five_values():
    # Odds of 250 to 1 must be turned within five values: shifts of one deviation are never told, of five nearly always.
    told = {shift: sum(found(shift, seed) is not None for seed in range(60)) for shift in (1.0, 2.0, 5.0)}
    assert told[1.0] <= 3
    assert told[1.0] < told[2.0] < told[5.0]
    assert told[5.0] >= 54
    assert all((found(5.0, seed) or 0) <= RECENT + 1 for seed in range(60))


def test_no_false_alarm_on_a_quiet_series():
    x = np.random.default_rng(11).normal(size=2000)
    assert (bocpd(x)[RECENT:, 0] >= THRESHOLD).mean() < 0.005


def test_unknown_values_repeat_what_was_known():
    state = new_bocpd()
    known = bocpd(np.arange(9.0), state)[-1]
    before = state.tobytes()
    np.testing.assert_array_equal(bocpd(np.full(3, math.nan), state), np.tile(known, (3, 1)))
    assert state.tobytes() == before


def test_no_value_is_too_far_out():
    out = bocpd(np.array([0.0, 1.0] * 300 + [1e300, -math.inf, math.inf, 0.0] * 5))
    assert np.isfinite(out[RECENT:]).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 1199), st.integers(1, 1199), st.integers(0, 5))
def test_any_split_folds_to_the_whole_bit_for_bit(a, b, seed):
    x = np.random.default_rng(seed).normal(size=1200)
    state, parts = new_bocpd(), []
    for part in np.split(x, sorted((a, b))):
        parts.append(bocpd(part, state))
    assert np.concatenate(parts).tobytes() == bocpd(x).tobytes()


@settings(deadline=None)
@given(STREAMS, st.integers(0, 40))
def test_later_values_change_nothing_earlier(x, at):
    changed = x.copy()
    changed[at:] = 7.0 - 3.0 * changed[at:]
    assert bocpd(x)[:at].tobytes() == bocpd(changed)[:at].tobytes()


def test_posterior_is_that_of_another_library():
    # bayesian-changepoint-detection 0.2.dev1, StudentT(1, 1, 1, 0), constant hazard 250, after 500 values.
    x = np.random.default_rng(5).normal(size=4000)[:500]
    assert bocpd(x)[-1, 0] == pytest.approx(0.012167991559830858, rel=1e-9)
