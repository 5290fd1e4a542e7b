"""The score of the Numenta Anomaly Benchmark, and the detectors' own on its series with known causes.

    python bench/nab.py [FOLDER]        # default: ../shared/truth/nab_realKnownCause

Each detector gives every value of every series a score.  One threshold for all series is
chosen, as the benchmark does, to make the sum of their scores greatest.  Within a window the
first value above it counts the more the earlier it is; each value above it outside of all
windows costs, the more the later after one; a window without any costs 1.  The first 15 % of a
series count for nothing.  100 is every window told at its begin and no false alarm, 0 is
silence.  Standard profile: a miss costs 1, a false alarm up to 0.11.

Lavin and Ahmad (2015), "Evaluating Real-time Anomaly Detection Algorithms", ICMLA.
"""

import csv
import json
import math
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent.parent / "shared" / "truth" / "nab_realKnownCause"
FALSE_ALARM, MISS = 0.11, 1.0
_PROBATION, _LONGEST = 0.15, 5000  # share of a series, but no more than of so many values

# Scores over the whole benchmark, 58 series, as its authors publish them; and what the same
# runs earned on the seven series here, summed from the scores by file that they publish
# (github.com/numenta/NAB, results/*/*_standard_scores.csv).  Their thresholds were chosen for all 58.
PUBLISHED = {"HTM": (70.0, 65.6), "random cut forest": (52.0, 43.1), "Bayesian change-point": (18.0, 1.4)}


def sigmoid(position: float) -> float:
    """Return what an alarm is worth at a place in its window, or behind it, in window widths: 1 early, 0 at the end, -1 after.

    >>> sigmoid(0.0), round(sigmoid(-1.0), 4), sigmoid(3.1)
    (0.0, 0.9866, -1.0)
    """
    return -1.0 if position > 3.0 else 2.0 / (1.0 + math.exp(5.0 * position)) - 1.0


def probation(n: int) -> int:
    """Return how many values at the begin of a series count for nothing."""
    return min(math.floor(_PROBATION * n), int(_PROBATION * _LONGEST))


def worth(n: int, windows: list[tuple[int, int]]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return what an alarm at each value of a series earns, and the window it lies in, -1 for none, -2 in probation.

    Windows are first and last place, both within, in order.
    """
    earns, where = np.full(n, -FALSE_ALARM), np.full(n, -1)
    for k, (first, last) in enumerate(windows):
        width = last - first + 1
        until = windows[k + 1][0] if k + 1 < len(windows) else n
        for i in range(first, last + 1):
            earns[i] = sigmoid(-(last - i + 1) / width) / sigmoid(-1.0)
        for i in range(last + 1, until):
            earns[i] = FALSE_ALARM * sigmoid((i - last) / (width - 1)) if width > 1 else -FALSE_ALARM
        where[first : last + 1] = k
    where[: probation(n)] = -2
    return earns, where


def raw_score(alarms: NDArray[np.bool_], windows: list[tuple[int, int]]) -> float:
    """Return the score of one series: of each window the best alarm or a miss, and every false alarm."""
    earns, where = worth(len(alarms), windows)
    score = float(earns[alarms & (where == -1)].sum())
    for k in range(len(windows)):
        inside = alarms & (where == k)
        score += float(earns[inside].max()) if inside.any() else -MISS
    return score


def best(series: list[tuple[NDArray[np.float64], list[tuple[int, int]]]]) -> tuple[float, float]:
    """Return the normalised score of a detector and the threshold that earns it: one for all series.

    Each element is a series' scores (NaN alarms never) and its windows.  All thresholds are
    tried at once: values from the highest score down, each changes the sum by what it adds.
    """
    events: list[tuple[float, int, int, float]] = []
    for number, (scores, windows) in enumerate(series):
        earns, where = worth(len(scores), windows)
        counts = (where > -2) & ~np.isnan(scores)
        events += [(float(scores[i]), number, int(where[i]), float(earns[i])) for i in np.flatnonzero(counts)]
    events.sort(key=lambda event: -event[0])
    n_windows = sum(len(windows) for _, windows in series)
    total = top = -MISS * n_windows
    found: dict[tuple[int, int], float] = {}
    at = math.inf
    for k, (score, number, window, earned) in enumerate(events):
        if window == -1:
            total += earned
        else:
            before = found.get((number, window), -MISS)
            found[number, window] = max(before, earned)
            total += found[number, window] - before
        if (k + 1 == len(events) or events[k + 1][0] < score) and total > top:
            top, at = total, score
    return 100.0 * (top + MISS * n_windows) / (2.0 * n_windows), at


def load(folder: Path) -> dict[str, tuple[NDArray[np.float64], list[tuple[int, int]]]]:
    """Return values and windows of each series, by name."""
    labels = json.loads((folder / "combined_windows.json").read_text())
    out = {}
    for path in sorted(folder.glob("*.csv")):
        with path.open() as lines:
            rows = list(csv.reader(lines))[1:]
        stamps = [row[0] for row in rows]
        windows = [tuple(stamps.index(edge.split(".")[0]) for edge in window) for window in labels[f"realKnownCause/{path.name}"]]
        out[path.stem] = (np.array([float(row[1]) for row in rows]), windows)
    return out


def detector_scores(values: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return what each detector and the ensemble make of a series of single values.

    As in the fold, a value being a second: standardised by the 300 values before it for CUSUM,
    burst and BOCPD, as it is for the spectral residual; parts in units of their thresholds.
    """
    from tasks.detectors import bocpd, burst, cusum, ensemble, spectral_residual

    z = causal_z(values)
    parts = np.column_stack(
        [
            np.abs(cusum.cusum(z)) / cusum.THRESHOLD,
            np.abs(z) / burst.THRESHOLD,
            bocpd.bocpd(z)[:, 0] / bocpd.THRESHOLD,
            spectral_residual.spectral_residual(values) / spectral_residual.THRESHOLD,
        ]
    )
    # CUSUM with a threshold for 10,000 quiet values, and no alarm out of the blue: sums keep what they are worth.
    slow = np.abs(cusum.cusum(z, cusum.h_for_arl(10_000.0)))
    state, said = np.zeros(1, ensemble.ENSEMBLE), np.empty(len(values))
    state["weights"], state["floor"] = ensemble.WEIGHTS, ensemble.FLOOR
    ensemble.ensemble_restart(state[0])
    last = -math.inf
    for i, part in enumerate(parts):
        state["parts"][0] = part
        lead = ensemble.ensemble_step(state[0])
        told = lead >= 0 and i - last >= ensemble.COOLDOWN_S
        said[i] = state["score"][0] / state["threshold"][0] if told else math.nan
        last = i if told else last
    together = np.where(np.isnan(parts).all(1), np.nan, np.nansum(np.clip(parts, 0.0, ensemble.CAP), 1) / 4.0)
    names = ("CUSUM", "burst", "BOCPD", "spectral residual")
    scores = dict(zip(names, parts.T, strict=True))
    return {**scores, "CUSUM, 10,000 values": slow, "ensemble, sum": together, "ensemble, signals": said}


def causal_z(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each value against mean and deviation of the 300 before it, as the detectors' baseline has them."""
    from tasks.detectors.baseline import baseline_add, baseline_close, baseline_dtype, baseline_restart, standardise

    b, z = np.zeros(1, baseline_dtype(1)), np.empty(len(values))
    baseline_restart(b[0])
    for i, value in enumerate(values):
        z[i] = standardise(b[0], 0, value)
        baseline_add(b[0], 0, value)
        baseline_close(b[0])
    return z


def measure(folder: Path = FOLDER) -> list[tuple[str, float, float]]:
    """Return name, normalised score and threshold of each detector on the series of a folder."""
    series = load(folder)
    scored = {name: detector_scores(values) for name, (values, _) in series.items()}
    return [(who, *best([(scored[name][who], windows) for name, (_, windows) in series.items()])) for who in next(iter(scored.values()))]


def main() -> int:
    """Print the table."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    if not folder.is_dir():
        print(f"{folder}: no such folder; it must hold the series and combined_windows.json", file=sys.stderr)
        return 3
    print(f"{'NAB, standard profile':28s}{'7 series':>10s}{'all 58':>10s}{'threshold':>12s}")
    for who, score, at in measure(folder):
        print(f"{who:28s}{score:10.1f}{'':10s}{at:12.4g}")
    for who, (whole, here) in PUBLISHED.items():
        print(f"{who + ', published':28s}{here:10.1f}{whole:10.1f}")
    return 0


if __name__ == "__main__":
    sys.path[:0] = [str(HERE.parent)]
    sys.exit(main())
