"""Section: the whole live process on a simulated venue over real sockets."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from results import Result

HERE = Path(__file__).resolve().parent
TITLE = "The live process on the simulator: socket, adapter, book, features, score, write-ahead"
VENUE, SYMBOL = "binance_usdm", "BTCUSDT"
BUSY = 0.95  # share of a core from which on the process, not the simulator, set the pace
SERVE = """
import functools, os, sys
from simulator import server
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {int(sys.argv[1])})
server.main((sys.argv[2],), port=0, seed=5, speed=float(sys.argv[3]), tell=functools.partial(print, flush=True))
"""


def run(core: int, model_text: str, speed: float, seconds: float) -> dict:
    """Return what the live process counted and measured in so many seconds of a simulated market at a speed."""
    # The market runs on another core than the process, where there is one.
    other = 0 if core else 1
    with tempfile.TemporaryDirectory() as scratch:
        saved = Path(scratch) / "model.txt"
        saved.write_text(model_text)
        serve = [sys.executable, "-c", SERVE, str(other), VENUE, str(speed)]
        with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True, cwd=HERE.parent) as market:
            try:
                _, ws_url, rest_url, *_ = market.stdout.readline().split()
                live = [sys.executable, str(HERE / "process_run.py"), str(core), VENUE, SYMBOL, ws_url, rest_url]
                command = [*live, str(Path(scratch) / "lake"), str(saved), str(seconds)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=seconds + 120)
            finally:
                market.terminate()
                market.communicate()  # what it counted is said at its end
    told = json.loads(done.stdout.splitlines()[-1])
    if not told["scores"]:
        raise RuntimeError(f"the live process scored nothing in {seconds:g} s of a market at {speed:g} times its pace")
    return told


def measure(core: int, model_text: str, seconds: float) -> list[Result]:
    """Return messages a second at full speed, and the time from socket read to score at a busy venue's pace."""
    full = run(core, model_text, float("inf"), seconds)
    share = full["cpu_s"] / full["wall_s"]
    pace = "the process is the limit" if share >= BUSY else "the simulator is the limit"
    wrong = "; WRONG: the stream had gaps" if full["gaps"] else ""
    rate, note = full["frames"] / full["wall_s"], f"{share:.0%} of a core busy: {pace}; {full['rows']:,} rows acknowledged{wrong}"
    results = [
        Result(TITLE, "tidebook", "received, full speed", rate, "messages/s", note=note),
        Result(TITLE, "tidebook", "one core sustains", full["frames"] / full["cpu_s"], "messages/s", note="messages by processor time"),
    ]
    for speed in (1.0, 10.0):
        paced = run(core, model_text, speed, max(seconds, 45.0 / speed))
        tail, rate = paced["latency"], paced["frames"] / paced["wall_s"]
        note = f"p50 {tail['p50_us']:.0f} us; {rate:,.0f} messages/s, {paced['scores']:,} scores"
        results.append(Result(TITLE, "tidebook", f"socket read to score, p99, market x{speed:g}", tail["p99_us"], "us", note=note))
    return results
