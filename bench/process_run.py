"""The live process against a server: sockets, adapter, book, features, score, write-ahead, seals.

    process_run.py CORE VENUE RAW_SYMBOL WS_URL REST_URL LAKE MODEL SECONDS

Prints JSON: frames, wall and processor seconds after the first two seconds, and the
quantiles of the time from socket read to score.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE), str(HERE / "peers")]

from contest import quantiles  # noqa: E402
from model import live_model  # noqa: E402

from tasks.record import Recorder, record  # noqa: E402
from tasks.stream import Endpoints, stream  # noqa: E402
from warehouse.lake import Lake  # noqa: E402

SETTLE_S = 2.0


def _now(recorder: Recorder) -> tuple[int, float, float]:
    return recorder.totals.frames, time.perf_counter(), time.process_time()


async def main() -> None:
    """Run for the given time, then read the predictions back from the lake."""
    core, venue, symbol, ws_url, rest_url, root, saved, seconds = sys.argv[1:]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core)})
    lake, model, stop = Lake(Path(root)), live_model(Path(saved).read_text()), asyncio.Event()
    recorder = Recorder(lake, venue, "process", lambda: model, clock=time.time_ns)
    frames = stream(venue, [symbol], Endpoints(ws_url, rest_url), recorder.wanting, stop)
    recorder.stream(symbol)
    run = asyncio.create_task(record(recorder, frames, stop, seal_s=5.0))
    await asyncio.sleep(SETTLE_S)
    begin = _now(recorder)
    await asyncio.sleep(float(seconds))
    end = _now(recorder)
    stop.set()
    totals = await run
    found = lake.read("predictions", columns=["latency_ns", "doubt"])
    scored = found.filter(found["doubt"].to_numpy() == 0)["latency_ns"].to_numpy()
    told = {
        "frames": end[0] - begin[0],
        "wall_s": end[1] - begin[1],
        "cpu_s": end[2] - begin[2],
        "rows": totals.committed,
        "gaps": sum(counts["gaps"] for counts in recorder.counts().values()),
        "scores": len(scored),
        "latency": quantiles(scored.tolist()) if len(scored) else {},
    }
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main())
