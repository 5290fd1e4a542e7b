"""Benchmarks against the peers: prints tables of ratios, writes `bench/out.json`.

    python bench/run.py [CAPTURE...] [--rounds 5] [--only books,features,...]

Without a capture: TIDEBOOK_CAPTURE, else a USD-M capture in ../shared/captures, else one
made by the simulator.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE), str(HERE / "peers")]

SECTIONS = ("books", "features", "detectors", "scorer", "wire", "process", "memory")


def choose_capture(named: list[Path], scratch: Path) -> list[Path]:
    """Return the files to measure on."""
    if named:
        return named
    if os.environ.get("TIDEBOOK_CAPTURE"):
        return [Path(name) for name in os.environ["TIDEBOOK_CAPTURE"].split(os.pathsep)]
    shared = sorted((HERE.parent.parent / "shared" / "captures").glob("binance_usdm-*.gz"))
    if shared:
        return shared[:1]
    import simulator

    path = scratch / "binance_usdm-simulated.gz"
    print("no capture given: the simulator makes five minutes of one", file=sys.stderr)
    simulator.write_capture(path, simulator.frames("binance_usdm", "BTCUSDT", 300.0, 7))
    return [path]


def venue_of(files: list[Path]) -> str:
    """Return the venue that a capture's name begins with, USD-M if it names none."""
    name = files[0].name
    return next((venue for venue in ("binance_spot", "binance_usdm", "binance_coinm") if name.startswith(venue)), "binance_usdm")


def pin(core: int) -> None:
    """Keep this process on one core, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


def unpin() -> None:
    """Let this process and its children run on every core again."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))


def measure(files: list[Path], venue: str, core: int, rounds: int, minutes: float, wanted: list[str], say: Callable[[str], None]) -> list:
    """Run the wanted sections in order."""
    results: list = []
    if "books" in wanted:
        import books

        say("books: ours and the peers in turn")
        results += books.measure(core, venue, files, rounds)
    pin(core)
    if set(wanted) - {"books"}:
        import events
        import features
        import scoring
        import wire
        from contest import load

        say("reading the capture's events, training 300 trees on them")
        capture = load([str(path) for path in files], venue)
        rows = events.record(venue, capture.raw_symbol, files)
        booster, columns, matrix = events.train(rows)
        if "features" in wanted:
            say("features: live and batch")
            results += features.measure(rows, rounds)
        if "detectors" in wanted:
            import detectors

            say("detectors: ours and other libraries'")
            results += detectors.measure(rows, rounds)
        if "scorer" in wanted:
            say("scorer: ours and LightGBM in turn")
            results += scoring.measure(booster, matrix, rounds)
        if "wire" in wanted:
            say("wire to score")
            results += wire.measure(capture, booster, columns, rounds)
        unpin()
        if "process" in wanted:
            import process

            say("the live process on simulated sockets, three runs")
            results += process.measure(core, booster.model_to_string(), 15.0)
        if "memory" in wanted:
            import memory

            say(f"memory: {minutes:g} minutes of a simulated market at full speed")
            results += memory.measure(booster.model_to_string(), minutes)
    return results


def main() -> int:
    """Measure, print, write; 1 if a budget was missed or a result was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("capture", nargs="*", type=Path)
    parser.add_argument("--venue", help="default: as the capture's name begins")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=60.0, help="market time of the memory section")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, separated by commas: " + ", ".join(SECTIONS))
    parser.add_argument("--core", type=int, default=(os.cpu_count() or 1) - 1)
    parser.add_argument("--no-install", action="store_true", help="use the peers that are there")
    parser.add_argument("--out", type=Path, default=HERE / "out.json")
    given = parser.parse_args()

    import install
    from results import show, write
    from rich.console import Console

    console, wanted = Console(width=None if sys.stdout.isatty() else 150), given.only.split(",")
    if unknown := set(wanted) - set(SECTIONS):
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    if {"books", "features", "detectors"} & set(wanted) and not given.no_install:
        for peer, why in install.install_all().items():
            console.print(f"[yellow]{peer}: {why}[/]")
    with tempfile.TemporaryDirectory() as scratch:
        files = choose_capture(given.capture, Path(scratch))
        venue = given.venue or venue_of(files)
        say = lambda text: console.print(f"[dim]{text} ...[/]")  # noqa: E731
        results = measure(files, venue, given.core, given.rounds, given.minutes, wanted, say)
    show(results, console)
    write(results, given.out, capture=[path.name for path in files], venue=venue, rounds=given.rounds)
    wrong = [result for result in results if result.kept is False or "WRONG" in result.note]
    verdict = f"[red]{len(wrong)} lines missed their budget or were wrong[/]" if wrong else "[green]every budget kept[/]"
    console.print(f"written to {os.path.relpath(given.out)}; {verdict}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
