"""A thousand damaged messages of each Coinbase feed, one at a time: what is told as good, and for how long it may be wrong."""

import copy
import json
import random
from functools import lru_cache

import numpy as np
import pytest

from tasks.venues import directory, memento
from tasks.venues.events import BOOK
from tasks.venues.iso_time import iso_ns
from tests.coinbase_feed import Naive, Play, iso, levels_of, text
from tests.simulator.test_coinbase import VENUES, Venue
from warehouse.schema import GAP, OK

SYMBOL, PLACES, EACH, AFTER = "BTC-USD", 40, 5, 450
FAULTS = ("drop", "repeat", "swap", "cut", "digit")
LONGEST_TOUCH_S = 5.0
_BOOK = {"coinbase_exchange": b'"l2update"', "coinbase_advanced": b'"type":"update","product_id"'}


class Undisturbed:
    """A simulated stream, the book behind each frame, and readers taken up at some of its messages."""

    def __init__(self, venue):
        self.venue, simulated = venue, Venue(venue, 77, (SYMBOL,))
        for message in directory.wire(venue).lines([SYMBOL], "")[0].sends:
            simulated.ask(message)
        simulated.run(60)
        self.frames, self.truth, self.books = simulated.frames, {}, []
        naive, last_ns = Naive(), 0
        for _, frame in self.frames:
            data = json.loads(frame)
            if naive.fold(data):
                last_ns = self._ns(data)
                self.truth[last_ns] = np.array(naive.best())
            self.books.append((last_ns, [dict(side) for side in naive.sides]))
        updates = [i for i, (_, frame) in enumerate(self.frames) if _BOOK[venue] in frame[:200]]
        updates = [i for i in updates if 100 < i < len(self.frames) - AFTER]
        self.places = updates[:: len(updates) // PLACES][:PLACES]
        self.next = {i: next(j for j in updates if j > i) for i in self.places[:-1]}
        self._readers = self._taken_up()

    @staticmethod
    def _ns(data):
        if "time" in data:
            return iso_ns(data["time"])
        event = data["events"][0]
        return iso_ns(data["timestamp"] if event["type"] == "snapshot" else event["updates"][0]["event_time"])

    def _taken_up(self):
        play, found = Play(self.venue, [SYMBOL]), {}
        for i, (receive_ns, frame) in enumerate(self.frames):
            if i in self.next:
                found[i] = memento.save(play.streams[SYMBOL]), copy.deepcopy(play.connection)
            play.feed(receive_ns, frame)
        return found

    def reader(self, at):
        """Return a connection and its adapter as they were before frame `at`."""
        play = Play(self.venue, [SYMBOL])
        state, connection = self._readers[at]
        memento.restore(play.streams[SYMBOL], state)
        play.connection = copy.deepcopy(connection)
        return play

    def fresh(self, i):
        """Return the whole book behind frame i as the venue would send it."""
        ns, sides = self.books[i]
        bids, asks = ([[str(price), str(size)] for price, size in side.items()] for side in sides)
        if self.venue == "coinbase_exchange":
            return text({"type": "snapshot", "product_id": SYMBOL, "asks": asks, "bids": bids, "time": iso(ns)})
        rows = [("bid", *level) for level in bids] + [("offer", *level) for level in asks]
        updates = [{"side": side, "event_time": iso(0), "price_level": price, "new_quantity": size} for side, price, size in rows]
        events = [{"type": "snapshot", "product_id": SYMBOL, "updates": updates}]
        return text({"channel": "l2_data", "timestamp": iso(ns, 9), "sequence_num": 0, "events": events})

    def is_right(self, row):
        """Return whether a row is the book of its time, and whether its touch is."""
        right = self.truth.get(int(row["exchange_ns"]))
        told = np.array(levels_of(row))
        return (False, False) if right is None else (np.array_equal(told, right, equal_nan=True), np.array_equal(told[:, 0], right[:, 0]))


@lru_cache(maxsize=2)
def undisturbed(venue):
    return Undisturbed(venue)


def damaged(stream, fault, at, rng):
    """Return `(index, receive_ns, frame)` from frame `at` on, with one fault in that frame."""
    out = [(i, *stream.frames[i]) for i in range(at, at + AFTER)]
    _, stamp, frame = out[0]
    if fault == "drop":
        return out[1:]
    if fault == "repeat":
        return [out[0], *out]
    if fault == "swap":
        then = (stream.next[at] if stream.venue == "coinbase_exchange" else at + 1) - at
        return [(at, stamp, out[then][2]), *out[1:then], (at + then, out[then][1], frame), *out[then + 1 :]]
    if fault == "cut":
        return [(at, stamp, frame[: rng.randrange(1, len(frame))]), *out[1:]]
    place = rng.choice([i for i, byte in enumerate(frame) if 48 <= byte <= 57 and i > 17])
    return [(at, stamp, frame[:place] + str((frame[place] - 48 + rng.randint(1, 9)) % 10).encode() + frame[place + 1 :]), *out[1:]]


def play(stream, fault, at, rng):
    """Return times of rows told as good though wrong, of those with a wrong touch, and whether the book was doubted and became right."""
    reader, wrong, touch, doubted = stream.reader(at), [], [], 0
    for i, receive_ns, frame in damaged(stream, fault, at, rng):
        rows = [record for _, event, record in reader.feed(receive_ns, frame) if event == BOOK and record["doubt"] == OK]
        for row in rows:
            is_right, is_touch = stream.is_right(row)
            wrong += [] if is_right else [int(row["exchange_ns"])]
            touch += [] if is_touch else [int(row["exchange_ns"])]
        if reader.streams[SYMBOL].state == GAP and reader.streams[SYMBOL].needs_snapshot:
            doubted += 1
            if doubted == 6:  # so many messages later the venue has answered the new subscription
                news = reader.give(SYMBOL, receive_ns, stream.fresh(i))
                (first,) = [record for event, record in news if event == BOOK]
                assert stream.is_right(first)[0]
        elif doubted and rows:
            assert all(stream.is_right(row)[0] for row in rows)
            if doubted > 20:
                break
            doubted += 1
    return wrong, touch, doubted > 0


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("venue", VENUES)
def test_two_hundred_times(venue, fault):
    stream, longest_s, doubts = undisturbed(venue), 0.0, 0
    for at in list(stream.next)[: PLACES - 1]:
        for seed in range(EACH):
            wrong, touch, doubted = play(stream, fault, at, random.Random(f"{venue}{fault}{at}{seed}"))
            doubts += doubted
            if fault in ("repeat", "cut") or (venue == "coinbase_advanced" and fault != "digit"):
                assert wrong == []
                assert doubted == (fault != "repeat")
            elif fault == "swap":
                assert len(wrong) <= 1
                assert doubted
            lasting = [ns for ns in touch if ns in stream.truth]  # a row at a damaged time is wrong once
            longest_s = max(longest_s, (lasting[-1] - lasting[0]) / 1e9 if lasting else 0.0)
    assert longest_s < LONGEST_TOUCH_S
    assert doubts > 0 or fault == "repeat"
