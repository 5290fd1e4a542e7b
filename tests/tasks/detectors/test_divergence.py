import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.detectors.divergence import Divergence
from warehouse.schema import ARBITRAGE, FUNDING_DIVERGENCE, row_dtype

SECOND = 1_000_000_000
ROWS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 5, 29, 30, 31, -3]),
        st.sampled_from([0.0, math.nan, 1e-9, 4.0, 12.0]),
        st.sampled_from([0.0, math.nan, 5e-4, 6e-4, -1.0]),
    ),
    max_size=40,
)


def rows_of(drawn):
    rows = np.zeros(len(drawn), row_dtype("consolidated"))
    for i, (gap, arb, funding) in enumerate(drawn):
        rows["exchange_ns"][i] = (rows["exchange_ns"][i - 1] if i else 1_700_000_000 * SECOND) + gap * SECOND
        rows["arb_bps"][i], rows["funding_delta"][i], rows["seq"][i] = arb, funding, i
    rows["receive_ns"] = rows["exchange_ns"] + 7
    return rows


@settings(max_examples=150, deadline=None)
@given(ROWS)
def test_signals_pass_a_limit_and_keep_their_distance(drawn):
    rows = rows_of(drawn)
    signals = Divergence().batch(rows)
    expected, clock, said = [], 0, {ARBITRAGE: -math.inf, FUNDING_DIVERGENCE: -math.inf}
    for row in rows:
        clock = max(clock, int(row["exchange_ns"]))
        for kind, value, limit in ((ARBITRAGE, row["arb_bps"], 0.0), (FUNDING_DIVERGENCE, row["funding_delta"], 5e-4)):
            if value > limit and clock - said[kind] >= 30 * SECOND:
                said[kind] = clock
                expected.append((int(row["seq"]), kind, value, limit))
    assert [tuple(s[name] for name in ("event_seq", "kind", "score", "threshold")) for s in signals] == expected
    assert signals["seq"].tolist() == list(range(len(signals)))
    assert (signals["side"] == 0).all()
    for name in ("exchange_ns", "receive_ns", "arb_bps", "funding_delta"):
        np.testing.assert_array_equal(signals[name], rows[name][signals["event_seq"]])


@settings(max_examples=80, deadline=None)
@given(ROWS, st.integers(0, 40))
def test_live_is_batch_and_a_kept_state_goes_on(drawn, at):
    rows, kept = rows_of(drawn), io.BytesIO()
    live = Divergence(first_seq=3)
    told = [live.step(rows[i : i + 1]).copy() for i in range(min(at, len(rows)))]
    live.save(kept)
    kept.seek(0)
    later = Divergence()
    later.restore(kept)
    whole = Divergence(first_seq=3).batch(rows)
    assert np.concatenate([*told, later.batch(rows[at:])]).tobytes() == whole.tobytes()


def test_limits_are_the_callers():
    rows = rows_of([(0, 4.0, 6e-4), (31, 12.0, 2e-3)])
    assert Divergence(arb_bps=5.0, funding_delta=1e-3).batch(rows)["score"].tolist() == [12.0, 2e-3]
    assert len(Divergence(cooldown_s=60.0).batch(rows)) == 2


def test_state_of_another_version_is_refused():
    kept = io.BytesIO()
    np.savez(kept, state=np.zeros(3, np.uint8))
    kept.seek(0)
    with pytest.raises(ValueError, match="another version"):
        Divergence().restore(kept)
