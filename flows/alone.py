"""Only one process at a time does a thing to a lake."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def alone(root: Path, name: str) -> Iterator[bool]:
    """Hold `name` within a lake; False where another process holds it.

    The kernel lets go when the holder dies, however it dies, and no server has to be up.
    """
    folder = root / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / f"{name}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        first = True
    except BlockingIOError:
        first = False
    try:
        yield first
    finally:
        os.close(descriptor)
