"""Coinbase Exchange: the public feed, frames in, events out.

| channel | messages | role |
| --- | --- | --- |
| level2_batch | snapshot, then l2update: absolute sizes, several changes each 50 ms | the book |
| matches | last_match once (history), then match; `side` is the maker's | trades |
| ticker | after each match: best bid and ask; `side` is the taker's | second witness of the book |
| heartbeat | each second: last_trade_id | missed trades, a dead connection |

The book has no number and no checksum, so a lost message of level2_batch cannot be seen by
itself.  What can be seen makes the book doubtful at once: a time that runs back, a crossed
book that stays, a frame that cannot be read.  The rest is seen when the ticker contradicts
the touch (`tasks.venues.touch_witness`).

https://docs.cdp.coinbase.com/exchange/websocket-feed/channels (2026-07)
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from math import nan
from types import MappingProxyType
from typing import Any

import msgspec

from tasks.venues.coinbase_messages import Heartbeat, LastMatch, Match, Snapshot, Ticker, Update, decode
from tasks.venues.coinbase_wire import CoinbaseWire
from tasks.venues.errors import UnreadableFrameError, WrongVenueError
from tasks.venues.iso_time import iso_ns
from tasks.venues.json_frame import size_of
from tasks.venues.ladder import Instrument, Ladder
from tasks.venues.on_ladder import OnLadder
from tasks.venues.publish import CROSSED_NS
from tasks.venues.touch_witness import TouchWitness
from tasks.venues.trade_ids import TradeIds, tell_trade
from warehouse.schema import CROSSED, GAP

AHEAD_NS = 600_000_000_000  # a time that leaps ahead of our own clock by more is none
_SYMBOL = re.compile(r"[A-Z0-9]{1,20}-[A-Z0-9]{1,20}")
# What cannot have changed the book, even where the rest cannot be read.
_HARMLESS = tuple(b'{"type":"%s"' % kind for kind in (b"match", b"last_match", b"ticker", b"heartbeat", b"subscriptions", b"error"))


def canonical_symbol(venue: str, raw: str) -> str:
    """Return our name of a product, which is the venue's.

    Examples
    --------
    >>> canonical_symbol("coinbase_exchange", "btc-usd")
    'BTC-USD'
    """
    return raw.upper()


def raw_symbol(venue: str, symbol: str) -> str:
    """Return the venue's own name of an instrument; it trades spot alone.

    Raises
    ------
    WrongVenueError
        A contract.
    """
    if not _SYMBOL.fullmatch(symbol.upper()):
        raise WrongVenueError(venue, f"symbol {symbol}")
    return symbol.upper()


class Coinbase(OnLadder):
    """One product's stream: the book, what was seen of it, and what is needed next.

    Attributes
    ----------
    row, trade, quote, change : ndarray, shape (1,)
        Views of the event being handled; valid until the next one.
    doubts : deque of (int, int, str)
        Stretches whose rows turned out doubtful after they were told: the exchange time at which
        the ticker last agreed, that at which it did not any more, and what was contradicted.

    Examples
    --------
    >>> from tasks.venues.events import BOOK
    >>> stream = Coinbase("BTC-USD")
    >>> book = b'{"type":"snapshot","product_id":"BTC-USD","asks":[["101.00","2"]],"bids":[["100.00","1"]],"time":"2026-01-01T00:00:00Z"}'
    >>> for event in stream.receive(book, 1_000):
    ...     if event == BOOK:
    ...         print(stream.row["bid_px"][0, 0], stream.row["ask_px"][0, 0])
    100.0 101.0
    """

    def __init__(
        self, raw_symbol: str, base: Mapping[str, int] = MappingProxyType({}), since_ns: int = 0, stale_s: float = 30.0,
        instrument: Instrument | None = None,
    ):  # fmt: skip
        self.venue, self.raw_symbol = "coinbase_exchange", raw_symbol.upper()
        if not _SYMBOL.fullmatch(self.raw_symbol):
            raise WrongVenueError(self.venue, f"symbol {raw_symbol}")
        self.symbol = canonical_symbol(self.venue, raw_symbol)
        self._ladder = ladder = Ladder(self.raw_symbol, self.symbol, base, since_ns, 0, stale_s, instrument)
        self.row, self.trade, self.quote, self.change = ladder.row, ladder.trade, ladder.quote, ladder.change
        self._ids, self._witness = TradeIds(base.get("trade_id", -1)), TouchWitness()
        self.doubts: deque[tuple[int, int, str]] = deque(maxlen=1000)
        self._last_frame, self._last_ns, self._crossed_ns, self._seen_ns, self._seen_receive_ns = b"", 0, 0, 0, 0
        self._is_whole, self._is_timeless = False, False  # a whole book may wait for the time at which it was so

    def receive(self, frame: bytes, receive_ns: int) -> Iterable[int]:
        """Return the events in one frame, oldest first; an empty frame says that something was lost."""
        if not frame:
            return self._lost(receive_ns)
        self._ladder.messages += 1
        try:
            message = decode(frame)
            if type(message) is Update and message.product_id == self.raw_symbol:
                return self._update(message, frame, receive_ns)
            return self._rare(message, frame, receive_ns)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return self._keep(UnreadableFrameError(f"a message of the feed ({error})", frame), receive_ns, not frame.startswith(_HARMLESS))
        except UnreadableFrameError as error:
            return self._keep(error, receive_ns, True)

    def _update(self, message: Update, frame: bytes, receive_ns: int) -> Iterable[int]:
        ladder, last_ns = self._ladder, self._last_ns
        if not self._is_whole or frame == self._last_frame:
            ladder.rare["old"] += 1
            return ()
        exchange_ns = self._time(message.time, frame, receive_ns)
        if exchange_ns < last_ns:
            return self._doubt(receive_ns, f"an update of {message.time} came after a later one", exchange_ns)
        bids = [(price, size) for side, price, size in message.changes if side == "buy"]
        asks = [(price, size) for side, price, size in message.changes if side == "sell"]
        ladder.read(bids, asks, frame)
        ladder.apply()
        self._last_frame, self._last_ns = frame, exchange_ns
        self._seen_ns, self._seen_receive_ns = exchange_ns, receive_ns
        if self._is_timeless:
            self._begin(exchange_ns)
        self._witness.move(exchange_ns, bids, asks)
        if ladder.state == CROSSED or self._witness.is_due(exchange_ns, exchange_ns):
            # Judged before the row is told: what is told is not taken back.
            why, since_ns = self._judged(exchange_ns)
            if why:
                return self._doubt(receive_ns, why, since_ns)
        return ladder.publish(exchange_ns, receive_ns, 0)

    def _judged(self, now_ns: int) -> tuple[str, int]:
        # Why the book is not to be trusted, and since when; "" where it is.
        row = self._ladder.peek()[0]
        is_crossed = row["bid_px"][0] >= row["ask_px"][0]
        self._crossed_ns = (self._crossed_ns or now_ns) if is_crossed else 0
        if is_crossed and now_ns - self._crossed_ns > CROSSED_NS:
            return "the book stays crossed", min(self._witness.agreed_ns, self._crossed_ns)  # what crossed it was wrong before
        if self._witness.doubts(self._last_ns, now_ns, row["bid_px"], row["bid_sz"], row["ask_px"], row["ask_sz"]):
            return self._witness.contradiction, self._witness.agreed_ns
        return "", 0

    def _doubt(self, receive_ns: int, why: str, since_ns: int) -> Iterator[int]:
        self._ladder.rare["suspects"] += 1
        self.doubts.append((since_ns, max(self._last_ns, since_ns), why))
        self._is_whole = False
        yield from self._ladder.gap(receive_ns)

    def _begin(self, exchange_ns: int) -> None:
        # The book is whole as of this time.
        self._is_timeless, self._crossed_ns = False, 0
        self._witness.begin(exchange_ns)

    def _time(self, text: str, frame: bytes, receive_ns: int) -> int:
        try:
            exchange_ns = iso_ns(text)
        except ValueError as error:
            raise UnreadableFrameError(f"a message of the feed ({error})", frame) from None
        if not exchange_ns:
            # Valid messages come with the year 1 at times (tardis-node, src/mappers/coinbase.ts): the last valid time stands.
            return self._last_ns or int(self._ladder.book["book_ns"][0])
        if self._seen_ns and exchange_ns - self._seen_ns - (receive_ns - self._seen_receive_ns) > AHEAD_NS:
            raise UnreadableFrameError(f"a time near the last one, not {(exchange_ns - self._seen_ns) / 1e9:.0f} s ahead", frame)
        return exchange_ns

    def _rare(self, message: Any, frame: bytes, receive_ns: int) -> Iterator[int]:
        try:
            if getattr(message, "product_id", self.raw_symbol) != self.raw_symbol:
                self._ladder.rare["stray"] += 1
                raise UnreadableFrameError(f"a frame of {self.raw_symbol}", frame)
            if type(message) is Snapshot:
                yield from self._snapshot(message, frame, receive_ns)
            elif isinstance(message, Match):
                yield from self._match(message, frame, receive_ns)
            elif type(message) is Ticker:
                yield from self._ticker(message, frame, receive_ns)
            elif type(message) is Heartbeat:
                yield from self._heartbeat(message, frame, receive_ns)
        except UnreadableFrameError as error:
            yield from self._keep(error, receive_ns, type(message) in (Snapshot, Update))

    def _snapshot(self, message: Snapshot, frame: bytes, receive_ns: int) -> Iterator[int]:
        ladder = self._ladder
        self._last_ns, self._last_frame = 0, b""
        exchange_ns = self._time(message.time, frame, receive_ns) if message.time else 0
        try:
            ladder.read(message.bids, message.asks, frame)
        except UnreadableFrameError:
            # Sizes such as 0.-10000 were seen (tardis-node, src/mappers/coinbase.ts); those levels are not there.
            bids, asks = ([level for level in side if "-" not in level[1]] for side in (message.bids, message.asks))
            ladder.read(bids, asks, frame)
        yield from ladder.gap(receive_ns)  # sent on request: what changed between the subscriptions was not
        ladder.replace()
        self._is_whole, self._is_timeless, ladder.needs_snapshot = True, True, False
        if exchange_ns:
            self._begin(exchange_ns)
            yield from ladder.publish(exchange_ns, receive_ns, 0)

    def _match(self, message: Match, frame: bytes, receive_ns: int) -> Iterator[int]:
        exchange_ns = self._time(message.time, frame, receive_ns) or receive_ns
        aggressor = 1 if message.side == "sell" else -1  # told is the side of the maker
        yield from tell_trade(
            self._ladder, self._ids, message.trade_id, message.price, message.size, aggressor, exchange_ns, receive_ns,
            frame=frame, backfill=type(message) is LastMatch,
        )  # fmt: skip

    def _ticker(self, message: Ticker, frame: bytes, receive_ns: int) -> Iterator[int]:
        exchange_ns = self._time(message.time, frame, receive_ns) if message.time else 0
        bid, bid_size, ask, ask_size = message.best_bid, message.best_bid_size, message.best_ask, message.best_ask_size
        try:
            best = [size_of(text) if text else nan for text in (bid, bid_size, ask, ask_size)]
        except ValueError as error:
            raise UnreadableFrameError(f"best prices and sizes ({error})", frame) from None
        yield from self._ladder.begin(exchange_ns or receive_ns, receive_ns)
        yield from self._ladder.tell_quote(
            exchange_ns, message.sequence, (bid or "nan", bid_size or "nan"), (ask or "nan", ask_size or "nan")
        )
        if exchange_ns and bid and ask and self._is_whole and not self._is_timeless:
            self._witness.hear((exchange_ns, best[0], best[1], best[2], best[3]))
            yield from self._look(exchange_ns, receive_ns)

    def _heartbeat(self, message: Heartbeat, frame: bytes, receive_ns: int) -> Iterator[int]:
        ladder, now_ns = self._ladder, self._time(message.time, frame, receive_ns) or receive_ns
        if self._ids.promise(message.last_trade_id):
            ladder.has_lost_trades = False  # told here
            ladder.rare["trade_id_gaps"] += 1
            state, since_ns = ladder.state, min(ladder.last_trade_ns or now_ns, now_ns)
            yield from ladder.mark(GAP, since_ns, receive_ns, self._ids.last + 1, message.last_trade_id)
            if state != GAP:
                yield from ladder.mark(state, now_ns, receive_ns)
        if self._is_whole and self._is_timeless:
            self._begin(now_ns)
            yield from ladder.publish(now_ns, receive_ns, 0)
        yield from self._look(now_ns, receive_ns)

    def _look(self, now_ns: int, receive_ns: int) -> Iterator[int]:
        # Messages of other channels tell the time where the book is silent.
        if self._is_whole and not self._is_timeless and self._witness.is_due(self._last_ns, now_ns):
            why, since_ns = self._judged(now_ns)
            if why:
                yield from self._doubt(receive_ns, why, since_ns)

    def _lost(self, receive_ns: int) -> Iterator[int]:
        self._is_whole, self._seen_ns = False, 0
        yield from self._ladder.gap(receive_ns)

    def _keep(self, error: UnreadableFrameError, receive_ns: int, spoils: bool) -> Iterator[int]:
        if spoils:  # it may have been a change of the book
            yield from self._lost(receive_ns)
        yield from self._ladder.keep(error, receive_ns)


def adapter(venue: str, raw_symbol: str, base: Mapping[str, int], since_ns: int, stale_s: float, instrument: Instrument | None) -> Coinbase:
    """Return the stream of one product."""
    return Coinbase(raw_symbol, base, since_ns, stale_s, instrument)


def wire(venue: str) -> CoinbaseWire:
    """Return what the shell of sockets must know of the venue."""
    return CoinbaseWire()
