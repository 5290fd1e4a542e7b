import numpy as np
import pytest

from tasks.feed.latency import add_book, add_trade, least, new_histogram, quantiles_ms
from warehouse.schema import row_dtype

MS = 1_000_000


def count(late_ns, histogram=None):
    histogram = new_histogram() if histogram is None else histogram
    row = np.zeros(1, row_dtype("l2_snapshots"))
    words = row.view(np.int64)
    for late in late_ns:
        row["exchange_ns"], row["receive_ns"] = 1_700_000_000_000_000_000, 1_700_000_000_000_000_000 + int(late)
        add_book(words, histogram)
    return histogram


@pytest.mark.parametrize("offset_ms", [0, -1270, 86_400_000])
@pytest.mark.parametrize("order", [1, -1])
def test_quantiles_are_near_the_true_ones_wherever_the_clocks_are(offset_ms, order):
    late = np.sort(np.random.default_rng(5).lognormal(3.0, 0.8, 5000) * MS)[::order] + offset_ms * MS
    told = quantiles_ms(count(late))
    true = np.quantile(late, (0.5, 0.95, 0.99)) / MS
    spread = true - late.min() / MS
    assert np.all(np.abs(np.array(told) - true) < 0.04 * spread + 0.3)


def test_rows_are_forgotten_once_told():
    histogram = count([5 * MS] * 10)
    assert quantiles_ms(histogram)[0] == pytest.approx(5.0, rel=0.02)
    assert np.isnan(quantiles_ms(histogram)).all()
    assert quantiles_ms(count([900 * MS] * 10, histogram))[0] == pytest.approx(900.0, rel=0.02)


def test_least_is_since_the_last_look():
    histogram = count([9 * MS, 4 * MS, 30 * MS])
    assert least(histogram) == (4 * MS, 3)
    assert least(histogram)[1] == 0
    assert least(count([20 * MS], histogram)) == (20 * MS, 1)


def test_history_is_not_late():
    histogram, row = new_histogram(), np.zeros(1, row_dtype("trades"))
    row["receive_ns"] = 49_000 * MS
    row["backfill"] = 1
    add_trade(row.view(np.int64), histogram)
    assert least(histogram)[1] == 0
    row["backfill"] = 0
    add_trade(row.view(np.int64), histogram)
    assert least(histogram) == (49_000 * MS, 1)
