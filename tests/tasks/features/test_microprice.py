import numpy as np
import pytest

from models.fits import Fits
from models.microprice import Microprice
from tasks.features.catalogue import NAMES
from tasks.features.fold import Features
from tests.captures import CAPTURES
from tests.streams import live, recorded

MICRO, DRIFT = NAMES.index("microprice"), NAMES.index("microprice_drift_bps")
FIT = Microprice(0.1, np.array([[0.0, np.nan], [0.1, 0.3], [0.3, 0.9]]))
FITS = Fits(FIT)


@pytest.fixture(scope="module", params=CAPTURES[:1] + CAPTURES[-1:], ids=str)
def tables(request):
    return recorded(request.param, 400)


def test_a_fit_changes_the_two_columns_of_the_micro_price_and_no_other(tables):
    meta, plain = Features().batch(*tables)
    fitted_meta, fitted = Features(FITS).batch(*tables)
    others = [i for i in range(len(NAMES)) if i not in (MICRO, DRIFT)]
    assert plain[:, others].tobytes() == fitted[:, others].tobytes()
    assert meta.tobytes() == fitted_meta.tobytes()
    books, known = tables[0], ~np.isnan(plain[:, MICRO])
    expected = FIT.at(*(books[name][:, 0] for name in ("bid_px", "ask_px", "bid_sz", "ask_sz")))
    assert np.array_equal(fitted[known, MICRO], expected[known])
    assert (fitted[known, MICRO] != plain[known, MICRO]).any()
    after = known & np.roll(known, 1) & ~np.isnan(fitted[:, DRIFT])
    np.testing.assert_allclose(
        fitted[after, DRIFT], (1e4 * (expected - np.roll(expected, 1)) / plain[:, NAMES.index("mid")])[after], atol=1e-9
    )


def test_with_a_fit_live_is_batch_bit_for_bit(tables):
    whole, one_by_one = Features(FITS).batch(*tables), live(tables, Features(FITS))
    assert all(a.tobytes() == b.tobytes() for a, b in zip(whole, one_by_one, strict=True))


def test_an_empty_fit_is_no_fit(tables):
    assert Features(Fits(Microprice())).batch(*tables)[1].tobytes() == Features().batch(*tables)[1].tobytes()
