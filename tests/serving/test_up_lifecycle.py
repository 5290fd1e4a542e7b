"""`tidebook up` from start to end, and what a kill leaves."""

import os
import signal
import time

import pytest

from flows.settings import Settings
from serving.up import _children_of
from tests.conftest import free_port, serve
from warehouse.lake import Lake

pytestmark = [pytest.mark.prefect, pytest.mark.slow]


@pytest.fixture
def settings(tmp_path):
    ports = {"prefect_port": free_port(), "mlflow_port": free_port(), "simulator_port": free_port()}
    return Settings(lake=tmp_path / "lake", score=False, seal_s=2, **ports)


def _pid(settings, name):
    lines = (settings.lake / "locks" / "servers.lock").read_text().splitlines()
    return int(next(line.split()[1] for line in reversed(lines) if line.startswith(f"{name} ")))


def _books(settings):
    return Lake(settings.lake).sql("SELECT count(*) AS n, coalesce(max(seq), -1) + 1 AS numbered FROM l2_snapshots").to_pylist()[0]


def _grown(settings, rows=20, within_s=120.0):
    wanted, deadline = _books(settings)["n"] + rows, time.monotonic() + within_s
    while _books(settings)["n"] < wanted:
        assert time.monotonic() < deadline, (settings.logs / "worker.log").read_text()
        time.sleep(0.5)


def _answers(served, within_s=60.0):
    deadline = time.monotonic() + within_s
    while not served.server.answers():
        assert time.monotonic() < deadline, "the Prefect server does not answer"
        time.sleep(0.5)


def _is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.timeout(600)
def test_recording_outlives_its_server_its_crash_and_its_launcher_and_ends_on_sigterm(settings):
    """One life, for each start takes a third of a minute: what is killed at any moment is healed, and no row is lost or doubled."""
    served = serve(settings)
    try:
        served.wait_for("ready:")
        _grown(settings)
        os.killpg(_pid(settings, "prefect"), signal.SIGKILL)
        served.wait_for("prefect ended with exit code -9 and is started again")
        _grown(settings, rows=100)
        _answers(served)
        assert served.server.runs(["RUNNING"]), "the recording is no longer known"

        for pid in _children_of(_pid(settings, "worker")):
            os.kill(pid, signal.SIGKILL)
        served.wait_for("ended unasked and is started again")
        _grown(settings)
    finally:
        served.process.send_signal(signal.SIGKILL)
        served.process.wait()
    held = _books(settings)
    again = serve(settings)
    try:
        again.wait_for("ready:")
        assert "an earlier tidebook was killed" in again.said.read_text()
        assert "is marked as crashed" in again.said.read_text()
        _grown(settings)
        pids = [_pid(settings, name) for name in ("prefect", "mlflow", "worker", "simulator")]
        assert all(map(_is_alive, pids))
    finally:
        code = again.stop()
    assert code == 0, again.said.read_text()
    assert "stopped" in again.said.read_text()
    assert "did not drain" not in again.said.read_text()
    assert not any(map(_is_alive, pids))
    found = _books(settings)
    assert found["n"] == found["numbered"] > held["n"]
