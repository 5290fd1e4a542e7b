"""The benchmark's scoring on cases that can be worked out by hand, and the detectors on its series where they are."""

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.captures import SHARED

_spec = importlib.util.spec_from_file_location("nab", Path(__file__).resolve().parents[2] / "bench" / "nab.py")
nab = importlib.util.module_from_spec(_spec)
sys.modules["nab"] = nab
_spec.loader.exec_module(nab)

SERIES = SHARED / "truth" / "nab_realKnownCause"


def alarms(n, *places):
    out = np.zeros(n, bool)
    out[list(places)] = True
    return out


def test_sigmoid_falls_from_one_to_minus_one():
    assert nab.sigmoid(-1.0) == pytest.approx(0.98661, abs=1e-5)
    assert nab.sigmoid(0.0) == 0.0
    assert nab.sigmoid(1.0) == pytest.approx(-0.98661, abs=1e-5)
    assert nab.sigmoid(3.01) == -1.0


def test_probation_is_15_percent_of_at_most_5000():
    assert [nab.probation(n) for n in (0, 100, 4032, 5000, 22695)] == [0, 15, 604, 750, 750]


def test_first_value_of_a_window_earns_all_and_its_last_nearly_nothing():
    window = [(60, 69)]
    assert nab.raw_score(alarms(100, 60), window) == pytest.approx(1.0)
    assert nab.raw_score(alarms(100, 69), window) == pytest.approx((2 / (1 + math.exp(-0.5)) - 1) / 0.9866143)
    assert nab.raw_score(alarms(100, 60, 65, 69), window) == pytest.approx(1.0)  # only the best counts


def test_silence_costs_one_a_window():
    assert nab.raw_score(alarms(100), [(60, 69), (80, 84)]) == -2.0


def test_false_alarms_cost_up_to_a_ninth():
    window = [(60, 69)]
    assert nab.raw_score(alarms(100, 30), window) == pytest.approx(-1.0 - 0.11)  # before any window
    assert nab.raw_score(alarms(100, 78), window) == pytest.approx(-1.0 + 0.11 * nab.sigmoid(9 / 9))
    assert nab.raw_score(alarms(100, 99), window) == pytest.approx(-1.0 - 0.11)  # 30 / 9 widths behind it
    assert nab.raw_score(alarms(100, 70, 71), window) == pytest.approx(-1.0 + 0.11 * (nab.sigmoid(1 / 9) + nab.sigmoid(2 / 9)))


def test_nothing_counts_in_probation():
    assert nab.raw_score(alarms(100, *range(15)), [(60, 69)]) == -1.0


def test_perfect_is_100_silence_0_and_one_threshold_serves_all():
    windows = [(60, 69), (80, 84)]
    scores = np.zeros(100)
    scores[[60, 80]] = 1.0
    assert nab.best([(scores, windows)]) == (pytest.approx(100.0), 1.0)
    assert nab.best([(np.full(100, math.nan), windows)]) == (0.0, math.inf)
    other = np.zeros(100)
    other[30:60] = 2.0  # a threshold that spares this series loses the other
    top, at = nab.best([(scores, windows), (other, [(60, 69)])])
    assert at == 1.0 or top == 0.0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_best_threshold_is_found_among_all(seed):
    rng = np.random.default_rng(seed)
    series = []
    for n in rng.integers(40, 120, 3):
        first = int(rng.integers(n // 5, n - 12))
        scores = rng.integers(0, 9, n) / 8.0
        scores[rng.random(n) < 0.1] = math.nan
        series.append((scores, [(first, first + 4), (first + 7, first + 11)]))
    tried = [sum(nab.raw_score(scores >= at, windows) for scores, windows in series) for at in (*np.arange(9) / 8.0, math.inf)]
    assert nab.best(series)[0] == pytest.approx(100.0 * (max(tried) + 6) / 12)


@pytest.mark.skipif(not SERIES.is_dir(), reason="the labelled series are not here")
def test_windows_of_the_series_are_read_whole():
    series = nab.load(SERIES)
    assert len(series) == 7
    assert sum(len(windows) for _, windows in series.values()) == 19
    assert all(nab.probation(len(values)) <= windows[0][0] for values, windows in series.values())


@pytest.mark.slow
@pytest.mark.skipif(not SERIES.is_dir(), reason="the labelled series are not here")
def test_detectors_find_what_is_labelled(capsys):
    scores = {who: score for who, score, _ in nab.measure(SERIES)}
    with capsys.disabled():
        print("\nNAB score, standard profile             these 7   all 58")
        for who, score in scores.items():
            print(f"{who:<38} {score:>8.1f}")
        for who, (whole, seven) in nab.PUBLISHED.items():
            print(f"{who + ', published':<38} {seven:>8.1f} {whole:>8.1f}")
    assert scores["ensemble, signals"] > max(scores[who] for who in ("CUSUM", "burst", "BOCPD", "spectral residual"))
    assert scores["BOCPD"] > nab.PUBLISHED["Bayesian change-point"][1]
