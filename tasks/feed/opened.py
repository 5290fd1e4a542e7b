"""One connection to a venue while it is open: read, subscribed, pinged and watched."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import WebSocketException

from tasks.feed.stalls import Stalls
from tasks.feed.terms import Inbox, Note, Patience, Told
from tasks.venues.wire import Alone, Heard, Line, Rules, Wire
from warehouse.schema import QUEUE_FULL, REFUSED

logger = logging.getLogger(__name__)
REFUSED_S, _LAST_TRIES_S = 30.0, 600.0  # a refused subscription is tried again after the first, ever more rarely up to the last
Aside = Callable[[str, int, bytes], bool]


class Pacer:
    """So many a second, evenly, for everybody who asks the same pacer."""

    def __init__(self, a_second: float):
        self._gap_s = 1.0 / a_second if a_second > 0 else 0.0
        self._next_s = 0.0

    async def turn(self) -> None:
        """Wait for one's turn."""
        now_s = time.monotonic()
        at_s = max(now_s, self._next_s)
        self._next_s = at_s + self._gap_s
        if at_s > now_s:
            await asyncio.sleep(at_s - now_s)


class Opened:
    """One connection while it is open, and what was heard over it."""

    def __init__(self, line: Line, wire: Wire, rules: Rules, patience: Patience, inbox: Inbox, told: Told, socket: ClientConnection):
        self.line, self.rules, self.patience, self.socket = line, rules, patience, socket
        self.symbols = tuple(line.symbols)
        self._inbox, self._told, self._wire = inbox, told, wire
        self.reader = wire.connection(line)
        self.mark: Callable[[bytes], bytes] = getattr(self.reader, "mark", bytes)
        self.name_of, self.owner = _quick(self.reader, self.symbols)
        self._is_named = hasattr(self.reader, "owner")
        self.last: dict[Hashable, int] = {}  # stream to the stamp of its newest frame
        self.plain = True  # whether frames go straight on: no other connection is heard beside this one
        self.aside: Aside | None = None  # takes a frame and returns whether that was all
        self.noted: set[int] | None = None  # marks of the frames handed on
        self.heard_ns, self.is_blocked, self.is_closing = time.time_ns(), False, False
        self.unacked = set(line.keys) if line.sends else set()
        self._outbox: deque[bytes] = deque(line.sends)
        self._out, self.opened_s = asyncio.Event(), time.monotonic()
        self._again_s: dict[str, tuple[float, float]] = {}  # key to when to subscribe anew, and the wait after that
        self.turned = asyncio.Event()  # asked to be replaced
        self._jobs = [asyncio.create_task(job()) for job in (self._read, self._talk, self._watch)]

    def group_of(self, frame: bytes) -> Hashable:
        """Return what tells the streams of a symbol apart: the name of its stream, else how the frame begins."""
        name = self.name_of(frame)
        if name in self.owner and self._is_named:
            return name
        return None if self._is_named else frame[: max(0, frame.find(b","))]

    async def ended(self) -> None:
        """Return when the connection is no more, with the reason logged."""
        await asyncio.wait(self._jobs, return_when=asyncio.FIRST_COMPLETED)
        for job in self._jobs:
            error = job.exception() if job.done() and not job.cancelled() else None
            if isinstance(error, (OSError, WebSocketException, TimeoutError)):
                logger.warning("connection lost: %s: %s", self.line.url[:120], error or type(error).__name__)
            elif error is not None:
                raise error

    async def stop(self) -> None:
        """Read no more."""
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    async def close(self) -> None:
        """Stop reading at once and close the socket."""
        await self.stop()
        await self.socket.close()

    def send(self, messages: tuple[bytes, ...]) -> None:
        """Send these as soon as the venue's pace allows."""
        self._outbox.extend(messages)
        self._out.set()

    # -- jobs -----------------------------------------------------------------------------

    async def _read(self) -> None:
        receive, now_ns, inbox, last = self.socket.recv, time.time_ns, self._inbox, self.last
        name_of, owner, items, limit = self.name_of, self.owner.get, inbox.items, inbox.limit
        while True:
            frame = await receive(decode=False)
            self.heard_ns = stamp = now_ns()
            try:
                name = name_of(frame)
                symbol = owner(name)
            except Exception:  # a frame that a wire trips over must not end the others' streams
                symbol = None
            if symbol is None:
                await self._control(frame, stamp)
                continue
            last[name] = stamp
            if self.plain and len(items) < limit:
                inbox.put_nowait((symbol, stamp, frame))
            else:
                await self._deliver(symbol, stamp, frame)

    async def _control(self, frame: bytes, stamp: int) -> None:
        try:
            heard = self.reader.receive(frame)
        except Exception:
            logger.exception("%s: a frame that its wire cannot read: %r", self._wire.venue, frame[:200])
            heard = Heard(((self.symbols[0], frame),))
        for symbol, part in heard.frames:
            if part:
                self.last[symbol] = stamp
            await self._deliver(symbol, stamp, part)
        if heard.acked:
            self.unacked.difference_update(heard.acked)
            for key in heard.acked:
                self._again_s.pop(key, None)
        if heard.refused:
            self._refused(tuple(heard.refused), heard.reason)
        if heard.send:
            self.send(tuple(heard.send))
        if heard.is_closing and not self.is_closing:
            self.is_closing = True
            logger.warning("%s: %s", self.line.url[:120], heard.reason or "the venue closes this connection")
            self.turned.set()

    async def _deliver(self, symbol: str, stamp: int, frame: bytes) -> None:
        if self.aside is not None and self.aside(symbol, stamp, frame):
            return
        if len(self._inbox.items) < self._inbox.limit:
            self._inbox.put_nowait((symbol, stamp, frame))
        else:
            self.is_blocked = True
            await self._inbox.put((symbol, stamp, frame))
            self.is_blocked = False
            self._told(Note(QUEUE_FULL, (symbol,), stamp, time.time_ns(), f"{self._inbox.limit} frames waited; reading paused"))
        if self.noted is not None:
            self.noted.add(hash(self.mark(frame)))

    async def _talk(self) -> None:
        pacer, ping_s = Pacer(self.rules.sends_s), self.rules.ping_s
        next_ping_s = time.monotonic() + ping_s
        while True:
            if self._outbox:
                message = self._outbox.popleft()
            elif ping_s and time.monotonic() >= next_ping_s:
                message, next_ping_s = self.rules.ping, time.monotonic() + ping_s
            else:
                self._out.clear()
                wait_s = min(1.0, next_ping_s - time.monotonic()) if ping_s else 1.0
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._out.wait(), max(wait_s, 0.01))
                self._subscribe_again()
                continue
            await pacer.turn()
            # Venues read requests as text.
            await self.socket.send(message.decode() if isinstance(message, bytes) else message)

    def _refused(self, keys: tuple[str, ...], reason: str) -> None:
        now_ns, symbols = time.time_ns(), tuple(dict.fromkeys(self.line.keys.get(key, self.symbols[0]) for key in keys))
        logger.warning("%s will not serve %s: %s", self._wire.venue, " ".join(keys), reason)
        self._told(Note(REFUSED, symbols, now_ns, now_ns, f"{' '.join(keys)}: {reason}"[:500]))
        self.unacked.difference_update(keys)
        for key in keys:
            wait_s = self._again_s.get(key, (0.0, REFUSED_S / 2))[1] * 2
            self._again_s[key] = (time.monotonic() + wait_s, min(wait_s, _LAST_TRIES_S))

    def _subscribe_again(self) -> None:
        # A refusal may be for good or for a moment: it is tried again, ever more rarely.
        now_s = time.monotonic()
        if self.unacked and now_s - self.opened_s > self.patience.ack_s:
            heard = {self.owner.get(name) for name in self.last}
            late = tuple(key for key in sorted(self.unacked) if self.line.keys[key] not in heard)
            self.unacked.clear()
            if late:
                self._refused(late, f"not confirmed within {self.patience.ack_s:.0f} s")
        due = [key for key, (at_s, _) in self._again_s.items() if now_s >= at_s]
        for symbol in dict.fromkeys(self.line.keys.get(key, "") for key in due):
            if symbol:
                self.send(tuple(self._wire.resync(symbol)))
        for key in due:
            wait_s = self._again_s[key][1] * 2
            self._again_s[key] = (now_s + wait_s, min(wait_s, _LAST_TRIES_S))

    async def _watch(self) -> None:
        # A dead peer says nothing, and so does a stream on the wrong route: the first is cut, the second told.
        silence_s = self.rules.silence_s if self.patience.silence_s is None else self.patience.silence_s
        step_s = min(silence_s, self.patience.stall_s) / 4
        stalls = Stalls(self.owner, self.patience.stall_s)
        heard_ns, heard_s, now_s = self.heard_ns, time.monotonic(), time.monotonic()
        while True:
            asleep_s = now_s
            await asyncio.sleep(step_s)
            now_s = time.monotonic()
            if now_s - asleep_s > step_s + silence_s / 4 or self.is_blocked:  # we were the ones who did not listen
                heard_s = now_s
                stalls.forgive(now_s)
                continue
            if self.heard_ns != heard_ns:
                heard_ns, heard_s = self.heard_ns, now_s
            elif now_s - heard_s > silence_s:
                logger.warning("nothing came for %.1f s: %s", silence_s, self.line.url[:120])
                self.socket.transport.abort()
                return
            for note in stalls.look(self.last, now_s, time.time_ns()):
                logger.warning("%s", note.detail)
                self._told(note)


def _quick(reader: Any, symbols: tuple[str, ...]) -> tuple[Callable[[bytes], Hashable], Mapping[Hashable, str]]:
    # Most frames name their symbol; those go the short way, all others through `receive`.
    if isinstance(reader, Alone):
        return reader.symbol_of, {symbol: symbol for symbol in symbols}
    if hasattr(reader, "name_of") and hasattr(reader, "owner"):
        return reader.name_of, reader.owner
    return (lambda frame: None), {symbol: symbol for symbol in symbols}
