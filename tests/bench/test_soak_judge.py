"""What the soak calls wrong: rows behind a changed digit may differ for a while, where no message can show it, and no others."""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "bench"))
from soak_judge import _judge_wrong, _runs

SECOND = 1_000_000_000


def judged(same, changed_s, most_s, good_s=((0, 100),)):
    """Return what is found in rows a second apart, of which some are wrong."""
    part = np.zeros(len(same), [("exchange_ns", "i8"), ("receive_ns", "i8")])
    part["exchange_ns"] = part["receive_ns"] = SECOND * np.arange(len(same))
    found, good = Counter(), [(a * SECOND, b * SECOND) for a, b in good_s]
    for run, right_ns in _runs(part, np.array(same, bool)):
        _judge_wrong(found, run, right_ns, good, SECOND * np.array(changed_s, np.int64), int(most_s * SECOND))
    return +found


def test_right_rows_are_nothing_to_tell_of():
    assert judged([1, 1, 1], [1], 5) == {}


def test_wrong_rows_behind_a_changed_digit_are_told_with_how_long_they_lasted():
    assert judged([1, 1, 0, 0, 1, 1], [2], 5) == {"healed_books": 2, "longest_ms": 2000}
    assert judged([1, 1, 0, 0, 1, 1], [2], 5, good_s=((0, 3),)) == {"healed_books": 1, "marked_books": 1, "longest_ms": 2000}


@pytest.mark.parametrize(
    ("changed_s", "most_s"),
    [pytest.param([], 5, id="no digit was changed"), pytest.param([4], 5, id="changed later"), pytest.param([2], 1, id="lasted too long"),
     pytest.param([2], -1e-9, id="the venue shows it")],
)  # fmt: skip
def test_other_wrong_rows_are_wrong(changed_s, most_s):
    assert judged([1, 1, 0, 0, 1, 1], changed_s, most_s) == {"wrong_books": 2}
