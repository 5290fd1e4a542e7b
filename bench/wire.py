"""Section: bytes off the wire to a calibrated probability, through the parts the live path is made of."""

import time
from collections.abc import Callable

import lightgbm
import numpy as np
from contest import Capture, quantiles, typical
from model import CALIBRATION, live_model
from results import Result

from tasks.features.fold import Features
from tasks.venues.binance import Binance
from tasks.venues.events import BOOK, CHANGE, TRADE

TITLE = "Wire to score: frame to calibrated probability, one core"
P50_US, P99_US = 20.0, 60.0


def _passage(capture: Capture, probability: Callable[[np.ndarray], float]) -> tuple[list[int], list[int], list[float]]:
    # Returns nanoseconds of depth frames that gave a score, of all frames, and the scores.
    stream, fold = Binance(capture.venue, capture.raw_symbol), Features()
    for event in stream.receive(capture.snapshot, capture.snapshot_ns):
        if event == CHANGE:
            fold.change(stream.change)
    clock = time.perf_counter_ns
    scored_ns, all_ns, scores = [], [], []
    for receive_ns, frame in capture.frames:
        start, score = clock(), None
        for event in stream.receive(frame, receive_ns):
            if event == BOOK:
                score = probability(fold.book(stream.row))
            elif event == TRADE:
                fold.trade(stream.trade)
            elif event == CHANGE:
                fold.change(stream.change)
        took = clock() - start
        all_ns.append(took)
        if score is not None:
            scored_ns.append(took)
            scores.append(score)
    return scored_ns, all_ns, scores


def measure(capture: Capture, booster: lightgbm.Booster, columns: list[int], rounds: int) -> list[Result]:
    """Return p50 and p99 of depth frames to score and of all frames; the same with `Booster.predict` in place of our scorer."""
    model, (a, b), pick = live_model(booster.model_to_string()), CALIBRATION, np.array(columns)

    def ours(row: np.ndarray) -> float:
        return model.score(row)[1]

    def by_booster(row: np.ndarray) -> float:
        raw = booster.predict(row[pick].reshape(1, -1), raw_score=True, num_threads=1)[0]
        return 1.0 / (1.0 + np.exp(-(a * raw + b)))

    ways = {"tidebook": ours, "the same with Booster.predict": by_booster}
    depth: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    every: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    found = {}
    for turn in range(rounds + 1):
        for name, call in ways.items():
            scored_ns, all_ns, found[name] = _passage(capture, call)
            if turn:
                depth[name].append(quantiles(scored_ns))
                every[name].append(quantiles(all_ns))
    same = np.allclose(found["tidebook"], found["the same with Booster.predict"], rtol=1e-12, atol=0.0)
    results, own = [], typical(depth["tidebook"])
    for name in ways:
        tail, whole = typical(depth[name]), typical(every[name])
        is_ours = name == "tidebook"
        note = f"{len(found[name]):,} scores" + ("" if same else "; WRONG: the two differ")
        for q, budget in (("p50_us", P50_US), ("p99_us", P99_US)):
            results.append(
                Result(
                    TITLE, name, f"depth frame to score, {q[:3]}", tail[q], "us", tail[q] / own[q],
                    budget=f"<= {budget:.0f} us" if is_ours else "", kept=(same and tail[q] <= budget) if is_ours else None, note=note,
                )
            )  # fmt: skip
        results.append(Result(TITLE, name, "any frame, p50", whole["p50_us"], "us", note=f"p99 {whole['p99_us']:.1f} us"))
    return results
