import numpy as np
import pytest

from tests.warehouse.examples import NOON_NS, STREAM, rows_of, write
from warehouse.lake import Lake
from warehouse.quality import notes, quality
from warehouse.schema import GAP, OK, RECONNECT, START, SUSPECT, row_dtype

S = 1_000_000_000
OTHER = ("binance_spot", "BTC-USDT")


@pytest.fixture
def lake(tmp_path):
    """Two streams of 100 s: one lost 10 s to a gap and 5 s to a suspect stretch that touches it, the other nothing."""
    lake = Lake(tmp_path / "lake")
    for stream, moments in (
        (STREAM, ((0, START), (2, OK), (40, GAP), (50, OK), (80, GAP), (81, OK))),
        (OTHER, ((0, START), (0, OK))),
    ):
        changes = np.zeros(len(moments), row_dtype("coverage_changes"))
        for seq, (second, state) in enumerate(moments):
            changes[seq] = (NOON_NS + second * S, NOON_NS + second * S, seq, seq, state, 0, 0)
        writer = write(lake, "coverage_changes", changes, "a", stream, seal=False)
        writer.append("trades", *stream, rows_of("trades", 0, 2, NOON_NS, 100 * S))
        if stream == STREAM:
            for seq, (kind, start, end) in enumerate(((SUSPECT, 48, 55), (RECONNECT, 60, 70))):
                row = {"exchange_ns": NOON_NS + start * S, "end_ns": NOON_NS + end * S, "receive_ns": NOON_NS, "seq": seq, "kind": kind}
                writer.append("findings", *stream, [row | {"expected": 0.0, "received": 0.0, "detail": "d"}])
        writer.close()
    return lake


def test_totals_count_what_touches_once_and_forgive_the_opening(lake):
    _, (clean, doubtful) = quality(lake)
    assert (clean.venue, clean.symbol, clean.covered, clean.gaps, clean.doubtful) == (*OTHER, 1.0, 0, 0)
    assert doubtful.seconds == 100
    assert doubtful.covered == pytest.approx(1 - (2 + 15 + 1) / 100)
    assert (doubtful.gaps, doubtful.longest_gap_s, doubtful.doubtful) == (2, 15.0, 3)


@pytest.mark.parametrize(
    ("since_s", "covered", "gaps", "longest", "kinds"),
    [
        (45, 1 - (10 + 1) / 55, 2, 10.0, ["gap", "suspect", "reconnect", "gap"]),
        (75, 1 - 1 / 25, 1, 1.0, ["gap"]),
        (90, 1.0, 0, 0.0, []),
    ],
)
def test_a_window_cuts_what_lies_before_it(lake, since_s, covered, gaps, longest, kinds):
    found, (total,) = quality(lake, *STREAM, since_ns=NOON_NS + since_s * S)
    assert [row["kind"] for row in found] == kinds
    assert total.covered == pytest.approx(covered)
    assert (total.gaps, total.longest_gap_s) == (gaps, longest)
    assert notes(lake, *STREAM, since_ns=NOON_NS + since_s * S) == found


def test_a_window_without_a_stream_has_no_totals(lake):
    assert quality(lake, since_ns=NOON_NS + 1000 * S) == ([], [])
    assert quality(lake, "kraken") == ([], [])
    assert [total.symbol for total in quality(lake, symbol="BTC-USDT")[1]] == ["BTC-USDT"]
