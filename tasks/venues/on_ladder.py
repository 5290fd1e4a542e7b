"""What every adapter over a ladder shows of it."""

from collections.abc import Callable, Iterable, Iterator

from tasks.venues.ladder import Ladder


class OnLadder:
    """State of one instrument's stream, read off its ladder; the adapter of each venue is one."""

    _ladder: Ladder

    @property
    def unreadable(self) -> dict[str, object]:
        """Return the frame that could not be read."""
        return self._ladder.unreadable

    @property
    def needs_snapshot(self) -> bool:
        """Return whether the venue must send the whole book anew before rows come again."""
        return self._ladder.needs_snapshot

    @property
    def state(self) -> int:
        """Return what coverage says now: a code of `warehouse.schema.STATES`."""
        return self._ladder.state

    @property
    def counts(self) -> dict[str, int]:
        """Return how many frames came, and what became of them."""
        return self._ladder.counts

    @property
    def is_live(self) -> bool:
        """Return whether the book is whole and current."""
        return self._ladder.is_live

    def _anew(self, told: Callable[[], Iterable[int]], receive_ns: int) -> Iterator[int]:
        # A whole book while ours is whole was subscribed to again: what changed between was not sent.
        yield from self._ladder.gap(receive_ns)
        yield from told()
