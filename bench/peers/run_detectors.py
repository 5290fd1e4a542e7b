"""Detectors of other libraries on one series: microseconds a value, and what their BOCPD thinks at the end.

    python run_detectors.py SERIES.npy     # prints one JSON object

Each gets the values one by one, as it would live; the library whose BOCPD takes a whole series
gets it whole, no longer than our longest run, so that both keep the same hypotheses.
"""

import json
import sys
import time
from collections.abc import Callable

import numpy as np

WHOLE = 500
WINDOW, SCORE, GUESSED = 128, 21, 5


def one_by_one(update: Callable[[float], object], x: np.ndarray) -> float:
    """Return microseconds a value."""
    values = x.tolist()
    start = time.process_time()
    for value in values:
        update(value)
    return (time.process_time() - start) / len(values) * 1e6


def python_bocpd(x: np.ndarray) -> tuple[float, float]:
    from functools import partial

    from bayesian_changepoint_detection import online_changepoint_detection as online

    start = time.process_time()
    posterior, _ = online.online_changepoint_detection(x[:WHOLE], partial(online.constant_hazard, 250), online.StudentT(1.0, 1.0, 1.0, 0.0))
    return (time.process_time() - start) / WHOLE * 1e6, float(posterior[:6, WHOLE].sum())


def c_bocpd(x: np.ndarray) -> tuple[float, float]:
    from fast_bocpd import BOCPD, ConstantHazard, GaussianNIG

    def fresh() -> object:
        return BOCPD(GaussianNIG(0.0, 1.0, 1.0, 1.0), ConstantHazard(250.0), max_run_length=500)

    detector = fresh()
    for value in x[:WHOLE].tolist():
        posterior, _ = detector.update(value)
    near = float(np.asarray(posterior)[:6].sum())
    return one_by_one(fresh().update, x), near


def numpy_salience(x: np.ndarray) -> float:
    """Return microseconds a value of the same spectral residual, written with NumPy's transform."""
    steps = 1.0 / np.arange(1, GUESSED + 1)

    def score(window: np.ndarray) -> float:
        before = window[:-1]
        slope = np.mean((before[-1] - before[-2 : -2 - GUESSED : -1]) * steps)
        longer = np.append(window, np.full(GUESSED, before[-GUESSED] + GUESSED * slope)) - window[0]
        bins = np.fft.rfft(longer)
        bins[0] = 0.0
        logs = np.log(np.abs(bins[1:]))
        logs = np.concatenate((logs[:1], logs, logs[-1:]))
        bins[1:] *= np.exp(-(logs[:-2] + logs[1:-1] + logs[2:]) / 3.0)
        salience = np.abs(np.fft.irfft(bins, longer.size))
        usual = salience[WINDOW - 1 - SCORE : WINDOW - 1].mean()
        return (salience[WINDOW - 1] - usual) / usual

    windows = np.lib.stride_tricks.sliding_window_view(x, WINDOW)
    start = time.process_time()
    for window in windows:
        score(window)
    return (time.process_time() - start) / len(windows) * 1e6


def main() -> None:
    from river import drift

    x = np.load(sys.argv[1])
    python_us, python_near = python_bocpd(x)
    c_us, c_near = c_bocpd(x)
    out = {
        "river ADWIN": [one_by_one(drift.ADWIN().update, x), None],
        "river Page-Hinkley": [one_by_one(drift.PageHinkley().update, x), None],
        "bayesian-changepoint-detection": [python_us, python_near],
        "fast-bocpd (C)": [c_us, c_near],
        "NumPy spectral residual": [numpy_salience(x), None],
    }
    print(json.dumps(out))


if __name__ == "__main__":
    main()
