"""Where compiled kernels are cached: a folder for each state of the sources.

Numba renews a cached kernel when its own file changes, not when a kernel that it calls does,
so after an edit or an upgrade old machine code would run under new sources.
"""

import os
import shutil
from hashlib import sha256
from pathlib import Path

from numba.core import config

ROOT = Path(__file__).resolve().parent
FOLDERS = ("tasks", "models", "simulator")
# What kernels take in as numbers.
CONSTANTS = ("warehouse/schema.py", *(f"tasks/features/{name}.py" for name in ("catalogue", "bar_catalogue", "cross_catalogue")))
_KEPT = 8  # states of the sources whose kernels stay: switching between branches is quick


def key_cache() -> Path:
    """Point Numba to the cache of these sources and return it; caches of older sources go.

    The folder is under NUMBA_CACHE_DIR, else `.numba` beside the sources, else the user's own
    cache where the sources cannot be written.
    """
    digest = sha256()
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        source = path.read_bytes()
        if b"numba" in source:
            digest.update(source)
    for name in CONSTANTS:
        digest.update((ROOT / name).read_bytes())
    name = f"kernels-{digest.hexdigest()[:16]}"
    if Path(config.CACHE_DIR).name == name:
        return Path(config.CACHE_DIR)
    base = Path(config.CACHE_DIR or (ROOT / ".numba" if os.access(ROOT, os.W_OK) else Path.home() / ".cache" / "tidebook"))
    base = base.parent if base.name.startswith("kernels-") else base
    folder = base / name
    folder.mkdir(parents=True, exist_ok=True)
    os.utime(folder)
    for old in sorted(base.glob("kernels-*"), key=_age)[_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    config.CACHE_DIR = str(folder)
    os.environ["NUMBA_CACHE_DIR"] = str(folder)  # for processes that this one starts
    return folder


def _age(folder: Path) -> float:
    try:
        return -folder.stat().st_mtime
    except FileNotFoundError:  # another process was quicker
        return 0.0
