"""The bench of the live process and that of its memory run to their end on whatever the simulator serves now."""

import sys
from pathlib import Path

import numpy as np
import pytest

from models import booster
from tasks.features.catalogue import SETS

sys.path.append(str(Path(__file__).resolve().parents[2] / "bench"))
import memory
import process

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model_text():
    """Return a booster of five trees over noise."""
    rng, names = np.random.default_rng(3), list(SETS["l2_core"][:4])
    return booster.train(rng.normal(size=(400, 4)), rng.random(400) > 0.5, names, n_trees=5).model_to_string()


def test_the_live_process_is_timed_over_real_sockets(model_text):
    told = process.run(0, model_text, 10.0, 3.0)
    assert told["frames"] > 100
    assert told["scores"] > 0
    assert told["gaps"] == 0
    assert 0.0 < told["latency"]["p50_us"] <= told["latency"]["p99_us"]


def test_memory_is_followed_over_market_time(model_text):
    late, growth = memory.measure(model_text, 1.05)
    assert late.value > 50.0
    assert growth.kept is not None
