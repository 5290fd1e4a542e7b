"""What an asset is worth, seeded: one path an asset, which every venue follows a little later and a little off.

The worth is a martingale, so nothing foretells it; but who hears it first foretells the others.
"""

import math

import numpy as np

from simulator.listings import price_of

STEP_NS = 10_000_000
VOLATILITY = 0.35e-4  # of the logarithm, a square root of a second
_BLOCK = 1_000
# How much later than the first venue each hears the worth, milliseconds.
LAG_MS = {
    "binance_usdm": 0, "bybit_linear": 30, "okx": 60, "binance_spot": 80, "binance_coinm": 90, "coinbase_exchange": 120,
    "coinbase_advanced": 120, "bybit_spot": 150, "hyperliquid": 250, "kraken": 300,
}  # fmt: skip
_BASIS, _BASIS_S = 0.5e-4, 60.0  # standard deviation and memory of a venue's own opinion


class Fundamental:
    """One asset's worth over time.

    Parameters
    ----------
    base : str
    seed : int
    start_ns : int
        When the path begins, at `listings.price_of(base)`.

    Examples
    --------
    >>> worth = Fundamental("BTC", seed=1, start_ns=0)
    >>> worth.price(0), worth.price(10**10) == Fundamental("BTC", 1, 0).price(10**10)
    (61800.0, True)
    """

    def __init__(self, base: str, seed: int, start_ns: int):
        self.base, self.start_ns, self._seed = base, start_ns, [seed, *base.encode()]
        self._price = price_of(base)
        self._blocks: dict[int, np.ndarray] = {}
        self._ends = [0.0]  # logarithm at the beginning of each block

    def log(self, at_ns: int) -> float:
        """Return the logarithm of worth over worth at the start; 0 before it."""
        step = max(0, (at_ns - self.start_ns) // STEP_NS)
        block, at = divmod(step, _BLOCK)
        if block not in self._blocks:
            for number in range(len(self._ends) - 1, block + 1):
                self._make(number)
            if block not in self._blocks:
                self._make(block)
        return float(self._blocks[block][at])

    def _make(self, number: int) -> None:
        steps = np.random.default_rng([*self._seed, number]).standard_normal(_BLOCK) * VOLATILITY * math.sqrt(STEP_NS / 1e9)
        path = self._ends[number] + np.cumsum(steps)
        self._blocks[number] = np.concatenate([[self._ends[number]], path[:-1]])
        self._blocks.pop(number - 3, None)
        if number + 1 == len(self._ends):
            self._ends.append(float(path[-1]))

    def price(self, at_ns: int) -> float:
        """Return the worth in quote units at a time; after the start only the last half minute is kept at hand."""
        return self._price * math.exp(self.log(at_ns))


class Course:
    """What one venue takes an asset to be worth: the fundamental, late, and off by a slow opinion of its own.

    Parameters
    ----------
    fundamental : Fundamental
    venue : str
        Says how late.
    seed : int
    """

    def __init__(self, fundamental: Fundamental, venue: str, seed: int):
        self.fundamental, self.lag_ns = fundamental, LAG_MS.get(venue, 0) * 1_000_000
        self._random = np.random.default_rng([seed, *venue.encode(), *fundamental.base.encode()])
        self._basis = _BASIS * float(self._random.standard_normal())
        self._basis_ns = fundamental.start_ns

    def price(self, at_ns: int) -> float:
        """Return the price in quote units that the venue's market is drawn to; times must not go back."""
        if at_ns - self._basis_ns >= 1_000_000_000:  # an opinion changes once a second
            keep = math.exp(-(at_ns - self._basis_ns) / 1e9 / _BASIS_S)
            self._basis = keep * self._basis + _BASIS * math.sqrt(1.0 - keep * keep) * float(self._random.standard_normal())
            self._basis_ns = at_ns
        return self.fundamental.price(at_ns - self.lag_ns) * math.exp(self._basis)
