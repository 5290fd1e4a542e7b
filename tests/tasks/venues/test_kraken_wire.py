"""Kraken's connections: who is acknowledged, who is refused, whose a frame is."""

import json

import pytest

from tasks.venues.directory import wire
from tests.captures import SHARED
from tests.checked_feed import KrakenFeed, kraken_trade

WIRE = wire("kraken")
PAIRS = WIRE.lines(["BTC/USD", "ETH/USD"], "ws://here")[0]
FIXTURES = SHARED / "fixtures"


def answer(channel="book", symbol="BTC/USD", **told):
    result = {"channel": channel, "symbol": symbol, "snapshot": True} | ({"depth": 10} if channel == "book" else {})
    return json.dumps({"method": "subscribe", "result": result, "success": True, "req_id": 1} | told).encode()


def refusal(error, **told):
    return json.dumps({"error": error, "method": "subscribe", "success": False} | told).encode()


def test_requests_come_in_batches_over_as_few_connections_as_allowed():
    names = [f"A{i}/USD" for i in range(450)]
    lines = WIRE.lines(names, "ws://here")
    assert [len(line.symbols) for line in lines] == [200, 200, 50]
    asked = [json.loads(message)["params"] for line in lines for message in line.sends]
    assert all(len(params["symbol"]) <= 100 for params in asked)
    for channel in ("book", "trade"):
        assert [name for params in asked if params["channel"] == channel for name in params["symbol"]] == names
    assert sum(len(line.keys) for line in lines) == 900


def test_each_stream_is_acknowledged_for_itself():
    opened = WIRE.connection(PAIRS)
    assert opened.receive(answer()).acked == ["book:BTC/USD"]
    assert opened.receive(answer("trade", "ETH/USD")).acked == ["trade:ETH/USD"]
    assert opened.receive(answer(symbol="SOL/USD")).acked == []
    assert opened.receive(answer()).frames == ()
    deeper = answer().replace(b'"depth": 10', b'"depth": 25')
    assert opened.receive(deeper).frames == (("BTC/USD", deeper),)  # the stream must know


@pytest.mark.parametrize(
    ("error", "told", "keys"),
    [
        ("Currency pair not supported ETH/USD", {}, ["book:ETH/USD", "trade:ETH/USD"]),
        ("Currency pair not supported ETH/USD", {"req_id": 2}, ["trade:ETH/USD"]),
        ("Currency pair not supported", {"req_id": 1, "symbol": "ETH/USD"}, ["book:ETH/USD"]),
        ("Exceeded msg rate", {}, ["trade:BTC/USD", "book:ETH/USD", "trade:ETH/USD"]),
        ("Currency pair not supported SOL/USD", {}, []),
    ],
)
def test_a_refusal_names_what_it_means_or_all_that_wait(error, told, keys):
    opened = WIRE.connection(PAIRS)
    opened.receive(answer())
    heard = opened.receive(refusal(error, **told))
    assert (list(heard.refused), heard.reason) == (keys, error)


def test_what_is_subscribed_already_counts_as_acknowledged():
    heard = WIRE.connection(PAIRS).receive(refusal("Already subscribed", req_id=2, symbol="ETH/USD"))
    assert (list(heard.acked), list(heard.refused)) == (["trade:ETH/USD"], [])


def test_trades_that_flow_already_are_not_refused_however_that_is_worded():
    opened = WIRE.connection(PAIRS)
    assert list(opened.receive(refusal("No", req_id=2, symbol="BTC/USD")).refused) == ["trade:BTC/USD"]
    opened.receive(answer("trade"))
    assert list(opened.receive(refusal("No", req_id=2, symbol="BTC/USD")).refused) == []
    opened.receive(answer())
    assert list(opened.receive(refusal("No", req_id=1, symbol="BTC/USD")).refused) == ["book:BTC/USD"]


def test_frames_go_to_the_pair_they_name_and_chatter_to_nobody():
    opened = WIRE.connection(PAIRS)
    for frame, key in ((KrakenFeed(1, 2).frames[1], b"book:BTC/USD"), (kraken_trade([4], pair="ETH/USD"), b"trade:ETH/USD")):
        assert opened.name_of(frame) == key
        assert opened.owner[key] == key.decode().partition(":")[2]
    for frame in (b'{"channel":"heartbeat"}', b'{"channel":"status","type":"update","data":[]}', b'{"method":"pong","req_id":3}'):
        assert opened.owner.get(opened.name_of(frame)) is None
        assert opened.receive(frame) == type(opened.receive(frame))()


def test_a_frame_cut_anywhere_reaches_a_stream_that_keeps_it():
    opened = WIRE.connection(PAIRS)
    for frame in (KrakenFeed(1, 2).frames[1], kraken_trade([4], pair="ETH/USD"), answer(), b'{"channel":"heartbeat"}'):
        for n in range(1, len(frame)):
            part = frame[:n]
            symbol = opened.owner.get(opened.name_of(part))
            assert symbol or [told for _, told in opened.receive(part).frames] == [part]
            assert not opened.receive(part).acked
            if b"ETH/USD" in part:
                assert (symbol or opened.receive(part).frames[0][0]) == "ETH/USD" or not part.partition(b"ETH/USD")[2]


def test_a_new_book_is_asked_for_by_subscribing_anew():
    asked = [json.loads(message) for message in WIRE.resync("BTC/USD")]
    assert [(m["method"], m["params"]["channel"], m["params"]["symbol"]) for m in asked] == [
        ("unsubscribe", "book", ["BTC/USD"]),
        ("subscribe", "book", ["BTC/USD"]),
        ("subscribe", "trade", ["BTC/USD"]),
    ]
    assert WIRE.snapshot_url("BTC/USD", "http://here") == ("", 0.0)
    assert WIRE.witness_url("BTC/USD", "http://here")[0] == "http://here/0/public/Depth?pair=XBTUSD&count=100"


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="no captures beside the project")
def test_decimals_are_read_from_a_recorded_answer():
    found = WIRE.instruments((FIXTURES / "rest" / "kraken" / "AssetPairs_sample.json").read_bytes())
    assert list(found) == ["BTC/USDT"]
    assert (found["BTC/USDT"].price_decimals, found["BTC/USDT"].size_decimals, found["BTC/USDT"].tick) == (1, 8, 0.1)


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="no captures beside the project")
def test_recorded_acknowledgements_and_heartbeats_are_heard():
    opened = WIRE.connection(WIRE.lines(["BTC/USD"], "")[0])
    frames = (FIXTURES / "kraken_v2" / "book10_btcusd_20261006.jsonl").read_bytes().splitlines()
    assert opened.receive(frames[0]).frames == ()
    assert opened.receive(frames[1]).acked == ["book:BTC/USD"]
    assert {opened.owner[opened.name_of(frame)] for frame in frames[2:]} == {"BTC/USD"}
