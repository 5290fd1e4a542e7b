"""Messages as Coinbase Advanced Trade writes them, made by hand, and what a stream makes of them."""

from tasks.venues.events import CHANGE
from tests.coinbase_feed import START_NS, Play, iso, text

VENUE = "coinbase_advanced"


def message(channel, *events, number=0, ns=START_NS):
    return text({"channel": channel, "timestamp": iso(ns, 9), "sequence_num": number, "events": events})


def book(kind, *levels, product="BTC-USD", ns=START_NS):
    told = [{"side": side, "event_time": iso(ns), "price_level": price, "new_quantity": size} for side, price, size in levels]
    return {"type": kind, "product_id": product, "updates": told}


def trades(kind, *ids, product="BTC-USD", side="BUY", price="100.00"):
    told = {"product_id": product, "price": price, "size": "0.5", "time": iso(START_NS), "side": side}
    return {"type": kind, "trades": [{**told, "trade_id": str(trade_id)} for trade_id in ids]}


def ticker(bid, ask, bid_size="1.0", ask_size="2.0"):
    told = {"best_bid": bid, "best_ask": ask, "best_bid_quantity": bid_size, "best_ask_quantity": ask_size}
    return {"type": "update", "tickers": [{"type": "ticker", "product_id": "BTC-USD", **told}]}


WHOLE = book("snapshot", ("bid", "99.50", "1.0"), ("bid", "99.40", "3.0"), ("offer", "100.50", "2.0"), ns=0)


def played(*told, symbols=("BTC-USD",)):
    """Play messages, numbered as they come, over one connection."""
    play = Play(VENUE, symbols)
    for i, (channel, *events) in enumerate(told):
        play.feed(START_NS + i * 1_000_000, message(channel, *events, number=i, ns=START_NS + i * 1_000_000))
    return play


def states(play, symbol="BTC-USD"):
    return [int(change["state"]) for change in play.of(CHANGE, symbol)]
