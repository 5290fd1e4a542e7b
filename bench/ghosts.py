"""After an hour of trading, are the best 20 levels those of the venue's own fresh book?

    python bench/ghosts.py                       every venue, an hour of market time each
    python bench/ghosts.py okx kraken --hours 3

A level whose removal was missed stays as a ghost, and shows only when the price comes back to it.  A reader that
followed a simulated market from its opening, without sockets, is held against one that has just begun.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

from injections import START_NS, Play, Recorded, fresh_book, levels_of, open_sessions  # noqa: E402

from simulator import wires  # noqa: E402
from simulator.listings import raw_symbols  # noqa: E402
from simulator.protocol import Moment  # noqa: E402
from simulator.server import build  # noqa: E402
from tasks.venues import directory  # noqa: E402

STEP_NS = 20_000_000
TOGETHER_NS = 5_000_000_000  # that both readers hear before they are compared


def followed(venue, hours, seed=1):
    """Return messages heard in so many hours, books told by the old reader, and levels of the old and of the new one that differ."""
    symbol = next(iter(raw_symbols(venue)))
    desks, _ = build(venue, [symbol], seed, START_NS)
    made, desk = Recorded(venue, [symbol], wires.wire(venue, desks)), desks[symbol]
    old, new, heard = Play(made), None, 0
    old.is_watching = False
    opened = open_sessions(made, Moment(START_NS, 0.0))
    lines = {stream: at for at, (session, *_) in enumerate(opened) for stream in session.streams}
    due = {(at, stream) for at, (_, _, streams) in enumerate(opened) for stream in streams}
    hour_ns = START_NS + int(hours * 3600e9)
    while desk.now_ns < hour_ns + TOGETHER_NS or not (new and new.adapters[symbol].is_live):
        beat = desk.advance(desk.now_ns + STEP_NS)
        moment, waits = Moment(desk.now_ns, (desk.now_ns - START_NS) / 1e9), {stream for _, stream in due}
        told = [message for message in made.spoken.messages(beat, set(lines)) if message.stream not in waits]
        for message in told:
            heard += 1
            for play in filter(None, (old, new)):
                at = lines[message.stream]
                play.hear(at, play.sessions[at].seal(message.stream, message.payload).encode(), desk.now_ns, 0)
        if beat.depth is None:
            continue
        for at, stream in sorted(due):
            if (payload := made.spoken.snapshot(stream, desk, moment)) is not None:
                old.hear(at, old.sessions[at].seal(stream, payload).encode(), desk.now_ns, 0)
        due.clear()
        if desk.now_ns >= hour_ns and new is None:
            new = Play(made)
            new.is_watching = False
        for play in filter(None, (old, new)):
            if play.adapters[symbol].needs_snapshot:
                _begin(made, play, symbol, desk, moment, lines)
    rows = [play.adapters[symbol].row for play in (old, new)]
    assert rows[0]["exchange_ns"][0] == rows[1]["exchange_ns"][0], f"{venue}: the readers are not at the same book"
    differ = int(levels_of(rows[0][0]) != levels_of(rows[1][0]))
    return heard, old.adapters[symbol].counts, differ


def _begin(made, play, symbol, desk, moment, lines):
    # A whole book, as the venue gives it to who asks now.
    book = fresh_book(made, symbol, desk, moment)
    if isinstance(book, bytes):
        play.feed(symbol, book, desk.now_ns, 0)
    elif book is not None:
        stream = made.spoken.book_stream(symbol)
        play.hear(lines[stream], play.sessions[lines[stream]].seal(stream, book).encode(), desk.now_ns, 0)


def main():
    """Follow, compare and print; 1 where a level differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("venues", nargs="*", default=list(directory.VENUES))
    parser.add_argument("--hours", type=float, default=1.0)
    given, failed = parser.parse_args(), 0
    print(f"{'venue':18} {'messages':>10} {'books':>10} {'trades':>10} {'gaps':>5} {'best 20':>10} {'seconds':>8}")
    for venue in given.venues:
        began = time.monotonic()
        heard, counts, differ = followed(venue, given.hours)
        failed += differ
        books = f"{counts['book_updates']:>10,} {counts['trades']:>10,} {counts['gaps']:>5}"
        print(f"{venue:18} {heard:>10,} {books} {'differ' if differ else 'the same':>10} {time.monotonic() - began:8.1f}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
