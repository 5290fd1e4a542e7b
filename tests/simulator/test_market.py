"""The two facts the simulator exists for, and that its book is a book."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from simulator.binance import Wire
from simulator.instruments import DEFAULT_SYMBOL, instrument
from simulator.market import DEPTH, TICKER, TRADE, Market

SECOND = 1_000_000_000


def events_of(venue, seed, hidden, seconds):
    market = Market(instrument(venue, DEFAULT_SYMBOL[venue]), seed, 0, hidden)
    return np.concatenate([events.copy() for events, _ in market.run(seconds * SECOND)])


def observables_and_next_move(events, every_ns=SECOND):
    """Return queue, order-flow and trade imbalances each second, and the mid's move over the next."""
    ticker, trade = events[events["kind"] == TICKER], events[events["kind"] == TRADE]
    bid, bid_size, ask, ask_size = (ticker[name].astype(float) for name in "abcd")
    mid = (bid + ask) / 2
    queue = (bid_size - ask_size) / (bid_size + ask_size)
    flow = np.zeros(len(ticker))
    flow[1:] += (bid[1:] >= bid[:-1]) * bid_size[1:] - (bid[1:] <= bid[:-1]) * bid_size[:-1]
    flow[1:] -= (ask[1:] <= ask[:-1]) * ask_size[1:] - (ask[1:] >= ask[:-1]) * ask_size[:-1]
    sums = {"flow": np.append(0, np.cumsum(flow)), "queue": np.append(0, np.cumsum(queue)), "trades": np.append(0, np.cumsum(trade["c"]))}
    now = np.arange(25 * SECOND, events["exchange_ns"][-1] - SECOND, every_ns)
    quotes, trades = ticker["exchange_ns"], trade["exchange_ns"]
    at = np.searchsorted(quotes, now, "right") - 1
    columns = [queue[at]]
    for window in (1, 5, 20):
        since = np.searchsorted(quotes, now - window * SECOND, "right")
        columns += [
            sums["flow"][at + 1] - sums["flow"][since],
            (sums["queue"][at + 1] - sums["queue"][since]) / np.maximum(at + 1 - since, 1),
        ]
        columns += [
            sums["trades"][np.searchsorted(trades, now, "right")] - sums["trades"][np.searchsorted(trades, now - window * SECOND, "right")]
        ]
        columns += [mid[at] - mid[np.maximum(since - 1, 0)]]
    move = mid[np.searchsorted(quotes, now + SECOND, "right") - 1] - mid[at]
    return np.column_stack(columns), move


def out_of_sample_auc(x, move):
    x, up = x[move != 0], move[move != 0] > 0
    half = len(x) // 2
    x = (x - x[:half].mean(0)) / x[:half].std(0)
    fitted = LogisticRegression(C=0.1).fit(x[: half - 30], up[: half - 30])
    return roc_auc_score(up[half:], fitted.decision_function(x[half:])), 0.29 / np.sqrt(len(x) - half) * 2


@pytest.mark.parametrize("venue", DEFAULT_SYMBOL)
def test_hidden_pressure_can_be_learned(venue):
    auc, error = out_of_sample_auc(*observables_and_next_move(events_of(venue, 11, True, 7_200)))
    assert auc > 0.6
    assert auc < 0.75
    assert auc - 5 * error > 0.5


@pytest.mark.parametrize("venue", DEFAULT_SYMBOL)
def test_without_it_nothing_seen_tells_the_next_move(venue):
    # Seconds do not overlap, and with fair coins they are independent: the plain error holds.
    x, move = observables_and_next_move(events_of(venue, 12, False, 9_000))
    auc, error = out_of_sample_auc(x, move)
    assert abs(auc - 0.5) < 3 * error
    up = np.sign(move)
    correlations = [np.corrcoef(column, up)[0, 1] for column in x.T]
    assert max(map(abs, correlations)) < 4 / np.sqrt(len(up))
    assert (move != 0).mean() > 0.9


def test_without_it_single_moves_are_fair_coins_whatever_the_book_showed():
    events = events_of("binance_usdm", 13, False, 7_200)
    ticker = events[events["kind"] == TICKER]
    mid = ticker["a"] + ticker["c"]
    at = np.flatnonzero(np.diff(mid))
    up = np.sign(np.diff(mid)[at])
    queue = (ticker["b"] - ticker["d"]) / (ticker["b"] + ticker["d"])
    bound = 4 / np.sqrt(len(at))
    assert abs(up.mean()) < bound
    assert abs(np.corrcoef(queue[at], up)[0, 1]) < bound
    assert abs(np.corrcoef(up[:-1], up[1:])[0, 1]) < bound


@pytest.mark.parametrize("venue", DEFAULT_SYMBOL)
def test_book_stays_a_book(venue):
    market = Market(instrument(venue, DEFAULT_SYMBOL[venue]), 4, 0)
    sides = []
    for events, _ in market.run(120 * SECOND):
        ticker = events[events["kind"] == TICKER]
        assert (ticker["a"] < ticker["c"]).all()
        assert (ticker["b"] > 0).all()
        assert (ticker["d"] > 0).all()
        assert (events["b"][events["kind"] == TRADE] > 0).all()
        bids, asks = market.snapshot(5000)
        sides += [len(bids), len(asks)]
        assert (np.diff(bids[:, 0]) < 0).all()
        assert (np.diff(asks[:, 0]) > 0).all()
        assert (*bids[0].tolist(), *asks[0].tolist()) == market.best()
    assert min(sides) > 150
    assert max(sides) < 2_500


def test_market_does_not_depend_on_how_it_is_cut():
    made = instrument("binance_usdm", "BTCUSDT")
    wire, texts = Wire(made), []
    for step_ns in (250_000_000, 7_000_001):
        run = Market(made, 2, 0).run(10 * SECOND, step_ns)
        texts.append([message for events, levels in run for message in wire.messages(events, levels)])
    assert len(texts[0]) > 1_000
    assert texts[0] == texts[1]


def test_depth_messages_come_at_the_venues_cadence():
    events = events_of("binance_spot", 2, True, 60)
    times = events["exchange_ns"][events["kind"] == DEPTH]
    assert np.median(np.diff(times)) == 100_000_000


def test_pressure_is_zero_when_off():
    market = Market(instrument("binance_usdm", "BTCUSDT"), 2, 0, hidden=False)
    market.advance(SECOND)
    assert market.pressure == 0.0
