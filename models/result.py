"""What a training gives: a model, and everything that is known of it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import booster, strategy
from models.booster import Booster
from models.calibration import Platt
from models.evaluation import Interval
from models.examples import Choices
from models.splits import Fold

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class FoldResult:
    """One fold's sizes and out-of-sample metrics."""

    number: int
    fold: Fold
    trained_rows: int
    n_trees: int  # chosen on inner folds of the past
    calibration: Platt
    metrics: dict[str, float]
    gain: dict[str, float]  # importance by feature


@dataclass(frozen=True)
class OutOfSample:
    """What the folds said of rows they had not seen, in time order; `row` counts in `Examples`."""

    row: Ints
    fold: Ints
    raw: Floats
    probability: Floats
    low: Floats  # trade at or below
    high: Floats  # trade at or above


@dataclass(frozen=True)
class TrainingResult:
    """A model and everything that is known of it."""

    model: Booster
    names: tuple[str, ...]
    calibration: Platt
    params: dict[str, Any]
    choices: Choices
    folds: list[FoldResult]
    out_of_sample: OutOfSample
    metrics: dict[str, float]  # pooled out of sample
    auc: Interval
    baseline_auc: Interval
    auc_gain: Interval
    trades: strategy.Trades
    tiers: list[strategy.Tier]
    latency_bps: dict[int, float]  # break-even at each latency
    features: list[dict[str, Any]]  # name, gain, top20_share, psi; most important first
    stability: float  # mean rank correlation of importances between folds
    lost: dict[str, int]  # rows not used, by cause
    test_start_ns: int
    test_end_ns: int

    @property
    def text(self) -> str:
        """Return the model as text: what `models.scorer.Scorer` reads."""
        return booster.text(self.model)

    @property
    def n_trials(self) -> int:
        """Return how many parameter sets were tried, the chosen one included."""
        return max(1, self.choices.n_trials)
