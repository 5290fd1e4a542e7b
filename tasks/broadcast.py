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

import json
import logging
import threading
import time
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

RAW, NORMALIZED, STATE, MOST = "tidebook:raw", "tidebook:normalized", "tidebook:state", 10_000
STATE_S = 5.0
_WAITING, _BATCH, _PAUSE_S, _LONGEST_S, _TOLD_S = 50_000, 1_000, 0.02, 10.0, 10.0
logger = logging.getLogger(__name__)


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
