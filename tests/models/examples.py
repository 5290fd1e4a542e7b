"""Made-up markets for tests of training: a hidden pressure that can be seen, or cannot."""

import numpy as np

from models.examples import Examples
from models.labels import direction, volatility_normalized_return

SECOND = 1_000_000_000


def made_up(n=6000, signal=1.0, seed=0, horizon_ns=SECOND, threshold=0.3):
    """Return examples at 10 rows a second; `signal` says how much the pressure moves the price."""
    rng = np.random.default_rng(seed)
    exchange_ns = 1_700_000_000 * SECOND + np.cumsum(rng.integers(50_000_000, 150_000_000, n))
    pressure = np.empty(n)
    pressure[0] = 0.0
    for i in range(1, n):
        pressure[i] = 0.95 * pressure[i - 1] + 0.3 * rng.normal()
    moves = 1e-5 * (rng.normal(size=n) + 0.5 * signal * np.concatenate([[0], pressure[:-1]]))
    mid = 50_000 * np.exp(np.cumsum(moves))
    r = volatility_normalized_return(exchange_ns, mid, horizon_ns)
    imbalance = np.tanh(pressure + 1.5 * rng.normal(size=n))
    x = np.column_stack([imbalance, pressure + 0.5 * rng.normal(size=n), rng.normal(size=(n, 4))])
    x[rng.random(x.shape) < 0.01] = np.nan
    return Examples(
        names=("imbalance_1", "ofi_1s", "noise_0", "noise_1", "noise_2", "noise_3"),
        x=x,
        exchange_ns=exchange_ns,
        label_end_ns=r.end_ns,
        direction=direction(r.vol_return, threshold),
        vol_return=r.vol_return,
        return_bps=r.return_bps,
        bid=mid - 0.05,
        ask=mid + 0.05,
        baseline=imbalance,
        doubt=np.zeros(n, np.int64),
    )
