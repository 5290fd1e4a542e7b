import numpy as np
import pytest
from arch import arch_model

from models.garch import TooFewReturnsError, fit_garch


def simulated(omega, alpha, beta, n=4000, seed=0):
    rng, variance, out = np.random.default_rng(seed), omega / (1 - alpha - beta), []
    for shock in rng.normal(size=n):
        out.append(np.sqrt(variance) * shock)
        variance = omega + alpha * out[-1] ** 2 + beta * variance
    return np.array(out)


def test_the_fit_finds_the_parameters_that_made_the_returns():
    fit = fit_garch(simulated(2e-8, 0.08, 0.9))
    assert fit.alpha == pytest.approx(0.08, abs=0.03)
    assert fit.beta == pytest.approx(0.9, abs=0.05)
    assert fit.omega / (1 - fit.alpha - fit.beta) == pytest.approx(1e-6, rel=0.3)


def test_the_recursion_is_the_librarys():
    log = simulated(2e-8, 0.08, 0.9, n=600)
    fit = fit_garch(log)
    scale = log.std()
    theirs = arch_model(log / scale, mean="Zero", vol="GARCH", p=1, q=1, rescale=False).fit(disp="off")
    variance, ours = (theirs.conditional_volatility[0] * scale) ** 2, []
    for r in log:
        ours.append(np.sqrt(variance))
        variance = fit.omega + fit.alpha * r * r + fit.beta * variance
    np.testing.assert_allclose(ours, theirs.conditional_volatility * scale, rtol=1e-6)


def test_the_scale_of_prices_does_not_matter_and_the_name_tells_fits_apart():
    log = simulated(2e-8, 0.08, 0.9)
    one, other = fit_garch(log), fit_garch(log * 100)
    assert other.alpha == pytest.approx(one.alpha, abs=1e-4)
    assert other.omega == pytest.approx(one.omega * 1e4, rel=1e-3)
    assert one.id == fit_garch(log.copy()).id != other.id


def test_too_few_returns_are_refused():
    with pytest.raises(TooFewReturnsError, match="at least 250"):
        fit_garch(np.full(300, np.nan))
    with pytest.raises(TooFewReturnsError):
        fit_garch(np.zeros(400))
