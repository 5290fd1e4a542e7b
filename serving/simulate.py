"""Simulated venues on loopback: for the streams that this machine records, or as asked for by hand."""

from pathlib import Path

from flows.settings import LOOPBACK, Settings
from simulator.faults import FaultPlan
from simulator.listings import raw_symbols
from simulator.server import main
from simulator.wires import VENUES
from tasks.venues.directory import raw_symbol


def simulate(settings: Settings) -> None:
    """Serve until told to stop: one venue a port, from TIDEBOOK_SIMULATOR_PORT on; several venues share one worth an asset."""
    symbols = {venue: [raw_symbol(venue, symbol) for symbol in named] for venue, named in settings.streams.items()}
    main(tuple(symbols), symbols, LOOPBACK, settings.simulator_port, settings.seed, coupled=len(symbols) > 1)


def simulate_venues(
    venues: str, symbols: str, port: int, seed: int, speed: float, hidden: bool, coupled: bool, faults: str, ledger: Path | None
) -> None:
    """Serve until told to stop what a command line asks for.

    Raises
    ------
    UnknownVenueError
    UnknownInstrumentError
    FaultSyntaxError
    """
    named = VENUES if venues == "all" else tuple(name.strip() for name in venues.split(",") if name.strip())
    main(
        named, symbols_of(named, symbols), LOOPBACK, port, seed, speed, hidden, coupled=coupled, faults=FaultPlan.parse(faults, seed),
        ledger=ledger,
    )  # fmt: skip


def symbols_of(venues: tuple[str, ...], text: str) -> dict[str, list[str]]:
    """Return raw symbols by venue: the first so many of each, or those named.

    Examples
    --------
    >>> symbols_of(("okx", "kraken"), "2")["kraken"], symbols_of(("okx",), "okx:BTC-USDT-SWAP")
    (['BTC/USD', 'ETH/USD'], {'okx': ['BTC-USDT-SWAP']})
    """
    if text.isdigit():
        return {venue: list(raw_symbols(venue, int(text))) for venue in venues if venue in VENUES}
    named: dict[str, list[str]] = {}
    for entry in filter(None, text.split(",")):
        venue, _, symbol = entry.strip().partition(":")
        named.setdefault(venue, []).append(symbol)
    return named


if __name__ == "__main__":
    simulate(Settings())
