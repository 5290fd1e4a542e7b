"""Bars and their features by definition: every bar from all events, every feature from all bars before it."""

import math

import numpy as np

from tasks.features.bar_catalogue import RETURNS
from tasks.features.catalogue import NAMES
from tasks.features.fold import Features
from tests.naive_features import SECOND, merged
from warehouse.schema import OK, row_dtype

NAN = math.nan


def bars_of(books, trades, changes, span_s):
    """Return the closed bars of one length as dicts; `close` is NaN of those without a price, `good` says whether clean."""
    _, matrix = Features().batch(books, trades, changes)
    events, clock, doubt = [], 0, 1
    for kind, i in merged(books, trades, changes):
        row = (books, trades, changes)[kind][i]
        if kind == 1 and (doubt != OK or row["backfill"]):
            continue
        clock = max(clock, int(row["exchange_ns"]))
        if kind == 2:
            doubt = int(row["state"])
        events.append((clock, kind, i, doubt))
    if not events:
        return []
    span, started = span_s * SECOND, next((ns for ns, kind, *_ in events if kind != 2), None)
    if started is None:
        return []
    bars, at, stream_doubt, mid, book = [], 0, 1, NAN, None
    while events[at][1] == 2:  # before the first book or trade there is no bar
        stream_doubt = events[at][3]
        at += 1
    for index in range(started // span, events[-1][0] // span):
        bar = {"end": (index + 1) * span, "good": stream_doubt == OK and bool(bars), "mids": [], "trades": []}
        while at < len(events) and events[at][0] < (index + 1) * span:
            _, kind, i, _ = events[at]
            at += 1
            if kind == 2:
                bar["good"], stream_doubt = False, int(changes["state"][i])
                mid = NAN
            elif kind == 1:
                bar["trades"].append((trades[i], mid))
            elif not np.isnan(matrix[i, 0]):
                mid = matrix[i, 0]
                book = i
                bar["mids"].append(mid)
            else:  # no price on one side, or a doubtful row
                bar["good"] = False
                mid = NAN
        path = bar["mids"] or ([mid] if bar["good"] else [])
        bar |= (
            {"open": path[0], "high": max(path), "low": min(path), "close": path[-1]}
            if path
            else dict.fromkeys(("open", "high", "low", "close"), NAN)
        )
        bar["good"] = bar["good"] and not math.isnan(bar["close"])
        bar["book"] = book
        bars.append(bar)
    return bars


def run_of(bars, n):
    """Return the last n bars if all are clean, else None."""
    part = bars[-n:]
    return part if len(part) == n and all(bar["good"] for bar in part) else None


def closes(bars, n):
    part = run_of(bars, n)
    return None if part is None else np.array([bar["close"] for bar in part])


def logs(bars, n):
    part = closes(bars, n + 1)
    return None if part is None else np.diff(np.log(part))


def clean_closes(bars):
    """Return the closes since the last bar that was doubtful."""
    out = []
    for bar in reversed(bars):
        if not bar["good"]:
            break
        out.append(bar["close"])
    return np.array(out[::-1])


def ema(values, span):
    """Return the exponential means from the span-th value on, begun with the plain mean."""
    out = [np.mean(values[:span])]
    for value in values[span:]:
        out.append(out[-1] + 2 / (span + 1) * (value - out[-1]))
    return np.array(out)


def wilder(values, n):
    out = np.mean(values[:n])
    for value in values[n:]:
        out += (value - out) / n
    return out


def hurst(log):
    points = []
    for length in (10, 20, 50, 100):
        ratios = []
        for piece in log.reshape(-1, length):
            walk = np.concatenate([[0.0], np.cumsum(piece - piece.mean())])
            if ((piece - piece.mean()) ** 2).sum() > 1e-30 * length:
                ratios.append((walk.max() - walk.min()) / piece.std())
        if ratios:
            points.append((math.log(length), math.log(np.mean(ratios))))
    return np.polyfit(*np.transpose(points), 1)[0] if len(points) > 1 else 0.5


def features(bars, garch=(0.0, 0.06, 0.94)):
    """Return the features of the last bar that follow from prices, by name; those that are not known yet are left out."""
    out, past = {}, clean_closes(bars)
    if not len(past):
        return out
    close, n = past[-1], len(past)
    for span in (12, 26, 50):
        if n >= span:
            out[f"ema_{span}"] = ema(past, span)[-1] / close
    if n >= 26:
        macd = ema(past, 12)[14:] - ema(past, 26)
        out["macd"] = macd[-1] / close
        if n >= 34:
            signal = np.mean(macd[:9])
            for value in macd[9:]:
                signal += 0.2 * (value - signal)
            out["macd_signal"], out["macd_histogram"] = signal / close, (macd[-1] - signal) / close
    if n >= 15:
        moves = np.diff(past)
        rise, fall = wilder(np.maximum(moves, 0), 14), wilder(np.maximum(-moves, 0), 14)
        out["rsi_14"] = 100 * rise / (rise + fall) if rise + fall else 50.0
        part = bars[-n:]
        ranges = [max(b["high"], p) - min(b["low"], p) for b, p in zip(part[1:], past[:-1], strict=True)]
        out["atr_14"] = wilder(np.array(ranges), 14) / close
    if n >= 20:
        part = past[-20:]
        width = 2 * part.std()
        out["bollinger_upper"], out["bollinger_lower"] = (part.mean() + width) / close, (part.mean() - width) / close
        out["bollinger_position"] = (close - part.mean() + width) / (2 * width) if width else 0.5
        out["parkinson_vol_20"] = math.sqrt(np.mean([math.log(b["high"] / b["low"]) ** 2 for b in bars[-20:]]) / (4 * math.log(2)))
    if n >= 21:
        log = np.diff(np.log(past))
        variance = np.mean(log[:20] ** 2)
        for r in log[20:]:
            variance = garch[0] + garch[1] * r * r + garch[2] * variance
        out["garch_vol"] = math.sqrt(variance)
    if n >= 16:
        log = logs(bars, 15)
        out["realized_vol_15"], out["return_std_15"] = math.sqrt((log**2).sum()), log.std(ddof=1)
    if n >= 60:
        part = past[-60:]
        out["max_drawdown_60"] = (1 - part / np.maximum.accumulate(part)).max()
        out["bars_since_high_60"] = float(np.argmax(part[::-1]))
    if n >= 61:
        log = logs(bars, 60)
        step, moved = log - log.mean(), log.var() > 1e-30
        out["realized_vol_60"], out["return_std_60"] = math.sqrt((log**2).sum()), log.std(ddof=1)
        out["vol_ratio"] = out["realized_vol_15"] / out["realized_vol_60"] if out["realized_vol_60"] else 1.0
        out["return_skew_60"] = (step**3).mean() / log.var() ** 1.5 if moved else 0.0
        out["return_kurt_60"] = (step**4).mean() / log.var() ** 2 - 3 if moved else 0.0
    if n >= 101:
        out["hurst"] = hurst(logs(bars, 100))
    for k in RETURNS:
        if len(bars) > k and bars[-1 - k]["good"]:
            out[f"return_{k}"] = close / bars[-1 - k]["close"] - 1
            if k < 6:
                out[f"log_return_{k}"] = math.log(close / bars[-1 - k]["close"])
    return out


def of_book(row):
    """Return what a bar takes from the features of its last book, by name."""
    return {name: row[NAMES.index(name)] for name in ("spread_bps", "imbalance_5", "depth_bid_5", "depth_ask_5", "vpin")}


def of_trades(bar):
    """Return what follows from the trades of a bar and the mids before them, by name."""
    bought, sold = (math.fsum(t["size"] for t, _ in bar["trades"] if t["aggressor"] == side) for side in (1, -1))
    costs = [(t["size"], 2e4 * t["aggressor"] * (t["price"] - mid) / mid) for t, mid in bar["trades"] if t["aggressor"] and mid == mid]
    weight = math.fsum(size for size, _ in costs)
    return {
        "trade_imbalance": (bought - sold) / (bought + sold) if bought + sold else 0.0,
        "effective_spread_bps": math.fsum(size * cost for size, cost in costs) / weight if weight else 0.0,
    }


def impacts(books, trades, ends_s):
    """Return the mean moves after trades that came of age in bars of 1 s, by name; of a stream that is clean throughout."""
    mid, seq, moves = (books["bid_px"][:, 0] + books["ask_px"][:, 0]) / 2, books["event_seq"], {}
    for trade in trades:
        before, of_age = int(np.searchsorted(seq, trade["event_seq"])), int(trade["exchange_ns"]) + 5 * SECOND
        after = int(np.searchsorted(books["exchange_ns"], of_age, side="right"))
        if before and trade["aggressor"]:
            move = 1e4 * trade["aggressor"] * (mid[after - 1] - mid[before - 1]) / mid[before - 1]
            moves.setdefault(of_age // SECOND + 1, []).append(move)
    return {"price_impact_bps": [np.mean(moves.get(int(end), 0.0)) for end in ends_s]}


def against(own, reference, i):
    """Return what bar i has to do with another series, by name, from closes by place; missing ones are None or NaN."""

    def close(closes, k):
        return NAN if k < 0 or k >= len(closes) or closes[k] is None else closes[k]

    r = [close(reference, i - k) for k in range(4)]
    out = {"ref_return_lag1": r[1] / r[2] - 1, "ref_return_lag2": r[2] / r[3] - 1}
    x, y = ([math.log(close(s, k) / close(s, k - 1)) for k in range(i - 60, i)] for s in (own, reference))
    if np.isnan(x).any() or np.isnan(y).any():
        return out | dict.fromkeys(("ref_corr_60", "ref_beta_60", "ref_vol_ratio_60"), NAN)
    own_moves, other_moves = (np.var(s) > 1e-30 for s in (x, y))
    out["ref_corr_60"] = np.corrcoef(x, y)[0, 1] if own_moves and other_moves else 0.0
    out["ref_beta_60"] = np.polyfit(y, x, 1)[0] if other_moves else 0.0
    out["ref_vol_ratio_60"] = np.std(x) / np.std(y) if other_moves else (NAN if own_moves else 1.0)
    return out


def funded(end_ns, payments):
    """Return what a bar knows of funding, by name, from all payments as (ns, rate)."""
    paid_ns, rate = max((p for p in payments if p[0] <= end_ns), default=(NAN, NAN))
    return {"funding_rate": rate, "funding_age_s": (end_ns - paid_ns) / SECOND}


_STILL = {"good": True, "trades": [], **dict.fromkeys(("open", "high", "low", "close"), 1.0)}
PRICE_NAMES = frozenset(features([_STILL] * (max(RETURNS) + 1)))  # all that bars alone define, once there are enough


def computes():
    """Return the names of the columns of bars that have a definition here."""
    of_one = of_book([NAN] * len(NAMES)) | of_trades(_STILL) | against([], [], 0) | funded(0, [])
    return PRICE_NAMES | set(of_one) | set(impacts(*(np.zeros(0, row_dtype(kind)) for kind in ("l2_snapshots", "trades")), []))
