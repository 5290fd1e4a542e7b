"""The contest itself is fair: our contestant and the naive book see the same capture and agree on it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import simulator

BENCH = Path(__file__).resolve().parents[2] / "bench"
NAIVE = """
import json, sys
import contest, naive
print(json.dumps(naive.replay(contest.load(sys.argv[2:], sys.argv[1]), float(sys.argv[1] == "binance_coinm") * 100.0)))
"""


def run(*arguments, ask=None):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(BENCH), str(BENCH / "peers"), str(BENCH.parent)])}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, input=ask, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(("venue", "symbol"), [("binance_spot", "BTCUSDT"), ("binance_usdm", "BTCUSDT"), ("binance_coinm", "BTCUSD_PERP")])
def test_our_contestant_reads_out_what_the_naive_book_holds(tmp_path, venue, symbol):
    capture = tmp_path / f"{venue}.gz"
    simulator.write_capture(capture, simulator.frames(venue, symbol, 10.0, 3))
    [right] = run("-c", NAIVE, venue, capture)
    checked, timed = run(BENCH / "ours_book.py", -1, venue, capture, ask="check all\nround depth\n")
    assert checked == right
    assert right["updates"] > 50
    assert timed["frames"] >= right["updates"]
    assert timed["seconds"] > 0.0


def test_a_missing_interpreter_is_told_not_guessed():
    [found] = run("-c", "import install, json; print(json.dumps(install.find_python('9.99')))")
    assert found is None


@pytest.mark.slow
def test_the_driver_measures_a_simulated_capture_and_finds_nothing_wrong(tmp_path):
    capture, out = tmp_path / "binance_usdm-made.gz", tmp_path / "out.json"
    simulator.write_capture(capture, simulator.frames("binance_usdm", "BTCUSDT", 60.0, 3))
    command = [sys.executable, str(BENCH / "run.py"), str(capture), "--rounds", "1", "--no-install", "--out", str(out)]
    done = subprocess.run([*command, "--only", "books,features,scorer,wire"], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr  # 1: this machine missed a budget
    assert out.exists(), done.stderr
    results = json.loads(out.read_text())["results"]
    assert len({result["section"] for result in results}) == 4
    assert not [result for result in results if "WRONG" in result["note"]]
