"""The ledger holds what was published: a reader of the stream can be held against it row for row."""

import asyncio

import numpy as np
import pytest

from simulator.desk import Desk
from simulator.instruments import DEFAULT_SYMBOL, instrument
from simulator.ledger import Ledger, read
from simulator.listings import listing
from simulator.market import Market
from tasks.venues.binance import Binance
from tasks.venues.events import BOOK, TRADE
from tests.simulated import OPENER, dial, run

PATHS = {
    "binance_spot": ("", "depth@100ms", "/api/v3"),
    "binance_usdm": ("/public", "depth@0ms", "/fapi/v1"),
    "binance_coinm": ("", "depth@0ms", "/dapi/v1"),
}


@pytest.mark.parametrize("venue", PATHS)
def test_what_an_adapter_makes_of_the_stream_is_what_the_ledger_says(tmp_path, venue):
    symbol, (route, depth, rest) = DEFAULT_SYMBOL[venue], PATHS[venue]
    adapter, books, trades = Binance(venue, symbol), {}, {}

    def keep(frame):
        for event in adapter.receive(frame, 0):
            if event == BOOK:
                row = adapter.row[0]
                seen = [row[name].copy() for name in ("bid_px", "bid_sz", "ask_px", "ask_sz")]
                books[int(row["update_id"])] = (int(row["exchange_ns"]), *seen)
            elif event == TRADE:
                told = adapter.trade[0]
                trades[int(told["trade_id"])] = tuple(told[name].item() for name in ("exchange_ns", "price", "size", "aggressor"))

    async def body(market):
        address = f"{market.rest_url(venue)}{rest}/depth?symbol={symbol}&limit=1000"
        lower = symbol.lower()
        async with dial(market, venue, f"{route}/stream?streams={lower}@{depth}/{lower}@trade") as socket:
            for i in range(1_500):
                keep(await socket.recv(decode=False))
                if i == 10:
                    keep(await asyncio.to_thread(lambda: OPENER.open(address, timeout=5).read()))

    run(body, [venue], ledger=tmp_path, coupled=True)
    told = read(tmp_path, venue, symbol)
    at = {int(seq): i for i, seq in enumerate(told["seq"])}
    assert len(books) > 300
    assert set(books) <= set(at)
    for seq, (exchange_ns, *seen) in books.items():
        assert exchange_ns == told["exchange_ns"][at[seq]]
        for name, levels in zip(("bids", "bid_sizes", "asks", "ask_sizes"), seen, strict=True):
            np.testing.assert_array_equal(told[name][at[seq]], levels)
    at = {int(id_): i for i, id_ in enumerate(told["trade_id"])}
    assert len(trades) > 50
    for id_, (exchange_ns, *seen) in trades.items():
        i = at[id_]
        assert told["trade_ns"][i] // 1_000_000 * 1_000_000 == exchange_ns
        assert [told[name][i] for name in ("price", "size", "aggressor")] == seen


def test_ledger_is_read_back_as_written_and_a_cut_end_costs_only_its_block(tmp_path):
    desk = Desk(Market(listing("okx", "BTC-USDT-SWAP"), 1, 0))
    ledger, expected = Ledger(tmp_path, "okx"), []
    ledger.open(desk.instrument, 5)
    for i in range(1_200):
        beat = desk.advance((i + 1) * 100_000_000)
        ledger.book(desk, i, desk.now_ns)
        expected.append(desk.top(5)[0][:, 0] / 10)
        for trade in beat.trades():
            ledger.trade(desk, trade, trade.id)
    ledger.flush()
    told = read(tmp_path, "okx", "BTC-USDT-SWAP")
    assert told["seq"].tolist() == list(range(1_200))
    np.testing.assert_array_equal(told["bids"], expected)
    assert told["bid_sizes"].min() > 0
    assert told["size"].max() < 50  # contracts of 0.01 BTC
    size = (tmp_path / "okx" / "BTC-USDT-SWAP.books").stat().st_size
    assert size / 1_200 < 40
    with (tmp_path / "okx" / "BTC-USDT-SWAP.books").open("ab") as file:
        file.truncate(size - 1)
    assert len(read(tmp_path, "okx", "BTC-USDT-SWAP")["seq"]) == 1_024


def test_thin_side_is_nan_and_zero(tmp_path):
    desk = Desk(Market(instrument("binance_spot", "BTCUSDT"), 1, 0))
    desk.top = lambda n: (np.array([[100, 5]]), np.array([[102, 7], [103, 1]]))
    ledger = Ledger(tmp_path, "binance_spot")
    ledger.open(desk.instrument, 3)
    ledger.book(desk, 9, 10)
    ledger.close()
    told = read(tmp_path, "binance_spot", "BTCUSDT")
    np.testing.assert_array_equal(told["bids"], [[1.0, np.nan, np.nan]])
    np.testing.assert_array_equal(told["ask_sizes"], [[7e-5, 1e-5, 0.0]])
    assert not told["trade_id"].size
