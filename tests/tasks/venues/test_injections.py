"""One message damaged in the stream of each venue: no wrong row is called good that the messages can show."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from tasks.venues import directory

PATH = Path(__file__).parents[3] / "bench" / "injections.py"
SPEC = importlib.util.spec_from_file_location("injections", PATH)
injections = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = injections  # its dataclasses look themselves up there
SPEC.loader.exec_module(injections)

TIMES = 25  # of each fault; `python bench/injections.py` does two hundred
NUMBERED_LINES = ("coinbase_advanced",)  # a hole in a connection's numbers may be anybody's loss
OVERLAPPING = ("cut", "digit")  # what cannot be read may be anybody's as well
TIME = re.compile(rb'"(?:ts|cts|E|T|time|timestamp|event_time)":"?(\d{13}|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?)')


@pytest.fixture(scope="module", params=directory.VENUES)
def found(request):
    """Return venue and outcomes of all faults on one stream of two markets."""
    venue = request.param
    recorded = injections.record(venue, 330, seed=5)
    return venue, [injections.inject(recorded, fault, 31 * k + i) for i, fault in enumerate(injections.FAULTS) for k in range(TIMES)]


@pytest.mark.slow
def test_no_wrong_row_is_good_where_the_messages_show_the_fault(found):
    venue, outcomes = found
    wrong = [outcome for outcome in outcomes if outcome.wrong and outcome.fault not in injections.HIDDEN[venue]]
    assert wrong == []


@pytest.mark.slow
def test_every_book_is_the_undisturbed_one_again(found):
    venue, outcomes = found
    astray = [outcome for outcome in outcomes if not outcome.is_back]
    shown = [outcome for outcome in astray if outcome.fault not in injections.HIDDEN[venue]]
    assert shown + [outcome for outcome in astray if outcome.fault == "digit" and not outcome.wrong] == []


@pytest.mark.slow
def test_only_the_damaged_symbol_begins_anew(found):
    venue, outcomes = found
    if venue not in NUMBERED_LINES:
        assert [outcome for outcome in outcomes if outcome.others and outcome.fault not in OVERLAPPING] == []


@pytest.mark.slow
def test_lost_books_are_noticed_where_books_are_numbered_or_checked(found):
    venue, outcomes = found
    if venue not in ("hyperliquid", "coinbase_exchange"):  # whole books, and books without a number
        assert any(outcome.is_seen for outcome in outcomes if outcome.fault == "drop")


def test_a_lost_update_of_a_book_without_numbers_is_found_wrong():
    recorded = injections.record("coinbase_exchange", 330, seed=5)
    assert any(injections.inject(recorded, "drop", seed).wrong for seed in range(12))


class Dated(injections.Play):
    """A reader that notes when changes of coverage are said to have been: (now_ns, state, exchange_ns)."""

    def __init__(self, recorded):
        self.changes, self.rows = [], []
        super().__init__(recorded)

    def feed(self, symbol, frame, now_ns, item):
        adapter = self.adapters[symbol]
        for event in adapter.receive(frame, now_ns + 30_000_000):
            if event == injections.CHANGE and symbol == self.recorded.symbols[0]:
                self.changes.append((now_ns, int(adapter.change["state"][0]), int(adapter.change["exchange_ns"][0])))
            elif event in (injections.BOOK, injections.TRADE):
                row = adapter.row if event == injections.BOOK else adapter.trade
                self.rows.append((now_ns, int(row["exchange_ns"][0])))


def shifted(frame, by_s, place=None):
    """Return a frame all of whose times, or one of them, are so much later."""
    for at, match in enumerate(reversed(list(TIME.finditer(frame)))):
        start, end = match.span(1)
        if place is not None and at != place:
            continue
        told = frame[start:end].decode()
        new = str(int(told) + by_s * 1000) if told.isdigit() else str(np.datetime64(told) + np.timedelta64(by_s, "s"))
        frame = frame[:start] + new.encode() + frame[end:]
    return frame


@pytest.mark.parametrize("by_s", [6, -6])
@pytest.mark.parametrize("which", ["before the loss", "anew"])
@pytest.mark.parametrize("venue", directory.VENUES)
def test_a_loss_beside_a_wrong_time_is_dated_when_it_happened(venue, which, by_s):
    recorded = injections.record(venue, 330, seed=5)
    symbol, play, due = recorded.symbols[0], Dated(recorded), 2 * (which == "before the loss")
    if which == "anew":
        play.spoil = lambda text: shifted(text, by_s)
        recorded.fresh = {at: shifted(book, by_s) if isinstance(book, bytes) else book for at, book in recorded.fresh.items()}
    for item, (at, stream, payload, now_ns) in enumerate(recorded.items):
        text = play.sessions[at].seal(stream, payload).encode()
        if item > 120 and due and stream == recorded.spoken.book_stream(symbol):
            due -= 1
            assert shifted(text, by_s) != text
            text = shifted(text, by_s) if due else b""  # the second is lost
        if item == 120 and which == "anew":
            play.feed(symbol, b"", now_ns, item)
        if text:
            play.hear(at, text, now_ns, item)
        play.serve(item, now_ns)
    later = [change for change in play.changes if change[0] > recorded.items[120][3] - 1]
    gaps = [(now_ns - told_ns) / 1e9 for now_ns, state, told_ns in later if state == injections.GAP]
    joins = [(told_ns - now_ns) / 1e9 for now_ns, state, told_ns in later if state == injections.OK]
    assert gaps or venue in ("hyperliquid", "coinbase_exchange")
    assert all(late_s > -0.5 for late_s in gaps), "a gap begins later than what was lost"
    assert all(late_s > -0.5 for late_s in joins), "the book is good before it was whole again"


@pytest.mark.parametrize("venue", [venue for venue in directory.VENUES if not venue.startswith(("binance", "hyperliquid"))])
def test_a_book_that_is_sent_anew_while_it_is_whole_tells_what_was_not_sent_before_it(venue):
    # Asked for a moment before it became whole: between the two subscriptions the venue sends nothing, and numbers nothing.
    recorded = injections.record(venue, 330, seed=5)
    symbol, play, last_ns, begun_ns = recorded.symbols[0], Dated(recorded), 0, 0
    book = recorded.spoken.book_stream(symbol)
    for item, (at, stream, payload, now_ns) in enumerate(recorded.items):
        is_silent = item > 120 and not begun_ns and stream == book
        if not is_silent:
            play.hear(at, play.sessions[at].seal(stream, payload).encode(), now_ns, item)
            last_ns = now_ns if stream == book and not begun_ns else last_ns
        elif begun_ns == 0 and item > 150 and (item, symbol) in recorded.fresh:
            begun_ns = now_ns
            play.hear(at, play.sessions[at].seal(stream, recorded.fresh[item, symbol]).encode(), now_ns, item)
        assert not (begun_ns and play.adapters[symbol].needs_snapshot)
    (gap,), (_, join) = ([told_ns for _, state, told_ns in play.changes if state == wanted] for wanted in (injections.GAP, injections.OK))
    assert abs(gap - last_ns) < 50e6 < join - gap
    assert abs(join - begun_ns) < 250e6


@pytest.mark.parametrize("by_s", [10**9, -(10**9)])
@pytest.mark.parametrize("kind", ["book", "trade"])
@pytest.mark.parametrize("venue", directory.VENUES)
def test_a_row_of_another_decade_is_not_told(venue, kind, by_s):
    recorded = injections.record(venue, 330, seed=5)
    symbol, book = recorded.symbols[0], recorded.spoken.book_stream(recorded.symbols[0])
    streams = [stream for _, stream, *_ in recorded.items if (stream == book if kind == "book" else re.search("[tT]rade|matches", stream))]
    for place in range(3):
        play, due = Dated(recorded), 1
        for item, (at, stream, payload, now_ns) in enumerate(recorded.items):
            text = play.sessions[at].seal(stream, payload).encode()
            if item > 120 and due and stream in streams and shifted(text, by_s, place) != text:
                text, due = shifted(text, by_s, place), 0
            play.hear(at, text, now_ns, item)
            play.serve(item, now_ns)
        assert due == 0 or place > 0
        assert all(abs(told_ns - now_ns) < 120e9 for now_ns, told_ns in play.rows)
        assert play.adapters[symbol].is_live
