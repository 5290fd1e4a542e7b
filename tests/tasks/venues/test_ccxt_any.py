"""Frames made of what ccxt tells: books whole each time, trades once, nothing that ends the stream."""

import random
from decimal import Decimal

import pytest

from tasks.venues import directory
from tasks.venues.ccxt_any import Book, CcxtAny, Trade, Trades, canonical_symbol, encode, instrument_of, raw_symbol, text_of
from tasks.venues.errors import WrongVenueError
from tasks.venues.events import BOOK, CHANGE, TRADE, UNREADABLE
from tasks.venues.ladder import Instrument
from warehouse.schema import CROSSED, GAP, OK, START

MS = 1_767_225_600_000


def book(bid="99.5", ask="100.5", ms=MS, nonce=None, symbol="BTC/USDT"):
    return encode(Book(symbol, [(bid, "1.5"), ("90", "2")], [(ask, "0.5")], ms, nonce))


def trades(*ids, ms=MS, side="buy", backfill=False):
    return encode(Trades("BTC/USDT", [Trade("99.5", "0.25", side, trade_id, ms, backfill) for trade_id in ids]))


def played(*frames, instrument=None):
    stream, told = CcxtAny("ccxt_gate", "BTC/USDT", instrument=instrument), []
    views = {BOOK: stream.row, TRADE: stream.trade, CHANGE: stream.change}
    for i, frame in enumerate(frames):
        for event in stream.receive(frame, 1_000 + i):
            told.append((event, dict(stream.unreadable) if event == UNREADABLE else views[event][0].copy()))
    return stream, told


def of(told, event):
    return [record for kind, record in told if kind == event]


def test_each_book_is_the_whole_book():
    _, told = played(book(), book(bid="99.6", ms=MS + 1, nonce=7))
    rows = of(told, BOOK)
    assert [row["bid_px"][:2].tolist() for row in rows] == [[99.5, 90.0], [99.6, 90.0]]
    assert [int(row["exchange_ns"]) for row in rows] == [MS * 10**6, (MS + 1) * 10**6]
    assert int(rows[1]["update_id"]) == 7
    assert [int(change["state"]) for change in of(told, CHANGE)] == [START, OK]


def test_book_without_a_time_has_ours():
    _, told = played(book(ms=None))
    assert of(told, BOOK)[0]["exchange_ns"] == 1_000


def test_older_or_empty_book_is_no_row():
    stream, told = played(book(), book(ms=MS - 1), encode(Book("BTC/USDT", [], [])), book(ms=None, nonce=5), book(ms=None, nonce=4))
    assert len(of(told, BOOK)) == 2
    assert stream.counts["old"] == 3


def test_lost_connection_is_a_gap_and_the_next_book_ends_it():
    stream, told = played(book(), b"", b"", book(ms=MS - 5_000))
    assert [int(change["state"]) for change in of(told, CHANGE)] == [START, OK, GAP, OK]
    assert stream.is_live
    assert not stream.needs_snapshot


def test_crossed_book_is_marked():
    _, told = played(book(), book(bid="101", ms=MS + 1))
    assert [int(change["state"]) for change in of(told, CHANGE)] == [START, OK, CROSSED]


def test_trades_are_told_once_each_by_their_number_or_text():
    stream, told = played(
        trades("7", "8"), trades("8", "9"), trades("abc"), trades("abc", side="sell"), trades(None), trades(None, backfill=True)
    )
    rows = of(told, TRADE)
    assert [int(row["trade_id"]) for row in rows[:3]] == [7, 8, 9]
    assert len(rows) == 5
    assert all(0 <= int(row["trade_id"]) < 1 << 63 for row in rows)
    assert stream.counts["old"] == 3
    again, _ = played(trades("abc"))
    assert int(again.trade["trade_id"][0]) == int(rows[3]["trade_id"])


@pytest.mark.parametrize(("side", "aggressor"), [("buy", 1), ("sell", -1), (None, 0)])
def test_side_of_a_trade_is_the_takers(side, aggressor):
    _, told = played(trades("7", side=side, backfill=True))
    assert (of(told, TRADE)[0]["aggressor"], of(told, TRADE)[0]["backfill"]) == (aggressor, 1)


def test_contracts_become_base_units():
    _, told = played(book(), trades("7"), instrument=Instrument(contract_base=0.01))
    assert of(told, BOOK)[0]["bid_sz"][0] == 0.015
    assert of(told, TRADE)[0]["size"] == 0.0025
    _, told = played(trades("7"), instrument=Instrument(contract_usd=100.0))
    assert of(told, TRADE)[0]["size"] == 0.25 * 100.0 / 99.5


@pytest.mark.parametrize("frame", [book(), trades("7")], ids=["book", "trades"])
def test_a_frame_cut_at_any_byte_is_kept_counted_and_ends_nothing(frame):
    for at in range(1, len(frame)):
        stream, told = played(frame[:at])
        assert told[-1][0] == UNREADABLE
        assert stream.counts["unreadable"] == 1
        assert stream.unreadable["frame"] == frame[:at].decode()


@pytest.mark.parametrize(
    "frame",
    [
        b"null", b"\xff", b'{"kind":"books"}', book(bid="x"), book(bid="0"), book(bid="-1"), book(ms=-1), book(ms=1 << 62),
        book(nonce=1 << 62),        book(symbol="ETH/USDT"), trades("7", side="up"), encode(Trades("BTC/USDT", [Trade("nan", "1")])),
    ],
)  # fmt: skip
def test_what_is_no_frame_is_kept_and_the_last_book_stands(frame):
    stream, told = played(book(), frame)
    assert told[-1][0] == UNREADABLE
    assert stream.is_live


def test_numbers_are_written_exactly():
    rng = random.Random(5)
    for _ in range(2000):
        number = rng.uniform(1, 10) * 10.0 ** rng.randint(-12, 18)
        text = text_of(number)
        assert "e" not in text
        assert float(text) == number
        assert Decimal(text) == Decimal(repr(number))


def test_names_go_there_and_back():
    for symbol in ("BTC-USDT", "BTC-USDT-PERP", "BTC-USD-PERP", "ETH-USDC-PERP", "BTC-USD-220527"):
        assert canonical_symbol("ccxt_okx", raw_symbol("ccxt_okx", symbol)) == symbol
    for wrong in ("BTCUSDT", "BTC/USD:BTC-220527-40000-C", "BTC/USDT/X"):
        with pytest.raises(WrongVenueError, match="ccxt_okx"):
            canonical_symbol("ccxt_okx", wrong)


def test_directory_knows_any_venue_of_ccxt_and_there_is_no_socket_to_open():
    stream, wire = directory.adapter("ccxt_gate", "BTC/USDT"), directory.wire("ccxt_gate")
    assert (stream.venue, stream.symbol, wire.venue) == ("ccxt_gate", "BTC-USDT", "ccxt_gate")
    assert wire.lines(["BTC/USDT"], "") == []
    assert not any((wire.resync("BTC/USDT"), wire.snapshot_url("BTC/USDT", "")[0], wire.witness_url("", "")[0], wire.instruments_url("")))


def test_market_structure_of_ccxt_is_an_instrument():
    told = {"precision": {"price": 1e-05, "amount": None}, "contract": True, "inverse": True, "contractSize": 100}
    assert instrument_of(told) == Instrument(tick=1e-05, contract_usd=100.0, price_decimals=5, size_decimals=-1)
    assert instrument_of({}) == Instrument()
