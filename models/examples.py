"""What a training is given: rows of features with what happened after, and choices."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import booster
from models.errors import ShapeError
from warehouse.schema import CAUSES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_COLUMNS = ("exchange_ns", "label_end_ns", "direction", "vol_return", "return_bps", "bid", "ask", "baseline", "doubt")


@dataclass(frozen=True)
class Mirror:
    """How features read when bids and asks change places and prices run the other way.

    Training rows are learnt together with their mirror images, so that a fall teaches what
    a rise does, and the trend of the training day teaches nothing.
    """

    place: Ints  # shape (f,): the feature that takes this one's place
    sign: Floats  # shape (f,): -1 where it turns its sign

    def __call__(self, x: Floats) -> Floats:
        """Return the mirror images of rows."""
        return x[:, self.place] * self.sign


@dataclass(frozen=True)
class Examples:
    """One row a moment: what was known, and what happened after; all arrays of length n."""

    names: tuple[str, ...]
    x: Floats  # shape (n, f)
    exchange_ns: Ints  # the label's start too
    label_end_ns: Ints
    direction: Ints  # 1, 0, -1
    vol_return: Floats  # NaN where unknown
    return_bps: Floats
    bid: Floats
    ask: Floats
    baseline: Floats  # the naive score: queue imbalance
    doubt: Ints  # 0, or why features or label touch a doubtful interval
    anchor: str | None = None  # feature that points up, which training starts from; see `booster.train`
    mirror: Mirror | None = None

    def __post_init__(self) -> None:
        """Refuse columns of other lengths, and time that runs backwards."""
        n = len(self.exchange_ns)
        if self.x.shape != (n, len(self.names)):
            raise ShapeError("x", f"of shape ({n}, {len(self.names)})", self.x.shape)
        for name in _COLUMNS:
            if getattr(self, name).shape != (n,):
                raise ShapeError(name, f"of shape ({n},)", getattr(self, name).shape)
        if (np.diff(self.exchange_ns) < 0).any():
            raise ShapeError("exchange_ns", "non-decreasing", "a step back")

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Return which rows have a trustworthy label and trustworthy features."""
        usable: NDArray[np.bool_] = (self.doubt == 0) & np.isfinite(self.return_bps) & np.isfinite(self.vol_return)
        return usable

    @property
    def lost(self) -> dict[str, int]:
        """Return how many rows are not usable, by cause."""
        found = {CAUSES[code]: int((self.doubt == code).sum()) for code in np.unique(self.doubt) if code != 0}
        return {**found, "no label": int(((self.doubt == 0) & ~self.usable).sum())}


@dataclass(frozen=True)
class Choices:
    """What a run may choose."""

    horizon_ns: int
    n_folds: int = 5
    expanding: bool = True
    embargo_ns: int = 0
    n_trees: int = booster.N_TREES
    max_rows: int = 8_000  # to fit one ensemble on: evenly thinned, since neighbours are alike
    n_trials: int = 0  # parameter search; 0 takes `params` as they are
    params: Mapping[str, Any] = field(default_factory=dict)
    trade_share: float = 0.1  # of moments extreme enough to trade
    block_ns: int = 0  # of time drawn together when bounds are estimated; 0 takes what `usual_block_ns` says
    seed: int = 0
    num_threads: int = 1


def shuffled(examples: Examples, seed: int = 0) -> Examples:
    """Return the examples with what happened dealt out anew among usable rows: nothing is left to learn."""
    rows = np.flatnonzero(examples.usable)
    dealt = np.random.default_rng(seed).permutation(rows)
    changed = {}
    for name in ("direction", "vol_return", "return_bps"):
        changed[name] = getattr(examples, name).copy()
        changed[name][rows] = getattr(examples, name)[dealt]
    return replace(examples, **changed)


def take(examples: Examples, rows: Ints) -> Examples:
    """Return some of the rows, in the order given."""
    return replace(examples, **{name: getattr(examples, name)[rows] for name in ("x", *_COLUMNS)})
