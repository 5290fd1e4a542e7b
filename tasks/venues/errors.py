"""What a venue's stream can do wrong.

VenueError
├── UnreadableFrameError   the frame is kept and counted; the stream goes on
│   └── WidePriceError     a price has more digits, in the units of the book, than a float holds
├── WrongVenueError        these frames are another venue's: nothing cures it
├── UnknownVenueError      no adapter of that name
└── NoSnapshotError        depth events came, a snapshot never did: fetch one, or record it
"""


class VenueError(Exception):
    """Something about a venue's frames."""


class UnreadableFrameError(VenueError):
    """A frame that is no message of the protocol."""

    def __init__(self, expected: str, frame: bytes):
        self.expected = expected
        self.frame = frame
        super().__init__(f"expected {expected}, received {len(frame)} bytes: {frame[:80]!r}")


class WidePriceError(UnreadableFrameError):
    """A price that does not fit, perhaps only because the book counts in finer units than it needs."""


class WrongVenueError(VenueError):
    """Frames of another venue than the one named."""

    def __init__(self, venue: str, found: str):
        self.venue = venue
        super().__init__(f"expected frames of {venue}, received {found}; name the venue that was recorded")


class UnknownVenueError(VenueError):
    """A venue without an adapter."""

    def __init__(self, venue: str, known: tuple[str, ...]):
        super().__init__(f"expected one of {', '.join(known)}, received {venue!r}")


class NoSnapshotError(VenueError):
    """Depth events without a snapshot to apply them to."""

    def __init__(self, symbol: str, buffered: int):
        super().__init__(
            f"{symbol}: {buffered} depth events and no REST depth snapshot that they continue; "
            "a capture must hold the depth response as a line of its own, near its beginning"
        )
