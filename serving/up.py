"""`tidebook up`: Prefect server, worker, deployments and MLflow for one lake, with one command.

Order matters.  Up: server, what a dead worker left behind, worker, deployments, first runs.
Down: no new runs, running flows drain, then the worker (a worker that stops kills its flows
without a word), then the servers.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from flows.alone import alone
from flows.settings import LOOPBACK, POOL, Settings
from serving import deployments
from serving.child import Child, end_orphans
from serving.errors import AlreadyUpError, PortInUseError, ServerStartError, ServingError, StoppedError
from serving.prefect_api import UNFINISHED, PrefectServer
from serving.revive import Revival

START_S = 120.0  # a cold database on a busy machine takes a fifth of this
ASK_S = 3.0
FREE_S = 10.0  # a server that was just ended lets go of its port
AGAIN, FORGET_S = 5, 600.0  # servers that may end by themselves within this time
AT_ONCE = 8  # flows the worker runs beside the standing ones, which are two a venue
COMPILE = "from serving.warm import compile_kernels; compile_kernels()"
PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]


def up(settings: Settings, say: Callable[[str], None] = print, start_runs: bool = True) -> int:
    """Serve one lake until told to stop; return the exit code.

    Parameters
    ----------
    settings : Settings
        Lake, ports, streams.
    say : callable
        Takes one line at a time of what is going on.
    start_runs : bool
        Start recording and scoring at once instead of at their next schedule.
    """
    began = time.monotonic()
    children: list[Child] = []
    server = PrefectServer(settings.prefect_url)

    def report(text: str) -> None:
        say(f"[{time.monotonic() - began:5.1f}s] {text}")

    with _told_to_stop() as told, alone(settings.lake, "up") as first:
        try:
            if not first:
                raise AlreadyUpError(settings.lake)
            if orphans := end_orphans(settings.lake):
                report(f"an earlier tidebook was killed; what it left running is ended: {', '.join(orphans)}")
            wanted = _start(settings, server, children, told, report, start_runs)
            # A server that hangs must not keep us from a signal.
            revival = Revival(PrefectServer(settings.prefect_url, ASK_S), wanted if start_runs else [], time.monotonic())
            _keep_up(settings, children, told, report, revival)
            code = 0
        except StoppedError:
            code = 0
        except (ServingError, OSError) as error:
            report(f"error: {error}")
            code = 1
        finally:
            if children:
                _stop(settings, server, children, told, report)
    return code


def _start(
    settings: Settings, server: PrefectServer, children: list[Child], told: list[int], report: Callable[[str], None], start_runs: bool
) -> list[dict]:
    """Start everything, in order, and return the deployments to keep running; `children` grows meanwhile: a failure stops them all."""
    for folder in (settings.prefect_home, settings.logs, settings.artifacts):
        folder.mkdir(parents=True, exist_ok=True)
    _require_free("the Prefect server", settings.prefect_port, "TIDEBOOK_PREFECT_PORT")
    _require_free("MLflow", settings.mlflow_port, "TIDEBOOK_MLFLOW_PORT")
    if settings.simulator_port:
        _require_free("the simulator", settings.simulator_port, "TIDEBOOK_SIMULATOR_PORT")
        children.append(Child("simulator", [sys.executable, "-m", "serving.simulate"], settings))
    # A recorder that compiles while its socket fills would begin a minute late.
    with _job("kernels", [sys.executable, "-c", COMPILE], settings) as kernels:
        wanted = _start_servers(settings, server, children, told, report)
        if kernels.process.poll() is None:
            report("compiling kernels, once for each state of the sources")
        _finish(kernels, children, told)
    if start_runs:
        for deployment in wanted:
            server.start(deployment)
    report(f"ready: {len(server.deployments())} deployments, lake {settings.lake}, logs {settings.logs}; Ctrl-C stops everything")
    return wanted


def _start_servers(
    settings: Settings, server: PrefectServer, children: list[Child], told: list[int], report: Callable[[str], None]
) -> list[dict]:
    """Start Prefect, MLflow and the worker; return the deployments of standing flows that are wanted."""
    children.append(Child("prefect", [*PREFECT, "server", "start"], settings))
    children.append(Child("mlflow", _mlflow_command(settings), settings))
    _wait(server.answers, children, told, children[-2])
    report(f"Prefect  {settings.prefect_url}")
    _leave_the_past(server, report)
    limit = AT_ONCE + 2 * len(settings.streams)
    worker = [*PREFECT, "worker", "start", "--pool", POOL, "--type", "process", "--limit", str(limit), "--install-policy", "never"]
    children.append(Child("worker", worker, settings))
    _wait(lambda: server.answers(f"/work_pools/{POOL}"), children, told, children[-1])
    server.pause_pool(False)
    chosen = [word for name in deployments.names(settings) for word in ("-n", name)]
    with _job("deploy", [*PREFECT, "deploy", *chosen], settings) as deploy:
        _finish(deploy, children, told)
    wanted = deployments.match_schedules(settings, server)
    _wait(lambda: _reads(f"{settings.mlflow_url}/health"), children, told, children[-2])  # flows must not race its migrations
    report(f"MLflow   {settings.mlflow_url}")
    return wanted


def _keep_up(settings: Settings, children: list[Child], told: list[int], report: Callable[[str], None], revival: Revival) -> None:
    """Start anew a server or a standing flow that ends unasked; recordings outlive a server.  Raise when one keeps ending."""
    ended: list[float] = []
    while not told:
        for i, child in enumerate(children):
            if child.process.poll() is None:
                continue
            ended = [at for at in ended if time.monotonic() - at < FORGET_S] + [time.monotonic()]
            if len(ended) > AGAIN:
                child.check()
            report(f"{child.name} ended with exit code {child.process.returncode} and is started again; see {child.log}.1")
            children[i] = Child(child.name, child.command, settings)
        for name in revival.look():
            report(f"{name} ended unasked and is started again")
        time.sleep(0.3)


@contextmanager
def _job(name: str, command: list[str], settings: Settings) -> Iterator[Child]:
    """Run something that ends by itself; it does not outlive the block."""
    job = Child(name, command, settings)
    try:
        yield job
    finally:
        job.end()


def _finish(job: Child, children: list[Child], told: list[int]) -> None:
    _wait(lambda: job.process.poll() is not None, children, told, job)
    if job.process.returncode:
        job.check()


def _stop(settings: Settings, server: PrefectServer, children: list[Child], told: list[int], report: Callable[[str], None]) -> None:
    """Drain flows, then end worker, MLflow and server; a second signal skips the draining."""
    again = len(told) + 1
    try:
        server.pause_pool(True)
        for run in (runs := server.runs(UNFINISHED)):
            # A run that has not begun has nothing to drain, and the worker takes half a minute to say so.
            began = run["state_type"] != "PENDING"
            server.set_state(run, "CANCELLING" if began else "CANCELLED", "tidebook is stopping", force=not began)
        if runs:
            report(f"stopping: {len(runs)} flows drain for at most {settings.drain_s:g} s; Ctrl-C again to stop at once")
        deadline = time.monotonic() + settings.drain_s
        while runs and time.monotonic() < deadline and len(told) < again:
            time.sleep(0.2)
            runs = server.runs(UNFINISHED)
        for run in runs:
            server.set_state(run, "CRASHED", "ended before it had drained", force=True)
            report(f"{run['name']} did not drain")
    except OSError as error:
        report(f"the Prefect server does not answer ({error}): flows are told to end directly")
        _end_flows(children, settings.drain_s)
    by_name = {child.name: child for child in children}
    for name, number in (("worker", signal.SIGINT), ("simulator", signal.SIGINT), ("mlflow", signal.SIGTERM), ("prefect", signal.SIGINT)):
        if name in by_name:
            by_name[name].end(number)
    report("stopped")


def _leave_the_past(server: PrefectServer, report: Callable[[str], None]) -> None:
    """Close runs whose process is gone, and missed runs but the newest of each deployment."""
    for run in server.runs(UNFINISHED):
        server.set_state(run, "CRASHED", "its process was gone when tidebook started", force=True)
        report(f"{run['name']} was left behind and is marked as crashed")
    now = datetime.now(UTC).isoformat()
    kept: set[str] = set()
    for run in server.runs(["SCHEDULED"]):
        if (run["expected_start_time"] or now) < now:
            if run["deployment_id"] in kept:
                server.set_state(run, "CANCELLED", "missed while tidebook was down", force=True)
            kept.add(run["deployment_id"])


def _end_flows(children: list[Child], within_s: float) -> None:
    """Send SIGTERM to the flow processes below the worker and wait for them."""
    worker = next((child for child in children if child.name == "worker"), None)
    if worker is None:
        return
    deadline = time.monotonic() + within_s
    for pid in _children_of(worker.process.pid):
        os.kill(pid, signal.SIGTERM)
    while _children_of(worker.process.pid) and time.monotonic() < deadline:
        time.sleep(0.2)


def _children_of(parent: int) -> list[int]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=False).stdout
    rows = (line.split() for line in listed.splitlines())
    return [int(pid) for pid, above, state in rows if int(above) == parent and not state.startswith("Z")]


def _mlflow_command(settings: Settings) -> list[str]:
    return [
        *(sys.executable, "-m", "mlflow", "server", "--backend-store-uri", settings.tracking_uri),
        *("--default-artifact-root", settings.artifacts.as_uri()),
        *("--host", LOOPBACK, "--port", str(settings.mlflow_port), "--workers", "1"),
    ]


def _require_free(name: str, port: int, setting: str) -> None:
    deadline = time.monotonic() + FREE_S
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise PortInUseError(name, port, setting) from None
        time.sleep(0.2)


def _wait(done: Callable[[], bool], children: list[Child], told: list[int], whom: Child) -> None:
    deadline = time.monotonic() + START_S
    while not done():
        if told:
            raise StoppedError
        for child in children:
            child.check()
        if time.monotonic() > deadline:
            raise ServerStartError(whom.name, f"did not answer within {START_S:g} s", whom.log)
        time.sleep(0.1)


def _reads(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2):
            return True
    except OSError:
        return False


@contextmanager
def _told_to_stop() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM.  A shell's `&` leaves SIGINT ignored, and children would inherit that."""
    told: list[int] = []
    before = {number: signal.signal(number, lambda number, _: told.append(number)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
