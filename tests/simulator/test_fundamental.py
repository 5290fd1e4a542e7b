"""One worth an asset draws all venues; alone, a market goes its own way."""

import numpy as np

from simulator.book_kernel import TICKER
from simulator.fundamental import Fundamental
from simulator.instruments import instrument
from simulator.market import Market
from simulator.server import build

SECOND = 1_000_000_000
VENUES = ("binance_usdm", "binance_spot", "bybit_linear", "okx", "coinbase_exchange", "kraken")


def mids(venue, seconds, every_ns, fundamentals, start_ns=0):
    """Return the logarithm of a venue's BTC mid on a grid of time."""
    symbol = {"okx": "BTC-USDT", "coinbase_exchange": "BTC-USD", "kraken": "BTC/USD"}.get(venue, "BTCUSDT")
    desks, courses = build(venue, [symbol], 5, start_ns, True, fundamentals)
    desk, times, prices = desks[symbol], [], []
    for step in range(int(seconds * SECOND / 20_000_000)):
        until_ns = start_ns + (step + 1) * 20_000_000
        if courses:
            desk.market.follow(courses[symbol].price(until_ns))
        while desk.market.now_ns < until_ns:
            for event in desk.advance(until_ns).events.tolist():
                if event[0] == TICKER:
                    times.append(event[1])
                    prices.append((event[6] + event[8]) / 2)
    grid = np.arange(start_ns + 5 * SECOND, start_ns + seconds * SECOND, every_ns)
    return np.log(np.array(prices)[np.searchsorted(times, grid, "right") - 1] * desk.instrument.tick)


def test_venues_agree_up_to_noise_and_without_coupling_they_do_not():
    shared = {}
    paths = np.array([mids(venue, 120, SECOND, shared) for venue in VENUES])
    apart = np.abs(paths - np.median(paths, axis=0))
    assert list(shared) == ["BTC"]
    assert np.median(apart) < 1.0e-4
    assert apart.max() < 6e-4
    moved = paths - paths[:, :1]
    assert np.corrcoef(moved).min() > 0.8
    alone = np.array([mids(venue, 120, SECOND, None) for venue in VENUES[:3]])
    assert np.corrcoef(alone - alone[:, :1]).min() < 0.8


def test_first_venue_leads_the_last():
    shared, every_ns = {}, 50_000_000
    lead, late = (np.diff(mids(venue, 900, every_ns, shared)) for venue in ("binance_usdm", "kraken"))
    lags = range(-20, 21)
    correlation = [np.corrcoef(lead[20:-20], late[20 + lag : len(late) - 20 + lag])[0, 1] for lag in lags]
    ahead = sum(correlation[21:])  # late venue moves after
    behind = sum(correlation[:20])
    assert ahead > behind + 0.1


def test_worth_is_a_fair_path_that_any_question_sees_alike():
    worth = Fundamental("ETH", 3, 0)
    far = worth.price(200 * SECOND)
    again = Fundamental("ETH", 3, 0)
    steps = np.diff([again.log(i * SECOND // 10) for i in range(2_001)])
    assert again.price(200 * SECOND) == far
    assert abs(steps.mean()) < 4 * steps.std() / np.sqrt(len(steps))
    assert 0.3e-4 < steps.std() * np.sqrt(10) < 0.4e-4
    assert again.log(199 * SECOND) == Fundamental("ETH", 3, 0).log(199 * SECOND)
    assert Fundamental("BTC", 3, 0).log(SECOND) != worth.log(SECOND)


def test_market_that_follows_nothing_is_as_it_was_before_there_was_anything_to_follow():
    one, two = (Market(instrument("binance_usdm", "BTCUSDT"), 2, 0) for _ in range(2))
    two.follow(61_900.0)
    two._state["pull"] = 0.0
    first, second = (market.advance(SECOND)[0] for market in (one, two))
    assert first.tobytes() == second.tobytes()
