"""Coinbase Advanced Trade: the public market data, frames in, events out.

| channel | messages | role |
| --- | --- | --- |
| l2_data (asked for as level2) | snapshot, then update: absolute sizes, sides "bid" and "offer" | the book |
| market_trades | snapshot (history), then update each 250 ms, both newest first | trades |
| ticker | best bid and ask after a trade | second witness of the book |
| heartbeats | each second, of no product | keeps quiet channels open |

Messages are numbered by connection, not by product: `tasks.venues.coinbase_advanced_wire`
checks the numbers, and tells a hole as an empty frame.  Nothing proves the digits of a
message; the ticker contradicts a wrong touch.

https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket (2026-07)
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from math import nan
from types import MappingProxyType

import msgspec

from tasks.venues.coinbase_advanced_messages import Event, Message, decode
from tasks.venues.coinbase_advanced_wire import AdvancedWire, mirrored
from tasks.venues.errors import UnreadableFrameError, WrongVenueError
from tasks.venues.iso_time import iso_ns
from tasks.venues.json_frame import size_of
from tasks.venues.ladder import Instrument, Ladder
from tasks.venues.on_ladder import OnLadder
from tasks.venues.publish import CROSSED_NS
from tasks.venues.touch_witness import TouchWitness
from tasks.venues.trade_ids import TradeIds, tell_trade
from warehouse.schema import CROSSED

# Whose side market_trades tells: the maker's by nautilus (docs of 2026) and c9s/bbgo#2509, as on Coinbase Exchange; the
# taker's by ccxt 4.5.90 and nautilus' source of 2026-07.  Turn it here if books of yours say that buyers lift bids.
TELLS_MAKER_SIDE = True
AHEAD_NS = 600_000_000_000  # a time that leaps ahead of our own clock by more is none
BACK_NS = 5_000_000_000  # one that runs back by more neither
_APART_NS = 1_000_000_000  # the ticker states when it was sent, not when it was true
_SYMBOL = re.compile(r"[A-Z0-9]{1,20}-[A-Z0-9]{1,20}")
_BOOKLESS = ("subscriptions", "heartbeats", "market_trades", "ticker", "ticker_batch", "status", "candles")
_HARMLESS = tuple(b'{"channel":"%s"' % channel.encode() for channel in _BOOKLESS)
_LONGEST_ID = 18  # digits


def canonical_symbol(venue: str, raw: str) -> str:
    """Return our name of a product, which is the venue's.

    Examples
    --------
    >>> canonical_symbol("coinbase_advanced", "btc-usdc")
    'BTC-USDC'
    """
    return raw.upper()


def raw_symbol(venue: str, symbol: str) -> str:
    """Return the venue's own name of an instrument; spot alone is read here.

    Raises
    ------
    WrongVenueError
        A contract.
    """
    if not _SYMBOL.fullmatch(symbol.upper()):
        raise WrongVenueError(venue, f"symbol {symbol}")
    return symbol.upper()


class CoinbaseAdvanced(OnLadder):
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
    >>> from tasks.venues.events import TRADE
    >>> stream = CoinbaseAdvanced("BTC-USD")
    >>> frame = (b'{"channel":"market_trades","timestamp":"2026-08-12T19:27:48.36Z","sequence_num":2,"events":[{"type":"update",'
    ...          b'"trades":[{"product_id":"BTC-USD","trade_id":"7","price":"63310.25","size":"0.1","time":"2026-08-12T19:27:48Z",'
    ...          b'"side":"BUY"}]}]}')
    >>> for event in stream.receive(frame, 1_000):
    ...     if event == TRADE:
    ...         print(stream.trade["price"][0], stream.trade["aggressor"][0])
    63310.25 -1
    """

    def __init__(
        self, raw_symbol: str, base: Mapping[str, int] = MappingProxyType({}), since_ns: int = 0, stale_s: float = 30.0,
        instrument: Instrument | None = None,
    ):  # fmt: skip
        self.venue, self.raw_symbol = "coinbase_advanced", raw_symbol.upper()
        if not _SYMBOL.fullmatch(self.raw_symbol):
            raise WrongVenueError(self.venue, f"symbol {raw_symbol}")
        self.symbol = canonical_symbol(self.venue, raw_symbol)
        self._products = {self.raw_symbol, mirrored(self.raw_symbol)}
        self._ladder = ladder = Ladder(self.raw_symbol, self.symbol, base, since_ns, 0, stale_s, instrument)
        self.row, self.trade, self.quote, self.change = ladder.row, ladder.trade, ladder.quote, ladder.change
        self._ids, self._witness = TradeIds(base.get("trade_id", -1)), TouchWitness(_APART_NS)
        self.doubts: deque[tuple[int, int, str]] = deque(maxlen=1000)
        self._is_whole, self._last_ns, self._last_receive_ns, self._crossed_ns = False, 0, 0, 0

    def receive(self, frame: bytes, receive_ns: int) -> Iterable[int]:
        """Return the events in one frame, oldest first; an empty frame says that something was lost."""
        if not frame:
            return self._lost(receive_ns)
        self._ladder.messages += 1
        try:
            message = decode(frame)
            if message.channel == "l2_data":
                events = message.events
                if len(events) == 1 and events[0].type == "update" and events[0].product_id in self._products:
                    return self._update(message, events[0], frame, receive_ns)
            return self._rare(message, frame, receive_ns)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            unread = UnreadableFrameError(f"a message of the feed ({error})", frame)
            return self._keep(unread, receive_ns, not frame.startswith(_HARMLESS))
        except UnreadableFrameError as error:
            return self._keep(error, receive_ns, True)

    def _update(self, message: Message, event: Event, frame: bytes, receive_ns: int) -> Iterable[int]:
        ladder = self._ladder
        if not self._is_whole:
            ladder.rare["old"] += 1
            return ()
        exchange_ns = max((self._time(text, frame) for text in {level.event_time for level in event.updates}), default=0)
        exchange_ns = exchange_ns or self._time(message.timestamp, frame)
        ahead_ns = exchange_ns - self._last_ns
        if self._last_ns and (ahead_ns - (receive_ns - self._last_receive_ns) > AHEAD_NS or ahead_ns < -BACK_NS):
            raise UnreadableFrameError(f"a time near the last one, not {ahead_ns / 1e9:+.0f} s from it", frame)
        bids = [(level.price_level, level.new_quantity) for level in event.updates if level.side == "bid"]
        asks = [(level.price_level, level.new_quantity) for level in event.updates if level.side == "offer"]
        ladder.read(bids, asks, frame)
        ladder.apply()
        self._last_ns, self._last_receive_ns = exchange_ns, receive_ns
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
        yield from self._lost(receive_ns)

    @staticmethod
    def _time(text: str, frame: bytes) -> int:
        try:
            return iso_ns(text)
        except ValueError as error:
            raise UnreadableFrameError(f"a message of the feed ({error})", frame) from None

    def _rare(self, message: Message, frame: bytes, receive_ns: int) -> Iterator[int]:
        try:
            for event in message.events:
                if message.channel == "l2_data":
                    if event.product_id not in self._products:
                        self._ladder.rare["stray"] += 1
                    elif event.type == "snapshot":
                        yield from self._snapshot(message, event, frame, receive_ns)
                    elif event.type == "update":
                        yield from self._update(message, event, frame, receive_ns)
                    else:
                        raise UnreadableFrameError("a snapshot or an update", frame)
                elif message.channel == "market_trades":
                    yield from self._trades(event, frame, receive_ns)
                elif message.channel == "ticker":
                    yield from self._tickers(message, event, frame, receive_ns)
        except UnreadableFrameError as error:
            yield from self._keep(error, receive_ns, message.channel == "l2_data")

    def _snapshot(self, message: Message, event: Event, frame: bytes, receive_ns: int) -> Iterator[int]:
        # The times of its levels may be the epoch, or of long ago.
        ladder, exchange_ns = self._ladder, self._time(message.timestamp, frame)
        levels = [level for level in event.updates if "-" not in level.new_quantity]
        bids = [(level.price_level, level.new_quantity) for level in levels if level.side == "bid"]
        asks = [(level.price_level, level.new_quantity) for level in levels if level.side == "offer"]
        ladder.read(bids, asks, frame)
        yield from ladder.gap(receive_ns)  # sent on request: what changed between the subscriptions was not
        ladder.replace()
        self._is_whole, self._last_ns, self._crossed_ns, ladder.needs_snapshot = True, 0, 0, False
        self._witness.begin(exchange_ns)
        yield from ladder.publish(exchange_ns, receive_ns, 0)

    def _trades(self, event: Event, frame: bytes, receive_ns: int) -> Iterator[int]:
        ours = [trade for trade in event.trades if trade.product_id in self._products]
        for trade in ours:
            if not (trade.trade_id.isascii() and trade.trade_id.isdigit() and len(trade.trade_id) <= _LONGEST_ID):
                raise UnreadableFrameError(f"a trade's number, not {trade.trade_id[:40]!r}", frame)
        for trade in sorted(ours, key=lambda trade: int(trade.trade_id)):  # they come newest first
            exchange_ns = self._time(trade.time, frame) or receive_ns
            aggressor = 1 if (trade.side == "BUY") != TELLS_MAKER_SIDE else -1
            yield from tell_trade(
                self._ladder, self._ids, int(trade.trade_id), trade.price, trade.size, aggressor, exchange_ns, receive_ns,
                frame=frame, backfill=event.type == "snapshot",
            )  # fmt: skip

    def _tickers(self, message: Message, event: Event, frame: bytes, receive_ns: int) -> Iterator[int]:
        exchange_ns = self._time(message.timestamp, frame)
        for told in event.tickers:
            if told.product_id not in self._products:
                continue
            texts = (told.best_bid, told.best_bid_quantity, told.best_ask, told.best_ask_quantity)
            try:
                best = [size_of(text) if text else nan for text in texts]
            except ValueError as error:
                raise UnreadableFrameError(f"best prices and sizes ({error})", frame) from None
            yield from self._ladder.begin(exchange_ns, receive_ns)
            bid, bid_size, ask, ask_size = (text or "nan" for text in texts)
            yield from self._ladder.tell_quote(exchange_ns, 0, (bid, bid_size), (ask, ask_size))
            if self._is_whole and told.best_bid and told.best_ask:
                self._witness.hear((exchange_ns, best[0], best[1], best[2], best[3]))
                if self._witness.is_due(self._last_ns, exchange_ns):
                    why, since_ns = self._judged(exchange_ns)
                    if why:
                        yield from self._doubt(receive_ns, why, since_ns)

    def _lost(self, receive_ns: int) -> Iterator[int]:
        self._is_whole = False
        yield from self._ladder.gap(receive_ns)

    def _keep(self, error: UnreadableFrameError, receive_ns: int, spoils: bool) -> Iterator[int]:
        if spoils:  # it may have been a change of the book
            yield from self._lost(receive_ns)
        yield from self._ladder.keep(error, receive_ns)


def adapter(
    venue: str, raw_symbol: str, base: Mapping[str, int], since_ns: int, stale_s: float, instrument: Instrument | None
) -> CoinbaseAdvanced:  # fmt: skip
    """Return the stream of one product."""
    return CoinbaseAdvanced(raw_symbol, base, since_ns, stale_s, instrument)


def wire(venue: str) -> AdvancedWire:
    """Return what the shell of sockets must know of the venue."""
    return AdvancedWire()
