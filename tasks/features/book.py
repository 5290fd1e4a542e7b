"""Features of one snapshot: prices, imbalances, depth, cost of a sweep."""

import numpy as np
from numba import njit

from tasks.features.catalogue import NAMES, SWEEPS
from warehouse.schema import LEVELS

_MID, _SPREAD, _IMBALANCE, _WEIGHTED, _MICRO = (NAMES.index(n) for n in ("mid", "spread_bps", "imbalance_1", "weighted_mid", "microprice"))
_DEPTH_BID, _DEPTH_ASK, _RATIO, _PRESSURE = (NAMES.index(n) for n in ("depth_bid_5", "depth_ask_5", "depth_ratio_5", "pressure"))
_BUY, _SELL, _GAP_BID, _GAP_ASK = (
    NAMES.index(n) for n in (f"buy_cost_bps_{SWEEPS[0]}", f"sell_cost_bps_{SWEEPS[0]}", "gap_bid_bps", "gap_ask_bps")
)
_SWEEP_LOW, _SWEEP_HIGH = float(SWEEPS[0]), float(SWEEPS[1])
_FADE_BPS = 5.0


@njit(cache=True)
def _sweep_bps(price, size, notional, mid, sign):
    # Volume-weighted price of taking `notional` quote units from the touch down, against mid.
    left = notional
    base = 0.0
    for i in range(LEVELS):
        if size[i] <= 0.0:
            break
        worth = price[i] * size[i]
        if worth >= left:
            base += left / price[i]
            return sign * 1e4 * (notional / base - mid) / mid
        left -= worth
        base += size[i]
    return np.nan


@njit(cache=True)
def book_features(row, out):
    """Write the features that need nothing but the snapshot; both sides must hold a level."""
    bid_px, bid_sz, ask_px, ask_sz = row["bid_px"], row["bid_sz"], row["ask_px"], row["ask_sz"]
    mid = (bid_px[0] + ask_px[0]) / 2.0
    out[_MID] = mid
    out[_SPREAD] = 1e4 * (ask_px[0] - bid_px[0]) / mid
    weighted = (bid_px[0] * ask_sz[0] + ask_px[0] * bid_sz[0]) / (bid_sz[0] + ask_sz[0])
    out[_WEIGHTED] = weighted
    out[_MICRO] = weighted
    out[_GAP_BID] = 1e4 * (bid_px[0] - bid_px[1]) / mid
    out[_GAP_ASK] = 1e4 * (ask_px[1] - ask_px[0]) / mid
    bids = 0.0
    asks = 0.0
    near_bids = 0.0
    near_asks = 0.0
    for i in range(LEVELS):
        bids += bid_sz[i]
        asks += ask_sz[i]
        # Both touches are as far from the mid, so distances from the touch fade alike, and never to 0 / 0.
        if bid_sz[i] > 0.0:
            near_bids += bid_sz[i] * np.exp(-1e4 * (bid_px[0] - bid_px[i]) / mid / _FADE_BPS)
        if ask_sz[i] > 0.0:
            near_asks += ask_sz[i] * np.exp(-1e4 * (ask_px[i] - ask_px[0]) / mid / _FADE_BPS)
        if i == 0:
            out[_IMBALANCE] = (bids - asks) / (bids + asks)
        elif i == 4:
            out[_IMBALANCE + 1] = (bids - asks) / (bids + asks)
            out[_DEPTH_BID] = bids
            out[_DEPTH_ASK] = asks
            out[_RATIO] = np.log(bids / asks)
        elif i == 9:
            out[_IMBALANCE + 2] = (bids - asks) / (bids + asks)
            out[_DEPTH_BID + 1] = bids
            out[_DEPTH_ASK + 1] = asks
            out[_RATIO + 1] = np.log(bids / asks)
    out[_DEPTH_BID + 2] = bids
    out[_DEPTH_ASK + 2] = asks
    out[_RATIO + 2] = np.log(bids / asks)
    out[_PRESSURE] = (near_bids - near_asks) / (near_bids + near_asks)
    out[_BUY] = _sweep_bps(ask_px, ask_sz, _SWEEP_LOW, mid, 1.0)
    out[_BUY + 1] = _sweep_bps(ask_px, ask_sz, _SWEEP_HIGH, mid, 1.0)
    out[_SELL] = _sweep_bps(bid_px, bid_sz, _SWEEP_LOW, mid, -1.0)
    out[_SELL + 1] = _sweep_bps(bid_px, bid_sz, _SWEEP_HIGH, mid, -1.0)
