"""Three minutes of everything going wrong at once; `python bench/soak.py` is the long one."""

import importlib.util
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]
PATH = Path(__file__).parents[1] / "bench" / "soak.py"
SYMBOLS = 2  # a venue: another test may need the other core


def test_every_good_row_is_the_venues_own_and_none_is_missing(tmp_path):
    spec = importlib.util.spec_from_file_location("soak", PATH)
    soak = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(soak)
    soak.soak(tmp_path, 3.0, symbols=SYMBOLS)
    assert soak.judge(tmp_path, soak.VENUES, SYMBOLS, soak.WITNESS_S, soak.SKEW_MS) == []
