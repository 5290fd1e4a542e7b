"""Simulated venues for the streams that this machine records, on loopback."""

from flows.settings import LOOPBACK, Settings
from simulator.server import main
from tasks.venues.directory import raw_symbol


def simulate(settings: Settings) -> None:
    """Serve until told to stop: one venue a port, from TIDEBOOK_SIMULATOR_PORT on."""
    symbols = {venue: [raw_symbol(venue, symbol) for symbol in named] for venue, named in settings.streams.items()}
    main(tuple(symbols), symbols, LOOPBACK, settings.simulator_port, settings.seed)


if __name__ == "__main__":
    simulate(Settings())
