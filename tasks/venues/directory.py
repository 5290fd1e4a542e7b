"""Which venues there are, and how to name an instrument on each.  The only place that lists them."""

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from tasks.venues.errors import UnknownVenueError
from tasks.venues.ladder import Instrument
from tasks.venues.wire import Adapter, Wire

# Venue -> module in this folder.  A module offers `adapter`, `wire`, `canonical_symbol` and `raw_symbol`.
_MODULE = {
    "binance_spot": "binance", "binance_usdm": "binance", "binance_coinm": "binance",
    "bybit_spot": "bybit", "bybit_linear": "bybit",
    "coinbase_exchange": "coinbase", "coinbase_advanced": "coinbase_advanced",
    "kraken": "kraken", "okx": "okx", "hyperliquid": "hyperliquid",
}  # fmt: skip
VENUES = tuple(_MODULE)


def _module(venue: str):  # type: ignore[no-untyped-def]
    name = venue if venue in _MODULE else "ccxt_any" if venue.startswith("ccxt_") else ""
    if not name:
        raise UnknownVenueError(venue, VENUES)
    return import_module(f"tasks.venues.{_MODULE.get(name, name)}")


def adapter(
    venue: str, raw_symbol: str, base: Mapping[str, int] = MappingProxyType({}), since_ns: int = 0, stale_s: float = 30.0,
    instrument: Instrument | None = None,
) -> Adapter:  # fmt: skip
    """Return the stream of one instrument.

    Raises
    ------
    UnknownVenueError
        No adapter of that name.
    WrongVenueError
        A symbol that this venue does not write so.

    Examples
    --------
    >>> adapter("binance_spot", "BTCUSDT").symbol
    'BTC-USDT'
    """
    return _module(venue).adapter(venue, raw_symbol, base, since_ns, stale_s, instrument)  # type: ignore[no-any-return]


def wire(venue: str) -> Wire:
    """Return what the shell of sockets must know of a venue."""
    return _module(venue).wire(venue)  # type: ignore[no-any-return]


def canonical_symbol(venue: str, raw_symbol: str) -> str:
    """Return our name of an instrument.

    Examples
    --------
    >>> canonical_symbol("binance_usdm", "BTCUSDT")
    'BTC-USDT-PERP'
    """
    return _module(venue).canonical_symbol(venue, raw_symbol)  # type: ignore[no-any-return]


def raw_symbol(venue: str, symbol: str) -> str:
    """Return the venue's own name of an instrument."""
    return _module(venue).raw_symbol(venue, symbol)  # type: ignore[no-any-return]
