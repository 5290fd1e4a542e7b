"""Servers that several tests look at: started once, by the command that users start them with."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers share the cores: threads that wait for each other spin

from flows.settings import HOME, Settings
from serving.prefect_api import PrefectServer

UP = """
import sys
from flows.settings import Settings
from serving.up import up
sys.exit(up(Settings(), say=lambda line: print(line, flush=True)))
"""
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


# These begin first, or all wait for one at the end.  The soak mostly waits for its market: it has a worker of its own, with what
# comes fourth behind it.
LONG = ("test_soak.py", "prefect", "test_golden.py", "test_books.py", "test_kill.py", "test_seal.py", "test_train.py")


@pytest.hookimpl(tryfirst=True)  # the workers read the groups in a hook of the same name
def pytest_collection_modifyitems(items):
    """Keep the tests of a file on one worker, and all that start Prefect servers on one: two sets of servers starve each other."""
    groups = {item: "prefect" if item.get_closest_marker("prefect") else item.path.name for item in items}
    items.sort(key=lambda item: LONG.index(groups[item]) if groups[item] in LONG else len(LONG))
    for item in items:
        item.add_marker(pytest.mark.xdist_group(groups[item]))


def free_port():
    """Return a free port below those that outgoing connections are given: one of these could take it before the server does."""
    while True:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", random.randint(15_000, 30_000)))
            return probe.getsockname()[1]


@dataclass
class Served:
    """A lake that `tidebook up` serves in a process of its own."""

    settings: Settings
    process: subprocess.Popen
    said: Path

    @property
    def server(self) -> PrefectServer:
        return PrefectServer(self.settings.prefect_url, timeout_s=60.0)  # SQLite on a machine that tests keep busy

    def wait_for(self, text, within_s=120.0):
        deadline = time.monotonic() + within_s
        while text not in self.said.read_text():
            assert self.process.poll() is None or text in self.said.read_text(), self.said.read_text()
            assert time.monotonic() < deadline, self.said.read_text()
            time.sleep(0.1)

    def finished(self, run, within_s=60.0):
        """Return the final state of a run."""
        deadline = time.monotonic() + within_s
        while (state := self.server.call(f"/flow_runs/{run['id']}")["state"])["type"] not in FINAL:
            assert time.monotonic() < deadline, f"{state}\n{(self.settings.logs / 'worker.log').read_text()}"
            time.sleep(0.2)
        return state

    def stop(self, number=signal.SIGTERM, within_s=90.0):
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(within_s)


def serve(settings):
    """Start `tidebook up` and return at once."""
    said = settings.lake / "up.log"
    said.parent.mkdir(parents=True, exist_ok=True)
    with said.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-c", UP], cwd=HOME, env=settings.environment(), stdout=out, stderr=out)
    return Served(settings, process, said)


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """A lake without streams, served: schedules and deployments, but no recording."""
    lake = tmp_path_factory.mktemp("served")
    served = serve(Settings(lake=lake, streams={}, prefect_port=free_port(), mlflow_port=free_port()))
    try:
        served.wait_for("ready:")
        yield served
    finally:
        served.stop()
