"""Levels in the venue's own words, best first: what a checksum is made of."""

from bisect import bisect_left, insort
from typing import Generic, TypeVar

Words = TypeVar("Words")


class LevelTexts(Generic[Words]):
    """Two sides of a book, each level with whatever the venue's checksum needs of it.

    Prices are told apart as floats, which decimals of up to 15 digits are exactly; they are the
    keys, those of bids negative, so that the best comes first on both sides.

    Examples
    --------
    >>> held = LevelTexts()
    >>> for price, words in ((99.5, "995"), (100.0, "1000"), (98.0, "980")):
    ...     held.put(0, price, words)
    >>> held.drop(0, 97.0)
    >>> held.cut(2)
    >>> held.best(0, 10), held.best(1, 10)
    (['1000', '995'], [])
    """

    def __init__(self) -> None:
        self._held: tuple[dict[float, Words], dict[float, Words]] = ({}, {})
        self._order: tuple[list[float], list[float]] = ([], [])

    def put(self, side: int, price: float, words: Words) -> None:
        """Set a level of bids (0) or asks (1)."""
        key, held = -price if side == 0 else price, self._held[side]
        if key not in held:
            insort(self._order[side], key)
        held[key] = words

    def drop(self, side: int, price: float) -> None:
        """Remove a level, which need not be there."""
        key, held = -price if side == 0 else price, self._held[side]
        if key in held:
            del held[key]
            order = self._order[side]
            del order[bisect_left(order, key)]

    def cut(self, depth: int) -> None:
        """Forget what lies behind the best `depth` levels of a side."""
        for held, order in zip(self._held, self._order, strict=True):
            while len(order) > depth:
                del held[order.pop()]

    def clear(self) -> None:
        """Forget all levels."""
        for side in range(2):
            self._held[side].clear()
            self._order[side].clear()

    def best(self, side: int, n: int) -> list[Words]:
        """Return the words of at most `n` levels, best first."""
        held = self._held[side]
        return [held[key] for key in self._order[side][:n]]
