"""One line to a venue, kept open for ever: opened, opened again, replaced before it grows too old.

The next connection is heard beside the old one until it carries all that the old one carries;
then the frames that both brought are dropped from the new one's and the rest goes on.  Where
nothing of a symbol came twice, the new connection's frames are handed on from the first: they
begin with the whole book, or carry ids by which an adapter knows what it has seen.
"""

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidURI, WebSocketException

from tasks.feed.opened import Opened, Pacer
from tasks.feed.terms import Inbox, Item, Note, Patience, Told
from tasks.venues.wire import Line, Rules, Wire
from warehouse.schema import RECONNECT

logger = logging.getLogger(__name__)
HELD = 200_000  # frames that a new connection may hold back beside the old one
_LONGEST = 5  # an overlap ends after so many times `overlap_s`, whatever was not heard by then: quiet streams are
Group = tuple[str, Hashable]
_LOST = (OSError, WebSocketException, TimeoutError)


class Keeper:
    """Keeps one line open; `run` never returns.

    Attributes
    ----------
    opened : Opened, optional
        The connection that is heard now; None while there is none.
    """

    def __init__(self, line: Line, wire: Wire, rules: Rules, patience: Patience, inbox: Inbox, told: Told, pacer: Pacer):
        self.line = line
        self._wire, self._rules, self._patience, self._inbox, self._told, self._pacer = wire, rules, patience, inbox, told, pacer
        self._symbols = tuple(line.symbols)
        self._in_band = not wire.snapshot_url(self._symbols[0], "")[0]
        self._closing: set[asyncio.Task[None]] = set()
        self.opened: Opened | None = None

    async def run(self) -> None:
        """Open the line, and again whenever it is lost."""
        failures, lost_ns = 0, 0
        try:
            while True:
                began_s = time.monotonic()
                try:
                    self.opened = await self._open()
                    if lost_ns:
                        self._told(Note(RECONNECT, self._symbols, lost_ns, time.time_ns(), f"{self.line.url[:200]} opened again"))
                    await self._serve()
                except InvalidURI:  # no retry cures it
                    raise
                except _LOST as error:
                    logger.warning("no connection: %s: %s", self.line.url[:120], error or type(error).__name__)
                if self.opened is not None:
                    lost_ns, gone, self.opened = self.opened.heard_ns, self.opened, None
                    self._part(gone)
                    for symbol in self._symbols:
                        await self._inbox.put((symbol, time.time_ns(), b""))
                failures = 0 if time.monotonic() - began_s > 30.0 else failures + 1
                await asyncio.sleep(retry_s(self._patience, failures))
        finally:
            if self.opened is not None:
                self._part(self.opened)
            await asyncio.gather(*self._closing, return_exceptions=True)

    async def _open(self) -> Opened:
        await self._pacer.turn()
        # No pings of ours: the venue pings, counts ours as messages, and a full queue would fail them.
        socket = await connect(
            self.line.url, compression=None, max_size=self._rules.max_size, max_queue=(1024, 256), ping_interval=None,
            open_timeout=self._patience.timeout_s, close_timeout=1, proxy=True if self.line.url.startswith("wss") else None,
        )  # fmt: skip
        return Opened(self.line, self._wire, self._rules, self._patience, self._inbox, self._told, socket)

    def _part(self, opened: Opened) -> None:
        # A closing handshake takes its time; nobody waits for it.
        task = asyncio.create_task(opened.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _serve(self) -> None:
        # Returns when the line is lost; a connection that grows old is replaced before.
        while self.opened is not None:
            old = self.opened
            life_s = self._rules.lifetime_s * random.uniform(0.8, 0.95) or math.inf
            ended, turned = asyncio.create_task(old.ended()), asyncio.create_task(old.turned.wait())
            try:
                timeout = None if life_s == math.inf else life_s
                await asyncio.wait({ended, turned}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                if not ended.done() and await self._replace(old, ended):
                    continue
                await ended
                return
            finally:
                ended.cancel()
                turned.cancel()
                with suppress(asyncio.CancelledError, *_LOST):
                    await ended

    async def _replace(self, old: Opened, ended: asyncio.Task[None]) -> bool:
        # True once another connection took over; False where the old one ended first.
        failures = 0
        while not ended.done():
            old.noted, old.plain = set(), False
            new = None
            try:
                new = await self._open()
                if await self._take_over(old, ended, new):
                    return True
            except _LOST as error:
                logger.warning("no second connection: %s: %s", self.line.url[:120], error or type(error).__name__)
            except asyncio.CancelledError:
                if new is not None and new is not self.opened:
                    self._part(new)
                raise
            old.noted, old.plain = None, True
            if new is not None:
                self._part(new)
            failures += 1
            await asyncio.wait({ended}, timeout=retry_s(self._patience, failures))
        return False

    async def _take_over(self, old: Opened, ended: asyncio.Task[None], new: Opened) -> bool:
        held: list[Item] = []

        def hold(symbol: str, stamp: int, frame: bytes) -> bool:
            held.append((symbol, stamp, frame))
            return True

        new.aside, new.plain = hold, False
        new_ended = asyncio.create_task(new.ended())
        began_s, overlap_s = time.monotonic(), self._patience.overlap_s
        try:
            while not ended.done():
                await asyncio.wait({ended, new_ended}, timeout=min(0.05, overlap_s), return_when=asyncio.FIRST_COMPLETED)
                if new_ended.done() or len(held) > HELD:
                    return False
                so_far_s = time.monotonic() - began_s
                if so_far_s >= overlap_s and old.last.keys() <= new.last.keys() and not new.unacked:
                    break
                if so_far_s >= _LONGEST * overlap_s:
                    break
        finally:
            new_ended.cancel()
            with suppress(asyncio.CancelledError, *_LOST):
                await new_ended
        died = ended.done()
        await old.stop()
        await self._switch(old, new, held, died)
        return True

    async def _switch(self, old: Opened, new: Opened, held: list[Item], died: bool) -> None:
        seen = old.noted or set()
        kept, fresh = merged(held, seen, new.mark, new.group_of, self._in_band)
        if died:  # what the old one missed at its end, the new one may not have heard yet
            first_ns = {symbol: stamp for symbol, stamp, _ in reversed(held)}
            lost = [symbol for symbol in self._symbols if first_ns.get(symbol, old.heard_ns) >= old.heard_ns]
            kept = [*((symbol, time.time_ns(), b"") for symbol in lost), *kept]
        held.clear()
        self.opened = new
        for item in kept:
            await self._inbox.put(item)

        def late(symbol: str, stamp: int, frame: bytes) -> bool:
            # The new connection may lag behind the old one.
            return hash(new.mark(frame)) in seen and (symbol, new.group_of(frame)) not in fresh

        while held:  # came meanwhile
            item = held.pop(0)
            if not late(*item):
                await self._inbox.put(item)

        def all_is_new() -> None:
            new.aside, new.plain = None, True

        new.aside = late
        asyncio.get_running_loop().call_later(self._patience.overlap_s, all_is_new)
        self._part(old)
        logger.info("replaced: %s", self.line.url[:120])


def retry_s(patience: Patience, failures: int) -> float:
    """Return how long to wait before trying again: doubling, and cut at random so that not all come at once."""
    wait_s = min(patience.last_retry_s, patience.first_retry_s * 2.0 ** min(max(0, failures - 1), 30))
    return wait_s * random.uniform(0.5, 1.0)


def merged(
    held: Sequence[Item], seen: set[int], mark: Callable[[bytes], bytes], group_of: Callable[[bytes], Hashable], in_band: bool
) -> tuple[list[Item], set[Group]]:
    """Return what of a new connection's frames is to be handed on, and the groups that begin anew with it.

    Parameters
    ----------
    held : sequence of (raw_symbol, receive_ns, frame)
        What the new connection brought so far.
    seen : set of int
        Hashes of the marks of what the old one brought meanwhile.
    mark : callable
        What of a frame is the same on every connection.
    group_of : callable
        Which frames of a symbol follow each other, such as those of its book; None for frames
        outside of that, such as a book that comes under a name of its own.
    in_band : bool
        A group begins with a whole book or with history; both are of no use where the old goes on.

    Examples
    --------
    >>> held = [("A", 1, b"book"), ("A", 2, b"+1"), ("A", 3, b"+2"), ("B", 4, b"book")]
    >>> kept, fresh = merged(held, {hash(b"+1")}, bytes, lambda frame: "book", True)
    >>> [frame for _, _, frame in kept], fresh
    ([b'+2', b'book'], {('B', 'book')})
    """
    is_seen = [bool(frame) and hash(mark(frame)) in seen for _, _, frame in held]
    groups: list[Group] = [(symbol, group_of(frame)) for symbol, _, frame in held]
    again = {group for group, known in zip(groups, is_seen, strict=True) if known}
    symbols_again = {symbol for symbol, _ in again}
    kept, begun = [], set()
    for item, group, known in zip(held, groups, is_seen, strict=True):
        if known:
            begun.add(group)
        elif not in_band or (group not in again and not (group[1] is None and group[0] in symbols_again)) or group in begun:
            kept.append(item)
    return kept, {group for group in groups if group not in again} if in_band else set()
