"""The market's compiled part: the book as rings of sizes by tick, and one loop over events."""

import numpy as np
from numba import njit

from simulator.chance import is_up, jump, normal, uniform

RING = 1 << 16
MASK = RING - 1
REACH = 30_000  # levels further out are cancelled, so that no two live ticks share a place
EVENTS, LEVELS = 1 << 13, 1 << 17
DEPTH, TICKER, TRADE = 0, 1, 2

EVENT = np.dtype([(name, np.int64) for name in ("kind", "exchange_ns", "transact_ns", "id", "first_id", "previous_id", "a", "b", "c", "d")])
STATE = np.dtype(
    [(name, np.int64) for name in (
        "now_ns", "next_ns", "flush_ns", "last_ns", "bid", "ask", "update_id", "trade_id", "batch", "batch_first", "batch_previous",
        "dirty_bids", "dirty_asks", "hidden", "events", "levels",
    )]
    + [(name, np.float64) for name in (
        "touch_units", "level_units", "trade_units", "jump_ticks", "depth_ticks", "density", "density_ticks",
        "moves_s", "sweeps_s", "touches_s", "levels_s", "trades_s", "depth_jitter", "id_jump",
        "depth_ns", "memory_s", "move_tilt", "queue_tilt", "trade_tilt", "pressure", "activity", "anchor", "pull",
    )]
)  # fmt: skip


@njit(cache=True)
def _touch_size(m, rng, side):
    tilt = m["queue_tilt"] * m["pressure"]
    return max(2, int(m["touch_units"] * np.exp((tilt if side == 0 else -tilt) + 0.6 * normal(rng))))


@njit(cache=True)
def _level_size(m, rng, tick):
    size = m["level_units"] * np.exp(1.2 * normal(rng))
    if tick % 100 == 0:  # people like round prices
        size *= 6.0
    return max(1, int(size))


@njit(cache=True)
def _is_kept(m, rng, distance):
    # Dense at the touch, thinning outward: some 500 levels a side in the mean.
    return uniform(rng) < m["density"] * (1.0 + distance / m["density_ticks"]) ** -0.7


@njit(cache=True)
def open_book(state, rng, sizes):
    """Fill an empty book around `bid`, and set the clocks going."""
    m = state[0]
    m["ask"] = m["bid"] + 1
    m["activity"] = 1.0
    m["pressure"] = normal(rng) * m["hidden"]
    for side in range(2):
        best = m["bid"] if side == 0 else m["ask"]
        sizes[side, best & MASK] = _touch_size(m, rng, side)
        for distance in range(1, int(m["depth_ticks"])):
            if _is_kept(m, rng, distance):
                tick = best - distance if side == 0 else best + distance
                sizes[side, tick & MASK] = _level_size(m, rng, tick)
    m["next_ns"] = m["now_ns"] + _wait_ns(m, rng)
    m["flush_ns"] = m["now_ns"] + int(m["depth_ns"])
    m["batch_previous"] = m["update_id"]
    m["last_ns"] = m["now_ns"]


@njit(cache=True)
def walk(state, sizes, side, limit):
    """Return a side's levels from the touch outward, shape (n <= limit, 2)."""
    m = state[0]
    out = np.empty((limit, 2), np.int64)
    best = m["bid"] if side == 0 else m["ask"]
    n = 0
    for distance in range(REACH):
        tick = best - distance if side == 0 else best + distance
        if sizes[side, tick & MASK] > 0:
            out[n, 0], out[n, 1] = tick, sizes[side, tick & MASK]
            n += 1
            if n == limit:
                break
    return out[:n]


@njit(cache=True)
def _wait_ns(m, rng):
    rate = (m["moves_s"] + m["touches_s"] + m["levels_s"] + m["trades_s"]) * m["activity"]
    return 1 + int(-np.log(uniform(rng)) / rate * 1e9)


@njit(cache=True)
def _set(m, sizes, marks, dirty, side, tick, size):
    # Change one level and remember it for the next depth message.
    at = tick & MASK
    sizes[side, at] = size
    if marks[side, at] != m["batch"]:
        marks[side, at] = m["batch"]
        if side == 0:
            dirty[0, m["dirty_bids"]] = tick
            m["dirty_bids"] += 1
        else:
            dirty[1, m["dirty_asks"]] = tick
            m["dirty_asks"] += 1


@njit(cache=True)
def _next_id(m, rng):
    m["update_id"] += 1
    if m["id_jump"] > 0.0:
        m["update_id"] += int(-np.log(uniform(rng)) * m["id_jump"])
    if m["batch_first"] == 0:
        m["batch_first"] = m["update_id"]


@njit(cache=True)
def _tell_best(m, sizes, out):
    event = out[m["events"]]
    event["kind"], event["exchange_ns"], event["transact_ns"], event["id"] = TICKER, m["now_ns"], m["now_ns"], m["update_id"]
    event["a"], event["b"] = m["bid"], sizes[0, m["bid"] & MASK]
    event["c"], event["d"] = m["ask"], sizes[1, m["ask"] & MASK]
    m["events"] += 1


@njit(cache=True)
def _tell_trade(m, out, tick, size, aggressor):
    m["trade_id"] += 1
    event = out[m["events"]]
    event["kind"], event["exchange_ns"], event["transact_ns"], event["id"] = TRADE, m["now_ns"], m["now_ns"], m["trade_id"]
    event["a"], event["b"], event["c"] = tick, size, aggressor
    m["events"] += 1


@njit(cache=True)
def _move_best(m, rng, sizes, marks, dirty, side, sign, ticks):
    # Move one best price.  What it passes goes, what it uncovers stays, and a best price always has a size.
    toward = 1 if side == 0 else -1
    old = m["bid"] if side == 0 else m["ask"]
    new = old + sign * ticks
    if sign == toward:  # closer to the other side: the far end falls out of reach
        for tick in range(old - toward * REACH, new - toward * REACH, toward):
            if sizes[side, tick & MASK] > 0:
                _set(m, sizes, marks, dirty, side, tick, 0)
    else:
        for tick in range(old, new, sign):
            if sizes[side, tick & MASK] > 0:
                _set(m, sizes, marks, dirty, side, tick, 0)
    if side == 0:
        m["bid"] = new
    else:
        m["ask"] = new
    _set(m, sizes, marks, dirty, side, new, _touch_size(m, rng, side))


@njit(cache=True)
def _move(m, rng, sizes, marks, dirty, out, sweep):
    # The only place where the mid changes; `sign` is the coin.
    away = (m["anchor"] - 0.5 * (m["bid"] + m["ask"])) / m["jump_ticks"]  # from what the asset is worth elsewhere
    sign = 1 if is_up(rng, m["move_tilt"] * m["pressure"] + m["pull"] * min(max(away, -4.0), 4.0)) else -1
    gap = m["ask"] - m["bid"] - 1
    near, far = (1, 0) if sign > 0 else (0, 1)  # near: the side that gives way
    kind = uniform(rng)
    ticks = jump(rng, m["jump_ticks"])
    _next_id(m, rng)
    if gap > 0 and not sweep and kind < 0.75:
        _move_best(m, rng, sizes, marks, dirty, far, sign, 1 + int(uniform(rng) * gap))
    elif kind > 0.9:
        _move_best(m, rng, sizes, marks, dirty, near, sign, 1 + ticks // 4)
    else:
        if sweep:
            tick, eaten = (m["ask"] if sign > 0 else m["bid"]), 0
            for passed in range(ticks):
                size = sizes[near, (tick + sign * passed) & MASK]
                if size > 0 and eaten < 3:
                    _tell_trade(m, out, tick + sign * passed, size, sign)
                    eaten += 1
        _move_best(m, rng, sizes, marks, dirty, near, sign, ticks)
        _move_best(m, rng, sizes, marks, dirty, far, sign, ticks)
    _tell_best(m, sizes, out)


@njit(cache=True)
def _change_level(m, rng, sizes, marks, dirty):
    side = 0 if uniform(rng) < 0.5 else 1
    scale = m["density_ticks"]
    distance = 1 + int(scale * (np.exp(uniform(rng) * np.log(1.0 + m["depth_ticks"] / scale)) - 1.0))
    tick = m["bid"] - distance if side == 0 else m["ask"] + distance
    if _is_kept(m, rng, distance):
        _next_id(m, rng)
        _set(m, sizes, marks, dirty, side, tick, _level_size(m, rng, tick))
    elif sizes[side, tick & MASK] > 0:
        _next_id(m, rng)
        _set(m, sizes, marks, dirty, side, tick, 0)


@njit(cache=True)
def _change_touch(m, rng, sizes, marks, dirty, out):
    side = 0 if uniform(rng) < 0.5 else 1
    tick = m["bid"] if side == 0 else m["ask"]
    size = sizes[side, tick & MASK]
    wish = m["queue_tilt"] * m["pressure"]
    if is_up(rng, (wish if side == 0 else -wish) + np.log(m["touch_units"] / size)):
        size += max(1, int(0.15 * m["touch_units"] * np.exp(0.9 * normal(rng))))
    elif size > 1:
        size = max(1, int(size * (1.0 - 0.5 * uniform(rng))))
    else:
        return
    _next_id(m, rng)
    _set(m, sizes, marks, dirty, side, tick, size)
    _tell_best(m, sizes, out)


@njit(cache=True)
def _trade(m, rng, sizes, marks, dirty, out):
    sign = 1 if is_up(rng, m["trade_tilt"] * m["pressure"]) else -1
    side, tick = (1, m["ask"]) if sign > 0 else (0, m["bid"])
    waiting = sizes[side, tick & MASK]
    size = min(max(1, int(m["trade_units"] * np.exp(1.5 * normal(rng)))), int(0.6 * waiting))
    if size < 1:
        return
    _next_id(m, rng)
    _set(m, sizes, marks, dirty, side, tick, waiting - size)
    if uniform(rng) < 0.4:  # two streams: either may speak first
        _tell_best(m, sizes, out)
        _tell_trade(m, out, tick, size, sign)
    else:
        _tell_trade(m, out, tick, size, sign)
        _tell_best(m, sizes, out)


@njit(cache=True)
def _flush(m, rng, sizes, dirty, out, levels, previous_is_id):
    n_bids, n_asks = m["dirty_bids"], m["dirty_asks"]
    if n_bids + n_asks == 0:
        return
    event, at = out[m["events"]], m["levels"]
    event["kind"], event["exchange_ns"], event["transact_ns"], event["id"] = DEPTH, m["now_ns"], m["last_ns"], m["update_id"]
    event["first_id"] = m["batch_previous"] + 1 if previous_is_id else m["batch_first"]
    event["previous_id"] = m["batch_previous"]
    event["a"], event["b"], event["c"] = at, n_bids, n_asks
    for side in range(2):
        n = n_bids if side == 0 else n_asks
        ticks = np.sort(dirty[side, :n])
        for i in range(n):
            levels[at, 0], levels[at, 1] = ticks[i], sizes[side, ticks[i] & MASK]
            at += 1
    m["levels"] = at
    m["events"] += 1
    m["batch"] += 1
    m["batch_previous"], m["batch_first"] = m["update_id"], 0
    m["dirty_bids"], m["dirty_asks"] = 0, 0


@njit(cache=True)
def _turn_clock(m, rng):
    # Set the next depth message, and let the slow states live until then.
    wait_ns = m["depth_ns"] * (1.0 + m["depth_jitter"] * uniform(rng))
    if m["depth_jitter"] > 0.0 and uniform(rng) < 0.01:
        wait_ns *= 1.0 + 4.0 * uniform(rng)
    m["flush_ns"] += int(wait_ns)
    elapsed_s = wait_ns / 1e9
    keep = np.exp(-elapsed_s / m["memory_s"])
    m["pressure"] = (m["pressure"] * keep + np.sqrt(1.0 - keep * keep) * normal(rng)) * m["hidden"]
    slow = np.exp(-elapsed_s / 30.0)
    m["activity"] = np.exp(slow * np.log(m["activity"]) + 0.25 * np.sqrt(1.0 - slow * slow) * normal(rng))


@njit(cache=True)
def advance(state, rng, sizes, marks, dirty, out, levels, until_ns, stop_at_depth):
    """Run the market to a time, or until the output is nearly full; return events and levels written."""
    m = state[0]
    m["events"], m["levels"] = 0, 0
    ids_are_ours = m["id_jump"] == 0.0
    while m["events"] < EVENTS - 16 and m["levels"] < LEVELS // 2:
        if min(m["flush_ns"], m["next_ns"]) > until_ns:
            m["now_ns"] = until_ns
            break
        if m["flush_ns"] <= m["next_ns"]:
            m["now_ns"] = m["flush_ns"]
            if uniform(rng) < 1.0 - np.exp(-m["sweeps_s"] * m["activity"] * m["depth_ns"] / 1e9):
                _move(m, rng, sizes, marks, dirty, out, True)
                m["last_ns"] = m["now_ns"]
            _flush(m, rng, sizes, dirty, out, levels, ids_are_ours)
            _turn_clock(m, rng)
            if stop_at_depth:
                break
            continue
        m["now_ns"] = m["next_ns"]
        m["last_ns"] = m["now_ns"]
        pick = uniform(rng) * (m["moves_s"] + m["touches_s"] + m["levels_s"] + m["trades_s"])
        if pick < m["moves_s"]:
            _move(m, rng, sizes, marks, dirty, out, False)
        elif pick < m["moves_s"] + m["touches_s"]:
            _change_touch(m, rng, sizes, marks, dirty, out)
        elif pick < m["moves_s"] + m["touches_s"] + m["trades_s"]:
            _trade(m, rng, sizes, marks, dirty, out)
        else:
            _change_level(m, rng, sizes, marks, dirty)
        m["next_ns"] += _wait_ns(m, rng)
    return m["events"], m["levels"]
