"""Hyperliquid: the public feed, frames in, events out.

| channel | messages | role |
| --- | --- | --- |
| l2Book | the best levels, always whole, without a number | the book |
| trades | a list; the first message after subscribing is history | trades, `side` the taker's: B bought, A sold |

Each message is the whole book, so a lost one makes the book older, never wrong, and a wrong one
lasts until the next.  Nothing but order and shape can show a changed digit.  Silence is the only
sign of a loss: once it is longer than a few beats, the book is doubtful since its last message.
A trade that much younger tells of it at once, and the book is asked for anew; else the next book does.

The plain subscription has 20 levels and was slowed to 5 s in July 2026; `fast` has 5 levels each
0.5 s.  We subscribe `fast`: a touch that is 5 s old is of no use.  Both are read (the wire's
`is_fast`), but one at a time: they share a channel and would take turns as the whole book.

https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/websocket (2026-08)
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from types import MappingProxyType
from typing import Annotated, Literal

import msgspec

from tasks.venues.errors import UnreadableFrameError, WrongVenueError
from tasks.venues.hyperliquid_wire import HyperliquidWire
from tasks.venues.ladder import Instrument, Ladder
from tasks.venues.on_ladder import OnLadder

_REMEMBERED = 4096  # trades, to know one that comes twice
_AHEAD_NS = 60_000_000_000  # a time that leaps ahead of the last one by more than our own clock did and this is none
_BOOKS = b'{"channel":"l2Book"'
_FIRST_AHEAD_NS = 86_400_000_000_000  # and so is a first one beyond our own clock by this
_BEHIND = 4  # books in a row, each newer than the one before and all that far behind the last one, tell that it was wrong
_MS = 1_000_000
STALE_S, PLAIN_STALE_S = 5.0, 15.0  # a book comes each 0.5 s whether or not it changed, the plain one each 5 s

_Number = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
_Milliseconds = Annotated[int, msgspec.Meta(gt=0, lt=1 << 43)]  # until 2248; nanoseconds of later times would not fit


class _Level(msgspec.Struct):
    px: str
    sz: str


class _Book(msgspec.Struct):
    coin: str
    time: _Milliseconds
    levels: tuple[list[_Level], list[_Level]]
    fast: bool = False


class _Trade(msgspec.Struct):
    coin: str
    side: Literal["A", "B"]
    px: str
    sz: str
    time: _Milliseconds
    tid: _Number


class _Frame(msgspec.Struct):
    channel: str
    data: msgspec.Raw = msgspec.Raw(b"")


_FRAME = msgspec.json.Decoder(_Frame).decode
_BOOK = msgspec.json.Decoder(_Book).decode
_TRADES = msgspec.json.Decoder(list[_Trade]).decode


def canonical_symbol(venue: str, raw: str) -> str:
    """Return our name of an instrument: perpetuals have no sign of their own there.

    Examples
    --------
    >>> canonical_symbol("hyperliquid", "BTC"), canonical_symbol("hyperliquid", "PURR/USDC")
    ('BTC-USD-PERP', 'PURR-USDC')
    """
    if "/" in raw:
        return raw.replace("/", "-")
    return raw if raw.startswith("@") else f"{raw}-USD-PERP"


def raw_symbol(venue: str, symbol: str) -> str:
    """Return the venue's own name of an instrument.

    Examples
    --------
    >>> raw_symbol("hyperliquid", "BTC-USD-PERP"), raw_symbol("hyperliquid", "PURR-USDC")
    ('BTC', 'PURR/USDC')
    """
    if symbol.endswith("-USD-PERP"):
        return symbol.removesuffix("-USD-PERP")
    return symbol if symbol.startswith("@") else symbol.replace("-", "/")


class Hyperliquid(OnLadder):
    """One instrument's stream: the book, what was seen of it, and what is needed next.

    Attributes
    ----------
    row, trade, quote, change : ndarray, shape (1,)
        Views of the event being handled; valid until the next one.

    Examples
    --------
    >>> from tasks.venues.events import BOOK
    >>> stream = Hyperliquid("BTC")
    >>> book = b'{"channel":"l2Book","data":{"coin":"BTC","time":7,"levels":[[{"px":"100","sz":"1","n":1}],[{"px":"101","sz":"2","n":1}]]}}'
    >>> for event in stream.receive(book, 1_000):
    ...     if event == BOOK:
    ...         print(stream.row["exchange_ns"][0], stream.row["ask_px"][0, 0])
    7000000 101.0
    """

    def __init__(
        self, raw_symbol: str, base: Mapping[str, int] = MappingProxyType({}), since_ns: int = 0, stale_s: float = 30.0,
        instrument: Instrument | None = None,
    ):  # fmt: skip
        self.venue, self.raw_symbol = "hyperliquid", raw_symbol
        if not re.fullmatch(r"@[0-9]{1,6}|[A-Za-z0-9]{1,20}(/[A-Za-z0-9]{1,20})?|[a-z0-9]{1,20}:[A-Za-z0-9]{1,20}", raw_symbol):
            raise WrongVenueError(self.venue, f"symbol {raw_symbol}")
        self.symbol = canonical_symbol(self.venue, raw_symbol)
        self._ladder = ladder = Ladder(raw_symbol, self.symbol, base, since_ns, 0, min(stale_s, STALE_S), instrument, True, _BOOKS)
        self.row, self.trade, self.quote, self.change = ladder.row, ladder.trade, ladder.quote, ladder.change
        self._seen: dict[int, None] = {}  # ids of recent trades, oldest first
        self._before = base.get("trade_id", -1), base.get("trade_ns", 0) // _MS  # the last trade of the session before
        self._is_history, self._last_ms, self._last_receive_ns, self._last_frame = True, 0, 0, b""
        self._was_ahead = False
        self._n_behind, self._behind_ms = 0, 0  # old books in a row, and the time of the last of them
        self._stale_ns = {is_fast: int(min(stale_s, limit_s) * 1e9) for is_fast, limit_s in ((True, STALE_S), (False, PLAIN_STALE_S))}

    def receive(self, frame: bytes, receive_ns: int) -> Iterable[int]:
        """Return the events in one frame, oldest first; an empty frame says that something was lost."""
        if not frame:
            self._is_history, self._last_frame = True, b""  # whoever comes back is sent history again
            return self._ladder.gap(receive_ns)
        self._ladder.messages += 1
        try:
            return self._read(frame, receive_ns)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return self._ladder.keep(UnreadableFrameError(f"a message of the feed ({error})", frame), receive_ns)
        except UnreadableFrameError as error:
            return self._ladder.keep(error, receive_ns)

    def _read(self, frame: bytes, receive_ns: int) -> Iterable[int]:
        if frame.startswith(b"Websocket"):
            return ()
        message = _FRAME(frame)
        if message.channel == "l2Book":
            return self._book(_BOOK(message.data), frame, receive_ns)
        if message.channel == "trades":
            return self._trades(_TRADES(message.data), frame, receive_ns)
        if message.channel in ("subscriptionResponse", "pong", "error"):
            return ()
        raise UnreadableFrameError("a message of l2Book or trades", frame)

    def _own(self, coin: str, frame: bytes) -> None:
        if coin != self.raw_symbol:
            self._ladder.rare["stray"] += 1
            raise UnreadableFrameError(f"a frame of {self.raw_symbol}", frame)

    def _is_near(self, ms: int, receive_ns: int) -> bool:
        # The next one stands: it may have been a clock that was set.
        if self._last_ms:
            is_ahead = (ms - self._last_ms) * _MS > _AHEAD_NS + max(0, receive_ns - self._last_receive_ns)  # ours may be set back
        else:
            is_ahead = ms * _MS - receive_ns > _FIRST_AHEAD_NS
        self._was_ahead = is_ahead and not self._was_ahead
        return not self._was_ahead

    def _book(self, book: _Book, frame: bytes, receive_ns: int) -> Iterable[int]:
        ladder = self._ladder
        self._own(book.coin, frame)
        if not self._is_near(book.time, receive_ns):
            raise UnreadableFrameError(f"a time in ms near the last one, not {book.time}", frame)
        if book.time < self._last_ms or frame == self._last_frame:
            ladder.rare["old"] += 1
            return self._old(book.time, receive_ns)
        bids, asks = ([(level.px, level.sz) for level in side] for side in book.levels)
        if not (_runs(bids, -1.0) and _runs(asks, 1.0)):
            raise UnreadableFrameError("levels from the best outward, none of them empty", frame)
        ladder.read(bids, asks, frame)
        ladder.replace()
        ladder.book["stale_ns"] = self._stale_ns[book.fast]
        self._last_ms, self._last_frame, self._last_receive_ns, self._n_behind = book.time, frame, receive_ns, 0
        return ladder.publish(book.time * _MS, receive_ns, book.time)

    def _old(self, ms: int, receive_ns: int) -> Iterable[int]:
        # Old books are late or sent twice; where they go on and on, the last one's time was wrong.  The next one is then the book.
        is_behind = (self._last_ms - ms) * _MS > _AHEAD_NS and (self._n_behind == 0 or ms > self._behind_ms)
        self._n_behind, self._behind_ms = self._n_behind + 1 if is_behind else 0, ms
        if self._n_behind < _BEHIND:
            return ()
        self._n_behind, self._last_ms, self._last_frame = 0, 0, b""
        return self._ladder.gap(receive_ns)

    def _trades(self, trades: list[_Trade], frame: bytes, receive_ns: int) -> Iterable[int]:
        for trade in trades:
            self._own(trade.coin, frame)
        near = [trade for trade in trades if self._is_near(trade.time, receive_ns)]
        is_whole, trades = len(near) == len(trades), near
        is_history, self._is_history = self._is_history, False
        newest_ms = max((trade.time for trade in trades), default=0)
        if is_history:
            trades = self._unknown(trades)
        events: Iterable[int] = self._tell(trades, is_history, frame, receive_ns)
        if not is_whole:
            events = chain(self._ladder.keep(UnreadableFrameError("trades of times in ms near the last one", frame), receive_ns), events)
        if self._ladder.is_live and (newest_ms - self._last_ms) * _MS > self._ladder.book["stale_ns"][0]:
            self._ladder.rare["stale"] += 1
            return chain(self._ladder.gap(receive_ns), events)
        return events

    def _unknown(self, trades: list[_Trade]) -> list[_Trade]:
        # History without what the session before has stored.  All trades of one time come in one message
        # (fixtures of 2025-01 and 2026-08), so that one of them that is known stands for all.
        last_id, last_ms = self._before
        first_ms = last_ms + any(trade.time == last_ms and trade.tid == last_id for trade in trades)
        unknown = [trade for trade in trades if trade.time >= first_ms]
        self._ladder.rare["old"] += len(trades) - len(unknown)
        return unknown

    def _tell(self, trades: list[_Trade], is_history: bool, frame: bytes, receive_ns: int) -> Iterator[int]:
        for trade in sorted(trades, key=lambda trade: trade.time) if is_history else trades:
            number = (trade.tid ^ (trade.time << 20)) & ((1 << 63) - 1)  # unique together with the time only
            if number in self._seen:
                self._ladder.rare["old"] += 1
                continue
            side = 1 if trade.side == "B" else -1
            is_told = yield from self._ladder.print_trade(
                trade.px, trade.sz, side, trade.time * _MS, receive_ns, trade.tid, frame=frame, backfill=is_history
            )
            if not is_told:
                continue
            self._seen[number] = None
            if len(self._seen) > _REMEMBERED:
                del self._seen[next(iter(self._seen))]


def _runs(side: Sequence[tuple[str, str]], sign: float) -> bool:
    # Whether a side runs from the best outward and no level is empty.
    try:
        prices = [sign * float(price) for price, _ in side]
        return all(a < b for a, b in pairwise(prices)) and all(float(size) > 0.0 for _, size in side)
    except ValueError:
        return False


def adapter(
    venue: str, raw_symbol: str, base: Mapping[str, int], since_ns: int, stale_s: float, instrument: Instrument | None
) -> Hyperliquid:
    """Return the stream of one instrument."""
    return Hyperliquid(raw_symbol, base, since_ns, stale_s, instrument)


def wire(venue: str) -> HyperliquidWire:
    """Return what the shell of sockets must know of the venue."""
    return HyperliquidWire()
