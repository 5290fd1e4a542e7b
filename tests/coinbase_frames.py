"""Frames as Coinbase Exchange writes them, made by hand, and what a stream makes of them."""

from tasks.venues.events import CHANGE
from tests.coinbase_feed import START_NS, Play, iso, text

VENUE = "coinbase_exchange"


def snapshot(bids=(("99.50", "1.0"),), asks=(("100.50", "2.0"),), ns=START_NS, product="BTC-USD"):
    told = {"type": "snapshot", "product_id": product, "asks": asks, "bids": bids}
    return text(told | {"time": iso(ns)} if ns else told)


def update(*changes, ns, product="BTC-USD"):
    return text({"type": "l2update", "product_id": product, "changes": changes, "time": ns if isinstance(ns, str) else iso(ns)})


def match(trade_id, ns=START_NS, side="buy", kind="match", price="100.00", size="0.5"):
    told = {"type": kind, "trade_id": trade_id, "maker_order_id": "a", "taker_order_id": "b", "side": side, "size": size}
    return text(told | {"price": price, "product_id": "BTC-USD", "sequence": trade_id, "time": iso(ns)})


def ticker(ns, bid=("99.50", "1.0"), ask=("100.50", "2.0")):
    told = {"type": "ticker", "sequence": 1, "product_id": "BTC-USD", "best_bid": bid[0], "best_bid_size": bid[1], "best_ask": ask[0]}
    return text(told | {"best_ask_size": ask[1], "side": "buy", "time": iso(ns)})


def heartbeat(ns, last_trade_id):
    return text({"type": "heartbeat", "last_trade_id": last_trade_id, "product_id": "BTC-USD", "sequence": 5, "time": iso(ns)})


def played(*frames, step_ns=1_000_000):
    play = Play(VENUE, ["BTC-USD"])
    for i, frame in enumerate(frames):
        play.feed(START_NS + i * step_ns, frame)
    return play


def states(play):
    return [int(change["state"]) for change in play.of(CHANGE)]
