"""OKX v5: sizes of contracts, trades that stand for several fills, and names."""

import pytest

from tasks.venues.directory import adapter, canonical_symbol, raw_symbol
from tasks.venues.errors import WrongVenueError
from tasks.venues.events import BOOK, TRADE
from tasks.venues.ladder import Instrument
from tasks.venues.okx import Okx
from tests.checked_feed import START_NS, STEP_NS, okx_book, okx_trade
from tests.damage import Play
from warehouse.schema import GAP, OK, START

MS = START_NS // 10**6


def snapshot(name="BTC-USDT"):
    return okx_book("snapshot", [("99", "1.5")], [("99.5", "2")], MS, name, checksum=0, prevSeqId=-1, seqId=10)


def played(*frames, name="BTC-USDT", **given):
    play = Play(Okx(name, **given))
    for i, frame in enumerate(frames):
        play.feed(START_NS + i * STEP_NS, frame)
    return play


# -- contracts -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "instrument", "book", "trade"),
    [
        ("BTC-USD-SWAP", None, 1.5 * 100 / 99, 3 * 100 / 100),
        ("ETH-USD-220527", None, 1.5 * 10 / 99, 3 * 10 / 100),
        ("BTC-USDT-SWAP", None, 0.015, 0.03),
        ("ETH-USDT-SWAP", Instrument(contract_base=0.25), 0.375, 0.75),
        ("BTC-USD-SWAP", Instrument(contract_usd=50.0), 1.5 * 50 / 99, 3 * 50 / 100),
        ("BTC-USDT", Instrument(tick=0.1), 1.5, 3.0),
    ],
)
def test_sizes_of_contracts_become_base_units(name, instrument, book, trade):
    play = played(snapshot(name=name), okx_trade(5, name=name), name=name, instrument=instrument)
    assert play.of(BOOK)[0]["bid_sz"][0] == pytest.approx(book, rel=1e-15)
    assert play.of(TRADE)[0]["size"] == pytest.approx(trade, rel=1e-15)


# -- trades --------------------------------------------------------------------------------


def test_a_trade_of_several_fills_leaves_no_hole_but_a_missing_one_does():
    whole = played(snapshot(), okx_trade(100), okx_trade(110, count="10"), okx_trade(112, count="2", side="sell"))
    assert whole.states == [START, OK]
    assert [int(trade["aggressor"]) for trade in whole.of(TRADE)] == [1, 1, -1]
    holed = played(snapshot(), okx_trade(100), okx_trade(110, count="9"))
    assert holed.states == [START, OK, GAP, OK]
    assert holed.stream.counts["trade_id_gaps"] == 1
    assert holed.stream.is_live


def test_holes_that_are_always_there_prove_nothing():
    play = played(*(okx_trade(100 + 2 * i) for i in range(40)))
    assert play.stream.counts["trade_id_gaps"] == 5
    assert len(play.of(TRADE)) == 40


def test_trades_told_again_and_those_of_before_are_known():
    ack = b'{"event":"subscribe","arg":{"channel":"trades","instId":"BTC-USDT"}}'
    old, new = okx_trade(7, ms=MS - 400), okx_trade(8, ms=MS + 50)
    play = played(ack, old, new, b"", ack, new, okx_trade(9, ms=MS + 170))
    assert [(int(t["trade_id"]), int(t["backfill"])) for t in play.of(TRADE)] == [(7, 1), (8, 0), (9, 0)]
    assert play.stream.counts["old"] == 1
    unacknowledged = played(okx_trade(7, ms=MS - 5000), okx_trade(8))
    assert [int(trade["backfill"]) for trade in unacknowledged.of(TRADE)] == [1, 0]


# -- names ---------------------------------------------------------------------------------


def test_names_go_there_and_back():
    for raw, symbol in (
        ("BTC-USDT", "BTC-USDT"),
        ("BTC-USDT-SWAP", "BTC-USDT-PERP"),
        ("BTC-USD-SWAP", "BTC-USD-PERP"),
        ("BTC-USD-220527", "BTC-USD-220527"),
    ):
        assert canonical_symbol("okx", raw) == symbol
        assert raw_symbol("okx", symbol) == raw
        assert adapter("okx", raw).symbol == symbol
    for wrong in ("BTCUSDT", "BTC-USD-220527-30000-C", "BTC/USDT"):
        with pytest.raises(WrongVenueError):
            adapter("okx", wrong)
