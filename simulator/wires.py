"""Which module of this folder speaks for which venue."""

from collections.abc import Mapping
from importlib import import_module

from simulator.desk import Desk
from simulator.protocol import Wire

# Venue -> module.  A module offers `wire(venue, desks) -> Wire`.
MODULE = {
    "binance_spot": "binance_wire", "binance_usdm": "binance_wire", "binance_coinm": "binance_wire",
    "bybit_spot": "bybit", "bybit_linear": "bybit",
    "coinbase_exchange": "coinbase", "coinbase_advanced": "coinbase_advanced",
    "kraken": "kraken", "okx": "okx", "hyperliquid": "hyperliquid",
}  # fmt: skip
VENUES = tuple(MODULE)


class UnknownVenueError(Exception):
    """A venue that the simulator does not speak for."""

    def __init__(self, venue: str):
        self.venue = venue
        super().__init__(f"no simulated venue {venue!r}; there are: {', '.join(VENUES)}")


def wire(venue: str, desks: Mapping[str, Desk]) -> Wire:
    """Return the wire of a venue over its markets.

    Raises
    ------
    UnknownVenueError
        No such venue.
    """
    if venue not in MODULE:
        raise UnknownVenueError(venue)
    return import_module(f"simulator.{MODULE[venue]}").wire(venue, desks)  # type: ignore[no-any-return]
