"""What one core sustains of 200 symbols of Binance USD-M: our whole recorder beside cryptofeed, both on the simulator's sockets.

    python bench/symbols.py [--symbols 200] [--seconds 15] [--rounds 2]

Ours reads sockets, keeps books and trades, and writes them ahead into a lake; cryptofeed reads sockets,
keeps its books and calls empty callbacks.  Each is billed its own processor time, begun when every book is live.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]
VENUE = "binance_usdm"
SETTLE_S = 5.0  # after the last book has come
AWAIT_S = 90.0  # for all books


def symbols(n):
    """Return so many raw symbols.

    Examples
    --------
    >>> symbols(2)
    ['SIM001USDT', 'SIM002USDT']
    """
    return [f"SIM{i:03d}USDT" for i in range(1, n + 1)]


async def serve_markets(n):
    """Serve so many markets, without a limit of requests, until standard input ends."""
    from simulator.protocol import Budget
    from simulator.server import serve

    async with await serve([VENUE], {VENUE: symbols(n)}, seed=1) as running:
        running.venues[VENUE].wire.budget = Budget(1e12)
        print(running.venues[VENUE].port, flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def record_ours(n, port, seconds):
    """Record into a lake of its own and print what a processor second brought."""
    from tasks.record import Recorder, record
    from tasks.stream import Endpoints, rest_of, stream
    from tasks.venues import directory
    from warehouse.lake import Lake

    with tempfile.TemporaryDirectory() as folder:
        recorder, stop, names = Recorder(Lake(Path(folder)), VENUE, "bench"), asyncio.Event(), symbols(n)
        for symbol in names:
            recorder.stream(symbol)
        rules, rest = replace(directory.wire(VENUE).rules, connects_s=20.0), rest_of(VENUE)
        rest.budget.limit = 0.0  # none, as the market has none
        where = Endpoints(f"ws://127.0.0.1:{port}", f"http://127.0.0.1:{port}")
        frames = stream(VENUE, names, where, recorder.wanting, stop, rules=rules, rest=rest)
        work = asyncio.create_task(record(recorder, frames, stop, lambda totals: None))

        def messages():
            return sum(recorder.stream(symbol).adapter.counts["messages"] for symbol in names)

        until_s = time.monotonic() + AWAIT_S
        while time.monotonic() < until_s and not all(recorder.stream(symbol).adapter.is_live for symbol in names):
            await asyncio.sleep(0.2)
        live = sum(recorder.stream(symbol).adapter.is_live for symbol in names)
        await asyncio.sleep(SETTLE_S)
        began, before, wall_s = time.process_time(), messages(), time.monotonic()
        await asyncio.sleep(seconds)
        told = {"messages": messages() - before, "cpu_s": time.process_time() - began, "wall_s": time.monotonic() - wall_s, "live": live}
        stop.set()
        await work
    print(json.dumps(told), flush=True)


def measure(n, seconds, rounds, core, say):
    """Return rounds of ours and of cryptofeed by name, in turn, against one simulator on another core."""
    from install import peer_python, room

    serve = [sys.executable, __file__, "--serve", "--symbols", str(n)]
    room_for_names = os.environ | {"WEBSOCKETS_MAX_LINE_LENGTH": str(1 << 17)}  # cryptofeed names all its streams in one address
    market = subprocess.Popen(serve, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=room_for_names)
    found = {"tidebook": [], "cryptofeed": []}
    try:
        port = market.stdout.readline().strip()
        given = ["--symbols", str(n), "--seconds", str(seconds), "--port", port]
        commands = {"tidebook": [sys.executable, __file__, "--ours", *given]}
        if python := peer_python("cryptofeed"):
            commands["cryptofeed"] = [str(python), str(HERE / "peers" / "run_symbols.py"), *given]
        for _ in range(rounds):
            for name, command in commands.items():
                pinned = (lambda: os.sched_setaffinity(0, {core})) if hasattr(os, "sched_setaffinity") else None
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=300, preexec_fn=pinned, cwd=room())
                found[name].append(json.loads(done.stdout.splitlines()[-1]))
                say(f"{name}: {found[name][-1]}")
    finally:
        market.stdin.close()
        market.wait(timeout=30)
    return found


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--core", type=int, default=(os.cpu_count() or 1) - 1)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--ours", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve_markets(given.symbols))
        return 0
    if given.ours:
        asyncio.run(record_ours(given.symbols, given.port, given.seconds))
        return 0
    found = measure(given.symbols, given.seconds, given.rounds, given.core, lambda text: print(text, file=sys.stderr, flush=True))
    title = f"{given.symbols} symbols of {VENUE} on one core"
    print(f"{title:45} {'came a second':>14} {'a core sustains':>16} {'ratio':>7} {'books live':>11}")
    own = None
    for name, rounds in found.items():
        if not rounds:
            print(f"{name:45} not installed here")
            continue
        rate = statistics.median(one["messages"] / one["cpu_s"] for one in rounds)
        came = statistics.median(one["messages"] / one["wall_s"] for one in rounds)
        own = own or rate
        live = min(one["live"] for one in rounds)
        print(f"{name:45} {came:14,.0f} {rate:16,.0f} {own / rate:7.1f} {live:11}")
    if any(one["live"] < given.symbols for rounds in found.values() for one in rounds):
        print("not all books were live: the machine is too busy for the market, and the figures cannot be compared")
    print("messages a second; a core sustains: messages a second of the process's own processor time; ratio: ours over theirs.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
