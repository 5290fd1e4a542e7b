"""Which rows train and which test, so that no label seen in training looks into the test.

Both splitters follow scikit-learn's interface; label spans take the place of `groups`.  The
index functions underneath are pure, and `Fold` says what was thrown out and why.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import ShapeError, TooLittleDataError

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """Row numbers of one fold, and what was left out between them."""

    train: Ints
    test: Ints
    purged: int  # rows whose label span meets the test span
    embargoed: int  # further rows nearer to it than the embargo
    test_start_ns: int
    test_end_ns: int  # end of the last test label, not of the last test row


@dataclass(frozen=True)
class WalkForward:
    """Train on the past, test on what follows, step on.

    Rows in order of their label's start are cut into `n_folds + 1` blocks of equal count;
    each but the first is a test block.

    Parameters
    ----------
    n_folds : int
        Test blocks.
    expanding : bool
        True trains on all of the past, False on as many blocks as `window`.
    window : int
        Blocks to train on where not expanding.
    embargo_ns : int
        Training labels must end this long before the test begins.  Nothing behind the test span
        is trained on, so there is nothing to leave out there.  Features remember: a long memory
        wants a long embargo.  0 trusts that nothing but labels overlaps.

    Examples
    --------
    >>> start = np.arange(8)
    >>> spans = np.column_stack([start, start + 1])
    >>> for fold in WalkForward(3).folds(spans):
    ...     print(fold.train, fold.test, fold.purged)
    [0] [2 3] 1
    [0 1 2] [4 5] 1
    [0 1 2 3 4] [6 7] 1
    """

    n_folds: int = 5
    expanding: bool = True
    window: int = 1
    embargo_ns: int = 0

    def folds(self, spans: Ints) -> list[Fold]:
        """Return the folds for label spans of shape (n, 2): start and end, both included."""
        order, blocks = _blocks(spans, self.n_folds + 1)
        found = []
        for k in range(1, self.n_folds + 1):
            first = 0 if self.expanding else max(0, k - self.window)
            past = order[blocks[first] : blocks[k]]
            found.append(purge(spans, past, order[blocks[k] : blocks[k + 1]], self.embargo_ns))
        return found

    def split(self, X: Any, y: Any = None, groups: Ints | None = None) -> Iterator[tuple[Ints, Ints]]:
        """Yield train and test rows; `groups` are the label spans, shape (n, 2)."""
        return _pairs(self.folds(_spans_of(groups)))

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds."""
        return self.n_folds


@dataclass(frozen=True)
class PurgedKFold:
    """Test each of k blocks in turn, train on what lies before and behind it.

    Parameters
    ----------
    n_folds : int
        Blocks of equal count in order of the label's start.
    embargo_ns : int
        Distance kept on both sides of the test span: features of rows just behind it still
        remember it.

    Examples
    --------
    >>> start = np.arange(6) * 10
    >>> fold = PurgedKFold(3, embargo_ns=5).folds(np.column_stack([start, start + 12]))[1]
    >>> fold.train, fold.test, fold.purged, fold.embargoed
    (array([0, 5]), array([2, 3]), 2, 0)
    """

    n_folds: int = 5
    embargo_ns: int = 0

    def folds(self, spans: Ints) -> list[Fold]:
        """Return the folds for label spans of shape (n, 2): start and end, both included."""
        order, blocks = _blocks(spans, self.n_folds)
        return [
            purge(spans, np.concatenate([order[: blocks[k]], order[blocks[k + 1] :]]), order[blocks[k] : blocks[k + 1]], self.embargo_ns)
            for k in range(self.n_folds)
        ]

    def split(self, X: Any, y: Any = None, groups: Ints | None = None) -> Iterator[tuple[Ints, Ints]]:
        """Yield train and test rows; `groups` are the label spans, shape (n, 2)."""
        return _pairs(self.folds(_spans_of(groups)))

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds."""
        return self.n_folds


def purge(spans: Ints, train: Ints, test: Ints, embargo_ns: int = 0) -> Fold:
    """Return the fold that is left when training labels near the test span are thrown out.

    The test span runs from the first start to the last end of the test labels; spans that
    share a moment with it meet it.  The embargo is time, whatever the number of rows in it, and
    begins where the last test label ends, not at the last test row; the same is kept before the first.
    """
    start_ns, end_ns = int(spans[test, 0].min()), int(spans[test, 1].max())
    meets = (spans[train, 0] <= end_ns) & (spans[train, 1] >= start_ns)
    near = (spans[train, 0] <= end_ns + embargo_ns) & (spans[train, 1] >= start_ns - embargo_ns)
    return Fold(np.sort(train[~near]), np.sort(test), int(meets.sum()), int((near & ~meets).sum()), start_ns, end_ns)


def overlaps(spans: Ints, fold: Fold, embargo_ns: int = 0) -> int:
    """Return how many training labels come nearer to a test label than the embargo; 0 is the promise."""
    return purge(spans, fold.train, fold.test, embargo_ns).purged + purge(spans, fold.train, fold.test, embargo_ns).embargoed


def _blocks(spans: Ints, n_blocks: int) -> tuple[Ints, list[int]]:
    _spans_of(spans)
    if len(spans) < n_blocks:
        raise TooLittleDataError(f"splitting into {n_blocks} blocks", n_blocks, len(spans))
    order = np.argsort(spans[:, 0], kind="stable")
    return order, [len(spans) * k // n_blocks for k in range(n_blocks + 1)]


def _spans_of(groups: Any) -> Ints:
    if groups is None or np.ndim(groups) != 2 or np.shape(groups)[1] != 2:
        raise ShapeError("label spans", "of shape (n, 2)", None if groups is None else np.shape(groups))
    spans: Ints = np.asarray(groups)
    if (spans[:, 1] < spans[:, 0]).any():
        raise ShapeError("label spans", "no end before its start", f"one at row {int(np.argmax(spans[:, 1] < spans[:, 0]))}")
    return spans


def _pairs(folds: list[Fold]) -> Iterator[tuple[Ints, Ints]]:
    return ((fold.train, fold.test) for fold in folds)
