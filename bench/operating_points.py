"""Operating points of the detectors: how often they err on noise, and how soon they tell a planted change.

    python bench/operating_points.py

Everything is drawn from one seed.  Textbook run lengths are those of Montgomery,
"Introduction to Statistical Quality Control", for the two-sided CUSUM with k = 1/2.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from tasks.detectors import bocpd as regimes  # noqa: E402
from tasks.detectors import burst, cusum  # noqa: E402
from tasks.detectors import spectral_residual as salience  # noqa: E402

SEED = 20
TEXTBOOK = {(4.0, 0.0): 168.0, (4.0, 1.0): 8.38, (4.0, 2.0): 3.34, (5.0, 0.0): 465.0, (5.0, 1.0): 10.4, (5.0, 2.0): 4.01}


@dataclass(frozen=True)
class Point:
    """One measured figure beside what it should be, NaN where nothing is published; `error` is its standard error."""

    who: str
    what: str
    measured: float
    error: float
    expected: float = np.nan


def _gaps(alarms: np.ndarray) -> np.ndarray:
    return np.diff(np.concatenate([[-1], np.flatnonzero(alarms)]))


def cusum_points(n: int = 2_000_000, runs: int = 20_000) -> list[Point]:
    """Return average run lengths without a shift, and delays under shifts, each run from sums of zero."""
    rng, out = np.random.default_rng(SEED), []
    quiet = rng.normal(size=n)
    for h in (3.0, 4.0, 5.0):
        gaps = _gaps(np.abs(cusum.cusum(quiet, h)) >= h)
        expected = TEXTBOOK.get((h, 0.0), cusum.arl(h))
        out.append(Point("CUSUM", f"run without a shift, h = {h:g}", gaps.mean(), gaps.std() / np.sqrt(gaps.size), expected))
        for shift in (1.0, 2.0):
            # An alarm begins both sums anew, so one long shifted series is many runs end to end.
            gaps = _gaps(np.abs(cusum.cusum(rng.normal(shift, 1.0, 12 * runs), h)) >= h)
            expected = TEXTBOOK.get((h, shift), cusum.arl(h, shift))
            name = f"delay of a shift of {shift:g}, h = {h:g}"
            out.append(Point("CUSUM", name, gaps.mean(), gaps.std() / np.sqrt(gaps.size), expected))
    h = cusum.h_for_arl(1000.0)
    gaps = _gaps(np.abs(cusum.cusum(quiet, h)) >= h)
    out.append(Point("CUSUM", f"run without a shift, h = {h:.2f} for 1,000", gaps.mean(), gaps.std() / np.sqrt(gaps.size), 1000.0))
    return out


def bocpd_points(n: int = 150_000, runs: int = 400) -> list[Point]:
    """Return false alarms of BOCPD on noise, and how many planted changes it tells within ten values, and when."""
    rng = np.random.default_rng(SEED)
    over = regimes.bocpd(rng.normal(size=n))[:, 0] >= regimes.THRESHOLD
    begun = int((over[1:] & ~over[:-1]).sum())
    out = [Point("BOCPD", "run without a change, threshold 0.7", n / max(1, begun), n / max(1, begun) ** 1.5)]
    for name, shift, spread in (
        ("shift of 1", 1.0, 1.0),
        ("shift of 2", 2.0, 1.0),
        ("shift of 3", 3.0, 1.0),
        ("shift of 5", 5.0, 1.0),
        ("deviation x 3", 0.0, 3.0),
        ("deviation x 10", 0.0, 10.0),
    ):
        delays = []
        for _ in range(runs):
            x = np.concatenate([rng.normal(size=150), rng.normal(shift, spread, 10)])
            after = np.flatnonzero(regimes.bocpd(x)[150:, 0] >= regimes.THRESHOLD)
            delays.append(after[0] + 1 if after.size else np.nan)
        told = ~np.isnan(delays)
        share = told.mean()
        out.append(Point("BOCPD", f"{name}: told within 10", share, np.sqrt(share * (1 - share) / runs)))
        if told.sum() > 1:
            out.append(Point("BOCPD", f"{name}: delay where told", np.nanmean(delays), np.nanstd(delays) / np.sqrt(told.sum())))
    return out


def spectral_points(n: int = 200_000, every: int = 400, length: int = 6) -> list[Point]:
    """Return precision and recall of the spectral residual on bursts of some size in noise, alone and confirmed.

    A burst lasts six values and brings volume with it; one is found if any of its values, or the
    next four, which the confirmation may need, is told.  What is told elsewhere is a false alarm;
    adjacent ones are one.
    """
    out = []
    for size in (4.0, 8.0, 16.0):
        rng = np.random.default_rng(SEED)
        x, volume = np.abs(rng.normal(size=n)), rng.normal(size=n)
        begins = np.arange(every, n - every, every)
        begins = begins + rng.integers(0, every // 2, begins.size)
        inside = (begins[:, None] + np.arange(length)).ravel()
        x[inside] += size * rng.uniform(0.5, 1.5, inside.size)
        volume[inside] += 4.0
        flags = salience.spectral_residual(x) > salience.THRESHOLD
        state, confirmed = np.zeros(1, burst.CONFIRM), np.zeros(n, bool)
        for i in range(n):
            confirmed[i] = burst.confirm_step(state[0], flags[i], volume[i])
        near = np.zeros(n, bool)
        near[(begins[:, None] + np.arange(length + 4)).ravel()] = True
        for name, told in (("flag", flags), ("confirmed", confirmed)):
            found = np.array([told[b : b + length + 4].any() for b in begins])
            alone = told & ~near
            false = int((alone[1:] & ~alone[:-1]).sum())
            recall, precision = found.mean(), found.sum() / max(1, found.sum() + false)
            out.append(
                Point("spectral residual", f"bursts of {size:g}, {name}: recall", recall, np.sqrt(recall * (1 - recall) / found.size))
            )
            out.append(Point("spectral residual", f"bursts of {size:g}, {name}: precision", precision, np.nan))
    return out


def table(points: list[Point]) -> str:
    """Return the points as a Markdown table."""
    lines = ["| detector | what | measured | ± | expected |", "| --- | --- | ---: | ---: | ---: |"]
    for p in points:
        cells = ("" if np.isnan(v) else f"{v:.4g}" for v in (p.measured, p.error, p.expected))
        lines.append(f"| {p.who} | {p.what} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table([*cusum_points(), *bocpd_points(), *spectral_points()]))
