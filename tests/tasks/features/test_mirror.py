import numpy as np
import pytest

from tasks.features.catalogue import SETS, columns
from tasks.features.fold import Features
from tasks.features.mirror import mirror
from tests.tasks.features.test_book import market, mirrored


def test_rows_of_a_mirrored_market_are_mirrored_rows():
    # About the first mid of prices that hardly differ, so that bps of either mid are as good as the same.
    tables = market(7, price=2.0**26)
    about = tables[0]["bid_px"][0, 0] + tables[0]["ask_px"][0, 0]
    at = columns(SETS["l2_core"])
    rows, twins = (Features().batch(*given)[1][:, at] for given in (tables, mirrored(tables, about)))
    place, sign = mirror(SETS["l2_core"])
    size = np.nanmax(np.abs(rows), axis=0, initial=1e-300)
    np.testing.assert_allclose(rows[:, place] * sign / size[place], twins / size[place], atol=2e-4)


def test_the_image_of_the_image_is_the_row():
    place, sign = mirror(SETS["l2_core"])
    assert (place[place] == np.arange(len(place))).all()
    assert (sign * sign[place] == 1).all()


@pytest.mark.parametrize("names", [["mid"], ["depth_bid_5"], ["imbalance_1", "buy_cost_bps_10000"]])
def test_what_has_no_image_is_refused(names):
    with pytest.raises(KeyError, match="no mirror image"):
        mirror(names)
