"""Live frames off a venue's sockets, with the books and resyncs that its streams need.

Yields what `tasks/replay.py` yields off a capture.  Where the venue is, is configuration:
the real one by default, a simulator on loopback just as well.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

from tasks.feed.line import Keeper
from tasks.feed.opened import Pacer
from tasks.feed.rest import AskedTooMuchError, Budget, RequestFailedError, Rest
from tasks.feed.terms import Endpoints, Inbox, Item, Note, Patience, SnapshotRefusedError, Told
from tasks.venues import directory
from tasks.venues.ladder import Instrument
from tasks.venues.wire import Rules, Wire
from warehouse.schema import REFUSED

logger = logging.getLogger(__name__)
__all__ = ["Endpoints", "Note", "Patience", "Rest", "SnapshotRefusedError", "endpoints", "instruments", "rest_of", "stream"]
AT_ONCE = 6  # snapshot requests that may be under way
SET_BACK_NS = 5_000_000_000  # a clock set back by more is followed, by less it is waited for
INSTRUMENTS_WEIGHT = 40.0  # the most that a venue asks for it
_BATCH = 64  # frames handed over before the sockets are read again
_LOOK_S = 0.02
_REFUSALS = 5  # in a row, ever farther apart, half a minute in all: a venue that has a bad moment refuses as well
_SETTLED_S = 60.0  # a book that was whole for so long counts as sound


def endpoints(venue: str) -> Endpoints:
    """Return where a real venue listens.

    Examples
    --------
    >>> endpoints("binance_spot").rest_url
    'https://api.binance.com'
    """
    wire = directory.wire(venue)
    return Endpoints(wire.ws_url, wire.rest_url)


async def stream(
    venue: str,
    raw_symbols: Sequence[str],
    endpoints: Endpoints,
    wants_snapshot: Callable[[], Iterable[str]],
    stop: asyncio.Event,
    *,
    wire: Wire | None = None,
    rules: Rules | None = None,
    patience: Patience | None = None,
    told: Told = lambda note: None,
    rest: Rest | None = None,
) -> AsyncIterator[Item]:
    """Yield frames as they arrive, reconnecting for ever, until `stop` is set.

    Parameters
    ----------
    venue : str
        A name of `tasks.venues.directory`.
    raw_symbols : sequence of str
        As the venue writes them.
    endpoints : Endpoints
        Of the venue, or a simulator's.
    wants_snapshot : callable
        Returns the raw symbols whose book needs a fresh start now; asked often.
    stop : asyncio.Event
        Set it to end: sockets close, frames already read are still handed over.
    wire, rules : optional
        The venue's own if not given.
    patience : Patience, optional
        Waits and limits.
    told : callable
        Given a `Note` of each reconnection, stall, refusal and full queue.
    rest : Rest, optional
        Share one where something else asks the same venue.

    Yields
    ------
    raw_symbol : str
        Whose frame it is; the first symbol's where the frame does not say.
    receive_ns : int
        Wall clock just after the frame was read; it decreases only where the clock is set back by seconds.
    frame : bytes
        As received.  A REST snapshot is its body.  Empty: something was lost, by a broken
        connection or a hole in its numbers.

    Raises
    ------
    SnapshotRefusedError
        Snapshot requests that can never succeed, for every symbol there is.
    """
    patience = patience or Patience()
    wire = wire or fitted(directory.wire(venue), len(raw_symbols))
    rules = rules or wire.rules
    rest = rest or rest_of(venue, patience)
    inbox, pacer = Inbox(patience.queue), Pacer(rules.connects_s)
    keepers = [
        Keeper(line, wire, rules, patience, inbox, told, pacer) for line in wire.lines(list(raw_symbols), endpoints.ws_url) if line.keys
    ]
    books = _Books(wire, endpoints.rest_url, raw_symbols, keepers, rest, inbox, patience, told)
    tasks = [asyncio.create_task(_guard(inbox, keeper.run)) for keeper in keepers]
    tasks.append(asyncio.create_task(_guard(inbox, books.run, wants_snapshot)))

    async def end() -> None:
        await stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        inbox.end()

    ending = asyncio.create_task(end())
    items, last_ns = inbox.items, 0
    try:
        while await inbox.ready():
            for _ in range(min(len(items), _BATCH)):
                symbol, receive_ns, frame = items.popleft()
                if receive_ns > last_ns or last_ns - receive_ns > SET_BACK_NS:
                    last_ns = receive_ns
                yield symbol, last_ns, frame
            inbox.give_room()
            if items:  # a consumer that never waits must not keep the sockets from being read
                await asyncio.sleep(0)
    finally:
        ending.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(ending, *tasks, return_exceptions=True)


def rest_of(venue: str, patience: Patience | None = None) -> Rest:
    """Return a venue's REST side, with this process's share of the budget; share it with `stream`."""
    patience, rules = patience or Patience(), directory.wire(venue).rules
    return Rest(Budget(rules.budget * patience.share, rules.budget_s), patience.timeout_s)


async def instruments(venue: str, where: Endpoints, rest: Rest) -> dict[str, Instrument]:
    """Return ticks, lots and contract sizes by raw symbol; nothing, and a warning, where the venue does not tell."""
    wire = directory.wire(venue)
    several = getattr(wire, "instruments_urls", None)
    urls = several(where.rest_url) if several else [wire.instruments_url(where.rest_url)]
    found: dict[str, Instrument] = {}
    if not urls[0] or not rest.may_ask(INSTRUMENTS_WEIGHT):
        return found
    try:
        for url in urls:
            found |= wire.instruments(await rest.get(url))
    except (AskedTooMuchError, RequestFailedError) as error:
        logger.warning("instruments of %s: %s", venue, error)
    except Exception as error:  # whatever the answer holds, it must not end a recording
        logger.warning("instruments of %s cannot be read: %s: %s", venue, type(error).__name__, error)
    return found


def fitted(wire: Wire, symbols: int) -> Wire:
    """Return a venue's wire for so many symbols, where it makes a difference to it."""
    spread = getattr(wire, "spread", None)
    return spread(symbols) if spread else wire


async def _guard(inbox: Inbox, job: Callable[..., Awaitable[None]], *given: object) -> None:
    # What a background job cannot cure reaches whoever reads the frames.
    try:
        await job(*given)
    except Exception as error:
        logger.exception("the feed ends")
        inbox.fail(error)


class _Books:
    """Sees to it that a book that was lost begins anew: by a request, or by a new subscription."""

    def __init__(
        self, wire: Wire, rest_url: str, raw_symbols: Sequence[str], keepers: Sequence[Keeper], rest: Rest, inbox: Inbox,
        patience: Patience, told: Told,
    ):  # fmt: skip
        self._wire, self._rest_url, self._rest, self._inbox, self._patience, self._told = wire, rest_url, rest, inbox, patience, told
        self._line_of: dict[str, Keeper] = {}
        for keeper in keepers:
            for symbol in keeper.line.symbols:
                self._line_of.setdefault(symbol, keeper)  # a symbol's book rides on its first line
        key = getattr(wire, "book_key", None)
        self._key = {symbol: key(symbol) if key else symbol for symbol in raw_symbols}
        self._may_ask_s, self._failures = dict.fromkeys(raw_symbols, 0.0), dict.fromkeys(raw_symbols, 0)
        self._refusals: dict[str, int] = {}  # in a row, by symbol
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._wanted: set[str] = set(raw_symbols)
        self._whole: dict[str, tuple[object, float]] = {}  # over which connection a book was last whole, and since when

    async def run(self, wants_snapshot: Callable[[], Iterable[str]]) -> None:
        """Look, again and again, whose book is wanted."""
        try:
            while True:
                now_s = time.monotonic()
                wanted = list(wants_snapshot())
                if len(wanted) != len(self._wanted) or not self._wanted.issuperset(wanted):
                    self._turned(set(wanted), now_s)
                for symbol in wanted:
                    if now_s >= self._may_ask_s.get(symbol, 0.0) and symbol not in self._asking and not self._begin(symbol, now_s):
                        break
                for symbol, task in list(self._asking.items()):
                    if task.done():
                        del self._asking[symbol]
                        task.result()
                await asyncio.sleep(_LOOK_S)
        finally:
            for task in self._asking.values():
                task.cancel()

    def _turned(self, wanted: set[str], now_s: float) -> None:
        for symbol in self._wanted - wanted:
            self._whole[symbol] = (self._line_of[symbol].opened, now_s)
        for symbol in wanted - self._wanted:
            # A book that is lost again and again is asked for ever more rarely.
            if now_s - self._whole.get(symbol, (None, 0.0))[1] > _SETTLED_S:
                self._failures[symbol] = 0
        self._wanted = wanted

    def _begin(self, symbol: str, now_s: float) -> bool:
        # Returns False where all others must wait as well.
        keeper = self._line_of.get(symbol)
        opened = keeper.opened if keeper else None
        if opened is None:
            return True
        url, weight = self._wire.snapshot_url(symbol, self._rest_url)
        if not url:
            self._resubscribe(symbol, now_s)
            return True
        # A snapshot older than the first depth message cannot be joined to the stream.
        if self._key[symbol] not in opened.last:
            return True
        if len(self._asking) >= AT_ONCE or not self._rest.may_ask(weight):
            return False
        self._asking[symbol] = asyncio.create_task(self._fetch(symbol, url))
        return True

    def _resubscribe(self, symbol: str, now_s: float) -> None:
        # A new connection brings the book by itself: only one that was lost since, or is late, is asked for.
        opened = self._line_of[symbol].opened
        was_whole = opened is not None and self._whole.get(symbol, (None, 0.0))[0] is opened
        if opened is None or (not was_whole and now_s - opened.opened_s < self._patience.ack_s):
            return
        opened.send(tuple(self._wire.resync(symbol)))
        self._later(symbol, 0.0)

    def _later(self, symbol: str, told_s: float) -> None:
        self._failures[symbol] += 1
        wait_s = self._patience.snapshot_s * 2.0 ** min(self._failures[symbol] - 1, 5)
        self._may_ask_s[symbol] = time.monotonic() + max(wait_s, told_s)

    async def _fetch(self, symbol: str, url: str) -> None:
        try:
            body = await self._rest.get(url)
        except AskedTooMuchError as error:
            logger.warning("%s", error)
        except RequestFailedError as error:
            self._later(symbol, error.pause_s)
            logger.warning("snapshot of %s: %s", symbol, error)
            if error.status in (400, 404):
                self._refuse(symbol, error)
            else:
                self._refusals.pop(symbol, None)
        else:
            self._failures[symbol] = 0
            self._refusals.pop(symbol, None)
            self._may_ask_s[symbol] = time.monotonic() + self._patience.snapshot_s
            await self._inbox.put((symbol, time.time_ns(), body))

    def _refuse(self, symbol: str, error: RequestFailedError) -> None:
        # One symbol that is no more must not end the others; where there is no other, the request is wrong.
        times = self._refusals[symbol] = self._refusals.get(symbol, 0) + 1
        if 1 < times < _REFUSALS:
            return
        now_ns = time.time_ns()
        self._told(Note(REFUSED, (symbol,), now_ns, now_ns, f"no book, refused {times} times in a row: {error}"[:500]))
        if times >= _REFUSALS:
            self._may_ask_s[symbol] = time.monotonic() + 600.0
            if sum(refused >= _REFUSALS for refused in self._refusals.values()) == len(self._may_ask_s):
                raise SnapshotRefusedError(error.url, error.status) from error
