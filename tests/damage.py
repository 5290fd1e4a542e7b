"""Streams of books played in order, or with one frame damaged on its way."""

import random
import re
from collections import Counter

import numpy as np

from tasks.venues.events import BOOK, CHANGE, TRADE, UNREADABLE
from tests.checked_feed import START_NS, STEP_NS
from warehouse.schema import GAP, OK, START

LEVELS = 20


def levels_of(row):
    """Return a row's levels, shape (4, 20): bid prices, bid sizes, ask prices, ask sizes."""
    return np.array([row["bid_px"], row["bid_sz"], row["ask_px"], row["ask_sz"]])


def naive_levels(book, n=LEVELS):
    """Return a naive book's levels in the same shape."""
    out = np.zeros((4, n))
    out[0], out[2] = np.nan, np.nan
    for side in range(2):
        for i, (price, size) in enumerate(book.best(side, n)):
            out[2 * side, i], out[2 * side + 1, i] = float(price), float(size)
    return out


class Play:
    """A stream's events as records, in order."""

    def __init__(self, stream):
        self.stream, self.told = stream, []

    def feed(self, receive_ns, frame):
        """Return the events of one frame as (event, record)."""
        stream, news = self.stream, []
        views = {BOOK: "row", TRADE: "trade", CHANGE: "change"}
        for event in stream.receive(frame, receive_ns):
            news.append((event, dict(stream.unreadable) if event == UNREADABLE else getattr(stream, views[event])[0].copy()))
        self.told += news
        return news

    def of(self, event):
        return [record for told, record in self.told if told == event]

    @property
    def states(self):
        return [int(change["state"]) for change in self.of(CHANGE)]

    def assert_numbered(self):
        """Assert that every table counts without a hole, and all tables together too."""
        for event in (BOOK, TRADE, CHANGE, UNREADABLE):
            assert [int(record["seq"]) for record in self.of(event)] == list(range(len(self.of(event))))
        assert [int(record["event_seq"]) for _, record in self.told] == list(range(len(self.told)))


def drop(frames, i, rng):
    """Leave a frame out."""
    del frames[i]


def repeat(frames, i, rng):
    """Say a frame again, at once or after others."""
    frames.insert(i + rng.randint(1, 3), frames[i])


def swap(frames, i, rng):
    """Exchange a frame with the next one."""
    frames[i], frames[i + 1] = frames[i + 1], frames[i]


def cut(frames, i, rng):
    """Break a frame off."""
    n, frame = frames[i]
    frames[i] = n, frame[: rng.randrange(1, len(frame))]


def corrupt(frames, i, rng, where=rb"\d"):
    """Change one digit of a frame."""
    n, frame = frames[i]
    at = rng.choice([k for match in re.finditer(where, frame) for k in range(*match.span()) if frame[k] in b"0123456789"])
    digit = rng.choice([d for d in b"0123456789" if d != frame[at]])
    frames[i] = n, frame[:at] + bytes([digit]) + frame[at + 1 :]


DAMAGES = {damage.__name__: damage for damage in (drop, repeat, swap, cut, corrupt)}


def damaged(feed, make, naive, damage, seed, later=2):
    """Play a feed with one frame damaged and a venue that answers a wish for a snapshot a little later.

    Returns
    -------
    play : Play
    wrong : list of (int, row)
        Rows told as good that are not the undisturbed book of their message; the time a frame was
        given by a changed digit is not held against it.
    """
    rng, truth = random.Random(seed), []
    for frame in feed.frames:
        naive.receive(frame)
        truth.append(naive_levels(naive.book))
    clean = Play(make())
    rows = [clean.feed(START_NS + i * STEP_NS, frame)[-1][1] for i, frame in enumerate(feed.frames)]
    frames = list(enumerate(feed.frames))
    at = rng.randrange(2, len(frames) - 12)
    damage(frames, at, rng)
    play, wrong, newest, answers = Play(make()), [], 0, []
    for k, (i, frame) in enumerate(frames):
        newest = max(newest, i)
        todo = [(i, frame)]
        if play.stream.needs_snapshot and k and not answers:
            answers.append(k + later)
        if answers and answers[0] <= k:
            answers.clear()
            todo.append((newest, feed.whole[newest]))
        for n, part in todo:
            for event, row in play.feed(START_NS + k * STEP_NS, part):
                right = event != BOOK or (
                    np.array_equal(levels_of(row), truth[n], equal_nan=True)
                    and (row["exchange_ns"] == rows[n]["exchange_ns"] or part != feed.frames[n])
                )
                if event == BOOK and row["doubt"] == OK and not right:
                    wrong.append((n, row))
    return play, wrong, rows[-1]


def assert_told_in_order(play):
    """Assert that a book was told only where coverage was good, and that what was lost came back."""
    state = START
    for event, record in play.told:
        state = int(record["state"]) if event == CHANGE else state
        assert event != BOOK or state == OK
    gaps = Counter(play.states)[GAP]
    assert play.stream.counts["gaps"] == gaps
    assert play.stream.counts["resyncs"] == gaps
    assert play.stream.is_live
    play.assert_numbered()
