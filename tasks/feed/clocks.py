"""Our clock against a venue's, from nothing but how late its messages are.

The least latency over a while is the shortest way from the venue plus the difference of the
clocks.  The way changes little; so a floor that moves is a clock that moves.
"""

from collections import deque
from itertools import combinations

import numpy as np

TRANSIT_NS = 0  # assumed for the shortest way: it cannot be told from the offset, so the offset is a lower bound
WINDOW_NS = 2_000_000_000
ENOUGH = 3  # messages a window needs
LEAST_JUMP_NS = 100_000_000
EARLY, LATE = 2, 4  # windows in a row that make a jump
_RECENT, _MINUTES = 15, 60
_MINUTE_NS = 60_000_000_000


class Clock:
    """Offset, drift and jumps of our clock against one venue's.

    Attributes
    ----------
    offset_ns : float
        How far our clock is behind the venue's; NaN before anything is known.

    Examples
    --------
    >>> clock = Clock()
    >>> for second in range(20):
    ...     jump = clock.add(second * 2_000_000_000, 7_000_000 if second < 15 else -493_000_000, 10)
    ...     if jump:
    ...         print(second, jump)
    17 -500000000
    """

    def __init__(self) -> None:
        self._floors: deque[int] = deque(maxlen=_RECENT)
        self._odd: list[int] = []
        self._minutes: deque[tuple[int, int]] = deque(maxlen=_MINUTES)
        self._begun_ns, self._least, self._n = 0, 0, 0

    def add(self, receive_ns: int, least_ns: int, n: int) -> int:
        """Take the least latency of the n messages since the last call; return by how much our clock jumped, or 0."""
        if n == 0:
            return 0
        jump = 0
        if self._n and receive_ns - self._begun_ns >= WINDOW_NS and self._n >= ENOUGH:
            jump = self._close(receive_ns)
        if self._n == 0:
            self._begun_ns, self._least = receive_ns, least_ns
        self._least, self._n = min(self._least, least_ns), self._n + n
        return jump

    def _close(self, receive_ns: int) -> int:
        floor, self._n = self._least, 0
        if len(self._floors) >= 3:
            usual = float(np.median(self._floors))
            spread = 1.4826 * float(np.median(np.abs(np.array(self._floors) - usual)))
            if abs(floor - usual) > max(LEAST_JUMP_NS, 8 * spread):
                # A clock that was set is off by the same from then on; a network or a machine that is
                # busy is late by ever different times, and nobody is early.
                jump = round(floor - usual)
                if self._odd and abs(floor - self._odd[-1]) > max(LEAST_JUMP_NS / 5, abs(jump) / 20):
                    self._odd.clear()
                self._odd.append(floor)
                if len(self._odd) < (EARLY if jump < 0 else LATE):
                    return 0
                jump = round(float(np.median(self._odd)) - usual)
                self._floors.clear()
                self._minutes.clear()
                self._floors.extend(self._odd)
                self._odd.clear()
                return jump
        self._odd.clear()
        self._floors.append(floor)
        minute = receive_ns // _MINUTE_NS
        if self._minutes and self._minutes[-1][0] == minute:
            floor = min(floor, self._minutes.pop()[1])
        self._minutes.append((minute, floor))
        return 0

    @property
    def offset_ns(self) -> float:
        """Return how far our clock is behind the venue's, at least; NaN before anything is known."""
        return TRANSIT_NS - float(min(self._floors)) if self._floors else float("nan")

    @property
    def drift_ppm(self) -> float:
        """Return how quickly the offset grows, in millionths; NaN before three minutes are known.

        The median of the slopes between all pairs of minutes (Theil 1950, Sen 1968): a few late
        minutes do not move it.
        """
        if len(self._minutes) < 3:
            return float("nan")
        slopes = [(a_floor - b_floor) / ((b - a) * _MINUTE_NS) for (a, a_floor), (b, b_floor) in combinations(self._minutes, 2) if b > a]
        return float(np.median(slopes)) * 1e6


class Steady:
    """Our wall clock against our monotonic one: whether somebody set it.

    Examples
    --------
    >>> steady = Steady()
    >>> [steady.step(wall, mono) for wall, mono in ((100, 0), (1_000_100, 1_000_000), (501_000_100, 1_000_000))]
    [0, 0, 500000000]
    """

    def __init__(self, least_ns: int = 50_000_000):
        self._least_ns, self._apart_ns = least_ns, 0
        self._begun = False

    def step(self, wall_ns: int, monotonic_ns: int) -> int:
        """Return by how much the wall clock was set since the last call, 0 where it was not."""
        apart, before = wall_ns - monotonic_ns, self._apart_ns
        self._apart_ns = apart
        if not self._begun:
            self._begun = True
            return 0
        return apart - before if abs(apart - before) >= self._least_ns else 0
