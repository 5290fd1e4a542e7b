"""Section: the detectors, a value or a book update at a time, beside other libraries' where those can be installed.

Not compared: ruptures, which looks at whole series only; ocpdet and alibi-detect, which ask for
a deep-learning framework.  The spectral residual stands beside the same in NumPy.
"""

import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import install
import numpy as np
from contest import quantiles
from events import Events
from numba import njit
from results import Result

from tasks.detectors import bocpd, burst, cusum, ensemble, spectral_residual
from tasks.detectors.baseline import baseline_add, baseline_close, baseline_dtype, baseline_restart, standardise
from tasks.detectors.fold import Detectors
from tasks.detectors.state import DETECTORS, N_SERIES
from tasks.features.fold import Features

TITLE = "Detectors, one core"
STEP_US, LONG_US = 1.0, 8.0
PEER = Path(__file__).resolve().parent / "peers" / "run_detectors.py"
_N = 20_000
_AGREE = 1e-9


@njit(cache=True)
def _bursts(state, z, flags, volume):
    n = 0
    for i in range(z.shape[0]):
        top = np.nan
        for k in range(z.shape[1]):
            top = burst.higher(top, z[i, k])
        n += (top > burst.THRESHOLD) + burst.confirm_step(state[0], flags[i], volume[i])
    return n


@njit(cache=True)
def _baselines(b, x, out):
    # Ten values of each series a second.
    for i in range(x.shape[0]):
        for k in range(x.shape[1]):
            out[i, k] = standardise(b[0], k, x[i, k])
            baseline_add(b[0], k, x[i, k])
        if i % 10 == 9:
            baseline_close(b[0])


@njit(cache=True)
def _together(s, parts):
    for i in range(parts.shape[0]):
        s[0]["parts"][:] = parts[i]
        ensemble.ensemble_step(s[0])


def _kernels(rng: np.random.Generator) -> dict[str, tuple[Callable[[], object], float]]:
    """Return, by name, what to time over `_N` values and the budget of one."""
    x, z, volume = rng.normal(size=_N), rng.normal(size=(_N, 7)), rng.normal(size=_N)
    flags, parts, series = rng.random(_N) < 0.1, rng.random((_N, 4)), rng.normal(size=(_N, N_SERIES))
    usual, told = np.zeros(1, baseline_dtype(N_SERIES)), np.empty((_N, N_SERIES))
    baseline_restart(usual[0])
    together = np.zeros(1, ensemble.ENSEMBLE)
    together["weights"], together["floor"] = ensemble.WEIGHTS, ensemble.FLOOR
    return {
        "CUSUM": (lambda: cusum.cusum(x), STEP_US),
        "burst and its confirmation": (lambda: _bursts(np.zeros(1, burst.CONFIRM), z, flags, volume), STEP_US),
        f"baselines of {N_SERIES} series": (lambda: _baselines(usual, series, told), STEP_US),
        "ensemble": (lambda: _together(together, parts), STEP_US),
        "BOCPD, 501 hypotheses": (lambda: bocpd.bocpd(x), LONG_US),
        "spectral residual": (lambda: spectral_residual.spectral_residual(x), LONG_US),
    }


def _timed(call: Callable[[], object], rounds: int) -> float:
    call()  # for the compiler
    took = []
    for _ in range(rounds):
        start = time.process_time()
        call()
        took.append(time.process_time() - start)
    return statistics.median(took) / _N * 1e6


def _rows(events: Events, n: int = 60_000) -> tuple[np.ndarray, np.ndarray]:
    """Return clean rows of the capture, again and again without a break, so that most are past the warm-up."""
    meta, rows = Features().batch(events.books, events.trades, events.changes)
    whole = (meta["doubt"] == 0) & ~np.isnan(rows).all(1) & (meta["clean_ns"] > 1_000_000_000)
    meta, rows = meta[whole], rows[whole]
    span = int(meta["exchange_ns"].max() - meta["exchange_ns"].min()) + 100_000_000
    turns = -(-max(n, meta.size) // meta.size)
    out, offset = np.tile(meta, turns), np.repeat(np.arange(turns) * span, meta.size)
    for name in ("exchange_ns", "receive_ns", "clean_ns"):
        out[name] += offset
    out["clean_ns"] = out["exchange_ns"] - out["exchange_ns"][0] + 1_000_000_000
    out["clean_ns"] = np.maximum.accumulate(out["clean_ns"])
    known = np.nan_to_num(rows, nan=0.0)
    return out, np.tile(known, (turns, 1))


def _live(meta: np.ndarray, rows: np.ndarray) -> tuple[Detectors, dict[str, float]]:
    detectors, times, clock = Detectors(), [], time.perf_counter_ns
    for i in range(len(meta)):
        row, about = rows[i], meta[i : i + 1]
        start = clock()
        detectors.step(row, about)
        times.append(clock() - start)
    return detectors, quantiles(times[len(times) // 2 :])


def _peers(x: np.ndarray) -> dict[str, list]:
    python = install.peer_python("detectors")
    if python is None:
        return {}
    with tempfile.TemporaryDirectory() as scratch:
        np.save(Path(scratch) / "x.npy", x)
        done = subprocess.run([str(python), str(PEER), str(Path(scratch) / "x.npy")], capture_output=True, text=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else {}


def _beside(ours: dict[str, float]) -> list[Result]:
    """Return the peers' figures as multiples of ours; whose BOCPD ends on another belief than ours is said."""
    x = np.random.default_rng(5).normal(size=4000)
    twin = {
        "river ADWIN": "CUSUM",
        "river Page-Hinkley": "CUSUM",
        "bayesian-changepoint-detection": "BOCPD, 501 hypotheses",
        "fast-bocpd (C)": "BOCPD, 501 hypotheses",
        "NumPy spectral residual": "spectral residual",
    }
    mine = float(bocpd.bocpd(x[:500])[-1, 0])
    out = []
    for name, (us, near) in _peers(x).items():
        note = ""
        if near is not None:
            note = "same posterior" if abs(near - mine) < _AGREE else f"P(run <= 5) {near:.4g}, ours {mine:.4g}"
        out.append(Result(TITLE, name, twin[name], us, "us", us / ours[twin[name]], note=note))
    return out


def measure(events: Events, rounds: int) -> list[Result]:
    """Return microseconds a value of each detector, and a book update of all together, live and in batch."""
    ours, results = {}, []
    for name, (call, budget) in _kernels(np.random.default_rng(7)).items():
        ours[name] = us = _timed(call, rounds)
        results.append(Result(TITLE, "tidebook", name, us, "us", None, f"<= {budget:g} us", us <= budget))
    meta, rows = _rows(events)
    batches = []
    for turn in range(rounds + 1):
        whole = Detectors()
        start = time.process_time()
        signals = whole.batch(meta, rows)
        if turn:
            batches.append(time.process_time() - start)
    detectors, tail = _live(meta, rows)
    same = detectors.state.tobytes() == whole.state.tobytes()
    parity = "live = batch, bit for bit" if same else "WRONG: live differs from batch"
    us = statistics.median(batches) / len(meta) * 1e6
    clocked = f"p50 {tail['p50_us']:.2f}, p99 {tail['p99_us']:.2f} us; {parity}"
    kept = f"{len(signals)} signals in {len(meta):,} rows; {DETECTORS.itemsize:,} B a stream, whatever it does"
    results.append(Result(TITLE, "tidebook live", "all on a book update", tail["p50_us"], "us", None, "", None if same else False, clocked))
    results.append(Result(TITLE, "tidebook batch", "all on a book update", us, "us", note=kept))
    return results + _beside(ours)
