"""Score one row, or many, with a trained booster, bit for bit as LightGBM does, in microseconds.

The booster's own text is turned into flat arrays once; scoring then is one compiled call
without allocation (QuickScorer: Lucchese et al. 2015, SIGIR).  Every tree keeps a set of
leaves that are still possible, as bits.  The nodes of all trees stand feature by feature, in
rising threshold: a value walks up until its first "yes", and each "no" on the way strikes
the leaves left of that node.  The lowest bit that remains is the leaf.

Training is `models.booster`; this file needs no LightGBM.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.errors import FeatureMismatchError, ShapeError, UnsupportedModelError

MAX_LEAVES = 64  # bits of one word
NODE = np.dtype([("threshold", "f8"), ("mask", "u8"), ("tree", "u8"), ("missing", "u1"), ("default_left", "u1")], align=True)
SPAN = np.dtype([("start", "u8"), ("stop", "u8"), ("zero", "u8")])

# LightGBM's own names and numbers: bits of decision_type, and its float32 idea of zero.
_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_MISSING_ZERO, _MISSING_NAN = 1, 2
_ZERO = float(np.float32(1e-35))

# Multiplying a single bit by this leaves its position in the top six bits, each another.
_DE_BRUIJN = 0x03F79D71B4CA8B09
_WORD = (1 << 64) - 1
_ONE, _ALL = np.uint64(1), np.uint64(_WORD)
_HASH, _SHIFT = np.uint64(_DE_BRUIJN), np.uint64(58)

Floats = NDArray[np.float64]


@njit(cache=True)
def score_row(x: Floats, spans: Any, nodes: Any, leaves: Floats, possible: Any, link: Floats, out: Floats) -> None:
    """Leave the raw score of `x` in `out[0]` and its probability in `out[1]`.

    The arrays after `x` are `Scorer.arrays`; `possible` and `out` are overwritten, so one
    set of arrays serves one thread.  Callable from other compiled code.
    """
    # Unsigned indices all through: signed ones may be negative in Python, and testing for
    # that in the inner loop costs half the speed.
    n_trees = np.uint64(leaves.shape[0])
    for t in range(n_trees):
        possible[t] = _ALL
    for f in range(np.uint64(spans.shape[0])):
        k = spans[f]["start"]
        stop = spans[f]["stop"]
        value = x[f]
        if abs(value) <= _ZERO:
            value = 0.0  # as LightGBM reads a dense row
        if value == value and not (spans[f]["zero"] and value == 0.0):
            while k < stop and value > nodes[k]["threshold"]:
                possible[nodes[k]["tree"]] &= nodes[k]["mask"]
                k += _ONE
        else:
            _strike_missing(value, k, stop, nodes, possible)
    raw = 0.0
    for t in range(n_trees):
        word = possible[t]
        lowest = word & (~word + _ONE)
        raw += leaves[t, np.uint64(lowest * _HASH) >> _SHIFT]
    out[0] = raw
    out[1] = 1.0 / (1.0 + math.exp(-(link[0] * raw + link[1])))


@njit(cache=True)
def _strike_missing(value: float, k: Any, stop: Any, nodes: Any, possible: Any) -> None:
    # A NaN, or a zero in a feature where zero stands for missing: each node has its own rule.
    is_nan = value != value
    while k < stop:
        missing = nodes[k]["missing"]
        if (missing == _MISSING_NAN and is_nan) or (missing == _MISSING_ZERO and (is_nan or value == 0.0)):
            goes_left = nodes[k]["default_left"] != 0
        else:
            goes_left = (0.0 if is_nan else value) <= nodes[k]["threshold"]
        if not goes_left:
            possible[nodes[k]["tree"]] &= nodes[k]["mask"]
        k += _ONE


@njit(cache=True)
def _score_rows(x: Floats, spans: Any, nodes: Any, leaves: Floats, possible: Any, link: Floats, one: Floats, out: Floats) -> None:
    for i in range(x.shape[0]):
        score_row(x[i], spans, nodes, leaves, possible, link, one)
        out[i, 0] = one[0]
        out[i, 1] = one[1]


class Scorer:
    """A booster ready to score: the features it wants, and arrays for `score_row`.

    Parameters
    ----------
    text : str
        What `Booster.model_to_string` or `save_model` wrote: a binary objective, numeric
        splits, constant leaves, at most 64 leaves a tree.
    calibration : tuple of float, optional
        Platt's `(a, b)`: the probability is `1 / (1 + exp(-(a * raw + b)))`.  By default the
        booster's own sigmoid.
    names : sequence of str, optional
        Features in the order that rows will have; compared with the booster's once, here.

    Raises
    ------
    UnsupportedModelError
        If the booster uses something else.
    FeatureMismatchError
        If `names` are not the booster's features in the booster's order.
    """

    def __init__(self, text: str, calibration: tuple[float, float] | None = None, names: Sequence[str] | None = None) -> None:
        header, trees = _parse(text)
        self.names = tuple(header["feature_names"].split())
        if names is not None:
            check_names(self.names, names)
        self.n_trees = len(trees)
        self.calibration = (_sigmoid(header["objective"]), 0.0) if calibration is None else (float(calibration[0]), float(calibration[1]))
        spans, nodes, leaves = _flatten(trees, len(self.names))
        self._out = np.zeros(2)
        self._shape = (len(self.names),)
        self.arrays = (spans, nodes, leaves, np.zeros(self.n_trees, np.uint64), np.array(self.calibration), self._out)
        self.score(np.zeros(len(self.names)))  # compiles now rather than on the first live row

    def score(self, x: Floats) -> tuple[float, float]:
        """Return raw score (log odds before calibration) and calibrated probability of one row of float64."""
        if x.shape != self._shape:
            raise ShapeError("a row to score", f"of shape {self._shape}", x.shape)
        score_row(x, *self.arrays)
        return self._out[0], self._out[1]

    def raw(self, x: Floats) -> float:
        """Return the raw score of one row: the sum of its leaves, equal to `Booster.predict(raw_score=True)`."""
        return self.score(x)[0]

    def probability(self, x: Floats) -> float:
        """Return the calibrated probability that the price goes up."""
        return self.score(x)[1]

    def batch(self, x: Floats) -> Floats:
        """Return raw score and probability of each row: an array of shape (n, 2), equal to `score` row by row."""
        x = np.ascontiguousarray(x, dtype=np.float64)
        if x.ndim != 2 or x.shape[1:] != self._shape:
            raise ShapeError("rows to score", f"of shape (n, {self._shape[0]})", x.shape)
        out = np.empty((len(x), 2))
        _score_rows(x, *self.arrays[:-1], np.empty(2), out)
        return out


def check_names(expected: Sequence[str], received: Sequence[str]) -> None:
    """Raise FeatureMismatchError at the first feature that differs in name or place.

    Examples
    --------
    >>> check_names(["mid", "spread_bps"], ["mid", "imbalance_5"])
    Traceback (most recent call last):
    models.errors.FeatureMismatchError: feature 1 must be 'spread_bps', received 'imbalance_5'
    """
    for i in range(max(len(expected), len(received))):
        want = expected[i] if i < len(expected) else None
        got = received[i] if i < len(received) else None
        if want != got:
            raise FeatureMismatchError(i, want, got)


def _parse(text: str) -> tuple[dict[str, str], list[dict[str, Any]]]:
    head, *blocks = text.split("end of trees")[0].split("\nTree=")
    header = dict(line.split("=", 1) for line in head.splitlines() if "=" in line)
    for key in ("feature_names", "objective", "num_tree_per_iteration"):
        if key not in header:
            raise UnsupportedModelError(key, "nothing: this is no booster's text")
    if header["num_tree_per_iteration"] != "1":
        raise UnsupportedModelError("num_tree_per_iteration", header["num_tree_per_iteration"])
    if "average_output" in head.splitlines():
        raise UnsupportedModelError("average_output", "set")
    _sigmoid(header["objective"])
    return header, [_parse_tree(dict(line.split("=", 1) for line in block.splitlines()[1:] if "=" in line)) for block in blocks]


def _parse_tree(fields: dict[str, str]) -> dict[str, Any]:
    n_leaves = int(fields["num_leaves"])
    if n_leaves > MAX_LEAVES:
        raise UnsupportedModelError("num_leaves", f"{n_leaves}: more than {MAX_LEAVES}")
    for key in ("num_cat", "is_linear"):
        if fields.get(key, "0") != "0":
            raise UnsupportedModelError(key, fields[key])
    tree: dict[str, Any] = {"leaf_value": [float(v) for v in fields["leaf_value"].split()]}
    if n_leaves > 1:
        tree["threshold"] = [float(v) for v in fields["threshold"].split()]
        for key in ("split_feature", "decision_type", "left_child", "right_child"):
            tree[key] = [int(v) for v in fields[key].split()]
        if any(kind & _CATEGORICAL for kind in tree["decision_type"]):
            raise UnsupportedModelError("decision_type", "categorical")
    return tree


def _sigmoid(objective: str) -> float:
    kind, *options = objective.split()
    if kind != "binary":
        raise UnsupportedModelError("objective", objective)
    return next((float(option[8:]) for option in options if option.startswith("sigmoid:")), 1.0)


def _flatten(trees: list[dict[str, Any]], n_features: int) -> tuple[Any, Any, Floats]:
    leaves = np.zeros((len(trees), MAX_LEAVES))
    found: list[tuple[int, float, int, int, int, int]] = []
    for t, tree in enumerate(trees):
        order = _from_left(tree, t, found)
        for place, leaf in enumerate(order):
            leaves[t, (((1 << place) * _DE_BRUIJN) & _WORD) >> 58] = tree["leaf_value"][leaf]
    found.sort(key=lambda node: node[:3])
    nodes = np.array([node[1:] for node in found], dtype=NODE)
    spans = np.zeros(n_features, dtype=SPAN)
    edges = np.searchsorted([node[0] for node in found], np.arange(n_features + 1))
    spans["start"], spans["stop"] = edges[:-1], edges[1:]
    for f in range(n_features):
        spans[f]["zero"] = bool((nodes[edges[f] : edges[f + 1]]["missing"] == _MISSING_ZERO).any())
    return spans, nodes, leaves


def _from_left(tree: dict[str, Any], t: int, found: list[tuple[int, float, int, int, int, int]]) -> list[int]:
    """Return the leaves of one tree from left to right; adds its nodes to `found`."""
    order: list[int] = []

    def descend(child: int) -> int:  # the bits of the leaves under `child`
        if child < 0:
            order.append(~child)
            return 1 << (len(order) - 1)
        left = descend(tree["left_child"][child])
        right = descend(tree["right_child"][child])
        kind = tree["decision_type"][child]
        missing, default_left = (kind >> 2) & 3, (kind & _DEFAULT_LEFT) >> 1
        found.append((tree["split_feature"][child], tree["threshold"][child], _WORD ^ left, t, missing, default_left))
        return left | right

    descend(0 if "threshold" in tree else ~0)
    return order
