"""Whether the times of a stream's messages can be: a time may be wrong by one digit.

Two clocks are compared, the venue's and ours.  A message may come late, in a backlog or behind a
slow answer, but never early: so no time can be ahead of what the message that came quickest so
far says of the venue's clock, and none can be far behind one that was told already.  Either clock
may be set, however: what leaps is believed where the message before it leapt too.
"""

import numpy as np
from numba import njit

AHEAD_NS = 60_000_000_000  # what leaps by more is not to be stored
BACK_NS = 1_000_000_000  # messages of one stream are in order; servers of one venue agree better than this
LATE_NS = 3_600_000_000_000  # trades may be told late
DAY_NS = 86_400_000_000_000  # the same of the second message: the first may have come that late
LEAP_NS = 250_000_000  # what leaps by more says nothing of when other things were
FITS, BELIEVED, LEAPT = range(3)

TIMES = np.dtype(
    [
        ("ns", "i8"),  # time of the venue that was reached
        ("offset_ns", "i8"),  # by how much its clock is ahead of ours, less the way of the message that was quickest
        ("date_ns", "i8"),  # when the last message was: its time, or what the clocks say where that leapt
        ("heard", "i8"),  # messages that told so: none, one, more
        ("odd", "i8"),  # the last one leapt: another that leaps is believed
    ],
    align=True,
)


@njit(cache=True)
def _leaps(times, ns, receive_ns, most_ns, back_ns):
    is_ahead = ns - times["ns"] > most_ns and ns - receive_ns - times["offset_ns"] > most_ns
    return is_ahead or ns < times["ns"] - back_ns


@njit(cache=True)
def is_far(times, ns, receive_ns, back_ns):
    """Return whether a time cannot be that of the next message, and take note of that."""
    if times["odd"] or not times["heard"]:
        return False
    times["odd"] = _leaps(times, ns, receive_ns, DAY_NS if times["heard"] == 1 else AHEAD_NS, back_ns)
    return times["odd"] == 1


@njit(cache=True)
def reach(times, ns, receive_ns):
    """Move on to the time of a message unless it leaps: FITS, or LEAPT, or it leapt and is BELIEVED.

    `date_ns` is then when the message was: never before what was reached, unless that is not believed any more.
    """
    heard, before_ns, offset_ns = times["heard"], times["ns"], ns - receive_ns
    leaps = heard > 0 and _leaps(times, ns, receive_ns, LEAP_NS, LEAP_NS)
    is_believed = leaps and (times["odd"] == 1 or (heard == 1 and ns < before_ns))
    times["odd"] = leaps
    if leaps and not is_believed:
        times["date_ns"] = max(before_ns, receive_ns + times["offset_ns"])
        return LEAPT
    times["heard"] = min(heard + 1, 2)
    if heard == 0 or is_believed:
        if heard != 2 or not before_ns - LATE_NS < ns < before_ns:  # what is late says nothing of the clocks
            times["offset_ns"] = offset_ns
        times["ns"] = times["date_ns"] = ns
        return BELIEVED if is_believed else FITS
    times["ns"] = times["date_ns"] = max(before_ns, ns)
    times["offset_ns"] = max(times["offset_ns"], offset_ns)
    return FITS


@njit(cache=True)
def _pass(times, ns, receive_ns, back_ns):
    if is_far(times[0], ns, receive_ns, back_ns):
        return False
    reach(times[0], ns, receive_ns)
    return True


class Pace:
    """Compares how the venue's clock and ours went on.

    Parameters
    ----------
    back_ns : int
        How far before the last time one may be.

    Examples
    --------
    >>> pace = Pace()
    >>> [pace.fault(ns, ours_ns) for ns, ours_ns in ((1_000, 5_000), (2_000, 6_000), (90_000_000_002_000, 7_000))]
    ['', '', 'a time near the last one, not 90000 s from it']
    """

    def __init__(self, back_ns: int = BACK_NS) -> None:
        self._back_ns, self._times = back_ns, np.zeros(1, TIMES)

    @property
    def ns(self) -> int:
        """Return the time of the venue that was reached; 0 where none was."""
        return int(self._times["ns"][0])

    @property
    def date_ns(self) -> int:
        """Return when the last message was: its time, or what the clocks say where that leapt."""
        return int(self._times["date_ns"][0])

    def fault(self, exchange_ns: int, receive_ns: int) -> str:
        """Return what a message's time should have been instead; "" where it is plausible, and was taken note of."""
        if _pass(self._times, exchange_ns, receive_ns, self._back_ns):
            return ""
        return f"a time near the last one, not {(exchange_ns - self.ns) / 1e9:.0f} s from it"

    def forget(self) -> None:
        """Take the next time as it comes."""
        self._times["heard"] = self._times["odd"] = 0
