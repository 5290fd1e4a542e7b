"""What the detectors do on noise and on planted changes stays what the pages say."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

_spec = importlib.util.spec_from_file_location("operating_points", Path(__file__).resolve().parents[2] / "bench" / "operating_points.py")
points = importlib.util.module_from_spec(_spec)
sys.modules["operating_points"] = points
_spec.loader.exec_module(points)

pytestmark = pytest.mark.slow


def shown(measured, capsys):
    """Print points as a table, whether tests pass or not, and return what was measured by name."""
    with capsys.disabled():
        print("\n" + points.table(measured))
    return {point.what: point.measured for point in measured}


def test_cusum_runs_and_delays_are_the_textbooks(capsys):
    measured = points.cusum_points()
    shown(measured, capsys)
    for point in measured:
        assert abs(point.measured - point.expected) < 4 * point.error + 0.005 * point.expected, point


def test_bocpd_tells_great_changes_at_once_and_small_ones_never(capsys):
    measured = shown(points.bocpd_points(), capsys)
    assert measured["run without a change, threshold 0.7"] > 5000
    told = [measured[f"shift of {shift}: told within 10"] for shift in (1, 2, 3, 5)]
    assert told == sorted(told)
    assert told[0] < 0.05
    assert told[-1] > 0.95
    assert measured["shift of 5: delay where told"] < 2.0
    assert measured["deviation x 10: told within 10"] > 0.9


def test_confirmation_trades_recall_for_precision(capsys):
    measured = shown(points.spectral_points(), capsys)
    for size in (4, 8, 16):
        assert measured[f"bursts of {size}, flag: recall"] > 0.95
        assert measured[f"bursts of {size}, confirmed: precision"] > 5 * measured[f"bursts of {size}, flag: precision"]
    assert measured["bursts of 16, confirmed: recall"] > 0.35
    assert np.isfinite(list(measured.values())).all()
