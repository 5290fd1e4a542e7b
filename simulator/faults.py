"""What goes wrong, as data: how often, how much, and at which moments.  Seeded.

    drop=0.001,close=60s,restart=@30,delay=0.01,delay_ms=250,skew_ms=-400

A rate without a unit is a probability, of each message or each REST request; `60s` is a mean time
between two, exponential; `@30` is once, at that many seconds after the start, and `@30;90` twice.
"""

import heapq
import random
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType

MESSAGE = {
    "drop": "a message is lost",
    "duplicate": "a message comes twice",
    "reorder": "a message comes behind its successor on the connection",
    "corrupt": "one digit of a message is another",
    "truncate": "a message ends early",
    "checksum": "a message states a wrong checksum (venues that have one)",
    "sequence": "a message states a wrong sequence number (venues that have one)",
    "delay": "a message, and all behind it on the connection, comes delay_ms later",
}
CONNECTION = {
    "silent": "one stream of a connection says nothing for silent_s",
    "half_open": "a connection stays open and says nothing more, not even to a ping",
    "close": "a connection is closed with one of close_codes (1006: cut without a word)",
}
VENUE = {
    "restart": "the venue's engine starts anew: numbers are reset where the venue does so, else connections close with 1012",
}
REST = {
    "stale": "a REST book is one that was already served, or older than the connection",
    "limit": "a REST request is answered 429 with Retry-After of retry_s",
    "ban": "from a REST request on all are answered 418 for ban_s",
}
KINDS: Mapping[str, str] = MappingProxyType(MESSAGE | CONNECTION | VENUE | REST)
_DIGIT = re.compile(r"\d")


class FaultSyntaxError(Exception):
    """A fault plan that cannot be read."""

    def __init__(self, entry: str, why: str):
        self.entry, self.why = entry, why
        super().__init__(f"fault {entry!r}: {why}; faults are {', '.join(KINDS)}; as drop=0.001,close=60s,restart=@30,delay_ms=250")


@dataclass(frozen=True)
class FaultPlan:
    """What goes wrong at a venue.

    Attributes
    ----------
    rates : mapping of str to float
        Probability a message (or REST request) by fault.
    every_s : mapping of str to float
        Mean seconds between two, by fault.
    script : tuple of (float, str)
        Exact moments: seconds after the start, and the fault.
    seed : int
    delay_ms, silent_s, retry_s, ban_s, skew_ms, lifetime_s : float
        How much; the venue's clock minus true time; and the age at which a connection is cut with 1001 (0: never).
    close_codes : tuple of int
        Drawn from for `close`.

    Examples
    --------
    >>> plan = FaultPlan.parse("drop=0.001,close=60s,restart=@30;90,skew_ms=-400")
    >>> plan.rates["drop"], plan.every_s["close"], plan.script, plan.skew_ms
    (0.001, 60.0, ((30.0, 'restart'), (90.0, 'restart')), -400.0)
    """

    rates: Mapping[str, float] = field(default_factory=dict)
    every_s: Mapping[str, float] = field(default_factory=dict)
    script: tuple[tuple[float, str], ...] = ()
    seed: int = 0
    delay_ms: float = 200.0
    silent_s: float = 15.0
    retry_s: float = 2.0
    ban_s: float = 10.0
    skew_ms: float = 0.0
    lifetime_s: float = 0.0
    close_codes: tuple[int, ...] = (1000, 1001, 1006, 1012, 4000)

    @classmethod
    def parse(cls, text: str, seed: int = 0) -> "FaultPlan":
        """Return the plan that a comma-separated text describes.

        Raises
        ------
        FaultSyntaxError
            An unknown name, or a value that is no number, no time and no moment.
        """
        rates: dict[str, float] = {}
        every_s: dict[str, float] = {}
        script: list[tuple[float, str]] = []
        amounts: dict[str, float | tuple[int, ...]] = {}
        names = {f.name for f in fields(cls)} - {"rates", "every_s", "script", "seed"}
        for entry in filter(None, (part.strip() for part in text.split(","))):
            name, _, value = (part.strip() for part in entry.partition("="))
            try:
                if name == "close_codes":
                    amounts[name] = tuple(int(code) for code in value.split(";"))
                elif name in names:
                    amounts[name] = float(value)
                elif name not in KINDS:
                    raise FaultSyntaxError(entry, "no such fault")
                elif value.startswith("@"):
                    script += [(float(at), name) for at in value[1:].split(";")]
                elif value.endswith("s"):
                    every_s[name] = float(value[:-1])
                else:
                    rates[name] = float(value)
            except ValueError:
                raise FaultSyntaxError(entry, "expected a probability, a time such as 60s, or moments such as @30;90") from None
        return cls(rates, every_s, tuple(sorted(script)), seed, **amounts)  # type: ignore[arg-type]


class Dice:
    """Decides, seeded, what goes wrong next; and counts what did.

    Parameters
    ----------
    plan : FaultPlan
    venue : str
        Venues of one plan have different luck.

    Attributes
    ----------
    armed : Counter
        Faults that came due, waiting for a message, a connection or a request to befall.
    counts : Counter
        Faults that happened.

    Examples
    --------
    >>> dice = Dice(FaultPlan.parse("drop=@5"), "okx")
    >>> dice.turn(4.9), dice.message(), dice.turn(5.0), dice.message(), dice.message()
    (None, '', None, 'drop', '')
    """

    def __init__(self, plan: FaultPlan, venue: str):
        self.plan = plan
        self.random = random.Random(f"{plan.seed} {venue}")
        self.armed: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self._due = [(at, name, False) for at, name in plan.script]
        self._due += [(self.random.expovariate(1.0 / mean), name, True) for name, mean in plan.every_s.items()]
        heapq.heapify(self._due)
        self._rates = [(name, rate) for name, rate in plan.rates.items() if name in MESSAGE and rate > 0.0]
        self._total = sum(rate for _, rate in self._rates)

    @property
    def bothers_messages(self) -> bool:
        """Return whether any message may meet with something now."""
        return self._total > 0.0 or any(self.armed[name] for name in MESSAGE)

    def turn(self, elapsed_s: float) -> None:
        """Arm what is due by a time since the start."""
        while self._due and self._due[0][0] <= elapsed_s:
            at, name, again = heapq.heappop(self._due)
            self.armed[name] = max(self.armed[name], 1) if again else self.armed[name] + 1  # nobody there: no backlog
            if again:
                heapq.heappush(self._due, (at + self.random.expovariate(1.0 / self.plan.every_s[name]), name, True))

    def take(self, name: str) -> bool:
        """Return whether a fault befalls the next thing it can befall: armed, or by its rate."""
        if self.armed[name]:
            self.armed[name] -= 1
            return True
        rate = self.plan.rates.get(name, 0.0)
        return rate > 0.0 and self.random.random() < rate

    def message(self, may: Mapping[str, object] | None = None) -> str:
        """Return what befalls a message, "" for nothing; `may` leaves out what the venue cannot have."""
        for name in MESSAGE:
            if self.armed[name] and (may is None or name in may):
                self.armed[name] -= 1
                return name
        if self._total:
            drawn = self.random.random()
            if drawn < self._total:
                for name, rate in self._rates:
                    if drawn < rate:
                        return name if may is None or name in may else ""
                    drawn -= rate
        return ""

    # -- damage ---------------------------------------------------------------------------

    def corrupt(self, text: str) -> str:
        """Return a text with one digit changed; unchanged if it has none."""
        places = [match.start() for match in _DIGIT.finditer(text)]
        return self._change(text, self.random.choice(places)) if places else text

    def truncate(self, text: str) -> str:
        """Return a text that ends early."""
        return text[: self.random.randrange(len(text))] if text else text

    def spoil(self, text: str, pattern: re.Pattern[str]) -> str:
        """Return a text with one digit changed inside group 1 of the first match; unchanged without a match."""
        match = pattern.search(text)
        return self._change(text, self.random.randrange(*match.span(1))) if match else text

    def _change(self, text: str, at: int) -> str:
        other = str((int(text[at]) + self.random.randrange(1, 10)) % 10)
        return text[:at] + other + text[at + 1 :]
