"""What the shell of sockets must know of a venue: addresses, what to send, whose a frame is.

A venue module offers a `Wire`.  It opens no socket: the shell does, sends what `Line` says,
hands each frame to the line's `Connection`, and does as it is told.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tasks.venues.ladder import Instrument


@dataclass(frozen=True)
class Heard:
    """What one frame means to the shell.

    Attributes
    ----------
    frames : sequence of (raw_symbol, frame)
        To be folded, in order.  An empty frame says that something of that symbol was lost.
    acked, refused : sequence of str
        Stream keys (see `Line.keys`) that the venue confirmed, or would not serve.
    reason : str
        Why, where something was refused; or why the venue closes.
    is_closing : bool
        The venue announces the end of this connection: open another one now.
    send : sequence of bytes
        To be sent at once, such as the answer to a venue's own ping.
    """

    frames: Sequence[tuple[str, bytes]] = ()
    acked: Sequence[str] = ()
    refused: Sequence[str] = ()
    reason: str = ""
    is_closing: bool = False
    send: Sequence[bytes] = ()


class Connection(Protocol):
    """One open connection as the venue sees it; made anew for each.

    It may offer more.  `name_of(frame)` and the mapping `owner` (name to raw symbol) let plain
    data frames go past `receive`, as `Alone` does.  `mark(frame)` returns the part of a frame that
    is the same on every connection; without it the whole frame must be.
    """

    def receive(self, frame: bytes) -> Heard:
        """Say what a frame is; never raises: what cannot be read goes to the first symbol's stream."""
        ...


@dataclass(frozen=True)
class Line:
    """One connection to open.

    Attributes
    ----------
    url : str
    sends : sequence of bytes
        Subscriptions, batched within the venue's limits, in the order in which to send them.
    keys : mapping of str to str
        Stream key (what acks and refusals name) to raw symbol.
    """

    url: str
    sends: Sequence[bytes]
    keys: Mapping[str, str]

    @property
    def symbols(self) -> list[str]:
        """Return the raw symbols on this line, each once."""
        return list(dict.fromkeys(self.keys.values()))


@dataclass(frozen=True)
class Rules:
    """How a venue wants its connections treated.

    Attributes
    ----------
    ping_s, ping : float and bytes
        Send this text so often; 0 for venues that ping themselves.
    silence_s : float
        A connection without any frame for so long is dead.
    lifetime_s : float
        The venue cuts a connection at this age; 0 for never.  The shell rotates well before.
    sends_s, connects_s : float
        Messages a second we may send on a connection, and connections we may open a second.
    max_size : int
        Largest message in bytes that the venue may send.
    budget, budget_s : float
        REST weight that may be used in a window of `budget_s` seconds.
    """

    ping_s: float = 0.0
    ping: bytes = b""
    silence_s: float = 30.0
    lifetime_s: float = 0.0
    sends_s: float = 5.0
    connects_s: float = 1.0
    max_size: int = 1 << 26
    budget: float = 0.0
    budget_s: float = 60.0


class Wire(Protocol):
    """A venue as the shell needs it: one object a venue name, without state.

    In the address of a request, what follows a `#` is a JSON body to be posted.
    It may offer `spread(n)`, which returns the wire for n symbols, `book_key(raw_symbol)`, the name
    of the stream that must be heard before a REST book is asked for, and `instruments_urls(rest_url)`
    where instruments are told at several addresses.
    """

    venue: str
    ws_url: str
    rest_url: str
    rules: Rules

    def lines(self, raw_symbols: Sequence[str], ws_url: str) -> list[Line]:
        """Return the connections that carry the books and trades of these symbols."""
        ...

    def connection(self, line: Line) -> Connection:
        """Return what reads the frames of a line that was just opened."""
        ...

    def resync(self, raw_symbol: str) -> Sequence[bytes]:
        """Return what to send for a fresh book of one symbol; empty where REST serves it."""
        ...

    def snapshot_url(self, raw_symbol: str, rest_url: str) -> tuple[str, float]:
        """Return address and weight of the REST book that starts a stream; "" where the socket sends it."""
        ...

    def witness_url(self, raw_symbol: str, rest_url: str) -> tuple[str, float]:
        """Return address and weight of a REST book to compare with, where there is one."""
        ...

    def instruments_url(self, rest_url: str) -> str:
        """Return where ticks, lots and contract sizes are told."""
        ...

    def instruments(self, body: bytes) -> dict[str, Instrument]:
        """Return instruments by raw symbol from the answer."""
        ...


class Adapter(Protocol):
    """One instrument's stream: frames in, events out; see `tasks.venues.events`.

    It may offer `doubts`, a deque of (begin_ns, end_ns, why) on the venue's clock: stretches whose rows
    were told as good and turned out doubtful.  Whoever writes findings takes them out.
    """

    venue: str
    raw_symbol: str
    symbol: str
    row: Any
    trade: Any
    quote: Any
    change: Any
    unreadable: dict[str, object]
    needs_snapshot: bool
    state: int

    @property
    def counts(self) -> dict[str, int]:
        """Return how many frames came, and what became of them."""
        ...

    @property
    def is_live(self) -> bool:
        """Return whether the book is whole and current."""
        ...

    def receive(self, frame: bytes, receive_ns: int) -> Iterable[int]:
        """Return the events in one frame, oldest first; an empty frame says that something was lost."""
        ...


@dataclass
class Alone:
    """A connection whose frames each name one symbol: the plain case.

    Attributes
    ----------
    symbol_of : callable
        Raw symbol of a frame, or "" where it names none.
    """

    line: Line
    symbol_of: Any
    control_of: Any = field(default=lambda frame: None)

    def receive(self, frame: bytes) -> Heard:
        """Route a frame by the symbol it names; control messages as `control_of` reads them."""
        symbol = self.symbol_of(frame)
        if symbol:
            return Heard(((symbol, frame),))
        control = self.control_of(frame)
        if control is not None:
            return control  # type: ignore[no-any-return]
        return Heard(((self.line.symbols[0], frame),))


def batches(items: Sequence[str], most: int) -> Iterator[Sequence[str]]:
    """Yield runs of at most `most` items.

    Examples
    --------
    >>> list(batches("abcde", 2))
    ['ab', 'cd', 'e']
    """
    for first in range(0, len(items), most):
        yield items[first : first + most]
