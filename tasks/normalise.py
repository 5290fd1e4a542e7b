"""All venues of one base asset side by side: frames in, a row of `consolidated` each quarter of a second out.

The rows follow the venues by less than half a second: a row is made as soon as any venue's time
passes its step, out of what has come from all of them; once a day is over, `tasks.consolidate` makes
it anew from what was recorded.  Signals between venues are made of the rows as they are stored:
`catch_up` makes those that are not there yet, `Normaliser` goes on from it.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from uuid import uuid4

import numpy as np

from tasks.aligned import ALL, NoRateError, base_and_quote, funding_begins, funding_hour, funding_of, stored
from tasks.detectors.divergence import Divergence
from tasks.features.cross_venue import STEP_NS, CrossVenue
from tasks.venues import directory
from tasks.venues.events import BOOK, CHANGE, TRADE
from tasks.venues.ladder import Instrument
from warehouse.columns import DAY_NS, day_begins, day_name
from warehouse.errors import LakeFullError
from warehouse.lake import Lake
from warehouse.schema import START, row_dtype
from warehouse.session import Session

_BACK_NS = 600_000_000_000  # how far the common clock may run backwards from one run to the next


def catch_up(lake: Lake, session: Session) -> Divergence:
    """Append the signals that stored rows of `consolidated` give and that are not stored yet; return the detector as it is behind them.

    A signal names the row it was made of, so the rows behind the last one are what is left to look
    at, however the run before ended: signals are the same live, in batch, and after a kill.
    """
    detector, signals = _unsaid(lake, session.symbol, int(session.base["signals"]))
    session.append("signals", signals)
    return detector


def signal_between_venues(lake: Lake, base: str) -> int:
    """Bring the signals between venues of one base asset up to date with its stored rows; return how many were added."""
    _, signals = _unsaid(lake, base, lake.watermark("signals", ALL, base) + 1)
    if not signals.size:
        return 0  # a session is remembered for good, so none is opened for nothing
    with lake.writer() as writer:
        writer.session(ALL, base, f"signals-{uuid4()}", ("signals",)).append("signals", signals)
        return writer.commit()


def _unsaid(lake: Lake, base: str, first_seq: int) -> tuple[Divergence, np.ndarray]:
    # Day by day.  Rows before the first signal that is found gave none, which is remembered until their day is made anew.
    said = lake.rows("signals", ALL, base)
    detector = Divergence(first_seq=first_seq)
    detector.resume(said)
    said_seq, since_ns = (int(said["event_seq"][-1]), int(said["exchange_ns"][-1]) - _BACK_NS) if said.size else (-1, 0)
    days = [day for day in _days(lake, base) if day_begins(day) + DAY_NS > since_ns]
    kept = json.loads(lake.load_state(f"signals-between/{ALL}/{base}") or b"{}")
    looked, found = {day: kept[day] for day in days if day in kept}, [said[:0]]
    for day in days:
        made, is_last = _made(lake, base, day), day == days[-1]
        seq, made_before, was_last = looked.get(day, (-1, made, True))
        if made == made_before and not was_last:
            continue
        seq = seq if made == made_before else -1
        rows = lake.rows("consolidated", ALL, base, max(day_begins(day), since_ns, seq * STEP_NS - _BACK_NS), day_begins(day) + DAY_NS)
        rows = rows[rows["seq"] > max(seq, said_seq)]
        found.append(detector.batch(rows))
        if not any(signals.size for signals in found):
            looked[day] = [int(rows["seq"].max(initial=seq)), made, is_last]
    if looked != kept:
        lake.save_state(f"signals-between/{ALL}/{base}", json.dumps(looked).encode())
    return detector, np.concatenate(found)


def _days(lake: Lake, base: str) -> list[str]:
    # Days with rows, also those that are not sealed yet.
    sealed = sorted(day for venue, symbol, day in lake.partitions("consolidated") if (venue, symbol) == (ALL, base))
    newest = lake.read("consolidated", ALL, base, day_begins(sealed[-1]) if sealed else None, columns=["exchange_ns"])
    return sorted({*sealed, *(day_name(n) for n in np.unique(newest["exchange_ns"].to_numpy() // DAY_NS))})


def _made(lake: Lake, base: str, day: str) -> str:
    # Names what a day's rows were made of; "" where they came live.
    manifest = lake.manifest("consolidated", ALL, base, day)
    return "" if manifest is None else sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:12]


class Normaliser:
    """The instruments of one base asset, folded as one.

    Parameters
    ----------
    lake : Lake
    base : str
        BTC.
    symbols : mapping of str to str
        Our name of the instrument, by venue.
    rates : mapping of str to float
        What a unit of each quote currency is worth in the common one.
    fees_bps : mapping of str to float
        Taker fee by venue; the one under "" for all others.
    publish : callable, optional
        Given each row as a mapping, for other programs.

    Raises
    ------
    NoRateError
        A venue whose quote has no rate: books are never mixed without one.
    """

    def __init__(
        self, lake: Lake, base: str, symbols: Mapping[str, str], rates: Mapping[str, float], fees_bps: Mapping[str, float],
        instruments: Mapping[str, Instrument] | None = None, publish: Callable[[str, Mapping[str, float]], None] | None = None,
    ):  # fmt: skip
        for symbol in symbols.values():
            if base_and_quote(symbol)[1] not in rates:
                raise NoRateError(symbol, base_and_quote(symbol)[1], tuple(rates))
        self.base, self.symbols, self._publish = base, dict(symbols), publish
        quotes = [rates[base_and_quote(symbol)[1]] for symbol in symbols.values()]
        self.fold = CrossVenue(tuple(symbols), quotes, [fees_bps.get(venue, fees_bps[""]) for venue in symbols])
        self._adapters = []
        for i in range(len(symbols)):
            self.fold.turn(i, START)  # until its stream says that it is good
        for venue, symbol in symbols.items():
            raw = directory.raw_symbol(venue, symbol)
            self._adapters.append(directory.adapter(venue, raw, instrument=(instruments or {}).get(venue)))
        self._places = {venue: i for i, venue in enumerate(symbols)}
        self.writer = lake.writer()
        self._session = self.writer.session(ALL, base, f"normalise-{uuid4()}", ("consolidated", "signals"))
        self._next_seq = -1
        self._divergence = catch_up(lake, self._session)
        self._seen = np.zeros(1, row_dtype("consolidated"))
        self._lake, self.rows, self.full = lake, 0, 0
        self._funding_ns, self._funding = 0, (-1, np.zeros(0))

    def wanting(self, venue: str) -> list[str]:
        """Return the venue's symbol if its book must be fetched."""
        adapter = self._adapters[self._places[venue]]
        return [adapter.raw_symbol] if adapter.needs_snapshot else []

    def funding(self, venue: str, rate: float) -> None:
        """Note the last funding rate of a venue's instrument, per 8 hours."""
        self.fold.funding(self._places[venue], rate)

    def look_up_funding(self, receive_ns: int) -> None:
        """Read the rates that count from a moment of our clock on; they come into force with the first frame of then."""
        hour = funding_hour(receive_ns)
        if self._funding[0] != hour:
            rates = [funding_of(self._lake.rows("funding_rates", *stream), hour) for stream in self.symbols.items()]
            self._funding = hour, np.array(rates)

    def _turn_funding(self, receive_ns: int) -> None:
        self.look_up_funding(receive_ns)
        hour, rates = self._funding
        for venue, rate in zip(self.symbols, rates, strict=True):
            self.funding(venue, rate)
        self._funding_ns = funding_begins(hour + 1)

    def commit(self) -> int:
        """Acknowledge the rows made so far; on a full disk none, and they go with a later commit."""
        return self._unless_full(self.writer.commit)

    def seal(self) -> int:
        """Move what was acknowledged into the tables; on a full disk it stays acknowledged."""
        return self._unless_full(self.writer.seal)

    def _unless_full(self, act: Callable[[], int]) -> int:
        try:
            return act()
        except LakeFullError:
            self.full += 1
            return 0

    def take(self, venue: str, receive_ns: int, frame: bytes) -> None:
        """Fold one frame of one venue."""
        if receive_ns >= self._funding_ns:
            self._turn_funding(receive_ns)
        i = self._places[venue]
        adapter = self._adapters[i]
        for event in adapter.receive(frame, receive_ns):
            if event == BOOK:
                self._store(self.fold.book(i, adapter.row))
            elif event == TRADE:
                self._store(self.fold.trade(i, adapter.trade))
            elif event == CHANGE:
                self.fold.turn(i, int(adapter.change["state"][0]))

    def _store(self, rows: Iterator[np.ndarray]) -> None:
        for row in rows:
            out = stored(self.fold, row)
            if self._append(out):
                self.rows += 1
                for name in self._seen.dtype.names or ():
                    self._seen[name] = out[name]
                self._session.append("signals", self._divergence.step(self._seen))
            if self._publish is not None:
                self._publish(self.base, {name: out[name][0].item() for name in out.dtype.names or ()})

    def _append(self, out: np.ndarray) -> int:
        # Steps that the lake has, of a run before whose clock was further, are not stored again.
        seq = int(out["seq"][0])
        if self._next_seq < 0 or seq > self._next_seq:  # the first, or the first behind a silence
            try:
                session = self.writer.session(ALL, self.base, f"normalise-{uuid4()}", ("consolidated",), {"consolidated": seq})
            except LakeFullError:
                self.full += 1
                return 0
            self._next_seq = int(session.base["consolidated"])
        self._next_seq = max(self._next_seq, seq + 1)
        return self._session.append("consolidated", out)
