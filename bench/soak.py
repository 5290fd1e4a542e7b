"""Record faulty venues, kill the recorder, fill its disk, and hold every row of the lake against what the venues published.

    python bench/soak.py                     20 minutes, six venues, three symbols each
    python bench/soak.py --minutes 3
    python bench/soak.py --minutes 6 --symbols 1 --venues kraken,okx --faults corrupt=0.002,skew_ms=300

With faults of your own nothing is killed and no disk is full.

The venues are simulated and keep a ledger.  In every stretch that the lake calls good, each book and
each trade must be the ledger's, and none may be missing.
"""

import argparse
import json
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

from soak_judge import judge  # noqa: E402

from simulator.faults import FaultPlan  # noqa: E402
from simulator.listings import raw_symbols  # noqa: E402

HOME = Path(__file__).resolve().parents[1]
VENUES = ("binance_usdm", "bybit_linear", "coinbase_advanced", "kraken", "okx", "hyperliquid")
# Venues' clocks are off by SKEW_MS. A changed digit where there is no checksum cannot be seen from one frame: the judge bounds it.
SKEW_MS, WITNESS_S, SMALL_FILES = 300.0, 30.0, 64 << 10
FAULTS = (
    "drop=0.0005,duplicate=0.0005,reorder=0.0005,truncate=0.0005,corrupt={c},delay=0.0005,sequence=0.002,checksum=0.01,skew_ms={s},"
    "silent={t}s,half_open={t}s,close={t}s,restart={t}s,stale={r},limit={r},ban={b}"
)
# In the long run each at least 20 times in all.  A short one has rarer ones, lest no stretch be good for long: after a half-open
# connection or a kill some venues take half a minute to be heard again.
LONG = {"t": 210, "r": 0.2, "b": 0.04, "c": 0.0005, "s": SKEW_MS}
SHORT = {"t": 90, "r": 0.1, "b": 0.01, "c": 0.0003, "s": SKEW_MS}


def free_ports(n: int) -> int:
    """Return the first of n neighbouring free ports."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first = probe.getsockname()[1]
        with suppress(OSError):
            for port in range(first, first + n):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return first


def soak(
    folder: Path,
    minutes: float,
    venues: tuple[str, ...] = VENUES,
    symbols: int = 3,
    kills: int = 2,
    full: bool = True,
    seed: int = 1,
    mount: bool = True,
    faults: str = "",
) -> None:
    """Run venues and recorder with everything going wrong; leave ledger and lake in `folder`."""
    port, seconds = free_ports(len(venues)), minutes * 60.0
    plan = faults or FAULTS.format(**(LONG if minutes >= 10.0 else SHORT))
    named = {venue: list(raw_symbols(venue, symbols)) for venue in venues}
    lake = folder / "lake"
    lake.mkdir(parents=True)
    mounted = (
        full
        and mount
        and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600m", "tmpfs", str(lake)], capture_output=True).returncode == 0
    )
    simulate = [
        sys.executable,
        "-c",
        "import cli; cli.main()",
        "simulate",
        "--venues",
        ",".join(venues),
        "--symbols",
        str(symbols),
        "--port",
        str(port),
    ]
    simulate += ["--faults", plan, "--ledger", str(folder / "ledger"), "--seed", str(seed)]
    run = [sys.executable, "bench/soak_run.py", str(folder), "--lake", str(lake), "--port", str(port), "--symbols", json.dumps(named)]
    run += ["--witness-s", str(WITNESS_S)]
    said = (folder / "said.log").open("ab")
    venue_process = subprocess.Popen(simulate, cwd=HOME, stdout=said, stderr=said)
    recorder = None
    try:
        for offset in range(len(venues)):
            _wait_for(port + offset, venue_process)
        recorder = subprocess.Popen(run, cwd=HOME, stdout=said, stderr=said)
        events = [(seconds * (i + 1) / (kills + 1.5), "kill") for i in range(kills)] + ([(seconds * 0.85, "fill")] if full else [])
        began = time.monotonic()
        for at, event in sorted(events):
            _sleep_until(began + at, recorder, venue_process)
            print(f"{time.monotonic() - began:6.0f} s  {event}", flush=True)
            if event == "kill":
                recorder.kill()
                recorder.wait()
                recorder = subprocess.Popen(run, cwd=HOME, stdout=said, stderr=said)
            else:
                since_ns, by = time.time_ns(), "a tmpfs" if mounted else "a limit on the size of files"
                print(
                    f"         the disk is made full by {by}{'' if mounted or not mount else ', for nothing may be mounted here'}",
                    flush=True,
                )
                free = _fill(lake / "filler") if mounted else _limit(recorder.pid)
                _sleep_until(time.monotonic() + min(6.0, seconds / 20.0), recorder, venue_process)
                free()
                (folder / "full.json").write_text(json.dumps({"by": by, "span_ns": [since_ns - 10**9, time.time_ns() + 10**9]}))
        _sleep_until(began + seconds, recorder, venue_process)
        recorder.send_signal(signal.SIGTERM)
        stopped = time.monotonic()
        assert recorder.wait(60) == 0, f"the recorder ended badly, see {folder / 'said.log'}"
        print(f"stopped and sealed in {time.monotonic() - stopped:.1f} s", flush=True)
        venue_process.send_signal(signal.SIGTERM)
        venue_process.wait(30)
    finally:
        for process in (recorder, venue_process):
            if process is not None and process.poll() is None:
                process.kill()
        if mounted:
            shutil.copytree(lake, folder / "kept", ignore=shutil.ignore_patterns("filler"))
            subprocess.run(["umount", "-l", str(lake)], check=True)
            shutil.rmtree(lake)
            (folder / "kept").rename(lake)


def _fill(filler: Path) -> Callable[[], None]:
    with suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(b"\0" * (1 << 20))
    return filler.unlink


def _limit(pid: int) -> Callable[[], None]:
    # Where no file may grow beyond this, segments and Parquet files fail as on a full disk.
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (SMALL_FILES, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    return lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE, before) and None


def _wait_for(port: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.2)
    raise RuntimeError("the simulated venues did not open")


def _sleep_until(moment: float, *processes: subprocess.Popen) -> None:
    while (left := moment - time.monotonic()) > 0:
        for process in processes:
            if process.poll() is not None:
                raise RuntimeError(f"{process.args[:3]} ended by itself with {process.returncode}")
        time.sleep(min(0.5, left))


def main() -> None:
    """Run and judge; exit code 1 on a finding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--symbols", type=int, default=3)
    parser.add_argument("--venues", default=",".join(VENUES))
    parser.add_argument("--faults", default="", help="only these, as `tidebook simulate` takes them")
    parser.add_argument("--folder", type=Path, help="keep ledger and lake there")
    parser.add_argument(
        "--no-mount", action="store_true", help="make the disk full by a limit on the size of files, as where nothing may be mounted"
    )
    parser.add_argument("--judge", action="store_true", help="only judge what is in the folder")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    venues, skew_ms = tuple(given.venues.split(",")), FaultPlan.parse(given.faults).skew_ms if given.faults else SKEW_MS
    if not given.judge:
        kills, full = (0, False) if given.faults else (2, True)
        soak(folder, given.minutes, venues, given.symbols, kills, full, mount=not given.no_mount, faults=given.faults)
    problems = judge(folder, venues, given.symbols, WITNESS_S, skew_ms)
    print("\n".join(problems) or "every good row is the venue's own, and none is missing")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
