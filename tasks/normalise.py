"""All venues of one base asset side by side: frames in, a row of `consolidated` each quarter of a second out.

The rows follow the venues by less than half a second: a row is made as soon as any venue's time
passes its step, out of what has come from all of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from uuid import uuid4

import numpy as np

from tasks.features.cross_catalogue import CROSS_NAMES, OWN
from tasks.features.cross_venue import CrossVenue
from tasks.venues import directory
from tasks.venues.events import BOOK, CHANGE, TRADE
from tasks.venues.ladder import Instrument
from warehouse.lake import Lake
from warehouse.schema import OK, row_dtype

ALL = "all"  # the venue that rows of all venues are stored under
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
        self._adapters, self._doubt = [], [1] * len(symbols)
        for venue, symbol in symbols.items():
            raw = directory.raw_symbol(venue, symbol)
            self._adapters.append(directory.adapter(venue, raw, instrument=(instruments or {}).get(venue)))
        self._places = {venue: i for i, venue in enumerate(symbols)}
        self._known = [directory.VENUES.index(venue) if venue in directory.VENUES else -1 for venue in symbols]
        self._dtype = row_type()
        self.writer = lake.writer()
        self._session = self.writer.session(ALL, base, f"normalise-{uuid4()}", ("consolidated",))
        self._seq = int(self._session.base.get("consolidated", 0))
        self.rows = 0

    def wanting(self, venue: str) -> list[str]:
        """Return the venue's symbol if its book must be fetched."""
        adapter = self._adapters[self._places[venue]]
        return [adapter.raw_symbol] if adapter.needs_snapshot else []

    def funding(self, venue: str, rate: float) -> None:
        """Note the last funding rate of a venue's instrument."""
        self.fold.funding(self._places[venue], rate)

    def take(self, venue: str, receive_ns: int, frame: bytes) -> None:
        """Fold one frame of one venue."""
        i = self._places[venue]
        adapter = self._adapters[i]
        for event in adapter.receive(frame, receive_ns):
            if event == BOOK:
                self._store(self.fold.book(i, adapter.row, self._doubt[i]))
            elif event == TRADE:
                self._store(self.fold.trade(i, adapter.trade))
            elif event == CHANGE:
                self._doubt[i] = int(adapter.change["state"][0] != OK)
                if self._doubt[i]:
                    self.fold.doubt(i)

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
            self._seq += 1
            self.rows += 1
            if self._publish is not None:
                self._publish(self.base, {name: out[name][0].item() for name in out.dtype.names})
