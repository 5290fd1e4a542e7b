"""Looking for leaks: ways in which a model may know what it could not have known.

Each check returns what it found, an empty list when all is well.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from models.errors import ShapeError
from models.evaluation import auc, information_coefficient
from models.examples import Choices, Examples, shuffled
from models.splits import Fold, overlaps
from models.training import train

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MIN_KNOWN = 100  # values of a feature, below which nothing is said of it

# Rebuilds features from the first n events: one matrix, rows of the events that made one.
Rebuild = Callable[[int], Floats]


class Finding(NamedTuple):
    """One leak: which check, what it is about, and the numbers."""

    check: str
    subject: str
    detail: str


def check_truncation(rebuild: Rebuild, n_events: int, names: Sequence[str], cuts: Sequence[int]) -> list[Finding]:
    """Return the features that change at t when what comes after t is taken away.

    Parameters
    ----------
    rebuild : callable
        Takes how many events to use, returns the feature matrix of shape (rows, f): fewer
        events make fewer rows, and never other ones.
    n_events : int
        All of them.
    names : sequence of str
        The columns.
    cuts : sequence of int
        Numbers of events to keep.

    Examples
    --------
    >>> x = np.arange(6.0)
    >>> check_truncation(lambda n: x[:n, None], 6, ["last"], [3])
    []
    >>> check_truncation(lambda n: x[:n, None] / x[:n].max(), 6, ["scaled"], [3])[0].subject
    'scaled'
    """
    whole = rebuild(n_events)
    found: dict[str, Finding] = {}
    for cut in cuts:
        part = rebuild(cut)
        if part.shape[1] != whole.shape[1] or len(part) > len(whole):
            raise ShapeError(f"features of {cut} events", f"at most {whole.shape}", part.shape)
        _compare(found, "truncation", f"cut at event {cut}", whole[: len(part)], part, names)
    return list(found.values())


def check_alteration(before: Floats, after: Floats, names: Sequence[str], first_changed: int) -> list[Finding]:
    """Return the features that differ before row `first_changed` when only later events were altered.

    Examples
    --------
    >>> x, later = np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [2.0], [9.0]])
    >>> check_alteration(x, later, ["mid"], 2), check_alteration(x, later[::-1], ["mid"], 2)[0].subject
    ([], 'mid')
    """
    found: dict[str, Finding] = {}
    _compare(found, "alteration", f"events from row {first_changed} on altered", before[:first_changed], after[:first_changed], names)
    return list(found.values())


def _compare(found: dict[str, Finding], check: str, what: str, whole: Floats, part: Floats, names: Sequence[str]) -> None:
    # Bit for bit, NaN equal to NaN: a causal fold has no reason to differ in the last digit.
    differs = (whole != part) & ~(np.isnan(whole) & np.isnan(part))
    for column in np.flatnonzero(differs.any(axis=0)).tolist():
        if names[column] not in found:
            row = int(np.argmax(differs[:, column]))
            detail = f"{what}: row {row} was {whole[row, column]!r} and became {part[row, column]!r}"
            found[names[column]] = Finding(check, names[column], detail)


def unchecked(x: Floats, names: Sequence[str], least: int = MIN_KNOWN) -> list[str]:
    """Return the features with fewer than `least` known values: of them a check can say nothing.

    Examples
    --------
    >>> unchecked(np.array([[1.0, np.nan], [2.0, np.nan]]), ["mid", "vpin"], least=2)
    ['vpin']
    """
    return [name for name, known in zip(names, np.isfinite(x).sum(axis=0), strict=True) if known < least]


def check_plausible(
    x: Floats, names: Sequence[str], direction: Ints, return_bps: Floats, max_auc: float = 0.95, max_ic: float = 0.75
) -> list[Finding]:
    """Return the features that alone predict better than any honest one.

    On real books the best single feature, queue imbalance, has an AUC of 0.76 for the next
    move and a rank correlation of 0.43 with the return of 1 s (published, 24 days of BTC);
    in a quiet market with a wide tick, at half a second, 0.92 and 0.52.  Far above is an
    alarm.  A weak peek hides below: that is what `check_truncation` is for.

    Parameters
    ----------
    x : ndarray of float64, shape (n, f)
        Features.
    direction, return_bps : ndarray, shape (n,)
        What came after.
    max_auc, max_ic : float
        Beyond these, in either direction, a feature is reported.
    """
    moved = direction != 0
    y = (direction[moved] > 0).astype(np.int64)
    found = []
    for column, name in enumerate(names):
        value = x[:, column]
        known = np.isfinite(value)
        rows = known[moved]
        if rows.sum() < MIN_KNOWN:
            continue  # `unchecked` names it
        alone = auc(y[rows], value[moved][rows])
        alone = max(alone, 1 - alone)
        rank = abs(information_coefficient(value[known], return_bps[known]))
        if alone > max_auc or rank > max_ic:
            detail = f"AUC {alone:.3f} (at most {max_auc:.2f}), rank correlation {rank:.3f} (at most {max_ic:.2f})"
            found.append(Finding("plausibility", name, detail))
    return found


def check_spans(spans: Ints, folds: Sequence[Fold], embargo_ns: int = 0) -> list[Finding]:
    """Return the folds in which a training label's span meets the test span or its embargo."""
    return [
        Finding("spans", f"fold {number}", f"{count} training labels look into the test span or its embargo")
        for number, fold in enumerate(folds)
        if (count := overlaps(spans, fold, embargo_ns))
    ]


def check_shuffled(examples: Examples, choices: Choices, repeats: int = 3, tolerance: float = 0.02) -> list[Finding]:
    """Return a finding if models of shuffled labels predict shuffled labels.

    What happened is dealt out anew among the rows; whatever AUC is then left comes from the
    machinery.  The mean over `repeats` may be off by `tolerance`, or by what chance allows
    where rows are few.
    """
    found, error = [], []
    for repeat in range(repeats):
        result = train(shuffled(examples, choices.seed + repeat), choices)
        moved, share = result.metrics["moved"], result.metrics["up_share"]
        found.append(result.metrics["auc"])
        error.append(1 / math.sqrt(12 * max(moved * share * (1 - share), 1)))  # of an AUC under no skill
    allowed = max(tolerance, float(norm.ppf(0.999) * np.mean(error) / math.sqrt(repeats)))
    mean = float(np.mean(found))
    if abs(mean - 0.5) <= allowed:
        return []
    return [Finding("shuffled labels", "model", f"AUC {mean:.3f} of {repeats} trainings, 0.5 give or take {allowed:.3f} allowed")]
