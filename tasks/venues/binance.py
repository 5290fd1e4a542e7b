"""Binance spot, USD-M and COIN-M: frames in, events out.  No socket, no clock, no log.

The venue's own steps to keep a book, with what live streams taught (2024-2026):

1. Buffer depth events; fetch a REST snapshot.
2. Drop events the snapshot holds: spot `u <= lastUpdateId`, futures `u < lastUpdateId`.
3. The first event kept must continue it: spot `U <= lastUpdateId + 1 <= u`; futures
   `U <= lastUpdateId <= u` or `pu == lastUpdateId` (undocumented, and common).
4. From then on spot needs `U <= last + 1`, futures `pu == last`: update ids are shared by
   all futures symbols, so only `pu` proves that nothing is missing.
5. Otherwise: a gap.  Keep buffering and ask for a snapshot; the buffer survives a failed
   join, since REST may answer with something older than the buffer.

A number or a time may be wrong by a digit.  An event that begins within the last one of the book, and
events that are later than the book and numbered before it, three in a row, prove the book's number wrong;
a book that stays crossed, unless it was sent so, is wrong too: all are gaps.
An event of another time than its neighbours is kept as unreadable, and the next one shows the gap.

https://github.com/binance/binance-spot-api-docs/blob/master/web-socket-streams.md (2026-07)
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

import numpy as np

from tasks.venues import binance_kernel as kernel
from tasks.venues.binance_wire import BinanceWire
from tasks.venues.book import new_book, wider
from tasks.venues.errors import UnknownVenueError, UnreadableFrameError, WidePriceError, WrongVenueError
from tasks.venues.events import BOOK, CHANGE, CHANGE_ROW, QUOTE, TRADE, UNREADABLE
from tasks.venues.json_frame import read_json
from tasks.venues.ladder import Instrument
from tasks.venues.publish import CROSSING, JOINED, STALLED
from warehouse.schema import CROSSED, GAP, OK, RESYNC, STALE, START

VENUES = ("binance_spot", "binance_usdm", "binance_coinm")
BUFFERED = 20_000  # depth events kept while a snapshot is awaited; the oldest leave first
_QUOTES = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USD", "BTC", "ETH", "BNB", "EUR", "TRY", "BRL", "JPY", "DAI")
_RARE = ("gaps", "crossed", "stale", "resyncs", "old", "trade_id_gaps", "unreadable", "stray", "suspects")


def canonical_symbol(venue: str, raw: str) -> str:
    """Return our name of an instrument: base, quote and, for a contract, PERP or its expiry.

    Examples
    --------
    >>> canonical_symbol("binance_spot", "BTCUSDT"), canonical_symbol("binance_coinm", "BTCUSD_PERP")
    ('BTC-USDT', 'BTC-USD-PERP')
    """
    pair, _, expiry = raw.upper().partition("_")
    quote = next((q for q in _QUOTES if pair.endswith(q) and pair != q), "")
    name = f"{pair[: len(pair) - len(quote)]}-{quote}" if quote else pair
    if venue == "binance_spot":
        return name
    return f"{name}-{expiry or 'PERP'}"


def raw_symbol(venue: str, symbol: str) -> str:
    """Return the venue's own name of an instrument that we name `symbol`.

    Examples
    --------
    >>> raw_symbol("binance_usdm", "BTC-USDT-PERP"), raw_symbol("binance_coinm", "BTC-USD-PERP")
    ('BTCUSDT', 'BTCUSD_PERP')
    """
    base, _, rest = symbol.upper().partition("-")
    quote, _, expiry = rest.partition("-")
    if venue == "binance_spot" or (venue == "binance_usdm" and expiry == "PERP") or not expiry:
        return base + quote
    return f"{base}{quote}_{expiry}"


def contract_usd(venue: str, raw: str) -> float:
    """Return the quote units one contract stands for; 0 where sizes are base units already."""
    if venue != "binance_coinm":
        return 0.0
    return 100.0 if raw.upper().startswith("BTCUSD_") else 10.0


_on_frame, _LAST_PLAIN = kernel.on_frame, kernel.QUOTED
_PLAIN = ((), (BOOK,), (TRADE,), (QUOTE,))  # by code: nothing, one row or one quote, already numbered


class Binance:
    """One instrument's stream: the book, what was seen of it, and what is needed next.

    Attributes
    ----------
    row, trade, quote, change : ndarray, shape (1,)
        Views of the event being handled; valid until the next one.
    needs_snapshot : bool
        A REST depth response must be fed as a frame before books come again.
    state : int
        What coverage says now: a code of `warehouse.schema.STATES`.

    Examples
    --------
    >>> stream = Binance("binance_spot", "BTCUSDT")
    >>> frame = b'{"e":"trade","E":5,"s":"BTCUSDT","t":7,"p":"61837.63000000","q":"0.02000000","T":4,"m":true,"M":true}'
    >>> for event in stream.receive(frame, 1_000):
    ...     if event == TRADE:
    ...         print(stream.trade["price"][0], stream.trade["aggressor"][0])
    61837.63 -1
    """

    def __init__(
        self, venue: str, raw_symbol: str, base: Mapping[str, int] = MappingProxyType({}), since_ns: int = 0, stale_s: float = 30.0
    ):
        if venue not in VENUES:
            raise UnknownVenueError(venue, VENUES)
        if (venue == "binance_coinm") != bool(re.fullmatch(r".+USD_(PERP|\d{6})", raw_symbol.upper())):
            raise WrongVenueError(venue, f"symbol {raw_symbol}")
        self.venue, self.raw_symbol = venue, raw_symbol.upper()
        self.symbol = canonical_symbol(venue, raw_symbol)
        self._book, self._far = new_book(self.raw_symbol, venue != "binance_spot", contract_usd(venue, raw_symbol), stale_s)
        self._address, self._base = self._book.ctypes.data, base
        self._book["seq"], self._book["trade_seq"] = base.get("l2_snapshots", 0), base.get("trades", 0)
        self._change_seq, self._unreadable_seq = base.get("coverage_changes", 0), base.get("unreadable", 0)
        self._first_event = base.get("event", 0)  # the opening change takes it
        self._book["event_seq"] = self._first_event + 1
        self._since_ns, self._reread, self.state = since_ns, 0, START
        self._before = base.get("trade_id", -1), base.get("trade_ns", 0)  # the last trade of the session before
        self.row, self.trade, self.quote = self._book["row"], self._book["trade"], self._book["quote"]
        self.change = np.zeros(1, CHANGE_ROW)
        self.unreadable: dict[str, object] = {}
        self.needs_snapshot = True
        self._buffer: deque[tuple[bytes, int]] = deque(maxlen=BUFFERED)
        self._rare_counts = dict.fromkeys(_RARE, 0)

    @property
    def counts(self) -> dict[str, int]:
        """Return how many frames came, and what became of them."""
        book, base = self._book[0], self._base
        return {
            "messages": int(book["frames"]) - self._reread,
            "book_updates": int(book["seq"]) - base.get("l2_snapshots", 0),
            "trades": int(book["trade_seq"]) - base.get("trades", 0),
            "quotes": int(book["quotes"]),
            **self._rare_counts,
        }

    @property
    def is_live(self) -> bool:
        """Return whether the book is whole and current."""
        return bool(self._book["synced"][0] == 2)

    @property
    def buffered(self) -> int:
        """Return how many depth events wait for a snapshot."""
        return len(self._buffer)

    def use_contract(self, quote_units: float) -> None:
        """Count a contract of an inverse instrument as so many quote units, from the next frame on."""
        self._book["contract_usd"] = quote_units

    def receive(self, frame: bytes, receive_ns: int) -> Iterable[int]:
        """Return the events in one frame, oldest first; an empty frame says that the connection was lost."""
        code = _on_frame(frame, receive_ns, self._address)
        if code <= _LAST_PLAIN:
            return _PLAIN[code]
        return self._rare(code, frame, receive_ns)

    def _rare(self, code: int, frame: bytes, receive_ns: int) -> Iterator[int]:
        # Everything that allocates, asks the JSON library or tells more than one event.
        if not frame:
            yield from self._lost(receive_ns)
            return
        try:
            code = self._settled(code, frame, receive_ns)
        except UnreadableFrameError as error:
            yield from self._keep(error, receive_ns)
            return
        # A snapshot opens nothing: spot's has no time, and nothing is told before an event follows it.
        if not self._book["begun"][0] and code not in (kernel.IGNORED, kernel.STRAY, kernel.VENUE, kernel.LOADED):
            self._book["begun"] = 1
            yield from self._mark(START, self._since_ns or self._message_ns(receive_ns), receive_ns, self._first_event)
        match code:
            case kernel.TURN:
                yield from self._turn(receive_ns)
            case kernel.BOOKED | kernel.TRADED | kernel.QUOTED:
                yield from _PLAIN[code]
            case kernel.FIRST_TRADE:
                yield from self._first_trade(receive_ns)
            case kernel.WAIT:
                self._buffer.append((frame, receive_ns))
                self.needs_snapshot = True
            case kernel.LOADED:
                yield from self._join(receive_ns)
            case kernel.GAPPED:
                yield from self._gap(frame, receive_ns)
            case kernel.TRADE_GAP:
                yield from self._trade_gap(receive_ns)
            case kernel.OLD:
                self._rare_counts["old"] += 1
            case kernel.STRAY:
                self._rare_counts["stray"] += 1
                yield from self._keep(UnreadableFrameError(f"a frame of {self.raw_symbol}", frame), receive_ns)
            case kernel.STUCK:
                self._rare_counts["suspects"] += 1
                yield from self._lost(receive_ns)
            case kernel.UNTIMELY:
                yield from self._keep(UnreadableFrameError("a time near that of the message before", frame), receive_ns)
            case kernel.VENUE:
                found = "with 'pu', as futures send" if self.venue == "binance_spot" else "without 'pu', as spot sends"
                if not self.counts["book_updates"]:
                    raise WrongVenueError(self.venue, f"depth events {found}")
                yield from self._keep(UnreadableFrameError(f"depth events of {self.venue}, not one {found}", frame), receive_ns)

    def _settled(self, code: int, frame: bytes, receive_ns: int) -> int:
        # Make room, precision or a finer tick until the kernel can fold the frame.
        book = self._book
        kind, dropped, units, sizes = -1, False, book["msg"]["level_units"][0], book["msg"]["level_size"][0]
        while code in (kernel.FINER, kernel.ROOM, kernel.RETICK, kernel.UNUSUAL):
            if code == kernel.FINER:
                # Zeros at the end may be more than fit; the JSON path tells what a price needs.
                if not kernel.add_decimals(book, self._far, int(book["msg"]["finest"][0])):
                    code = kernel.UNUSUAL
                    continue
            elif code == kernel.ROOM:
                self._far = wider(book, self._far)
            elif code == kernel.RETICK:
                kernel.make_finer_tick(book, self._far, units, sizes)
            else:
                try:
                    kind, units, sizes, finest = read_json(frame, book)
                except WidePriceError:
                    if dropped or not kernel.drop_decimals(book):
                        raise
                    dropped = True
                    continue
                if finest > book["decimals"][0] and not book["msg"]["other_symbol"][0]:
                    if not kernel.add_decimals(book, self._far, finest):
                        raise UnreadableFrameError(f"prices that fit beside the book's, not of {finest} decimals", frame)
                    continue
            if kind < 0:
                self._reread += 1
                code = _on_frame(frame, receive_ns, self._address)
            else:
                code = kernel.on_levels(kind, receive_ns, book, self._far, units, sizes)
        return code

    def _message_ns(self, untold_ns: int) -> int:
        msg = self._book["msg"]
        ms = int(msg["transact_ms"][0]) or int(msg["event_ms"][0])
        return ms * 1_000_000 if ms else untold_ns

    def _snapshot_ns(self, receive_ns: int) -> int:
        # Of when the book is that was loaded: spot does not say, and what is said may be wrong.
        times = self._book["book_times"][0]
        reached_ns = int(times["ns"])
        latest_ns = max(reached_ns, receive_ns + int(times["offset_ns"]))
        return max(reached_ns, min(self._message_ns(reached_ns), latest_ns))

    def _mark(self, state: int, exchange_ns: int, receive_ns: int, event_seq: int | None = None) -> Iterator[int]:
        change = self.change
        if event_seq is None:
            event_seq = int(self._book["event_seq"][0])
            self._book["event_seq"] += 1
        change["exchange_ns"], change["receive_ns"] = exchange_ns, receive_ns
        change["seq"], change["event_seq"], change["state"] = self._change_seq, event_seq, state
        told = state == GAP
        change["expected_id"] = self._book["expected_id"] if told else 0
        change["received_id"] = self._book["received_id"] if told else 0
        self._change_seq += 1
        self.state = state
        yield CHANGE

    def _turn(self, receive_ns: int) -> Iterator[int]:
        # The row is in the view already; say first what the stream has become.
        turn, turn_ns = int(self._book["turn"][0]), int(self._book["turn_ns"][0])
        if turn & STALLED:
            self._rare_counts["stale"] += 1
            yield from self._mark(STALE, int(self._book["before_ns"][0] + self._book["stale_ns"][0]), receive_ns)
        crossed = bool(self._book["crossed"][0])
        if crossed and turn & CROSSING:
            self._rare_counts["crossed"] += 1
        if turn & JOINED:
            self.needs_snapshot = False
        yield from self._mark(CROSSED if crossed else OK, turn_ns, receive_ns)
        kernel.number_book(self._book)
        yield BOOK

    def _join(self, receive_ns: int) -> Iterator[int]:
        # The snapshot is loaded: run the buffered events through the same door again.  Their rows
        # could not be known before the snapshot, and are stamped so.
        if self.state == GAP:
            self._rare_counts["resyncs"] += 1
            yield from self._mark(RESYNC, self._snapshot_ns(receive_ns), receive_ns)
        waiting = list(self._buffer)
        self._buffer.clear()
        self.needs_snapshot = False
        for frame, known_ns in waiting:
            stamp = max(receive_ns, known_ns)
            self._reread += 1
            self._book["heard_ns"] = known_ns  # when it came is what its time is held against
            yield from self._rare(_on_frame(frame, stamp, self._address), frame, stamp)
        self._book["heard_ns"] = 0

    def _gap(self, frame: bytes, receive_ns: int) -> Iterator[int]:
        was_live = self.is_live
        kernel.lose(self._book)
        self._buffer.append((frame, receive_ns))
        self.needs_snapshot = True
        if was_live:
            self._rare_counts["gaps"] += 1
            yield from self._mark(GAP, int(self._book["book_ns"][0]), receive_ns)

    def _first_trade(self, receive_ns: int) -> Iterator[int]:
        # Trades may have been lost since the session before, also while its books came or ours came already.
        (before_id, before_ns), trade_id = self._before, int(self.trade["trade_id"][0])
        if 0 <= before_id < trade_id - 1:
            self._book["expected_id"], self._book["received_id"], self._book["trade_before_ns"] = before_id + 1, trade_id, before_ns
            yield from self._trade_gap(receive_ns)
        else:
            kernel.number_trade(self._book)
            yield TRADE

    def _trade_gap(self, receive_ns: int) -> Iterator[int]:
        # Lost trades spoil flow, not the book: doubtful since the last that came, and good again at once.
        self._rare_counts["trade_id_gaps"] += 1
        state, date_ns = self.state, int(self._book["trade_times"]["date_ns"][0])
        yield from self._mark(GAP, min(int(self._book["trade_before_ns"][0]) or date_ns, date_ns), receive_ns)
        if state != GAP:
            yield from self._mark(state, date_ns, receive_ns)
        kernel.number_trade(self._book)
        yield TRADE

    def _lost(self, receive_ns: int) -> Iterator[int]:
        if self.is_live:
            self._book["expected_id"], self._book["received_id"] = self._book["last_id"], 0
            kernel.lose(self._book)
            self._rare_counts["gaps"] += 1
            yield from self._mark(GAP, int(self._book["book_ns"][0]), receive_ns)
        self._buffer.clear()
        self.needs_snapshot = True

    def _keep(self, error: UnreadableFrameError, receive_ns: int) -> Iterator[int]:
        self._rare_counts["unreadable"] += 1
        self.unreadable = {
            "receive_ns": receive_ns,
            "seq": self._unreadable_seq,
            "event_seq": int(self._book["event_seq"][0]),
            "reason": error.expected,
            "frame": error.frame.decode("utf-8", "backslashreplace"),
        }
        self._unreadable_seq += 1
        self._book["event_seq"] += 1
        yield UNREADABLE


def adapter(venue: str, raw_symbol: str, base: Mapping[str, int], since_ns: int, stale_s: float, instrument: Instrument | None) -> Binance:
    """Return the stream of one instrument; contract sizes are the published ones unless the venue has told others."""
    made = Binance(venue, raw_symbol, base, since_ns, stale_s)
    if instrument is not None and instrument.contract_usd:
        made.use_contract(instrument.contract_usd)
    return made


def wire(venue: str) -> BinanceWire:
    """Return what the shell of sockets must know of one of the three markets."""
    return BinanceWire(venue)
