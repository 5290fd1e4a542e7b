"""How features read in the mirror: bids and asks change places, prices run the other way.

A market and its mirror image are equally likely, so a model may learn from both; then the
trend of the days it learns from teaches it nothing.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SWAPS = (("_bid_", "_ask_"), ("buy_", "sell_"))
_FLIPS = ("imbalance_", "depth_ratio_", "pressure", "ofi_", "mlofi_", "trade_imbalance_", "signed_volume_", "microprice_drift_bps")
_PRICES = ("mid", "weighted_mid", "microprice")


def mirror(names: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return which feature takes each one's place in the mirror, and with which sign.

    Row `x` of these features becomes `x[place] * sign`.

    Raises
    ------
    KeyError
        For a price, whose image depends on where the mirror stands, and for a feature whose
        counterpart is not among the names.

    Examples
    --------
    >>> mirror(["spread_bps", "imbalance_5", "depth_bid_5", "depth_ask_5"])
    (array([0, 1, 3, 2]), array([ 1., -1.,  1.,  1.]))
    """
    places = {name: i for i, name in enumerate(names)}
    place, sign = np.empty(len(names), np.int64), np.ones(len(names))
    for i, name in enumerate(names):
        other = name
        for a, b in _SWAPS:
            other = name.replace(a, b) if a in name else name.replace(b, a) if b in name else other
        if name in _PRICES or other not in places:
            raise KeyError(f"{name} has no mirror image among these features")
        place[i] = places[other]
        sign[i] = -1.0 if name.startswith(_FLIPS) else 1.0
    return place, sign
