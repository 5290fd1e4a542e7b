"""Server processes of ours: started so that no terminal reaches them, found again after a kill."""

import fcntl
import os
import signal
import subprocess
import time
from pathlib import Path

from flows.settings import HOME, Settings
from serving.errors import ServerStartError

STOP_S = 15.0  # for a server that was told to end


class Child:
    """A process in its own session, so that a Ctrl-C at the terminal does not reach it.

    It inherits a lock in the lake, and holds it for as long as it lives, whatever becomes of us.
    """

    def __init__(self, name: str, command: list[str], settings: Settings):
        self.name, self.command, self.log = name, command, settings.logs / f"{name}.log"
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.1"))
        lock = os.open(_lock(settings.lake), os.O_CREAT | os.O_RDWR, 0o644)
        fcntl.flock(lock, fcntl.LOCK_SH)
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                command, env=settings.environment(), cwd=HOME, start_new_session=True, pass_fds=[lock],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )  # fmt: skip
        os.close(lock)
        with _lock(settings.lake).open("a") as pids:
            pids.write(f"{name} {self.process.pid}\n")

    def check(self) -> None:
        """Raise if the process is gone."""
        if self.process.poll() is not None:
            raise ServerStartError(self.name, f"ended with exit code {self.process.returncode}", self.log)

    def end(self, number: int = signal.SIGINT, within_s: float = STOP_S) -> None:
        """Tell the process to end; kill what is left of its session after a while."""
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(within_s)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


def end_orphans(lake: Path, within_s: float = STOP_S) -> list[str]:
    """Kill the servers that a killed `tidebook up` left behind; return their names.

    Flows are left to themselves: they find out that their run was closed and end in order.
    """
    path = _lock(lake)
    path.touch()
    killed: list[str] = []
    with path.open("r+") as lock:
        deadline = time.monotonic() + within_s
        while not _is_free(lock.fileno()) and time.monotonic() < deadline:
            for name, pid in (line.split() for line in path.read_text().splitlines()):
                # Every child leads its own session: a number used again hardly ever does.
                if name not in killed and _leads_a_session(int(pid)):
                    # A worker's group holds its flows, a server's group only itself.
                    (os.kill if name == "worker" else os.killpg)(int(pid), signal.SIGKILL)
                    killed.append(name)
            time.sleep(0.1)
        lock.truncate(0)
    return killed


def running(lake: Path) -> list[str]:
    """Return the names of the servers and flows' worker that live for a lake now."""
    path = _lock(lake)
    if not path.is_file():
        return []
    with path.open("r+") as lock:
        return [] if _is_free(lock.fileno()) else [line.split()[0] for line in path.read_text().splitlines()] or ["unknown"]


def _lock(lake: Path) -> Path:
    return lake / "locks" / "servers.lock"


def _is_free(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _leads_a_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False
