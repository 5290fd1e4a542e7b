"""Section: one row, and many, through 300 trees x 31 leaves x 60 features: ours, LightGBM's Python call, its C call."""

import ctypes
import statistics
import time
from collections.abc import Callable

import lightgbm
import numpy as np
from contest import quantiles, typical
from results import Result

from models.scorer import Scorer

TITLE = "One row through 300 trees x 31 leaves x 60 features"


def single_row_fast(booster: lightgbm.Booster, n_features: int) -> Callable[[np.ndarray], float]:
    """Return LightGBM's fastest call for one row, fixed buffers, through ctypes: the raw score."""
    library, config = lightgbm.basic._LIB, ctypes.c_void_p()
    raw_score, first, every, float64 = ctypes.c_int(1), ctypes.c_int(0), ctypes.c_int(-1), ctypes.c_int(1)
    code = library.LGBM_BoosterPredictForMatSingleRowFastInit(
        booster._handle, raw_score, first, every, float64, ctypes.c_int32(n_features), b"num_threads=1", ctypes.byref(config)
    )
    if code != 0:
        raise RuntimeError("LightGBM refused a configuration for single rows")
    row, out, length = np.zeros(n_features), ctypes.c_double(), ctypes.c_int64()
    call = library.LGBM_BoosterPredictForMatSingleRowFast
    data, length_at, out_at = ctypes.c_void_p(row.ctypes.data), ctypes.byref(length), ctypes.byref(out)

    def predict(x: np.ndarray) -> float:
        row[:] = x
        call(config, data, length_at, out_at)
        return out.value

    return predict


def _times(call: Callable[[np.ndarray], float], rows: list[np.ndarray]) -> list[int]:
    clock, times = time.perf_counter_ns, []
    for row in rows:
        start = clock()
        call(row)
        times.append(clock() - start)
    return times


def measure(booster: lightgbm.Booster, matrix: np.ndarray, rounds: int) -> list[Result]:
    """Return p50 and p99 of one row for the three, interleaved, and microseconds a row in batch."""
    scorer = Scorer(booster.model_to_string())
    rows = list(matrix[-2000:])
    shaped = {id(row): row.reshape(1, -1) for row in rows}
    calls: dict[str, Callable[[np.ndarray], float]] = {
        "tidebook": scorer.raw,
        "SingleRowFast (C API)": single_row_fast(booster, matrix.shape[1]),
        "Booster.predict": lambda row: booster.predict(shaped[id(row)], raw_score=True, num_threads=1)[0],
    }
    truth = booster.predict(matrix, raw_score=True, num_threads=1)
    exact = np.array_equal(truth, scorer.batch(matrix)[:, 0])
    exact = exact and all(scorer.raw(row) == want for row, want in zip(rows, truth[-len(rows) :], strict=True))
    times: dict[str, list[dict[str, float]]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            found = _times(call, rows)
            if turn:
                times[name].append(quantiles(found))
    tails = {name: typical(found) for name, found in times.items()}
    own, results = tails["tidebook"], []
    for name, tail in tails.items():
        note = f"p99 {tail['p99_us']:.1f} us"
        if name == "tidebook":
            note += "; equal to Booster.predict bit for bit on every row" if exact else "; WRONG: differs from Booster.predict"
        results.append(Result(TITLE, name, "one row, p50", tail["p50_us"], "us", tail["p50_us"] / own["p50_us"], note=note))
    batches = {"tidebook": scorer.batch, "Booster.predict": lambda x: booster.predict(x, raw_score=True, num_threads=1)}
    seconds: dict[str, list[float]] = {name: [] for name in batches}
    for _ in range(rounds):
        for name, call in batches.items():
            start = time.process_time()
            call(matrix)
            seconds[name].append(time.process_time() - start)
    medians = {name: statistics.median(found) / len(matrix) * 1e6 for name, found in seconds.items()}
    for name, median in medians.items():
        results.append(Result(TITLE, name, f"in batch, {len(matrix):,} rows", median, "us a row", median / medians["tidebook"]))
    return results
