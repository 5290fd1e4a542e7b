"""What a venue's wire offers the simulated server.  Texts and numbers only: no socket, no clock, no dice.

A `Wire` is one venue; a `Session` is one connection to it.  The server owns markets, sockets, faults and the
ledger: it hands each market's `simulator.desk.Beat` to the wire, and each client's text to its session, and
sends what they return.
"""

import math
import re
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from simulator.desk import Beat, Desk

BOOK, TRADE, OTHER = 0, 1, 2


class Message(NamedTuple):
    """One message of one stream, the same for all who hear it.

    Attributes
    ----------
    stream : str
        Key of the stream, as in `Session.streams`.
    payload : str
        What `Session.seal` is given.
    kind : int
        BOOK where the best 20 levels may have changed, TRADE, or OTHER.
    seq : int
        The venue's number of the book after this message; 0 where it has none.
    exchange_ns : int
        Time that the message itself states, nanoseconds; the finest it states.
    """

    stream: str
    payload: str
    kind: int = OTHER
    seq: int = 0
    exchange_ns: int = 0


@dataclass(frozen=True)
class Reply:
    """What a connection is sent outside its streams; all of it goes through `Session.seal("", text)`.

    Attributes
    ----------
    frames : sequence of str
        At once.
    snapshots : sequence of str
        Streams that begin with `Wire.snapshot`: nothing of them is delivered before it, and it is taken
        behind the symbol's next depth event, so that book and number are those of a published update.
    late : sequence of str
        Behind those snapshots: for venues that acknowledge after the first data.
    close : tuple of int and str
        Close code and reason; 0 keeps the connection.
    """

    frames: Sequence[str] = ()
    snapshots: Sequence[str] = ()
    late: Sequence[str] = ()
    close: tuple[int, str] = (0, "")


class Moment(NamedTuple):
    """When something happens on a connection.

    Attributes
    ----------
    now_ns : int
        Market time, as the venue stamps it.
    wall_s : float
        Seconds of the server's own clock: for periods and rate limits.
    sent_s, heard_s : float
        Seconds since the server last sent, and last heard, anything on this connection.
    """

    now_ns: int
    wall_s: float
    sent_s: float = 0.0
    heard_s: float = 0.0


class Session(Protocol):
    """One connection as the venue keeps it; may also offer `leave(moment) -> Reply`, said before a server stops.

    Attributes
    ----------
    streams : dict of str to str
        Stream key to raw symbol: what is really delivered.  The server reads it after each reply.
    flavour : hashable, optional
        Connections of the same flavour get the same bytes, so a message is sealed once for all of them;
        None where each connection numbers its own messages.
    """

    streams: dict[str, str]
    flavour: Hashable | None

    def open(self, moment: Moment) -> Reply:
        """Return what the venue says when a client connects (and what the address subscribed)."""
        ...

    def receive(self, text: str, moment: Moment) -> Reply:
        """Answer a client's message: subscribe, unsubscribe, ping, nonsense."""
        ...

    def seal(self, stream: str, payload: str) -> str:
        """Return the text that goes on the wire; `stream` is "" for replies."""
        ...

    def tick(self, moment: Moment) -> Reply:
        """Return what is due by now; asked some five times a second."""
        ...


class Request(NamedTuple):
    """A REST request.

    Attributes
    ----------
    method, path : str
    query : mapping of str to str
        The last value of each name.
    body : bytes
    moment : Moment
    """

    method: str
    path: str
    query: Mapping[str, str]
    body: bytes
    moment: Moment


@dataclass(frozen=True)
class Answer:
    """A REST answer: status, body and extra headers."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Wire(Protocol):
    """One venue.  A module offers it as `wire(venue, desks) -> Wire`; `simulator.wires` lists the modules.

    Attributes
    ----------
    venue : str
    desks : mapping of str to Desk
        The markets by raw symbol.
    ping_s : tuple of float
        Seconds between the server's WebSocket pings, and for the pong; (0, 0) where it sends none.
    spoil : mapping of str to pattern
        How to damage a sealed text: `"checksum"` and `"sequence"` to a pattern whose group 1 are the digits.
        A venue without that number has no entry.
    """

    venue: str
    desks: Mapping[str, Desk]
    ping_s: tuple[float, float]
    spoil: Mapping[str, re.Pattern[str]]

    def session(self, path: str, query: Mapping[str, str]) -> Session | None:
        """Return a new connection's state; None where the venue has no such path."""
        ...

    def book_stream(self, raw_symbol: str) -> str:
        """Return the stream whose updates the ledger follows; it is made even when nobody listens."""
        ...

    def messages(self, beat: Beat, wanted: Collection[str]) -> Iterable[Message]:
        """Yield the messages of a beat, oldest first, of the wanted streams (all of the beat's symbol)."""
        ...

    def snapshot(self, stream: str, desk: Desk, moment: Moment) -> str | None:
        """Return the payload that begins a stream, in step with its last message; None for no such thing."""
        ...

    def trade_id(self, number: int) -> int:
        """Return the number under which a reader stores a trade: itself, or the hash of the venue's text."""
        ...

    def restart(self, desk: Desk) -> bool:
        """Forget the numbers of a market as a restarted engine would.

        True: those who hear it get new snapshots.  False: the venue shows it by closing connections.
        """
        ...

    def refusal(self, status: int, retry_after_s: float) -> Answer:
        """Return how the venue words 429 (too many requests), 418 (banned) or 503."""
        ...

    def rest(self, request: Request) -> Answer:
        """Answer a REST request, counting its weight."""
        ...


class Budget:
    """Requests by weight over a window, with a ban for those who go on.

    Parameters
    ----------
    limit : float
        Weight a window.
    window_s : float
        The window begins at multiples of this, as venues count.
    ban_s : float
        How long an address is shut out that asks `patience` times after being refused; 0 for never.
    patience : int
        Refusals in one window before the ban.

    Examples
    --------
    >>> budget = Budget(limit=10, window_s=60.0)
    >>> budget.take(6, 0.0), budget.take(6, 15.0), budget.take(6, 61.0)
    ((200, 0.0), (429, 45.0), (200, 0.0))
    """

    def __init__(self, limit: float, window_s: float = 60.0, ban_s: float = 0.0, patience: int = 5):
        self.limit, self.window_s, self.ban_s, self.patience = limit, window_s, ban_s, patience
        self.used, self.peak, self.refused, self.bans = 0.0, 0.0, 0, 0
        self._window, self._refused_now, self._free_s = -1, 0, -math.inf

    def take(self, weight: float, wall_s: float) -> tuple[int, float]:
        """Return status 200, 429 or 418, and seconds until the next request may come."""
        window = int(wall_s // self.window_s)
        if window != self._window:
            self._window, self.used, self._refused_now = window, 0.0, 0
        if wall_s < self._free_s:
            self.refused += 1
            return 418, self._free_s - wall_s
        if self.used + weight <= self.limit:
            self.used += weight
            self.peak = max(self.peak, self.used)
            return 200, 0.0
        self.refused += 1
        self._refused_now += 1
        if self.ban_s and self._refused_now > self.patience:
            self.bans += 1
            self._free_s = wall_s + self.ban_s
            return 418, self.ban_s
        return 429, (window + 1) * self.window_s - wall_s
