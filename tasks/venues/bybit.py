"""Bybit v5, spot and linear: the public feed, frames in, events out.

| topic | messages | role |
| --- | --- | --- |
| orderbook.50 | snapshot, then deltas with `u` one higher each, every 20 ms | the book |
| orderbook.1 | the best bid and ask, always whole, every 10 ms | second witness of the book |
| publicTrade | trades, `S` the taker's side | trades |

A snapshot may come at any time and replaces the book; one with `u` 1 follows a restart of the
service.  `seq` is not consecutive but never runs back.  There is no checksum: what `u` cannot
show, a changed digit, is seen when the best prices contradict the book.

Spot and linear write the same symbol and the same topics: only the connection tells them apart.
Books leave retail price improvement out and trades do not: a trade (`RPI` true) may print inside
the spread, and a block trade (`BT`) anywhere.  Both changed hands and are kept.

https://bybit-exchange.github.io/docs/v5/websocket/public/orderbook (2026-07)
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from types import MappingProxyType

import msgspec

from tasks.venues.bybit_messages import Book, Frame, Trade, decode_book, decode_frame, decode_trades, trade_number
from tasks.venues.bybit_wire import BybitWire
from tasks.venues.errors import UnknownVenueError, UnreadableFrameError, WrongVenueError
from tasks.venues.json_frame import size_of
from tasks.venues.ladder import Instrument, Ladder
from tasks.venues.on_ladder import OnLadder
from tasks.venues.publish import CROSSED_NS
from tasks.venues.touch_witness import TouchWitness
from warehouse.schema import CROSSED, LEVELS

DEPTH = 50
_SLIP_MS = 60_000  # the engine's time and the sender's are never further apart
_LATE = 1000  # updates, 20 s of them: what comes later than that is no straggler but counts anew
_REMEMBERED = 4096  # trades, to know one that comes twice
_QUOTES = ("USDT", "USDC", "USD1", "USDE", "EUR", "BTC", "ETH", "BRL", "TRY", "PLN", "DAI", "MNT")
_MS = 1_000_000
_BOOKS = b'{"topic":"orderbook'


def canonical_symbol(venue: str, raw: str) -> str:
    """Return our name of an instrument.

    Examples
    --------
    >>> canonical_symbol("bybit_spot", "BTCUSDT"), canonical_symbol("bybit_linear", "BTCUSDT")
    ('BTC-USDT', 'BTC-USDT-PERP')
    >>> canonical_symbol("bybit_linear", "BTCPERP"), canonical_symbol("bybit_linear", "BTC-26DEC26")
    ('BTC-USDC-PERP', 'BTC-USDC-26DEC26')
    """
    pair, _, expiry = raw.upper().partition("-")
    if venue == "bybit_linear" and pair.endswith("PERP"):
        return f"{pair[:-4]}-USDC-PERP"
    quote = next((q for q in _QUOTES if pair.endswith(q) and pair != q), "")
    if venue == "bybit_spot":
        return f"{pair[: len(pair) - len(quote)]}-{quote}" if quote else pair
    name = f"{pair[: len(pair) - len(quote)]}-{quote}" if quote else f"{pair}-USDC"
    return f"{name}-{expiry or 'PERP'}"


def raw_symbol(venue: str, symbol: str) -> str:
    """Return the venue's own name of an instrument.

    Examples
    --------
    >>> raw_symbol("bybit_linear", "BTC-USDT-PERP"), raw_symbol("bybit_linear", "BTC-USDC-PERP")
    ('BTCUSDT', 'BTCPERP')
    """
    base, _, rest = symbol.upper().partition("-")
    quote, _, expiry = rest.partition("-")
    if venue == "bybit_spot" or not expiry:
        return base + quote
    if quote == "USDC":
        return f"{base}PERP" if expiry == "PERP" else f"{base}-{expiry}"
    return base + quote if expiry == "PERP" else f"{base}{quote}-{expiry}"


class Bybit(OnLadder):
    """One instrument's stream: the book, what was seen of it, and what is needed next.

    Attributes
    ----------
    row, trade, quote, change : ndarray, shape (1,)
        Views of the event being handled; valid until the next one.
    doubts : deque of (int, int, str)
        Stretches whose rows turned out doubtful after they were told: the exchange time at which
        the best prices last agreed, that at which they did not any more, and what was contradicted.

    Examples
    --------
    >>> from tasks.venues.events import BOOK
    >>> stream = Bybit("bybit_linear", "BTCUSDT")
    >>> book = b'{"topic":"orderbook.50.BTCUSDT","type":"snapshot","ts":7,"data":{"s":"BTCUSDT","b":[["100.10","1"]],"a":[["100.20","2"]],"u":5,"seq":9},"cts":6}'
    >>> for event in stream.receive(book, 1_000):
    ...     if event == BOOK:
    ...         print(stream.row["exchange_ns"][0], stream.row["bid_px"][0, 0])
    6000000 100.1
    """  # noqa: E501

    def __init__(
        self, venue: str, raw_symbol: str, base: Mapping[str, int] = MappingProxyType({}), since_ns: int = 0, stale_s: float = 30.0,
        instrument: Instrument | None = None,
    ):  # fmt: skip
        if venue not in ("bybit_spot", "bybit_linear"):
            raise UnknownVenueError(venue, ("bybit_spot", "bybit_linear"))
        self.venue, self.raw_symbol = venue, raw_symbol.upper()
        if not re.fullmatch(
            r"[A-Z0-9]{2,30}(-[0-9]{1,2}[A-Z]{3}[0-9]{2})?" if venue == "bybit_linear" else r"[A-Z0-9]{2,30}", self.raw_symbol
        ):
            raise WrongVenueError(venue, f"symbol {raw_symbol}")
        self.symbol = canonical_symbol(venue, raw_symbol)
        self._ladder = ladder = Ladder(self.raw_symbol, self.symbol, base, since_ns, DEPTH, stale_s, instrument, books_begin=_BOOKS)
        self.row, self.trade, self.quote, self.change = ladder.row, ladder.trade, ladder.quote, ladder.change
        self._witness = TouchWitness()
        self._seen: dict[int, None] = {}  # ids of recent trades, oldest first
        self.doubts: deque[tuple[int, int, str]] = deque(maxlen=1000)
        self._u = self._seq = self._crossed_ns = 0
        self._is_full = (False, False)  # a side came with all the levels that there can be
        self._topics = {f"orderbook.{DEPTH}.{self.raw_symbol}": self._book, f"orderbook.1.{self.raw_symbol}": self._touch}
        self._topics[f"publicTrade.{self.raw_symbol}"] = self._trades

    def receive(self, frame: bytes, receive_ns: int) -> Iterable[int]:
        """Return the events in one frame, oldest first; an empty frame says that something was lost."""
        if not frame:
            return self._ladder.gap(receive_ns)
        self._ladder.messages += 1
        try:
            return self._read(frame, receive_ns)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return self._ladder.keep(UnreadableFrameError(f"a message of the feed ({error})", frame), receive_ns)
        except UnreadableFrameError as error:
            return self._ladder.keep(error, receive_ns)

    def _read(self, frame: bytes, receive_ns: int) -> Iterable[int]:
        if frame.startswith(b'{"success"') or frame.startswith(b'{"op"'):
            msgspec.json.decode(frame)
            return ()
        message = decode_frame(frame)
        told = self._topics.get(message.topic)
        if told is None:
            self._ladder.rare["stray"] += 1
            raise UnreadableFrameError(f"a frame of {self.raw_symbol}", frame)
        return told(message, frame, receive_ns)

    def _body(self, message: Frame, frame: bytes) -> tuple[Book, int]:
        body, ms = decode_book(message.data), message.cts or message.ts
        if body.s != self.raw_symbol:
            raise UnreadableFrameError(f"a book of {self.raw_symbol}", frame)
        if abs(message.ts - ms) > _SLIP_MS or ms == 0:
            raise UnreadableFrameError("times of matching and of sending that are near each other", frame)
        return body, ms * _MS

    def _book(self, message: Frame, frame: bytes, receive_ns: int) -> Iterable[int]:
        ladder = self._ladder
        body, exchange_ns = self._body(message, frame)
        if message.type == "snapshot":
            if ladder.is_live and 1 < body.u <= self._u < body.u + _LATE and body.seq <= self._seq:
                ladder.rare["old"] += 1  # the same again, or that of a connection that lags
                return ()
            ladder.read(body.b, body.a, frame)
            replaced = partial(self._replaced, body, exchange_ns, receive_ns)
            return self._anew(replaced, receive_ns) if ladder.is_live and body.u != self._u + 1 else replaced()
        is_old = 1 < body.u <= self._u < body.u + _LATE and body.seq <= self._seq  # by both: one of two that disagree is wrong
        if ladder.needs_snapshot or is_old:
            ladder.rare["old"] += 1
            return ()
        if body.u != self._u + 1 or body.seq < self._seq:
            return ladder.gap(receive_ns, self._u + 1, body.u)
        ladder.read(body.b, body.a, frame)
        ladder.apply()
        if self._runs_short():
            return ladder.gap(receive_ns)
        self._witness.move(exchange_ns, body.b, body.a)
        return self._told(body, exchange_ns, receive_ns)

    def _replaced(self, body: Book, exchange_ns: int, receive_ns: int) -> Iterable[int]:
        self._ladder.replace()
        self._crossed_ns, self._is_full = 0, (len(body.b) >= DEPTH, len(body.a) >= DEPTH)
        self._witness.begin(exchange_ns)
        return self._told(body, exchange_ns, receive_ns)

    def _told(self, body: Book, exchange_ns: int, receive_ns: int) -> Iterable[int]:
        self._u, self._seq = body.u, body.seq
        if self._ladder.state == CROSSED or self._witness.is_due(exchange_ns, exchange_ns):
            why = self._judged(exchange_ns)
            if why:
                return self._doubt(why, exchange_ns, receive_ns)
        return self._ladder.publish(exchange_ns, receive_ns, body.u)

    def _runs_short(self) -> bool:
        # Levels that came back into the depth untold, if there are such, are missing where a full side ends early.
        return any(full and self._ladder.held(side) < LEVELS for side, full in enumerate(self._is_full))

    def _judged(self, now_ns: int) -> str:
        # Why the book is not to be trusted; "" where it is.  Judged before the row is told.
        row = self._ladder.peek()[0]
        is_crossed = row["bid_px"][0] >= row["ask_px"][0]
        self._crossed_ns = (self._crossed_ns or now_ns) if is_crossed else 0
        if is_crossed and now_ns - self._crossed_ns > CROSSED_NS:
            return "the book stays crossed"
        if self._witness.doubts(now_ns, now_ns, row["bid_px"], row["bid_sz"], row["ask_px"], row["ask_sz"]):
            return self._witness.contradiction
        return ""

    def _doubt(self, why: str, now_ns: int, receive_ns: int) -> Iterator[int]:
        self._ladder.rare["suspects"] += 1
        self.doubts.append((min(self._witness.agreed_ns, self._crossed_ns or now_ns), now_ns, why))
        yield from self._ladder.gap(receive_ns)

    def _touch(self, message: Frame, frame: bytes, receive_ns: int) -> Iterator[int]:
        body, exchange_ns = self._body(message, frame)
        try:
            best = [(float(side[0][0]), size_of(side[0][1])) if side else (0.0, 0.0) for side in (body.b, body.a)]
        except ValueError as error:
            raise UnreadableFrameError(f"best prices and sizes ({error})", frame) from None
        texts = [side[0] if side else ("nan", "nan") for side in (body.b, body.a)]
        if self._ladder.is_live and body.b and body.a:
            self._witness.hear((exchange_ns, *best[0], *best[1]))
        return self._tell_touch(exchange_ns, receive_ns, body.seq, texts)

    def _tell_touch(self, exchange_ns: int, receive_ns: int, seq: int, texts: list[tuple[str, str]]) -> Iterator[int]:
        yield from self._ladder.begin(exchange_ns, receive_ns)
        yield from self._ladder.tell_quote(exchange_ns, seq, *texts)
        if self._ladder.is_live and self._witness.is_due(int(self._ladder.book["book_ns"][0]), exchange_ns):
            why = self._judged(exchange_ns)
            if why:
                yield from self._doubt(why, exchange_ns, receive_ns)

    def _trades(self, message: Frame, frame: bytes, receive_ns: int) -> Iterator[int]:
        trades = decode_trades(message.data)
        if any(trade.s != self.raw_symbol for trade in trades):
            raise UnreadableFrameError(f"trades of {self.raw_symbol}", frame)
        return self._tell_trades(trades, message.ts, frame, receive_ns)

    def _tell_trades(self, trades: list[Trade], ms: int, frame: bytes, receive_ns: int) -> Iterator[int]:
        for trade in trades:
            if not 0 <= ms - trade.T + _SLIP_MS < 1 << 43:
                yield from self._ladder.keep(UnreadableFrameError("a trade near its message's time", frame), receive_ns)
                continue
            number = trade_number(trade.i)
            if number in self._seen:
                self._ladder.rare["old"] += 1
                continue
            aggressor = 1 if trade.S == "Buy" else -1
            if not (yield from self._ladder.print_trade(trade.p, trade.v, aggressor, trade.T * _MS, receive_ns, number, frame=frame)):
                continue
            self._seen[number] = None
            if len(self._seen) > _REMEMBERED:
                del self._seen[next(iter(self._seen))]


def adapter(venue: str, raw_symbol: str, base: Mapping[str, int], since_ns: int, stale_s: float, instrument: Instrument | None) -> Bybit:
    """Return the stream of one instrument."""
    return Bybit(venue, raw_symbol, base, since_ns, stale_s, instrument)


def wire(venue: str) -> BybitWire:
    """Return what the shell of sockets must know of a market."""
    return BybitWire(venue)
