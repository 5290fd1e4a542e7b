"""Frames out of Redis, as `tasks/broadcast.py` puts them in: in order, each once, from what the adapters knew on."""

import asyncio
import contextlib
import logging
import time
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import redis
import redis.asyncio

from tasks.broadcast import RAW, STATE

_BATCH, _LOOK_S = 1_000, 0.5
Id = tuple[int, int]
_NEVER: Id = (2**64, 0)
Begin = Callable[[str, bytes, Sequence[tuple[int, bytes]]], None]
logger = logging.getLogger(__name__)


class News:
    """Which entries of one publisher are news, by their numbers.

    Examples
    --------
    >>> news = News()
    >>> [news.is_new({b"number": number}) for number in (b"7-1", b"7-2", b"7-1", b"7-2", b"7-3", b"5-1")]
    [True, True, False, False, True, True]
    """

    def __init__(self) -> None:
        self._last: Id = (0, 0)

    def is_new(self, fields: Mapping[bytes, bytes]) -> bool:
        """Return whether an entry did not come before; True for one without a number."""
        number = _id(fields.get(b"number", b"0-0"))
        if number[0] and number[0] == self._last[0] and number[1] <= self._last[1]:
            return False
        self._last = number
        return True


class NoStateError(Exception):
    """A stream that nobody publishes: no state of it is in Redis."""

    def __init__(self, venue: str, symbol: str):
        super().__init__(
            f"{venue} {symbol}: expected hash {STATE}:{venue}:{symbol} in Redis, found none; start its ingest flow with TIDEBOOK_REDIS_URL"
        )


async def frames(
    url: str,
    venue: str,
    raw_symbols: Sequence[str],
    stop: asyncio.Event,
    begin: Begin,
    patience_s: float = 0.0,
    wanting: Callable[[], Sequence[str]] = tuple,
) -> AsyncIterator[tuple[str, int, bytes]]:
    """Yield what `tasks.stream.stream` would, out of `tidebook:raw`, until `stop` is set.

    A reader so slow that entries were trimmed before it saw them is told by an empty frame for each
    stream that something was lost, and begins anew from the kept states; a stream whose state is older than
    what is left begins with its next one, and holds up no other.  Entries that came twice are told once.

    Parameters
    ----------
    begin : callable
        Given a raw symbol, a state and the (receive_ns, frame) pairs that came since: the adapter is to go on from there.
    patience_s : float
        For streams of which nothing was published yet: who publishes may start at the same time.
    wanting : callable
        Returns the raw symbols whose book is lost: each begins anew from the next state that is kept, since who
        publishes asks for no snapshot where only an entry was lost.

    Raises
    ------
    NoStateError
        A stream that was never published.
    """
    client = redis.asyncio.Redis.from_url(url)
    try:
        await _published(client, venue, raw_symbols, stop, patience_s)
        if stop.is_set():
            return
        kept = await _states(client, venue, raw_symbols)
        last, begun = _begin(kept, begin)
        tried, look_s = dict(begun), 0.0  # the newest state that a book began with; when one is looked for again
        stale: set[str] = set()  # symbols that wait for a state newer than what was trimmed
        news = News()
        while not stop.is_set():
            try:
                if time.monotonic() > look_s:
                    look_s = time.monotonic() + _LOOK_S
                    for symbol in {*wanting(), *stale}:
                        if await _again(client, venue, symbol, last, begun, tried, begin):
                            stale.discard(symbol)
                told = await client.xread({RAW: last}, count=_BATCH, block=200)
                entries = told[0][1] if told else []
                if entries and await _was_trimmed(client, last):
                    kept = await _states(client, venue, raw_symbols)
                    oldest, newest = await _ends(client)
                    fresh = {symbol: found for symbol, found in kept.items() if _id(found[0]) >= _id(oldest)}
                    for symbol in raw_symbols:
                        yield symbol, time.time_ns(), b""
                    last, begun = _begin(fresh, begin) if fresh else (newest, {})
                    stale = set(kept) - set(fresh)
                    begun |= dict.fromkeys(stale, _id(last))
                    tried = {symbol: _id(entry) for symbol, (entry, _) in kept.items()}
                    continue
            except redis.RedisError as error:
                logger.warning("redis: %s; asking again", type(error).__name__)
                await asyncio.sleep(0.5)
                continue
            for entry, fields in entries:
                last, symbol = entry, fields[b"symbol"].decode()
                if fields[b"venue"].decode() == venue and news.is_new(fields) and _id(entry) > begun.get(symbol, _NEVER):
                    yield symbol, int(fields[b"receive_ns"]), fields[b"frame"]
    finally:
        await client.aclose()


async def _published(client: redis.asyncio.Redis, venue: str, raw_symbols: Sequence[str], stop: asyncio.Event, patience_s: float) -> None:
    # Wait until each stream has a state, at most so long.
    deadline = time.monotonic() + patience_s
    while not stop.is_set() and time.monotonic() < deadline:
        with contextlib.suppress(redis.RedisError):
            if await client.exists(*(f"{STATE}:{venue}:{symbol}" for symbol in raw_symbols)) == len(raw_symbols):
                return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 0.5)


async def _states(client: redis.asyncio.Redis, venue: str, raw_symbols: Sequence[str]) -> dict[str, tuple[bytes, bytes]]:
    # The last entry that is in each state, and the state.
    found = {}
    for symbol in raw_symbols:
        kept = await client.hgetall(f"{STATE}:{venue}:{symbol}")
        if not kept:
            raise NoStateError(venue, symbol)
        found[symbol] = kept[b"entry"], zlib.decompress(kept[b"state"])
    return found


def _begin(kept: Mapping[str, tuple[bytes, bytes]], begin: Begin) -> tuple[bytes, dict[str, Id]]:
    # Where to read on, and behind which entry each symbol's frames are news.
    for symbol, (_, state) in kept.items():
        begin(symbol, state, ())
    begun = {symbol: _id(entry) for symbol, (entry, _) in kept.items()}
    return min((entry for entry, _ in kept.values()), key=_id), begun


async def _again(
    client: redis.asyncio.Redis, venue: str, symbol: str, last: bytes, begun: dict[str, Id], tried: dict[str, Id], begin: Begin
) -> bool:
    # One book from a newer state, if there is one that nothing was trimmed behind.  It is mostly older than what was read: the frames
    # since go with it, and are told to nobody twice.
    kept = await client.hgetall(f"{STATE}:{venue}:{symbol}")
    if not kept or _id(kept[b"entry"]) <= tried[symbol] or await _was_trimmed(client, kept[b"entry"]):
        return False
    tried[symbol] = _id(kept[b"entry"])
    since = await client.xrange(RAW, min=b"(" + kept[b"entry"], max=last) if _id(kept[b"entry"]) < _id(last) else []
    news = News()
    ours = [told for _, told in since if told[b"venue"].decode() == venue and news.is_new(told)]
    mine = [told for told in ours if told[b"symbol"].decode() == symbol]
    begin(symbol, zlib.decompress(kept[b"state"]), [(int(told[b"receive_ns"]), told[b"frame"]) for told in mine])
    begun[symbol] = max(_id(kept[b"entry"]), _id(last))
    return True


async def _was_trimmed(client: redis.asyncio.Redis, last: bytes) -> bool:
    # Whether entries behind `last` are gone already: the oldest that is left is newer, and `last` is not there.
    oldest = await client.xrange(RAW, count=1)
    return bool(oldest) and last != b"0-0" and _id(oldest[0][0]) > _id(last)


async def _ends(client: redis.asyncio.Redis) -> tuple[bytes, bytes]:
    # The oldest and the newest entry that is left.
    (oldest, _), (newest, _) = (await client.xrange(RAW, count=1))[0], (await client.xrevrange(RAW, count=1))[0]
    return oldest, newest


def _id(entry: bytes) -> Id:
    ms, _, number = entry.partition(b"-")
    return int(ms), int(number or 0)
