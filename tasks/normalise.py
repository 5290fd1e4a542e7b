"""All venues of one base asset side by side: frames in, a row of `consolidated` each quarter of a second out.

The rows follow the venues by less than half a second: a row is made as soon as any venue's time
passes its step, out of what has come from all of them.  Signals between venues are made of the rows
as they are stored: `catch_up` makes those that are not there yet, `Normaliser` goes on from it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from uuid import uuid4

import numpy as np
from prefect import task

from tasks.detectors.divergence import Divergence
from tasks.features.cross_catalogue import CROSS_NAMES, OWN
from tasks.features.cross_venue import CrossVenue
from tasks.venues import directory
from tasks.venues.events import BOOK, CHANGE, TRADE
from tasks.venues.ladder import Instrument
from warehouse.errors import LakeFullError
from warehouse.lake import Lake
from warehouse.schema import START, row_dtype
from warehouse.session import Session

ALL = "all"  # the venue that rows of all venues are stored under
_HOUR_NS = 3_600_000_000_000
_BACK_NS = 600_000_000_000  # how far the common clock may run backwards from one run to the next
_FIELDS = {
    "avg_price": "avg_price",
    "price_divergence": "price_divergence",
    "funding_delta": "funding_delta",
    "arb_bps": "best_arb_opportunity_bps",
}


# Columns of `consolidated` behind the declared ones: the same whatever venues there are, so that files agree.
MORE = (
    *(name for name in CROSS_NAMES if name not in (*OWN, "num_venues") and name not in _FIELDS),
    *(f"{name}_{venue}" for venue in directory.VENUES for name in ("mid", *OWN)),
)


def row_type() -> np.dtype:
    """Return the record type of the rows that are stored."""
    return np.dtype([*row_dtype("consolidated").descr, *((name, "f8") for name in MORE)])


class NoRateError(Exception):
    """A quote currency without a rate: prices in it cannot be compared."""

    def __init__(self, symbol: str, quote: str, known: Sequence[str]):
        super().__init__(f"{symbol}: expected a quote of {', '.join(known)}, received {quote}; give it a rate in TIDEBOOK_QUOTE_RATES")


def base_and_quote(symbol: str) -> tuple[str, str]:
    """Return base asset and quote currency of our name of an instrument.

    Examples
    --------
    >>> base_and_quote("BTC-USDT-PERP")
    ('BTC', 'USDT')
    """
    base, _, rest = symbol.partition("-")
    return base, rest.partition("-")[0]


def catch_up(lake: Lake, session: Session) -> Divergence:
    """Append the signals that stored rows of `consolidated` give and that are not stored yet; return the detector as it is behind them.

    A signal names the row it was made of, so the rows behind the last one are what is left to look
    at, however the run before ended: signals are the same live, in batch, and after a kill.
    """
    said = lake.rows("signals", ALL, session.symbol)
    detector = Divergence(first_seq=int(session.base["signals"]))
    detector.resume(said)
    since = int(said["exchange_ns"][-1]) - _BACK_NS if said.size else None
    rows = lake.rows("consolidated", ALL, session.symbol, since)
    if said.size:
        rows = rows[rows["seq"] > said["event_seq"][-1]]
    session.append("signals", detector.batch(rows))
    return detector


@task(name="signals", task_run_name="signals between venues of {base}")
def signal_between_venues(lake: Lake, base: str) -> int:
    """Bring the signals between venues of one base asset up to date with its stored rows; return how many were added."""
    with lake.writer() as writer:
        catch_up(lake, writer.session(ALL, base, f"signals-{uuid4()}", ("signals",)))
        return writer.commit()


def newest_funding(rows: np.ndarray) -> float:
    """Return the newest funding rate by time, share of the notional per 8 hours; NaN without a row.

    Venues pay every 1, 4 or 8 hours.  How often tells the least distance of the last ten payments,
    to the hour; one payment alone counts as of 8 hours.

    Examples
    --------
    >>> rows = np.zeros(3, row_dtype("funding_rates"))
    >>> rows["exchange_ns"], rows["funding_rate"] = np.array([2, 0, 1]) * _HOUR_NS, [2e-5, 9e-5, 5e-5]
    >>> round(newest_funding(rows), 9)
    0.00016
    """
    if not rows.size:
        return np.nan
    rows = rows[np.argsort(rows["exchange_ns"], kind="stable")][-10:]
    apart = np.rint(np.diff(rows["exchange_ns"]) / _HOUR_NS)
    hours = apart[apart > 0].min(initial=8.0)
    return float(rows["funding_rate"][-1] * 8.0 / hours)


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
        self._known = [directory.VENUES.index(venue) if venue in directory.VENUES else -1 for venue in symbols]
        self._dtype = row_type()
        self.writer = lake.writer()
        self._session = self.writer.session(ALL, base, f"normalise-{uuid4()}", ("consolidated", "signals"))
        self._seq = int(self._session.base.get("consolidated", 0))
        self._divergence = catch_up(lake, self._session)
        self._seen = np.zeros(1, row_dtype("consolidated"))
        self._lake, self.rows, self.full = lake, 0, 0

    def wanting(self, venue: str) -> list[str]:
        """Return the venue's symbol if its book must be fetched."""
        adapter = self._adapters[self._places[venue]]
        return [adapter.raw_symbol] if adapter.needs_snapshot else []

    def funding(self, venue: str, rate: float) -> None:
        """Note the last funding rate of a venue's instrument, per 8 hours."""
        self.fold.funding(self._places[venue], rate)

    def look_up_funding(self) -> None:
        """Note the newest rate of each instrument that the lake holds, per 8 hours."""
        for venue, symbol in self.symbols.items():
            self.funding(venue, newest_funding(self._lake.rows("funding_rates", venue, symbol)))

    def commit(self) -> int:
        """Acknowledge the rows made so far; on a full disk none, and they go with a later commit."""
        try:
            return self.writer.commit()
        except LakeFullError:
            self.full += 1
            return 0

    def seal(self) -> int:
        """Move what was acknowledged into the tables; on a full disk it stays acknowledged."""
        try:
            return self.writer.seal()
        except LakeFullError:
            self.full += 1
            return 0

    def take(self, venue: str, receive_ns: int, frame: bytes) -> None:
        """Fold one frame of one venue."""
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
            told, out = self.fold.values(row), np.zeros(1, self._dtype)
            out["exchange_ns"], out["receive_ns"], out["seq"] = row["exchange_ns"], row["receive_ns"], self._seq
            out["num_venues"], out["late_ms"] = row["values"][0, CROSS_NAMES.index("num_venues")], row["late_ms"]
            out["best_bid"], out["best_ask"] = row["best_bid"], row["best_ask"]
            for field, at in (("best_bid_venue", "best_bid_at"), ("best_ask_venue", "best_ask_at")):
                place = int(row[at][0])
                out[field] = self._known[place] if place >= 0 else -1
            for field, name in _FIELDS.items():
                out[field] = told[name]
            for name in MORE:
                out[name] = told.get(name, np.nan)
            self._session.append("consolidated", out)
            for name in self._seen.dtype.names or ():
                self._seen[name] = out[name]
            self._session.append("signals", self._divergence.step(self._seen))
            self._seq += 1
            self.rows += 1
            if self._publish is not None:
                self._publish(self.base, {name: out[name][0].item() for name in out.dtype.names})
