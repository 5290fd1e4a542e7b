"""What the folds of a stream remember at the end of a day, kept in the lake.

The next day is folded from there, by whoever rebuilds it and by a scorer that starts in the middle of it.
"""

import io
from hashlib import sha256

import numpy as np

from tasks.detectors.fold import Detectors
from tasks.detectors.state import VERSION as DETECTOR_VERSION
from tasks.features.bar_catalogue import BAR_VERSION
from tasks.features.bars import BAR
from tasks.features.catalogue import VERSION
from tasks.features.fold import Features
from tasks.fitted import in_force
from warehouse.columns import days_before
from warehouse.lake import Lake

VERSIONS = {"catalogue": VERSION, "bars": BAR_VERSION, "detectors": DETECTOR_VERSION}
_LONGEST_DAYS = 30  # without a book, behind which a stream begins anew


class Folds:
    """All that is folded of a stream: features, detectors, and bars of tomorrow that closed today.

    Parameters
    ----------
    features : Features
    detectors : Detectors
        Its next `seq` is its own: what is kept does not say how many signals there were.

    Examples
    --------
    >>> one, other = Folds(Features(), Detectors()), Folds(Features(), Detectors(first_seq=7))
    >>> one.n_bars = 3
    >>> other.restore(one.save())
    >>> other.n_bars, int(other.detectors.state["signals"][0])
    (3, 7)
    """

    def __init__(self, features: Features, detectors: Detectors) -> None:
        self.features, self.detectors, self.carried, self.n_bars = features, detectors, np.zeros(0, BAR), 0

    def save(self) -> bytes:
        """Return everything that is remembered, the same bytes for the same past."""
        parts, seq = [io.BytesIO(), io.BytesIO()], self.detectors.state["signals"].copy()
        self.features.save(parts[0])
        self.detectors.state["signals"] = 0  # the lake knows it, and what is carried must not depend on when it was made
        self.detectors.save(parts[1])
        self.detectors.state["signals"] = seq
        kept = io.BytesIO()
        features, detectors = (np.frombuffer(part.getvalue(), np.uint8) for part in parts)
        np.savez(kept, features=features, detectors=detectors, carried=self.carried.view(np.uint8), n_bars=self.n_bars)
        return kept.getvalue()

    def restore(self, content: bytes) -> None:
        """Go on from what `save` returned, with the fits and the next `seq` that are in use here."""
        with np.load(io.BytesIO(content)) as kept:
            self.features.restore(io.BytesIO(kept["features"].tobytes()))
            seq = int(self.detectors.state["signals"][0])
            self.detectors.restore(io.BytesIO(kept["detectors"].tobytes()))
            self.detectors.state["signals"] = seq  # live may have written what this fold did not say
            self.carried, self.n_bars = kept["carried"].view(BAR), int(kept["n_bars"])


def _key(venue: str, symbol: str, day: str) -> str:
    return f"features-{'-'.join(VERSIONS.values())}/{venue}/{symbol}/{day}"


def keep(lake: Lake, venue: str, symbol: str, day: str, folds: Folds) -> None:
    """Keep what is remembered as of the end of a day."""
    content, key = folds.save(), _key(venue, symbol, day)
    lake.save_state(key, content)
    lake.save_state(f"{key}.id", sha256(content).hexdigest()[:12].encode())


def day_before(lake: Lake, venue: str, symbol: str, day: str) -> str | None:
    """Return the newest day before this one that left something; None where none did within 30 days."""
    for days in range(1, _LONGEST_DAYS + 1):
        earlier = days_before(day, days)
        if lake.load_state(f"{_key(venue, symbol, earlier)}.id") is not None:
            return earlier
    return None


def kept(lake: Lake, venue: str, symbol: str, day: str | None) -> bytes | None:
    """Return what a day left, or None."""
    return None if day is None else lake.load_state(_key(venue, symbol, day))


def carried(lake: Lake, venue: str, symbol: str, day: str) -> str:
    """Return a name of what a day starts from, the same for the same past; empty where it starts cold."""
    earlier = day_before(lake, venue, symbol, day)
    return "" if earlier is None else (lake.load_state(f"{_key(venue, symbol, earlier)}.id") or b"").decode()


def is_outdated(lake: Lake, venue: str, symbol: str, day: str) -> bool:
    """Return whether a day was never made, or with other code, other fits or another past than those of now."""
    known = lake.manifest("features", venue, symbol, day)
    now = {**VERSIONS, "fits": in_force(lake, venue, symbol, day).id, "carried": carried(lake, venue, symbol, day)}
    return known is None or any(known.get(key) != value for key, value in now.items())
