"""Columns over venues by their definitions: each recomputed from all books and trades so far.

Events are `(exchange_ns, venue, kind, row)` in the order of time, the row of shape (1,).
"""

import math

import numpy as np

from tasks.features.cross_venue import AGE_NS

SECOND, TENTH = 1_000_000_000, 100_000_000


def _past(events, kind, venue, t):
    return [row[0] for ns, of, what, row in events if ns < t and (of, what) == (venue, kind)]


def mid_at(events, rates, venue, t):
    """Return a venue's last mid before a moment, NaN where there is none of the last 2 s."""
    books = _past(events, "book", venue, t)
    if not books or t - books[-1]["exchange_ns"] > AGE_NS:
        return math.nan
    return (books[-1]["bid_px"][0] + books[-1]["ask_px"][0]) * rates[venue] / 2


def prices(events, t, rates, fees):
    """Return what holds at one step's end by name, and the deviations by venue."""
    mid_of = [mid_at(events, rates, v, t) for v in range(len(rates))]
    here = [v for v, mid in enumerate(mid_of) if not math.isnan(mid)]
    mids = np.array([mid_of[v] for v in here])
    last = {v: _past(events, "book", v, t)[-1] for v in here}
    since = (t - 1) // SECOND * SECOND - 59 * SECOND
    volume = np.array([math.fsum(row["size"] for row in _past(events, "trade", v, t) if row["exchange_ns"] >= since) for v in here])
    centre = (volume * mids).sum() / volume.sum()
    spread = math.sqrt((volume * (mids - centre) ** 2).sum() / volume.sum())
    bids, asks = ([last[v][f"{s}_px"][0] * rates[v] for v in here] for s in ("bid", "ask"))
    depth = [sum(last[v][f"{s}_sz"][:10].sum() for v in here) for s in ("bid", "ask")]
    pairs = [(i, j) for i in range(len(here)) for j in range(len(here)) if i != j]
    gains = [1e4 * (bids[i] - asks[j]) / mids.mean() - fees[here[i]] - fees[here[j]] for i, j in pairs]
    deviation = {v: 1e4 * (mid - centre) / centre for v, mid in zip(here, mids, strict=True)}
    return {
        "num_venues": len(here), "all_venues_active": float(len(here) == len(rates)), "avg_price": mids.mean(),
        "price_divergence": mids.std(), "price_dispersion": 1e4 * mids.std() / mids.mean(),
        "max_price_spread_bps": 1e4 * np.ptp(mids) / mids.mean(), "vw_price_dispersion": 1e4 * spread / centre,
        "volume_concentration": (volume**2).sum() / volume.sum() ** 2, "depth_imbalance_ratio": (depth[0] - depth[1]) / sum(depth),
        "consolidated_spread_bps": 1e4 * (min(asks) - max(bids)) / mids.mean(), "best_arb_opportunity_bps": max(0.0, *gains),
        "arb_opportunity_count": sum(gain > 0 for gain in gains), "binance_bybit_ratio": mid_of[0] / mid_of[1],
        "mid_deviation_bps": deviation,
    }  # fmt: skip


def _corr(x, y):
    known = ~(np.isnan(x) | np.isnan(y))
    return np.corrcoef(x[known], y[known])[0, 1]


def movement(events, t, rates):
    """Return what the last minute's mids tell by name, leads by venue; for a moment at which all of three venues are there."""
    grid = np.array([[mid_at(events, rates, v, t - k * TENTH) for k in range(601)] for v in range(3)])
    r = np.log(grid[:, :-1] / grid[:, 1:])
    lead = {}
    for v in range(3):
        others = np.nanmean(np.delete(r, v, axis=0), axis=0)
        lead[v] = sum(_corr(r[v][k:], others[:-k]) - _corr(others[k:], r[v][:-k]) for k in range(1, 11))
    return {"price_sync_correlation": np.mean([_corr(r[0], r[1]), _corr(r[0], r[2]), _corr(r[1], r[2])]), "lead_lag_coefficient": lead}


def volatilities(events, t, rates, venues):
    """Return how the realised volatilities of the last 60 whole seconds differ, by name."""
    closes = np.array([[mid_at(events, rates, v, t // SECOND * SECOND - k * SECOND) for k in range(61)] for v in venues])
    vols = np.sqrt((np.diff(np.log(closes)) ** 2).sum(axis=1))
    return {"cross_venue_vol_ratio": vols.max() / vols.min(), "vol_dispersion": vols.std() / vols.mean()}


def of_a_minute(averages, divergences):
    """Return what a minute of steps tells by name: averages with the one of a minute ago first, divergences without."""
    return {"price_momentum_1m": averages[-1] / averages[0] - 1, "volatility_spread": np.std(divergences)}


def funding(rates):
    """Return the distance of the known funding rates by name."""
    return {"funding_delta": max(rates) - min(rates) if len(rates) > 1 else math.nan}


def lasting(steps_ms, pairs):
    """Return, at the last of some steps, how long there has been an opportunity, by name."""
    since = len(pairs)
    while since and pairs[since - 1]:
        since -= 1
    return {"arb_duration_ms": float(steps_ms[-1] - steps_ms[since]) if pairs[-1] else 0.0}


def computes():
    """Return the names of the columns over venues that have a definition here."""
    events = []
    for s in range(70):
        for v in range(3):
            book = {"exchange_ns": s * SECOND, "bid_px": [100.0 + (s + 1) * (v + 2) % 5], "ask_px": [106.0]}
            book |= {"bid_sz": np.ones(10), "ask_sz": np.ones(10)}
            events += [(s * SECOND, v, "book", [book]), (s * SECOND, v, "trade", [{"exchange_ns": s * SECOND, "size": 1.0}])]
    t, rates = 69 * SECOND, (1.0, 1.0, 1.0)
    of_moment = prices(events, t, rates, (0.0, 0.0, 0.0)) | movement(events, t, rates) | volatilities(events, t, rates, (0, 1, 2))
    return frozenset(of_moment | of_a_minute([1.0, 1.0], [1.0]) | funding([]) | lasting([0], [False]))
