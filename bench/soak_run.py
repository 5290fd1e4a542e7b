"""Record simulated venues until SIGTERM, as the ingest flows do, all in one process: what `soak.py` kills and starts again."""

import argparse
import asyncio
import csv
import json
import os
import signal
import time
from pathlib import Path
from uuid import uuid4

from tasks.feed.watch import Watch
from tasks.record import Recorder, record
from tasks.stream import Endpoints, instruments, rest_of, stream
from tasks.witness import witness
from warehouse.lake import Lake


async def one(lake: Lake, venue: str, raw: list[str], port: int, stop: asyncio.Event, commits: Path, witness_s: float) -> int:
    """Record one venue; write when each commit was done, and return how many found the disk full."""
    where = Endpoints(f"ws://127.0.0.1:{port}", f"http://127.0.0.1:{port}")
    recorder, rest = Recorder(lake, venue, f"soak-{uuid4()}", watch=Watch()), rest_of(venue)
    recorder.instruments = await instruments(venue, where, rest)
    for symbol in raw:
        recorder.stream(symbol)
    with commits.open("a", newline="") as file:
        out, before = csv.writer(file), 0

        def told(totals: object) -> None:
            nonlocal before
            done = totals.committed  # type: ignore[attr-defined]
            if done != before:
                out.writerow([time.time_ns()])
                file.flush()
                before = done

        frames = stream(venue, raw, where, recorder.wanting, stop, told=recorder.note, rest=rest)
        beside = asyncio.create_task(witness(recorder, where, rest, witness_s, raw))
        try:
            await record(recorder, frames, stop, told, seal_s=20.0)
        finally:
            beside.cancel()
    return recorder.totals.full


async def main() -> None:
    """Record what the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lake", type=Path)
    parser.add_argument("--port", type=int)
    parser.add_argument("--symbols", type=json.loads)
    parser.add_argument("--witness-s", type=float, default=30.0)
    given = parser.parse_args()
    stop, lake = asyncio.Event(), Lake(given.lake)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    jobs = [
        asyncio.create_task(one(lake, venue, raw, given.port + i, stop, given.folder / f"commits-{venue}.csv", given.witness_s))
        for i, (venue, raw) in enumerate(given.symbols.items())
    ]
    with (given.folder / "memory.csv").open("a", newline="") as file:
        out = csv.writer(file)
        while not all(job.done() for job in jobs):
            await asyncio.wait(jobs, timeout=2.0)
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            out.writerow([time.time_ns(), os.getpid(), pages * os.sysconf("SC_PAGE_SIZE") // 1024])
            file.flush()
    refused = dict(zip(given.symbols, await asyncio.gather(*jobs), strict=True))
    (given.folder / f"refused-{os.getpid()}.json").write_text(json.dumps(refused))


if __name__ == "__main__":
    asyncio.run(main())
