"""GARCH(1,1) parameters of a training window; the recursion runs with the bars (`tasks.features.indicators`)."""

from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from models.errors import ModelError

_LEAST = 250  # returns; below, the likelihood is too flat to tell alpha from beta


class TooFewReturnsError(ModelError):
    """A window too short to fit on."""

    def __init__(self, n: int):
        super().__init__(f"GARCH(1,1) needs at least {_LEAST} finite returns that are not all 0, received {n}")


@dataclass(frozen=True)
class Garch:
    """Variance of the next bar is `omega + alpha r**2 + beta variance`.

    Attributes
    ----------
    omega, alpha, beta : float
        In squared log returns, and shares.
    """

    omega: float
    alpha: float
    beta: float

    @property
    def id(self) -> str:
        """Return a name of these parameters: the same for the same numbers."""
        return sha256(repr((self.omega, self.alpha, self.beta)).encode()).hexdigest()[:12]


def fit_garch(log_returns: np.ndarray) -> Garch:
    """Return the parameters that make these returns likeliest, of mean zero and normal shocks.

    Parameters
    ----------
    log_returns : ndarray of float64, shape (n,)
        Of consecutive bars of the training window; NaN are left out.

    Raises
    ------
    TooFewReturnsError
        Fewer than 250.

    References
    ----------
    Bollerslev (1986), "Generalized Autoregressive Conditional Heteroskedasticity", Journal of Econometrics 31.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> fit = fit_garch(rng.normal(0, 1e-4, 1000))
    >>> fit.alpha + fit.beta < 1 and fit.omega > 0
    True
    """
    finite = log_returns[np.isfinite(log_returns)]
    from arch import arch_model  # takes a second, and whoever only uses parameters does without

    scale = float(finite.std()) if finite.size else 0.0
    if finite.size < _LEAST or scale == 0.0:
        raise TooFewReturnsError(int(finite.size))
    found = arch_model(finite / scale, mean="Zero", vol="GARCH", p=1, q=1, rescale=False).fit(disp="off", show_warning=False).params
    return Garch(float(found["omega"]) * scale * scale, float(found["alpha[1]"]), float(found["beta[1]"]))
