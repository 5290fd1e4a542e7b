"""Made-up streams of Kraken and OKX, and what a plain book makes of them.

The market is a random book in ticks; the venue's side of it (frames, checksums, numbers) is written
here the slow way, from the documentation.
"""

import json
import random
from datetime import UTC, datetime
from decimal import Decimal
from zlib import crc32

from tests.naive import NaiveBook

START_NS = 1_767_225_600_123_000_000
STEP_NS = 40_000_000


def iso(ns):
    """Return a time as Kraken writes it."""
    return datetime.fromtimestamp(ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{ns % 10**9 // 1000:06d}Z"


# -- a market -----------------------------------------------------------------------------


class Market:
    """A book of two sides in ticks, shown to a depth; a turn returns what changed in what is shown."""

    def __init__(self, seed, levels=40, depth=10):
        self.rng, self.depth, self.mid = random.Random(seed), depth, 1_000_000
        self.sides = ({}, {})
        for away in range(1, levels + 1):
            for side in range(2):
                self.sides[side][self.tick(side, away * 3)] = self.rng.randint(1, 10**9)
        self.shown = self.top()

    def tick(self, side, away):
        return self.mid - away if side == 0 else self.mid + away

    def top(self):
        return [dict(sorted(self.sides[side].items(), reverse=side == 0)[: self.depth]) for side in range(2)]

    def turn(self, tells_pushed_out):
        """Change a few levels; return [(tick, units)] of bids and of asks, at least one."""
        before = self.shown
        while self.shown == before:
            for _ in range(self.rng.randint(1, 4)):
                side, away = self.rng.randrange(2), self.rng.randint(1, 3 * self.depth)
                tick = self.tick(side, away)
                if self.rng.random() < 0.4 and len(self.sides[side]) > self.depth + 5:
                    self.sides[side].pop(self.rng.choice(sorted(self.sides[side])), None)
                else:
                    self.sides[side][tick] = self.rng.randint(1, 10**9)
            self.shown = self.top()
        changes = []
        for side in range(2):
            old, new = before[side], self.shown[side]
            put = [(tick, units) for tick, units in new.items() if old.get(tick) != units]
            gone = [(tick, 0) for tick in old if tick not in new and (tells_pushed_out or tick not in self.sides[side])]
            changes.append(gone + put)
        return changes


def text(units, decimals):
    return f"{Decimal(units).scaleb(-decimals):f}"


# -- Kraken -------------------------------------------------------------------------------


def kraken_checksum(bids, asks):
    """Return the checksum of levels, best first, each price and size as text."""
    told = "".join(number.replace(".", "").lstrip("0") for side in (asks, bids) for level in side[:10] for number in level)
    return crc32(told.encode())


def kraken_book(kind, bids, asks, checksum, ns, pair="BTC/USD"):
    sides = [",".join(f'{{"price":{price},"qty":{size}}}' for price, size in side) for side in (bids, asks)]
    end = "" if checksum is None else f'"checksum":{checksum},'
    data = f'{{"symbol":"{pair}","bids":[{sides[0]}],"asks":[{sides[1]}],{end}"timestamp":"{iso(ns)}"}}'
    return f'{{"channel":"book","type":"{kind}","data":[{data}]}}'.encode()


def kraken_trade(trade_ids, kind="update", side="buy", price="100000.0", size="0.00100000", ns=START_NS, pair="BTC/USD"):
    rows = [
        f'{{"symbol":"{pair}","side":"{side}","price":{price},"qty":{size},"ord_type":"limit","trade_id":{n},"timestamp":"{iso(ns)}"}}'
        for n in trade_ids
    ]
    return f'{{"channel":"trade","type":"{kind}","data":[{",".join(rows)}]}}'.encode()


class KrakenFeed:
    """One pair's book messages; `frames[0]` is the snapshot, `whole[i]` a snapshot as of frame i."""

    def __init__(self, seed, n=120, levels=40, depth=10):
        market = Market(seed, levels, depth)

        def levels_of(side):
            return [(text(tick, 1), text(units, 8)) for tick, units in side]

        def frame(kind, bids, asks, i):
            checksum = kraken_checksum(*(levels_of(side.items()) for side in market.shown))
            return kraken_book(kind, levels_of(bids), levels_of(asks), checksum, START_NS + i * STEP_NS)

        self.frames, self.whole = [], []
        for i in range(n):
            changes = market.turn(tells_pushed_out=False) if i else None
            snapshot = frame("snapshot", *(side.items() for side in market.shown), i)
            self.frames.append(frame("update", *changes, i) if i else snapshot)
            self.whole.append(snapshot)


class NaiveKraken:
    """The documented steps in exact decimals: levels, depth, then the checksum of the texts."""

    def __init__(self, depth=10):
        self.book, self.depth, self.texts, self.matches, self.failures = NaiveBook(), depth, {}, 0, 0

    def receive(self, frame):
        """Return the time of the book this made, or None."""
        message = json.loads(frame, parse_float=str, parse_int=str)
        if message.get("channel") != "book":
            return None
        told = message["data"][0]
        if message["type"] == "snapshot":
            self.book.clear()
        for side, name in enumerate(("bids", "asks")):
            for level in told[name]:
                self.book.apply(side, level["price"], level["qty"])
                self.texts[side, Decimal(level["price"])] = (level["price"], level["qty"])
            for price, _ in self.book.best(side, 10**6)[self.depth :]:
                self.book.apply(side, price, 0)
        best = [[self.texts[side, price] for price, _ in self.book.best(side, 10)] for side in range(2)]
        if "checksum" in told:
            good = kraken_checksum(*best) == int(told["checksum"])
            self.matches, self.failures = self.matches + good, self.failures + (not good)
        return told["timestamp"]


# -- OKX ----------------------------------------------------------------------------------


def okx_checksum(bids, asks):
    """Return the checksum of levels, best first, each price and size as text, signed."""
    words = []
    for i in range(25):
        for side in (bids, asks):
            if i < len(side):
                words += side[i]
    value = crc32(":".join(words).encode())
    return value - 2**32 if value >= 2**31 else value


def okx_book(action, bids, asks, ms, name="BTC-USDT", **told):
    rows = {"asks": [[*level, "0", "1"] for level in asks], "bids": [[*level, "0", "1"] for level in bids], "ts": str(ms)}
    data = {"arg": {"channel": "books", "instId": name}, "action": action, "data": [rows | told]}
    return json.dumps(data, separators=(",", ":")).encode()


def okx_trade(trade_id, name="BTC-USDT", price="100", size="3", side="buy", ms=START_NS // 10**6, **told):
    row = {"instId": name, "tradeId": str(trade_id), "px": price, "sz": size, "side": side, "ts": str(ms)} | told
    return json.dumps({"arg": {"channel": "trades", "instId": name}, "data": [row]}, separators=(",", ":")).encode()


class OkxFeed:
    """One instrument's book messages: numbered, as they come now, or with checksums, as they came in 2022."""

    def __init__(self, seed, n=120, numbered=True, levels=40, depth=20):
        market, seq, rng = Market(seed, levels, depth), 10**9, random.Random(seed)
        self.frames, self.whole = [], []
        for i in range(n):
            changes = market.turn(tells_pushed_out=True) if i else None
            previous, seq = seq, seq + rng.randint(1, 50)
            shown = [self._texts(side.items()) for side in market.shown]
            told = {"checksum": 0} if numbered else {"checksum": okx_checksum(*shown)}
            ms = (START_NS + i * STEP_NS) // 10**6
            snapshot = okx_book("snapshot", *shown, ms, **told, **({"prevSeqId": -1, "seqId": seq} if numbered else {}))
            numbers = {"prevSeqId": previous, "seqId": seq} if numbered else {}
            self.frames.append(okx_book("update", *map(self._texts, changes), ms, **told, **numbers) if i else snapshot)
            self.whole.append(snapshot)

    @staticmethod
    def _texts(side):
        return [(f"{Decimal(tick).scaleb(-1).normalize():f}", f"{Decimal(units).scaleb(-8).normalize():f}") for tick, units in side]


class NaiveOkx:
    """The documented steps in exact decimals; the checksum of the texts where there is one."""

    def __init__(self):
        self.book, self.texts, self.matches, self.failures = NaiveBook(), {}, 0, 0

    def receive(self, frame):
        """Return the time of the book this made, or None."""
        message = json.loads(frame) if frame != b"pong" else {}
        if message.get("arg", {}).get("channel") != "books" or "data" not in message:
            return None
        told = message["data"][0]
        if message["action"] == "snapshot":
            self.book.clear()
        for side, name in enumerate(("bids", "asks")):
            for price, size, *_ in told[name]:
                self.book.apply(side, price, size)
                self.texts[side, Decimal(price)] = (price, size)
        if told.get("checksum"):
            best = [[self.texts[side, price] for price, _ in self.book.best(side, 25)] for side in range(2)]
            good = okx_checksum(*best) == told["checksum"]
            self.matches, self.failures = self.matches + good, self.failures + (not good)
        return told["ts"]
