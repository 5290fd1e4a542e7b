"""What the detectors of one stream remember, 98 kB whatever the stream does."""

from collections.abc import Sequence
from hashlib import sha256

import numpy as np
from numba import njit

from tasks.detectors.baseline import baseline_dtype, baseline_restart
from tasks.detectors.bocpd import BOCPD, bocpd_restart
from tasks.detectors.burst import CONFIRM, confirm_restart
from tasks.detectors.cusum import CUSUM, cusum_restart
from tasks.detectors.ensemble import ENSEMBLE, N_PARTS, ensemble_restart
from tasks.detectors.spectral_residual import SPECTRAL, spectral_restart

DRIFTING = ("imbalance_5", "microprice_drift_bps", "spread_compression", "trade_imbalance_5")
SIDED = (1, 1, 0, 1)  # a wider spread leans to neither side
VOLUMES = ("volume_zscore_1", "volume_zscore_5", "volume_zscore_30")
VOLATILITIES = ("realized_vol_1", "realized_vol_5", "realized_vol_30", "realized_vol_300")
N_SERIES = len(DRIFTING) + len(VOLATILITIES) + 1  # and the 1 s return of the mid

# What every row's detectors say, for charts and features.
VALUES = np.dtype(
    [
        (name, "f8")
        for name in ("cusum", "burst", "bocpd_change_prob", "bocpd_run_length", "spectral_residual", "confirmed", "score", "threshold")
    ],
    align=True,
)

DETECTORS = np.dtype(
    [
        ("h", "f8"),
        ("cooldown_ns", "i8"),
        ("clock_ns", "i8"),
        ("signals", "i8"),  # said so far: the next one's seq
        ("said_ns", "i8"),  # when the last one was
        ("clean_ns", "i8"),
        ("running", "i8"),  # whether there was a row since the stream became clean
        ("second", "i8"),
        ("mid", "f8"),  # of the last row
        ("close_mid", "f8"),  # of the last row of the second before
        ("volume_zscore", "f8"),
        ("volatility", "f8"),
        ("return_z", "f8"),  # of the last whole second
        ("baseline", baseline_dtype(N_SERIES)),
        ("cusum", CUSUM, (len(DRIFTING),)),
        ("bocpd", BOCPD),
        ("spectral", SPECTRAL),
        ("confirm", CONFIRM),
        ("ensemble", ENSEMBLE),
        ("values", VALUES),
    ],
    align=True,
)

# Days of signals that bear another are made anew: raise `REVISION` when the same rows give other signals.
REVISION = 1
VERSION = sha256(repr((REVISION, DRIFTING, SIDED, VOLUMES, VOLATILITIES, DETECTORS.itemsize)).encode()).hexdigest()[:12]

LONG_AGO = -(1 << 62)


@njit(cache=True)
def restart(s):
    """Forget everything but the clock and what was said: nothing is compared across a doubtful moment."""
    s["running"] = 0
    s["mid"] = np.nan
    s["close_mid"] = np.nan
    s["volume_zscore"] = np.nan
    s["volatility"] = np.nan
    s["return_z"] = np.nan
    baseline_restart(s["baseline"])
    for i in range(len(DRIFTING)):
        cusum_restart(s["cusum"][i])
    bocpd_restart(s["bocpd"])
    spectral_restart(s["spectral"])
    confirm_restart(s["confirm"])
    ensemble_restart(s["ensemble"])
    v = s["values"]
    v["cusum"] = np.nan
    v["burst"] = np.nan
    v["bocpd_change_prob"] = np.nan
    v["bocpd_run_length"] = np.nan
    v["spectral_residual"] = np.nan
    v["confirmed"] = 0.0
    v["score"] = np.nan
    v["threshold"] = np.nan


def new_state(h: float, weights: Sequence[float], floor: float, cooldown_s: float, first_seq: int) -> np.ndarray:
    """Return the state of a stream of which nothing is known, shape (1,).

    Raises
    ------
    ValueError
        If there are not four weights with a positive sum, or a threshold or time is negative.
    """
    shares = np.asarray(weights, np.float64)
    if shares.shape != (N_PARTS,) or not (shares >= 0.0).all() or not shares.sum() > 0.0:
        raise ValueError(f"there must be {N_PARTS} weights, none negative, not all zero; received {tuple(weights)}")
    if not h > 0.0 or not floor >= 0.0 or not cooldown_s >= 0.0:
        raise ValueError(f"h must be positive, floor and cooldown_s not negative; received {h}, {floor}, {cooldown_s}")
    state = np.zeros(1, DETECTORS)
    state["h"], state["cooldown_ns"], state["signals"] = h, round(cooldown_s * 1e9), first_seq
    state["clock_ns"] = state["said_ns"] = LONG_AGO
    state["ensemble"]["weights"], state["ensemble"]["floor"] = shares / shares.sum(), floor
    restart(state[0])
    return state
