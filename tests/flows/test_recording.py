"""The standing flows against a simulated venue and a real Prefect server."""

import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from flows.settings import HOME, Settings
from tests.conftest import free_port
from warehouse.lake import Lake

pytestmark = pytest.mark.prefect
VENUE, SYMBOL = "binance_usdm", "BTC-USDT-PERP"
RUN = """
import asyncio, sys
from flows import recording
from flows.ingest import ingest
recording.PATIENCE_S = 2.0
print(repr(asyncio.run(ingest("binance_usdm", seconds=float(sys.argv[1]), return_state=True))))
"""


@pytest.fixture(scope="module")
def venue(served, tmp_path_factory):
    """A simulated venue, and settings that record it under the served Prefect."""
    lake = tmp_path_factory.mktemp("recorded")
    settings = Settings(
        lake=lake, streams=f"{VENUE}:{SYMBOL}", prefect_port=served.settings.prefect_port, simulator_port=free_port(), seal_s=1
    )
    (lake / "prefect").mkdir()
    simulate = [sys.executable, "-m", "serving.simulate"]
    process = subprocess.Popen(simulate, cwd=HOME, env=settings.environment(), stdout=subprocess.PIPE, text=True)
    assert VENUE in process.stdout.readline()
    depth = f"http://127.0.0.1:{settings.simulator_port}/fapi/v1/depth?symbol=BTCUSDT&limit=1000"
    urllib.request.urlopen(depth, timeout=120).close()  # its kernels are compiled
    yield settings
    process.terminate()
    process.wait(20)
    process.stdout.close()


def _ingest(settings, seconds):
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(seconds)],
        cwd=HOME, env=settings.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def _books(lake):
    return Lake(lake).sql("SELECT count(*) AS n, coalesce(max(seq), -1) AS last FROM l2_snapshots").to_pylist()[0]


def _grown(lake, rows, within_s=90.0):
    """Wait for `rows` more books and return how many there are then."""
    wanted, deadline = _books(lake)["n"] + rows, time.monotonic() + within_s
    while (now := _books(lake)["n"]) < wanted:
        assert time.monotonic() < deadline, f"{now} books, wanted {wanted}"
        time.sleep(0.3)
    return now


def test_a_run_records_shows_itself_and_asks_for_a_refresh(venue, served):
    process = _ingest(venue, 10)
    said, _ = process.communicate(timeout=120)
    assert "Completed" in said, said
    found = _books(venue.lake)
    assert found["n"] > 20, said
    assert found["last"] == found["n"] - 1
    shown = served.server.call("/artifacts/filter", {"artifacts": {"key": {"like_": "ingest-%"}}})
    assert {artifact["type"] for artifact in shown} == {"progress", "table"}
    refresh = served.server.deployments()["refresh/refresh"]["id"]
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        runs = served.server.call("/flow_runs/filter", {"deployments": {"id": {"any_": [refresh]}}})
        if any(run["parameters"].get("symbols") == [SYMBOL] for run in runs):
            return
        time.sleep(0.5)
    pytest.fail("a sealed partition started no refresh")


@pytest.mark.slow
def test_a_second_run_stands_back_and_sigterm_drains_the_first(venue):
    holder = _ingest(venue, 600)
    before = _grown(venue.lake, 1)
    second, _ = _ingest(venue, 5).communicate(timeout=120)
    assert "AlreadyRunning" in second, second
    holder.send_signal(signal.SIGTERM)
    said, _ = holder.communicate(timeout=60)
    assert "ended by SIGTERM" in said, said
    found = _books(venue.lake)
    assert found["n"] >= before
    assert found["last"] == found["n"] - 1


@pytest.mark.slow
def test_a_cancel_in_the_ui_is_obeyed_without_the_worker(venue, served):
    process = _ingest(venue, 600)
    _grown(venue.lake, 1)
    wanted = {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}, "flows": {"name": {"any_": ["ingest"]}}}
    running = served.server.call("/flow_runs/filter", wanted)
    assert len(running) == 1
    served.server.set_state(running[0], "CANCELLING", "by hand")
    said, _ = process.communicate(timeout=60)
    assert "ended by state Cancelling" in said, said
