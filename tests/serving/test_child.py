import os
import subprocess
import sys
import time

import pytest

from flows.settings import Settings
from serving.child import Child, end_orphans
from serving.errors import ServerStartError

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
START_AND_DIE = """
import os, sys
from pathlib import Path
from flows.settings import Settings
from serving.child import Child
settings = Settings(lake=Path(sys.argv[1]))
for name in ("prefect", "worker"):
    print(Child(name, [sys.executable, "-c", "import time; time.sleep(60)"], settings).process.pid, flush=True)
os._exit(1)
"""


@pytest.fixture
def settings(tmp_path):
    settings = Settings(lake=tmp_path)
    (tmp_path / "locks").mkdir()
    settings.logs.mkdir()
    return settings


def test_a_child_ends_when_told(settings):
    child = Child("prefect", SLEEP, settings)
    child.check()
    child.end()
    assert child.process.returncode is not None


def test_a_child_that_ended_shows_its_last_words(settings):
    child = Child("prefect", [sys.executable, "-c", "print('no room'); raise SystemExit(3)"], settings)
    child.process.wait()
    with pytest.raises(ServerStartError, match=r"exit code 3(.|\n)*no room"):
        child.check()


def test_a_deaf_child_is_killed(settings):
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    child = Child("prefect", [sys.executable, "-c", deaf], settings)
    deadline = time.monotonic() + 10
    while child.log.read_text() != "up\n" and time.monotonic() < deadline:
        time.sleep(0.02)
    child.end(within_s=0.3)
    assert child.process.returncode == -9


def test_orphans_of_a_killed_launcher_are_found_and_ended(settings):
    launched = subprocess.run([sys.executable, "-c", START_AND_DIE, str(settings.lake)], capture_output=True, text=True, check=False)
    pids = [int(line) for line in launched.stdout.split()]
    assert all(os.getsid(pid) == pid for pid in pids)
    assert sorted(end_orphans(settings.lake)) == ["prefect", "worker"]
    assert end_orphans(settings.lake) == []


def test_without_orphans_nobody_is_killed(settings):
    bystander = subprocess.Popen(SLEEP, stdout=subprocess.DEVNULL, start_new_session=True)
    (settings.lake / "locks" / "servers.lock").write_text(f"prefect {bystander.pid}\n")
    assert end_orphans(settings.lake) == []
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()
