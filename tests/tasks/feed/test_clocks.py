import math
import random

import pytest

from tasks.feed.clocks import Clock, Steady

SECOND = 1_000_000_000
MS = 1_000_000


def run(clock, late_ms, begin_s=0, step_s=0.5, n=20):
    """Feed a clock one least latency after the other; return the jumps and when each was told."""
    told = []
    for i, late in enumerate(late_ms):
        at_s = begin_s + i * step_s
        jump = clock.add(int(at_s * SECOND), int(late * MS), n)
        if jump:
            told.append((at_s, jump / MS))
    return told


def noisy(n, floor_ms, seed=1, scale_ms=4.0):
    rng = random.Random(seed)
    return [floor_ms + rng.expovariate(1 / scale_ms) for _ in range(n)]


@pytest.mark.parametrize("jump_ms", [500, -500, 120, -120])
def test_a_clock_that_is_set_is_told_once_and_by_how_much(jump_ms):
    late = noisy(120, 8.0) + noisy(120, 8.0 + jump_ms, seed=2)
    told = run(Clock(), late)
    assert len(told) == 1
    at_s, by_ms = told[0]
    assert 60.0 <= at_s <= 72.0
    assert by_ms == pytest.approx(jump_ms, abs=15.0)


def test_a_busy_network_is_no_clock():
    rng = random.Random(3)
    late = noisy(120, 8.0) + [rng.uniform(100.0, 3000.0) for _ in range(60)] + noisy(120, 8.0)
    assert not run(Clock(), late)


def test_offset_is_what_the_quickest_messages_say():
    clock = Clock()
    run(clock, noisy(120, -1270.0))  # our clock behind the venue's, as in captures of 2024-08
    assert clock.offset_ns / MS == pytest.approx(1270.0, abs=2.0)


def test_offset_follows_a_jump():
    clock = Clock()
    run(clock, noisy(120, 8.0) + noisy(60, 508.0))
    assert clock.offset_ns / MS == pytest.approx(-508.0, abs=3.0)


def test_drift_is_the_slope_of_the_floor():
    clock = Clock()
    run(clock, [10.0 + 0.02 * i + late for i, late in enumerate(noisy(2400, 0.0))], step_s=0.5)  # 20 minutes, 40 us a second
    assert clock.drift_ppm == pytest.approx(-40.0, rel=0.1)


def test_nothing_is_said_of_a_venue_that_says_nothing():
    clock = Clock()
    assert clock.add(SECOND, 0, 0) == 0
    assert math.isnan(clock.offset_ns)
    assert math.isnan(clock.drift_ppm)


def test_our_own_clock_being_set_is_seen_at_once_and_slewing_is_not():
    steady = Steady()
    steps = [steady.step(i * SECOND + i * 500_000, i * SECOND) for i in range(20)]  # slewed by 500 us a second
    assert steps == [0] * 20
    assert steady.step(20 * SECOND + 500 * MS, 20 * SECOND) > 400 * MS
    assert steady.step(21 * SECOND + 500 * MS, 21 * SECOND) == 0
