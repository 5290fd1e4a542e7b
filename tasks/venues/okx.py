"""OKX: spot, swaps and dated contracts over WebSocket v5, frames in, events out.

| channel | messages | role |
| --- | --- | --- |
| books | snapshot of 400 levels, then updates: absolute sizes, 0 removes, also what is pushed out | the book |
| trades | each taker order and price: how many fills, and the id of the last; `side` is the taker's | trades |

An update follows when its prevSeqId is the seqId before it.  Both may be equal, with no levels,
where nothing happened for a minute; and seqId may be the smaller one after maintenance.  Of what
does not follow, frames that were seen before are dropped; anything else is a gap, and only a new
subscription brings a snapshot: until then updates are dropped.

Before trading opens a book may be crossed; one that an update crosses later uncrosses at once, or
a level in it is wrong.  Any other wrong digit in a level cannot be seen here: the numbers say that
all came, not what; the REST book of `witness_url` does.

The checksum is 0 since 2026-06-23.  Where one was sent, as in older recordings, it is checked.
Sizes of contracts are counted in contracts and are turned into base units here.

https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-order-book-channel (2026-08)
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from zlib import crc32

import msgspec

from tasks.venues.aggregated_ids import AggregatedIds
from tasks.venues.errors import UnreadableFrameError
from tasks.venues.ladder import Instrument, Ladder
from tasks.venues.level_texts import LevelTexts
from tasks.venues.okx_messages import BookEntry, Books, TradeEntry, Trades, decode_books, decode_told, decode_trades, nanoseconds, whole
from tasks.venues.okx_names import canonical_symbol, raw_symbol, usual_contract
from tasks.venues.okx_wire import OkxWire
from tasks.venues.on_ladder import OnLadder
from tasks.venues.pace import Pace
from warehouse.schema import CROSSED

__all__ = ["Okx", "adapter", "canonical_symbol", "raw_symbol", "wire"]
CHECKED = 25  # levels a side under the checksum
CROSSED_NS = 1_000_000_000  # a book that an update crossed, and that stays so, is wrong
HISTORY_NS = 1_000_000_000  # a first trade older than this was there before the subscription, where no acknowledgement says when that was
_BOOKS, _TRADES = b'{"arg":{"channel":"books",', b'{"arg":{"channel":"trades",'
# What cannot have changed the book, even where the rest cannot be read.
_HARMLESS = (_TRADES, b'{"event":"', b'{"arg":{"channel":"tickers",', b"pong")


class Okx(OnLadder):
    """One instrument's stream: the book, the number it stands at, and what is needed next.

    Attributes
    ----------
    row, trade, quote, change : ndarray, shape (1,)
        Views of the event being handled; valid until the next one.

    Examples
    --------
    >>> from tasks.venues.events import BOOK
    >>> stream = Okx("BTC-USD-SWAP")
    >>> told = b'{"asks":[["50000","3","0","1"]],"bids":[["40000","2","0","1"]],"ts":"1652459225464","prevSeqId":-1,"seqId":7}'
    >>> for event in stream.receive(b'{"arg":{"channel":"books","instId":"BTC-USD-SWAP"},"action":"snapshot","data":[' + told + b"]}", 5):
    ...     if event == BOOK:
    ...         print(stream.row["update_id"][0], stream.row["bid_sz"][0, 0])
    7 0.005
    """

    def __init__(
        self, raw_symbol: str, base: Mapping[str, int] = MappingProxyType({}), since_ns: int = 0, stale_s: float = 30.0,
        instrument: Instrument | None = None,
    ):  # fmt: skip
        self.venue, self.raw_symbol = "okx", raw_symbol.upper()
        self.symbol = canonical_symbol("okx", raw_symbol)
        instrument = instrument or usual_contract(self.raw_symbol)
        self._ladder = ladder = Ladder(self.raw_symbol, self.symbol, base, since_ns, 0, stale_s, instrument)
        self.row, self.trade, self.quote, self.change = ladder.row, ladder.trade, ladder.quote, ladder.change
        self._texts: LevelTexts[str] = LevelTexts()
        self._ids, self._pace = AggregatedIds(base.get("trade_id", -1)), Pace()
        self._is_whole = self._has_checksums = self._has_numbers = False
        self._last_seq, self._last_frame, self._last_snapshot = -1, b"", b""
        self._seen: deque[tuple[int, int]] = deque(maxlen=256)  # numbers of updates in the book, to know one that comes twice
        self._awaits_history, self._subscribed_ns = True, 0
        self._crossed_ns, self._began_crossed = 0, False

    def receive(self, frame: bytes, receive_ns: int) -> Iterable[int]:
        """Return the events in one frame, oldest first; an empty frame says that something was lost."""
        if not frame:
            self._awaits_history, self._subscribed_ns = True, 0
            return self._lost(receive_ns)
        self._ladder.messages += 1
        try:
            if frame.startswith(_BOOKS):
                message = decode_books(frame)
                if len(message.data) == 1 and message.arg.instId == self.raw_symbol and message.action != "snapshot":
                    return self._book(message.data[0], False, frame, receive_ns)
                return self._several(message, frame, receive_ns)
            if frame.startswith(_TRADES):
                return self._several(decode_trades(frame), frame, receive_ns)
            return self._told(frame, receive_ns)
        except UnreadableFrameError as error:
            return self._keep(error, receive_ns, True)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return self._keep(UnreadableFrameError(f"a message of WebSocket v5 ({error})", frame), receive_ns, _spoils(frame))

    def _told(self, frame: bytes, receive_ns: int) -> Iterable[int]:
        # Frames of other channels, of other JSON writers than the venue's, and what is told besides.
        if frame == b"pong":
            return ()
        told = decode_told(frame)
        channel = told.arg.channel if told.arg else ""
        if told.event:
            if told.event == "subscribe" and channel == "trades" and self._awaits_history:
                self._subscribed_ns = receive_ns
            return ()
        if channel == "books":
            return self._several(decode_books(frame), frame, receive_ns)
        if channel == "trades":
            return self._several(decode_trades(frame), frame, receive_ns)
        if not channel:
            raise UnreadableFrameError("a message of WebSocket v5", frame)
        return ()

    def _several(self, message: Books | Trades, frame: bytes, receive_ns: int) -> Iterator[int]:
        try:
            self._check_symbol(message.arg.instId, frame)
            if isinstance(message, Books):
                for entry in message.data:
                    yield from self._book(entry, message.action == "snapshot", frame, receive_ns)
                return
            for trade in message.data:
                yield from self._trade(trade, frame, receive_ns)
            self._awaits_history = False
        except UnreadableFrameError as error:
            self._ladder.has_lost_trades |= isinstance(message, Trades)  # their numbers tell it in part
            yield from self._keep(error, receive_ns, isinstance(message, Books))

    def _book(self, entry: BookEntry, is_snapshot: bool, frame: bytes, receive_ns: int) -> Iterable[int]:
        ladder, seq, previous = self._ladder, entry.seqId, entry.prevSeqId
        if is_snapshot:
            if self._is_whole and frame == self._last_snapshot:
                ladder.rare["old"] += 1
                return ()
            if ladder.is_live:
                return self._anew(partial(self._book, entry, True, frame, receive_ns), receive_ns)
            self._last_snapshot = frame
        else:
            if not self._is_whole or (seq is None and frame == self._last_frame):
                ladder.rare["old"] += 1
                return ()
            if seq is None or previous is None:
                if self._has_numbers or (self._has_checksums and not entry.checksum):
                    raise UnreadableFrameError("an update with prevSeqId and seqId", frame)
            elif previous != self._last_seq:
                return self._unfit(previous, seq, receive_ns)
        exchange_ns = nanoseconds(entry.ts, frame)
        if why := self._pace.fault(exchange_ns, receive_ns):
            raise UnreadableFrameError(f"a message of WebSocket v5 ({why})", frame)
        if seq is not None and seq == previous and not entry.bids and not entry.asks and ladder.is_live:
            ladder.reach(exchange_ns, receive_ns)  # nothing changed for a minute: the book is as good as new
            return ()
        ladder.read(entry.bids, entry.asks, frame)
        if is_snapshot:
            ladder.replace()
            self._has_numbers, self._has_checksums = seq is not None, entry.checksum != 0
            self._texts.clear()
            self._seen.clear()
            self._crossed_ns, self._began_crossed = 0, self._is_crossed()
        else:
            ladder.apply()
            if ladder.state == CROSSED and self._stays_crossed(exchange_ns):
                ladder.rare["suspects"] += 1
                return self._lost(receive_ns)
        self._last_seq, self._last_frame = -1 if seq is None else seq, frame
        if seq is not None and previous is not None:
            self._seen.append((previous, seq))
        if self._has_checksums:
            self._hold(entry)
            if entry.checksum and (ours := self._checksum()) != entry.checksum:
                ladder.rare["checksum_failures"] += 1
                return self._lost(receive_ns, ours, entry.checksum)
        self._is_whole, ladder.needs_snapshot = True, False
        return ladder.publish(exchange_ns, receive_ns, max(self._last_seq, 0))

    def _unfit(self, previous: int, seq: int, receive_ns: int) -> Iterable[int]:
        if (previous, seq) in self._seen:
            self._ladder.rare["old"] += 1
            return ()
        return self._lost(receive_ns, self._last_seq, previous)

    def _is_crossed(self) -> bool:
        row = self._ladder.peek()[0]
        return bool(row["bid_px"][0] >= row["ask_px"][0])

    def _stays_crossed(self, now_ns: int) -> bool:
        self._crossed_ns = (self._crossed_ns or now_ns) if self._is_crossed() else 0
        return bool(self._crossed_ns) and not self._began_crossed and now_ns - self._crossed_ns > CROSSED_NS

    def _hold(self, entry: BookEntry) -> None:
        texts = self._texts
        for side, rows in enumerate((entry.bids, entry.asks)):
            for price, size, *_ in rows:
                if float(size):
                    texts.put(side, float(price), f"{price}:{size}")
                else:
                    texts.drop(side, float(price))

    def _checksum(self) -> int:
        # Bid and ask by turns, from the best on, each as it was sent; what is left of the longer side follows.
        bids, asks = self._texts.best(0, CHECKED), self._texts.best(1, CHECKED)
        both = min(len(bids), len(asks))
        words = [word for pair in zip(bids, asks, strict=False) for word in pair] + bids[both:] + asks[both:]
        ours = crc32(":".join(words).encode())
        return ours - (1 << 32) if ours >> 31 else ours

    def _trade(self, trade: TradeEntry, frame: bytes, receive_ns: int) -> Iterator[int]:
        self._check_symbol(trade.instId, frame)
        trade_id, fills = whole(trade.tradeId, frame), whole(trade.count, frame)
        exchange_ns = nanoseconds(trade.ts, frame)
        if not self._ids.is_new(trade_id):
            self._ladder.rare["old"] += 1
            return
        is_history = self._awaits_history and exchange_ns < (self._subscribed_ns or receive_ns - HISTORY_NS)
        is_told = yield from self._ladder.print_trade(
            trade.px, trade.sz, 1 if trade.side == "buy" else -1, exchange_ns, receive_ns, trade_id,
            frame=frame, backfill=is_history, missed=self._ids.leaves_hole(trade_id, fills),
        )  # fmt: skip
        if is_told:
            self._ids.take(trade_id)
            self._ladder.book["last_trade_id"] = self._ids.last

    def _check_symbol(self, symbol: str, frame: bytes) -> None:
        if symbol != self.raw_symbol:
            self._ladder.rare["stray"] += 1
            raise UnreadableFrameError(f"a frame of {self.raw_symbol}", frame)

    def _lost(self, receive_ns: int, expected: int = 0, received: int = 0) -> Iterator[int]:
        self._is_whole = False
        self._pace.forget()
        yield from self._ladder.gap(receive_ns, expected, received)

    def _keep(self, error: UnreadableFrameError, receive_ns: int, spoils: bool) -> Iterator[int]:
        if spoils:  # it may have been a change of the book
            yield from self._lost(receive_ns)
        yield from self._ladder.keep(error, receive_ns)


def _spoils(frame: bytes) -> bool:
    return not frame.startswith(_HARMLESS)


def adapter(venue: str, raw_symbol: str, base: Mapping[str, int], since_ns: int, stale_s: float, instrument: Instrument | None) -> Okx:
    """Return the stream of one instrument."""
    return Okx(raw_symbol, base, since_ns, stale_s, instrument)


def wire(venue: str) -> OkxWire:
    """Return what the shell of sockets must know of the venue."""
    return OkxWire()
