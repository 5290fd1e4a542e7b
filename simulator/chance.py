"""The market's dice, compiled."""

import numpy as np
from numba import njit


@njit(cache=True)
def uniform(rng):
    """Return a number in (0, 1) from one word of state, moved on."""
    # splitmix64: one word of state, so a market can be cut and resumed anywhere.
    z = rng[0] + np.uint64(0x9E3779B97F4A7C15)
    rng[0] = z
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (np.float64(z >> np.uint64(11)) + 0.5) * 1.1102230246251565e-16


@njit(cache=True)
def normal(rng):
    """Return a standard normal number."""
    return np.sqrt(-2.0 * np.log(uniform(rng))) * np.cos(2.0 * np.pi * uniform(rng))


@njit(cache=True)
def is_up(rng, log_odds):
    """Toss a coin whose log odds of True are given; 0 is fair."""
    return uniform(rng) < 1.0 / (1.0 + np.exp(-log_odds))


@njit(cache=True)
def jump(rng, mean_ticks):
    """Return an exponential number of ticks, at least one."""
    # The tail is cut so that the ring cannot be outrun.
    return 1 + int(min(-np.log(uniform(rng)) * mean_ticks, 8.0 * mean_ticks))
