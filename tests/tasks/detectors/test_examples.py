import doctest
from importlib import import_module

import pytest

MODULES = ("baseline", "bocpd", "burst", "cusum", "divergence", "elementary", "ensemble", "fold", "spectral_residual", "state")


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_the_words_hold(name):
    assert doctest.testmod(import_module(f"tasks.detectors.{name}")).failed == 0
