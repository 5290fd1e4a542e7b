"""Stoikov's micro-price: where the mid is expected to settle, given queue imbalance and spread.

The book is a Markov chain over (bucket of imbalance, spread in ticks) that now and then moves
the mid.  The micro-price is the mid plus the sum of all moves that are expected from here on.
"""

import math
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.errors import ShapeError, TooLittleDataError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

N_BUCKETS = 11  # of imbalance; odd, so that a balanced book has a bucket of its own
MAX_TICKS = 4  # wider spreads count as this wide
_LEAST_MOVES = 50  # of the mid, below which nothing is fitted
_LEAST_VISITS = 20  # of a state and its mirror image; a rarer one keeps the weighted mid
_DOUBLINGS = 30  # of the number of moves looked ahead; a chain that needs more never forgets
_SETTLED = 1e-12  # ticks


@dataclass(frozen=True)
class Microprice:
    """A fitted micro-price: `mid + tick * g`, `g` odd in the imbalance.

    Attributes
    ----------
    tick : float
        Smallest price step, price.
    table : ndarray of float64, shape (buckets from balanced to one-sided, spreads from 1 tick up)
        `g` in ticks for a book heavy on the bid; NaN where the state was too rare, which then
        keeps the weighted mid.  Shape (0, 0) before a fit.
    """

    tick: float = 1.0
    table: Floats = field(default_factory=lambda: np.zeros((0, 0)))

    @property
    def id(self) -> str:
        """Return a name of this table, the same for the same numbers; empty before a fit."""
        if not self.table.size:
            return ""
        return sha256(repr((self.tick, self.table.shape)).encode() + np.ascontiguousarray(self.table).tobytes()).hexdigest()[:12]

    def at(self, bid: Floats, ask: Floats, bid_size: Floats, ask_size: Floats) -> Floats:
        """Return the micro-price of each book, price; NaN where a side is empty.

        Examples
        --------
        >>> bid, ask, one, three = (np.array([v]) for v in (99.0, 101.0, 1.0, 3.0))
        >>> Microprice().at(bid, ask, three, one)  # not fitted: the weighted mid
        array([100.5])
        >>> Microprice(1.0, np.array([[0.0, 0.0], [0.2, 0.7]])).at(bid, ask, three, one)
        array([100.7])
        """
        bid, ask, bid_size, ask_size = (np.ascontiguousarray(a, np.float64) for a in (bid, ask, bid_size, ask_size))
        return _prices(bid, ask, bid_size, ask_size, self.tick, self.table)


@njit(cache=True)
def microprice(bid: float, ask: float, bid_size: float, ask_size: float, tick: float, table: Floats) -> float:
    """Return the micro-price of one book, price: the kernel behind `Microprice.at` and the live fold."""
    mid = (bid + ask) / 2.0
    if table.size:
        imbalance = (bid_size - ask_size) / (bid_size + ask_size)
        if not math.isnan(imbalance + mid):
            drift = table[_bucket(abs(imbalance), table.shape[0]), _spread((ask - bid) / tick, table.shape[1])]
            if not math.isnan(drift):
                return mid + tick * (drift if imbalance >= 0.0 else -drift)
    return (bid * ask_size + ask * bid_size) / (bid_size + ask_size)


@njit(cache=True)
def _bucket(size: float, n: int) -> int:
    # 2n - 1 buckets of equal width; the balanced one is cut in half by 0, so that mirror images never part at an edge.
    return min(int((size * (2 * n - 1) + 1.0) / 2.0), n - 1)


@njit(cache=True)
def _spread(ticks: float, n: int) -> int:
    return min(max(round(ticks), 1), n) - 1


@njit(cache=True)
def _prices(bid: Floats, ask: Floats, bid_size: Floats, ask_size: Floats, tick: float, table: Floats) -> Floats:
    out = np.empty(len(bid))
    for i in range(len(bid)):
        empty = not (bid_size[i] + ask_size[i] > 0.0)
        out[i] = np.nan if empty else microprice(bid[i], ask[i], bid_size[i], ask_size[i], tick, table)
    return out


def fit_microprice(
    imbalance: Floats,
    spread_ticks: Floats,
    mid_ticks: Floats,
    tick: float,
    follows: Flags | None = None,
    n_buckets: int = N_BUCKETS,
    max_ticks: int = MAX_TICKS,
    largest_move_ticks: float = 1.0,
) -> Microprice:
    """Return the micro-price of a training window, from its books in order.

    Parameters
    ----------
    imbalance : ndarray of float64, shape (n,)
        Queue imbalance of the touch, -1 to 1; NaN where a side is empty.
    spread_ticks, mid_ticks : ndarray of float64, shape (n,)
        Spread and mid, in ticks.
    tick : float
        Smallest price step, price.
    follows : ndarray of bool, shape (n,), optional
        False where a book does not follow the one before (first of a session, behind a gap):
        no change is counted across it.  All but the first follow where not given.
    n_buckets, max_ticks : int
        Buckets of imbalance, an odd number; spread from which all count alike.
    largest_move_ticks : float
        Larger moves of the mid count as this large.  Where ticks are small, a few leaps would
        else make up the whole table, and not be there the next hour.

    Raises
    ------
    ShapeError
        If lengths differ or the number of buckets is even.
    TooLittleDataError
        With fewer than 50 moves of the mid.

    Notes
    -----
    With every change its mirror image is counted (imbalance and move turned round), so that `g`
    is odd and the trend of the window teaches nothing.  `Q` holds the chances to go from state to
    state with the mid at rest, `R` those of each move, `T` those of the state after a move.  The
    first move is expected to be `g1 = (I - Q)^-1 R k`, the state after it is drawn by
    `B = (I - Q)^-1 T`, and `g = g1 + B g1 + B^2 g1 + ...`, summed by doubling.  `R k` is taken as
    the mean move of a state, moves of up to a tick either way, as in the paper.

    References
    ----------
    Stoikov (2018), "The micro-price: a high-frequency estimator of future prices",
    Quantitative Finance 18(12).

    Examples
    --------
    >>> heavy = np.tile([0.9, 0.9, -0.9, -0.9], 50)  # the mid steps to the longer queue; what comes then is even
    >>> mid = np.tile([0.0, 1.0, 2.0, 1.0], 50)
    >>> fit_microprice(heavy, np.ones(200), mid, tick=0.5, n_buckets=3, max_ticks=1).table.round(1)
    array([[nan],
           [ 1.]])
    """
    shape = np.shape(imbalance)
    if not (len(shape) == 1 and shape == np.shape(spread_ticks) == np.shape(mid_ticks)):
        raise ShapeError("spreads and mids", f"of shape {shape}", (np.shape(spread_ticks), np.shape(mid_ticks)))
    if n_buckets < 1 or n_buckets % 2 == 0:
        raise ShapeError("n_buckets", "an odd number", n_buckets)
    state = _states(imbalance, spread_ticks, n_buckets, max_ticks)
    pairs = np.isfinite(imbalance) & np.isfinite(mid_ticks) & np.isfinite(spread_ticks)
    pairs = pairs[1:] & pairs[:-1] & (True if follows is None else np.asarray(follows, np.bool_)[1:])
    before, after = state[:-1][pairs], state[1:][pairs]
    move = np.clip(np.diff(mid_ticks)[pairs], -largest_move_ticks, largest_move_ticks)
    if (move != 0).sum() < _LEAST_MOVES:
        raise TooLittleDataError("fitting a micro-price", _LEAST_MOVES, int((move != 0).sum()))
    still, moved, total = _counted(before, after, move, n_buckets, max_ticks)
    visits = (still + moved).sum(axis=1)
    known = _settling(still, moved, visits)
    g = np.full(n_buckets * max_ticks, np.nan)
    g[known] = drift_of(still[np.ix_(known, known)], moved[np.ix_(known, known)], total[known], visits[known])
    both = g.reshape(n_buckets, max_ticks)
    return Microprice(float(tick), np.ascontiguousarray((both - both[::-1])[n_buckets // 2 :] / 2.0))


def drift_of(still: Floats, moved: Floats, total: Floats, visits: Floats) -> Floats:
    """Return the whole expected move of the mid from each state of a chain whose moves cancel in the long run.

    Parameters
    ----------
    still, moved : ndarray of float64, shape (m, m)
        How often a state was followed by another with the mid at rest, and with a move of it.
    total : ndarray of float64, shape (m,)
        Sum of the moves out of each state.
    visits : ndarray of float64, shape (m,)
        Changes out of each state; those to states not listed here end the sum.

    Examples
    --------
    >>> drift_of(np.eye(2) * 2, np.ones((2, 2)), np.array([1.0, -1.0]), np.array([4.0, 4.0]))
    array([ 0.5, -0.5])
    """
    rest = np.eye(len(visits)) - still / visits[:, None]
    solved = np.linalg.solve(rest, np.column_stack([total / visits, moved / visits[:, None]]))
    g, ahead = solved[:, 0], solved[:, 1:]
    for _ in range(_DOUBLINGS):
        more = ahead @ g
        g = g + more
        if np.abs(more).max(initial=0.0) < _SETTLED:
            break
        ahead = ahead @ ahead
    return np.asarray(g)


def _states(imbalance: Floats, spread_ticks: Floats, n_buckets: int, max_ticks: int) -> Ints:
    known = np.isfinite(imbalance) & np.isfinite(spread_ticks)
    size, ticks = np.where(known, imbalance, 0.0), np.where(known, spread_ticks, 1.0)
    half = n_buckets // 2
    away = np.minimum(((np.abs(size) * n_buckets + 1.0) / 2.0).astype(np.int64), half)
    bucket = half + np.sign(size).astype(np.int64) * away
    return np.asarray(bucket * max_ticks + np.clip(np.rint(ticks).astype(np.int64), 1, max_ticks) - 1)


def _counted(before: Ints, after: Ints, move: Floats, n_buckets: int, max_ticks: int) -> tuple[Floats, Floats, Floats]:
    # Each change and its mirror image, in the same order of addition, so that the counts are symmetric to the last bit.
    size = n_buckets * max_ticks
    still, moved, total = np.zeros((size, size)), np.zeros((size, size)), np.zeros(size)
    rest = move == 0
    np.add.at(still, (before[rest], after[rest]), 1.0)
    np.add.at(moved, (before[~rest], after[~rest]), 1.0)
    np.add.at(total, before, move)
    image = np.arange(size).reshape(n_buckets, max_ticks)[::-1].ravel()
    return still + still[np.ix_(image, image)], moved + moved[np.ix_(image, image)], total - total[image]


def _settling(still: Floats, moved: Floats, visits: Floats) -> Ints:
    """Return the states that are common enough and from which, by such states alone, the mid moves sometime."""
    common = visits >= _LEAST_VISITS
    reaches = common & (moved.sum(axis=1) > 0)
    while True:
        wider = reaches | (common & (still[:, reaches].sum(axis=1) > 0))
        if (wider == reaches).all():
            return np.flatnonzero(reaches)
        reaches = wider
