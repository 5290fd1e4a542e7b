"""Damage one message of each venue's stream, many times over, and tell how long a wrong book passed for good.

    python bench/injections.py                        every venue, 200 times each fault
    python bench/injections.py okx kraken --times 50

Streams are those of the simulator, two markets a venue over one set of connections, without sockets.
Each row of a damaged stream that is called good is held against the undisturbed stream.
"""

import argparse
import random
import re
import statistics
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from simulator import wires  # noqa: E402
from simulator.listings import raw_symbols  # noqa: E402
from simulator.protocol import Moment, Request  # noqa: E402
from simulator.server import build  # noqa: E402
from tasks.venues import directory  # noqa: E402
from tasks.venues.events import BOOK, CHANGE, TRADE  # noqa: E402
from warehouse.schema import GAP, OK  # noqa: E402

FAULTS = ("drop", "double", "swap", "cut", "digit", "number", "number anew")  # the last: in the book that is sent anew after a loss
# What a venue's messages cannot show, whoever reads them; of all else no wrong row may pass.
HIDDEN = dict.fromkeys(directory.VENUES, ("digit",)) | {
    **dict.fromkeys(("binance_spot", "binance_usdm", "binance_coinm"), ("digit", "number anew")),  # that of a REST answer
    "coinbase_exchange": ("drop", "swap", "digit", "number anew"),
    "kraken": (),
}
START_NS = 1_790_000_000_000_000_000
EVERY, LATER = 6, 4  # a fresh book can be had behind each sixth update, and comes four messages after it was asked for
BEFORE, AFTER = 40, 150  # messages played before the first damage, and after one that the venue's messages show
LEVELS = ("bid_px", "bid_sz", "ask_px", "ask_sz")


@dataclass
class Recorded:
    """A venue's messages as they were before connections numbered them.

    Attributes
    ----------
    items : list of (int, str, str, int)
        Line, stream, payload, market time.
    fresh : dict of (int, str) to str or bytes
        A whole book of a symbol behind an item.
    """

    venue: str
    symbols: list[str]
    spoken: object
    items: list = field(default_factory=list)
    fresh: dict = field(default_factory=dict)

    def __post_init__(self):
        self.wire = directory.wire(self.venue)
        self.lines = self.wire.lines(self.symbols, "")
        self.truth = {symbol: {} for symbol in self.symbols}  # (exchange_ns, update_id) to levels
        self.books = {self.spoken.book_stream(symbol) for symbol in self.symbols}
        self.stands = []  # what the book of an item's symbol is behind the item, by item


def open_sessions(recorded, moment):
    """Return each line's session, and what it says and which streams begin with a book, once subscribed."""
    opened = []
    for line in recorded.lines:
        address = urlsplit(line.url)
        session = recorded.spoken.session(address.path, dict(parse_qsl(address.query)))
        texts, due = [], []
        for send in line.sends:
            reply = session.receive(send.decode(), moment)
            texts += [*reply.frames, *reply.late]
            due += reply.snapshots
        opened.append((session, texts, due))
    return opened


def record(venue, n=400, seed=1, symbols=None):
    """Return some messages of a venue's first two markets, and what an undisturbed reader makes of them."""
    symbols = symbols or list(raw_symbols(venue)[:2])
    desks, _ = build(venue, symbols, seed, START_NS)
    made = Recorded(venue, symbols, wires.wire(venue, desks))
    spoken, wall_s = made.spoken, 0.0
    opened = open_sessions(made, Moment(START_NS, wall_s))
    due = {symbol: [] for symbol in symbols}
    for at, (session, _, streams) in enumerate(opened):
        for stream in streams:
            due[session.streams[stream]].append((at, stream))
    beats = dict.fromkeys(symbols, 0)
    while len(made.items) < n:
        for symbol, desk in desks.items():
            wall_s += 1000.0
            beat = desk.advance(desk.now_ns + 20_000_000)
            moment = Moment(desk.now_ns, wall_s)
            wanted = {stream: at for at, (session, *_) in enumerate(opened) for stream, of in session.streams.items() if of == symbol}
            waits = {stream for _, stream in due[symbol]}
            told = [message for message in spoken.messages(beat, set(wanted)) if message.stream not in waits]
            made.items += [(wanted[message.stream], message.stream, message.payload, desk.now_ns) for message in told]
            if beat.depth is None:
                continue
            for at, stream in due[symbol]:
                if (payload := spoken.snapshot(stream, desk, moment)) is not None:
                    made.items.append((at, stream, payload, desk.now_ns))
            due[symbol], beats[symbol] = [], beats[symbol] + 1
            if made.items and beats[symbol] % EVERY == 1:
                made.fresh[len(made.items) - 1, symbol] = fresh_book(made, symbol, desk, moment)
    undisturbed(made)
    return made


def fresh_book(made, symbol, desk, moment):
    """Return a whole book as the venue gives it to who asks now: a REST answer, or a message of its stream."""
    url, _ = made.wire.snapshot_url(symbol, "")
    if url:
        address = urlsplit(url)
        return made.spoken.rest(Request("GET", address.path, dict(parse_qsl(address.query)), b"", moment)).body
    return made.spoken.snapshot(made.spoken.book_stream(symbol), desk, moment)


def levels_of(row):
    """Return a row's levels, comparable."""
    return b"".join(row[name].tobytes() for name in LEVELS)


class Play:
    """A reader of all lines: what it publishes, as the stream's shell would have it."""

    def __init__(self, recorded):
        self.recorded = recorded
        self.adapters = {symbol: directory.adapter(recorded.venue, symbol) for symbol in recorded.symbols}
        self.readers, self.sessions = [], []
        self.told, self.wanted, self.is_watching, self.gaps = [], {}, True, 0
        self.spoil = bytes  # what is done to the next book that is sent anew
        for at, (session, texts, _) in enumerate(open_sessions(recorded, Moment(START_NS, 0.0))):
            self.sessions.append(session)
            reader = recorded.wire.connection(recorded.lines[at])
            self.readers.append((reader, getattr(reader, "owner", {}), getattr(reader, "name_of", None)))
            for text in texts:
                self.hear(at, session.seal("", text).encode(), START_NS, -1)

    def hear(self, at, frame, now_ns, item):
        """Take a frame off a connection."""
        reader, owner, name_of = self.readers[at]
        known = owner.get(name_of(frame)) if name_of else None
        for symbol, part in ((known, frame),) if known else reader.receive(frame).frames:
            self.feed(symbol, part, now_ns, item)

    def feed(self, symbol, frame, now_ns, item):
        """Fold a frame into a symbol's stream and note (item, now_ns, symbol, event, facts)."""
        adapter = self.adapters[symbol]
        for event in adapter.receive(frame, now_ns + 30_000_000):
            if not self.is_watching:
                continue
            if event == BOOK:
                row = adapter.row[0]
                facts = int(row["exchange_ns"]), int(row["update_id"]), levels_of(row), int(row["doubt"])
                self.told.append((item, now_ns, symbol, event, facts))
            elif event == CHANGE:
                self.gaps += int(adapter.change["state"][0]) == GAP
                self.told.append((item, now_ns, symbol, event, int(adapter.change["state"][0])))
            elif event == TRADE:
                self.told.append((item, now_ns, symbol, event, int(adapter.trade["trade_id"][0])))

    def serve(self, item, now_ns):
        """Bring fresh books to those who have waited for one."""
        for symbol, adapter in self.adapters.items():
            if not adapter.needs_snapshot:
                self.wanted.pop(symbol, None)
                continue
            since = self.wanted.setdefault(symbol, item if item > BEFORE // 2 else -LATER)
            book = self.recorded.fresh.get((item, symbol))
            if book is None or item < since + LATER:
                continue
            del self.wanted[symbol]
            if isinstance(book, bytes):
                body, self.spoil = self.spoil(book), bytes
                self.feed(symbol, body, now_ns, item)
            else:
                stream = self.recorded.spoken.book_stream(symbol)
                at = next(at for at, session in enumerate(self.sessions) if stream in session.streams or len(self.sessions) == 1)
                text, self.spoil = self.spoil(self.sessions[at].seal(stream, book).encode()), bytes
                self.hear(at, text, now_ns, item)


def undisturbed(recorded):
    """Fill in what is true of a recording."""
    play, stands = Play(recorded), dict.fromkeys(recorded.symbols)
    for item, (at, stream, payload, now_ns) in enumerate(recorded.items):
        before = len(play.told)
        play.hear(at, play.sessions[at].seal(stream, payload).encode(), now_ns, item)
        play.serve(item, now_ns)
        for _, _, symbol, event, facts in play.told[before:]:
            assert event != CHANGE or facts != GAP, f"{recorded.venue}: an undisturbed stream has a gap"
            if event == BOOK:
                recorded.truth[symbol][facts[:2]] = facts[2]
                stands[symbol] = facts[2]
        recorded.stands.append(dict(stands))
    recorded.trades = {(symbol, facts) for _, _, symbol, event, facts in play.told if event == TRADE}


@dataclass
class Outcome:
    """What one damaged message led to.

    Attributes
    ----------
    wrong : int
        Rows with a wrong level told as good.
    lasted_ns : int
        Market time from the first of them until a right row or a gap followed the last.
    is_open : bool
        The recording ended before that.
    is_seen, others : bool and int
        A gap was told; how many other symbols had one.
    is_marked : bool
        The adapter marked all wrong rows as doubtful afterwards.
    is_back : bool
        At the end every book is live, and the undisturbed one unless `is_open`.
    unseen_trades : int
        Trades that are missing although no gap was told.
    """

    fault: str
    wrong: int
    lasted_ns: int
    is_open: bool
    is_seen: bool
    others: int
    is_marked: bool
    is_back: bool
    unseen_trades: int


def inject(recorded, fault, seed):
    """Return the outcome of one damage, of kind and place by chance."""
    rng = random.Random(seed)
    items, n = recorded.items, len(recorded.items)
    target = rng.randrange(BEFORE, min(n - AFTER, BEFORE + 400))
    while rng.random() < 0.7 and items[target][1] not in recorded.books:  # quotes are many, and harmless
        target = rng.randrange(BEFORE, min(n - AFTER, BEFORE + 400))
    last = n if fault in HIDDEN[recorded.venue] else min(n, target + 2 * AFTER)
    play, held, again, seen_at = Play(recorded), None, None, None
    play.is_watching = False
    for item in range(last):
        at, stream, payload, now_ns = items[item]
        text = play.sessions[at].seal(stream, payload).encode()
        if item == target:
            play.is_watching = True
            if fault == "cut":
                text = text[: rng.randrange(1, len(text))]
            elif fault == "digit":
                text = changed_digit(text, rng)
            elif fault == "number":
                text = misnumbered(recorded, text, rng)
            elif fault == "double":
                again = item + rng.randrange(3), at, text
        if item == target and fault == "swap":
            held = at, text, item
        elif item == target and fault == "number anew":
            play.spoil = lambda text: misnumbered(recorded, text, rng)
        elif not (item == target and fault == "drop"):
            play.hear(at, text, now_ns, item)
        if held and held[0] == at and held[2] < item:
            play.hear(at, held[1], now_ns, item)
            held = None
        if again and again[0] == item:
            play.hear(again[1], again[2], now_ns, item)
            again = None
        if not held:
            play.serve(item, now_ns)
        if play.gaps and seen_at is None:
            seen_at = item
        if seen_at is not None and item > seen_at + AFTER and not play.wanted:
            break
    return judge(recorded, play, fault, target, item)


def changed_digit(text, rng):
    """Return a frame with one digit that is another."""
    place = rng.choice([match.start() for match in re.finditer(rb"\d", text)])
    digit = rng.choice([digit for digit in b"0123456789" if digit != text[place]])
    return text[:place] + bytes([digit]) + text[place + 1 :]


def misnumbered(recorded, text, rng):
    """Return a frame that states another sequence number or checksum; unchanged if it has none."""
    for pattern in (*(pattern.pattern for pattern in recorded.spoken.spoil.values()), r'"lastUpdateId":(\d+)'):
        if match := re.search(pattern.encode(), text):
            start, end = match.span(1)
            return text[:start] + changed_digit(text[start:end], rng) + text[end:]
    return text


def judge(recorded, play, fault, target, last):
    """Hold what was told against the undisturbed stream."""
    since, until, wrong, gaps = {}, {}, [], set()
    for item, now_ns, symbol, event, facts in play.told:
        if event == CHANGE and facts == GAP:
            gaps.add(symbol)
        is_wrong = False
        if event == BOOK:
            right = recorded.truth[symbol].get(facts[:2], recorded.stands[item][symbol])
            is_wrong = facts[3] == OK and facts[2] != right
        if is_wrong:
            wrong.append((symbol, facts[0]))
            since.setdefault(symbol, now_ns)
            until[symbol] = None
        elif (event == BOOK or (event == CHANGE and facts == GAP)) and symbol in until and until[symbol] is None:
            until[symbol] = now_ns
    end_ns = recorded.items[last][3]
    lasted = max(((until[symbol] or end_ns) - since[symbol] for symbol in since), default=0)
    spans = {symbol: list(getattr(adapter, "doubts", ())) for symbol, adapter in play.adapters.items()}
    is_marked = all(any(begin <= ns <= end for begin, end, *_ in spans[symbol]) for symbol, ns in wrong)
    is_open = any(ns is None for ns in until.values())
    shown = {}
    for _, _, symbol, event, facts in play.told:
        if event == BOOK:
            shown[symbol] = facts[2]
    is_back = all(adapter.is_live for adapter in play.adapters.values()) and (
        is_open or all(levels == recorded.stands[last][symbol] for symbol, levels in shown.items())
    )
    told = {(symbol, facts) for _, _, symbol, event, facts in play.told if event == TRADE}
    missing = 0
    if fault == "drop" and not gaps:
        whole = Play(recorded)  # only what the lost message held
        at, stream, payload, now_ns = recorded.items[target]
        whole.hear(at, whole.sessions[at].seal(stream, payload).encode(), now_ns, target)
        missing = len({(s, f) for _, _, s, event, f in whole.told if event == TRADE} - told)
    others = len(gaps) - (recorded_symbol(recorded, target) in gaps)
    return Outcome(fault, len(wrong), lasted, is_open, bool(gaps), others, is_marked, is_back, missing)


def recorded_symbol(recorded, item):
    """Return whose an item is."""
    at, stream, *_ = recorded.items[item]
    session = open_sessions(recorded, Moment(START_NS, 0.0))[at][0]
    return session.streams[stream]


def report(venue, found, say):
    """Print a venue's lines, one a fault."""
    for fault in FAULTS:
        of = [outcome for outcome in found if outcome.fault == fault]
        bad = sorted(outcome.lasted_ns / 1e9 for outcome in of if outcome.wrong)
        seen, others = sum(o.is_seen for o in of), sum(o.others > 0 for o in of)
        times = f"{statistics.median(bad):8.2f} {bad[int(0.99 * len(bad))]:8.2f} {bad[-1]:8.2f}" if bad else f"{'':8} {'':8} {'':8}"
        tail = Counter(open=sum(o.is_open for o in of), marked=sum(o.wrong > 0 and o.is_marked for o in of))
        lost = sum(o.unseen_trades > 0 for o in of)
        say(
            f"{venue:18} {fault:11} {len(of):5} {seen:5} {len(of) - seen - sum(o.wrong > 0 and not o.is_seen for o in of):9} {len(bad):6} "
            f"{times} {tail['open']:5} {tail['marked']:7} {others:7} {lost:7} {sum(not o.is_back for o in of):7}"
        )


def main():
    """Measure and print; 1 where a fault that a venue's messages show left a wrong row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("venues", nargs="*", default=list(directory.VENUES))
    parser.add_argument("--times", type=int, default=200, help="how often each fault")
    parser.add_argument("--messages", type=int, default=3000, help="how long a stream is")
    parser.add_argument("--streams", type=int, default=4, help="how many streams a venue")
    given = parser.parse_args()
    print(
        f"{'venue':18} {'fault':11} {'times':>5} {'seen':>5} {'harmless':>9} {'wrong':>6} {'median s':>8} {'99 % s':>8} {'longest':>8} "
        f"{'open':>5} {'marked':>7} {'others':>7} {'trades':>7} {'astray':>7}"
    )
    failed = 0
    for venue in given.venues:
        found = []
        for seed in range(given.streams):
            recorded = record(venue, given.messages, seed)
            share = range(seed, given.times, given.streams)
            found += [inject(recorded, fault, 1000 * k + i) for i, fault in enumerate(FAULTS) for k in share]
        report(venue, found, lambda text: print(text, flush=True))
        failed += sum(o.wrong > 0 and o.fault not in HIDDEN[venue] for o in found)
    print("seen: a gap was told; wrong: rows with a wrong level were told as good; open: still wrong when the stream ended;")
    print("marked: wrong rows that the adapter marked afterwards; others: other symbols had a gap too; trades: lost without a gap;")
    print("astray: at the end a book was crossed, not live, or not the undisturbed one though nothing was open.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
