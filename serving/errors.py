"""Why the servers of a lake cannot run.

ServingError
├── AlreadyUpError     this lake is already served
├── PortInUseError     something else listens where a server should
├── ServerStartError   a server ended, or never answered
└── StoppedError       told to stop before everything was up; not a fault
"""

from pathlib import Path


class ServingError(Exception):
    """Something about the servers of a lake."""


class AlreadyUpError(ServingError):
    """Another process serves this lake."""

    def __init__(self, lake: Path):
        super().__init__(f"{lake} is already served by another `tidebook up`; end that one, or name another lake with --lake")


class PortInUseError(ServingError):
    """A port that a server needs is taken."""

    def __init__(self, name: str, port: int, setting: str):
        self.port = port
        super().__init__(f"{name} needs port {port}, which is in use; choose another with {setting}")


class ServerStartError(ServingError):
    """A server ended by itself or did not answer in time."""

    def __init__(self, name: str, what: str, log: Path):
        tail = log.read_text(errors="replace").splitlines()[-8:] if log.exists() else []
        super().__init__("\n".join([f"{name} {what}; the end of {log}:", *(f"    {line}" for line in tail)]))


class StoppedError(ServingError):
    """Told to stop while starting."""
