import random

import msgspec
import pytest

from simulator.capture import frames
from tasks.venues import directory, memento
from tasks.venues.events import BOOK, CHANGE, TRADE, UNREADABLE

VENUES = [venue for venue in directory.VENUES if venue.startswith("binance")]
RAW = {"binance_coinm": "BTCUSD_PERP"}


def _told(adapter, market):
    out = []
    sources = {BOOK: adapter.row, TRADE: adapter.trade, CHANGE: adapter.change}
    for receive_ns, frame in market:
        for event in adapter.receive(frame, receive_ns):
            out.append((event, sources[event].tobytes() if event in sources else dict(adapter.unreadable) if event == UNREADABLE else None))
    return out


@pytest.mark.parametrize("venue", VENUES)
def test_an_adapter_taken_up_anywhere_goes_on_as_the_first(venue):
    raw, rng = RAW.get(venue, "BTCUSDT"), random.Random(venue)
    market = [line for seed in (1, 2) for line in [*frames(venue, raw, 8.0, seed), (0, b""), (0, b'{"e":')]]
    cuts = [0, *sorted(rng.sample(range(len(market)), 6))]
    for cut in cuts:
        first = directory.adapter(venue, raw, {"l2_snapshots": 7, "event": 100}, 5)
        _told(first, market[:cut])
        state = memento.save(first)
        second = directory.adapter(venue, raw, {"l2_snapshots": 3}, 9)
        _told(second, market[cut // 2 : cut // 2 + 50])  # whatever it knew
        memento.restore(second, state)
        rest = market[cut:]
        assert _told(second, rest) == _told(first, rest)
        assert second.counts == first.counts
        assert (second.is_live, second.needs_snapshot) == (first.is_live, first.needs_snapshot)


def test_a_state_of_another_kind_or_cut_is_refused():
    state = memento.save(directory.adapter("binance_usdm", "BTCUSDT"))
    for bad in (state[:1000], b"", b"\xc0", msgspec.msgpack.encode(["object", "os:system", {}])):
        with pytest.raises(memento.StateError):
            memento.restore(directory.adapter("binance_usdm", "BTCUSDT"), bad)
    node = msgspec.msgpack.decode(state)
    node[2]["brand_new"] = ["plain", 1]
    with pytest.raises(memento.StateError, match="brand_new"):
        memento.restore(directory.adapter("binance_usdm", "BTCUSDT"), msgspec.msgpack.encode(node))
    node[2].pop("brand_new")
    node[2]["_rare_counts"] = ["object", "os.path:join", {}]
    with pytest.raises(memento.StateError, match=r"tasks\.venues"):
        memento.restore(directory.adapter("binance_usdm", "BTCUSDT"), msgspec.msgpack.encode(node))


def test_what_cannot_be_kept_is_told_and_not_raised_while_recording(caplog):
    adapter = directory.adapter("binance_usdm", "BTCUSDT")
    adapter.socket = object.__new__(type("Socket", (), {}))
    assert memento.saved(adapter) == b""
    assert "Binance.socket" in caplog.text
