"""Order-flow, trade and volatility features: rolling sums over exchange-time windows."""

import numpy as np
from numba import njit

from tasks.features.catalogue import NAMES
from tasks.features.seconds import close_seconds
from tasks.features.state import (
    BOOK_FROM,
    BOOK_TO,
    BUCKETS,
    HOUR,
    IMPACT_NS,
    N_SPANS,
    SECOND,
    SPANS,
    TRADE_FROM,
    TRADE_TO,
    VPIN_BUCKETS,
    add,
    add2,
)

_OFI, _MLOFI, _UPDATES, _IMBALANCE, _SIGNED, _ZSCORE, _TRADES, _EFFECTIVE, _IMPACT, _VOL = (
    NAMES.index(n)
    for n in (
        "ofi_1", "mlofi_1_1", "update_intensity_1", "trade_imbalance_1", "signed_volume_1", "volume_zscore_1",
        "trade_intensity_1", "effective_spread_bps_1", "price_impact_bps_1", "realized_vol_1",
    )
)  # fmt: skip
_KYLE, _AMIHUD, _ROLL, _VPIN, _COMPRESSION, _DRIFT, _HOUR = (
    NAMES.index(n)
    for n in ("kyle_lambda_30", "amihud_300", "roll_spread_300", "vpin", "spread_compression", "microprice_drift_bps", "hour")
)
_MINUTE_SPAN, _LONG_SPAN = 3, 4  # the 60 s and 300 s windows in SPANS
_SECONDS_NS = (BUCKETS + 1) * SECOND  # by then every bucket was a whole clean second
_SQUARED, _SPREAD = 5, 6  # columns of a book entry behind the five levels
_BOUGHT, _SOLD, _COST, _COSTED, _PRODUCT, _STEP, _STEP_BEFORE = range(7)
_NO_PAIR = 2  # the first two trades of a clean stream end no pair of price steps


@njit(cache=True)
def advance(s, books, trades, ns):
    """Move the clock to an event's time: seconds close, windows lose what became too old, trades come of age."""
    if ns > s["clock_ns"]:
        s["clock_ns"] = ns
    now = s["clock_ns"]
    mask = trades.size - 1
    while s["aged"] < s["trade_head"]:
        entry = trades[s["aged"] & mask]
        if entry["ns"] + IMPACT_NS >= now:
            break
        entry["impact"] = entry["side"] * 1e4 * (s["mid"] - entry["mid"]) / entry["mid"]  # mid as of its 5 s
        if not np.isnan(entry["impact"]):
            for k in range(3):
                add(s["aged_sum"], s["aged_lost"], k, entry["impact"])
                s["aged_n"][k] += 1
        s["aged"] += 1
    for k in range(3):
        while s["aged_tail"][k] < s["aged"]:
            entry = trades[s["aged_tail"][k] & mask]
            if entry["ns"] + IMPACT_NS > now - SPANS[k]:
                break
            if not np.isnan(entry["impact"]):
                add(s["aged_sum"], s["aged_lost"], k, -entry["impact"])
                s["aged_n"][k] -= 1
            s["aged_tail"][k] += 1
        if s["aged_n"][k] == 0:
            s["aged_sum"][k] = 0.0
            s["aged_lost"][k] = 0.0
    if now // SECOND > s["second"]:
        close_seconds(s, now // SECOND)
    for k in range(N_SPANS):
        while s["book_tail"][k] < s["book_head"]:
            entry = books[s["book_tail"][k] & (books.size - 1)]
            if entry["ns"] > now - SPANS[k]:
                break
            for c in range(BOOK_FROM[k], BOOK_TO[k]):
                if entry["value"][c] != 0.0:
                    add2(s["book_sum"], s["book_lost"], k, c, -entry["value"][c])
            s["book_tail"][k] += 1
        while s["trade_tail"][k] < s["trade_head"]:
            entry = trades[s["trade_tail"][k] & mask]
            if entry["ns"] > now - SPANS[k]:
                break
            for c in range(TRADE_FROM[k], TRADE_TO[k]):
                if entry["value"][c] != 0.0:
                    add2(s["trade_sum"], s["trade_lost"], k, c, -entry["value"][c])
            s["trade_tail"][k] += 1
        if s["book_tail"][k] == s["book_head"]:
            s["book_sum"][k, :] = 0.0
            s["book_lost"][k, :] = 0.0
        if s["trade_tail"][k] == s["trade_head"]:
            s["trade_sum"][k, :] = 0.0
            s["trade_lost"][k, :] = 0.0


@njit(cache=True)
def oldest_trade(s):
    """Return the running number of the oldest trade still needed."""
    return min(s["trade_tail"][_LONG_SPAN], s["aged_tail"][2])


@njit(cache=True)
def on_trade(s, trades, row):
    """Put one trade into every window."""
    size, price, side = row["size"], row["price"], float(row["aggressor"])
    entry = trades[s["trade_head"] & (trades.size - 1)]
    entry["ns"] = s["clock_ns"]
    entry["mid"] = s["mid"] if side != 0.0 else np.nan
    entry["side"] = side
    entry["impact"] = np.nan
    value = entry["value"]
    value[_BOUGHT] = 0.5 * (1.0 + side) * size  # of an unknown aggressor: half each
    value[_SOLD] = 0.5 * (1.0 - side) * size
    known = not np.isnan(entry["mid"])
    value[_COST] = size * 2e4 * side * (price - entry["mid"]) / entry["mid"] if known else 0.0
    value[_COSTED] = size if known else 0.0
    step = price - s["last_trade_px"] if s["trade_head"] else 0.0
    if s["trade_head"] >= _NO_PAIR:
        value[_PRODUCT] = step * s["last_step"]
        value[_STEP] = step
        value[_STEP_BEFORE] = s["last_step"]
    else:
        value[_PRODUCT] = value[_STEP] = value[_STEP_BEFORE] = 0.0
    s["last_step"] = step
    s["last_trade_px"] = price
    s["trade_head"] += 1
    for k in range(N_SPANS):
        for c in range(TRADE_FROM[k], TRADE_TO[k]):
            if value[c] != 0.0:
                add2(s["trade_sum"], s["trade_lost"], k, c, value[c])
    s["open_volume"] += size
    s["open_signed"] += side * size
    s["open_quote"] += size * price
    _fill_vpin(s, size, side)


@njit(cache=True)
def _fill_vpin(s, size, side):
    # A bucket is a fiftieth of the last full clock hour, so the size never knows its own future.
    hour = s["clock_ns"] // HOUR
    if hour != s["hour"]:
        if s["hour_whole"] and hour == s["hour"] + 1 and s["hour_volume"] > 0.0:
            s["vpin_next"] = s["hour_volume"] / VPIN_BUCKETS
            if s["vpin_bucket"] == 0.0:
                s["vpin_bucket"] = s["vpin_next"]
        s["hour_whole"] = 1
        s["hour_volume"] = 0.0
        s["hour"] = hour
    s["hour_volume"] += size
    bucket = s["vpin_bucket"]
    if bucket == 0.0:
        return
    left = size
    while left > 0.0:
        room = max(0.0, bucket - s["vpin_volume"])
        part = min(left, room)
        s["vpin_volume"] += part
        s["vpin_signed"] += side * part
        left -= part
        if part >= room:
            s["vpin_ring"][s["vpin_n"] % VPIN_BUCKETS] = min(1.0, abs(s["vpin_signed"]) / bucket)
            s["vpin_n"] += 1
            s["vpin_volume"] = 0.0
            s["vpin_signed"] = 0.0
            bucket = s["vpin_bucket"] = s["vpin_next"]  # a bucket keeps the size it was opened with
            if left > 2 * VPIN_BUCKETS * bucket:  # one huge trade: all buckets that count are its own
                left = VPIN_BUCKETS * bucket + left % bucket


@njit(cache=True)
def _order_flow(s, i, bid_px, bid_sz, ask_px, ask_sz):
    # A level that the book is too thin for stands infinitely far away, and holds nothing.
    e = 0.0
    if bid_px >= s["px"][0, i]:
        e += bid_sz
    if bid_px <= s["px"][0, i]:
        e -= s["sz"][0, i]
    if ask_px <= s["px"][1, i]:
        e -= ask_sz
    if ask_px >= s["px"][1, i]:
        e += s["sz"][1, i]
    return e


@njit(cache=True)
def on_book(s, books, row, out):
    """Put one book update into every window; the mid and microprice of `out` are its own."""
    mid, micro = out[0], out[_DRIFT - 1]
    entry = books[s["book_head"] & (books.size - 1)]
    entry["ns"] = s["clock_ns"]
    value = entry["value"]
    value[_SPREAD] = out[1]
    for i in range(5):
        bid_sz, ask_sz = row["bid_sz"][i], row["ask_sz"][i]
        bid_px = row["bid_px"][i] if bid_sz > 0.0 else -np.inf
        ask_px = row["ask_px"][i] if ask_sz > 0.0 else np.inf
        value[i] = _order_flow(s, i, bid_px, bid_sz, ask_px, ask_sz) if s["seen"] else 0.0
        s["px"][0, i] = bid_px
        s["sz"][0, i] = bid_sz
        s["px"][1, i] = ask_px
        s["sz"][1, i] = ask_sz
    value[_SQUARED] = 0.0
    out[_DRIFT] = np.nan
    if s["seen"]:
        if mid != s["mid"]:
            step = np.log(mid / s["mid"])
            value[_SQUARED] = step * step
        out[_DRIFT] = 1e4 * (micro - s["microprice"]) / mid
    s["book_head"] += 1
    for k in range(N_SPANS):
        for c in range(BOOK_FROM[k], BOOK_TO[k]):
            if value[c] != 0.0:
                add2(s["book_sum"], s["book_lost"], k, c, value[c])
    s["mid"] = mid
    s["microprice"] = micro
    s["seen"] += 1


@njit(cache=True)
def flow_features(s, trades, out):
    """Write the windowed features of this moment; NaN where the stream has not been clean for long enough."""
    clean = s["clock_ns"] - s["clean_since_ns"]
    # Trades that are 5 s old at this very moment: counted with the mid so far, settled when the clock moves on.
    impact = 0.0
    n_impact = 0
    for i in range(s["aged"], s["trade_head"]):
        entry = trades[i & (trades.size - 1)]
        if entry["ns"] + IMPACT_NS > s["clock_ns"]:
            break
        if not np.isnan(entry["mid"]):
            impact += entry["side"] * 1e4 * (s["mid"] - entry["mid"]) / entry["mid"]
            n_impact += 1
    for k in range(3):
        w = SPANS[k] / SECOND
        if clean < SPANS[k]:
            for group in (_OFI, _UPDATES, _IMBALANCE, _SIGNED, _TRADES, _EFFECTIVE, _VOL):
                out[group + k] = np.nan
            for i in range(5):
                out[_MLOFI + 3 * i + k] = np.nan
        else:
            for i in range(5):
                out[_MLOFI + 3 * i + k] = s["book_sum"][k, i] + s["book_lost"][k, i]
            out[_OFI + k] = out[_MLOFI + k]
            out[_UPDATES + k] = (s["book_head"] - s["book_tail"][k]) / w
            bought = s["trade_sum"][k, _BOUGHT] + s["trade_lost"][k, _BOUGHT]
            sold = s["trade_sum"][k, _SOLD] + s["trade_lost"][k, _SOLD]
            n = s["trade_head"] - s["trade_tail"][k]
            out[_SIGNED + k] = bought - sold
            out[_IMBALANCE + k] = (bought - sold) / (bought + sold) if n and bought + sold > 0.0 else 0.0
            out[_TRADES + k] = n / w
            costed = s["trade_sum"][k, _COSTED] + s["trade_lost"][k, _COSTED]
            out[_EFFECTIVE + k] = (s["trade_sum"][k, _COST] + s["trade_lost"][k, _COST]) / costed if costed > 0.0 else 0.0
            out[_VOL + k] = np.sqrt(max(0.0, s["book_sum"][k, _SQUARED] + s["book_lost"][k, _SQUARED]))
        out[_IMPACT + k] = np.nan
        if clean >= SPANS[k] + IMPACT_NS:
            n = s["aged_n"][k] + n_impact
            out[_IMPACT + k] = (s["aged_sum"][k] + s["aged_lost"][k] + impact) / n if n else 0.0
        out[_ZSCORE + k] = np.nan
        mean, std = s["per_second"][2 * k], s["per_second"][2 * k + 1]
        if clean >= _SECONDS_NS:
            volume = s["trade_sum"][k, _BOUGHT] + s["trade_lost"][k, _BOUGHT] + s["trade_sum"][k, _SOLD] + s["trade_lost"][k, _SOLD]
            out[_ZSCORE + k] = (volume - mean) / std if std > 1e-9 * mean else 0.0
    _long_features(s, out, clean)
    _calendar(s, out)


@njit(cache=True)
def _long_features(s, out, clean):
    out[_COMPRESSION] = np.nan
    if clean >= SPANS[_MINUTE_SPAN]:
        n = s["book_head"] - s["book_tail"][_MINUTE_SPAN]
        total = s["book_sum"][_MINUTE_SPAN, _SPREAD] + s["book_lost"][_MINUTE_SPAN, _SPREAD]
        out[_COMPRESSION] = out[1] / (total / n) if total > 0.0 else np.nan
    out[_VOL + 3] = np.nan
    out[_ROLL] = np.nan
    if clean >= SPANS[_LONG_SPAN]:
        out[_VOL + 3] = np.sqrt(max(0.0, s["book_sum"][_LONG_SPAN, _SQUARED] + s["book_lost"][_LONG_SPAN, _SQUARED]))
        n = s["trade_head"] - max(_NO_PAIR, s["trade_tail"][_LONG_SPAN])
        total = s["trade_sum"][_LONG_SPAN]
        lost = s["trade_lost"][_LONG_SPAN]
        out[_ROLL] = 0.0
        if n > 0:
            product = (total[_PRODUCT] + lost[_PRODUCT]) / n
            steps = (total[_STEP] + lost[_STEP]) * (total[_STEP_BEFORE] + lost[_STEP_BEFORE])
            out[_ROLL] = 2.0 * np.sqrt(max(0.0, steps / n / n - product))
    out[_KYLE] = s["per_second"][6] if clean >= 31 * SECOND else np.nan
    out[_KYLE + 1] = s["per_second"][7] if clean >= _SECONDS_NS else np.nan
    out[_AMIHUD] = s["per_second"][8] if clean >= _SECONDS_NS else np.nan
    out[_VPIN] = np.nan
    if s["vpin_n"] >= VPIN_BUCKETS:
        total = 0.0
        for i in range(VPIN_BUCKETS):
            total += s["vpin_ring"][i]
        out[_VPIN] = total / VPIN_BUCKETS


@njit(cache=True)
def _calendar(s, out):
    minutes = s["clock_ns"] // (60 * SECOND)
    if minutes != s["day_minute"]:
        s["day_minute"] = minutes
        day, minute = minutes // 1440, minutes % 1440
        s["calendar"][0] = minute // 60
        s["calendar"][1] = minute % 60
        s["calendar"][2] = (day + 3) % 7  # 1970-01-01 was a Thursday
        s["calendar"][3] = np.sin(2.0 * np.pi * minute / 1440.0)
        s["calendar"][4] = np.cos(2.0 * np.pi * minute / 1440.0)
    for i in range(5):
        out[_HOUR + i] = s["calendar"][i]
