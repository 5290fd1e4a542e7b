"""What the parts of a feed tell each other: where a venue is, how long to wait, what went wrong."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

Item = tuple[str, int, bytes]  # raw symbol, receive_ns, frame


@dataclass(frozen=True)
class Endpoints:
    """Where a venue listens: scheme, host and port, without route or path."""

    ws_url: str
    rest_url: str


@dataclass(frozen=True)
class Patience:
    """How long to wait for what.

    Attributes
    ----------
    first_retry_s, last_retry_s : float
        Reconnection waits double from one to the other, each cut at random by up to a half.
    silence_s : float, optional
        A connection without any frame for so long is taken for dead; the venue's rule if not given.
    stall_s : float
        A stream without a frame for so long, on a connection that is alive, is told.
    ack_s : float
        A subscription neither confirmed nor heard for so long is told and tried again.
    snapshot_s : float
        Least time between two requests for one symbol's book; doubles while they fail.
    overlap_s : float
        Before a connection is given up for its age, the next one is heard beside it for at least so long.
    timeout_s : float
        For opening a connection and for a REST answer.
    queue : int
        Frames read but not yet taken; when so many wait, reading stops until some are taken.
    share : float
        Part of the venue's request budget that may be used: another process may need the rest.
    """

    first_retry_s: float = 1.0
    last_retry_s: float = 60.0
    silence_s: float | None = None
    stall_s: float = 60.0
    ack_s: float = 10.0
    snapshot_s: float = 2.0
    overlap_s: float = 2.0
    timeout_s: float = 10.0
    queue: int = 2_000
    share: float = 0.6


@dataclass(frozen=True)
class Note:
    """Something that happened to streams, beside their frames.

    Attributes
    ----------
    kind : int
        A code of `warehouse.schema.FINDINGS`.
    raw_symbols : tuple of str
        Whose streams.
    begin_ns, end_ns : int
        Since when and until when, on our clock.
    detail : str
        What happened, in words.
    """

    kind: int
    raw_symbols: tuple[str, ...]
    begin_ns: int
    end_ns: int
    detail: str


Told = Callable[[Note], None]


class SnapshotRefusedError(Exception):
    """The venue will never serve this snapshot: the request itself is wrong."""

    def __init__(self, url: str, status: int):
        self.url, self.status = url, status
        super().__init__(f"{url} answered {status}: no such snapshot")


class Inbox:
    """Frames on their way from the sockets to whoever folds them, bounded; `put` waits when it is full.

    Like `asyncio.Queue`, at a fifth of its cost: one taker, and it takes all there is.
    """

    def __init__(self, limit: int):
        self.limit, self.items = limit, deque[Item]()
        self.error: Exception | None = None
        self.ended = False
        self._taker: asyncio.Future[None] | None = None
        self._room: deque[asyncio.Future[None]] = deque()

    def put_nowait(self, item: Item) -> None:
        """Add an item, also beyond the limit."""
        self.items.append(item)
        if self._taker is not None:
            self._wake()

    async def put(self, item: Item) -> None:
        """Add an item, once there is room."""
        while len(self.items) >= self.limit:
            waiter = asyncio.get_running_loop().create_future()
            self._room.append(waiter)
            await waiter
        self.put_nowait(item)

    def fail(self, error: Exception) -> None:
        """Make the taker raise, behind what waits."""
        self.error = self.error or error
        self._wake()

    def end(self) -> None:
        """Tell the taker that nothing more comes."""
        self.ended = True
        self._wake()

    async def ready(self) -> bool:
        """Wait until there are items; False when there never will be."""
        while not self.items:
            if self.error is not None:
                raise self.error
            if self.ended:
                return False
            self._taker = asyncio.get_running_loop().create_future()
            await self._taker
        return True

    def give_room(self) -> None:
        """Let those go on that wait for room; call after taking."""
        while self._room and len(self.items) < self.limit:
            waiter = self._room.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return  # one at a time: each that goes on takes room

    def _wake(self) -> None:
        taker, self._taker = self._taker, None
        if taker is not None and not taker.done():
            taker.set_result(None)
