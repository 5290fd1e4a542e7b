"""From examples to a judged model: walk forward, calibrate, trade on paper, fit the last one.

Every fold learns its parameters' calibration and trading limits from its own past; the final
model is fitted on all rows, and calibrated on the scores that the folds gave out of sample.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from models import booster, strategy
from models.booster import Booster
from models.calibration import Platt, fit_platt
from models.errors import TooLittleDataError
from models.evaluation import auc_intervals, evaluate, population_stability, row_log_loss, usual_block_ns
from models.examples import Choices, Examples, take
from models.labels import clip_limits
from models.result import FoldResult, OutOfSample, TrainingResult
from models.search import search
from models.splits import Fold, PurgedKFold, WalkForward
from models.weights import sample_weights

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_INNER = 3  # folds within a training span
_FEW_BLOCKS = 8  # of time, below which no standard error is believed
_TREE_SHARES = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0)  # of the trees that are not the anchor's: how many may be taken


def train(examples: Examples, choices: Choices) -> TrainingResult:
    """Return the model of all usable rows, judged walk-forward on rows its like had not seen.

    Parameters
    ----------
    examples : Examples
        Rows in time order; what is not usable is left out and counted.
    choices : Choices
        Horizon, folds, trees, search and seed.  Same examples and choices: same result.

    Raises
    ------
    TooLittleDataError
        If a fold is left with too few rows to train on.

    Notes
    -----
    Parameters are searched on the first fold's training span, which lies before every test
    row.  Rows that did not move beyond the threshold train nothing, but are scored, count in
    the rank correlation, and may be traded.
    """
    rows = np.flatnonzero(examples.usable)
    needed = 20 * (choices.n_folds + 1)
    if len(rows) < needed:
        raise TooLittleDataError(f"training with {choices.n_folds} folds", needed, len(rows))
    used = take(examples, rows)
    if not choices.block_ns:
        choices = replace(choices, block_ns=usual_block_ns(used.exchange_ns, choices.horizon_ns))
    spans = np.column_stack([used.exchange_ns, used.label_end_ns])
    splits = WalkForward(choices.n_folds, choices.expanding, embargo_ns=choices.embargo_ns).folds(spans)
    params = dict(choices.params)
    if choices.n_trials:
        first = _thinned(_learnable(used, splits[0].train), choices.max_rows)
        params |= search(
            lambda some, trial: _fit(used, first[some], trial, choices, choices.n_trees),
            used.x[first], (used.direction[first] > 0).astype(np.float64), spans[first],
            n_trials=choices.n_trials, embargo_ns=choices.embargo_ns, seed=choices.seed,
        ).params  # fmt: skip
    found, parts = [], []
    for number, fold in enumerate(splits):
        result, part = _run_fold(used, spans, number, fold, params, choices)
        found.append(result)
        parts.append(part)
    seen = OutOfSample(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    tested = take(used, seen.row)
    moved = tested.direction != 0
    (sure, naive), gain = auc_intervals(
        tested.direction[moved] > 0, [seen.probability[moved], np.nan_to_num(tested.baseline[moved])],
        tested.exchange_ns[moved], choices.block_ns, seed=choices.seed,
    )  # fmt: skip
    trades = {
        latency: strategy.trade(
            tested.exchange_ns, seen.probability, tested.bid, tested.ask, seen.low, seen.high, choices.horizon_ns, latency
        )
        for latency in strategy.LATENCY_TIERS_NS
    }
    elapsed_s = float(tested.exchange_ns[-1] - tested.exchange_ns[0]) * 1e-9
    everything = _learnable(used, np.arange(len(rows)))
    model = _fit(used, everything, params, choices, found[-1].n_trees)
    lost = {**examples.lost, "flat": int((used.direction == 0).sum())}
    lost |= {"purged": sum(f.purged for f in splits), "embargoed": sum(f.embargoed for f in splits)}
    return TrainingResult(
        model=model,
        names=examples.names,
        calibration=_calibration(examples, seen.raw[moved], (tested.direction[moved] > 0).astype(np.float64)),
        params={**booster.DEFAULTS, **params, "n_trees": found[-1].n_trees},
        choices=choices,
        folds=found,
        out_of_sample=replace(seen, row=rows[seen.row]),
        metrics={
            **evaluate(tested.direction, seen.probability, tested.baseline, tested.return_bps),
            "break_even_bps": strategy.break_even_bps(trades[0]),
            "spread_bps": float(trades[0].spread_bps.mean()) if len(trades[0].spread_bps) else float("nan"),
            "trades": float(len(trades[0].side)),
        },
        auc=sure,
        baseline_auc=naive,
        auc_gain=gain,
        trades=trades[0],
        tiers=strategy.tiers(trades[0], choices.block_ns, elapsed_s, max(1, choices.n_trials)),
        latency_bps={latency: strategy.break_even_bps(made) for latency, made in trades.items()},
        features=_features(used, found, splits[-1], booster.importance(model)),
        stability=_stability(found),
        lost=lost,
        test_start_ns=splits[0].test_start_ns,
        test_end_ns=splits[-1].test_end_ns,
    )


def _learnable(used: Examples, rows: Ints) -> Ints:
    moved: Ints = rows[used.direction[rows] != 0]
    return moved


def _thinned(rows: Ints, most: int) -> Ints:
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def _fit(used: Examples, rows: Ints, params: Mapping[str, Any], choices: Choices, n_trees: int) -> Booster:
    if not len(rows):
        raise TooLittleDataError("training on rows that moved", 20, 0)
    rows = _thinned(rows, choices.max_rows)
    size = np.clip(used.vol_return[rows], *clip_limits(used.vol_return[rows]))
    x, y = used.x[rows], (used.direction[rows] > 0).astype(np.float64)
    weight = sample_weights(used.exchange_ns[rows], used.label_end_ns[rows], size)
    if used.mirror is not None:
        x, y, weight = np.concatenate([x, used.mirror(x)]), np.concatenate([y, 1 - y]), np.concatenate([weight, weight])
    return booster.train(
        x, y, used.names, weight=weight, params=params, n_trees=n_trees, anchor=used.anchor,
        seed=choices.seed, num_threads=choices.num_threads,
    )  # fmt: skip


def _run_fold(
    used: Examples, spans: Ints, number: int, fold: Fold, params: Mapping[str, Any], choices: Choices
) -> tuple[FoldResult, tuple[Any, ...]]:
    past = _learnable(used, fold.train)
    n_trees, platt = _learn_from_past(used, spans, fold.train, params, choices)
    model = _fit(used, past, params, choices, n_trees)
    # Of the training span alone.  Scores of inner folds would be of rows unseen, but of other, smaller models whose scores
    # spread otherwise: tried, and on made-up markets 0 to 23 % of the test rows lay beyond their limits, of these 8 to 20 %.
    low, high = strategy.entry_limits(platt(booster.score(model, used.x[_thinned(fold.train, choices.max_rows)])), choices.trade_share)
    raw = booster.score(model, used.x[fold.test])
    probability = platt(raw)
    trades = strategy.trade(
        used.exchange_ns[fold.test], probability, used.bid[fold.test], used.ask[fold.test], low, high, choices.horizon_ns
    )
    metrics = evaluate(used.direction[fold.test], probability, used.baseline[fold.test], used.return_bps[fold.test])
    metrics |= {"break_even_bps": strategy.break_even_bps(trades), "trades": float(len(trades.side)), "n_trees": float(n_trees)}
    size = len(fold.test)
    part = (fold.test, np.full(size, number), raw, probability, np.full(size, low), np.full(size, high))
    return FoldResult(number, fold, len(past), n_trees, platt, metrics, booster.importance(model)), part


def _learn_from_past(used: Examples, spans: Ints, rows: Ints, params: Mapping[str, Any], choices: Choices) -> tuple[int, Platt]:
    """Return how many trees to take and their calibration, from inner folds of a training span."""
    rows = _thinned(rows, choices.max_rows)
    tied = min(booster.ANCHOR_TREES, choices.n_trees) if used.anchor else 0
    steps = sorted({tied + int((choices.n_trees - tied) * share) for share in _TREE_SHARES} - {0})
    raw = np.full((len(steps), len(rows)), np.nan)
    if len(rows) >= _INNER:
        for inner in PurgedKFold(_INNER, choices.embargo_ns).folds(spans[rows]):
            past = _learnable(used, rows[inner.train])
            if len(np.unique(used.direction[past])) == 2:
                model = _fit(used, past, params, choices, choices.n_trees)
                for step, n_trees in enumerate(steps):
                    raw[step, inner.test] = booster.score(model, used.x[rows[inner.test]], n_trees)
    judged = np.isfinite(raw[0]) & (used.direction[rows] != 0)
    y = (used.direction[rows][judged] > 0).astype(np.float64)
    platts = [_calibration(used, of_step[judged], y) for of_step in raw]
    losses = [row_log_loss(y, platt(of_step[judged])) for platt, of_step in zip(platts, raw, strict=True)]
    if used.anchor:
        best = _simplest(losses, used.exchange_ns[rows[judged]], choices.block_ns)
    else:
        best = int(np.argmin([loss.mean() for loss in losses]))
    return steps[best], platts[best]


def _simplest(losses: list[Floats], exchange_ns: Ints, block_ns: int) -> int:
    """Return the step to take: a later one only where it is better by more than twice its standard error.

    The least loss alone would leave the anchor for every tree that helped by luck in the few
    minutes there are.
    """
    best = 0
    _, block = np.unique(exchange_ns // block_ns, return_inverse=True)
    for step in range(1, len(losses)):
        saved = np.bincount(block, losses[best] - losses[step])
        if len(saved) >= _FEW_BLOCKS and saved.sum() > 2 * np.sqrt((saved**2).sum()):
            best = step
    return best


def _calibration(examples: Examples, raw: Floats, y: Floats) -> Platt:
    # Trained on mirror images, calibrated on them: otherwise the trend of the past minutes comes in again as `b`.
    return fit_platt(raw, y) if examples.mirror is None else fit_platt(np.concatenate([raw, -raw]), np.concatenate([y, 1 - y]))


def _features(used: Examples, folds: list[FoldResult], last: Fold, gain: dict[str, float]) -> list[dict[str, Any]]:
    tops = [set(list(result.gain)[:20]) for result in folds]
    place = {name: i for i, name in enumerate(used.names)}
    return [
        {
            "name": name,
            "gain": share,
            "top20_share": sum(name in top for top in tops) / len(tops),
            "psi": population_stability(used.x[last.train, place[name]], used.x[last.test, place[name]]),
        }
        for name, share in gain.items()
    ]


def _stability(folds: list[FoldResult]) -> float:
    names = list(folds[0].gain)
    columns = [[result.gain[name] for name in names] for result in folds]
    with np.errstate(invalid="ignore"):
        pairs = [spearmanr(a, b).statistic for i, a in enumerate(columns) for b in columns[i + 1 :] if np.ptp(a) > 0 and np.ptp(b) > 0]
    return float(np.mean(pairs)) if pairs else float("nan")
