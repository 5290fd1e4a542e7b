"""What data-frame libraries make of the same stream: rolling sums over time windows, and TA-Lib on the same closes.

    python run_features.py EVENTS.npz     # prints one JSON object

Frames get the whole stream at once (batch), and the last 30 s of it for each of a few updates,
as a service does that keeps a frame.  TA-Lib gets the closes at once, and the last 200 for each bar.
"""

import json
import sys
import time

import numpy as np
import pandas as pd
import polars as pl
import talib
from talib import stream

SPANS, LIVE_S, ASKED, BARS = (1, 5, 30), 30, 40, 200
FLOWS = [f"e{i}" for i in range(1, 6)]
SUMMED = [*FLOWS, "book", "bought", "sold", "trade", "cost", "costed"]


def columns(books, trades):
    """Return one column of each quantity over all events, zero where an event has none, and which events are books."""
    bid, ask = (books[f"{side}_px"] for side in ("bid", "ask"))
    bid_sz, ask_sz = books["bid_sz"], books["ask_sz"]
    mid = (bid[:, 0] + ask[:, 0]) / 2
    own = {"squared": np.append(0.0, np.diff(np.log(mid)) ** 2), "spread": 1e4 * (ask[:, 0] - bid[:, 0]) / mid, "book": np.ones(len(mid))}
    for i in range(5):
        a, b, c, d = bid[:, i], bid_sz[:, i], ask[:, i], ask_sz[:, i]
        e = (a[1:] >= a[:-1]) * b[1:] - (a[1:] <= a[:-1]) * b[:-1] - (c[1:] <= c[:-1]) * d[1:] + (c[1:] >= c[:-1]) * d[:-1]
        own[f"e{i + 1}"] = np.append(0.0, e)
    side, size = trades["side"], trades["size"]
    at = np.searchsorted(books["seq"], trades["seq"]) - 1
    before = np.where(at >= 0, mid[np.maximum(at, 0)], np.nan)
    cost = np.nan_to_num(2e4 * size * side * (trades["price"] - before) / before)
    theirs = {
        "bought": size * (side > 0), "sold": size * (side < 0), "trade": np.ones(len(size)), "cost": cost, "costed": size * (at >= 0),
    }  # fmt: skip
    order = np.argsort(np.concatenate([books["seq"], trades["seq"]]), kind="stable")
    is_book = order < len(mid)
    out = {name: np.concatenate([values, np.zeros(len(size))])[order] for name, values in own.items()}
    out |= {name: np.concatenate([np.zeros(len(mid)), values])[order] for name, values in theirs.items()}
    ns = np.maximum.accumulate(np.concatenate([books["ns"], trades["ns"]])[order])
    return ns, out, is_book


def told(summed, squared, spread):
    """Return the features that window sums give, by the catalogue's names."""
    out = {}
    for w in SPANS:
        s = summed[w]
        for i, name in enumerate(FLOWS, 1):
            out[f"mlofi_{i}_{w}"] = s[name]
        both = s["bought"] + s["sold"]
        out |= {
            f"update_intensity_{w}": s["book"] / w, f"trade_intensity_{w}": s["trade"] / w, f"signed_volume_{w}": s["bought"] - s["sold"],
            f"trade_imbalance_{w}": (s["bought"] - s["sold"]) / both, f"effective_spread_bps_{w}": s["cost"] / s["costed"],
        }  # fmt: skip
    out |= {f"realized_vol_{w}": total**0.5 for w, total in squared.items()}
    return out | {"spread_compression": spread}


def by_pandas(ns, made, is_book):
    frame = pd.DataFrame(made, index=pd.to_datetime(ns))
    summed = {w: frame[SUMMED].rolling(f"{w}s").sum()[is_book] for w in SPANS}
    squared = {w: frame["squared"].rolling(f"{w}s").sum()[is_book] for w in (*SPANS, 300)}
    minute = frame[["spread", "book"]].rolling("60s").sum()[is_book]
    spread = frame["spread"][is_book] / (minute["spread"] / minute["book"])
    return {name: values.to_numpy() for name, values in told(summed, squared, spread).items()}


def by_polars(ns, made, is_book):
    frame = pl.DataFrame(made | {"ns": ns, "is_book": is_book}).with_columns(pl.col("ns").cast(pl.Datetime("ns")))
    sums = [pl.col(name).rolling_sum_by("ns", f"{w}s", closed="right").alias(f"{name}|{w}") for w in SPANS for name in SUMMED]
    sums += [pl.col("squared").rolling_sum_by("ns", f"{w}s", closed="right").alias(f"squared|{w}") for w in (*SPANS, 300)]
    sums += [pl.col(name).rolling_sum_by("ns", "60s", closed="right").alias(f"{name}|60") for name in ("spread", "book")]
    out = frame.lazy().select("is_book", "spread", *sums).filter(pl.col("is_book")).collect()
    summed = {w: {name: out[f"{name}|{w}"] for name in SUMMED} for w in SPANS}
    squared = {w: out[f"squared|{w}"] for w in (*SPANS, 300)}
    found = told(summed, squared, out["spread"] / (out["spread|60"] / out["book|60"]))
    return {name: values.to_numpy() for name, values in found.items()}


def frames(books, trades, call):
    """Return rows a second over the whole stream, microseconds an update from the last 30 s, and the last row."""
    call(*columns(books, trades))
    start = time.process_time()
    found = call(*columns(books, trades))
    rate = len(books["seq"]) / (time.process_time() - start)
    took = []
    for k in np.linspace(len(books["ns"]) // 2, len(books["ns"]) - 1, ASKED).astype(int):
        first = np.searchsorted(books["ns"], books["ns"][k] - LIVE_S * 10**9)
        since = (trades["seq"] > books["seq"][first]) & (trades["seq"] < books["seq"][k])
        recent = {name: values[first : k + 1] for name, values in books.items()}
        theirs = {name: values[since] for name, values in trades.items()}
        start = time.process_time()
        call(*columns(recent, theirs))
        took.append(time.process_time() - start)
    return rate, float(np.median(took) * 1e6), {name: float(values[-1]) for name, values in found.items()}


def by_talib(high, low, close):
    """Return microseconds a bar of eleven columns of indicators, of all bars at once and of the last 200 for each."""

    def of(t, h, x, c):
        return [*(t.EMA(c, n) for n in (12, 26, 50)), t.RSI(c, 14), t.MACD(c, 12, 26, 9), t.BBANDS(c, 20, 2, 2), t.ATR(h, x, c, 14)]

    start = time.process_time()
    of(talib, high, low, close)
    batch = (time.process_time() - start) / len(close) * 1e6
    start = time.process_time()
    for k in range(BARS, BARS + 1000):
        of(stream, high[k - BARS : k], low[k - BARS : k], close[k - BARS : k])
    return batch, (time.process_time() - start) / 1000 * 1e6


def main():
    kept = np.load(sys.argv[1])
    books = {name.removeprefix("book_"): kept[name] for name in kept.files if name.startswith("book_")}
    trades = {name.removeprefix("trade_"): kept[name] for name in kept.files if name.startswith("trade_")}
    out = {"pandas": frames(books, trades, by_pandas), "polars": frames(books, trades, by_polars)}
    print(json.dumps({**out, "talib": by_talib(kept["high"], kept["low"], kept["close"])}))


if __name__ == "__main__":
    main()
