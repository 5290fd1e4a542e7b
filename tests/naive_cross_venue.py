"""Columns over venues by their definitions, each recomputed from everything that had come by then.

Events are `(place, kind, row)` in the order of arrival, the row of shape (1,).  What holds at a
moment is what was known when the common clock, the latest stamp of any venue, reached it.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tasks.features.cross_venue import AGE_NS, BOOKS, CHANGES, STEP_NS, TRADES
from warehouse.schema import row_dtype

SECOND, TENTH, MINUTE = 1_000_000_000, 100_000_000, 60_000_000_000
JUMP_NS = 600 * SECOND  # behind a longer silence everything begins anew


@dataclass(frozen=True, eq=False)
class Past:
    """Everything that came: after each event, the common clock and each venue's book, its stamp 0 while there is none.

    `touch` holds bid and ask, shape (n events + 1, n venues, 2), and `levels` by event and venue the sizes at ten prices of each side.
    """

    clock: np.ndarray
    receive: np.ndarray
    stamp: np.ndarray
    touch: np.ndarray
    levels: list
    trades: list


def past_of(events, rates):
    """Return what was known after each event."""
    n, now = len(rates), 0
    doubt, stamp, touch = [0] * n, np.zeros(n, np.int64), np.zeros((n, 2))
    levels = [({}, {})] * n
    out = Past([], [], [stamp.copy()], [touch.copy()], [list(levels)], [])
    for place, kind, rows in events:
        row = rows[0]
        if kind == CHANGES:
            doubt[place] = row["state"]
            if doubt[place]:
                stamp[place] = 0
                out.stamp[-1][place] = 0
            continue
        if kind == TRADES and row["backfill"]:
            continue
        now = max(now, int(row["exchange_ns"]))
        if kind == TRADES:
            out.trades.append((now, place, float(row["size"])))
        elif doubt[place] or row["doubt"] or not (row["bid_sz"][0] > 0 and row["ask_sz"][0] > 0):
            stamp[place] = 0
        else:
            stamp[place] = max(stamp[place], row["exchange_ns"])
            bid, ask = row["bid_px"][0] * rates[place], row["ask_px"][0] * rates[place]
            touch[place] = bid, ask
            levels[place] = tuple(
                {px * rates[place]: sz for px, sz in zip(row[f"{side}_px"][:10], row[f"{side}_sz"][:10], strict=True) if sz > 0}
                for side in ("bid", "ask")
            )
        out.clock.append(now)
        out.receive.append(int(row["receive_ns"]))
        out.stamp.append(stamp.copy())
        out.touch.append(touch.copy())
        out.levels.append(list(levels))
    return Past(np.array(out.clock), np.array(out.receive), np.array(out.stamp), np.array(out.touch), out.levels, out.trades)


@lru_cache(maxsize=1)
def eras(past):
    """Return first and last clock of each stretch without a long silence."""
    breaks = np.flatnonzero(np.diff(past.clock) > JUMP_NS) + 1
    return [(int(part[0]), int(part[-1])) for part in np.split(past.clock, breaks)]


def began(past, t):
    """Return when the stretch that a moment lies in began."""
    return max(first for first, _ in eras(past) if first < t)


def steps(past):
    """Return the moments that have a row."""
    return [t for first, last in eras(past) for t in range((first // STEP_NS + 1) * STEP_NS, last + 1, STEP_NS)]


def received(past, t):
    """Return our clock when a moment was over."""
    return past.receive[np.searchsorted(past.clock, t)]


def mids_at(past, t, back=0):
    """Return each venue's mid so long before a moment, NaN where its book was older than 2 s; shape (n times, n venues)."""
    ts = t - np.atleast_1d(back)
    known = np.searchsorted(past.clock, ts)
    stamp = past.stamp[known]
    is_there = (stamp > 0) & (ts[:, None] - stamp <= AGE_NS) & (ts > began(past, t))[:, None]
    return np.where(is_there, past.touch[known].mean(axis=2), np.nan)


def traded(past, t):
    """Return each venue's volume of the open second and the 59 before it."""
    since = max((t - 1) // SECOND * SECOND - 59 * SECOND, began(past, t))
    out = np.zeros(past.stamp.shape[1])
    for ns, place, size in past.trades:
        if since <= ns < t:
            out[place] += size
    return out


def average(past, t):
    """Return mean and standard deviation of the mids, NaN where there are none, or fewer than two."""
    mids = mids_at(past, t)[0]
    mids = mids[~np.isnan(mids)]
    return mids.mean() if mids.size else math.nan, mids.std() if mids.size > 1 else math.nan


def gains(past, t, fees):
    """Return what each ordered pair of venues earns, bps of the mean mid, net of fees."""
    here = np.flatnonzero(~np.isnan(mids_at(past, t)[0]))
    touch, mean = past.touch[np.searchsorted(past.clock, t)], average(past, t)[0]
    return [1e4 * (touch[i, 0] - touch[j, 1]) / mean - fees[i] - fees[j] for i in here for j in here if i != j]


def _depth(books, side):
    # Size at the ten best prices of several books in one.
    whole = {}
    for book in books:
        for px, sz in book.items():
            whole[px] = whole.get(px, 0.0) + sz
    return sum(whole[px] for px in sorted(whole, reverse=side == 0)[:10])


def prices(past, t, fees):
    """Return what holds at one step's end by name, and the deviations by venue."""
    all_mids = mids_at(past, t)[0]
    here = np.flatnonzero(~np.isnan(all_mids))
    out = {"num_venues": len(here), "all_venues_active": float(len(here) == len(all_mids)), "mid_deviation_bps": {}}
    if not len(here):
        return out
    mids, touch, volume = all_mids[here], past.touch[np.searchsorted(past.clock, t)][here], traded(past, t)[here]
    mean, is_whole = mids.mean(), t - began(past, t) >= MINUTE
    centre = (volume * mids).sum() / volume.sum() if volume.sum() else mean
    out |= {"avg_price": mean, "consolidated_spread_bps": 1e4 * (touch[:, 1].min() - touch[:, 0].max()) / mean}
    bids, asks = (_depth([past.levels[np.searchsorted(past.clock, t)][place][side] for place in here], side) for side in (0, 1))
    out["depth_imbalance_ratio"] = (bids - asks) / (bids + asks)
    earned = gains(past, t, fees)
    out |= {"best_arb_opportunity_bps": max([0.0, *earned]), "arb_opportunity_count": sum(gain > 0 for gain in earned)}
    if len(here) > 1:
        out |= {"price_divergence": mids.std(), "price_dispersion": 1e4 * mids.std() / mean}
        out["max_price_spread_bps"] = 1e4 * np.ptp(mids) / mean
    if is_whole:
        out["mid_deviation_bps"] = {v: 1e4 * (mid - centre) / centre for v, mid in zip(here, mids, strict=True)}
        if volume.sum():
            spread = math.sqrt((volume * (mids - centre) ** 2).sum() / volume.sum())
            out |= {"vw_price_dispersion": 1e4 * spread / centre, "volume_concentration": (volume**2).sum() / volume.sum() ** 2}
    return out


def ratio(past, t, sides):
    """Return Binance over Bybit by name, where `sides` says whose each venue is; NaN without both."""
    mids = mids_at(past, t)[0]
    means = [np.mean(known) if (known := [mid for mid, of in zip(mids, sides, strict=True) if of == side and mid == mid]) else math.nan
             for side in ("binance", "bybit")]  # fmt: skip
    return {"binance_bybit_ratio": means[0] / means[1]}


def _corr(x, y):
    known = ~(np.isnan(x) | np.isnan(y))
    x, y = x[known], y[known]
    if x.size < 30 or any(z.var() * z.size <= 1e-12 * (z**2).sum() for z in (x, y)):  # too few, or one does not move
        return math.nan
    return np.corrcoef(x, y)[0, 1]


def movement(past, t):
    """Return what the last minute's mids tell by name, leads by venue."""
    if t - began(past, t) < MINUTE:
        return {"price_sync_correlation": math.nan, "lead_lag_coefficient": {}}
    grid = mids_at(past, t, t % TENTH + np.arange(601) * TENTH).T  # of whole tenths
    r = np.log(grid[:, :-1] / grid[:, 1:])
    r[np.isnan(mids_at(past, t)[0])] = np.nan  # who is not there now is left out
    lead = {}
    for v in range(len(r)):
        others = np.delete(r, v, axis=0)
        known = (~np.isnan(others)).sum(axis=0)
        others = np.divide(np.nansum(others, axis=0), known, out=np.full(600, np.nan), where=known > 0)
        lead[v] = sum(_corr(r[v][k:], others[:-k]) - _corr(others[k:], r[v][:-k]) for k in range(1, 11))
    pairs = [_corr(r[i], r[j]) for i in range(len(r)) for j in range(i)]
    pairs = [c for c in pairs if c == c]
    return {"price_sync_correlation": np.mean(pairs) if pairs else math.nan, "lead_lag_coefficient": lead}


def volatilities(past, t):
    """Return how the realised volatilities of the last 60 whole seconds differ, by name, of venues that were there throughout."""
    closes = mids_at(past, t, t % SECOND + np.arange(61) * SECOND).T
    vols = np.sqrt((np.diff(np.log(closes)) ** 2).sum(axis=1))
    vols = vols[~np.isnan(vols) & ~np.isnan(mids_at(past, t)[0])]
    if vols.size < 2 or t - began(past, t) < MINUTE:
        return {"cross_venue_vol_ratio": math.nan, "vol_dispersion": math.nan}
    return {
        "cross_venue_vol_ratio": vols.max() / vols.min() if vols.min() else math.nan,
        "vol_dispersion": vols.std() / vols.mean() if vols.mean() else 0.0,
    }


def of_a_minute(past, t):
    """Return what a minute of steps tells by name."""
    ts = [t - k * STEP_NS for k in range(241)]
    known = [average(past, s) if s > began(past, t) else (math.nan, math.nan) for s in ts]
    return {"price_momentum_1m": known[0][0] / known[240][0] - 1, "volatility_spread": np.std([d for _, d in known[:240]])}


def funding(rates):
    """Return the distance of the known funding rates by name."""
    known = [rate for rate in rates if rate == rate]
    return {"funding_delta": max(known) - min(known) if len(known) > 1 else math.nan}


def lasting(past, t, fees):
    """Return how long there has been an opportunity at each step, by name."""
    first = t
    while first > began(past, t) and any(gain > 0 for gain in gains(past, first, fees)):
        first -= STEP_NS
    return {"arb_duration_ms": max(0.0, (t - first - STEP_NS) / 1e6)}


def row(past, t, fees, funded, sides):
    """Return every column of one step by name, NaN where there is nothing; own ones of venues by place."""
    out = prices(past, t, fees)
    if not out["num_venues"]:
        return out
    out |= ratio(past, t, sides) | movement(past, t) | volatilities(past, t)
    return out | of_a_minute(past, t) | funding(funded) | lasting(past, t, fees)


def computes():
    """Return the names of the columns over venues that have a definition here."""
    book, trade, events = np.zeros(1, row_dtype("l2_snapshots")), np.zeros(1, row_dtype("trades")), []
    book["bid_px"], book["ask_px"], book["bid_sz"], book["ask_sz"], trade["size"] = 100.0, 106.0, 1.0, 1.0, 1.0
    for s in range(1, 140):
        book["bid_px"][0, 0] = 100.0 + s % 3
        book["exchange_ns"] = trade["exchange_ns"] = s * SECOND // 2
        events += [each for v in range(2) for each in ((v, BOOKS, book.copy()), (v, TRADES, trade.copy()))]
    return frozenset(row(past_of(events, (1.0, 1.0)), 69 * SECOND, (0.0, 0.0), (0.0, 0.0), ("binance", "bybit")))
