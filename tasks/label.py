"""Recorded books into labels: what the price did after each feature row, with the span it looked at."""

from typing import Any

import numpy as np
from prefect import task

from models.labels import UNDECIDED, direction, doubt_over, triple_barrier, volatility_normalized_return
from models.microprice import Microprice
from models.moves import microstructure, smoothed_direction, sweep_cost_bps
from tasks.fitted import in_force
from warehouse.columns import DAY_NS, day_begins
from warehouse.lake import Lake
from warehouse.schema import OK, START, row_dtype

VERSION = "5"
PRICES = ("weighted_mid", "mid", "microprice")
_MEMORY_NS = 3_000_000_000_000  # of sigma, 50 half-lives: what was before weighs 2 ** -50, less than its last digit
_SLACK_NS = 1_000_000_000  # how far stamps of books that follow each other may run back


def price_series(books: np.ndarray, price: str, microprice: Microprice | None = None) -> np.ndarray:
    """Return the price that labels follow, NaN where a side is empty; without a fit the microprice is the weighted mid.

    Raises
    ------
    ValueError
        If `price` is none of PRICES.
    """
    bid, ask = books["bid_px"][:, 0], books["ask_px"][:, 0]
    if price == "mid":
        return (bid + ask) / 2.0
    if price == "microprice":
        return (microprice or Microprice()).at(bid, ask, books["bid_sz"][:, 0], books["ask_sz"][:, 0])
    if price == "weighted_mid":
        bid_size, ask_size = books["bid_sz"][:, 0], books["ask_sz"][:, 0]
        with np.errstate(invalid="ignore"):
            return (bid * ask_size + ask * bid_size) / (bid_size + ask_size)
    raise ValueError(f"price must be one of {', '.join(PRICES)}, received {price!r}")


def intervals_of(lake: Lake, venue: str, symbol: str) -> np.ndarray:
    """Return the coverage of a stream as (start_ns, end_ns, state), in order."""
    query = "SELECT start_ns, end_ns, state FROM coverage WHERE venue = $venue AND symbol = $symbol ORDER BY start_ns"
    with lake.connect(venue, symbol) as connection:
        rows = connection.execute(query, {"venue": venue, "symbol": symbol}).fetchnumpy()
    return np.column_stack([rows["start_ns"], rows["end_ns"], rows["state"]]).astype(np.int64)


def label(
    lake: Lake, venue: str, symbol: str, day: str, horizon_s: float = 1.0, price: str = "mid", threshold: float = 0.0,
    profit_spreads: float = 2.0, stop_spreads: float = 2.0, limit_s: float = 30.0, fee_bps: float = 4.0,
    notional: float = 10_000.0, smooth_rows: int = 50, smooth_alpha: float = 2e-5, microprice: Microprice | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write the labels of one stream and day; return the manifest of the partition.

    The last rows of a day look into the next: they are undecided (NaN, doubtful) until that
    much has been recorded, however late it comes, and a later run decides them.  Sigma starts
    50 minutes before the day, so that where days are cut changes no label.  Barriers and smoothed moves look
    further than the return, so each has a doubt of its own; `doubt` tells that nothing doubtful
    was touched up to the later of `label_end_ns` and `barrier_end_ns`, and that the return is known.

    Parameters
    ----------
    horizon_s : float
        Of the volatility-normalised return.
    price : str
        What it follows; the barriers always trade at the touch.
    threshold : float
        In sigmas; `direction` is 0 within it.
    profit_spreads, stop_spreads, limit_s, fee_bps : float
        Of the triple barrier.
    notional : float
        Order, in quote units, that a move of the micro-price must pay for: label `microstructure`.
    smooth_rows, smooth_alpha : int, float
        Mids averaged and threshold, a share of the mid: label `smoothed_direction`.
    microprice : Microprice, optional
        Fitted on an earlier stretch; the one that the day's features are made with if not given.
    """
    start = day_begins(day)
    ahead = int(max(horizon_s, limit_s) * 1e9)
    books = _books(lake, venue, symbol, start, ahead, smooth_rows)
    if not books.size:
        return {"rows": 0, "label": VERSION, "skipped": False}
    intervals = intervals_of(lake, venue, symbol)
    inside = (books["exchange_ns"] >= start) & (books["exchange_ns"] < start + DAY_NS)
    microprice = microprice or in_force(lake, venue, symbol, day).microprice
    inputs = {
        "label": VERSION, "horizon_s": horizon_s, "price": price, "threshold": threshold, "profit_spreads": profit_spreads,
        "stop_spreads": stop_spreads, "limit_s": limit_s, "fee_bps": fee_bps, "notional": notional, "smooth_rows": smooth_rows,
        "smooth_alpha": smooth_alpha, "microprice": microprice.id,
        "rows": int(inside.sum()), "books": int(books.size),
        "last_event_seq": int(books["event_seq"][-1]), "intervals": len(intervals),
    }  # fmt: skip
    known = lake.manifest("labels", venue, symbol, day)
    if known and all(known.get(key) == value for key, value in inputs.items()):
        return {**known, "skipped": True}
    ns = np.maximum.accumulate(books["exchange_ns"])
    returns = volatility_normalized_return(ns, price_series(books, price, microprice), int(horizon_s * 1e9), intervals=intervals)
    bid, ask = np.ascontiguousarray(books["bid_px"][:, 0]), np.ascontiguousarray(books["ask_px"][:, 0])
    barriers = triple_barrier(ns, bid, ask, profit_spreads, stop_spreads, int(limit_s * 1e9), fee_bps)
    doubt = doubt_over(returns.start_ns, np.maximum(returns.end_ns, barriers.touch_ns), intervals)
    unknown = (doubt == OK) & (np.isnan(returns.return_bps) | (returns.end_ns > ns[-1]))
    out = np.zeros(books.size, row_dtype("labels"))
    out["exchange_ns"], out["seq"], out["event_seq"] = books["exchange_ns"], books["seq"], books["event_seq"]
    out["label_start_ns"], out["label_end_ns"] = returns.start_ns, returns.end_ns
    out["vol_return"], out["return_bps"] = returns.vol_return, returns.return_bps
    out["direction"] = direction(returns.vol_return, threshold)
    out["barrier_label"], out["barrier_ret_bps"], out["barrier_end_ns"] = barriers.label, barriers.ret_bps, barriers.touch_ns
    out["barrier"], of_barrier = barriers.barrier, doubt_over(returns.start_ns, barriers.touch_ns, intervals)
    out["barrier_doubt"] = np.where((of_barrier == OK) & (barriers.barrier == UNDECIDED), START, of_barrier)
    out["doubt"] = np.where(unknown, START, doubt)
    micro = price_series(books, "microprice", microprice)
    _put_moves(out, books, ns, micro, intervals, int(horizon_s * 1e9), notional, smooth_rows, smooth_alpha)
    out = out[inside]
    manifest = {**inputs, "doubtful": int((out["doubt"] != OK).sum()), "skipped": False}
    lake.replace("labels", venue, symbol, day, {name: out[name] for name in out.dtype.names or ()}, manifest)
    return manifest


def _books(lake: Lake, venue: str, symbol: str, start: int, ahead: int, n_rows: int) -> np.ndarray:
    # The day's books in folding order, those that its sigma remembers before them, and behind them `n_rows` more or as many
    # as it takes to pass the last one's time limit; none where the day has none.
    books = lake.rows("l2_snapshots", venue, symbol, *_span(lake, venue, symbol, start, ahead + _SLACK_NS, n_rows))
    books = books[np.argsort(books["event_seq"], kind="stable")]
    inside = np.flatnonzero((books["exchange_ns"] >= start) & (books["exchange_ns"] < start + DAY_NS))
    if not inside.size:
        return books[:0]
    ns, last = np.maximum.accumulate(books["exchange_ns"]), int(inside[-1])
    return books[: max(last + n_rows, int(np.searchsorted(ns, ns[last] + ahead, side="right"))) + 1]


def _span(lake: Lake, venue: str, symbol: str, start: int, ahead: int, n_rows: int) -> tuple[int, int]:
    # Slow streams have their neighbours far away: look further and further, at stamps alone, until they are found.
    with lake.connect(venue, symbol) as connection:
        query = "SELECT first_ns, last_book_ns FROM stream_bounds WHERE venue = $venue AND symbol = $symbol"
        first, final = connection.execute(query, {"venue": venue, "symbol": symbol}).fetchone() or (None, None)
    if final is None:
        return start, start

    def stamps(since: int, until: int) -> np.ndarray:
        found: np.ndarray = lake.read("l2_snapshots", venue, symbol, since, until, columns=["exchange_ns"])["exchange_ns"].to_numpy()
        return np.sort(found)

    back, reach, end = _MEMORY_NS + 60 * _SLACK_NS, 2 * ahead, start + DAY_NS
    while not (before := stamps(start - back, start - _MEMORY_NS + 1)).size and start - back > first:
        back *= 4
    while True:
        after = stamps(end, end + reach)
        n = max(n_rows - 1, int(np.searchsorted(after, end + ahead, side="right")))
        if n < after.size or end + reach > final:
            break
        reach *= 4
    since = int(before[-1]) if before.size else start - back
    return since, (int(after[n]) + _SLACK_NS if n < after.size else end + reach) + 1


def _put_moves(
    out: np.ndarray, books: np.ndarray, ns: np.ndarray, micro: np.ndarray, intervals: np.ndarray,
    horizon_ns: int, notional: float, smooth_rows: int, smooth_alpha: float,
) -> None:  # fmt: skip
    bid, ask = (np.ascontiguousarray(books[name][:, 0]) for name in ("bid_px", "ask_px"))
    mid = (bid + ask) / 2.0
    buy, sell = (sweep_cost_bps(books[f"{side}_px"], books[f"{side}_sz"], mid, notional) for side in ("ask", "bid"))
    bids, asks = (books[name][:, :5].sum(axis=1) for name in ("bid_sz", "ask_sz"))
    with np.errstate(invalid="ignore"):
        imbalance = (bids - asks) / (bids + asks)
    costly = microstructure(ns, micro, bid, ask, buy, sell, imbalance, horizon_ns)
    out["microstructure"], out["microstructure_weight"] = costly.label, costly.weight
    smooth = smoothed_direction(ns, mid, smooth_rows, smooth_alpha)
    doubt = doubt_over(smooth.start_ns, smooth.end_ns, intervals)
    out["smoothed_direction"], out["smoothed_bps"], out["smoothed_end_ns"] = smooth.label, smooth.move_bps, smooth.end_ns
    out["smoothed_doubt"] = np.where((doubt == OK) & np.isnan(smooth.move_bps), START, doubt)


label_partition = task(label, name="label", task_run_name="label {venue} {symbol} {day}")
