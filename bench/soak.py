"""Record faulty venues, kill the recorder, fill its disk, and hold every row of the lake against what the venues published.

    python bench/soak.py                     20 minutes, six venues, three symbols each
    python bench/soak.py --minutes 3

The venues are simulated and keep a ledger.  In every stretch that the lake calls good, each book and
each trade must be the ledger's, and none may be missing.
"""

import argparse
import csv
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from simulator import ledger  # noqa: E402
from simulator.listings import raw_symbols  # noqa: E402
from tasks.venues.directory import canonical_symbol  # noqa: E402
from warehouse.lake import Lake  # noqa: E402

HOME = Path(__file__).resolve().parents[1]
VENUES = ("binance_usdm", "bybit_linear", "coinbase_advanced", "kraken", "okx", "hyperliquid")
# A changed digit where there is no checksum cannot be seen from one frame: only Kraken's are changed.
SHOWN = (
    "drop={p},duplicate={p},reorder={p},truncate={p},delay={p},sequence={q},checksum={q},silent={t}s,half_open={t}s,close={t}s,"
    "restart={t}s,stale=0.3,limit=0.2"
)
UNNUMBERED = ("bybit_linear", "hyperliquid", "okx", "coinbase_advanced", "kraken")  # venues whose lost trades no number shows
# Books without numbers: a lost one makes the book older until the next, and a checksum of the next says nothing of it.
UNSEEN = ("hyperliquid", "kraken")
MARGIN_NS = 1_500_000_000  # of exchange time around a doubtful stretch that is not compared


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
    folder: Path, minutes: float, venues: tuple[str, ...] = VENUES, symbols: int = 3, kills: int = 2, full: bool = True, seed: int = 1
) -> None:
    """Run venues and recorder with everything going wrong; leave ledger and lake in `folder`."""
    port, seconds = free_ports(len(venues)), minutes * 60.0
    plan = SHOWN.format(p=0.0005, q=0.002, t=round(seconds / 4.0))  # each at least 20 times in all, in 20 minutes
    named = {venue: list(raw_symbols(venue, symbols)) for venue in venues}
    lake = folder / "lake"
    lake.mkdir(parents=True)
    mounted = full and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600m", "tmpfs", str(lake)], capture_output=True).returncode == 0
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
    said = (folder / "said.log").open("ab")
    venue_process = subprocess.Popen(simulate, cwd=HOME, stdout=said, stderr=said)
    recorder = None
    try:
        for offset in range(len(venues)):
            _wait_for(port + offset, venue_process)
        recorder = subprocess.Popen(run, cwd=HOME, stdout=said, stderr=said)
        events = [(seconds * (i + 1) / (kills + 1.5), "kill") for i in range(kills)] + ([(seconds * 0.85, "fill")] if mounted else [])
        began = time.monotonic()
        for at, event in sorted(events):
            _sleep_until(began + at, recorder, venue_process)
            print(f"{time.monotonic() - began:6.0f} s  {event}", flush=True)
            if event == "kill":
                recorder.kill()
                recorder.wait()
                recorder = subprocess.Popen(run, cwd=HOME, stdout=said, stderr=said)
            else:
                filler = lake / "filler"
                with suppress(OSError), filler.open("wb") as file:
                    while True:
                        file.write(b"\0" * (1 << 20))
                _sleep_until(time.monotonic() + min(6.0, seconds / 20.0), recorder, venue_process)
                filler.unlink()
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


def good_stretches(lake: Lake, venue: str, symbol: str) -> list[tuple[int, int]]:
    """Return the stretches of exchange time that the lake calls good, cut by a margin at both ends."""
    told = lake.sql(
        f"SELECT start_ns, end_ns FROM coverage WHERE venue = '{venue}' AND symbol = '{symbol}' AND state = 0 ORDER BY start_ns"
    ).to_pylist()
    doubts = lake.sql(
        f"SELECT start_ns, end_ns FROM quality WHERE venue = '{venue}' AND symbol = '{symbol}' "
        "AND kind IN ('suspect', 'witness', 'quarantined', 'gap', 'stale', 'crossed', 'start', 'resync')"
    ).to_pylist()
    out = []
    for row in told:
        pieces = [(row["start_ns"], row["end_ns"])]
        for doubt in doubts:
            a, b = doubt["start_ns"], doubt["end_ns"]
            pieces = [piece for x, y in pieces for piece in ((x, min(y, a)), (max(x, b), y)) if piece[0] < piece[1]]
        out += [(x + MARGIN_NS, y - MARGIN_NS) for x, y in pieces if y - x > 2 * MARGIN_NS]
    return out


def compare(folder: Path, venue: str, raw: str) -> Counter:
    """Hold one stream's rows against the ledger; return counts of what was found."""
    lake, symbol = Lake(folder / "lake"), canonical_symbol(venue, raw)
    truth, found = ledger.read(folder / "ledger", venue, raw), Counter()
    books, trades = lake.rows("l2_snapshots", venue, symbol), lake.rows("trades", venue, symbol)
    found["rows"], found["seq_holes"] = books.size, int((np.diff(books["seq"]) != 1).sum() + (np.diff(trades["seq"]) != 1).sum())
    depth = truth["bids"].shape[1]
    by_ns: dict[int, list[int]] = {}
    for i, ns in enumerate(truth["exchange_ns"].tolist()):
        by_ns.setdefault(ns, []).append(i)
    good = good_stretches(lake, venue, symbol)
    found["good_ms"] = sum(b - a for a, b in good) // 1_000_000
    for start, end in good:
        part = books[(books["exchange_ns"] >= start) & (books["exchange_ns"] < end)]
        held = set(part["exchange_ns"].tolist())
        for row in part:
            found["books_compared"] += 1
            if not any(_same(row, truth, i, depth) for i in by_ns.get(int(row["exchange_ns"]), ())):
                found["wrong_books"] += 1
        due = truth["exchange_ns"][(truth["exchange_ns"] >= start) & (truth["exchange_ns"] < end)]
        found["missing_books"] += sum(ns not in held for ns in due.tolist())
        _trades(found, truth, trades, start, end)
    return found


def _trades(found: Counter, truth: dict, trades: np.ndarray, start: int, end: int) -> None:
    own = trades[(trades["exchange_ns"] >= start) & (trades["exchange_ns"] < end) & (trades["backfill"] == 0)]
    inside = (truth["trade_ns"] >= start) & (truth["trade_ns"] < end)
    told = dict(zip(truth["trade_id"].tolist(), zip(truth["price"], truth["size"], truth["aggressor"], strict=True), strict=True))
    for row in own:
        known = told.get(int(row["trade_id"]))
        same = known is not None and np.allclose([row["price"], row["size"], row["aggressor"]], known, rtol=1e-12)
        found["wrong_trades"] += not same
    found["doubled_trades"] += own.size - np.unique(own["trade_id"]).size
    found["trades_compared"] += own.size
    held = set(trades["trade_id"].tolist())
    found["missing_trades"] += sum(number not in held for number in truth["trade_id"][inside].tolist())


def _same(row: np.void, truth: dict, i: int, depth: int) -> bool:
    return all(
        np.allclose(row[f"{side}_px"][:depth], truth[f"{side}s"][i], rtol=1e-12, equal_nan=True)
        and np.allclose(row[f"{side}_sz"][:depth], truth[f"{side}_sizes"][i], rtol=1e-9)
        for side in ("bid", "ask")
    )


def lateness(folder: Path, venue: str, raws: list[str]) -> np.ndarray:
    """Return seconds from each row's receipt to the commit that acknowledged it."""
    done = np.array([int(row[0]) for row in csv.reader((folder / f"commits-{venue}.csv").open())])
    lake = Lake(folder / "lake")
    stamps = np.concatenate([lake.rows("l2_snapshots", venue, canonical_symbol(venue, raw))["receive_ns"] for raw in raws])
    at = np.searchsorted(done, stamps + 20_000_000)  # a commit that had begun before does not count
    known = at < done.size
    return (done[at[known]] - stamps[known]) / 1e9


def memory(folder: Path) -> dict[int, tuple[float, float]]:
    """Return megabytes of each recorder at a third of its life and at its end, by process."""
    out: dict[int, list[float]] = {}
    for _, pid, kb in csv.reader((folder / "memory.csv").open()):
        out.setdefault(int(pid), []).append(int(kb) / 1024)
    return {
        pid: (float(np.median(mb[len(mb) // 3 : len(mb) // 3 + 5])), float(np.median(mb[-5:]))) for pid, mb in out.items() if len(mb) > 12
    }


def judge(folder: Path, venues: tuple[str, ...], symbols: int) -> list[str]:
    """Print what was found stream by stream; return what is wrong."""
    problems, seen = [], Counter()
    print(f"\n{'stream':<34}{'rows':>8}{'good s':>8}{'books':>8}{'wrong':>6}{'missing':>8}{'trades':>8}{'wrong':>6}{'missing':>8}")
    for venue in venues:
        faults = Counter(entry["fault"] for entry in ledger.faults(folder / "ledger", venue))
        seen.update(faults)
        for raw in raw_symbols(venue, symbols):
            found = compare(folder, venue, raw)
            named = ("books_compared", "wrong_books", "missing_books", "trades_compared", "wrong_trades", "missing_trades")
            told = "".join(f"{found[name]:>{width}}" for name, width in zip(named, (8, 6, 8, 8, 6, 8), strict=True))
            print(f"{venue + ' ' + raw:<34}{found['rows']:>8}{found['good_ms'] // 1000:>8}{told}")
            bad = ["wrong_books", "missing_books", "wrong_trades", "doubled_trades", "seq_holes"]
            bad += [] if venue in UNNUMBERED else ["missing_trades"]
            if venue in UNSEEN:
                hit = Counter(entry["fault"] for entry in ledger.faults(folder / "ledger", venue) if entry["raw_symbol"] == raw)
                found["missing_books"] = max(0, found["missing_books"] - hit["drop"] - hit["truncate"] - hit["reorder"])
            problems += [f"{venue} {raw}: {found[name]} {name}" for name in bad if found[name]]
            if not found["books_compared"]:
                problems.append(f"{venue} {raw}: nothing was good for long enough to compare")
    print("\nfaults: " + ", ".join(f"{name} {n}" for name, n in sorted(seen.items())))
    late = np.concatenate([lateness(folder, venue, list(raw_symbols(venue, symbols))) for venue in venues])
    print(f"receive to lake: median {np.median(late):.2f} s, p99 {np.percentile(late, 99):.2f} s")
    for pid, (early, last) in memory(folder).items():
        print(f"memory of recorder {pid}: {early:.0f} MB after a third, {last:.0f} MB at the end")
    return problems


def main() -> None:
    """Run and judge; exit code 1 on a finding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--symbols", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="keep ledger and lake there")
    parser.add_argument("--judge", action="store_true", help="only judge what is in the folder")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    if not given.judge:
        soak(folder, given.minutes, symbols=given.symbols)
    problems = judge(folder, VENUES, given.symbols)
    print("\n".join(problems) or "every good row is the venue's own, and none is missing")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
