"""What there is to say and to show of a training, small enough to keep beside the model.

A summary holds plain values only, so it survives JSON: a page drawn from a summary that was
kept is the page drawn on the day of the training.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from models import strategy
from models.evaluation import auc_intervals, information_coefficient, mean_interval, pr_auc, precision_at_k, reliability
from models.examples import Examples
from models.result import TrainingResult

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_POINTS = 400  # of a curve: more cannot be seen
_ROWS = 100_000  # of a fold, evenly thinned, to estimate bounds on
_RESAMPLES = 400
_NAN3 = [float("nan")] * 3


@dataclass(frozen=True)
class Summary:
    """A training in plain values; an interval is `[estimate, low, high]`, 95 of 100 resamples between the bounds."""

    horizon_ns: int
    test_start_ns: int
    test_end_ns: int
    rows: int  # examples given
    usable: int
    lost: dict[str, int]  # rows not used, by cause
    choices: dict[str, Any]
    params: dict[str, Any]
    n_trials: int
    metrics: dict[str, float]  # pooled out of sample
    baseline: dict[str, float]  # the same of queue imbalance alone
    intervals: dict[str, list[float]]
    folds: list[dict[str, Any]]
    roc: list[dict[str, Any]]  # model, baseline, then one a fold
    reliability: list[dict[str, Any]]
    said: dict[str, list[float]]  # histogram of probabilities
    features: list[dict[str, Any]]  # most important first
    stability: float  # mean rank correlation of importances between folds
    equity: dict[str, list[float]]  # running sums before costs
    baseline_equity: dict[str, list[float]]
    latencies: list[dict[str, Any]]  # what a trade earns before costs, by latency
    tiers: list[dict[str, Any]]
    labels: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as JSON takes it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> "Summary":
        """Return the summary that `as_dict` gave; what it does not know is left aside."""
        return cls(**{field.name: kept[field.name] for field in fields(cls)})


def summarize(result: TrainingResult, examples: Examples) -> Summary:
    """Return what there is to say of a training.

    Parameters
    ----------
    result : TrainingResult
        What `models.training.train` returned.
    examples : Examples
        What it was given.

    Notes
    -----
    The baseline trades as the model does, on limits from the same past, so that what queue
    imbalance alone would have earned stands beside every number.
    """
    seen, choices = result.out_of_sample, result.choices
    ns, direction = examples.exchange_ns[seen.row], examples.direction[seen.row]
    naive, returns = np.nan_to_num(examples.baseline[seen.row]), examples.return_bps[seen.row]
    bid, ask = examples.bid[seen.row], examples.ask[seen.row]
    moved = direction != 0
    up, p, of = direction[moved] > 0, seen.probability[moved], seen.fold[moved]

    def bounds(trades: strategy.Trades) -> list[float]:
        return _plain(mean_interval(trades.gross_bps, trades.entry_ns, choices.block_ns, seed=choices.seed))

    low, high = _baseline_limits(result, examples)
    naive_trades = strategy.trade(ns, naive, bid, ask, low, high, choices.horizon_ns)
    latencies = []
    for latency in sorted(result.latency_bps):
        made = strategy.trade(ns, seen.probability, bid, ask, seen.low, seen.high, choices.horizon_ns, latency)
        latencies.append({"latency_ns": int(latency), "trades": len(made.side), "gross_bps": bounds(made)})
    error = (p - up) ** 2
    surprise = -np.log(np.clip(np.where(up, p, 1 - p), 1e-12, 1.0))
    return Summary(
        horizon_ns=int(choices.horizon_ns),
        test_start_ns=int(result.test_start_ns),
        test_end_ns=int(result.test_end_ns),
        rows=len(examples.exchange_ns),
        usable=int(examples.usable.sum()),
        lost={cause: int(n) for cause, n in result.lost.items()},
        choices={name: dict(value) if isinstance(value, Mapping) else value for name, value in vars(choices).items()},
        params=dict(result.params),
        n_trials=int(result.n_trials),
        metrics={name: float(value) for name, value in result.metrics.items()},
        baseline={
            "auc": float(result.baseline_auc.value),
            "pr_auc": pr_auc(up, naive[moved]),
            "log_loss": result.metrics["base_log_loss"],
            "precision_at_10pct": precision_at_k(up, naive[moved], 0.1),
            "ic": information_coefficient(naive, returns),
            "break_even_bps": strategy.break_even_bps(naive_trades),
            "trades": float(len(naive_trades.side)),
        },
        intervals={
            "auc": _plain(result.auc),
            "baseline_auc": _plain(result.baseline_auc),
            "auc_gain": _plain(result.auc_gain),
            "ic": _rank_correlation(seen.probability, returns, ns, choices.block_ns, choices.seed),
            "baseline_ic": _rank_correlation(naive, returns, ns, choices.block_ns, choices.seed),
            "brier": _plain(mean_interval(error, ns[moved], choices.block_ns, seed=choices.seed)),
            "log_loss": _plain(mean_interval(surprise, ns[moved], choices.block_ns, seed=choices.seed)),
            "break_even_bps": bounds(result.trades),
            "baseline_break_even_bps": bounds(naive_trades),
        },
        folds=[_fold(result, examples, i) for i in range(len(result.folds))],
        roc=[
            {"of": "model", **_roc(up, p)},
            {"of": "baseline", **_roc(up, naive[moved])},
            *({"of": f"fold {f.number + 1}", **_roc(up[of == f.number], p[of == f.number])} for f in result.folds),
        ],
        reliability=_reliability(up, p, ns[moved], choices.block_ns),
        said=_histogram(seen.probability, 0.0, 1.0, 50),
        features=[{**f, "folds": [fold.gain[f["name"]] for fold in result.folds]} for f in result.features],
        stability=float(result.stability),
        equity=_equity(result.trades),
        baseline_equity=_equity(naive_trades),
        latencies=latencies,
        tiers=[{**vars(tier), "net_bps": _plain(tier.net_bps)} for tier in result.tiers],
        labels=_labels(examples),
    )


def _baseline_limits(result: TrainingResult, examples: Examples) -> tuple[Floats, Floats]:
    # Fold rows count among usable rows, out-of-sample rows among all.
    naive = np.nan_to_num(examples.baseline[examples.usable])
    limits = [strategy.entry_limits(naive[f.fold.train], result.choices.trade_share) for f in result.folds]
    per_row = np.array(limits)[result.out_of_sample.fold]
    return per_row[:, 0], per_row[:, 1]


def _fold(result: TrainingResult, examples: Examples, i: int) -> dict[str, Any]:
    found, seen, choices = result.folds[i], result.out_of_sample, result.choices
    rows = np.flatnonzero((seen.fold == found.number) & (examples.direction[seen.row] != 0))
    rows = rows[_thin(len(rows), _ROWS)]
    at = seen.row[rows]
    (model, naive), gain = auc_intervals(
        examples.direction[at] > 0, [seen.probability[rows], np.nan_to_num(examples.baseline[at])],
        examples.exchange_ns[at], choices.block_ns, seed=choices.seed,
    )  # fmt: skip
    return {
        "number": int(found.number),
        "test_start_ns": int(found.fold.test_start_ns),
        "test_end_ns": int(found.fold.test_end_ns),
        "trained": int(found.trained_rows),
        "tested": len(found.fold.test),
        "purged": int(found.fold.purged),
        "embargoed": int(found.fold.embargoed),
        "n_trees": int(found.n_trees),
        "metrics": {name: float(value) for name, value in found.metrics.items()},
        "auc": _plain(model),
        "baseline_auc": _plain(naive),
        "auc_gain": _plain(gain),
    }


def _roc(up: NDArray[np.bool_], score: Floats) -> dict[str, list[float]]:
    # Shares of downs and ups that score at least so much, from the highest score down.
    if not (up.any() and not up.all()):
        return {"false_share": [], "true_share": []}
    order = np.argsort(-score, kind="stable")
    last_of_tie = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    true, false = np.cumsum(up[order])[last_of_tie] / up.sum(), np.cumsum(~up[order])[last_of_tie] / (~up).sum()
    some = _thin(len(true), _POINTS)
    return {"false_share": [0.0, *false[some].tolist()], "true_share": [0.0, *true[some].tolist()]}


def _reliability(up: NDArray[np.bool_], p: Floats, ns: Ints, block_ns: int, n_bins: int = 10) -> list[dict[str, Any]]:
    if not len(p):
        return []
    said = reliability(up, p, n_bins).said
    bins = [b for b in np.array_split(np.argsort(p, kind="stable"), n_bins) if len(b)]
    found = []
    for mean, b in zip(said, bins, strict=True):
        came, low, high = _plain(mean_interval(up[b].astype(np.float64), ns[b], block_ns))
        found.append({"said": float(mean), "came": came, "low": low, "high": high, "rows": len(b)})
    return found


def _rank_correlation(score: Floats, returns: Floats, ns: Ints, block_ns: int, seed: int) -> list[float]:
    """Return Spearman's correlation with bounds: blocks of time are drawn, ranks stay those of all rows."""
    known = np.isfinite(score) & np.isfinite(returns)
    if known.sum() < 3:
        return list(_NAN3)
    a, b = rankdata(score[known]), rankdata(returns[known])
    a, b = a - a.mean(), b - b.mean()
    block = np.unique(ns[known] // block_ns, return_inverse=True)[1]
    sums = np.stack([np.bincount(block, values) for values in (np.ones(len(a)), a, b, a * b, a * a, b * b)])
    drawn = np.random.default_rng(seed).integers(0, sums.shape[1], (_RESAMPLES, sums.shape[1]))
    n, sa, sb, sab, saa, sbb = sums[:, drawn].sum(2)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (sab - sa * sb / n) / np.sqrt((saa - sa**2 / n) * (sbb - sb**2 / n))
    r = r[np.isfinite(r)]
    low, high = np.quantile(r, [0.025, 0.975]).tolist() if len(r) else (float("nan"), float("nan"))
    return [information_coefficient(score, returns), low, high]


def _equity(trades: strategy.Trades) -> dict[str, list[float]]:
    exit_ns, gross = strategy.equity(trades, 0.0)
    some = _thin(len(gross), _POINTS)
    return {"exit_ns": exit_ns[some].tolist(), "gross_bps": gross[some].tolist(), "trades": (some + 1).tolist()}


def _labels(examples: Examples) -> dict[str, Any]:
    direction, returns = examples.direction[examples.usable], examples.return_bps[examples.usable]
    far = float(np.quantile(np.abs(returns), 0.995)) if len(returns) else 1.0
    far = far or 1.0
    return {
        "down": int((direction < 0).sum()),
        "flat": int((direction == 0).sum()),
        "up": int((direction > 0).sum()),
        "return_bps": _histogram(returns, -far, far, 61),
    }


def _histogram(values: Floats, low: float, high: float, n_bins: int) -> dict[str, list[float]]:
    rows, edges = np.histogram(np.clip(values[np.isfinite(values)], low, high), n_bins, (low, high))
    return {"edges": edges.tolist(), "rows": rows.tolist()}


def _thin(n: int, most: int) -> Ints:
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.int64)) if n else np.empty(0, np.int64)


def _plain(interval: Any) -> list[float]:
    return [float(value) for value in interval]
