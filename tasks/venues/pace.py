"""Whether the times of a stream's messages can be: a time that leaps is a damaged one."""

AHEAD_NS = 60_000_000_000  # ahead of what our own clock allows: a backlog or a step of ours may look like less
BACK_NS = 1_000_000_000  # a venue's messages are in order; servers of one venue agree better than this
LATE_NS = 3_600_000_000_000  # trades may be told late


class Pace:
    """Compares how the venue's clock and ours went on between two messages.

    Parameters
    ----------
    back_ns : int
        How far before the last time one may be.

    Examples
    --------
    >>> pace = Pace()
    >>> pace.fault(1_000, 5_000), pace.fault(2_000, 6_000), pace.fault(90_000_000_002_000, 7_000)
    ('', '', 'a time near the last one, not 90000 s ahead')
    """

    def __init__(self, back_ns: int = BACK_NS) -> None:
        self._back_ns = back_ns
        self._exchange_ns = self._receive_ns = 0

    def fault(self, exchange_ns: int, receive_ns: int) -> str:
        """Return what a message's time should have been instead; "" where it is plausible.

        After a fault the next time stands: it may have been our own clock that was set.
        """
        before_ns, ours_ns = self._exchange_ns, self._receive_ns
        self._exchange_ns, self._receive_ns = exchange_ns, receive_ns
        if not before_ns:
            return ""
        ahead_ns = exchange_ns - before_ns - (receive_ns - ours_ns)
        if exchange_ns - before_ns > AHEAD_NS and ahead_ns > AHEAD_NS:
            self._exchange_ns = 0
            return f"a time near the last one, not {ahead_ns / 1e9:.0f} s ahead"
        if exchange_ns < before_ns - self._back_ns:
            self._exchange_ns = 0
            return f"a time not before the last one, and not {(before_ns - exchange_ns) / 1e9:.0f} s"
        return ""

    def forget(self) -> None:
        """Take the next time as it comes."""
        self._exchange_ns = 0
