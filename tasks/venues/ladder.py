"""One instrument's book for venues whose frames a JSON library reads: rules in the adapter, numbers here.

The adapter says what a message means (the whole book, changes, a gap, a trade); the ladder
holds the levels in the compiled book, numbers rows and changes of coverage, and tells the
events in the order in which they are to be folded.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from tasks.venues import ladder_kernel as kernel
from tasks.venues.book import new_book, wider
from tasks.venues.errors import UnreadableFrameError
from tasks.venues.events import BOOK, CHANGE, CHANGE_ROW, QUOTE, TRADE, UNREADABLE
from tasks.venues.json_frame import price_units, size_of
from tasks.venues.pace import LATE_NS, Pace
from warehouse.schema import CROSSED, GAP, OK, STALE, START

COUNTS = ("gaps", "crossed", "stale", "resyncs", "old", "trade_id_gaps", "unreadable", "stray", "checksum_failures", "suspects")
Pairs = Sequence[Sequence[str]]  # price and size of each level, as the venue wrote them


@dataclass(frozen=True)
class Instrument:
    """What a venue says of an instrument.

    Attributes
    ----------
    tick, lot : float
        Steps of price and size; 0 where the venue did not say.
    contract_usd : float
        Quote units a contract of an inverse instrument stands for; 0 for any other.
    contract_base : float
        Base units that a size of 1 stands for: 1 except for linear contracts counted in lots.
    price_decimals, size_decimals : int
        How many the venue writes; -1 where it did not say.
    """

    tick: float = 0.0
    lot: float = 0.0
    contract_usd: float = 0.0
    contract_base: float = 1.0
    price_decimals: int = -1
    size_decimals: int = -1


class Ladder:
    """The levels of one instrument and the rows made of them.

    Parameters
    ----------
    raw_symbol, symbol : str
        As the venue writes it, and our name.
    base : mapping of str to int
        First numbers of this session, by table, and `event`.
    since_ns : int
        Where the recording before this one ended; 0 for none.
    depth : int
        Levels a side that are kept, the farthest cut after each change; 0 for all.
    stale_s : float
        A book without an update for longer was stale meanwhile: from then on, or from its last update on if `is_beaten`.
    is_beaten : bool
        The venue sends the book at a beat, whether or not it changed: silence is a loss.
    books_begin : bytes
        Where trades have no numbers that tell a loss, how frames of books begin: any other that cannot be read may be a trade.

    Attributes
    ----------
    row, trade, quote, change : ndarray, shape (1,)
        Views of the event being handled; valid until the next one.
    state : int
        What coverage says now: a code of `warehouse.schema.STATES`.
    needs_snapshot : bool
        The venue must send the whole book before rows come again.
    has_lost_trades : bool
        A trade came that could not be read, or may have: the next one tells that.

    Examples
    --------
    >>> ladder = Ladder("BTC/USD", "BTC-USD")
    >>> ladder.read([("100.1", "2"), ("100.0", "1")], [("100.2", "0.5")], b"")
    >>> ladder.replace()
    >>> list(ladder.publish(5, 6, 1)) == [CHANGE, CHANGE, BOOK]
    True
    >>> ladder.row["bid_px"][0, :2].tolist(), ladder.row["ask_sz"][0, 0]
    ([100.1, 100.0], np.float64(0.5))
    """

    def __init__(
        self, raw_symbol: str, symbol: str, base: Mapping[str, int] = MappingProxyType({}), since_ns: int = 0, depth: int = 0,
        stale_s: float = 30.0, instrument: Instrument | None = None, is_beaten: bool = False, books_begin: bytes = b"",
    ):  # fmt: skip
        self.raw_symbol, self.symbol, self.instrument = raw_symbol, symbol, instrument or Instrument()
        self.book, self._far = new_book(raw_symbol, False, self.instrument.contract_usd, stale_s)
        self._scale, self.depth, self._base = self.instrument.contract_base, depth, base
        self.book["seq"], self.book["trade_seq"] = base.get("l2_snapshots", 0), base.get("trades", 0)
        self._change_seq, self._unreadable_seq = base.get("coverage_changes", 0), base.get("unreadable", 0)
        self._first_event = base.get("event", 0)  # the opening change takes it
        self.book["event_seq"] = self._first_event + 1
        self.book["last_trade_id"], self._trade_ns = base.get("trade_id", -1), base.get("trade_ns", 0)  # of the session before
        self._since_ns, self.state, self.is_beaten = since_ns, START, is_beaten
        self.row, self.trade, self.quote = self.book["row"], self.book["trade"], self.book["quote"]
        self.change = np.zeros(1, CHANGE_ROW)
        self.unreadable: dict[str, object] = {}
        self.needs_snapshot, self.messages = True, 0
        self._trade_pace, self.has_lost_trades, self._books_begin = Pace(LATE_NS), False, books_begin
        self.rare = dict.fromkeys(COUNTS, 0)
        self._units, self._sizes, self._n = np.zeros(64, np.int64), np.zeros(64), (0, 0)

    @property
    def counts(self) -> dict[str, int]:
        """Return how many frames came, and what became of them."""
        book = self.book[0]
        return {
            "messages": self.messages,
            "book_updates": int(book["seq"]) - self._base.get("l2_snapshots", 0),
            "trades": int(book["trade_seq"]) - self._base.get("trades", 0),
            "quotes": int(book["quotes"]),
            **self.rare,
        }

    @property
    def is_live(self) -> bool:
        """Return whether the book is whole and current."""
        return bool(self.book["synced"][0] == 2)

    @property
    def last_trade_ns(self) -> int:
        """Return the exchange time that trades have reached, also in the session before; 0 where there was none."""
        return self._trade_pace.ns or self._trade_ns

    @property
    def last_id(self) -> int:
        """Return the venue's id of the last update in the book."""
        return int(self.book["last_id"][0])

    def read(self, bids: Pairs, asks: Pairs, frame: bytes) -> None:
        """Turn the texts of levels into numbers, kept until the next call.

        Raises
        ------
        UnreadableFrameError
            A text that is no plain decimal, a price that is zero, or one too long to be exact.
        """
        n = len(bids) + len(asks)
        if self._units.size < n:
            self._units, self._sizes = np.zeros(2 * n, np.int64), np.zeros(2 * n)
        text = ",".join([",".join((pair[0], pair[1])) for side in (bids, asks) for pair in side]).encode()
        decimals = int(self.book["decimals"][0])
        finest = kernel.parse(text + b"\0", n, decimals, self._units, self._sizes)
        if finest > decimals and kernel.add_decimals(self.book, self._far, finest):
            finest = kernel.parse(text + b"\0", n, finest, self._units, self._sizes)
        if finest != self.book["decimals"][0]:
            self._read_unusual([*bids, *asks], frame)
        if self._scale != 1.0:
            self._sizes[:n] *= self._scale
        self._n = len(bids), len(asks)

    def _read_unusual(self, pairs: Sequence[Sequence[str]], frame: bytes) -> None:
        try:
            finest = max((price_units(price, 0)[1] for price, *_ in pairs), default=0)
            if finest > self.book["decimals"][0] and not kernel.add_decimals(self.book, self._far, finest):
                kernel.drop_decimals(self.book)
                if not kernel.add_decimals(self.book, self._far, finest):
                    raise OverflowError(f"prices of {finest} decimals beside those of the book")
            for i, (price, size, *_) in enumerate(pairs):
                self._units[i], self._sizes[i] = price_units(price, int(self.book["decimals"][0]))[0], size_of(size)
        except (ValueError, TypeError, ArithmeticError) as error:
            raise UnreadableFrameError(f"levels of price and size ({error})", frame) from None

    def replace(self) -> None:
        """Make what was read the whole book."""
        self._fold(kernel.replace)

    def apply(self) -> None:
        """Set the sizes that were read; a size of 0 removes a level, also one that is not held."""
        self._fold(kernel.update)
        if self.depth:
            kernel.cut(self.book, self._far, self.depth)

    def _fold(self, fold) -> None:  # type: ignore[no-untyped-def]
        while fold(self.book, self._far, self._units, self._sizes, *self._n) == kernel.ROOM:
            self._far = wider(self.book, self._far)

    def held(self, side: int) -> int:
        """Return how many levels of bids (0) or asks (1) there are."""
        return int(self.book["n"][0, side] + self.book["n_far"][0, side])

    def peek(self) -> np.ndarray:
        """Return the best levels as they are now, shape (1,), before anything is said of them."""
        kernel.peek(self.book, self._far)
        return self.row

    def begin(self, exchange_ns: int, receive_ns: int) -> Iterator[int]:
        """Tell the opening of the stream, once."""
        if not self.book["begun"][0]:
            self.book["begun"] = 1
            yield from self.mark(START, self._since_ns or exchange_ns, receive_ns, event_seq=self._first_event)

    def publish(self, exchange_ns: int, receive_ns: int, update_id: int) -> Iterable[int]:
        """Tell the book as it is now, and before it what the stream has become."""
        turn = kernel.publish(self.book, self._far, exchange_ns, receive_ns, update_id)
        return (BOOK,) if turn == 0 else self._turn(turn, receive_ns)

    def reach(self, exchange_ns: int, receive_ns: int) -> None:
        """Take note of a time at which the venue says that nothing changed."""
        kernel.reach(self.book, exchange_ns, receive_ns)

    def _turn(self, turn: int, receive_ns: int) -> Iterator[int]:
        turn_ns = int(self.book["turn_ns"][0])
        yield from self.begin(turn_ns, receive_ns)
        if turn & kernel.STALLED:
            self.rare["stale"] += 1
            quiet_ns = 0 if self.is_beaten else int(self.book["stale_ns"][0])
            yield from self.mark(STALE, int(self.book["before_ns"][0]) + quiet_ns, receive_ns)
        crossed = bool(self.book["crossed"][0])
        if crossed and turn & kernel.CROSSING:
            self.rare["crossed"] += 1
        if turn & kernel.JOINED:
            self.needs_snapshot = False
            self.rare["resyncs"] += self.state == GAP
        yield from self.mark(CROSSED if crossed else OK, turn_ns, receive_ns)
        kernel.number_book(self.book)
        yield BOOK

    def mark(
        self, state: int, exchange_ns: int, receive_ns: int, expected: int = 0, received: int = 0, event_seq: int | None = None
    ) -> Iterator[int]:
        """Tell a change of coverage: the stream is in `state` from `exchange_ns` on."""
        change = self.change
        if event_seq is None:
            event_seq = int(self.book["event_seq"][0])
            self.book["event_seq"] += 1
        change["exchange_ns"], change["receive_ns"], change["seq"] = exchange_ns, receive_ns, self._change_seq
        change["event_seq"], change["state"] = event_seq, state
        change["expected_id"], change["received_id"] = expected, received
        self._change_seq += 1
        self.state = state
        yield CHANGE

    def gap(self, receive_ns: int, expected: int = 0, received: int = 0) -> Iterator[int]:
        """Tell that the book is not to be trusted from its last update on; it waits for a snapshot."""
        was_live = self.is_live
        kernel.lose(self.book)
        self.needs_snapshot = True
        if was_live:
            self.rare["gaps"] += 1
            yield from self.mark(GAP, int(self.book["book_ns"][0]), receive_ns, expected, received)

    def print_trade(
        self, price: str, size: str, aggressor: int, exchange_ns: int, receive_ns: int, trade_id: int, *, frame: bytes = b"",
        backfill: bool = False, missed: bool = False,
    ) -> Generator[int, None, bool]:  # fmt: skip
        """Tell one trade, or keep what cannot be one; return whether it was told.

        `missed` says that others before it were lost, which spoils flow but not the book; one that was kept is.
        """
        reached_ns = self.last_trade_ns
        try:
            price_units(price, 0)  # a price above 0, and one that is exact
            value, amount = float(price), size_of(size)
            why = "" if backfill else self._trade_pace.fault(exchange_ns, receive_ns)
        except (ValueError, TypeError, ArithmeticError) as error:
            why = f"price and size of a trade ({error})"
        if why:
            self.has_lost_trades = True
            yield from self.keep(UnreadableFrameError(why, frame), receive_ns)
            return False
        date_ns = exchange_ns if backfill else self._trade_pace.date_ns
        yield from self.begin(date_ns, receive_ns)
        if missed or self.has_lost_trades:
            self.has_lost_trades = False
            self.rare["trade_id_gaps"] += 1
            state = self.state
            yield from self.mark(GAP, min(reached_ns or date_ns, date_ns), receive_ns, int(self.book["last_trade_id"][0]) + 1, trade_id)
            if state != GAP:
                yield from self.mark(state, date_ns, receive_ns)
        if not backfill:
            self.book["last_trade_id"] = trade_id
        inverse = self.instrument.contract_usd
        row = self.trade
        row["exchange_ns"], row["receive_ns"], row["trade_id"], row["price"] = exchange_ns, receive_ns, trade_id, value
        row["size"] = amount * inverse / value if inverse else amount * self._scale
        row["aggressor"], row["backfill"], row["contract_size"] = aggressor, backfill, inverse
        row["seq"], row["event_seq"] = self.book["trade_seq"], self.book["event_seq"]
        self.book["trade_seq"] += 1
        self.book["event_seq"] += 1
        yield TRADE
        return True

    def tell_quote(self, exchange_ns: int, update_id: int, bid: Sequence[str], ask: Sequence[str]) -> Iterator[int]:
        """Tell the venue's own best bid and ask, each price and size."""
        self.book["quotes"] += 1
        self.quote["update_id"], self.quote["exchange_ns"] = update_id, exchange_ns
        for side, (price, size) in enumerate((bid, ask)):
            self.quote["px"][0, side] = px = float(price)
            inverse = self.instrument.contract_usd
            self.quote["sz"][0, side] = float(size) * inverse / px if inverse and px else float(size) * self._scale
        yield QUOTE

    def keep(self, error: UnreadableFrameError, receive_ns: int) -> Iterator[int]:
        """Tell a frame that cannot be read: kept whole, and counted."""
        yield from self.begin(receive_ns, receive_ns)
        self.has_lost_trades |= bool(self._books_begin) and not error.frame.startswith(self._books_begin)
        self.rare["unreadable"] += 1
        self.unreadable = {
            "receive_ns": receive_ns, "seq": self._unreadable_seq, "event_seq": int(self.book["event_seq"][0]),
            "reason": error.expected, "frame": error.frame.decode("utf-8", "backslashreplace"),
        }  # fmt: skip
        self._unreadable_seq += 1
        self.book["event_seq"] += 1
        yield UNREADABLE
