"""Kraken's spot market: WebSocket v2, frames in, events out.

| channel | messages | role |
| --- | --- | --- |
| book | snapshot, then updates: absolute sizes, 0 removes; a checksum in each | the book |
| trade | snapshot of the last trades (history), then updates; `side` is the taker's | trades |

The book has no numbers.  The checksum covers the best ten levels as they are written, zeros at
the end included, so numbers stay text here until they were checked; and ten levels are what is
subscribed to, so that all there are, are covered.  No removal is sent for a level that is pushed
out: the book is cut to the subscribed depth after each update.

A row is told only of a book whose checksum was right.  Where a snapshot came without one, as the
first of two does at times, the next message decides.

https://docs.kraken.com/api/docs/guides/spot-ws-book-v2 (2026-08)
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any
from zlib import crc32

import msgspec

from tasks.venues.errors import UnreadableFrameError, WrongVenueError
from tasks.venues.iso_time import iso_ns
from tasks.venues.kraken_messages import Book, BookEntry, Pair, TradeEntry, Trades, decode, decode_answer, digits, pairs, text
from tasks.venues.kraken_wire import DEPTH, KrakenWire
from tasks.venues.ladder import Instrument, Ladder
from tasks.venues.level_texts import LevelTexts
from tasks.venues.on_ladder import OnLadder
from tasks.venues.pace import Pace
from tasks.venues.trade_ids import TradeIds, tell_trade

CHECKED = 10  # levels a side under the checksum, whatever the depth
_RAW = re.compile(r"([A-Z0-9.]{1,20})/([A-Z0-9.]{1,20})")
_SYMBOL = re.compile(r"([A-Z0-9.]{1,20})-([A-Z0-9.]{1,20})")
_V1 = {"XBT": "BTC", "XDG": "DOGE"}
# What cannot have changed the book, even where the rest cannot be read.
_HARMLESS = tuple(b'{"channel":"%s"' % kind for kind in (b"trade", b"heartbeat", b"status", b"ticker", b"ohlc", b"instrument"))


def canonical_symbol(venue: str, raw: str) -> str:
    """Return our name of a pair.

    Examples
    --------
    >>> canonical_symbol("kraken", "BTC/USD"), canonical_symbol("kraken", "xbt/eur")
    ('BTC-USD', 'BTC-EUR')

    Raises
    ------
    WrongVenueError
        Not written as BASE/QUOTE.
    """
    match = _RAW.fullmatch(raw.upper())
    if not match:
        raise WrongVenueError(venue, f"symbol {raw}")
    return "-".join(_V1.get(part, part) for part in match.groups())


def raw_symbol(venue: str, symbol: str) -> str:
    """Return the venue's own name of an instrument; it trades spot alone.

    Examples
    --------
    >>> raw_symbol("kraken", "BTC-USD")
    'BTC/USD'

    Raises
    ------
    WrongVenueError
        A contract.
    """
    match = _SYMBOL.fullmatch(symbol.upper())
    if not match:
        raise WrongVenueError(venue, f"symbol {symbol}")
    return "/".join(match.groups())


class Kraken(OnLadder):
    """One pair's stream: the book, whether its checksum was right, and what is needed next.

    Parameters
    ----------
    raw_symbol : str
        Such as BTC/USD.
    base, since_ns, stale_s, instrument
        As of `tasks.venues.ladder.Ladder`.
    depth : int
        Levels a side that were subscribed to; an acknowledgement among the frames overrules it.

    Attributes
    ----------
    row, trade, quote, change : ndarray, shape (1,)
        Views of the event being handled; valid until the next one.

    Examples
    --------
    >>> from tasks.venues.events import BOOK
    >>> stream = Kraken("BTC/USD")
    >>> told = b'"bids":[{"price":100.0,"qty":2.50}],"asks":[{"price":100.5,"qty":0.10}]'
    >>> told += b',"checksum":%d,"timestamp":"2026-01-01T00:00:00.000001Z"' % crc32(b"1005" b"10" b"1000" b"250")
    >>> for event in stream.receive(b'{"channel":"book","type":"snapshot","data":[{"symbol":"BTC/USD",' + told + b"}]}", 1_000):
    ...     if event == BOOK:
    ...         print(stream.row["bid_px"][0, 0], stream.row["ask_sz"][0, 0])
    100.0 0.1
    """

    def __init__(
        self, raw_symbol: str, base: Mapping[str, int] = MappingProxyType({}), since_ns: int = 0, stale_s: float = 30.0,
        instrument: Instrument | None = None, depth: int = DEPTH,
    ):  # fmt: skip
        self.venue, self.symbol = "kraken", canonical_symbol("kraken", raw_symbol)
        self.raw_symbol = "/".join(self.symbol.split("-"))
        self._ladder = ladder = Ladder(self.raw_symbol, self.symbol, base, since_ns, depth, stale_s, instrument)
        self.row, self.trade, self.quote, self.change = ladder.row, ladder.trade, ladder.quote, ladder.change
        self._texts: LevelTexts[tuple[str, str, str]] = LevelTexts()  # what the checksum is made of, price, size
        self._decimals = max(0, ladder.instrument.price_decimals), max(0, ladder.instrument.size_decimals)
        self._ids, self._pace = TradeIds(base.get("trade_id", -1)), Pace()
        self._is_whole = self._has_checksums = False
        self._last = [b"", b""]  # update and snapshot, to know one that comes twice

    def receive(self, frame: bytes, receive_ns: int) -> Iterable[int]:
        """Return the events in one frame, oldest first; an empty frame says that something was lost."""
        if not frame:
            return self._lost(receive_ns)
        self._ladder.messages += 1
        try:
            message = decode(frame)
            if type(message) is Book and len(message.data) == 1 and message.type != "snapshot":
                return self._book(message.data[0], False, frame, receive_ns)
            return self._several(message, frame, receive_ns)
        except UnreadableFrameError as error:
            return self._keep(error, receive_ns, True)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return self._answer(frame, receive_ns, str(error))

    def _several(self, message: Any, frame: bytes, receive_ns: int) -> Iterator[int]:
        try:
            if type(message) is Book:
                for entry in message.data:
                    yield from self._book(entry, message.type == "snapshot", frame, receive_ns)
            elif type(message) is Trades:
                is_history = message.type == "snapshot"
                for trade in sorted(message.data, key=lambda trade: trade.trade_id) if is_history else message.data:
                    yield from self._trade(trade, is_history, frame, receive_ns)
        except UnreadableFrameError as error:
            yield from self._keep(error, receive_ns, type(message) is Book)

    def _book(self, entry: BookEntry, is_snapshot: bool, frame: bytes, receive_ns: int) -> Iterable[int]:
        ladder = self._ladder
        self._check_symbol(entry.symbol, frame)
        if frame == self._last[is_snapshot] if self._is_whole else not is_snapshot:
            ladder.rare["old"] += 1  # told twice, or under way before the new subscription
            return ()
        if is_snapshot and ladder.is_live:
            return self._anew(partial(self._book, entry, True, frame, receive_ns), receive_ns)
        self._last[is_snapshot] = frame
        exchange_ns = self._time(entry.timestamp, frame, receive_ns)
        if entry.checksum is None and self._has_checksums and not is_snapshot:
            raise UnreadableFrameError("a checksum", frame)
        bids, asks = pairs(entry.bids, frame), pairs(entry.asks, frame)
        ladder.read(bids, asks, frame)
        if is_snapshot:
            self._texts.clear()
            ladder.replace()
        else:
            ladder.apply()
        self._hold(bids, asks)
        if entry.checksum is None:
            self._is_whole, ladder.needs_snapshot = True, False
            return () if is_snapshot else ladder.publish(exchange_ns, receive_ns, 0)
        self._has_checksums = True
        ours = crc32("".join(words[0] for side in (1, 0) for words in self._texts.best(side, CHECKED)).encode())
        if ours != entry.checksum:
            ladder.rare["checksum_failures"] += 1
            return self._lost(receive_ns, ours, entry.checksum)
        self._is_whole, ladder.needs_snapshot = True, False
        return ladder.publish(exchange_ns, receive_ns, 0)

    def _hold(self, bids: list[Pair], asks: list[Pair]) -> None:
        texts, (prices, sizes) = self._texts, self._decimals
        for side, levels in enumerate((bids, asks)):
            for price, size in levels:
                more = len(price.partition(".")[2]), len(size.partition(".")[2])
                if more[0] > prices or more[1] > sizes:
                    prices, sizes = self._decimals = max(prices, more[0]), max(sizes, more[1])
                    self._write_again()
                if float(size):
                    texts.put(side, float(price), (digits(price, prices) + digits(size, sizes), price, size))
                else:
                    texts.drop(side, float(price))
        texts.cut(self._ladder.depth)

    def _write_again(self) -> None:
        # Numbers are written with all the decimals of the pair: who writes more has shown how many those are.
        for side in range(2):
            for _, price, size in self._texts.best(side, self._ladder.depth):
                self._texts.put(side, float(price), (digits(price, self._decimals[0]) + digits(size, self._decimals[1]), price, size))

    def _trade(self, trade: TradeEntry, is_history: bool, frame: bytes, receive_ns: int) -> Iterator[int]:
        self._check_symbol(trade.symbol, frame)
        price, size = text(trade.price, frame), text(trade.qty, frame)
        try:
            exchange_ns = iso_ns(trade.timestamp)
        except ValueError as error:
            raise UnreadableFrameError(f"a message of WebSocket v2 ({error})", frame) from None
        aggressor = 1 if trade.side == "buy" else -1
        yield from tell_trade(
            self._ladder, self._ids, trade.trade_id, price, size, aggressor, exchange_ns, receive_ns, frame=frame, backfill=is_history
        )

    def _check_symbol(self, symbol: str, frame: bytes) -> None:
        if symbol != self.raw_symbol:
            self._ladder.rare["stray"] += 1
            raise UnreadableFrameError(f"a frame of {self.raw_symbol}", frame)

    def _time(self, told: str, frame: bytes, receive_ns: int) -> int:
        try:
            exchange_ns = iso_ns(told)
            why = self._pace.fault(exchange_ns, receive_ns)
        except ValueError as error:
            why = str(error)
        if why:
            raise UnreadableFrameError(f"a message of WebSocket v2 ({why})", frame)
        return exchange_ns

    def _lost(self, receive_ns: int, expected: int = 0, received: int = 0) -> Iterator[int]:
        self._is_whole = False
        self._pace.forget()
        yield from self._ladder.gap(receive_ns, expected, received)

    def _answer(self, frame: bytes, receive_ns: int, why: str) -> Iterator[int]:
        try:
            told = decode_answer(frame).result
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            error = UnreadableFrameError(f"a message of WebSocket v2 ({why})", frame)
            yield from self._keep(error, receive_ns, not frame.startswith(_HARMLESS))
            return
        if told and told.channel == "book" and told.symbol == self.raw_symbol and told.depth > 0:
            self._ladder.depth = told.depth

    def _keep(self, error: UnreadableFrameError, receive_ns: int, spoils: bool) -> Iterator[int]:
        if spoils:  # it may have been a change of the book
            yield from self._lost(receive_ns)
        yield from self._ladder.keep(error, receive_ns)


def adapter(venue: str, raw_symbol: str, base: Mapping[str, int], since_ns: int, stale_s: float, instrument: Instrument | None) -> Kraken:
    """Return the stream of one pair."""
    return Kraken(raw_symbol, base, since_ns, stale_s, instrument)


def wire(venue: str) -> KrakenWire:
    """Return what the shell of sockets must know of the venue."""
    return KrakenWire()
