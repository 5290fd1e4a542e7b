"""Books and trades of any venue that ccxt.pro watches, as frames; yields what `tasks/stream.py` yields.

ccxt opens the sockets, keeps the books and joins what several messages say; see
`tasks/venues/ccxt_any.py` for what that costs.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import ccxt.pro
from ccxt import ArgumentsRequired, AuthenticationError, BadRequest, NotSupported

from tasks.venues.ccxt_any import Book, Trade, Trades, encode, instrument_of, text_of
from tasks.venues.errors import UnknownVenueError
from tasks.venues.ladder import Instrument

logger = logging.getLogger(__name__)
LEVELS = 20  # a side
HISTORY_MS = 2_000  # a trade that was this old when the watching began is history
_QUEUE = 10_000  # frames that may wait; ccxt then waits as well
_FIRST_S, _LAST_S = 1.0, 60.0  # pauses after a failure
_NEVER = (BadRequest, NotSupported, AuthenticationError, ArgumentsRequired)  # no retry cures these
Item = tuple[str, int, bytes]


class WatchRefusedError(Exception):
    """What ccxt will never watch: a symbol, or a channel that the venue does not have."""

    def __init__(self, venue: str, raw_symbol: str, why: BaseException):
        self.venue, self.raw_symbol = venue, raw_symbol
        super().__init__(f"{venue} {raw_symbol}: {type(why).__name__}: {why}; expected a symbol and channels that the venue has")


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
    venue: str, raw_symbols: Sequence[str], stop: asyncio.Event, levels: int = LEVELS, prepare: Callable[[Any], None] = lambda made: None
) -> AsyncIterator[Item]:  # fmt: skip
    """Yield frames of books and trades until `stop` is set, watching again whatever fails.

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
        Given ccxt's object before anything is asked of it: addresses, markets, options.

    Yields
    ------
    raw_symbol : str
    receive_ns : int
        Wall clock when ccxt handed it over.
    frame : bytes
        As `tasks.venues.ccxt_any` reads it; empty where ccxt lost its connection.

    Raises
    ------
    UnknownVenueError
    WatchRefusedError
        A symbol or a channel that the venue will never serve.
    """
    made, queue = exchange(venue), asyncio.Queue[Item](_QUEUE)
    prepare(made)
    tasks = [
        asyncio.create_task(_keep(made, venue, symbol, queue, job))
        for symbol in raw_symbols
        for job in (lambda symbol: _books(made, symbol, levels, queue), lambda symbol: _trades(made, symbol, queue))
    ]
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
        await made.close()


async def _keep(made: Any, venue: str, symbol: str, queue: asyncio.Queue[Item], job: Callable[[str], Any]) -> None:
    # Watch one channel of one symbol for ever; what fails is said once and tried again, ever more rarely.
    failures = 0
    while True:
        began_s = time.monotonic()
        try:
            await job(symbol)
        except _NEVER as error:
            raise WatchRefusedError(venue, symbol, error) from error
        except Exception as error:  # of ccxt, or in its parsers: whatever a message holds must not end the other symbols
            logger.warning("%s %s: %s: %s", venue, symbol, type(error).__name__, str(error)[:200])
            await queue.put((symbol, time.time_ns(), b""))
        failures = 1 if time.monotonic() - began_s > _LAST_S else failures + 1
        await asyncio.sleep(min(_LAST_S, _FIRST_S * 2.0 ** min(failures - 1, 10)) * random.uniform(0.5, 1.0))


async def _books(made: Any, symbol: str, levels: int, queue: asyncio.Queue[Item]) -> None:
    while True:
        book = await made.watch_order_book(symbol)
        # ccxt goes on changing this very object.
        bids, asks = ([(text_of(level[0]), text_of(level[1])) for level in book[side][:levels]] for side in ("bids", "asks"))
        await queue.put((symbol, time.time_ns(), encode(Book(symbol, bids, asks, book.get("timestamp"), book.get("nonce")))))


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
