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
