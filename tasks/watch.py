"""Books and trades of any venue that ccxt.pro watches, as frames; yields what `tasks/stream.py` yields.

ccxt opens the sockets, keeps the books and joins what several messages say; see
`tasks/venues/ccxt_any.py` for what that costs.  An error in its own handling of a message leaves
a connection that is read no more and raises nothing (4.5.90: the receive loop goes on behind the
handler only), so that a book which is silent for long is watched again with another object of ccxt's.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import ccxt.pro
from ccxt import ArgumentsRequired, AuthenticationError, BadRequest, NotSupported

from tasks.feed.terms import Note, Told
from tasks.venues.ccxt_any import Book, Trade, Trades, encode, instrument_of, text_of
from tasks.venues.errors import UnknownVenueError
from tasks.venues.ladder import Instrument
from warehouse.schema import STALL

logger = logging.getLogger(__name__)
LEVELS = 20  # a side
HISTORY_MS = 2_000  # a trade that was this old when the watching began is history
_QUEUE = 10_000  # frames that may wait; ccxt then waits as well
_FIRST_S, _LAST_S = 1.0, 60.0  # pauses after a failure
SILENCE_S = 60.0  # books of quiet symbols rest for so long
_HEARD = 3  # books before a new connection counts as better than the silent one: the first comes with the subscription
_CLOSING_S = 5.0
_NEVER = (BadRequest, NotSupported, AuthenticationError, ArgumentsRequired)  # no retry cures these
Item = tuple[str, int, bytes]


class WatchRefusedError(Exception):
    """What ccxt will never watch: a symbol, or a channel that the venue does not have."""

    def __init__(self, venue: str, raw_symbol: str, why: BaseException):
        self.venue, self.raw_symbol = venue, raw_symbol
        super().__init__(f"{venue} {raw_symbol}: {type(why).__name__}: {why}; expected a symbol and channels that the venue has")


class BookSilentError(Exception):
    """A book of which nothing came for longer than it may rest."""

    def __init__(self, raw_symbol: str, limit_s: float, since_ns: int, books: int):
        self.raw_symbol, self.limit_s, self.since_ns, self.books = raw_symbol, limit_s, since_ns, books
        super().__init__(f"{raw_symbol}: no book for {limit_s:g} s, {books} came before; it is watched again on another connection")


def exchange(venue: str, options: Mapping[str, Any] | None = None) -> Any:
    """Return ccxt's object of a venue named `ccxt_<id>`; close it when done.

    Raises
    ------
    UnknownVenueError
        ccxt.pro has no such venue.

    Examples
    --------
    >>> exchange("ccxt_kraken").id
    'kraken'
    """
    name = venue.removeprefix("ccxt_")
    if name not in ccxt.pro.exchanges:
        raise UnknownVenueError(venue, tuple(f"ccxt_{known}" for known in ccxt.pro.exchanges))
    return getattr(ccxt.pro, name)(dict(options or {}))


async def instruments(venue: str, prepare: Callable[[Any], None] = lambda made: None) -> dict[str, Instrument]:
    """Return what ccxt knows of a venue's markets, by unified symbol."""
    made = exchange(venue)
    prepare(made)
    try:
        return {symbol: instrument_of(market) for symbol, market in (await made.load_markets()).items()}
    finally:
        await made.close()


async def watch(
    venue: str, raw_symbols: Sequence[str], stop: asyncio.Event, levels: int = LEVELS, prepare: Callable[[Any], None] = lambda made: None,
    silence_s: float = SILENCE_S, told: Told = lambda note: None,
) -> AsyncIterator[Item]:  # fmt: skip
    """Yield frames of books and trades until `stop` is set, watching again whatever fails or falls silent.

    Parameters
    ----------
    venue : str
        `ccxt_` and an id of ccxt.pro.
    raw_symbols : sequence of str
        Unified symbols: BTC/USDT, BTC/USDT:USDT.
    stop : asyncio.Event
        Set it to end.
    levels : int
        Of a book, a side.
    prepare : callable
        Given each of ccxt's objects before anything is asked of it: addresses, markets, options.
    silence_s : float
        A book of which nothing comes for so long is lost, and watched again on another connection; where that
        one brings no more, it waits twice as long, and so on up to 32 times.  0 for never.
    told : callable
        Given a `Note` of each silence.

    Yields
    ------
    raw_symbol : str
    receive_ns : int
        Wall clock when ccxt handed it over.
    frame : bytes
        As `tasks.venues.ccxt_any` reads it; empty where ccxt lost its connection, or the book is silent.

    Raises
    ------
    UnknownVenueError
    WatchRefusedError
        A symbol or a channel that the venue will never serve.
    """
    objects, queue = _Objects(venue, prepare), asyncio.Queue[Item](_QUEUE)
    tasks = [asyncio.create_task(_follow(objects, symbol, levels, queue, silence_s, told)) for symbol in raw_symbols]
    stopped = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set():
            got = asyncio.create_task(queue.get())
            await asyncio.wait({got, stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
            if not got.done():
                got.cancel()
                continue
            yield got.result()
            while not queue.empty():
                yield queue.get_nowait()
    finally:
        for task in (*tasks, stopped):
            task.cancel()
        await asyncio.gather(*tasks, stopped, return_exceptions=True)
        await objects.close()


class _Objects:
    """ccxt's objects of one venue: whoever finds its own dead goes on with the next one, the same for all."""

    def __init__(self, venue: str, prepare: Callable[[Any], None]):
        self.venue, self._prepare = venue, prepare
        self._newest = self._made()
        self._users: dict[Any, int] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def _made(self) -> Any:
        made = exchange(self.venue)
        self._prepare(made)
        return made

    def join(self, dead: Any = None) -> Any:
        """Return the object to watch with, another than the dead one; leave that one."""
        if dead is self._newest:
            self._newest = self._made()
            if dead.markets and not self._newest.markets:  # they are some megabytes and seconds of REST
                self._newest.set_markets_from_exchange(dead)
        self._users[self._newest] = self._users.get(self._newest, 0) + 1
        if dead is not None:
            self._users[dead] -= 1
            if not self._users[dead]:
                del self._users[dead]
                task = asyncio.create_task(_close(dead))
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
        return self._newest

    async def close(self) -> None:
        """Close all of them."""
        await asyncio.gather(*self._closing, *(_close(made) for made in {self._newest, *self._users}))


async def _close(made: Any) -> None:
    try:
        await asyncio.wait_for(made.close(), _CLOSING_S)
    except Exception as error:  # it was given up because something in it is broken
        logger.warning("%s: closing: %s: %s", made.id, type(error).__name__, str(error)[:200])


async def _follow(objects: _Objects, symbol: str, levels: int, queue: asyncio.Queue[Item], silence_s: float, told: Told) -> None:
    # One symbol for ever, on one connection after the other.
    made, silences = objects.join(), 0
    while True:
        limit_s = silence_s * 2.0 ** min(silences, 5)
        jobs = [
            asyncio.create_task(_keep(objects.venue, symbol, queue, job))
            for job in (lambda: _books(made, symbol, levels, queue, limit_s), lambda: _trades(made, symbol, queue))  # noqa: B023
        ]
        try:
            await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
            for job in jobs:
                if job.done():
                    job.result()
        except BookSilentError as error:
            logger.warning("%s %s", objects.venue, error)
            now_ns = time.time_ns()
            told(Note(STALL, (symbol,), error.since_ns, now_ns, str(error)))
            await queue.put((symbol, now_ns, b""))
            silences = 1 if error.books > _HEARD else silences + 1
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
        made = objects.join(made)


async def _keep(venue: str, symbol: str, queue: asyncio.Queue[Item], job: Callable[[], Awaitable[None]]) -> None:
    # Watch one channel of one symbol until it falls silent; what fails is said once and tried again, ever more rarely.
    failures = 0
    while True:
        began_s = time.monotonic()
        try:
            await job()
        except _NEVER as error:
            raise WatchRefusedError(venue, symbol, error) from error
        except BookSilentError:
            raise
        except Exception as error:  # of ccxt, or in its parsers: whatever a message holds must not end the other symbols
            logger.warning("%s %s: %s: %s", venue, symbol, type(error).__name__, str(error)[:200])
            await queue.put((symbol, time.time_ns(), b""))
        failures = 1 if time.monotonic() - began_s > _LAST_S else failures + 1
        await asyncio.sleep(min(_LAST_S, _FIRST_S * 2.0 ** min(failures - 1, 10)) * random.uniform(0.5, 1.0))


async def _books(made: Any, symbol: str, levels: int, queue: asyncio.Queue[Item], limit_s: float) -> None:
    heard_ns, books = time.time_ns(), 0
    while True:
        try:
            async with asyncio.timeout(limit_s or None) as patience:
                book = await made.watch_order_book(symbol)
        except TimeoutError:
            if not patience.expired():
                raise
            raise BookSilentError(symbol, limit_s, heard_ns, books) from None
        # ccxt goes on changing this very object.
        bids, asks = ([(text_of(level[0]), text_of(level[1])) for level in book[side][:levels]] for side in ("bids", "asks"))
        heard_ns, books = time.time_ns(), books + 1
        await queue.put((symbol, heard_ns, encode(Book(symbol, bids, asks, book.get("timestamp"), book.get("nonce")))))


async def _trades(made: Any, symbol: str, queue: asyncio.Queue[Item]) -> None:
    began_ms = time.time_ns() // 1_000_000
    while True:
        told = await made.watch_trades(symbol)
        await queue.put((symbol, time.time_ns(), encode(Trades(symbol, [_trade(trade, began_ms) for trade in told]))))


def _trade(told: Mapping[str, Any], began_ms: int) -> Trade:
    ms, number = told.get("timestamp"), told.get("id")
    is_history = ms is not None and ms < began_ms - HISTORY_MS
    price, amount = text_of(told["price"]), text_of(told["amount"])
    return Trade(price, amount, told.get("side"), None if number is None else str(number), ms, is_history)
