"""The fold of the detectors: rows of features in, signals out, one by one or a day at once.

Each row feeds CUSUM, burst and ensemble.  Each whole second feeds BOCPD with the return of the
mid and the spectral residual with the volatility of that second, as soon as a later row closes it.
What BOCPD says is a feature: it is written into the row itself, before anybody scores it.
"""

from typing import BinaryIO

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tasks.detectors.baseline import SECONDS, baseline_add, baseline_close, standardise
from tasks.detectors.bocpd import THRESHOLD as REGIME_THRESHOLD
from tasks.detectors.bocpd import bocpd_step
from tasks.detectors.burst import THRESHOLD as BURST_THRESHOLD
from tasks.detectors.burst import confirm_step, higher
from tasks.detectors.cusum import THRESHOLD as DRIFT_THRESHOLD
from tasks.detectors.cusum import cusum_step
from tasks.detectors.ensemble import BOCPD, BURST, COOLDOWN_S, CUSUM, FLOOR, SPECTRAL, WEIGHTS, ensemble_step
from tasks.detectors.spectral_residual import THRESHOLD as SALIENCE_THRESHOLD
from tasks.detectors.spectral_residual import spectral_step
from tasks.detectors.state import DETECTORS, DRIFTING, N_SERIES, SIDED, VALUES, VOLATILITIES, VOLUMES, new_state, restart
from tasks.features.catalogue import FEATURES, NAMES, REGIME
from warehouse.schema import BURST as BURST_KIND
from warehouse.schema import DRIFT, OK, REGIME_CHANGE, row_dtype

SIGNAL = row_dtype("signals")
_SECOND_NS = 1_000_000_000
_MID, _DRIFT, _PUSH = (NAMES.index(name) for name in ("mid", "microprice_drift_bps", "trade_imbalance_5"))
_DRIFTING, _VOLUMES, _VOLATILITIES = (np.array([NAMES.index(name) for name in names]) for names in (DRIFTING, VOLUMES, VOLATILITIES))
_SIDED = np.array(SIDED)
_N_DRIFT, _N_VOLUME, _N_VOLATILITY = len(DRIFTING), len(VOLUMES), len(VOLATILITIES)
_RETURN = np.int64(N_SERIES - 1)  # a plain number would be a type of its own for the compiler
_KINDS = np.array([DRIFT, BURST_KIND, REGIME_CHANGE, BURST_KIND])  # by part of the ensemble
_NO_VALUES = np.zeros(0, VALUES)
_CHANGE_NS, _RUN_NS = (np.int64(feature.warmup_s * _SECOND_NS) for feature in FEATURES[REGIME : REGIME + 2])


@njit(cache=True)
def _close_second(s):
    # The open second is over: what happened in it is known.
    step = np.log(s["mid"] / s["close_mid"]) if s["mid"] > 0.0 and s["close_mid"] > 0.0 else np.nan  # none in the first second
    s["close_mid"] = s["mid"]
    b, v = s["baseline"], s["values"]
    s["return_z"] = standardise(b, _RETURN, step)
    v["bocpd_change_prob"] = bocpd_step(s["bocpd"], s["return_z"])
    v["bocpd_run_length"] = s["bocpd"]["run_length"]
    salience = spectral_step(s["spectral"], s["volatility"])
    v["spectral_residual"] = salience
    v["confirmed"] = 1.0 if confirm_step(s["confirm"], salience > SALIENCE_THRESHOLD, s["volume_zscore"]) else 0.0
    baseline_add(b, _RETURN, step)
    baseline_close(b)
    s["volatility"] = 0.0  # unless a row says otherwise: without an update nothing moves
    s["second"] += 1


@njit(cache=True)
def _row(s, row):
    b, v = s["baseline"], s["values"]
    top, side = np.nan, 0
    for i in range(_N_DRIFT):
        x = row[_DRIFTING[i]]
        leading = cusum_step(s["cusum"][i], standardise(b, i, x), s["h"])
        baseline_add(b, i, x)
        if not abs(leading) <= abs(top) and not np.isnan(leading):
            top = leading
            side = _SIDED[i] * (1 if leading > 0.0 else -1)
    v["cusum"] = top
    volume = np.nan
    for i in range(_N_VOLUME):
        volume = higher(volume, row[_VOLUMES[i]])
    s["volume_zscore"] = volume
    burst = volume
    for i in range(_N_VOLATILITY):
        x = row[_VOLATILITIES[i]]
        burst = higher(burst, standardise(b, _N_DRIFT + i, x))
        baseline_add(b, _N_DRIFT + i, x)
    v["burst"] = burst
    s["volatility"] = row[_VOLATILITIES[0]]
    s["mid"] = row[_MID]
    return side


@njit(cache=True)
def _together(s):
    # Each detector's value over its own threshold; salience counts in full only when confirmed.
    parts, v = s["ensemble"]["parts"], s["values"]
    parts[CUSUM] = abs(v["cusum"]) / s["h"]
    parts[BURST] = v["burst"] / BURST_THRESHOLD
    parts[BOCPD] = v["bocpd_change_prob"] / REGIME_THRESHOLD
    salience = v["spectral_residual"] / SALIENCE_THRESHOLD
    parts[SPECTRAL] = max(1.0, salience) if v["confirmed"] > 0.0 else min(salience, 0.99)
    lead = ensemble_step(s["ensemble"])
    v["score"] = s["ensemble"]["score"]
    v["threshold"] = s["ensemble"]["threshold"]
    return lead


@njit(cache=True)
def _sign(x):
    return 1 if x > 0.0 else -1 if x < 0.0 else 0  # 0 for NaN


@njit(cache=True)
def detectors_step(s, row, meta, signal):
    """Fold one row of features, fill its regime columns, and return whether `signal` was written.

    Parameters
    ----------
    s : record of DETECTORS
    row : ndarray of float64, shape (n features,)
    meta : record of META
    signal : record of SIGNAL
    """
    if meta["doubt"] != OK:
        restart(s)
        return False
    if s["running"] and (meta["clean_ns"] < s["clean_ns"] or np.isnan(row[_DRIFT])):  # clean again, or its first row
        restart(s)
    if meta["exchange_ns"] > s["clock_ns"]:
        s["clock_ns"] = meta["exchange_ns"]
    second = s["clock_ns"] // _SECOND_NS
    if s["running"] and second - s["second"] > SECONDS:  # nothing of what was usual is left
        restart(s)
    if not s["running"]:
        s["running"] = 1
        s["second"] = second
    while s["second"] < second:
        _close_second(s)
    s["clean_ns"] = meta["clean_ns"]
    row[REGIME] = s["values"]["bocpd_change_prob"] if meta["clean_ns"] >= _CHANGE_NS else np.nan
    row[REGIME + 1] = s["values"]["bocpd_run_length"] if meta["clean_ns"] >= _RUN_NS else np.nan
    side = _row(s, row)
    lead = _together(s)
    if lead < 0 or s["clock_ns"] - s["said_ns"] < s["cooldown_ns"]:
        return False
    if lead == BOCPD:
        side = _sign(s["return_z"])
    elif lead != CUSUM:
        side = _sign(row[_PUSH])
    _say(s, meta, _KINDS[lead], side, signal)
    return True


@njit(cache=True)
def _say(s, meta, kind, side, signal):
    v = s["values"]
    signal["exchange_ns"] = meta["exchange_ns"]
    signal["receive_ns"] = meta["receive_ns"]
    signal["event_seq"] = meta["event_seq"]
    signal["seq"] = s["signals"]
    signal["kind"] = kind
    signal["side"] = side
    signal["score"] = v["score"]
    signal["threshold"] = v["threshold"]
    signal["cusum"] = v["cusum"]
    signal["burst"] = v["burst"]
    signal["bocpd"] = v["bocpd_change_prob"]
    signal["spectral_residual"] = v["spectral_residual"]
    signal["arb_bps"] = np.nan
    signal["funding_delta"] = np.nan
    s["signals"] += 1
    s["said_ns"] = s["clock_ns"]


@njit(cache=True)
def _live(state, row, meta, signal):
    return detectors_step(state[0], row, meta[0], signal[0])


@njit(cache=True, nogil=True)  # days of other streams fold beside it in threads
def _batch(state, meta, rows, signals, values):
    n = 0
    for i in range(meta.size):
        if detectors_step(state[0], rows[i], meta[i], signals[n]):
            n += 1
        if values.size:
            _copy(state[0]["values"], values[i])
    return n


@njit(cache=True)
def _copy(a, b):
    b["cusum"] = a["cusum"]
    b["burst"] = a["burst"]
    b["bocpd_change_prob"] = a["bocpd_change_prob"]
    b["bocpd_run_length"] = a["bocpd_run_length"]
    b["spectral_residual"] = a["spectral_residual"]
    b["confirmed"] = a["confirmed"]
    b["score"] = a["score"]
    b["threshold"] = a["threshold"]


class Detectors:
    """The detectors of one stream, folded row by row or day by day.

    Parameters
    ----------
    h : float
        Threshold of the four CUSUMs; `tasks.detectors.cusum.h_for_arl` tells it from a run length.
    weights : four floats
        Of CUSUM, burst, BOCPD and spectral residual in the score; only their ratios count.
    floor : float
        No score up to it is a signal.
    cooldown_s : float
        Least time between two signals, on the exchange clock.
    first_seq : int
        `seq` of the first signal.

    Attributes
    ----------
    signal : ndarray of the `signals` record, shape (1,)
        The last one.

    Examples
    --------
    >>> from tasks.features.fold import META
    >>> detectors = Detectors()
    >>> detectors.step(np.full(len(NAMES), np.nan), np.zeros(1, META)) is None
    True
    >>> detectors.batch(np.zeros(3, META), np.full((3, len(NAMES)), np.nan)).size
    0
    """

    def __init__(
        self,
        h: float = DRIFT_THRESHOLD,
        weights: tuple[float, float, float, float] = WEIGHTS,
        floor: float = FLOOR,
        cooldown_s: float = COOLDOWN_S,
        first_seq: int = 0,
    ) -> None:
        self.state = new_state(h, weights, floor, cooldown_s, first_seq)
        self.signal = np.zeros(1, SIGNAL)

    def step(self, row: NDArray[np.float64], meta: NDArray) -> NDArray | None:
        """Fold one row, shape (n features,), with its meta record, shape (1,); its regime columns are filled.

        Returns
        -------
        ndarray of the `signals` record, shape (1,), or None
            Valid until the next step.
        """
        return self.signal if _live(self.state, row, meta, self.signal) else None

    @property
    def values(self) -> np.void:
        """What each detector said of the last row, a record of VALUES; NaN while not known."""
        return self.state[0]["values"]

    def batch(self, meta: NDArray, features: NDArray[np.float64]) -> NDArray:
        """Fold rows in their order, fill their regime columns, and return the signals, shape (n signals,)."""
        return self._fold(meta, features, _NO_VALUES)

    def trace(self, meta: NDArray, features: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
        """Fold rows like `batch` and return the signals and, for each row, what each detector said."""
        values = np.zeros(meta.size, VALUES)
        return self._fold(meta, features, values), values

    def _fold(self, meta: NDArray, features: NDArray[np.float64], values: NDArray) -> NDArray:
        if features.shape != (meta.size, len(NAMES)):
            raise ValueError(f"features must have shape {(meta.size, len(NAMES))}, received {features.shape}")
        signals = np.zeros(self._most(meta) + 1, SIGNAL)  # one more: each row is given a place to write to
        rows = np.ascontiguousarray(features)
        n = _batch(self.state, meta, rows, signals, values)
        if rows is not features:
            features[:, REGIME : REGIME + 2] = rows[:, REGIME : REGIME + 2]
        return signals[:n]

    def _most(self, meta: NDArray) -> int:
        # As many signals as the cooldown allows, at most one a row.
        cooldown_ns = int(self.state[0]["cooldown_ns"])
        if not meta.size or not cooldown_ns:
            return meta.size
        span = int(meta["exchange_ns"].max()) - int(meta["exchange_ns"].min())
        return min(meta.size, span // cooldown_ns + 2)

    def save(self, file: BinaryIO) -> None:
        """Write everything the detectors remember, so that another process goes on where this one stopped."""
        np.savez(file, state=self.state.view(np.uint8))

    def restore(self, file: BinaryIO) -> None:
        """Go on from what `save` wrote, thresholds included.

        Raises
        ------
        ValueError
            If it was written by detectors of another shape.
        """
        with np.load(file) as kept:
            if kept["state"].size != DETECTORS.itemsize:
                raise ValueError(
                    f"kept state must have {DETECTORS.itemsize} bytes, received {kept['state'].size}: another version wrote it"
                )
            self.state = kept["state"].view(DETECTORS)
