"""Redis Streams beside the lake, for other programs: raw frames and what is normalised.  Only where TIDEBOOK_REDIS_URL is set.

| stream | an entry's fields |
| --- | --- |
| tidebook:raw | venue, symbol (the venue's own), receive_ns, frame (bytes as received; empty: something of the symbol was lost), number |
| tidebook:normalized | base, exchange_ns, receive_ns, every column of a row of `consolidated` as JSON in `row`, number |

Both are trimmed to about 10,000 entries.  Nothing waits for Redis: entries queue, and those that a
dead Redis leaves no room for are counted as lost; for frames an empty one follows.  Each entry comes
at least once: where an answer of Redis is lost, entries are sent again, with the same `number`
(RUN-N: RUN differs from one start of who publishes to the next, N grows within).

A book cannot be begun in the middle of its changes, so what the adapter of a stream knows is kept
as well, every few seconds: hash `tidebook:state:VENUE:SYMBOL`, fields `entry` (the last entry of
tidebook:raw that is in it) and `state` (`tasks.venues.memento`, zlib).
"""

import asyncio
import contextlib
import json
import logging
import threading
import time
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

RAW, NORMALIZED, STATE, MOST = "tidebook:raw", "tidebook:normalized", "tidebook:state", 10_000
STATE_S = 5.0
_WAITING, _BATCH, _PAUSE_S, _LONGEST_S, _LOOK_S, _TOLD_S = 50_000, 1_000, 0.02, 10.0, 0.5, 10.0
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


class Broadcast:
    """Adds entries from a thread of its own; close it, or use it as a `with` block.

    Parameters
    ----------
    url : str
        redis://host:port/db

    Attributes
    ----------
    sent, lost : int
        Entries that Redis took, and that there was no room for.
    """

    def __init__(self, url: str):
        self._client = redis.Redis.from_url(url, socket_timeout=5.0, socket_connect_timeout=5.0, retry=Retry(NoBackoff(), 0))
        self._waiting: deque[tuple[str, dict[str, object]]] = deque()
        self.sent = self.lost = 0
        self._run_id, self._number, self._told_s = time.time_ns(), 0, -_TOLD_S
        self._dropped: dict[tuple[str, str], int] = {}  # of which symbols frames found no room, and when the first was received
        self._lock = threading.Lock()
        self._last = b"0-0"  # entry of tidebook:raw
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="broadcast", daemon=True)
        self._thread.start()

    def frame(self, venue: str, raw_symbol: str, receive_ns: int, frame: bytes) -> None:
        """Queue a frame for `tidebook:raw`."""
        self._put(RAW, {"venue": venue, "symbol": raw_symbol, "receive_ns": receive_ns, "frame": frame})

    def state(self, venue: str, raw_symbol: str, state: bytes) -> None:
        """Queue what an adapter knows once it has folded the frames queued so far."""
        self._put(f"{STATE}:{venue}:{raw_symbol}", {"state": state})

    def row(self, base: str, row: Mapping[str, float]) -> None:
        """Queue a row for `tidebook:normalized`; NaN becomes null."""
        told = json.dumps({name: None if value != value else value for name, value in row.items()})
        self._put(NORMALIZED, {"base": base, "exchange_ns": int(row["exchange_ns"]), "receive_ns": int(row["receive_ns"]), "row": told})

    def _put(self, stream: str, fields: dict[str, object]) -> None:
        with self._lock:
            if len(self._waiting) < _WAITING:
                self._tell_dropped()
                self._append(stream, fields)
                return
            self.lost += 1
            if stream == RAW:
                self._dropped.setdefault((str(fields["venue"]), str(fields["symbol"])), int(fields["receive_ns"]))  # type: ignore[call-overload]
        if (now := time.monotonic()) - self._told_s >= _TOLD_S:
            self._told_s = now
            logger.warning("redis: no room for more than %d entries; %d lost so far", _WAITING, self.lost)

    def _append(self, stream: str, fields: dict[str, object]) -> None:
        if not stream.startswith(STATE):
            self._number += 1
            fields["number"] = f"{self._run_id}-{self._number}"
        self._waiting.append((stream, fields))

    def _tell_dropped(self) -> None:
        # An empty frame for each symbol, before anything that comes after.
        for (venue, symbol), receive_ns in self._dropped.items():
            self._append(RAW, {"venue": venue, "symbol": symbol, "receive_ns": receive_ns, "frame": b""})
        self._dropped.clear()

    def _run(self) -> None:
        pause_s = _PAUSE_S
        while self._waiting or not self._ended.wait(pause_s) or self._waiting:
            batch = [self._waiting[i] for i in range(min(_BATCH, len(self._waiting)))]
            if not batch:
                continue
            try:
                done = self._send(batch)
            except redis.RedisError as error:
                if self._ended.is_set():
                    self.lost += len(self._waiting)
                    return
                pause_s = min(_LONGEST_S, max(0.5, pause_s * 2.0))
                logger.warning("redis: %s; %d entries wait, asking again", type(error).__name__, len(self._waiting))
                self._ended.wait(pause_s)
                continue
            with self._lock:
                for _ in range(done):
                    self._waiting.popleft()
                if len(self._waiting) < _WAITING:
                    self._tell_dropped()
            self.sent, pause_s = self.sent + done, _PAUSE_S

    def _send(self, batch: Sequence[tuple[str, dict[str, object]]]) -> int:
        # Entries up to the first state go together; a state then names the last of them.
        stream, fields = batch[0]
        if stream.startswith(STATE):
            packed = zlib.compress(fields["state"], 1)  # type: ignore[arg-type]
            self._client.hset(stream, mapping={"entry": self._last, "state": packed})
            return 1
        run = [entry for entry in batch if not entry[0].startswith(STATE)]
        run = run[: next((i for i, entry in enumerate(batch) if entry[0].startswith(STATE)), len(batch))]
        with self._client.pipeline(transaction=False) as pipe:
            for stream, fields in run:
                pipe.xadd(stream, fields, maxlen=MOST, approximate=True)  # type: ignore[arg-type]
            ids = pipe.execute()
        self._last = next((entry for (stream, _), entry in zip(reversed(run), reversed(ids), strict=True) if stream == RAW), self._last)
        return len(run)

    def close(self) -> None:
        """Send what waits, once, and let go."""
        self._ended.set()
        self._thread.join(10.0)
        self._client.close()

    def __enter__(self) -> "Broadcast":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def published(
    frames: AsyncIterator[tuple[str, int, bytes]],
    venue: str,
    broadcast: Broadcast,
    state_of: Callable[[str], bytes],
    state_s: float = STATE_S,
) -> AsyncIterator[tuple[str, int, bytes]]:
    """Yield frames as they come and publish each; now and then also what the adapter behind knows.

    Parameters
    ----------
    state_of : callable
        Returns the state of a raw symbol's adapter, which has folded every frame yielded before.
    """
    due: dict[str, float] = {}
    async for raw_symbol, receive_ns, frame in frames:
        broadcast.frame(venue, raw_symbol, receive_ns, frame)
        yield raw_symbol, receive_ns, frame
        now = time.monotonic()
        for symbol in dict.fromkeys((raw_symbol, next(iter(due), raw_symbol))):  # the first is due first: quiet symbols are kept fresh too
            if now >= due.get(symbol, 0.0):
                due.pop(symbol, None)
                due[symbol] = now + state_s
                if state := state_of(symbol):
                    broadcast.state(venue, symbol, state)


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
