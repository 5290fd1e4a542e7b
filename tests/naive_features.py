"""Features by their definitions: each recomputed from all events so far, with nothing kept between rows.

Windows are `(t - w, t]` on the exchange clock made monotone in arrival order; sums are exact
(`math.fsum`).  The past of a row begins where the stream last became clean.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tasks.features.catalogue import NAMES, SWEEPS, WINDOWS
from tests.naive_detectors import REGIMES
from warehouse.schema import LEVELS, OK, START, row_dtype

SECOND, NAN = 1_000_000_000, math.nan


def merged(books, trades, changes):
    """Return `(kind, index)` of all events in folding order."""
    events = [(int(seq), kind, i) for kind, rows in enumerate((books, trades, changes)) for i, seq in enumerate(rows["event_seq"])]
    return [(kind, i) for _, kind, i in sorted(events)]


def mids(books):
    return (books["bid_px"][:, 0] + books["ask_px"][:, 0]) / 2.0


@dataclass
class Past:
    """What is known at a book: the books (itself the last) and trades since the stream became clean."""

    t: int
    since: int
    books: np.ndarray
    book_ns: np.ndarray
    trades: np.ndarray
    trade_ns: np.ndarray
    mid_before: np.ndarray  # a trade: mid just before it, NaN before the first book

    @property
    def clean(self):
        return (self.t - self.since) / SECOND

    @cached_property
    def mid(self):
        return mids(self.books)

    def in_window(self, ns, w):
        return (ns > self.t - w * SECOND) & (ns <= self.t)

    def mid_at(self, ns):
        """Return the last mid at a moment, NaN before the first book."""
        n = int(np.searchsorted(self.book_ns, ns, side="right"))
        return float(self.mid[n - 1]) if n else NAN


def pasts(books, trades, changes):
    """Return the past of every book, and the state that makes it doubtful; a doubtful or one-sided book has no past."""
    clock, doubt, since, b0, t0 = 0, START, 0, 0, 0
    kept_b, ns_b, kept_t, ns_t, before = [], [], [], [], []
    found = []
    mid = mids(books)
    for kind, i in merged(books, trades, changes):
        if kind == 2:
            clock, doubt = max(clock, int(changes["exchange_ns"][i])), int(changes["state"][i])
            since, b0, t0 = clock, len(kept_b), len(kept_t)
        elif kind == 1:
            if doubt == OK and not trades["backfill"][i]:
                clock = max(clock, int(trades["exchange_ns"][i]))
                kept_t.append(i)
                ns_t.append(clock)
                before.append(mid[kept_b[-1]] if len(kept_b) > b0 else NAN)
        else:
            clock = max(clock, int(books["exchange_ns"][i]))
            own = doubt or int(books["doubt"][i])
            if own == OK and books["bid_sz"][i, 0] > 0 and books["ask_sz"][i, 0] > 0:
                kept_b.append(i)
                ns_b.append(clock)
                found.append((own, clock, since, b0, len(kept_b), t0, len(kept_t)))
            else:
                found.append((own, None))
                if doubt == OK:
                    since, b0, t0 = clock, len(kept_b), len(kept_t)
    all_b, all_t = books[kept_b], trades[kept_t]
    ns_b, ns_t, before = np.array(ns_b, np.int64), np.array(ns_t, np.int64), np.array(before, float)

    def past(own, t, *spans):
        if t is None:
            return own, None
        since, b0, b1, t0, t1 = spans
        return own, Past(t, since, all_b[b0:b1], ns_b[b0:b1], all_t[t0:t1], ns_t[t0:t1], before[t0:t1])

    return [lambda row=row: past(*row) for row in found]


def naive_row(past):
    """Return the features of the last book of a past by name."""
    out = {**_book(past.books[-1]), **_order_flow(past), **_trades(past), **_seconds(past), **_calendar(past.t)}
    out["vpin"] = _vpin(past)
    return out


def computes():
    """Return the names of the features that have a definition here."""
    book = np.zeros(1, row_dtype("l2_snapshots"))
    book["bid_px"], book["ask_px"], book["bid_sz"], book["ask_sz"] = 1.0, 2.0, 1.0, 1.0
    none = np.zeros(0, np.int64)
    return frozenset(naive_row(Past(0, 0, book, np.zeros(1, np.int64), np.zeros(0, row_dtype("trades")), none, none.astype(float))))


def _sweep(price, size, notional):
    spent = base = 0.0
    for p, q in zip(price, size, strict=True):
        if q <= 0:
            break
        take = min(p * q, notional - spent)
        spent += take
        base += take / p
        if spent >= notional:
            return notional / base
    return NAN


def _book(row):
    pb, qb, pa, qa = (row[name] for name in ("bid_px", "bid_sz", "ask_px", "ask_sz"))
    mid = (pb[0] + pa[0]) / 2
    micro = (pb[0] * qa[0] + pa[0] * qb[0]) / (qb[0] + qa[0])
    out = {"mid": mid, "spread_bps": 1e4 * (pa[0] - pb[0]) / mid, "weighted_mid": micro, "microprice": micro}
    for k in (1, 5, 10):
        bids, asks = math.fsum(qb[:k]), math.fsum(qa[:k])
        out[f"imbalance_{k}"] = (bids - asks) / (bids + asks)
    for k in (5, 10, 20):
        bids, asks = math.fsum(qb[:k]), math.fsum(qa[:k])
        out[f"depth_bid_{k}"], out[f"depth_ask_{k}"], out[f"depth_ratio_{k}"] = bids, asks, math.log(bids / asks)
    held = [(i, side) for side in (0, 1) for i in range(LEVELS) if (qb, qa)[side][i] > 0]
    fade = {(i, side): -abs(1e4 * ((pb, pa)[side][i] - mid) / mid) / 5 for i, side in held}
    top = max(fade.values())  # weights count only against each other
    near = [math.fsum((qb, qa)[s][i] * math.exp(fade[i, s] - top) for i, s in held if s == side) for side in (0, 1)]
    out["pressure"] = (near[0] - near[1]) / (near[0] + near[1])
    for q in SWEEPS:
        out[f"buy_cost_bps_{q}"] = 1e4 * (_sweep(pa, qa, q) - mid) / mid
        out[f"sell_cost_bps_{q}"] = 1e4 * (mid - _sweep(pb, qb, q)) / mid
    out["gap_bid_bps"], out["gap_ask_bps"] = 1e4 * (pb[0] - pb[1]) / mid, 1e4 * (pa[1] - pa[0]) / mid
    return out


def _e(books, i):
    # Order flow of each book against the one before; a level that is not there is infinitely far and empty.
    qb, qa = books["bid_sz"][:, i], books["ask_sz"][:, i]
    pb, pa = np.where(qb > 0, books["bid_px"][:, i], -np.inf), np.where(qa > 0, books["ask_px"][:, i], np.inf)
    e = np.where(pb[1:] >= pb[:-1], qb[1:], 0.0) - np.where(pb[1:] <= pb[:-1], qb[:-1], 0.0)
    e += -np.where(pa[1:] <= pa[:-1], qa[1:], 0.0) + np.where(pa[1:] >= pa[:-1], qa[:-1], 0.0)
    return e


def _order_flow(past):
    out, books, mid = {}, past.books, past.mid
    flows = [_e(books, i) for i in range(5)]
    squares = np.log(mid[1:] / mid[:-1]) ** 2
    for w in (*WINDOWS, 300):
        inside = past.in_window(past.book_ns, w)
        warm = past.clean >= w
        out[f"realized_vol_{w}"] = math.sqrt(math.fsum(squares[inside[1:]])) if warm else NAN
        if w == 300:
            continue
        for i in range(5):
            out[f"mlofi_{i + 1}_{w}"] = math.fsum(flows[i][inside[1:]]) if warm else NAN
        out[f"ofi_{w}"] = out[f"mlofi_1_{w}"]
        out[f"update_intensity_{w}"] = inside.sum() / w if warm else NAN
    spread = 1e4 * (books["ask_px"][:, 0] - books["bid_px"][:, 0]) / mid
    minute = spread[past.in_window(past.book_ns, 60)]
    mean = math.fsum(minute) / len(minute)
    out["spread_compression"] = spread[-1] / mean if past.clean >= 60 and mean > 0 else NAN
    out["microprice_drift_bps"] = NAN
    if len(books) > 1:
        micro = [_book(row)["microprice"] for row in books[-2:]]
        out["microprice_drift_bps"] = 1e4 * (micro[1] - micro[0]) / mid[-1]
    return out


def _trades(past):
    out, rows, ns = {}, past.trades, past.trade_ns
    size, side, price = rows["size"], rows["aggressor"].astype(float), rows["price"]
    known = (side != 0) & ~np.isnan(past.mid_before)
    for w in WINDOWS:
        inside, warm = past.in_window(ns, w), past.clean >= w
        volume, signed = math.fsum(size[inside & (side != 0)]), math.fsum((side * size)[inside])
        out[f"trade_imbalance_{w}"] = (signed / volume if volume else 0.0) if warm else NAN  # unknown aggressors count for neither
        out[f"signed_volume_{w}"] = signed if warm else NAN
        out[f"trade_intensity_{w}"] = inside.sum() / w if warm else NAN
        costed = inside & known
        cost = 2 * side * 1e4 * (price - past.mid_before) / past.mid_before
        weight = math.fsum(size[costed])
        out[f"effective_spread_bps_{w}"] = (math.fsum((cost * size)[costed]) / weight if weight else 0.0) if warm else NAN
        aged = np.flatnonzero(past.in_window(ns + 5 * SECOND, w) & known)
        moves = [side[i] * 1e4 * (past.mid_at(ns[i] + 5 * SECOND) - past.mid_before[i]) / past.mid_before[i] for i in aged]
        out[f"price_impact_bps_{w}"] = (math.fsum(moves) / len(moves) if moves else 0.0) if past.clean >= w + 5 else NAN
    out["roll_spread_300"] = NAN
    if past.clean >= 300:
        step = np.diff(price)  # step[j] ends at trade j + 1
        pair = past.in_window(ns[2:], 300)
        now, before = step[1:][pair], step[:-1][pair]
        cov = np.mean((now - now.mean()) * (before - before.mean())) if len(now) else 0.0
        out["roll_spread_300"] = 2 * math.sqrt(max(0.0, -cov))
    return out


def _slope(x, y):
    x, dx, dy = np.array(x), np.array(x) - np.mean(x), np.array(y) - np.mean(y)
    return float((dx @ dy) / (dx @ dx)) if dx @ dx > 1e-12 * (x @ x) else 0.0


def _seconds(past):
    # Whole clock seconds: volume, signed volume, quote volume, move and return of each; the latest last.
    last = past.t // SECOND
    n = min(300, last - past.since // SECOND - 1)
    volume, signed, quote, move, ret = (np.zeros(max(n, 0)) for _ in range(5))
    edges = np.arange(last - max(n, 0), last + 1) * SECOND  # both clocks never run backwards, so a second is a slice
    first, seen = np.searchsorted(past.trade_ns, edges), np.searchsorted(past.book_ns, edges)
    for k in range(n):
        rows = past.trades[first[k] : first[k + 1]]
        if len(rows):
            volume[k] = math.fsum(rows["size"])
            signed[k] = math.fsum(rows["size"] * rows["aggressor"])
            quote[k] = math.fsum(rows["size"] * rows["price"])
        if seen[k]:
            before, after = past.mid[seen[k] - 1], past.mid[seen[k + 1] - 1]
            move[k], ret[k] = after - before, math.log(after / before)
    long = past.clean >= 301
    out = {
        "kyle_lambda_30": _slope(signed[-30:], move[-30:]) if past.clean >= 31 else NAN,
        "kyle_lambda_300": _slope(signed, move) if long else NAN,
        "amihud_300": NAN,
    }
    if long:
        traded = quote > 0
        out["amihud_300"] = float(np.mean(np.abs(ret[traded]) / quote[traded])) if traded.any() else 0.0
    for w in WINDOWS:
        out[f"volume_zscore_{w}"] = NAN
        if long:
            volumes = np.array([math.fsum(volume[i : i + w]) for i in range(300 - w + 1)])
            now = math.fsum(past.trades["size"][past.in_window(past.trade_ns, w)])
            mean, std = volumes.mean(), volumes.std()
            out[f"volume_zscore_{w}"] = (now - mean) / std if std > 1e-9 * mean else 0.0
    return out


def _vpin(past):
    # Fill one bucket after the other; a bucket keeps the size it was opened with.
    hours = past.trade_ns // (3600 * SECOND)
    volume_of = {int(hour): float(past.trades["size"][hours == hour].cumsum()[-1]) for hour in np.unique(hours)}
    whole = {hour: v for hour, v in volume_of.items() if hour > past.since // (3600 * SECOND) and v > 0}
    if not whole:
        return NAN
    done, filled, signed, bucket = [], 0.0, 0.0, None
    for hour, row in zip(hours.tolist(), past.trades, strict=True):
        told = [h for h in whole if h + 1 <= hour and h + 1 in volume_of]
        if not told:
            continue
        size, left = whole[max(told)] / 50, float(row["size"])
        bucket = bucket or size
        while left > 0:
            part = min(left, max(0.0, bucket - filled))
            closes = part >= bucket - filled
            filled, signed, left = filled + part, signed + row["aggressor"] * part, left - part
            if closes:
                done.append(abs(signed) / bucket)
                filled, signed, bucket = 0.0, 0.0, size
                if left > 100 * bucket:  # more than is averaged: the rest of a huge trade decides all
                    left = 51 * bucket + left % bucket
    return sum(done[-50:]) / 50 if len(done) >= 50 else NAN


def _calendar(t):
    minutes = t // (60 * SECOND)
    hour, minute, day = minutes // 60 % 24, minutes % 60, (minutes // 1440 + 3) % 7
    angle = 2 * math.pi * (minutes % 1440) / 1440
    return {"hour": hour, "minute": minute, "day_of_week": day, "hour_sin": math.sin(angle), "hour_cos": math.cos(angle)}


def disagreements(past, row):
    """Return the features of which `row` differs from the definitions: `(name, got, wanted)`.

    Within 1e-9 of the number, and 1e-12 of the largest term where terms cancel; 1e-6 for a
    least-squares slope.  Roll's spread is compared squared: a root has no slope at 0.
    """
    want = naive_row(past) | dict.fromkeys(REGIMES, NAN)
    sizes = np.concatenate([past.books["bid_sz"].ravel(), past.books["ask_sz"].ravel(), past.trades["size"]])
    step = np.abs(np.diff(past.trades["price"])).max(initial=0.0)
    floors = {"ofi": 1e-12 * sizes.max(), "mlofi": 1e-12 * sizes.max(), "signed": 1e-12 * sizes.max(), "roll": 1e-12 * step * step}
    found = []
    for name, got in zip(NAMES, row.tolist(), strict=True):
        wanted, stem = float(want[name]), name.partition("_")[0]
        a, b = (got**2, wanted**2) if stem == "roll" else (got, wanted)
        near = abs(a - b) <= (1e-6 if stem == "kyle" else 1e-9) * abs(b) + floors.get(stem, 1e-10 if stem != "amihud" else 0.0)
        if math.isinf(got) or math.isnan(a) != math.isnan(b) or not (math.isnan(b) or near):
            found.append((name, got, wanted))
    return found
