"""Slow and obvious versions of what `models` computes, for tests to compare with."""

import itertools
import math

import numpy as np


def sigma(exchange_ns, price, half_life_ns, warmup_ns, intervals=()):
    """Weigh every past squared return by its age, anew at every row; each stretch between doubtful steps stands alone."""
    bad = [(start, end) for start, end, state in intervals if state]
    cuts = [i for i in range(1, len(price)) if any(start <= exchange_ns[i] and end > exchange_ns[i - 1] for start, end in bad)]
    if cuts:
        pieces = [slice(*ends) for ends in itertools.pairwise([0, *cuts, len(price)])]
        return np.concatenate([sigma(exchange_ns[piece], price[piece], half_life_ns, warmup_ns) for piece in pieces])
    out = np.full(len(price), np.nan)
    known = [i for i in range(len(price)) if not math.isnan(price[i])]
    for n, i in enumerate(known):
        top = bottom = 0.0
        for before, after in itertools.pairwise(known[: n + 1]):
            age = 0.5 ** ((exchange_ns[i] - exchange_ns[after]) / half_life_ns)
            # Both the time and the move of a step are weighed by the age of its end.
            top += age * math.log(price[after] / price[before]) ** 2
            bottom += age * (exchange_ns[after] - exchange_ns[before]) * 1e-9
        if bottom > 0 and exchange_ns[i] - exchange_ns[known[0]] >= warmup_ns:
            out[i] = math.sqrt(top / bottom)
    return out


def horizon_return(exchange_ns, price, horizon_ns):
    out = np.full(len(price), np.nan)
    for i, t in enumerate(exchange_ns):
        if t + horizon_ns <= exchange_ns[-1]:
            last = max(j for j in range(len(price)) if exchange_ns[j] <= t + horizon_ns)
            out[i] = math.log(price[last] / price[i])
    return out


def triple_barrier(exchange_ns, bid, ask, profit_spreads, stop_spreads, limit_ns, fee_bps):
    """Follow both trades of every row, row by row; a tuple (label, touch_ns, ret_bps, barrier) each."""
    found = []
    for i, t in enumerate(exchange_ns):
        undecided = (0, t + limit_ns, math.nan, -2)
        spread = ask[i] - bid[i]
        if not spread > 0:
            found.append(undecided)
            continue
        fees = 2e-4 * fee_bps * 0.5 * (ask[i] + bid[i])
        profit, stop = profit_spreads * spread + fees, stop_spreads * spread + fees
        life = [j for j in range(i + 1, len(bid)) if exchange_ns[j] <= t + limit_ns]
        last = life[-1] if life else i
        complete = exchange_ns[-1] >= t + limit_ns

        def follow(side, i=i, life=life, last=last, complete=complete, profit=profit, stop=stop):
            entry, leave = (ask[i], bid) if side > 0 else (bid[i], ask)
            for j in life:
                gain = side * (leave[j] - entry)
                # The barrier is a price: compared as one, so that rounding is the same.
                if (leave[j] >= entry + profit) if side > 0 else (leave[j] <= entry - profit):
                    return "profit", j, 1e4 * gain / entry - 2 * fee_bps
                if (leave[j] <= entry - stop) if side > 0 else (leave[j] >= entry + stop):
                    return "stop", j, 1e4 * gain / entry - 2 * fee_bps
            if complete:
                return "limit", None, 1e4 * side * (leave[last] - entry) / entry - 2 * fee_bps
            return "open", None, math.nan

        long, short = follow(1), follow(-1)
        if long[0] == "profit" and (short[0] != "profit" or long[1] <= short[1]):
            found.append((1, exchange_ns[long[1]], long[2], 1))
        elif short[0] == "profit":
            found.append((-1, exchange_ns[short[1]], short[2], 1))
        elif "open" in (long[0], short[0]) or math.isnan(long[2]) or math.isnan(short[2]):
            found.append(undecided)
        else:
            better = long if long[2] >= short[2] else short
            both_stopped = long[0] == short[0] == "stop"
            end = exchange_ns[max(long[1], short[1])] if both_stopped else t + limit_ns
            found.append((0, end, better[2], -1 if better[0] == "stop" else 0))
    return found


def doubt_over(start_ns, end_ns, intervals):
    out = []
    for s, e in zip(start_ns, end_ns, strict=True):
        touched = [tuple(i) for i in intervals if i[2] != 0 and i[0] <= e and i[1] >= s]
        out.append(min(touched)[2] if touched else 0)
    return out


def average_uniqueness(start_ns, end_ns):
    moments = sorted(set(start_ns))
    active = {m: sum(s <= m <= e for s, e in zip(start_ns, end_ns, strict=True)) for m in moments}
    return [np.mean([1 / active[m] for m in moments if s <= m <= e]) for s, e in zip(start_ns, end_ns, strict=True)]


def auc(y, score, weight=None):
    """Compare every up row with every down row."""
    weight = np.ones(len(y)) if weight is None else weight
    top = bottom = 0.0
    for i in np.flatnonzero(y == 1):
        for j in np.flatnonzero(y == 0):
            w = weight[i] * weight[j]
            top += w * (1.0 if score[i] > score[j] else 0.5 if score[i] == score[j] else 0.0)
            bottom += w
    return top / bottom


def trades(exchange_ns, probability, low, high, horizon_ns, latency_ns=0):
    """Return (entry row, exit row, side) of each trade, one at a time."""
    found, free_ns = [], None
    for i, t in enumerate(exchange_ns):
        side = 1 if probability[i] >= high else -1 if probability[i] <= low else 0
        if side == 0 or (free_ns is not None and t < free_ns) or t + latency_ns + horizon_ns > exchange_ns[-1]:
            continue
        entry = i if latency_ns == 0 else max(j for j in range(len(exchange_ns)) if exchange_ns[j] <= t + latency_ns)
        leave = max(j for j in range(len(exchange_ns)) if exchange_ns[j] <= t + latency_ns + horizon_ns)
        found.append((entry, leave, side))
        free_ns = t + latency_ns + horizon_ns
    return found


def microstructure(exchange_ns, price, bid, ask, buy_bps, sell_bps, imbalance, horizon_ns):
    """Look up the later row of every row; lists of label, weight and move."""
    labels, weights, moves = [], [], []
    for i, t in enumerate(exchange_ns):
        last = max(j for j in range(len(price)) if exchange_ns[j] <= t + horizon_ns)
        mid = (bid[i] + ask[i]) / 2
        move = 1e4 * (price[last] - price[i]) / mid if t + horizon_ns <= exchange_ns[-1] else math.nan
        if math.isnan(move) or math.isnan(imbalance[i]):
            labels, weights, moves = [*labels, 0], [*weights, math.nan], [*moves, math.nan]
            continue
        side = 1 if move > 0 else -1
        cost = 1e4 * (ask[i] - mid) / mid + (buy_bps if side > 0 else sell_bps)[i]
        label = side if abs(move) > cost else 0
        agrees = label != 0 and np.sign(imbalance[i]) == label
        labels.append(label)
        weights.append(abs(imbalance[i]) if agrees else 1 - abs(imbalance[i]))
        moves.append(move)
    return labels, weights, moves


def smoothed(exchange_ns, mid, k):
    moves, ends = [], []
    for i in range(len(mid)):
        ahead = mid[i + 1 : i + 1 + k]
        moves.append(np.mean(ahead) / mid[i] - 1 if len(ahead) == k else math.nan)
        ends.append(int(exchange_ns[min(i + k, len(mid) - 1)]))
    return moves, ends
