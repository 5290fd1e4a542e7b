"""Only one process at a time does a thing to a lake."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def alone(root: Path, name: str, patience_s: float = 0.0) -> Iterator[bool]:
    """Hold `name` within a lake; False where another process still holds it after `patience_s`.

    The kernel lets go when the holder dies, however it dies, and no server has to be up.
    """
    folder = root / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / f"{name}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    deadline = time.monotonic() + patience_s
    try:
        while not (first := _lock(descriptor)) and time.monotonic() < deadline:
            time.sleep(0.1)
        yield first
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
