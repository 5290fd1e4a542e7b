"""What happened before a market opened: prices, volumes, funding and open interest at any time, from the seed alone.

Nothing is stored and nothing is summed up from a beginning: every number is a function of its own time, made of
smooth noise on several scales, so that any stretch can be asked for and is the same each time.
"""

import numpy as np

from simulator.instruments import Instrument
from simulator.listings import price_of

MINUTE_MS = 60_000
LISTED_MS = 1_577_836_800_000  # 2020-01-01: nothing is older
FUNDING_MS = 8 * 3_600_000
_SCALES = (3, 15, 60, 360, 1_440, 10_080, 43_200)  # minutes
_DAY_VOLATILITY = 0.02


def _hash(key: int, at: np.ndarray) -> np.ndarray:
    # splitmix64 of key and place, as numbers in (0, 1).
    with np.errstate(over="ignore"):
        z = at.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key & 0xFFFFFFFFFFFFFFFF)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return ((z >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def _key(seed: int, *names: str) -> int:
    return int(np.random.SeedSequence([seed, *" ".join(names).encode()]).generate_state(1, np.uint64)[0])


def _smooth(key: int, minutes: np.ndarray, scale: int) -> np.ndarray:
    # Noise of standard deviation near one that turns about once a `scale`.
    place, left = np.divmod(minutes, scale)
    ease = left / scale
    ease = ease * ease * (3.0 - 2.0 * ease)
    low, high = (3.46 * (_hash(key + scale, place + step) - 0.5) for step in (0, 1))
    return low + (high - low) * ease


class Past:
    """One market's history.

    Parameters
    ----------
    instrument : Instrument
    seed : int
        Venues of one seed agree on what an asset was worth, to a basis point or so.

    Examples
    --------
    >>> from simulator.listings import listing
    >>> past = Past(listing("okx", "BTC-USDT"), seed=1)
    >>> hour = past.candles(LISTED_MS, 3_600_000, 2, LISTED_MS + 10**9)
    >>> minutes = past.candles(LISTED_MS, MINUTE_MS, 60, LISTED_MS + 10**9)
    >>> float(hour[0, 2]) == float(minutes[:, 2].max()), float(hour[0, 4]) == float(minutes[-1, 4])
    (True, True)
    """

    def __init__(self, instrument: Instrument, seed: int):
        self.instrument = instrument
        self._worth, self._own = _key(seed, instrument.base), _key(seed, instrument.venue, instrument.raw_symbol)

    def price(self, minutes: np.ndarray) -> np.ndarray:
        """Return prices at minutes since 1970, in quote units, on the instrument's grid."""
        logs = 0.8e-4 * _smooth(self._own, minutes, 30)
        for scale in _SCALES:
            logs = logs + 0.7 * _DAY_VOLATILITY * np.sqrt(scale / 1_440) * _smooth(self._worth, minutes, scale)
        return self._on_grid(price_of(self.instrument.base) * np.exp(logs))

    def _on_grid(self, prices: np.ndarray) -> np.ndarray:
        scale = 10**self.instrument.price_decimals
        return np.round(prices * scale) / scale

    def candles(self, first_ms: int, interval_ms: int, n: int, now_ms: int) -> np.ndarray:
        """Return candles from one that begins at `first_ms` on: rows of ms, open, high, low, close, volume.

        Nothing from before the listing or after now; the last one may still be growing.  Volume in base units.
        """
        first_ms = max(-(-first_ms // interval_ms), -(-LISTED_MS // interval_ms)) * interval_ms
        n = min(n, (now_ms - first_ms) // interval_ms + 1)
        if n <= 0:
            return np.empty((0, 6))
        span = interval_ms // MINUTE_MS
        minutes = np.arange(n * span) + first_ms // MINUTE_MS
        edges = self.price(np.append(minutes, minutes[-1] + 1))
        low, high = np.minimum(edges[:-1], edges[1:]), np.maximum(edges[:-1], edges[1:])
        high = self._on_grid(high * (1.0 + 4e-4 * _hash(self._own + 1, minutes) ** 3))
        low = self._on_grid(low * (1.0 - 4e-4 * _hash(self._own + 2, minutes) ** 3))
        volume = 3e5 / edges[:-1] * np.exp(_smooth(self._own + 3, minutes, 240) + 1.5 * (_hash(self._own + 4, minutes) - 0.5))
        still = minutes > now_ms // MINUTE_MS
        high[still], low[still], volume[still] = -np.inf, np.inf, 0.0
        shape = (n, span)
        last = np.minimum(np.arange(1, n + 1) * span, len(minutes) - int(still.sum()))
        return np.column_stack(
            [
                first_ms + np.arange(n) * interval_ms, edges[:-1].reshape(shape)[:, 0], high.reshape(shape).max(1),
                low.reshape(shape).min(1), edges[last], np.round(volume, 3).reshape(shape).sum(1).round(3),
            ]
        )  # fmt: skip

    def is_quiet(self, starts_ms: np.ndarray) -> np.ndarray:
        """Return whether nobody traded in the interval that begins then; never for BTC, ETH and SOL."""
        if not self.instrument.base.startswith("SIM"):
            return np.zeros(len(starts_ms), bool)
        return _hash(self._own + 5, starts_ms) < 0.1

    def funding(self, first_ms: int, last_ms: int) -> list[tuple[int, float, float]]:
        """Return time, rate and price of each payment from one time to another, oldest first; times are some ms late."""
        first = max(-(-first_ms // FUNDING_MS), -(-LISTED_MS // FUNDING_MS))
        numbers = np.arange(first, last_ms // FUNDING_MS + 1)
        rates = np.round(1e-4 + 1e-4 * _smooth(self._worth + 6, numbers * 480, 4_320) + 2e-5 * (_hash(self._own + 7, numbers) - 0.5), 8)
        late_ms = (_hash(self._own + 8, numbers) * 12.0).astype(np.int64)
        prices = self.price(numbers * 480)
        rows = zip((numbers * FUNDING_MS + late_ms).tolist(), rates.tolist(), prices.tolist(), strict=True)
        return [row for row in rows if first_ms <= row[0] <= last_ms]

    def open_interest(self, first_ms: int, step_ms: int, n: int, now_ms: int) -> list[tuple[int, float, float]]:
        """Return time, open interest in base units and its value in quote units, on a grid of time, oldest first."""
        first = max(-(-first_ms // step_ms), -(-LISTED_MS // step_ms))
        n = min(n, now_ms // step_ms - first + 1)
        times = (first + np.arange(max(n, 0))) * step_ms
        minutes = times // MINUTE_MS
        prices = self.price(minutes)
        amounts = np.round(4e8 / price_of(self.instrument.base) * np.exp(0.2 * _smooth(self._own + 9, minutes, 2_880)), 3)
        return list(zip(times.tolist(), amounts.tolist(), (amounts * prices).round(4).tolist(), strict=True))
