"""OKX's connections: who is acknowledged, who is refused, whose a frame is, what the venue announces."""

import json
import re

import pytest

from tasks.venues.directory import wire
from tests.captures import SHARED
from tests.checked_feed import OkxFeed, okx_trade

WIRE = wire("okx")
PAIRS = WIRE.lines(["BTC-USDT", "BTC-USD-SWAP"], "ws://here")[0]
FIXTURES = SHARED / "fixtures" / "okx_v5"


def answer(channel="books", name="BTC-USDT", event="subscribe"):
    return json.dumps({"event": event, "arg": {"channel": channel, "instId": name}, "connId": "a5ee8533"}).encode()


def error(msg, code="60018", **told):
    return json.dumps({"event": "error", "code": code, "msg": msg, "connId": "a"} | told).encode()


def test_a_connection_carries_fewer_than_thirty_books():
    names = [f"A{i}-USDT" for i in range(60)]
    lines = WIRE.lines(names, "ws://here")
    assert [len(line.symbols) for line in lines] == [25, 25, 10]
    assert all(sum(map(len, line.sends)) < 65_536 for line in lines)
    args = [arg for line in lines for message in line.sends for arg in json.loads(message)["args"]]
    assert [arg["instId"] for arg in args if arg["channel"] == "books"] == names
    assert {f"{arg['channel']}:{arg['instId']}" for arg in args} == {key for line in lines for key in line.keys}


def test_each_argument_is_acknowledged_for_itself():
    opened = WIRE.connection(PAIRS)
    assert opened.receive(answer()).acked == ("books:BTC-USDT",)
    trades = answer("trades", "BTC-USD-SWAP")
    assert opened.receive(trades).acked == ("trades:BTC-USD-SWAP",)
    assert opened.receive(trades).frames == (("BTC-USD-SWAP", trades),)  # what came before it is history
    assert opened.receive(answer("books", "ETH-USDT")).acked == ()
    assert opened.receive(answer(event="unsubscribe")).acked == ()


@pytest.mark.parametrize(
    ("frame", "keys"),
    [
        (error("Wrong URL or channel:books,instId:BTC-USD-SWAP doesn't exist."), ["books:BTC-USD-SWAP"]),
        (error("Invalid", arg={"channel": "trades", "instId": "BTC-USDT"}), ["trades:BTC-USDT"]),
        (error("Illegal request", "60012"), ["trades:BTC-USDT", "books:BTC-USD-SWAP", "trades:BTC-USD-SWAP"]),
        (b'{"event":"channel-conn-count-error","channel":"books","connCount":"31"}', ["trades:BTC-USDT", "books:BTC-USD-SWAP"]),
    ],
)
def test_a_refusal_names_what_it_means_or_all_that_wait(frame, keys):
    opened = WIRE.connection(PAIRS)
    opened.receive(answer())
    if b"count" in frame:
        opened.receive(answer("trades", "BTC-USD-SWAP"))
    assert list(opened.receive(frame).refused) == keys


def test_a_notice_of_an_upgrade_asks_for_another_connection():
    opened = WIRE.connection(PAIRS)
    heard = opened.receive(b'{"event":"notice","code":"64008","msg":"The connection will soon be closed for a service upgrade."}')
    assert heard.is_closing
    assert "64008" in heard.reason
    assert not opened.receive(b'{"event":"notice","code":"1","msg":"hello"}').is_closing
    assert opened.receive(b"pong") == type(heard)()
    assert opened.receive(b'{"event":"channel-conn-count","channel":"books","connCount":"1"}') == type(heard)()


def test_frames_go_to_the_instrument_they_name_and_cut_ones_reach_a_stream():
    opened = WIRE.connection(PAIRS)
    for frame, symbol in ((OkxFeed(1, 2).frames[1], "BTC-USDT"), (okx_trade(4, "BTC-USD-SWAP"), "BTC-USD-SWAP")):
        assert opened.owner[opened.name_of(frame)] == symbol
        for n in range(1, len(frame)):
            part = frame[:n]
            routed = opened.owner.get(opened.name_of(part))
            assert routed == symbol or [told for _, told in opened.receive(part).frames] == [part]
    for part in (b"pon", answer()[:50]):
        assert opened.receive(part).frames == (("BTC-USDT", part),)


def test_a_new_book_is_asked_for_by_subscribing_anew():
    asked = [json.loads(message) for message in WIRE.resync("BTC-USDT")]
    assert [(m["op"], [arg["channel"] for arg in m["args"]]) for m in asked] == [
        ("unsubscribe", ["books"]),
        ("subscribe", ["books", "trades"]),
    ]
    assert WIRE.snapshot_url("BTC-USDT", "http://here") == ("", 0.0)
    assert WIRE.witness_url("BTC-USDT", "http://here")[0] == "http://here/api/v5/market/books?instId=BTC-USDT&sz=400"


def test_contracts_are_told_apart():
    linear = {"instId": "BTC-USDT-SWAP", "tickSz": "0.1", "lotSz": "0.01", "ctVal": "0.01", "ctMult": "1", "ctType": "linear"}
    inverse = {"instId": "BTC-USD-SWAP", "tickSz": "0.1", "lotSz": "1", "ctVal": "100", "ctMult": "1", "ctType": "inverse"}
    spot = {"instId": "BTC-USDT", "tickSz": "0.10", "lotSz": "0.00000001", "ctVal": "", "ctMult": "", "ctType": ""}
    told = {"code": "0", "data": [linear, inverse, spot, {"instId": "NEW-USDT", "tickSz": ""}]}
    found = WIRE.instruments(json.dumps(told).encode())
    assert {name: (made.contract_usd, made.contract_base) for name, made in found.items()} == {
        "BTC-USDT-SWAP": (0.0, 0.01),
        "BTC-USD-SWAP": (100.0, 1.0),
        "BTC-USDT": (0.0, 1.0),
    }
    assert (found["BTC-USDT"].price_decimals, found["BTC-USDT"].size_decimals) == (1, 8)
    assert [url.partition("instType=")[2] for url in WIRE.instruments_urls("http://here")] == ["SPOT", "SWAP", "FUTURES"]


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="no captures beside the project")
def test_recorded_acknowledgements_are_heard_and_the_requests_are_the_recorders():
    names = ["BTC-USD-220527", "UNI-USD-SWAP", "BTC-USDT"]
    line = WIRE.lines(names, "")[0]
    opened, acked = WIRE.connection(line), set()
    for frame in (FIXTURES / "books_trades_tickers_20220513.txt").read_bytes().splitlines():
        data = frame.partition(b" ")[2]
        if b'"event"' in data:
            acked.update(opened.receive(data).acked)
        elif b'"tickers"' not in data:
            assert opened.owner[opened.name_of(data)] == re.search(rb'"instId":"([^"]+)"', data)[1].decode()
    assert acked == set(line.keys)
    recorded = (FIXTURES / "client_subscribe_20220513.txt").read_bytes().splitlines()[-1].partition(b" ")[2]
    asked = {tuple(arg.items()) for arg in json.loads(recorded)["args"]}
    assert {tuple(arg.items()) for arg in json.loads(line.sends[0])["args"]} <= asked
