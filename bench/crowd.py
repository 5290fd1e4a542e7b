"""Many symbols of one venue: until all books are live, what the requests for them weigh, and how long a stop takes.

    python bench/crowd.py                          400 symbols of Binance USD-M: a start, a mass disconnect, SIGTERM
    python bench/crowd.py --fast --rounds 3        the stop alone, with no limit of requests

Venue and recorder are processes of their own; the recorder does what `ingest` does: frames, books, trades,
minutes and findings.  The simulator counts the weight of requests, and refuses and bans as the venue does.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from symbols import symbols  # noqa: E402

STEADY_S = 35.0  # of recording before the stop: a seal has been and a part of the next has gathered
AWAIT_S = 600.0


async def serve_markets(given):
    """Serve markets and answer each line of standard input: `cut` breaks all connections; then what was asked is printed."""
    from simulator.protocol import Budget
    from simulator.server import serve

    async with await serve([given.venue], {given.venue: symbols(given.symbols)}, seed=1) as running:
        server = running.venues[given.venue]
        budget = server.wire.budget = Budget(1e12) if given.fast else server.wire.budget
        print(server.port, flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            told = {"peak": budget.peak, "limit": budget.limit, "refused": budget.refused, "bans": budget.bans}
            budget.peak, budget.refused, budget.bans = budget.used, 0, 0
            if line.strip() == "cut":
                server.disconnect()
            print(json.dumps(told), flush=True)


async def record_all(given):
    """Record until SIGTERM; print when all books are live, and how long the end took."""
    from tasks.feed.watch import Watch
    from tasks.record import Recorder, record
    from tasks.stream import Endpoints, instruments, rest_of, stream
    from tasks.venues import directory
    from warehouse.lake import Lake

    stop, names, asked = asyncio.Event(), symbols(given.symbols), []

    def end():
        asked.append((time.monotonic(), time.process_time()))
        stop.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
    recorder = Recorder(Lake(given.lake), given.venue, "crowd", keep_raw=True, watch=Watch())
    where, rest = Endpoints(f"ws://127.0.0.1:{given.port}", f"http://127.0.0.1:{given.port}"), rest_of(given.venue)
    recorder.instruments = await instruments(given.venue, where, rest)
    for symbol in names:
        recorder.stream(symbol)
    rules = directory.wire(given.venue).rules
    if given.fast:
        rules, rest.budget.limit = replace(rules, connects_s=50.0), 0.0
    frames = stream(given.venue, names, where, recorder.wanting, stop, rules=rules, rest=rest, told=recorder.note)
    work = asyncio.create_task(record(recorder, frames, stop))
    was_live = False
    while not work.done():
        await asyncio.wait([work], timeout=0.1)
        live = sum(stream.adapter.is_live for stream in recorder.streams.values())
        if (live == len(names)) != was_live and not stop.is_set():
            was_live = not was_live
            print(json.dumps({"live": live}), flush=True)
    totals = await work
    wall_s, cpu_s = asked[0]
    told = {"stop_s": time.monotonic() - wall_s, "stop_cpu_s": time.process_time() - cpu_s, "rows": totals.committed}
    print(json.dumps(told), flush=True)


def heard(process, key):
    """Return the next line of a process that has a key, and when it came."""
    while True:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{process.args[:2]} ended by itself")
        told = json.loads(line)
        if key in told:
            return told, time.monotonic()


def until_live(recorder, n):
    """Return when all books were live."""
    while True:
        told, at = heard(recorder, "live")
        if told["live"] == n:
            return at


def measure(given, market):
    """Run one recorder against the running market; return what was seen, by name."""
    found = {}

    def asked(line):
        market.stdin.write(line + "\n")
        market.stdin.flush()
        return json.loads(market.stdout.readline())

    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, *given.rest, "--record", "--port", str(given.port), "--lake", folder]
        began = time.monotonic()
        recorder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            found["start_s"] = until_live(recorder, given.symbols) - began
            if not given.fast:
                time.sleep(60.0)  # the window of the start's requests is over
                found["start"] = asked("cut")
                cut = time.monotonic()
                found["again_s"] = until_live(recorder, given.symbols) - cut
                found["again"] = asked("tell")
            time.sleep(given.steady_s)
            recorder.send_signal(signal.SIGTERM)
            sent = time.monotonic()
            told, _ = heard(recorder, "stop_s")
            recorder.wait(60)
            found |= {"stop_s": time.monotonic() - sent, "stop_cpu_s": told["stop_cpu_s"], "rows": told["rows"]}
        finally:
            recorder.kill()
            recorder.wait()
        left = list(Path(folder).glob("wal/**/*.wal"))
        found["left"] = len(left)
    return found


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venue", default="binance_usdm", choices=("binance_usdm", "binance_spot"))
    parser.add_argument("--symbols", type=int, default=400)
    parser.add_argument("--fast", action="store_true", help="no limit of requests: books are live at once")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--steady-s", type=float, default=STEADY_S, help="of recording before the stop")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--record", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--lake", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve or given.record:
        asyncio.run(serve_markets(given) if given.serve else record_all(given))
        return 0
    given.rest = ["--venue", given.venue, "--symbols", str(given.symbols), *(["--fast"] if given.fast else [])]
    market = subprocess.Popen([sys.executable, __file__, *given.rest, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        given.port = int(market.stdout.readline())
        for _ in range(given.rounds):
            report(given, measure(given, market))
    finally:
        market.stdin.close()
        market.wait(timeout=60)
    return 0


def report(given, found):
    """Print one round."""
    print(f"{given.symbols} symbols of {given.venue}, load {os.getloadavg()[0]:.1f}")
    print(f"  all books live          {found['start_s']:7.1f} s after the start of the process")
    if "again_s" in found:
        print(f"  all books live again    {found['again_s']:7.1f} s after a mass disconnect")
        for what, told in (("start", found["start"]), ("disconnect", found["again"])):
            print(
                f"  weight at the {what:10} {told['peak']:7.0f} of {told['limit']:.0f} in the fullest minute, "
                f"{told['refused']} refused, {told['bans']} bans"
            )
    spent = f"{found['stop_cpu_s']:.1f} s of processor time"
    print(f"  a stop                  {found['stop_s']:7.1f} s from SIGTERM to the end of the process, {spent}")
    print(f"  recorded                {found['rows']:7,} rows; {found['left']} segments left to seal", flush=True)


if __name__ == "__main__":
    sys.exit(main())
