import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.venues import scan as sc
from tasks.venues.book import new_book
from tasks.venues.errors import UnreadableFrameError, WidePriceError
from tasks.venues.json_frame import read_json
from tests import wire
from tests.strategies import decimal_texts


def book_of(venue="binance_usdm", decimals=2):
    book, _ = new_book(wire.RAW[venue], venue != "binance_spot")
    book["decimals"] = decimals
    return book


def test_levels_come_in_units_of_the_book_with_the_decimals_they_need():
    frame = b"""
    {"data": {"e": "depthUpdate", "E": 5, "s": "BTCUSDT", "U": 1, "u": 2, "pu": 0,
              "b": [["1.50", "2"]], "a": [["2.125", "0.10"], ["3e2", "1"]]}}
    """
    kind, units, sizes, finest = read_json(frame, book_of(decimals=3))
    assert (kind, finest) == (sc.DEPTH, 3)
    np.testing.assert_array_equal(units, [[1500, 0], [2125, 300_000]])
    np.testing.assert_array_equal(sizes, [[2.0, 0.0], [0.1, 1.0]])
    assert read_json(frame, book_of(decimals=2))[3] == 3


def test_zeros_behind_the_point_ask_for_no_finer_units():
    assert read_json(wire.depth("binance_usdm", 1, 2, [("61800.20000000", "1")]), book_of(decimals=1))[3] == 1


@given(decimal_texts(), st.integers(0, 12))
@example("9007199254740991", 0)
@example("0.000000000000000001", 18)
@settings(max_examples=300, deadline=None)
def test_prices_are_exact_or_refused(text, decimals):
    book = book_of(decimals=decimals)
    frame = wire.depth("binance_usdm", 1, 2, [(text, text)])
    whole, _, tail = text.partition(".")
    needed = max(decimals, len(tail.rstrip("0")))
    if not float(text) or int(whole + tail.ljust(24, "0")) // 10 ** (24 - needed) >= sc.EXACT:
        with pytest.raises(WidePriceError if float(text) else UnreadableFrameError):
            read_json(frame, book)
        return
    _, units, _, finest = read_json(frame, book)
    assert units[0, 0] / 10.0 ** max(finest, decimals) == float(text)


@pytest.mark.parametrize(
    "frame",
    [
        b"", b"no json", b"null", b"5", b'"e"', b"[]", b"[{}]", b"{", b"{}", b'{"data":5}', b'{"data":{}}', b'{"e":{}}', b'{"e":"trade"}',
        b'{"e":"trade"}garbage', b"\xff\xfe", b'{"e":"trade","s":"\xff"}', b"[" * 100_000, b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b'{"result' + b"1" * 5000, b"1" * 5000, b"NaN", b'{"x":NaN}', b'{"x":1e999}', b'{"lastUpdateId":7}',
    ],
)  # fmt: skip
def test_what_is_no_message_is_refused_with_the_frame_kept(frame):
    with pytest.raises(UnreadableFrameError) as told:
        read_json(frame, book_of())
    assert told.value.frame == frame
    assert told.value.expected


@pytest.mark.parametrize(("key", "values"), [
    ("lastUpdateId", [7.0, True, -2, 99999999999999999999, "7", None]),
    ("bids", [{}, None, 5, "12", ["12"], [["1"]], [[1.5, 2]], [[None, "2"]], [{"1": 2, "3": 4}], [["1", "2"], []], [[["1", "2"]]]]),
])  # fmt: skip
def test_snapshots_of_another_shape_are_refused(key, values):
    for value in values:
        with pytest.raises(UnreadableFrameError):
            read_json(json.dumps({"lastUpdateId": 7, "bids": [["1", "2"]], "asks": []} | {key: value}).encode(), book_of())


@pytest.mark.parametrize("key", ["e", "E", "T", "s", "U", "u", "pu", "b", "a"])
@pytest.mark.parametrize(
    "value", [None, True, -1, 1.5, 1 << 70, "", "x", "\ud800", [], [[]], {}, [["1", "-1"]], [["-1", "1"]], [["1", "inf"]]], ids=repr
)
def test_one_value_of_another_kind_is_refused_or_told_alike(key, value):
    message = {"e": "depthUpdate", "E": 5, "T": 4, "s": "BTCUSDT", "U": 1, "u": 2, "pu": 0, "b": [], "a": []}
    message[key] = value
    try:
        kind, *_ = read_json(json.dumps(message).encode(), book_of())
    except UnreadableFrameError:
        return
    assert (kind == sc.NOTHING) == (key == "e")
    assert key == "e" or value in ("", "x", [])


@pytest.mark.parametrize("name", ["trade", "aggTrade"])
@pytest.mark.parametrize(
    "change",
    [{"p": "0"}, {"p": "-1"}, {"p": 5}, {"q": "nan"}, {"q": "1_0"}, {"m": "true"}, {"m": 1}, {"T": 1_723_161_255_208_000}],
    ids=str,
)
def test_impossible_trades_are_refused(name, change):
    message = json.loads(wire.trade("binance_spot", 5, name=name))["data"] | change
    with pytest.raises(UnreadableFrameError):
        read_json(json.dumps(message).encode(), book_of("binance_spot"))


def test_an_empty_side_has_a_ticker_price_of_zero():
    book = book_of()
    kind, *_ = read_json(wire.ticker("binance_usdm", 5, "0.00", "0.000", "7.25", "1.5"), book)
    assert kind == sc.QUOTE
    assert book["msg"]["units"][0].tolist() == [0, 725]


def test_snapshot_of_a_new_listing_has_no_id_yet():
    book = book_of()
    assert read_json(b'{"lastUpdateId":-1,"bids":[],"asks":[]}', book)[0] == sc.SNAPSHOT
    assert book["msg"]["last_id"] == -1


def test_snapshot_that_names_another_instrument_is_told_apart():
    book = book_of("binance_coinm")
    read_json(wire.snapshot("binance_coinm", 5), book)
    assert not book["msg"]["other_symbol"][0]
    read_json(wire.snapshot("binance_coinm", 5).replace(b"BTCUSD_PERP", b"ETHUSD_PERP"), book)
    assert book["msg"]["other_symbol"][0]
