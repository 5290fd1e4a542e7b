"""Install the peers of the benchmarks, each into a virtual environment of its own under `bench/.peers`.

The product never imports them.  A peer whose interpreter is missing, or whose installation
fails, is left out and said so; the benchmarks then run without it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE / ".peers"
# Interpreters that each peer accepts, first choice first.  The requirements were resolved for 3.13.
PEERS: dict[str, tuple[str, ...]] = {
    "cryptofeed": ("3.13",),
    "ccxt": ("3.13",),
    "nautilus": ("3.13",),
    "detectors": ("3.13",),
    "features": ("3.13",),
}


def find_python(version: str) -> str | None:
    """Return an interpreter that answers with this minor version, or None."""
    name = f"python{version}"
    candidates = [shutil.which(name)]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates += [str(path / "bin" / name) for path in sorted(pyenv.glob(f"{version}.*"))]
    if sys.version_info[:2] == tuple(int(part) for part in version.split(".")):
        candidates.append(sys.executable)
    for candidate in candidates:
        if candidate is None or not Path(candidate).exists():
            continue
        # A pyenv shim exists for versions that are not active: it must be run to be believed.
        answer = subprocess.run([candidate, "-V"], capture_output=True, text=True, check=False)
        if answer.returncode == 0 and answer.stdout.startswith(f"Python {version}."):
            return candidate
    return None


def room() -> Path:
    """Return the folder in which peers run: cryptofeed leaves a `feedhandler.log` wherever it is started."""
    ROOT.mkdir(exist_ok=True)
    return ROOT


def peer_python(name: str) -> Path | None:
    """Return the interpreter of an installed peer, or None if it is not installed."""
    python = ROOT / name / "bin" / "python"
    return python if python.exists() and (ROOT / name / "installed").exists() else None


def install(name: str) -> str | None:
    """Install one peer if it is not there in this version; return why not, or None."""
    pins = (HERE / "peers" / f"{name}.txt").read_text()
    home = ROOT / name
    mark = home / "installed"
    if mark.exists() and mark.read_text() == pins:
        return None
    python = next(filter(None, map(find_python, PEERS[name])), None)
    if python is None:
        return f"needs Python {' or '.join(PEERS[name])}, not found here"
    print(f"installing {name} into {home.relative_to(HERE.parent)} ...", flush=True)
    shutil.rmtree(home, ignore_errors=True)
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    pinned = ["--require-hashes", "--no-deps", "-r", str(HERE / "peers" / f"{name}.txt")]
    steps = ([python, "-m", "venv", str(home)], [*pip, *pinned])
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
            return f"could not be installed: {last[:160]}"
    mark.write_text(pins)
    return None


def install_all() -> dict[str, str]:
    """Install every peer; return the reasons of those that are missing, by name."""
    missing = {}
    for name in PEERS:
        reason = install(name)
        if reason is not None:
            missing[name] = reason
    return missing


if __name__ == "__main__":
    for peer, why in install_all().items():
        print(f"{peer}: {why}", file=sys.stderr)
