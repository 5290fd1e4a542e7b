"""Redis Streams beside the lake, for other programs: raw frames and what is normalised.  Only where TIDEBOOK_REDIS_URL is set.

| stream | an entry's fields |
| --- | --- |
| tidebook:raw | venue, symbol (the venue's own), receive_ns, frame (bytes as received; empty: the connection was lost) |
| tidebook:normalized | base, exchange_ns, receive_ns, and every column of a row of `consolidated` as JSON in `row` |

Both are trimmed to about 10,000 entries.  Nothing waits for Redis: entries queue, and those that a
dead Redis leaves no room for are counted as lost.

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
_WAITING, _BATCH, _PAUSE_S, _LONGEST_S, _LOOK_S = 50_000, 1_000, 0.02, 10.0, 0.5
Id = tuple[int, int]
Begin = Callable[[str, bytes, Sequence[tuple[int, bytes]]], None]
logger = logging.getLogger(__name__)


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
        if len(self._waiting) >= _WAITING:
            self.lost += 1
            return
        self._waiting.append((stream, fields))

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
            for _ in range(done):
                self._waiting.popleft()
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
        if now >= due.get(raw_symbol, 0.0):
            due[raw_symbol] = now + state_s
            if state := state_of(raw_symbol):
                broadcast.state(venue, raw_symbol, state)


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
    stream that something was lost, and begins anew from the kept states.

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
        while not stop.is_set():
            try:
                if time.monotonic() > look_s:
                    look_s = time.monotonic() + _LOOK_S
                    for symbol in wanting():
                        await _again(client, venue, symbol, last, begun, tried, begin)
                told = await client.xread({RAW: last}, count=_BATCH, block=200)
                entries = told[0][1] if told else []
                if entries and await _was_trimmed(client, last):
                    kept = await _states(client, venue, raw_symbols)
                    if min(_id(entry) for entry, _ in kept.values()) <= _id(last):  # there is nothing to begin with yet
                        await asyncio.sleep(0.5)
                        continue
                    for symbol in raw_symbols:
                        yield symbol, time.time_ns(), b""
                    last, begun = _begin(kept, begin)
                    tried = dict(begun)
                    continue
            except redis.RedisError as error:
                logger.warning("redis: %s; asking again", type(error).__name__)
                await asyncio.sleep(0.5)
                continue
            for entry, fields in entries:
                last, symbol = entry, fields[b"symbol"].decode()
                if fields[b"venue"].decode() == venue and symbol in begun and _id(entry) > begun[symbol]:
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
) -> None:
    # One book from a newer state.  It is mostly older than what was read: the frames since go with it, and are told to nobody twice.
    kept = await client.hgetall(f"{STATE}:{venue}:{symbol}")
    if not kept or _id(kept[b"entry"]) <= tried[symbol]:
        return
    tried[symbol] = _id(kept[b"entry"])
    since = await client.xrange(RAW, min=b"(" + kept[b"entry"], max=last) if _id(kept[b"entry"]) < _id(last) else []
    mine = [told for _, told in since if told[b"venue"].decode() == venue and told[b"symbol"].decode() == symbol]
    begin(symbol, zlib.decompress(kept[b"state"]), [(int(told[b"receive_ns"]), told[b"frame"]) for told in mine])
    begun[symbol] = max(_id(kept[b"entry"]), _id(last))


async def _was_trimmed(client: redis.asyncio.Redis, last: bytes) -> bool:
    # Whether entries behind `last` are gone already: the oldest that is left is newer, and `last` is not there.
    oldest = await client.xrange(RAW, count=1)
    return bool(oldest) and last != b"0-0" and _id(oldest[0][0]) > _id(last)


def _id(entry: bytes) -> Id:
    ms, _, number = entry.partition(b"-")
    return int(ms), int(number or 0)
