import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.detectors.burst import CONFIRM, confirm_restart, confirm_step, higher

Z = st.one_of(st.floats(-9, 9), st.just(math.nan))


@settings(deadline=None)
@given(st.lists(Z, min_size=1, max_size=7))
def test_highest_known_zscore_counts(values):
    top = math.nan
    for z in values:
        top = higher(top, z)
    known = [z for z in values if not math.isnan(z)]
    assert math.isnan(top) if not known else top == max(known)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), Z), max_size=30))
def test_three_of_the_last_five_flags_and_volume_confirm(points):
    state = np.zeros(1, CONFIRM)
    confirm_restart(state[0])
    for i, (flagged, volume) in enumerate(points):
        expected = sum(f for f, _ in points[max(0, i - 4) : i + 1]) >= 3 and volume > 1.0
        assert confirm_step(state[0], flagged, volume) == expected
