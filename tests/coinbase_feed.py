"""A small random market as Coinbase's two feeds write it: every message of one connection, in order."""

import json
import random
from datetime import UTC, datetime
from decimal import Decimal

from tasks.venues import directory
from tasks.venues.events import BOOK, CHANGE, QUOTE, TRADE, UNREADABLE

START_NS = 1_767_225_600_000_000_000
_BATCH_NS = 50_000_000
LATE_NS = 3_000_000  # of each message on its way


def iso(ns, digits=6):
    """Return a time as the venue writes it."""
    return datetime.fromtimestamp(ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{ns % 10**9:09d}"[: digits + 1] + "Z"


class Market:
    """One product: levels in cents, sizes in hundred-millionths."""

    def __init__(self, product, seed):
        self.product, self.rng = product, random.Random(f"{product}{seed}")
        self.mid, self.trade_id, self.batch = 6_000_000, 500 + seed, {}
        self.sides = ({}, {})
        for away in range(1, 90):
            self.sides[0][self.mid - away * 3], self.sides[1][self.mid + away * 3] = away * 10**6, away * 11 * 10**5

    def best(self):
        return max(self.sides[0]), min(self.sides[1])

    def put(self, side, cents, units):
        self.sides[side].pop(cents, None)
        if units:
            self.sides[side][cents] = units
        self.batch[side, cents] = units

    def wander(self, moves):
        """Change levels at random; the touch stays uncrossed."""
        for _ in range(moves):
            side, (bid, ask) = self.rng.randrange(2), self.best()
            away = self.rng.choice((self.rng.randint(0, 12), self.rng.randint(0, 200)))
            cents = min(bid + 2, ask - 1) - away if side == 0 else max(ask - 2, bid + 1) + away
            self.put(side, cents, 0 if self.rng.random() < 0.4 and len(self.sides[side]) > 60 else self.rng.randint(1, 10**9))

    def trade(self):
        """Take from the touch; return id, maker's side, cents, units."""
        side = self.rng.randrange(2)
        cents = self.best()[side]
        held = self.sides[side][cents]
        units = held if self.rng.random() < 0.3 and len(self.sides[side]) > 40 else self.rng.randint(1, held)
        self.put(side, cents, held - units)
        self.trade_id += 1
        return self.trade_id, side, cents, units

    def levels(self, side):
        return sorted(self.sides[side].items(), reverse=side == 0)


def price(cents):
    return f"{cents // 100}.{cents % 100:02d}"


def size(units):
    return f"{units // 10**8}.{units % 10**8:08d}"


def _pairs(levels):
    return [[price(cents), size(units)] for cents, units in levels]


def text(data):
    return json.dumps(data, separators=(",", ":")).encode()


class Naive:
    """A book of exact decimals, folded the obvious way; `best` is what a row must hold."""

    def __init__(self):
        self.sides = ({}, {})

    def fold(self, data):
        """Take a message of either venue; return whether the book changed."""
        if data.get("type") == "snapshot":
            self._begin([(0, *level) for level in data["bids"]] + [(1, *level) for level in data["asks"]])
        elif data.get("type") == "l2update":
            self._change([(side == "sell", *level) for side, *level in data["changes"]])
        elif data.get("channel") == "l2_data":
            for event in data["events"]:
                changes = [(update["side"] == "offer", update["price_level"], update["new_quantity"]) for update in event["updates"]]
                (self._begin if event["type"] == "snapshot" else self._change)(changes)
        else:
            return False
        return True

    def _begin(self, changes):
        self.sides = ({}, {})
        self._change(changes)

    def _change(self, changes):
        for side, price, size in changes:
            self.sides[side].pop(Decimal(price), None)
            if Decimal(size):
                self.sides[side][Decimal(price)] = Decimal(size)

    def best(self):
        """Return prices and sizes of the best 20 bids, then asks, as a row holds them."""
        out = []
        for side in range(2):
            levels = sorted(self.sides[side].items(), reverse=side == 0)[:20]
            missing = 20 - len(levels)
            out.append([float(price) for price, _ in levels] + [float("nan")] * missing)
            out.append([float(size) for _, size in levels] + [0.0] * missing)
        return out


def levels_of(row):
    """Return what `Naive.best` returns, of a row."""
    return [row[name].tolist() for name in ("bid_px", "bid_sz", "ask_px", "ask_sz")]


class Play:
    """A connection and its adapters as the shell drives them; `told` holds `(event, copy of its record)` by symbol."""

    def __init__(self, venue, symbols, wire=None):
        self.wire = wire or directory.wire(venue)
        self.streams = {symbol: directory.adapter(venue, symbol) for symbol in symbols}
        self.told = {symbol: [] for symbol in symbols}
        self.lines = self.wire.lines(list(symbols), "ws://here")
        self.connection = self.wire.connection(self.lines[0])

    def feed(self, receive_ns, frame):
        """Route a frame and return what it told, as `(symbol, event, record)`."""
        news = []
        owner, name_of = getattr(self.connection, "owner", {}), getattr(self.connection, "name_of", None)
        symbol = owner.get(name_of(frame)) if name_of else None
        parts = ((symbol, frame),) if symbol else self.connection.receive(frame).frames
        for symbol, part in parts:
            news += [(symbol, *one) for one in self.give(symbol, receive_ns, part)]
        return news

    def give(self, symbol, receive_ns, frame):
        """Hand a frame to one adapter and return what it told."""
        stream, news = self.streams[symbol], []
        views = {BOOK: stream.row, TRADE: stream.trade, CHANGE: stream.change, QUOTE: stream.quote}
        for event in stream.receive(frame, receive_ns):
            news.append((event, dict(stream.unreadable) if event == UNREADABLE else views[event][0].copy()))
        self.told[symbol] += news
        return news

    def of(self, event, symbol="BTC-USD"):
        """Return the records of one kind."""
        return [record for told, record in self.told[symbol] if told == event]

    def assert_numbered(self, symbol="BTC-USD"):
        """Assert that every table counts without a hole, and all tables together too."""
        for event in (BOOK, TRADE, CHANGE, UNREADABLE):
            assert [int(record["seq"]) for record in self.of(event, symbol)] == list(range(len(self.of(event, symbol))))
        records = [record for event, record in self.told[symbol] if event != QUOTE]
        assert [int(record["event_seq"]) for record in records] == list(range(len(records)))


def exchange(products=("BTC-USD",), seconds=20, seed=0, trades=0.3, quotes=True):
    """Return `(receive_ns, frame)` of a connection to Coinbase Exchange: level2_batch, matches, ticker, heartbeat."""
    markets, frames, now = [Market(product, seed) for product in products], [], START_NS

    def say(data):
        frames.append((now + LATE_NS + len(frames), text(data)))

    def match(market, kind, told, ns):
        trade_id, side, cents, units = told
        say({
            "type": kind, "trade_id": trade_id, "maker_order_id": "m", "taker_order_id": "t", "side": "sell" if side else "buy",
            "size": size(units), "price": price(cents), "product_id": market.product, "sequence": trade_id * 7, "time": iso(ns),
        })  # fmt: skip

    say({"type": "subscriptions", "channels": [{"name": "level2_50", "product_ids": list(products)}]})
    for market in markets:
        match(market, "last_match", market.trade(), now - 1000)
        books = {"asks": _pairs(market.levels(1)), "bids": _pairs(market.levels(0))}
        say({"type": "snapshot", "product_id": market.product, **books, "time": iso(now)})
        market.batch.clear()
    for step in range(int(seconds * 20)):
        for market in markets:
            market.wander(market.rng.randint(0, 6))
            ns = now + market.rng.randrange(1_000_000, _BATCH_NS - 1_000_000) // 1000 * 1000
            if market.rng.random() < trades:
                match(market, "match", market.trade(), ns)
                (bid, ask), sequence = market.best(), market.trade_id * 7
                if quotes:
                    say({
                        "type": "ticker", "sequence": sequence, "product_id": market.product, "price": "1", "best_bid": price(bid),
                        "best_bid_size": size(market.sides[0][bid]), "best_ask": price(ask), "best_ask_size": size(market.sides[1][ask]),
                        "side": "buy", "time": iso(ns), "trade_id": market.trade_id, "last_size": "1",
                    })  # fmt: skip
                market.wander(market.rng.randint(0, 2))  # the batch hides that the quote was true for a moment only
        now += _BATCH_NS
        for market in markets:
            if market.batch:
                changes = [["sell" if side else "buy", price(cents), size(units)] for (side, cents), units in market.batch.items()]
                say({"type": "l2update", "product_id": market.product, "changes": changes, "time": iso(now)})
                market.batch.clear()
            if step % 20 == 19:
                told = {"last_trade_id": market.trade_id, "product_id": market.product, "sequence": market.trade_id * 7, "time": iso(now)}
                say({"type": "heartbeat", **told})
    return frames


def advanced(products=("BTC-USD",), seconds=20, seed=0, trades=0.3):
    """Return `(receive_ns, frame)` of a connection to Coinbase Advanced Trade: l2_data, market_trades, ticker, heartbeats."""
    markets, frames, now, waiting = [Market(product, seed) for product in products], [], START_NS, []

    def say(channel, events):
        told = {"channel": channel, "timestamp": iso(now + 1_234_567, 9), "sequence_num": len(frames), "events": events}
        frames.append((now + LATE_NS + len(frames), text(told)))

    def row(market, ns):
        trade_id, side, cents, units = market.trade()
        return {
            "product_id": market.product, "trade_id": str(trade_id), "price": price(cents), "size": size(units), "time": iso(ns),
            "side": "SELL" if side else "BUY",
        }  # fmt: skip

    def book(market, kind, levels, ns):
        told = [
            {"side": "offer" if side else "bid", "event_time": iso(ns), "price_level": price(cents), "new_quantity": size(units)}
            for (side, cents), units in levels
        ]
        say("l2_data", [{"type": kind, "product_id": market.product, "updates": told}])

    for market in markets:
        say("market_trades", [{"type": "snapshot", "trades": [row(market, now - 1000 * i) for i in range(5, 0, -1)][::-1]}])
        levels = [((side, cents), units) for side in range(2) for cents, units in market.levels(side)]
        book(market, "snapshot", levels, 0)
        market.batch.clear()
    channels = {channel: list(products) for channel in ("level2", "market_trades", "ticker")}
    say("subscriptions", [{"subscriptions": {**channels, "heartbeats": ["heartbeats"]}}])
    for step in range(int(seconds * 20)):
        for market in markets:
            market.wander(market.rng.randint(0, 6))
            ns = now + market.rng.randrange(1_000_000, _BATCH_NS - 1_000_000) // 1000 * 1000
            if market.rng.random() < trades:
                waiting.append(row(market, ns))
                bid, ask = market.best()
                told = {"type": "ticker", "product_id": market.product, "price": "1", "best_bid": price(bid), "best_ask": price(ask)}
                sizes = {"best_bid_quantity": size(market.sides[0][bid]), "best_ask_quantity": size(market.sides[1][ask])}
                say("ticker", [{"type": "update", "tickers": [{**told, **sizes}]}])
                market.wander(market.rng.randint(0, 2))
        now += _BATCH_NS
        for market in markets:
            if market.batch:
                book(market, "update", list(market.batch.items()), now)
                market.batch.clear()
        if step % 5 == 4 and waiting:
            say("market_trades", [{"type": "update", "trades": waiting[::-1]}])
            waiting.clear()
        if step % 20 == 19:
            say("heartbeats", [{"current_time": "2026-01-01 00:00:01.000000000 +0000 UTC m=+1", "heartbeat_counter": step // 20}])
    return frames
