import signal
import subprocess
import sys
import time

from flows.alone import alone

HOLD = """
import sys, time
from pathlib import Path
from flows.alone import alone
with alone(Path(sys.argv[1]), "a") as first:
    print(first, flush=True)
    time.sleep(60)
"""


def _holder(lake):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(lake)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "True\n"
    return process


def test_second_holder_is_refused_until_the_first_lets_go(tmp_path):
    with alone(tmp_path, "a") as first:
        assert first
        with alone(tmp_path, "a") as second:
            assert not second
        with alone(tmp_path, "b") as other:
            assert other
    with alone(tmp_path, "a") as first:
        assert first


def test_a_killed_holder_lets_go(tmp_path):
    holder = _holder(tmp_path)
    with alone(tmp_path, "a") as first:
        assert not first
    holder.send_signal(signal.SIGKILL)
    with alone(tmp_path, "a", patience_s=10.0) as first:
        assert first
    holder.wait()
    holder.stdout.close()


def test_patience_ends(tmp_path):
    with alone(tmp_path, "a"):
        began = time.monotonic()
        with alone(tmp_path, "a", patience_s=0.3) as second:
            assert not second
        assert 0.2 < time.monotonic() - began < 5.0
