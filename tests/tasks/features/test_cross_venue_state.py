"""What the fold over venues remembers: any split of the stream folds to the whole, live as in batch."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.features.cross_venue import CrossVenue
from tests.cross_streams import VENUES, at_once, one_by_one, streams_of_venues, venue_events


def fold_of(n, rate=1.001):
    fold = CrossVenue(VENUES[:n], (1.0, 1.0, rate, 1.0)[:n], (1.0, 2.0, 0.5, 0.0)[:n])
    for place in range(n):
        fold.funding(place, 1e-4 * place)
    return fold


def kept(fold):
    file = io.BytesIO()
    fold.save(file)
    return io.BytesIO(file.getvalue())


@settings(max_examples=10, deadline=None)
@given(stream=streams_of_venues(seconds=25), shares=st.lists(st.floats(0, 1), max_size=3), is_live=st.tuples(*[st.booleans()] * 4))
def test_any_split_of_the_stream_folds_to_the_whole(stream, shares, is_live):
    n, events = stream["n"], venue_events(**stream)
    whole = at_once(fold_of(n), events)
    cuts = [0, *sorted(int(share * len(events)) for share in shares), len(events)]
    fold, made = fold_of(n), []
    for live, first, last in zip(is_live, cuts, cuts[1:], strict=False):
        other = CrossVenue(fold.venues, fold.state["venue"]["rate"][0, :n], fold.state["venue"]["fee"][0, :n])
        other.restore(kept(fold))
        fold = other
        made.append((one_by_one if live else at_once)(fold, events[first:last]))
    assert np.concatenate(made).tobytes() == whole.tobytes()
    assert whole.size


def test_state_of_other_venues_or_of_another_version_is_refused():
    fold = fold_of(2)
    with pytest.raises(ValueError, match="kept state must be of binance_spot, bybit_spot, kraken, received binance_spot, bybit_spot"):
        fold_of(3).restore(kept(fold))
    file = io.BytesIO()
    np.savez(file, state=np.zeros(8, np.uint8))
    file.seek(0)
    with pytest.raises(ValueError, match="another version wrote it"):
        fold.restore(file)


def test_rates_are_those_in_use_from_the_next_book_on():
    events = venue_events(3, seconds=10, doubtful=0.0, silent=False)
    fold, other = fold_of(3), fold_of(3, rate=2.0)
    at_once(fold, events[: len(events) // 2])
    other.restore(kept(fold))
    rows = at_once(other, events[len(events) // 2 :])
    assert np.nanmax(rows["mid"][:, 2]) > 1.9 * np.nanmax(rows["mid"][:, 0])
