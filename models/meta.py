"""Which of a model's trades to take: a second classifier that learns when the first one earns.

The first says the side, the second only whether to follow it.  It learns from scores that the
first gave of rows it had not seen; scores of its own training rows are refused, since there
the first model is always right.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import booster
from models.booster import Booster
from models.errors import InSampleError, ShapeError, TooLittleDataError
from models.examples import Examples
from models.result import FoldResult, OutOfSample, TrainingResult
from models.splits import WalkForward
from models.weights import sample_weights

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

COVERAGES = (0.1, 0.25, 0.5, 1.0)  # shares of the first model's trades that are taken
CONVICTION = "conviction"  # the feature that the second model has on top: how sure the first one is, log odds
_LEAST = 20  # trades a block of the walk


@dataclass(frozen=True)
class Trades:
    """The trades that a first model calls for, one a row, in time order: what was known and how each ended."""

    names: tuple[str, ...]
    x: Floats  # shape (n, f): features as the trade sees them, mirrored where it is short
    conviction: Floats  # log odds for the trade's side, out of sample
    side: Ints  # 1 long, -1 short
    paid: Ints  # the meta-label: 1 where net_bps is above 0
    net_bps: Floats  # after spread, fees and impact
    start_ns: Ints
    end_ns: Ints


@dataclass(frozen=True)
class Coverage:
    """How many trades make money when each model picks the same number of them."""

    share: float
    n: int
    primary: float  # precision of the trades that the first model is surest of
    secondary: float  # precision of those that the second one picks

    @property
    def lift(self) -> float:
        """Return what the second model adds to precision."""
        return self.secondary - self.primary


@dataclass(frozen=True)
class MetaResult:
    """A second model of all trades, and what its like did with trades that it had not seen."""

    model: Booster
    names: tuple[str, ...]
    row: Ints  # tested trades, in time order
    raw: Floats  # log odds that each pays
    coverage: tuple[Coverage, ...]
    purged: int


def meta_labels(
    exchange_ns: Ints, bid: Floats, ask: Floats, side: Ints, horizon_ns: int, fee_bps: float, impact_bps: float = 0.0
) -> tuple[Ints, Floats]:
    """Return 1 where the trade of each row makes money, else 0, and what it makes in bps of the price entered at.

    A long enters at the ask and leaves at the bid of the last row no later than
    `t + horizon_ns`, a short the reverse; fees and impact come off twice.

    Parameters
    ----------
    exchange_ns : ndarray of int64, shape (n,)
        Non-decreasing.
    bid, ask : ndarray of float64, shape (n,)
        Touch prices.
    side : ndarray of int64, shape (n,)
        1 long, -1 short, 0 no trade.
    horizon_ns : int
        How long a trade is held.
    fee_bps, impact_bps : float
        Of one side: the venue's taker fee, and how far the order itself moves the price.

    Returns
    -------
    paid : ndarray of int64
    net_bps : ndarray of float64
        NaN (and 0 in `paid`) without a trade, without a price, or where the series ends first.

    Examples
    --------
    >>> bid = np.array([100.0, 101.0, 99.0])
    >>> paid, net = meta_labels(np.arange(3), bid, bid + 0.5, np.array([1, 1, -1]), 1, fee_bps=10)
    >>> paid, net.round(1)
    (array([1, 0, 0]), array([  29.8, -266.3,    nan]))
    """
    if not exchange_ns.shape == bid.shape == ask.shape == side.shape:
        raise ShapeError("books and sides", f"of shape {exchange_ns.shape}", (bid.shape, ask.shape, side.shape))
    last = np.searchsorted(exchange_ns, exchange_ns + horizon_ns, side="right") - 1
    entry = np.where(side > 0, ask, bid)
    leave = np.where(side > 0, bid[last], ask[last])
    net = side * 1e4 * (leave - entry) / entry - 2 * (fee_bps + impact_bps)
    if len(exchange_ns):
        net[(side == 0) | (exchange_ns + horizon_ns > exchange_ns[-1])] = np.nan
    return (net > 0).astype(np.int64), net


def trades_of(examples: Examples, result: TrainingResult, fee_bps: float, impact_bps: float = 0.0, margin: float | None = None) -> Trades:
    """Return the trades that a walk-forward trained model called for on rows it had not seen.

    Parameters
    ----------
    examples, result : Examples, TrainingResult
        What `models.training.train` was given, and gave.
    fee_bps, impact_bps : float
        Costs of one side.
    margin : float, optional
        Trade where the probability lies this far from 1/2; at the fold's own limits where not given.

    Raises
    ------
    InSampleError
        If a score is of a row that its own model was trained on, or whose label overlaps one.
    """
    seen = result.out_of_sample
    _check_unseen(examples, seen, result.folds)
    low, high = (seen.low, seen.high) if margin is None else (0.5 - margin, 0.5 + margin)
    side = np.zeros(len(examples.exchange_ns), np.int64)
    side[seen.row] = (seen.probability >= high).astype(np.int64) - (seen.probability <= low).astype(np.int64)
    paid, net = meta_labels(examples.exchange_ns, examples.bid, examples.ask, side, result.choices.horizon_ns, fee_bps, impact_bps)
    taken = np.flatnonzero(np.isfinite(net[seen.row]))
    row = seen.row[taken]
    sides = side[row]
    x = examples.x[row]
    if examples.mirror is not None:
        x = np.where(sides[:, None] > 0, x, examples.mirror(x))
    p = np.clip(seen.probability[taken], 1e-9, 1 - 1e-9)
    conviction = np.asarray(sides * np.log(p / (1 - p)), np.float64)
    start_ns = examples.exchange_ns[row]
    return Trades(
        (*examples.names, CONVICTION), np.column_stack([x, conviction]), conviction, sides, paid[row], net[row],
        start_ns, start_ns + result.choices.horizon_ns,
    )  # fmt: skip


def train_meta(
    trades: Trades, n_folds: int = 4, embargo_ns: int = 0, n_trees: int = 100, params: dict[str, Any] | None = None, seed: int = 0
) -> MetaResult:
    """Return a classifier of the trades that pay, judged walk-forward on trades it had not seen.

    In each test block either model picks the same number of trades, the first those it is
    surest of; precision is the share of picked trades that made money, over all blocks.

    Parameters
    ----------
    trades : Trades
        Of `trades_of`.
    n_folds, embargo_ns : int
        As of `models.splits.WalkForward`; the spans are the trades' lives.
    n_trees, params, seed : int, dict, int
        As of `models.booster.train`.

    Raises
    ------
    TooLittleDataError
        If there are fewer than 20 trades a block, or a training span holds but one outcome.

    References
    ----------
    López de Prado (2018), Advances in Financial Machine Learning, ch. 3.6.
    """
    needed = _LEAST * (n_folds + 1)
    if len(trades.paid) < needed:
        raise TooLittleDataError(f"a second model with {n_folds} folds", needed, len(trades.paid))
    spans = np.column_stack([trades.start_ns, trades.end_ns])
    folds = WalkForward(n_folds, embargo_ns=embargo_ns).folds(spans)
    raw = np.full(len(trades.paid), np.nan)
    picked: dict[float, list[tuple[Ints, Ints]]] = {share: [] for share in COVERAGES}
    for fold in folds:
        model = _fit(trades, fold.train, n_trees, params, seed)
        raw[fold.test] = booster.score(model, trades.x[fold.test])
        for share, found in picked.items():
            n = max(1, math.ceil(share * len(fold.test)))
            found.append((_surest(trades.conviction, fold.test, n), _surest(raw, fold.test, n)))
    row = np.concatenate([fold.test for fold in folds])
    coverage = []
    for share, found in picked.items():
        first, second = (np.concatenate(rows) for rows in zip(*found, strict=True))
        coverage.append(Coverage(share, len(first), float(trades.paid[first].mean()), float(trades.paid[second].mean())))
    model = _fit(trades, np.arange(len(trades.paid)), n_trees, params, seed)
    return MetaResult(model, trades.names, row, raw[row], tuple(coverage), sum(fold.purged for fold in folds))


def shuffled(trades: Trades, seed: int = 0) -> Trades:
    """Return the trades with their outcomes dealt out anew: nothing is left to learn."""
    dealt = np.random.default_rng(seed).permutation(len(trades.paid))
    return replace(trades, paid=trades.paid[dealt], net_bps=trades.net_bps[dealt])


def _fit(trades: Trades, rows: Ints, n_trees: int, params: dict[str, Any] | None, seed: int) -> Booster:
    weight = sample_weights(trades.start_ns[rows], trades.end_ns[rows], trades.net_bps[rows])
    return booster.train(trades.x[rows], trades.paid[rows], trades.names, weight=weight, params=params, n_trees=n_trees, seed=seed)


def _surest(score: Floats, rows: Ints, n: int) -> Ints:
    best: Ints = rows[np.argsort(-score[rows], kind="stable")[:n]]
    return best


def _check_unseen(examples: Examples, seen: OutOfSample, folds: list[FoldResult]) -> None:
    usable = np.flatnonzero(examples.usable)  # what the folds count in
    known = {found.number: found.fold for found in folds}
    for number in np.unique(seen.fold):
        rows = seen.row[seen.fold == number]
        fold = known.get(int(number))
        if fold is None:
            raise InSampleError(int(number), len(rows))
        trained = usable[fold.train]
        until = int(examples.label_end_ns[trained].max()) if len(trained) else -1
        since = int(examples.exchange_ns[trained].min()) if len(trained) else 0
        met = (examples.exchange_ns[rows] <= until) & (examples.label_end_ns[rows] >= since)
        if met.any():
            raise InSampleError(int(number), int(met.sum()))
