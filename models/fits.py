"""What features owe to the past: a fitted micro-price, and GARCH(1,1) parameters of each length of bar."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np

from models.garch import Garch
from models.microprice import Microprice


@dataclass(frozen=True)
class Fits:
    """Estimators that were fitted on one stretch of a stream and are used on a later one.

    Attributes
    ----------
    microprice : Microprice
        Empty before a fit: `microprice` is then the weighted mid.
    garch : mapping of int to Garch
        By length of bar, s; a length that is not there keeps RiskMetrics' 0.06 and 0.94.
    first_day, last_day : str
        The stretch, YYYY-MM-DD, both included; empty before a fit.

    Examples
    --------
    >>> fits = Fits(garch={60: Garch(1e-9, 0.1, 0.8)}, first_day="2026-01-01", last_day="2026-01-01")
    >>> Fits.of(fits.content) == fits, Fits().id
    (True, '')
    """

    microprice: Microprice = field(default_factory=Microprice)
    garch: Mapping[int, Garch] = field(default_factory=dict)
    first_day: str = ""
    last_day: str = ""

    @property
    def id(self) -> str:
        """Return a name of these numbers, whenever they were fitted; empty where there are none."""
        parts = [self.microprice.id, *(f"{span_s}:{fit.id}" for span_s, fit in sorted(self.garch.items()))]
        return sha256(" ".join(parts).encode()).hexdigest()[:12] if any(parts) else ""

    @property
    def content(self) -> bytes:
        """Return the fits as JSON that `of` reads, every number as it is to the last bit."""
        table = [[None if np.isnan(g) else float(g) for g in row] for row in self.microprice.table]
        known = {
            "id": self.id, "first_day": self.first_day, "last_day": self.last_day,
            "microprice": {"tick": float(self.microprice.tick), "table": table},
            "garch": {str(span_s): vars(fit) for span_s, fit in sorted(self.garch.items())},
        }  # fmt: skip
        return json.dumps(known, indent=1).encode()

    @staticmethod
    def of(content: bytes) -> "Fits":
        """Return the fits that `content` gave."""
        known = json.loads(content)
        rows = [[np.nan if g is None else g for g in row] for row in known["microprice"]["table"]]
        table = np.array(rows, np.float64) if rows else np.zeros((0, 0))
        garch = {int(span_s): Garch(**values) for span_s, values in known["garch"].items()}
        return Fits(Microprice(known["microprice"]["tick"], table), garch, known["first_day"], known["last_day"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fits) and self.content == other.content

    def __hash__(self) -> int:
        return hash(self.content)
