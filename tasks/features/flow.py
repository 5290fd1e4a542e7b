"""Order-flow, trade and volatility features: rolling sums over exchange-time windows."""

import numpy as np
from numba import njit

from tasks.features.catalogue import NAMES
from tasks.features.seconds import close_seconds
from tasks.features.state import (
    BUCKETS,
    HOUR,
    IMPACT_NS,
    N_BOOK,
    N_SPANS,
    N_TRADE,
    SECOND,
    SPANS,
    VPIN_BUCKETS,
    add,
    since,
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
# Numbers that are handed on are of NumPy: a plain one is a type of its own, for which each kernel is compiled again.
_MINUTE_SPAN, _LONG_SPAN = np.int64(3), np.int64(4)  # the 60 s and 300 s windows in SPANS
_SECONDS_NS = (BUCKETS + 1) * SECOND  # by then every bucket was a whole clean second
_SQUARED, _SPREAD = np.int64(5), np.int64(6)  # columns of a book entry behind the five levels
_BOUGHT, _SOLD, _COST, _COSTED, _PRODUCT, _STEP, _STEP_BEFORE, _UNKNOWN = np.arange(8)
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
        entry["aged_total"][0] = s["aged_total"][0]
        entry["aged_lost"][0] = s["aged_lost"][0]
        entry["aged_n"] = s["aged_n"]
        impact = entry["side"] * 1e4 * (s["mid"] - entry["mid"]) / entry["mid"]  # mid as of its 5 s
        if not np.isnan(impact):
            add(s["aged_total"], s["aged_lost"], 0, impact)
            s["aged_n"] += 1
        s["aged"] += 1
    for k in range(3):
        tail = s["aged_tail"][k]
        while tail < s["aged"] and trades[tail & mask]["ns"] + IMPACT_NS <= now - SPANS[k]:
            tail += 1
        s["aged_tail"][k] = tail
    if now // SECOND > s["second"]:
        close_seconds(s, now // SECOND)
    for k in range(N_SPANS):
        tail = s["book_tail"][k]
        while tail < s["book_head"] and books[tail & (books.size - 1)]["ns"] <= now - SPANS[k]:
            tail += 1
        s["book_tail"][k] = tail
        if k == _MINUTE_SPAN:  # no feature sums trades over it
            continue
        tail = s["trade_tail"][k]
        while tail < s["trade_head"] and trades[tail & mask]["ns"] <= now - SPANS[k]:
            tail += 1
        s["trade_tail"][k] = tail


@njit(cache=True)
def _book_sum(s, books, k, c):
    # Of one column over one window, as of now.
    if s["book_tail"][k] == s["book_head"]:
        return 0.0
    entry = books[s["book_tail"][k] & (books.size - 1)]
    return since(s["book_total"], s["book_lost"], entry["total"], entry["lost"], c)


@njit(cache=True)
def _trade_sum(s, trades, k, c):
    if s["trade_tail"][k] == s["trade_head"]:
        return 0.0
    entry = trades[s["trade_tail"][k] & (trades.size - 1)]
    return since(s["trade_total"], s["trade_lost"], entry["total"], entry["lost"], c)


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
    for c in range(N_TRADE):
        entry["total"][c] = s["trade_total"][c]
        entry["lost"][c] = s["trade_lost"][c]
    total, lost = s["trade_total"], s["trade_lost"]
    add(total, lost, _BOUGHT if side > 0.0 else _SOLD if side < 0.0 else _UNKNOWN, size)
    if not np.isnan(entry["mid"]):
        add(total, lost, _COST, size * 2e4 * side * (price - entry["mid"]) / entry["mid"])
        add(total, lost, _COSTED, size)
    step = price - s["last_trade_px"] if s["trade_head"] else 0.0
    if s["trade_head"] >= _NO_PAIR:
        add(total, lost, _PRODUCT, step * s["last_step"])
        add(total, lost, _STEP, step)
        add(total, lost, _STEP_BEFORE, s["last_step"])
    s["last_step"] = step
    s["last_trade_px"] = price
    s["trade_head"] += 1
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
                left = (VPIN_BUCKETS + 1) * bucket + left % bucket


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
    total, lost = s["book_total"], s["book_lost"]
    for c in range(N_BOOK):
        entry["total"][c] = total[c]
        entry["lost"][c] = lost[c]
    add(total, lost, _SPREAD, out[1])
    for i in range(5):
        bid_sz, ask_sz = row["bid_sz"][i], row["ask_sz"][i]
        bid_px = row["bid_px"][i] if bid_sz > 0.0 else -np.inf
        ask_px = row["ask_px"][i] if ask_sz > 0.0 else np.inf
        if s["seen"]:
            add(total, lost, i, _order_flow(s, i, bid_px, bid_sz, ask_px, ask_sz))
        s["px"][0, i] = bid_px
        s["sz"][0, i] = bid_sz
        s["px"][1, i] = ask_px
        s["sz"][1, i] = ask_sz
    out[_DRIFT] = np.nan
    if s["seen"]:
        if mid != s["mid"]:
            step = np.log(mid / s["mid"])
            add(total, lost, _SQUARED, step * step)
        out[_DRIFT] = 1e4 * (micro - s["microprice"]) / mid
    s["book_head"] += 1
    s["mid"] = mid
    s["microprice"] = micro
    s["seen"] += 1


@njit(cache=True)
def flow_features(s, books, trades, out):
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
                out[_MLOFI + 3 * i + k] = _book_sum(s, books, k, i)
            out[_OFI + k] = out[_MLOFI + k]
            out[_UPDATES + k] = (s["book_head"] - s["book_tail"][k]) / w
            bought = _trade_sum(s, trades, k, _BOUGHT)
            sold = _trade_sum(s, trades, k, _SOLD)
            n = s["trade_head"] - s["trade_tail"][k]
            out[_SIGNED + k] = bought - sold
            out[_IMBALANCE + k] = (bought - sold) / (bought + sold) if bought + sold > 0.0 else 0.0
            out[_TRADES + k] = n / w
            costed = _trade_sum(s, trades, k, _COSTED)
            out[_EFFECTIVE + k] = _trade_sum(s, trades, k, _COST) / costed if costed > 0.0 else 0.0
            out[_VOL + k] = np.sqrt(max(0.0, _book_sum(s, books, k, _SQUARED)))
        out[_IMPACT + k] = np.nan
        if clean >= SPANS[k] + IMPACT_NS:
            n, total = n_impact, impact
            if s["aged_tail"][k] < s["aged"]:
                entry = trades[s["aged_tail"][k] & (trades.size - 1)]
                n += s["aged_n"] - entry["aged_n"]
                total += since(s["aged_total"], s["aged_lost"], entry["aged_total"], entry["aged_lost"], 0)
            out[_IMPACT + k] = total / n if n else 0.0
        out[_ZSCORE + k] = np.nan
        mean, std = s["per_second"][2 * k], s["per_second"][2 * k + 1]
        if clean >= _SECONDS_NS:
            volume = _trade_sum(s, trades, k, _BOUGHT) + _trade_sum(s, trades, k, _SOLD) + _trade_sum(s, trades, k, _UNKNOWN)
            out[_ZSCORE + k] = (volume - mean) / std if std > 1e-9 * mean else 0.0
    _long_features(s, books, trades, out, clean)
    _calendar(s, out)


@njit(cache=True)
def _long_features(s, books, trades, out, clean):
    out[_COMPRESSION] = np.nan
    if clean >= SPANS[_MINUTE_SPAN]:
        n = s["book_head"] - s["book_tail"][_MINUTE_SPAN]
        total = _book_sum(s, books, _MINUTE_SPAN, _SPREAD)
        out[_COMPRESSION] = out[1] / (total / n) if total > 0.0 else np.nan
    out[_VOL + 3] = np.nan
    out[_ROLL] = np.nan
    if clean >= SPANS[_LONG_SPAN]:
        out[_VOL + 3] = np.sqrt(max(0.0, _book_sum(s, books, _LONG_SPAN, _SQUARED)))
        n = s["trade_head"] - max(_NO_PAIR, s["trade_tail"][_LONG_SPAN])
        out[_ROLL] = 0.0
        if n > 0:
            product = _trade_sum(s, trades, _LONG_SPAN, _PRODUCT) / n
            steps = _trade_sum(s, trades, _LONG_SPAN, _STEP) * _trade_sum(s, trades, _LONG_SPAN, _STEP_BEFORE)
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
