import gzip
import io
import itertools
import json

import pytest
import zstandard

from simulator import frames, write_capture
from simulator.capture import JOINS
from simulator.instruments import DEFAULT_SYMBOL, UnknownInstrumentError
from tasks.venues.binance import Binance

VENUES = tuple(DEFAULT_SYMBOL)


def session(venue, seconds=20, seed=3, **options):
    return list(frames(venue, DEFAULT_SYMBOL[venue], seconds, seed, **options))


def bodies(captured, feed):
    return [json.loads(frame)["data"] for _, frame in captured if f"@{feed}".encode() in frame[:40]]


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("join", JOINS)
def test_book_kept_from_messages_shows_the_tickers_best_at_every_update_id(venue, join):
    captured = session(venue, join=join)
    books, tickers, last_id, checked = ({}, {}), {}, None, 0
    snapshot_at = next(i for i, (_, frame) in enumerate(captured) if frame.startswith(b'{"lastUpdateId"'))
    body = json.loads(captured[snapshot_at][1])
    for side, name in zip(books, ("bids", "asks"), strict=True):
        side.update({float(price): float(size) for price, size in body[name]})
    for _, frame in captured:
        message = json.loads(frame).get("data", {})
        if message.get("e") == "depthUpdate":
            if message["u"] < body["lastUpdateId"]:
                continue
            for side, name in zip(books, "ba", strict=True):
                for price, size in message[name]:
                    side.pop(float(price), None)
                    if float(size):
                        side[float(price)] = float(size)
            last_id, best = message["u"], (max(books[0]), min(books[1]))
            told = [ticker for at, ticker in tickers.items() if at <= last_id]
            if told:
                assert best[0] < best[1]
                assert (*best, books[0][best[0]], books[1][best[1]]) == told[-1]
                checked += 1
            tickers = {last_id: told[-1]} if told else {}
        elif "B" in message:
            tickers[message["u"]] = tuple(float(message[k]) for k in "baBA")
    assert checked > 150
    assert min(len(side) for side in books) > 200


@pytest.mark.parametrize("venue", VENUES)
def test_ids_chain_as_the_venue_chains_them(venue):
    captured = session(venue)
    depth, trades = bodies(captured, "depth"), bodies(captured, "trade")
    if venue == "binance_spot":
        assert all(now["U"] == before["u"] + 1 for before, now in itertools.pairwise(depth))
    else:
        assert all(now["pu"] == before["u"] for before, now in itertools.pairwise(depth))
        assert sum(now["U"] != before["u"] + 1 for before, now in itertools.pairwise(depth)) > len(depth) / 2
    assert all(now["t"] == before["t"] + 1 for before, now in itertools.pairwise(trades))
    stamps = [receive_ns for receive_ns, _ in captured]
    assert stamps == sorted(stamps)


@pytest.mark.parametrize("venue", VENUES)
def test_joins_put_the_snapshot_where_they_say(venue):
    for join in JOINS:
        captured = session(venue, seconds=3, join=join)
        at = next(json.loads(frame)["lastUpdateId"] for _, frame in captured if frame.startswith(b'{"lastUpdateId"'))
        depth = bodies(captured, "depth")
        if join == "next":
            assert depth[0]["U"] > at
            assert depth[0].get("pu", depth[0]["U"] - 1) == at
        elif join == "boundary":
            assert any(message["u"] == at for message in depth)
            assert depth[0]["u"] < at
        else:
            assert any(message["U"] <= at <= message["u"] for message in depth)
            assert depth[0]["u"] < at


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("seed", range(4))
def test_adapter_reads_every_frame_without_a_gap(venue, seed):
    reader, books = Binance(venue, DEFAULT_SYMBOL[venue]), 0
    for receive_ns, frame in session(venue, seed=seed, seconds=10):
        for _ in reader.receive(frame, receive_ns):
            pass
    books = reader.counts["book_updates"]
    assert reader.is_live
    assert books > 50
    assert not any(reader.counts[bad] for bad in ("gaps", "crossed", "trade_id_gaps", "unreadable", "stray", "stale"))


def test_fields_come_in_the_venues_order_and_decimals():
    captured = session("binance_coinm", seconds=5)
    assert list(bodies(captured, "depth")[0]) == ["e", "E", "T", "s", "ps", "U", "u", "pu", "b", "a"]
    assert list(bodies(captured, "bookTicker")[0]) == ["u", "e", "s", "ps", "b", "B", "a", "A", "T", "E"]
    captured = session("binance_usdm", seconds=5)
    assert list(bodies(captured, "bookTicker")[0]) == ["e", "u", "s", "b", "B", "a", "A", "T", "E"]
    trade = bodies(captured, "trade")[0]
    assert list(trade) == ["e", "E", "T", "s", "t", "p", "q", "X", "m"]
    assert trade["p"][-3] == "."
    assert trade["q"][-4] == "."
    captured = session("binance_spot", seconds=5)
    assert list(bodies(captured, "bookTicker")[0]) == ["u", "s", "b", "B", "a", "A"]
    trade = bodies(captured, "trade")[0]
    assert list(trade) == ["e", "E", "s", "t", "p", "q", "T", "m", "M"]
    assert trade["p"][-9] == trade["q"][-9] == "."


def test_same_seed_same_bytes_and_another_seed_other_bytes():
    assert session("binance_usdm", 2, seed=5) == session("binance_usdm", 2, seed=5)
    assert session("binance_usdm", 2, seed=5) != session("binance_usdm", 2, seed=6)


def test_clock_offset_may_put_arrival_before_the_event():
    captured = session("binance_usdm", 2, clock_offset_ns=-1_270_000_000)
    timed = [(receive_ns, json.loads(frame)["data"]["E"]) for receive_ns, frame in captured if b'"data"' in frame]
    assert all(receive_ns // 1_000_000 < event_ms for receive_ns, event_ms in timed)


def test_unknown_market_says_which_there_are():
    with pytest.raises(UnknownInstrumentError, match="binance_usdm ETHUSDT"):
        next(frames("binance_usdm", "DOGEUSDT", 1, 0))


@pytest.mark.parametrize("ending", [".gz", ".zst", ".txt"])
def test_capture_files_hold_a_line_a_frame(tmp_path, ending):
    captured = session("binance_spot", 2)
    path = tmp_path / f"day{ending}"
    assert write_capture(path, captured) == len(captured)
    raw = path.read_bytes()
    if ending == ".gz":
        raw = gzip.decompress(raw)
    elif ending == ".zst":
        raw = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(raw)).read()
    lines = raw.splitlines()
    assert [(int(line.partition(b" ")[0]), line.partition(b" ")[2]) for line in lines] == captured
