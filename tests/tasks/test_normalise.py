"""Venues side by side: off real sockets of simulated venues, into the lake, not more than half a second behind."""

import asyncio

import numpy as np
import pytest

from flows.normalise import assets
from flows.settings import Settings
from simulator.server import serve
from tasks.normalise import MORE, NoRateError, Normaliser, base_and_quote
from tasks.stream import Endpoints, stream
from tasks.venues import directory
from warehouse.lake import Lake
from warehouse.schema import row_dtype

SYMBOLS = {"binance_usdm": "BTC-USDT-PERP", "bybit_linear": "BTC-USDT-PERP", "kraken": "BTC-USD", "okx": "BTC-USDT"}
RATES = {"USDT": 1.0, "USD": 1.0}


async def recorded(lake, seconds):
    raws = {venue: directory.raw_symbol(venue, symbol) for venue, symbol in SYMBOLS.items()}
    normaliser, stop, told = (
        Normaliser(lake, "BTC", SYMBOLS, RATES, {"": 4.0}, publish=lambda base, row: told.append(row)),
        asyncio.Event(),
        [],
    )
    async with await serve(list(SYMBOLS), {venue: [raw] for venue, raw in raws.items()}, seed=4) as market:

        async def feed(venue):
            where = Endpoints(market.ws_url(venue), market.rest_url(venue))
            async for _, receive_ns, frame in stream(venue, [raws[venue]], where, lambda: normaliser.wanting(venue), stop):
                normaliser.take(venue, receive_ns, frame)

        jobs = [asyncio.create_task(feed(venue)) for venue in SYMBOLS]
        await asyncio.sleep(seconds)
        stop.set()
        await asyncio.gather(*jobs)
    normaliser.writer.close()
    return normaliser, told


def test_four_venues_are_aligned_in_the_lake_and_not_more_than_half_a_second_behind(tmp_path):
    lake = Lake(tmp_path)
    normaliser, told = asyncio.run(asyncio.wait_for(recorded(lake, 8.0), 60))
    rows = lake.sql("SELECT * FROM consolidated ORDER BY seq").to_pandas()
    assert len(rows) == normaliser.rows == len(told) > 15
    late = rows[rows["num_venues"] == 4]
    assert len(late) > 5
    assert (late["receive_ns"] - late["exchange_ns"]).median() < 500e6
    for venue in SYMBOLS:
        assert late[f"mid_{venue}"].notna().all()
    mids = late[[f"mid_{venue}" for venue in SYMBOLS]].to_numpy()
    np.testing.assert_allclose(late["avg_price"], mids.mean(1), rtol=1e-12)
    np.testing.assert_allclose(late["price_divergence"], mids.std(1), rtol=1e-9)
    assert rows[f"mid_{'coinbase_exchange'}"].isna().all()
    best = late["best_bid_venue"].map(lambda place: directory.VENUES[int(place)])
    assert set(best) <= set(SYMBOLS)


def test_a_quote_without_a_rate_is_refused(tmp_path):
    with pytest.raises(NoRateError, match="BTC-EUR: expected a quote of USDT, USD, received EUR"):
        Normaliser(Lake(tmp_path), "BTC", {"binance_spot": "BTC-USDT", "kraken": "BTC-EUR"}, RATES, {"": 4.0})


def test_what_two_venues_trade_is_aligned():
    settings = Settings(streams="binance_spot:BTC-USDT,binance_spot:ETH-USDT,kraken:BTC-USD,okx:SOL-EUR", quote_rates="USDT:1.0,USD:1.0")
    assert assets(settings) == {"BTC": {"binance_spot": "BTC-USDT", "kraken": "BTC-USD"}}
    assert base_and_quote("SOL-EUR") == ("SOL", "EUR")


def test_columns_are_the_same_whatever_venues_there_are():
    assert len(set(MORE)) == len(MORE)
    assert not set(MORE) & set(row_dtype("consolidated").names)
