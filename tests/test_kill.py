"""Kill -9 at random moments, start again: the lake is what an uninterrupted run leaves."""

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from simulator import frames, write_capture
from warehouse.lake import Lake

ROOT = Path(__file__).resolve().parents[1]
VENUE, SYMBOL = "binance_usdm", "BTC-USDT-PERP"
TABLES = ("l2_snapshots", "trades", "coverage_changes")


def _replay(capture, lake, *more):
    words = ["replay", str(capture), "--venue", VENUE, "--lake", str(lake), "--quiet", *more]
    command = [sys.executable, "-c", "from cli import main; main()", *words]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _run(capture, lake, *more):
    process = _replay(capture, lake, *more)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said.decode()[-2000:]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    capture = folder / "capture.zst"
    write_capture(capture, frames(VENUE, "BTCUSDT", 200.0, seed=9))
    began = time.monotonic()
    _run(capture, folder / "lake")
    return capture, {table: Lake(folder / "lake").rows(table, VENUE, SYMBOL) for table in TABLES}, time.monotonic() - began


def _same(lake, expected):
    for table, rows in expected.items():
        found = Lake(lake).rows(table, VENUE, SYMBOL)
        assert found.tobytes() == rows.tobytes(), f"{table}: {found.size} rows, {rows.size} in an uninterrupted run"


def _acknowledged(lake, last, within_s=120.0):
    """Wait for a row after `last`."""
    deadline = time.monotonic() + within_s
    while not lake.exists() or Lake(lake).watermark("l2_snapshots", VENUE, SYMBOL) <= last:
        assert time.monotonic() < deadline, f"no row after {last} was acknowledged"
        time.sleep(0.05)


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.timeout(600)
def test_a_replay_killed_at_random_moments_leaves_what_an_uninterrupted_one_does(whole, tmp_path, kills):
    capture, expected, took_s = whole
    chance = random.Random(kills)
    seen = []
    for _ in range(kills):
        process = _replay(capture, tmp_path / "lake")
        time.sleep(chance.uniform(0.4, 1.0) * took_s)
        process.kill()
        process.communicate()
        if (tmp_path / "lake").exists():
            seen.append(Lake(tmp_path / "lake").watermark("l2_snapshots", VENUE, SYMBOL))
    assert seen == sorted(seen), "acknowledged rows went away"
    _run(capture, tmp_path / "lake")
    _same(tmp_path / "lake", expected)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_paced_replay_killed_in_the_middle_keeps_each_acknowledged_row(whole, tmp_path):
    capture, expected, _ = whole
    chance, last = random.Random(1), -1
    for _ in range(3):
        process = _replay(capture, tmp_path / "lake", "--speed", "30")
        _acknowledged(tmp_path / "lake", last)
        time.sleep(chance.uniform(0.0, 1.5))
        process.kill()
        process.communicate()
        rows = Lake(tmp_path / "lake").rows("l2_snapshots", VENUE, SYMBOL)
        assert rows.size - 1 > last, "acknowledged rows went away"
        np.testing.assert_array_equal(rows["seq"], np.arange(rows.size))
        last = rows.size - 1
    _run(capture, tmp_path / "lake")
    _same(tmp_path / "lake", expected)
